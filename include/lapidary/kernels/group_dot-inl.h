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

constexpr GroupTraits TraitsOf(const QuantSpec& spec, Precision precision, size_t rows) {
  const unsigned form = VectorFormFor(spec.format, precision, rows);
  const bool narrow = form != kFormWords && !kHasByteDot;
  return {form, spec.group, spec.has_min, narrow ? QuadsIn16Bits(spec.code_bits(), spec.group) : 0};
}

// Calls dot(codes of the quad, q) for the quads q of a group, or for [begin, end) of them.
template <size_t kVecs, class Codes, class Dot>
HWY_INLINE void ForQuads(int begin, int end, const Codes& codes, const Dot& dot) {
  HWY_UNROLL(8) for (int q = begin; q < end; ++q) {
    VU8 w[kVecs];
    HWY_UNROLL(8) for (size_t v = 0; v < kVecs; ++v) w[v] = codes(q, v);
    dot(w, q);
  }
}

// sum[r][v] += products of the codes of a group of weights with the bytes at bytes_of(r).
template <GroupTraits kTraits, size_t kRows, size_t kVecs, class Codes, class BytesOf>
HWY_INLINE void DotBytes(const Codes& codes, const BytesOf& bytes_of, VI32 (&sum)[kRows][kVecs]) {
  constexpr int kQuads = kTraits.group / 4;
  // add(w[v], the bytes of row r, r, v) for the quads [begin, end).
  const auto for_quads = [&](int begin, int end, const auto& add) LAPIDARY_INLINE_LAMBDA {
    ForQuads<kVecs>(begin, end, codes, [&](const VU8(&w)[kVecs], int q) LAPIDARY_INLINE_LAMBDA {
      HWY_UNROLL(8) for (size_t r = 0; r < kRows; ++r) {
        const auto quad = hn::BitCast(DI8(), Broadcast32(bytes_of(r) + q * 4));
        HWY_UNROLL(8) for (size_t v = 0; v < kVecs; ++v) add(w[v], quad, r, v);
      }
    });
  };
  if constexpr (kHasByteDot) {
    for_quads(0, kQuads, [&](VU8 w, auto quad, size_t r, size_t v) LAPIDARY_INLINE_LAMBDA {
      sum[r][v] = hn::SumOfMulQuadAccumulate(DI32(), w, quad, sum[r][v]);
      KeepInRegister(sum[r][v]);
    });
  } else {
    const DI16 d16;
    constexpr int kStep = kTraits.quads_in_16_bits;
    static_assert(kStep > 0 && kQuads % kStep == 0);
    HWY_UNROLL(8) for (int q0 = 0; q0 < kQuads; q0 += kStep) {
      VI16 narrow[kRows][kVecs];
      SetZero(narrow);
      for_quads(q0, q0 + kStep,
                [&](VU8 w, auto quad, size_t r, size_t v) LAPIDARY_INLINE_LAMBDA {
                  narrow[r][v] = hn::Add(narrow[r][v], hn::SatWidenMulPairwiseAdd(d16, w, quad));
                  KeepInRegister(narrow[r][v]);
                });
      const VI16 one = hn::Set(d16, int16_t{1});
      HWY_UNROLL(8) for (size_t r = 0; r < kRows; ++r) {
        HWY_UNROLL(8) for (size_t v = 0; v < kVecs; ++v) {
          sum[r][v] = hn::Add(sum[r][v], hn::WidenMulPairwiseAdd(DI32(), narrow[r][v], one));
        }
      }
    }
  }
}

// DotGroup for each form of activations: sum[r][v] += products of the codes of a group of weights
// with the integers of kRows rows, from input `first` of a group on. x is that of the first row,
// and rows are `stride` groups apart.
template <GroupTraits kTraits, size_t kRows, size_t kVecs, class Codes>
HWY_INLINE void DotGroup(const Codes& codes, const ByteGroup* HWY_RESTRICT x, size_t stride,
                         size_t first, VI32 (&sum)[kRows][kVecs]) {
  DotBytes<kTraits>(
      codes, [=](size_t r) LAPIDARY_INLINE_LAMBDA { return x[r * stride].bytes + first; }, sum);
}

