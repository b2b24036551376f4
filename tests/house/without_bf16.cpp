// Compiled for a CPU that multiplies bytes but not bf16 (Ice Lake): Lapidary must not take the
// target of CPUs that do both, whose instructions it does not have.
#include "lapidary/kernels/simd-inl.h"

static_assert(HWY_STATIC_TARGET == HWY_AVX3_DL);
static_assert(lapidary::HWY_NAMESPACE::kHasByteDot && !lapidary::HWY_NAMESPACE::kHasBF16Dot);
