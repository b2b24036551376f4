// What all kernels share: vector tags, the properties of the target, exp and tanh.
#if defined(LAPIDARY_KERNELS_SIMD_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef LAPIDARY_KERNELS_SIMD_INL_H_
#undef LAPIDARY_KERNELS_SIMD_INL_H_
#else
#define LAPIDARY_KERNELS_SIMD_INL_H_
#endif

#include <cstddef>
#include <cstdint>

#include "lapidary/base/highway-inl.h"

// Between the parameters and the body of a lambda that must become part of its caller's loop.
#ifndef LAPIDARY_INLINE_LAMBDA
#define LAPIDARY_INLINE_LAMBDA HWY_ATTR __attribute__((always_inline))
#endif

HWY_BEFORE_NAMESPACE();
namespace lapidary {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

static_assert(!HWY_HAVE_SCALABLE,
              "Lapidary's register tiles need vectors of a size known to the compiler: "
              "disable the SVE and RVV targets (HWY_DISABLED_TARGETS)");

// Vectors are as wide as the target's, at most 512 bits: a panel of 16 outputs is 1, 2 or 4 of
// them.
using DF = hn::CappedTag<float, 16>;
using DI32 = hn::RebindToSigned<DF>;
using DU32 = hn::RebindToUnsigned<DF>;
using DI16 = hn::Repartition<int16_t, DF>;
using DU16 = hn::Repartition<uint16_t, DF>;
using DU8 = hn::Repartition<uint8_t, DF>;
using DI8 = hn::Repartition<int8_t, DF>;
using DBF16 = hn::Repartition<hwy::bfloat16_t, DF>;
using VF = hn::Vec<DF>;
using VI32 = hn::Vec<DI32>;
using VI16 = hn::Vec<DI16>;
using VU8 = hn::Vec<DU8>;
using VI8 = hn::Vec<DI8>;

inline constexpr size_t kLanes = HWY_MAX_LANES_D(DF);  // floats in a vector: 4, 8 or 16
inline constexpr size_t kVectorBytes = kLanes * 4;

// One instruction sums four products of unsigned and signed bytes into 32 bits (vpdpbusd, usdot).
#if HWY_TARGET == HWY_AVX3_DL || HWY_TARGET == HWY_AVX3_ZEN4 || HWY_TARGET == HWY_AVX3_SPR
inline constexpr bool kHasByteDot = true;
#else
inline constexpr bool kHasByteDot = false;
#endif

// One instruction sums two products of bf16 into f32 (vdpbf16ps, bfdot).
inline constexpr bool kHasBF16Dot = HWY_NATIVE_DOT_BF16 != 0;

// Whether there are 32 vector registers to hold a tile of sums, rather than 16.
inline constexpr bool kManyRegisters = HWY_TARGET <= HWY_AVX3 || HWY_ARCH_ARM_A64;

// 16 partial sums. Their number and the order in which they are added are the same on every target,
// so that the width of vectors does not change a result.
inline constexpr size_t kSumVectors = 16 / kLanes;
class PartialSums {
 public:
  HWY_INLINE PartialSums() {
    HWY_UNROLL(4) for (size_t v = 0; v < kSumVectors; ++v) sums_[v] = hn::Zero(DF());
  }
  HWY_INLINE VF& operator[](size_t vector) { return sums_[vector]; }

  HWY_INLINE float Total() {
    for (size_t half = kSumVectors / 2; half != 0; half /= 2) {
      for (size_t v = 0; v < half; ++v) sums_[v] = hn::Add(sums_[v], sums_[v + half]);
    }
    return TotalOf(DF(), sums_[0]);
  }

 private:
  // Adds the upper half to the lower one until one lane is left.
  template <class D>
  static HWY_INLINE float TotalOf(D d, hn::Vec<D> v) {
    if constexpr (hn::MaxLanes(d) == 1) {
      return hn::GetLane(v);
    } else {
      const hn::Half<D> half;
      return TotalOf(half, hn::Add(hn::LowerHalf(half, v), hn::UpperHalf(half, v)));
    }
  }

