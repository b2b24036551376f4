# The instruction set that a program is compiled for. Static dispatch uses what the compiler's flags
# allow and nothing more, so a program without -march runs several times slower than it could.

include_guard(GLOBAL)
include(CheckCXXCompilerFlag)
include(CheckCXXSourceCompiles)

# The flag that means "the CPU of this machine".
check_cxx_compiler_flag(-march=native LAPIDARY_HAS_MARCH_NATIVE)
if(LAPIDARY_HAS_MARCH_NATIVE)
  set(LAPIDARY_NATIVE_FLAG -march=native)
else()
  check_cxx_compiler_flag(-mcpu=native LAPIDARY_HAS_MCPU_NATIVE)
  if(LAPIDARY_HAS_MCPU_NATIVE)
    set(LAPIDARY_NATIVE_FLAG -mcpu=native)
  else()
    set(LAPIDARY_NATIVE_FLAG "")
  endif()
endif()

# lapidary_native_target(<variable>)
#
# The best of the instruction sets of lapidary_add_engine that this machine's CPU has; empty if that is
# the compiler's own baseline, or not known. The conditions are those under which Highway finds the
# instruction set at run time: Cascade Lake has byte dot products and not AVX3_DL, Intel's CPUs with bf16
# are AVX3_SPR and never AVX3_ZEN4.
function(lapidary_native_target variable)
  set(CMAKE_REQUIRED_FLAGS ${LAPIDARY_NATIVE_FLAG})
  set(CMAKE_REQUIRED_QUIET ON)
  set(CMAKE_TRY_COMPILE_TARGET_TYPE STATIC_LIBRARY)
  set(macros_AVX2 AVX2 AES PCLMUL BMI2 FMA F16C)
  set(macros_AVX3 ${macros_AVX2} AVX512F AVX512BW AVX512DQ AVX512VL)
  set(macros_AVX3_DL ${macros_AVX3} AVX512VNNI VAES VPCLMULQDQ AVX512VBMI AVX512VBMI2
    AVX512VPOPCNTDQ AVX512BITALG)
  set(macros_AVX3_ZEN4 ${macros_AVX3_DL} AVX512BF16)
  set(macros_AVX3_SPR ${macros_AVX3_DL} AVX512BF16 AVX512FP16)
  set(${variable} "" PARENT_SCOPE)
  foreach(name AVX3_SPR AVX3_ZEN4 AVX3_DL AVX3 AVX2)
    list(TRANSFORM macros_${name} REPLACE "(.+)" "defined(__\\1__)" OUTPUT_VARIABLE conditions)
    list(JOIN conditions " && " condition)
    check_cxx_source_compiles("
      #if !(${condition})
      #error This CPU has no ${name}.
      #endif" LAPIDARY_CPU_HAS_${name})
    if(LAPIDARY_CPU_HAS_${name})
      set(${variable} ${name} PARENT_SCOPE)
      return()
    endif()
  endforeach()
endfunction()

# lapidary_check_simd(<target>)
#
# Warns if <target> is compiled for x86-64 without all that Highway wants for its AVX2 target (AES and
# PCLMUL too, which -march=x86-64-v3 lacks). Looks at CMAKE_CXX_FLAGS and at the target's own options,
# so call it after target_compile_options. One warning per set of flags.
function(lapidary_check_simd target)
  get_target_property(flags ${target} COMPILE_OPTIONS)
  if(NOT flags)
    set(flags "")
  endif()
  list(FILTER flags INCLUDE REGEX "^-m")
  list(JOIN flags " " CMAKE_REQUIRED_FLAGS)
  string(SHA1 key "${CMAKE_CXX_FLAGS} ${CMAKE_REQUIRED_FLAGS}")
  string(SUBSTRING ${key} 0 12 key)

  get_property(told GLOBAL PROPERTY LAPIDARY_SIMD_${key})
  if(told)
    return()
  endif()
  set_property(GLOBAL PROPERTY LAPIDARY_SIMD_${key} ON)

  set(CMAKE_REQUIRED_QUIET ON)
  set(CMAKE_TRY_COMPILE_TARGET_TYPE STATIC_LIBRARY)
  check_cxx_source_compiles("
    #if defined(__x86_64__)
    #if !(defined(__AVX2__) && defined(__FMA__) && defined(__BMI2__) && defined(__F16C__))
    #error An extension that Highway's AVX2 target wants is missing.
    #elif !(defined(__AES__) && defined(__PCLMUL__))
    #error Highway's AVX2 target wants AES and PCLMUL too.
    #endif
    #endif" LAPIDARY_FAST_${key})
  if(NOT LAPIDARY_FAST_${key})
    message(WARNING
      "Lapidary: ${target} is compiled for an instruction set below AVX2 and will be slow. Add "
      "target_compile_options(${target} PRIVATE -march=native), or for other machines than this one "
      "-march=haswell -maes -mpclmul. (-march=x86-64-v3 alone is not enough: Highway also wants AES "
      "and PCLMUL.)")
  endif()
endfunction()
