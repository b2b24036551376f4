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

// Where the weights of a group come from, kLanes outputs at a time: of vector v, the codes of quad
// q of the group, the scales and the minima.
struct ScratchWeights {
  const uint8_t* HWY_RESTRICT codes;  // [quads, 2 vectors]
  const float* HWY_RESTRICT scales;   // [2 vectors]
  const float* HWY_RESTRICT mins;     // [2 vectors]
  HWY_INLINE VU8 Codes(int q, size_t v) const {
    return hn::Load(DU8(), codes + (static_cast<size_t>(q) * 2 + v) * kVectorBytes);
  }
  HWY_INLINE VF Scale(size_t v) const { return hn::Load(DF(), scales + v * kLanes); }
  HWY_INLINE VF Min(size_t v) const { return hn::Load(DF(), mins + v * kLanes); }
};
template <Format kFormat>
struct PanelWeights {
  const uint8_t* units[2];  // of the two panels of a pair
  Slab slabs[2];            // of these
  size_t group;             // of the unit
  int first_quad;           // of the slab
  HWY_INLINE VU8 Codes(int q, size_t v) const {
    return LoadCodes<kFormat>(slabs[v / kPanelVectors], first_quad + q, v % kPanelVectors);
  }
  HWY_INLINE VF Scale(size_t v) const {
    return LoadScales<kFormat>(units[v / kPanelVectors], group, v % kPanelVectors);
  }
  HWY_INLINE VF Min(size_t v) const {
    return LoadMins<kFormat>(units[v / kPanelVectors], group, v % kPanelVectors);
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

constexpr GroupTraits TraitsOf(const QuantSpec& spec, Precision precision, size_t rows) {
  const unsigned form = VectorFormFor(spec.format, precision, rows);
  const bool narrow = form != kFormWords && !kHasByteDot;
  return {form, spec.group, spec.has_min, narrow ? QuadsIn16Bits(spec.code_bits(), spec.group) : 0};
}

// sum + the products of four codes and four integers in every lane of 32 bits, or of two in every
// one of 16.
HWY_INLINE VI32 AddProducts(VU8 codes, VI8 x, VI32 sum) {
  return hn::SumOfMulQuadAccumulate(DI32(), codes, x, sum);
}
HWY_INLINE VI16 AddProducts(VU8 codes, VI8 x, VI16 sum) {
  return hn::Add(sum, hn::SatWidenMulPairwiseAdd(DI16(), codes, x));
}

// sum[r][v] += products of the codes of quads [begin, end) of a group with the bytes of x[r].
template <size_t kRows, size_t kVecs, class Weights, class V>
HWY_INLINE void AddQuads(const Weights& weights, const int8_t* const (&x)[kRows], int begin,
                         int end, V (&sum)[kRows][kVecs]) {
  HWY_UNROLL(8) for (int q = begin; q < end; ++q) {
    VU8 codes[kVecs];
    HWY_UNROLL(8) for (size_t v = 0; v < kVecs; ++v) codes[v] = weights.Codes(q, v);
    HWY_UNROLL(8) for (size_t r = 0; r < kRows; ++r) {
      const auto quad = hn::BitCast(DI8(), Broadcast32(x[r] + q * 4));
      HWY_UNROLL(8) for (size_t v = 0; v < kVecs; ++v) {
        sum[r][v] = AddProducts(codes[v], quad, sum[r][v]);
        KeepInRegister(sum[r][v]);
      }
    }
  }
}

// The same for a whole group, through 16 bits where bytes have no dot product.
template <GroupTraits kTraits, size_t kRows, size_t kVecs, class Weights>
HWY_INLINE void DotBytes(const Weights& weights, const int8_t* const (&x)[kRows],
                         VI32 (&sum)[kRows][kVecs]) {
  constexpr int kQuads = kTraits.group / 4;
  if constexpr (kHasByteDot) {
    AddQuads(weights, x, 0, kQuads, sum);
  } else {
    constexpr int kStep = kTraits.quads_in_16_bits;
    static_assert(kStep > 0 && kQuads % kStep == 0);
    HWY_UNROLL(8) for (int q = 0; q < kQuads; q += kStep) {
      VI16 narrow[kRows][kVecs];
      SetZero(narrow);
      AddQuads(weights, x, q, q + kStep, narrow);
      const VI16 one = hn::Set(DI16(), int16_t{1});
      HWY_UNROLL(8) for (size_t r = 0; r < kRows; ++r) {
        HWY_UNROLL(8) for (size_t v = 0; v < kVecs; ++v) {
          sum[r][v] = hn::Add(sum[r][v], hn::WidenMulPairwiseAdd(DI32(), narrow[r][v], one));
        }
      }
    }
  }
}

// Where the bytes of a plane of kRows rows begin, from input `first` of a group on.
template <auto kPlane, size_t kRows, class Group>
HWY_INLINE void FindBytes(const Group* HWY_RESTRICT x, size_t stride, size_t first,
                          const int8_t* (&bytes)[kRows]) {
  HWY_UNROLL(8) for (size_t r = 0; r < kRows; ++r) bytes[r] = (x[r * stride].*kPlane) + first;
}

// DotGroup for each form of activations: sum[r][v] += products of the codes of a group of weights
// with the integers of kRows rows, from input `first` of a group on. x is that of the first row,
// and rows are `stride` groups apart.
template <GroupTraits kTraits, size_t kRows, size_t kVecs, class Weights>
HWY_INLINE void DotGroup(const Weights& weights, const ByteGroup* HWY_RESTRICT x, size_t stride,
                         size_t first, VI32 (&sum)[kRows][kVecs]) {
  const int8_t* bytes[kRows];
  FindBytes<&ByteGroup::bytes>(x, stride, first, bytes);
  DotBytes<kTraits>(weights, bytes, sum);
}

template <GroupTraits kTraits, size_t kRows, size_t kVecs, class Weights>
HWY_INLINE void DotGroup(const Weights& weights, const PlaneGroup* HWY_RESTRICT x, size_t stride,
                         size_t first, VI32 (&sum)[kRows][kVecs]) {
  // There is no room for the sums of both planes of a large tile: it goes over the codes twice (6
  // rows of Q5_0: 195 instead of 186 GOP/s, one core of Zen 4).
  constexpr bool kTwice = 3 * kRows * kVecs > kMostSums;
  const int8_t* high_bytes[kRows];
  const int8_t* low_bytes[kRows];
  FindBytes<&PlaneGroup::high>(x, stride, first, high_bytes);
  FindBytes<&PlaneGroup::low>(x, stride, first, low_bytes);
  VI32 high[kRows][kVecs];
  SetZero(high);
  if constexpr (kTwice) {
    DotBytes<kTraits>(weights, high_bytes, high);
  } else {
    // Both planes as twice as many rows.
    const int8_t* bytes[2 * kRows];
    VI32 both[2 * kRows][kVecs];
    HWY_UNROLL(8) for (size_t r = 0; r < kRows; ++r) {
      bytes[r] = high_bytes[r];
      bytes[kRows + r] = low_bytes[r];
      HWY_UNROLL(8) for (size_t v = 0; v < kVecs; ++v) {
        both[r][v] = high[r][v];
        both[kRows + r][v] = sum[r][v];
      }
    }
    DotBytes<kTraits>(weights, bytes, both);
    HWY_UNROLL(8) for (size_t r = 0; r < kRows; ++r) {
      HWY_UNROLL(8) for (size_t v = 0; v < kVecs; ++v) {
        high[r][v] = both[r][v];
        sum[r][v] = both[kRows + r][v];
      }
    }
  }
  HWY_UNROLL(8) for (size_t r = 0; r < kRows; ++r) {
    HWY_UNROLL(8) for (size_t v = 0; v < kVecs; ++v) {
      sum[r][v] = hn::Add(sum[r][v], hn::ShiftLeft<8>(high[r][v]));
      if constexpr (kTwice) KeepInRegister(sum[r][v]);
    }
  }
  if constexpr (kTwice) DotBytes<kTraits>(weights, low_bytes, sum);
}

template <GroupTraits kTraits, size_t kRows, size_t kVecs, class Weights>
HWY_INLINE void DotGroup(const Weights& weights, const WordGroup* HWY_RESTRICT x, size_t stride,
                         size_t first, VI32 (&sum)[kRows][kVecs]) {
  const DI32 d32;
  const DI16 d16;
  const DU16 du16;
  HWY_UNROLL(8) for (int q = 0; q < kTraits.group / 4; ++q) {
    VI16 even[kVecs], odd[kVecs];
    HWY_UNROLL(8) for (size_t v = 0; v < kVecs; ++v) {
      const auto pairs = hn::BitCast(du16, weights.Codes(q, v));
      even[v] = hn::BitCast(d16, hn::And(pairs, hn::Set(du16, uint16_t{0x00FF})));
      odd[v] = hn::BitCast(d16, hn::ShiftRight<8>(pairs));
    }
    HWY_UNROLL(8) for (size_t r = 0; r < kRows; ++r) {
      const int16_t* a = x[r * stride].words + first + q * 4;
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

// Sums of the activations that a group of weights meets, from input `first` of theirs on.
template <GroupTraits kTraits>
HWY_INLINE int32_t SumOf(const GroupFactors& x, size_t first) {
  if constexpr (kTraits.group == kActivationGroup) return x.sum;
  return first == 0 ? x.first_half : x.sum - x.first_half;
}
template <GroupTraits kTraits>
HWY_INLINE float ValueSumOf(const GroupFactors& x, size_t first) {
  if constexpr (kTraits.group == kActivationGroup) return x.value_sum;
  return x.scale * static_cast<float>(SumOf<kTraits>(x, first));
}

// acc += a sum of codes times integers, scaled.
HWY_INLINE void AddScaled(VI32 sum, VF scale, float x_scale, VF& acc) {
  const DF d;
  acc = hn::MulAdd(hn::ConvertTo(d, sum), hn::Mul(scale, hn::Set(d, x_scale)), acc);
}

// acc[r][v] += one group of kRows rows (see DotGroup), scaled: scale * x_scale * sum - min * x_sum,
// where sum is that of (code - zero) times integers, and x_sum that of activations.
template <GroupTraits kTraits, size_t kRows, size_t kVecs, class Weights, class Group>
HWY_INLINE void AddGroup(const Weights& weights, int32_t zero, const Group* HWY_RESTRICT x,
                         size_t stride, size_t first, VF (&acc)[kRows][kVecs]) {
  VI32 sum[kRows][kVecs];
  HWY_UNROLL(8) for (size_t r = 0; r < kRows; ++r) {
    // A format with minima has none but 0 for its zero.
    const VI32 start = kTraits.has_min
                           ? hn::Zero(DI32())
                           : hn::Set(DI32(), -zero * SumOf<kTraits>(x[r * stride].factors, first));
    HWY_UNROLL(8) for (size_t v = 0; v < kVecs; ++v) sum[r][v] = start;
  }
  DotGroup<kTraits>(weights, x, stride, first, sum);
  HWY_UNROLL(8) for (size_t v = 0; v < kVecs; ++v) {
    const VF scale = weights.Scale(v);
    HWY_UNROLL(8) for (size_t r = 0; r < kRows; ++r) {
      const GroupFactors& factors = x[r * stride].factors;
      AddScaled(sum[r][v], scale, factors.scale, acc[r][v]);
      if constexpr (kTraits.has_min) {
        const VF x_sum = hn::Set(DF(), ValueSumOf<kTraits>(factors, first));
        acc[r][v] = hn::NegMulAdd(weights.Min(v), x_sum, acc[r][v]);
      }
    }
  }
}

}  // namespace matmul

}  // namespace HWY_NAMESPACE
}  // namespace lapidary
HWY_AFTER_NAMESPACE();

#endif  // include guard
