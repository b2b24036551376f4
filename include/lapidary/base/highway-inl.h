// Highway, told first what it must know. Every header that needs Highway gets it from here.
#if defined(LAPIDARY_BASE_HIGHWAY_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef LAPIDARY_BASE_HIGHWAY_INL_H_
#undef LAPIDARY_BASE_HIGHWAY_INL_H_
#else
#define LAPIDARY_BASE_HIGHWAY_INL_H_
#endif

// Static dispatch takes AVX3_ZEN4, the target with bf16 dot products, only if asked, and then on
// every CPU with AVX3_DL. Those without bf16 (Ice Lake to Rocket Lake) would meet an illegal
// instruction, so it is asked for where the compiler may use bf16. A program that includes Highway
// before Lapidary gets AVX3_DL, unless it defines this macro itself.
#if defined(__AVX512BF16__) && !defined(HWY_WANT_AVX3_ZEN4)
#define HWY_WANT_AVX3_ZEN4 1
#endif

#include "hwy/highway.h"

#endif  // include guard
