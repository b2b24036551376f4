# Finds the sentencepiece library, which has a pkg-config file but no CMake package.
#
#   Sentencepiece_FOUND
#   Sentencepiece::Sentencepiece          the target to link
#   Sentencepiece_INCLUDE_DIR, Sentencepiece_LIBRARY   cache variables, to be set by hand if need be

find_package(PkgConfig QUIET)
if(PKG_CONFIG_FOUND)
  pkg_check_modules(PC_SENTENCEPIECE QUIET sentencepiece)
endif()

find_path(Sentencepiece_INCLUDE_DIR sentencepiece_processor.h
  HINTS ${PC_SENTENCEPIECE_INCLUDE_DIRS})
find_library(Sentencepiece_LIBRARY sentencepiece HINTS ${PC_SENTENCEPIECE_LIBRARY_DIRS})
mark_as_advanced(Sentencepiece_INCLUDE_DIR Sentencepiece_LIBRARY)

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(Sentencepiece
  REQUIRED_VARS Sentencepiece_LIBRARY Sentencepiece_INCLUDE_DIR
  VERSION_VAR PC_SENTENCEPIECE_VERSION)

if(Sentencepiece_FOUND AND NOT TARGET Sentencepiece::Sentencepiece)
  add_library(Sentencepiece::Sentencepiece UNKNOWN IMPORTED)
  set_target_properties(Sentencepiece::Sentencepiece PROPERTIES
    IMPORTED_LOCATION "${Sentencepiece_LIBRARY}"
    INTERFACE_INCLUDE_DIRECTORIES "${Sentencepiece_INCLUDE_DIR}")
endif()
