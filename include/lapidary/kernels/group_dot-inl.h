// Products of the integers of a group, 16 or 32 codes that share a scale, with those of
// activations.
#if defined(LAPIDARY_KERNELS_GROUP_DOT_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef LAPIDARY_KERNELS_GROUP_DOT_INL_H_
#undef LAPIDARY_KERNELS_GROUP_DOT_INL_H_
#else
#define LAPIDARY_KERNELS_GROUP_DOT_INL_H_
#endif

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "lapidary/config/precision.h"
#include "lapidary/kernels/panel-inl.h"
#include "lapidary/kernels/quantize-inl.h"
#include "lapidary/kernels/simd-inl.h"
#include "lapidary/kernels/tile-inl.h"
#include "lapidary/weights/quant.h"

HWY_BEFORE_NAMESPACE();
namespace lapidary {
namespace HWY_NAMESPACE {

namespace matmul {

// Sources of codes for DotGroup: (quad of the group, vector) -> bytes.
struct ScratchCodes {
  const uint8_t* HWY_RESTRICT codes;  // [quads, 2 vectors]
  HWY_INLINE VU8 operator()(int q, size_t v) const {
    return hn::Load(DU8(), codes + (static_cast<size_t>(q) * 2 + v) * kVectorBytes);
  }
};
template <Format kFormat>
struct SlabCodes {
  const uint8_t* slabs[2];  // of the two panels of a pair
  const uint8_t* lows[2];   // their slabs of low bits, if the format has them
  int first_quad;
  HWY_INLINE VU8 operator()(int q, size_t v) const {
    return LoadCodes<kFormat>(slabs[v / kPanelVectors], lows[v / kPanelVectors], first_quad + q,
                              v % kPanelVectors);
  }
};

// Quads whose products with bytes of magnitude <= 128 sum up in 16 bits without overflow: two
// products a quad and lane, 32767 / (2 * 128 * largest code), at most a group.
constexpr int QuadsIn16Bits(int bits, int group) {
  return std::min(group / 4, 32767 / (2 * 128 * ((1 << bits) - 1)));
}

// What the arithmetic of a group depends on, so that formats with equal traits share their tiles.
struct GroupTraits {
  unsigned form;  // of the activations
  int group;      // inputs: 16 or 32
  bool has_min;
  int quads_in_16_bits;  // see QuadsIn16Bits; 0 where sums of bytes do not pass through 16 bits
};

constexpr GroupTraits TraitsOf(const QuantSpec& spec, Precision precision) {
  const unsigned form = VectorFormFor(spec.format, precision);
  const bool narrow = form == kFormBytes && !kHasByteDot;
  return {form, spec.group, spec.has_min, narrow ? QuadsIn16Bits(spec.code_bits(), spec.group) : 0};
}

// sum[r][v] += products of one quad of codes, w[kVecs], with the bytes a[r * stride ...].
template <size_t kRows, size_t kVecs>
HWY_INLINE void DotQuad(const VU8 (&w)[kVecs], const int8_t* HWY_RESTRICT a, size_t stride,
                        VI32 (&sum)[kRows][kVecs]) {
  HWY_UNROLL(8) for (size_t r = 0; r < kRows; ++r) {
    const auto quad = hn::BitCast(DI8(), Broadcast32(a + r * stride));
    HWY_UNROLL(8) for (size_t v = 0; v < kVecs; ++v) {
      sum[r][v] = hn::SumOfMulQuadAccumulate(DI32(), w[v], quad, sum[r][v]);
      KeepInRegister(sum[r][v]);
    }
  }
}

// sum[r][v] += products of one group of codes with the activations of kRows rows, from input k of
// row `row` on.
template <GroupTraits kTraits, size_t kRows, size_t kVecs, class Codes>
HWY_INLINE void DotGroup(const Codes& codes, const Activations& x, size_t row, size_t k,
                         VI32 (&sum)[kRows][kVecs]) {
  constexpr unsigned kForm = kTraits.form;
  constexpr int kQuads = kTraits.group / 4;
  const DI32 d32;
  const DI16 d16;
  const DI8 d8;
  const size_t x0 = row * x.stride + k;
  const auto for_quads = [&](const auto& dot) LAPIDARY_INLINE_LAMBDA {
    HWY_UNROLL(8) for (int q = 0; q < kQuads; ++q) {
      VU8 w[kVecs];
      HWY_UNROLL(8) for (size_t v = 0; v < kVecs; ++v) w[v] = codes(q, v);
      dot(w, x0 + static_cast<size_t>(q) * 4);
    }
  };
  if constexpr (kForm == kFormBytes && kHasByteDot) {
    for_quads([&](const VU8(&w)[kVecs], size_t at)
                  LAPIDARY_INLINE_LAMBDA { DotQuad(w, x.bytes + at, x.stride, sum); });
  } else if constexpr (kForm == kFormPlanes) {
    // There is no room for the sums of both planes of a large tile: it goes over the codes twice
    // (6 rows of Q5_0: 195 instead of 186 GOP/s, one core of Zen 4).
    constexpr bool kTwice = 3 * kRows * kVecs > kMostSums;
    VI32 high[kRows][kVecs];
    SetZero(high);
    for_quads([&](const VU8(&w)[kVecs], size_t at) LAPIDARY_INLINE_LAMBDA {
      DotQuad(w, x.bytes + at, x.stride, high);
      if constexpr (!kTwice) DotQuad(w, x.low + at, x.stride, sum);
    });
    HWY_UNROLL(8) for (size_t r = 0; r < kRows; ++r) {
      HWY_UNROLL(8) for (size_t v = 0; v < kVecs; ++v) {
        sum[r][v] = hn::Add(sum[r][v], hn::ShiftLeft<8>(high[r][v]));
        if constexpr (kTwice) KeepInRegister(sum[r][v]);
      }
    }
    if constexpr (kTwice) {
      for_quads([&](const VU8(&w)[kVecs], size_t at)
                    LAPIDARY_INLINE_LAMBDA { DotQuad(w, x.low + at, x.stride, sum); });
    }
  } else if constexpr (kForm == kFormBytes) {
    constexpr int kStep = kTraits.quads_in_16_bits;
    static_assert(kStep > 0 && kQuads % kStep == 0);
    HWY_UNROLL(8) for (int q0 = 0; q0 < kQuads; q0 += kStep) {
      VI16 narrow[kRows][kVecs];
      SetZero(narrow);
      HWY_UNROLL(8) for (int q = q0; q < q0 + kStep; ++q) {
        VU8 w[kVecs];
        HWY_UNROLL(8) for (size_t v = 0; v < kVecs; ++v) w[v] = codes(q, v);
        HWY_UNROLL(8) for (size_t r = 0; r < kRows; ++r) {
          const auto a = hn::BitCast(d8, Broadcast32(x.bytes + x0 + r * x.stride + q * 4));
          HWY_UNROLL(8) for (size_t v = 0; v < kVecs; ++v) {
            narrow[r][v] = hn::Add(narrow[r][v], hn::SatWidenMulPairwiseAdd(d16, w[v], a));
            KeepInRegister(narrow[r][v]);
          }
        }
      }
      const VI16 one = hn::Set(d16, int16_t{1});
      HWY_UNROLL(8) for (size_t r = 0; r < kRows; ++r) {
        HWY_UNROLL(8) for (size_t v = 0; v < kVecs; ++v) {
          sum[r][v] = hn::Add(sum[r][v], hn::WidenMulPairwiseAdd(d32, narrow[r][v], one));
        }
      }
    }
  } else {
    static_assert(kForm == kFormWords);
    const DU16 du16;
    HWY_UNROLL(8) for (int q = 0; q < kQuads; ++q) {
      VI16 even[kVecs], odd[kVecs];
      HWY_UNROLL(8) for (size_t v = 0; v < kVecs; ++v) {
        const auto w = hn::BitCast(du16, codes(q, v));
        even[v] = hn::BitCast(d16, hn::And(w, hn::Set(du16, uint16_t{0x00FF})));
        odd[v] = hn::BitCast(d16, hn::ShiftRight<8>(w));
      }
      HWY_UNROLL(8) for (size_t r = 0; r < kRows; ++r) {
        const int16_t* a = x.words + x0 + r * x.stride + q * 4;
        const VI16 a_even = hn::BitCast(d16, Broadcast32(a));
        const VI16 a_odd = hn::BitCast(d16, Broadcast32(a + 2));
        HWY_UNROLL(8) for (size_t v = 0; v < kVecs; ++v) {
          sum[r][v] = hn::Add(sum[r][v], hn::WidenMulPairwiseAdd(d32, even[v], a_even));
          sum[r][v] = hn::Add(sum[r][v], hn::WidenMulPairwiseAdd(d32, odd[v], a_odd));
          KeepInRegister(sum[r][v]);
        }
      }
    }
  }
}

// Sum of the integers of a row's group from input k on.
template <GroupTraits kTraits>
HWY_INLINE int32_t GroupSum(const Activations& x, size_t row, size_t k) {
  const int32_t* sums = x.sums + row * x.sum_groups() + k / kSumGroup;
  return kTraits.group == 32 ? sums[0] + sums[1] : sums[0];
}

// acc += one group, scaled: scale * x_scale * sum - min * x_scale * x_sum, where sum is that of
// (code - zero) x. `min()` loads the minima of the weights.
template <GroupTraits kTraits, class Min>
HWY_INLINE void AddScaled(VI32 sum, VF scale, const Min& min, float x_scale, int32_t x_sum,
                          VF& acc) {
  const DF d;
  acc = hn::MulAdd(hn::ConvertTo(d, sum), hn::Mul(scale, hn::Set(d, x_scale)), acc);
  if constexpr (kTraits.has_min) {
    const float scaled_sum = x_scale * static_cast<float>(x_sum);
    acc = hn::NegMulAdd(min(), hn::Set(d, scaled_sum), acc);
  }
}

// acc[r][v] += one group of kRows rows; see AddScaled. `scale(v)` and `min(v)` load those of the
// weights.
template <GroupTraits kTraits, size_t kRows, size_t kVecs, class Codes, class Scale, class Min>
HWY_INLINE void AddGroup(const Codes& codes, const Scale& scale, const Min& min, int32_t zero,
                         const Activations& x, size_t row, size_t k, VF (&acc)[kRows][kVecs]) {
  VI32 sum[kRows][kVecs];
  int32_t x_sum[kRows];
  HWY_UNROLL(8) for (size_t r = 0; r < kRows; ++r) {
    x_sum[r] = GroupSum<kTraits>(x, row + r, k);
    const VI32 start = hn::Set(DI32(), -zero * x_sum[r]);
    HWY_UNROLL(8) for (size_t v = 0; v < kVecs; ++v) sum[r][v] = start;
  }
  DotGroup<kTraits>(codes, x, row, k, sum);
  HWY_UNROLL(8) for (size_t v = 0; v < kVecs; ++v) {
    const VF w_scale = scale(v);
    HWY_UNROLL(8) for (size_t r = 0; r < kRows; ++r) {
      const float x_scale = x.scales[(row + r) * x.groups() + k / kActivationGroup];
      AddScaled<kTraits>(
          sum[r][v], w_scale, [&]() LAPIDARY_INLINE_LAMBDA { return min(v); }, x_scale, x_sum[r],
          acc[r][v]);
    }
  }
}

}  // namespace matmul

}  // namespace HWY_NAMESPACE
}  // namespace lapidary
HWY_AFTER_NAMESPACE();

#endif  // include guard
