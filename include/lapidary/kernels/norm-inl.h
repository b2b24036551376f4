// Elementwise work on rows of the residual stream and on heads: RMSNorm, residual sums, RoPE,
// gating.
#if defined(LAPIDARY_KERNELS_NORM_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef LAPIDARY_KERNELS_NORM_INL_H_
#undef LAPIDARY_KERNELS_NORM_INL_H_
#else
#define LAPIDARY_KERNELS_NORM_INL_H_
#endif

#include <cmath>
#include <cstddef>

#include "lapidary/kernels/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace lapidary {
namespace HWY_NAMESPACE {

// Sum of squares of x[n].
template <class Size>
HWY_INLINE float SumOfSquares(const float* HWY_RESTRICT x, Size n) {
  PartialSums sums;
  const auto add = [&sums](const float* from) LAPIDARY_INLINE_LAMBDA {
    HWY_UNROLL(4) for (size_t v = 0; v < kSumVectors; ++v) {
      const VF a = hn::LoadU(DF(), from + v * kLanes);
      sums[v] = hn::MulAdd(a, a, sums[v]);
    }
  };
  const size_t whole = n / 16 * 16;
  for (size_t i = 0; i < whole; i += 16) add(x + i);
  if (whole != n) {
    HWY_ALIGN float rest[16] = {};
    hwy::CopyBytes(x + whole, rest, (n - whole) * sizeof(float));
    add(rest);
  }
  return sums.Total();
}

// 1 / root mean square, as RMSNorm uses it.
template <class Size>
HWY_INLINE float InverseRms(const float* HWY_RESTRICT x, Size n, float epsilon) {
  return 1.0f / std::sqrt(SumOfSquares(x, n) / static_cast<float>(n) + epsilon);
}

// out = x / rms(x) * gain, [n]; gain is the factor itself (1 + w of a safetensors file). out may be
// x.
template <class Size>
HWY_NOINLINE void RmsNorm(const float* x, const float* HWY_RESTRICT gain, Size n, float epsilon,
                          float* out) {
  const DF d;
  const VF scale = hn::Set(d, InverseRms(x, n, epsilon));
  for (size_t i = 0; i < n; i += kLanes) {
    const VF v = hn::Mul(hn::Mul(hn::LoadU(d, x + i), scale), hn::LoadU(d, gain + i));
    hn::StoreU(v, d, out + i);
  }
}

// residual += x / rms(x) * gain, [n].
HWY_NOINLINE inline void AddRmsNorm(const float* HWY_RESTRICT x, const float* HWY_RESTRICT gain,
                                    size_t n, float epsilon, float* HWY_RESTRICT residual) {
  const DF d;
  const VF scale = hn::Set(d, InverseRms(x, n, epsilon));
  for (size_t i = 0; i < n; i += kLanes) {
    const VF v = hn::Mul(hn::Mul(hn::LoadU(d, x + i), scale), hn::LoadU(d, gain + i));
    hn::StoreU(hn::Add(hn::LoadU(d, residual + i), v), d, residual + i);
  }
}

// Sum of x[n], n a multiple of 16.
HWY_INLINE float Sum(const float* HWY_RESTRICT x, size_t n) {
  PartialSums sums;
  for (size_t i = 0; i < n; i += 16) {
    HWY_UNROLL(4) for (size_t v = 0; v < kSumVectors; ++v) {
      sums[v] = hn::Add(sums[v], hn::LoadU(DF(), x + i + v * kLanes));
    }
  }
  return sums.Total();
}

// out = (x - mean) / standard deviation * gain + bias, [n], n a multiple of 16. out may not be x.
HWY_NOINLINE inline void LayerNorm(const float* HWY_RESTRICT x, const float* HWY_RESTRICT gain,
                                   const float* HWY_RESTRICT bias, size_t n, float epsilon,
                                   float* HWY_RESTRICT out) {
  const DF d;
  const VF mean = hn::Set(d, Sum(x, n) / static_cast<float>(n));
  for (size_t i = 0; i < n; i += kLanes) {
    hn::StoreU(hn::Sub(hn::LoadU(d, x + i), mean), d, out + i);
  }
  const VF scale = hn::Set(d, InverseRms(out, n, epsilon));
  for (size_t i = 0; i < n; i += kLanes) {
    const VF v = hn::Mul(hn::Mul(hn::LoadU(d, out + i), scale), hn::LoadU(d, gain + i));
    hn::StoreU(hn::Add(v, hn::LoadU(d, bias + i)), d, out + i);
  }
}

// x *= factor, [n].
HWY_INLINE void Scale(float* HWY_RESTRICT x, size_t n, float factor) {
  const DF d;
  for (size_t i = 0; i < n; i += kLanes) {
    hn::StoreU(hn::Mul(hn::LoadU(d, x + i), hn::Set(d, factor)), d, x + i);
  }
}

// Turns the pairs (x[i], x[i + head_dim / 2]) by the angles whose cosines and sines are given,
// [head_dim / 2] each, and multiplies by `factor`: rotary position embedding with split halves.
HWY_NOINLINE inline void RotateHalves(const float* HWY_RESTRICT cosine,
                                      const float* HWY_RESTRICT sine, size_t head_dim, float factor,
                                      float* HWY_RESTRICT x) {
  const DF d;
  const size_t half = head_dim / 2;
  const VF f = hn::Set(d, factor);
  for (size_t i = 0; i < half; i += kLanes) {
    const VF a = hn::LoadU(d, x + i);
    const VF b = hn::LoadU(d, x + half + i);
    const VF c = hn::LoadU(d, cosine + i);
    const VF s = hn::LoadU(d, sine + i);
    hn::StoreU(hn::Mul(hn::NegMulAdd(b, s, hn::Mul(a, c)), f), d, x + i);
    hn::StoreU(hn::Mul(hn::MulAdd(a, s, hn::Mul(b, c)), f), d, x + half + i);
  }
}

// gelu(x) with the tanh approximation, which Gemma 3 and SigLIP were trained with:
//   gelu(x) = x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) = x / (1 + e^-2u), u the argument
//   of tanh.
HWY_INLINE VF Gelu(VF x) {
  const DF d;
  const VF cube = hn::MulAdd(hn::Mul(hn::Mul(x, x), x), hn::Set(d, 0.044715f), x);
  const VF e = Exp(hn::Mul(cube, hn::Set(d, -2.0f * 0.79788456f)));
  return hn::Div(x, hn::Add(hn::Set(d, 1.0f), e));
}

HWY_INLINE VF GeluTimes(VF gate, VF up) { return hn::Mul(Gelu(gate), up); }

}  // namespace HWY_NAMESPACE
}  // namespace lapidary
HWY_AFTER_NAMESPACE();

#endif  // include guard
