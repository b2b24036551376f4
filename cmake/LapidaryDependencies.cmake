# The libraries that Lapidary stands on. First find_package; then, only if LAPIDARY_FETCH_DEPENDENCIES
# is on, an archive with a pinned hash. Each is a macro, called where it is needed:
#
#   lapidary_find_highway()        library    sets LAPIDARY_HIGHWAY_TARGET
#   lapidary_find_sentencepiece()  library    sets LAPIDARY_SENTENCEPIECE_TARGET
#   lapidary_find_threads()        library    Threads::Threads
#   lapidary_find_stb()            images     stb::stb
#   lapidary_find_json()           examples   nlohmann_json::nlohmann_json
#   lapidary_find_cli11()          examples   CLI11::CLI11
#   lapidary_find_catch2()         tests      Catch2::Catch2, version 2 or 3
#   lapidary_find_benchmark()      bench      benchmark::benchmark

include_guard(GLOBAL)
include(FetchContent)

# A target from find_package is known to one folder only, but a program that adds Lapidary with
# add_subdirectory links it from another one. (`existed`: found by that program, which then sees it.)
function(_lapidary_globalize target existed)
  if(TARGET ${target} AND NOT existed)
    set_target_properties(${target} PROPERTIES IMPORTED_GLOBAL ON)
  endif()
endfunction()

# Stops unless downloading is allowed.
function(_lapidary_allow_fetch name)
  if(NOT LAPIDARY_FETCH_DEPENDENCIES)
    message(FATAL_ERROR
      "${name} was not found. On Debian, cmake/setup.sh gets everything that Lapidary needs, for "
      "cmake --preset release. Elsewhere, CMAKE_PREFIX_PATH names folders to look in, and "
      "-DLAPIDARY_FETCH_DEPENDENCIES=ON downloads what is missing.")
  endif()
  message(STATUS "Fetching ${name}")
endfunction()

# Adds the project of an archive. What is passed behind the hash are options that it sees.
function(_lapidary_fetch name url sha256)
  _lapidary_allow_fetch(${name})
  foreach(setting IN LISTS ARGN)
    string(REPLACE "=" ";" setting ${setting})
    list(GET setting 0 variable)
    list(GET setting 1 value)
    set(${variable} ${value})
  endforeach()
  set(BUILD_TESTING OFF)
  set(CMAKE_POLICY_DEFAULT_CMP0077 NEW)     # option() of the fetched project respects these variables
  set(CMAKE_POLICY_VERSION_MINIMUM 3.5)     # some name a CMake older than CMake 4 accepts
  if(POLICY CMP0135)
    cmake_policy(SET CMP0135 NEW)
  endif()
  set(system "")
  if(CMAKE_VERSION VERSION_GREATER_EQUAL 3.25)
    set(system SYSTEM)                      # our warnings are not for its headers
  endif()
  FetchContent_Declare(${name} URL ${url} URL_HASH SHA256=${sha256} ${system})
  FetchContent_MakeAvailable(${name})
  string(TOLOWER ${name} name)
  set(${name}_SOURCE_DIR ${${name}_SOURCE_DIR} PARENT_SCOPE)
endfunction()

macro(lapidary_find_highway)
  set(_existed 0)
  if(TARGET hwy::hwy)
    set(_existed 1)
  endif()
  find_package(hwy 1.2 CONFIG QUIET)
  if(TARGET hwy::hwy)
    _lapidary_globalize(hwy::hwy ${_existed})
    set(LAPIDARY_HIGHWAY_TARGET hwy::hwy)
    message(STATUS "Highway ${hwy_VERSION} (${hwy_DIR})")
  else()
    if(NOT TARGET hwy)
      _lapidary_fetch(highway
        https://github.com/google/highway/archive/refs/tags/1.2.0.tar.gz
        7e0be78b8318e8bdbf6fa545d2ecb4c90f947df03f7aadc42c1967f019e63343
        HWY_ENABLE_TESTS=OFF HWY_ENABLE_EXAMPLES=OFF HWY_ENABLE_CONTRIB=OFF)
    endif()
    set(LAPIDARY_HIGHWAY_TARGET hwy)
  endif()
endmacro()

macro(lapidary_find_sentencepiece)
  set(_existed 0)
  if(TARGET Sentencepiece::Sentencepiece)
    set(_existed 1)
  else()
    find_package(Sentencepiece MODULE QUIET)
  endif()
  if(NOT TARGET Sentencepiece::Sentencepiece)
    _lapidary_fetch(sentencepiece
      https://github.com/google/sentencepiece/archive/refs/tags/v0.2.1.tar.gz
      c1a59e9259c9653ad0ade653dadff074cd31f0a6ff2a11316f67bee4189a8f1b
      SPM_ENABLE_SHARED=OFF SPM_ENABLE_TCMALLOC=OFF)
    add_library(Sentencepiece::Sentencepiece INTERFACE IMPORTED)
    target_include_directories(Sentencepiece::Sentencepiece INTERFACE ${sentencepiece_SOURCE_DIR}/src)
    target_link_libraries(Sentencepiece::Sentencepiece INTERFACE sentencepiece-static)
  endif()
  _lapidary_globalize(Sentencepiece::Sentencepiece ${_existed})
  set(LAPIDARY_SENTENCEPIECE_TARGET Sentencepiece::Sentencepiece)
