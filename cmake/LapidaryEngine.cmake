# Engines: models compiled for several instruction sets, of which a program takes the best that its CPU
# has. See <lapidary/generate/engine.h>.

include_guard(GLOBAL)

# lapidary_add_engine(<target>
#   MODELS <tag>...          Gemma3_1B ..., or a program's own, with its namespace: my::Model
#   [TARGETS <name>...]      instruction sets, by Highway's names: AVX2 AVX3_ZEN4 ...
#   [INCLUDES <header>...])  where the program's own tags are, as #include would name them
#
# Adds to <target> a source file per model, and OpenEngine() and EngineTargets(). Call it once per
# program. Compile <target> without -march: what the compiler's flags allow (SSE2 on x86-64, NEON on
# Arm) becomes the instruction set that is used where none of TARGETS is there, and is always compiled.
# Default for TARGETS: all that make a difference, on x86-64 AVX2, AVX3, AVX3_DL, AVX3_ZEN4 (bf16 on AMD)
# and AVX3_SPR (bf16 on Intel). Each costs some 15 seconds of compilation and half a megabyte per model.
function(lapidary_add_engine target)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "MODELS;TARGETS;INCLUDES")
  if(NOT arg_MODELS OR arg_UNPARSED_ARGUMENTS)
    message(FATAL_ERROR "lapidary_add_engine(<target> MODELS <tag>... [TARGETS <name>...] "
      "[INCLUDES <header>...]): found ${ARGN}")
  endif()
  get_target_property(done ${target} LAPIDARY_HAS_ENGINE)
  if(done)
    message(FATAL_ERROR "lapidary_add_engine was called for ${target} before: name all models at once")
  endif()
  set_target_properties(${target} PROPERTIES LAPIDARY_HAS_ENGINE ON)

  # SSSE3 and SSE4 are no faster here than SSE2.
  set(disabled "HWY_ALL_SVE | HWY_RVV | HWY_SSSE3 | HWY_SSE4")
  if(arg_TARGETS)
    list(TRANSFORM arg_TARGETS PREPEND "HWY_" OUTPUT_VARIABLE enabled)
    list(JOIN enabled " | " enabled)
    set(lowest "HWY_SSE2 | HWY_ALL_NEON | HWY_EMU128 | HWY_SCALAR")
    set(disabled "HWY_ALL_SVE | HWY_RVV | ~(${lowest} | ${enabled})")
  endif()
  set(includes "")
  foreach(header IN LISTS arg_INCLUDES)
    string(APPEND includes "#include \"${header}\"\n")
  endforeach()

  set(folder ${CMAKE_CURRENT_BINARY_DIR}/lapidary_engine/${target})
  set(declarations "")
  set(calls "")
  foreach(model IN LISTS arg_MODELS)
    string(REPLACE "::" "_" id ${model})
    set(file ${folder}/${id}.cpp)
    configure_file(${CMAKE_CURRENT_FUNCTION_LIST_DIR}/LapidaryEngineModel.cpp.in ${file} @ONLY)
    target_sources(${target} PRIVATE ${file})
    string(APPEND declarations "internal::EngineModel Model_${id}();\n")
    list(APPEND calls "engines::Model_${id}()")
  endforeach()
  list(JOIN calls ", " calls)
  configure_file(${CMAKE_CURRENT_FUNCTION_LIST_DIR}/LapidaryEngines.cpp.in ${folder}/engines.cpp @ONLY)
  target_sources(${target} PRIVATE ${folder}/engines.cpp)
  target_link_libraries(${target} PRIVATE lapidary::lapidary)
endfunction()