template <GroupTraits kTraits, size_t kRows, size_t kVecs, class Codes>
HWY_INLINE void DotGroup(const Codes& codes, const PlaneGroup* HWY_RESTRICT x, size_t stride,
                         size_t first, VI32 (&sum)[kRows][kVecs]) {
  const auto high_of = [=](size_t r) LAPIDARY_INLINE_LAMBDA { return x[r * stride].high + first; };
  const auto low_of = [=](size_t r) LAPIDARY_INLINE_LAMBDA { return x[r * stride].low + first; };
  // There is no room for the sums of both planes of a large tile: it goes over the codes twice (6
  // rows of Q5_0: 195 instead of 186 GOP/s, one core of Zen 4).
  if constexpr (3 * kRows * kVecs > kMostSums) {
    VI32 high[kRows][kVecs];
    SetZero(high);
    DotBytes<kTraits>(codes, high_of, high);
    HWY_UNROLL(8) for (size_t r = 0; r < kRows; ++r) {
      HWY_UNROLL(8) for (size_t v = 0; v < kVecs; ++v) {
        sum[r][v] = hn::Add(sum[r][v], hn::ShiftLeft<8>(high[r][v]));
        KeepInRegister(sum[r][v]);
      }
    }
    DotBytes<kTraits>(codes, low_of, sum);
  } else {
    VI32 both[2 * kRows][kVecs];  // of low and high bytes
    HWY_UNROLL(8) for (size_t r = 0; r < kRows; ++r) {
      HWY_UNROLL(8) for (size_t v = 0; v < kVecs; ++v) {
        both[r][v] = sum[r][v];
        both[kRows + r][v] = hn::Zero(DI32());
      }
    }
    DotBytes<kTraits>(
        codes,
        [=](size_t r)
            LAPIDARY_INLINE_LAMBDA { return r < kRows ? low_of(r) : high_of(r - kRows); },
        both);
    HWY_UNROLL(8) for (size_t r = 0; r < kRows; ++r) {
      HWY_UNROLL(8) for (size_t v = 0; v < kVecs; ++v) {
        sum[r][v] = hn::Add(both[r][v], hn::ShiftLeft<8>(both[kRows + r][v]));
      }
    }
  }
}

template <GroupTraits kTraits, size_t kRows, size_t kVecs, class Codes>
HWY_INLINE void DotGroup(const Codes& codes, const WordGroup* HWY_RESTRICT x, size_t stride,
                         size_t first, VI32 (&sum)[kRows][kVecs]) {
  const DI32 d32;
  const DI16 d16;
  const DU16 du16;
  ForQuads<kVecs>(
      0, kTraits.group / 4, codes, [&](const VU8(&w)[kVecs], int q) LAPIDARY_INLINE_LAMBDA {
        VI16 even[kVecs], odd[kVecs];
        HWY_UNROLL(8) for (size_t v = 0; v < kVecs; ++v) {
          const auto pairs = hn::BitCast(du16, w[v]);
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
      });
}

// acc += one group, scaled: scale * x_scale * sum - min * x_sum, where sum is that of (code - zero)
// times integers, and x_sum that of activations. `min()` loads the minima of the weights.
template <GroupTraits kTraits, class Min>
HWY_INLINE void AddScaled(VI32 sum, VF scale, const Min& min, float x_scale, float x_sum, VF& acc) {
  const DF d;
  acc = hn::MulAdd(hn::ConvertTo(d, sum), hn::Mul(scale, hn::Set(d, x_scale)), acc);
  if constexpr (kTraits.has_min) acc = hn::NegMulAdd(min(), hn::Set(d, x_sum), acc);
}

// acc[r][v] += one group of kRows rows; see DotGroup and AddScaled. `scale(v)` and `min(v)` load
// those of the weights.
template <GroupTraits kTraits, size_t kRows, size_t kVecs, class Codes, class Scale, class Min,
          class Group>
HWY_INLINE void AddGroup(const Codes& codes, const Scale& scale, const Min& min, int32_t zero,
                         const Group* HWY_RESTRICT x, size_t stride, size_t first,
                         VF (&acc)[kRows][kVecs]) {
  // Of the inputs that the group of weights meets.
  const auto sum_of = [first](const GroupFactors& factors) LAPIDARY_INLINE_LAMBDA {
    if (kTraits.group == kActivationGroup) return factors.sum;
    return first == 0 ? factors.first_half : factors.sum - factors.first_half;
  };
  const auto value_sum_of = [&](const GroupFactors& factors) LAPIDARY_INLINE_LAMBDA {
    if (kTraits.group == kActivationGroup) return factors.value_sum;
    return factors.scale * static_cast<float>(sum_of(factors));
  };
  VI32 sum[kRows][kVecs];
  HWY_UNROLL(8) for (size_t r = 0; r < kRows; ++r) {
    // A format with minima has none but 0 for its zero.
    const VI32 start =
        kTraits.has_min ? hn::Zero(DI32()) : hn::Set(DI32(), -zero * sum_of(x[r * stride].factors));
    HWY_UNROLL(8) for (size_t v = 0; v < kVecs; ++v) sum[r][v] = start;
  }
  DotGroup<kTraits>(codes, x, stride, first, sum);
  HWY_UNROLL(8) for (size_t v = 0; v < kVecs; ++v) {
    const VF w_scale = scale(v);
    HWY_UNROLL(8) for (size_t r = 0; r < kRows; ++r) {
      const GroupFactors& factors = x[r * stride].factors;
      AddScaled<kTraits>(
          sum[r][v], w_scale, [&]() LAPIDARY_INLINE_LAMBDA { return min(v); }, factors.scale,
          value_sum_of(factors), acc[r][v]);
    }
  }
}

}  // namespace matmul

}  // namespace HWY_NAMESPACE
}  // namespace lapidary
HWY_AFTER_NAMESPACE();

#endif  // include guard