endmacro()

macro(lapidary_find_threads)
  set(_existed 0)
  if(TARGET Threads::Threads)
    set(_existed 1)
  endif()
  set(THREADS_PREFER_PTHREAD_FLAG ON)
  find_package(Threads REQUIRED)
  _lapidary_globalize(Threads::Threads ${_existed})
endmacro()

# One header, stb_image.h. The library needs it only where <lapidary/vision/image.h> is included, so a
# program that reads pictures links stb::stb, which is nothing but a folder to look in, and others do
# without.
macro(lapidary_find_stb)
  if(NOT TARGET stb::stb)
    find_path(Stb_INCLUDE_DIR NAMES stb/stb_image.h stb_image.h PATH_SUFFIXES stb)
    mark_as_advanced(Stb_INCLUDE_DIR)
    if(NOT Stb_INCLUDE_DIR)
      # stb has no releases; the commit of Debian 13, stb_image 2.30.
      _lapidary_allow_fetch(stb)
      FetchContent_Declare(stb GIT_REPOSITORY https://github.com/nothings/stb.git
        GIT_TAG 5c205738c191bcb0abc65c4febfa9bd25ff35234)
      FetchContent_MakeAvailable(stb)
      set(Stb_INCLUDE_DIR ${stb_SOURCE_DIR})
    endif()
    # Its first line names the version. What 2.27 does with some damaged files: docs/security.md.
    find_file(_lapidary_stb_image NAMES stb/stb_image.h stb_image.h PATHS ${Stb_INCLUDE_DIR}
      NO_DEFAULT_PATH NO_CACHE)
    file(STRINGS ${_lapidary_stb_image} _lapidary_stb_version LIMIT_COUNT 1)
    string(REGEX REPLACE ".*v([0-9]+\\.[0-9]+).*" "\\1" _lapidary_stb_version "${_lapidary_stb_version}")
    if(_lapidary_stb_version VERSION_LESS 2.28)
      message(WARNING "stb_image ${_lapidary_stb_version} (${_lapidary_stb_image}) takes some damaged JPEG files for "
        "right; 2.28 or later is better")
    endif()
    add_library(stb::stb INTERFACE IMPORTED)
    target_include_directories(stb::stb SYSTEM INTERFACE ${Stb_INCLUDE_DIR})
    _lapidary_globalize(stb::stb 0)
  endif()
endmacro()

macro(lapidary_find_json)
  find_package(nlohmann_json 3.9 CONFIG QUIET)
  if(NOT TARGET nlohmann_json::nlohmann_json)
    _lapidary_fetch(nlohmann_json
      https://github.com/nlohmann/json/archive/refs/tags/v3.11.3.tar.gz
      0d8ef5af7f9794e3263480193c491549b2ba6cc74bb018906202ada498a79406
      JSON_BuildTests=OFF)
  endif()
endmacro()

macro(lapidary_find_cli11)
  find_package(CLI11 2.1 CONFIG QUIET)
  if(NOT TARGET CLI11::CLI11)
    _lapidary_fetch(CLI11
      https://github.com/CLIUtils/CLI11/archive/refs/tags/v2.4.2.tar.gz
      f2d893a65c3b1324c50d4e682c0cdc021dd0477ae2c048544f39eed6654b699a
      CLI11_BUILD_TESTS=OFF CLI11_BUILD_EXAMPLES=OFF CLI11_BUILD_DOCS=OFF)
  endif()
endmacro()

macro(lapidary_find_catch2)
  find_package(Catch2 CONFIG QUIET)
  if(NOT TARGET Catch2::Catch2)
    _lapidary_fetch(Catch2
      https://github.com/catchorg/Catch2/archive/refs/tags/v3.7.1.tar.gz
      c991b247a1a0d7bb9c39aa35faf0fe9e19764213f28ffba3109388e62ee0269c)
    list(APPEND CMAKE_MODULE_PATH ${catch2_SOURCE_DIR}/extras)
  endif()
endmacro()

macro(lapidary_find_benchmark)
  find_package(benchmark 1.7 CONFIG QUIET)
  if(NOT TARGET benchmark::benchmark)
    _lapidary_fetch(benchmark
      https://github.com/google/benchmark/archive/refs/tags/v1.9.1.tar.gz
      32131c08ee31eeff2c8968d7e874f3cb648034377dfc32a4c377fa8796d84981
      BENCHMARK_ENABLE_TESTING=OFF BENCHMARK_ENABLE_INSTALL=OFF)
  endif()
endmacro()