  VF sums_[kSumVectors];
};

// Four consecutive activations (bytes), or two (words), in every 32-bit lane.
HWY_INLINE VI32 Broadcast32(const void* p) {
  int32_t bits;
  hwy::CopyBytes<4>(p, &bits);
  return hn::Set(DI32(), bits);
}

// Tells the compiler that a sum is used here and now. Without it, g++ 12 hoists all products
// of an unrolled tile above the sums and spills them to the stack: 4-bit tiles went from 157 to 220
// GOP/s (one core, Zen 3).
template <class V>
HWY_INLINE void KeepInRegister(V& v) {
#if HWY_ARCH_X86 && (HWY_COMPILER_GCC || HWY_COMPILER_CLANG)
  asm("" : "+v"(v.raw));
#elif HWY_ARCH_ARM_A64
  asm("" : "+w"(v.raw));
#else
  (void)v;
#endif
}

// Asks for a cache line, at any address, in the first-level or the second-level cache; to be
// written, if kToWrite.
template <int kLevel, bool kToWrite = false>
HWY_INLINE void Prefetch(const void* p) {
  static_assert(kLevel == 1 || kLevel == 2);
#if HWY_COMPILER_GCC || HWY_COMPILER_CLANG
  __builtin_prefetch(p, /*rw=*/kToWrite, /*locality=*/4 - kLevel);
#else
  (void)p;
#endif
}

// e^x for x <= 88; 0 below -87.3 (where the result would be subnormal). Relative error < 2e-7: x is
// split into n ln 2 + r with |r| <= ln 2 / 2, and e^r is a minimax polynomial of degree 6 (2.6e-9).
HWY_INLINE VF Exp(VF x) {
  const DF d;
  const DI32 di;
  const auto underflow = hn::Lt(x, hn::Set(d, -87.3f));
  x = hn::Min(x, hn::Set(d, 88.0f));
  // A float of 1.5 * 2^23 + n holds the integer n in its low bits, rounded to nearest.
  const VF magic = hn::Set(d, 12582912.0f);
  const VF shifted = hn::MulAdd(x, hn::Set(d, 1.44269504f), magic);
  const VF n = hn::Sub(shifted, magic);
  // ln 2 in two parts, so that the difference is exact.
  VF r = hn::NegMulAdd(n, hn::Set(d, 0.693145752f), x);
  r = hn::NegMulAdd(n, hn::Set(d, 1.42860677e-6f), r);
  VF p = hn::Set(d, 1.40614222e-3f);
  p = hn::MulAdd(p, r, hn::Set(d, 8.37905904e-3f));
  p = hn::MulAdd(p, r, hn::Set(d, 4.16647733e-2f));
  p = hn::MulAdd(p, r, hn::Set(d, 1.66663648e-1f));
  p = hn::MulAdd(p, r, hn::Set(d, 5.00000044e-1f));
  p = hn::MulAdd(p, r, hn::Set(d, 1.0f));
  p = hn::MulAdd(p, r, hn::Set(d, 1.0f));
  const auto exponent = hn::ShiftLeft<23>(hn::BitCast(di, shifted));
  return hn::IfThenZeroElse(underflow, hn::BitCast(d, hn::Add(hn::BitCast(di, p), exponent)));
}

// e^x for x <= 0 where the result will be rounded to bf16, which changes it by up to 2e-3: relative
// error < 3.2e-6, 0 below -87.3. The polynomial of degree 4 is the minimax one among those that are
// 1 at 0 (2.8e-6); ln 2 in one part costs the rest.
HWY_INLINE VF ExpForBF16(VF x) {
  const DF d;
  const DI32 di;
  const auto underflow = hn::Lt(x, hn::Set(d, -87.3f));
  const VF magic = hn::Set(d, 12582912.0f);  // see Exp
  const VF shifted = hn::MulAdd(x, hn::Set(d, 1.44269504f), magic);
  const VF r = hn::NegMulAdd(hn::Sub(shifted, magic), hn::Set(d, 0.693147182f), x);
  VF p = hn::Set(d, 4.15138155e-2f);
  p = hn::MulAdd(p, r, hn::Set(d, 1.67874977e-1f));
  p = hn::MulAdd(p, r, hn::Set(d, 5.0003016e-1f));
  p = hn::MulAdd(p, r, hn::Set(d, 9.999668e-1f));
  p = hn::MulAdd(p, r, hn::Set(d, 1.0f));
  const auto exponent = hn::ShiftLeft<23>(hn::BitCast(di, shifted));
  return hn::IfThenZeroElse(underflow, hn::BitCast(d, hn::Add(hn::BitCast(di, p), exponent)));
}

}  // namespace HWY_NAMESPACE
}  // namespace lapidary
HWY_AFTER_NAMESPACE();

#endif  // include guard
