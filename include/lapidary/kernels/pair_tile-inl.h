// The register tile of float weights, and of keys and values in attention: pairs of consecutive
// inputs times f32 or, where the CPU multiplies them, bf16.
#if defined(LAPIDARY_KERNELS_PAIR_TILE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef LAPIDARY_KERNELS_PAIR_TILE_INL_H_
#undef LAPIDARY_KERNELS_PAIR_TILE_INL_H_
#else
#define LAPIDARY_KERNELS_PAIR_TILE_INL_H_
#endif

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "lapidary/kernels/amx-inl.h"
#include "lapidary/kernels/panel-inl.h"
#include "lapidary/kernels/simd-inl.h"
#include "lapidary/kernels/tile-inl.h"
#include "lapidary/weights/quant.h"

HWY_BEFORE_NAMESPACE();
namespace lapidary {
namespace HWY_NAMESPACE {

// Activations as the bf16 dot product wants them, or f32 where there is none.
using PairInput = std::conditional_t<kHasBF16Dot, hwy::bfloat16_t, float>;

HWY_INLINE void StoreInputs(VF v, float* to) { hn::StoreU(v, DF(), to); }
HWY_INLINE void StoreInputs(VF v, hwy::bfloat16_t* to) {
  const hn::Rebind<hwy::bfloat16_t, DF> dh;
  hn::StoreU(hn::DemoteTo(dh, v), dh, to);
}

// The same, and what rounding lost, if there is rounding.
HWY_INLINE void StoreInputs(VF v, float* to, float* /*lost*/) { StoreInputs(v, to); }
HWY_INLINE void StoreInputs(VF v, hwy::bfloat16_t* to, hwy::bfloat16_t* lost) {
  StoreInputs(v, to);
  const hn::Rebind<hwy::bfloat16_t, DF> dh;
  StoreInputs(hn::Sub(v, hn::PromoteTo(DF(), hn::LoadU(dh, to))), lost);
}

// Two consecutive inputs in every lane.
struct BroadcastFloats {
  VF even, odd;
};
HWY_INLINE BroadcastFloats BroadcastPair(const float* x) {
  return {hn::Set(DF(), x[0]), hn::Set(DF(), x[1])};
}
HWY_INLINE hn::Vec<DBF16> BroadcastPair(const hwy::bfloat16_t* x) {
  VI32 pair = Broadcast32(x);
  // clang 16 recurses without end (VectorCombinePass) when it sees that a broadcast becomes bf16.
  if constexpr (HWY_COMPILER_CLANG != 0) KeepInRegister(pair);
  return hn::BitCast(DBF16(), pair);
}

// What PairTile multiplies with: pairs of consecutive inputs of kLanes rows, loaded as floats or,
// for bf16 dot products, as pairs of bf16.
template <Format kFormat>
struct WeightPairs {
  static constexpr bool kAreBF16 = kFormat == Format::kBF16;  // as they lie in memory
  static HWY_INLINE FloatPair Floats(const uint8_t* p) { return LoadPair<kFormat>(p); }
  static HWY_INLINE hn::Vec<DBF16> Brains(const uint8_t* p) {
    static_assert(kFormat == Format::kBF16);
    return hn::LoadU(DBF16(), reinterpret_cast<const hwy::bfloat16_t*>(p));
  }
};
// Bytes of the KV cache; their scales are applied elsewhere. A byte is exact in bf16.
struct BytePairs {
  static constexpr bool kAreBF16 = false;
  static HWY_INLINE FloatPair Floats(const uint8_t* p) {
    const hn::Rebind<int16_t, DF> d16;
    const VI32 both = hn::PromoteTo(DI32(), hn::LoadU(d16, reinterpret_cast<const int16_t*>(p)));
    return {hn::ConvertTo(DF(), hn::ShiftRight<24>(hn::ShiftLeft<24>(both))),
            hn::ConvertTo(DF(), hn::ShiftRight<8>(both))};
  }
  static HWY_INLINE hn::Vec<DBF16> Brains(const uint8_t* p) {
    const DU32 du;
    const FloatPair pair = Floats(p);
    const auto even = hn::ShiftRight<16>(hn::BitCast(du, pair.even));
    return hn::BitCast(DBF16(), hn::Or(even, hn::BitCast(du, pair.odd)));
  }
};

// Pairs of f16 as pairs of bf16, rounded to nearest even.
HWY_INLINE hn::Vec<DBF16> RoundHalfPairs(const uint8_t* HWY_RESTRICT p) {
  const hn::Repartition<hwy::float16_t, DF> dh;
  const auto halves = hn::LoadU(dh, reinterpret_cast<const hwy::float16_t*>(p));
  return hn::OrderedDemote2To(DBF16(), hn::PromoteLowerTo(DF(), halves),
                              hn::PromoteUpperTo(DF(), halves));
}

// Four codes of kLanes rows as bf16, scale * code + start rounded to nearest even: two vectors of
// pairs, two vectors apart.
HWY_INLINE void RoundQuad(VU8 codes, VF scale, VF start, uint8_t* HWY_RESTRICT to) {
  const DF d;
  const DU16 d16;
  const auto quads = hn::BitCast(DU32(), codes);
  const auto byte = hn::Set(DU32(), 0xFFu);
  const VF values[4] = {hn::ConvertTo(d, hn::And(quads, byte)),
                        hn::ConvertTo(d, hn::And(hn::ShiftRight<8>(quads), byte)),
                        hn::ConvertTo(d, hn::And(hn::ShiftRight<16>(quads), byte)),
                        hn::ConvertTo(d, hn::ShiftRight<24>(quads))};
  // Even inputs stand in the lower half, odd ones in the upper: they are wanted in turn.
  const auto place = hn::Iota(d16, 0);
  const auto odd = hn::And(place, hn::Set(d16, uint16_t{1}));
  const auto half = hn::Mul(odd, hn::Set(d16, static_cast<uint16_t>(kLanes)));
  const auto order = hn::IndicesFromVec(d16, hn::Add(hn::ShiftRight<1>(place), half));
  for (size_t i = 0; i < 2; ++i) {
    const auto rounded = hn::OrderedDemote2To(DBF16(), hn::MulAdd(values[2 * i], scale, start),
                                              hn::MulAdd(values[2 * i + 1], scale, start));
    const auto pairs = hn::TableLookupLanes(hn::BitCast(d16, rounded), order);
    hn::Store(pairs, d16, reinterpret_cast<uint16_t*>(to + i * 2 * kVectorBytes));
  }
}

// acc += the products of pairs of weights with a pair of inputs.
template <class Pairs>
HWY_INLINE void AddPair(const uint8_t* HWY_RESTRICT w, BroadcastFloats x, VF& acc) {
  const FloatPair pair = Pairs::Floats(w);
  acc = hn::MulAdd(pair.odd, x.odd, hn::MulAdd(pair.even, x.even, acc));
}
template <class Pairs>
HWY_INLINE void AddPair(const uint8_t* HWY_RESTRICT w, hn::Vec<DBF16> x, VF& acc) {
  VF unused = hn::Zero(DF());
  acc = hn::ReorderWidenMulAccumulate(DF(), Pairs::Brains(w), x, acc, unused);
}

// c[kRows][kVecs vectors] = x[kRows][2 * pairs] times pairs of float weights, added to what is
// there if `add`. Vector v of pair i is at w[v] + i * step (bytes). Serves weights, and keys and
// values in attention.
template <class Pairs, size_t kRows, size_t kVecs, class Input>
HWY_NOINLINE void PairTile(const uint8_t* const (&w)[kVecs], size_t step, size_t pairs,
                           const Input* HWY_RESTRICT x, size_t x_stride, bool add,
                           float* HWY_RESTRICT c, size_t c_stride) {
  const DF d;
  VF acc[kRows][kVecs];
  SetZero(acc);
  for (size_t i = 0; i < pairs; ++i) {
    if constexpr (std::is_same_v<Input, float>) {
      FloatPair weights[kVecs];
      HWY_UNROLL(4) for (size_t v = 0; v < kVecs; ++v) weights[v] = Pairs::Floats(w[v] + i * step);
      HWY_UNROLL(16) for (size_t r = 0; r < kRows; ++r) {
        const VF even = hn::Set(d, x[r * x_stride + 2 * i]);
        HWY_UNROLL(4) for (size_t v = 0; v < kVecs; ++v) {
          acc[r][v] = hn::MulAdd(weights[v].even, even, acc[r][v]);
          KeepInRegister(acc[r][v]);
        }
      }
      HWY_UNROLL(16) for (size_t r = 0; r < kRows; ++r) {
        const VF odd = hn::Set(d, x[r * x_stride + 2 * i + 1]);
        HWY_UNROLL(4) for (size_t v = 0; v < kVecs; ++v) {
          acc[r][v] = hn::MulAdd(weights[v].odd, odd, acc[r][v]);
          KeepInRegister(acc[r][v]);
        }
      }
    } else {
      hn::Vec<DBF16> weights[kVecs];
      HWY_UNROLL(4) for (size_t v = 0; v < kVecs; ++v) weights[v] = Pairs::Brains(w[v] + i * step);
      HWY_UNROLL(32) for (size_t r = 0; r < kRows; ++r) {
        const auto both = BroadcastPair(x + r * x_stride + 2 * i);
        VF unused = hn::Zero(d);
        HWY_UNROLL(4) for (size_t v = 0; v < kVecs; ++v) {
          acc[r][v] = hn::ReorderWidenMulAccumulate(d, weights[v], both, acc[r][v], unused);
        }
      }
    }
  }
  HWY_UNROLL(32) for (size_t r = 0; r < kRows; ++r) {
    HWY_UNROLL(4) for (size_t v = 0; v < kVecs; ++v) {
      float* to = c + r * c_stride + v * kLanes;
      hn::StoreU(add ? hn::Add(hn::LoadU(d, to), acc[r][v]) : acc[r][v], d, to);
    }
  }
}

namespace amx {

// PairTile of kRowTiles row tiles, x[a] to c[a], and kVecs vectors of outputs, in steps of as many
// pairs as the tiles were shaped for, row_bytes / 4. The same rows meet other weights next: that
// weights pass the first-level cache by is worth 12 to 15 % (eight pairs of panels, one core of
// Emerald Rapids).
template <size_t kRowTiles, size_t kVecs>
HWY_NOINLINE void PairTile(const uint8_t* const (&w)[kVecs], size_t step, size_t pairs,
                           size_t row_bytes, const hwy::bfloat16_t* const (&x)[kRowTiles],
                           size_t x_stride, const bool (&add)[kRowTiles],
                           float* const (&c)[kRowTiles], const size_t (&c_strides)[kRowTiles]) {
  constexpr bool kTwoRowTiles = kRowTiles == 2;
  constexpr bool kTwoVecs = kVecs == 2;
  const size_t c_bytes = c_strides[0] * sizeof(float);
  const size_t last_c_bytes = c_strides[kRowTiles - 1] * sizeof(float);
  Zero<0>();
  Zero<1>();
  Zero<2>();
  Zero<3>();
  if (add[0]) {
    Load<0>(c[0], c_bytes);
    if constexpr (kTwoVecs) Load<1>(c[0] + kOutputs, c_bytes);
  }
  if constexpr (kTwoRowTiles) {
    if (add[1]) {
      Load<2>(c[1], last_c_bytes);
      if constexpr (kTwoVecs) Load<3>(c[1] + kOutputs, last_c_bytes);
    }
  }
  const size_t x_bytes = x_stride * sizeof(hwy::bfloat16_t);
  const uint8_t* b0 = w[0];
  const uint8_t* b1 = w[kVecs - 1];
  for (size_t i = 0; i < pairs; i += row_bytes / 4) {
    Load<kA>(x[0] + 2 * i, x_bytes);
    LoadOnce<kB>(b0, step);
    MultiplyBF16<0, kA, kB>();
    if constexpr (kTwoVecs) {
      LoadOnce<kB + 1>(b1, step);
      MultiplyBF16<1, kA, kB + 1>();
    }
    if constexpr (kTwoRowTiles) {
      Load<kA + 1>(x[1] + 2 * i, x_bytes);
      MultiplyBF16<2, kA + 1, kB>();
      if constexpr (kTwoVecs) MultiplyBF16<3, kA + 1, kB + 1>();
    }
    b0 += row_bytes / 4 * step;
    b1 += row_bytes / 4 * step;
  }
  Store<0>(c[0], c_bytes);
  if constexpr (kTwoVecs) Store<1>(c[0] + kOutputs, c_bytes);
  if constexpr (kTwoRowTiles) {
    Store<2>(c[1], last_c_bytes);
    if constexpr (kTwoVecs) Store<3>(c[1] + kOutputs, last_c_bytes);
  }
}

// Pairs of a step: 16, or a few less if that makes equal steps of all (12 of the 36 pairs of a head
// of 72: to reshape the tiles for a rest takes as long as the products of a head).
constexpr size_t StepPairs(size_t pairs) {
  constexpr size_t kMost = kTileBytes / 4;
  size_t step = kMost;
  while (step > kMost / 2 && pairs % step != 0) --step;
  return step > kMost / 2 ? step : kMost;
}

// The same for any number of rows and pairs, two row tiles at a time: 32 rows or, if inputs are the
// sum of two terms, both terms of 16. The second term has sums of its own, which are added in the
// end, as FloatRow adds them.
template <size_t kVecs, size_t kTerms>
HWY_NOINLINE void PairRows(Unit& unit, const uint8_t* const (&w)[kVecs], size_t step, size_t pairs,
                           const hwy::bfloat16_t* const (&x)[kTerms], size_t x_stride, size_t rows,
                           bool add, float* HWY_RESTRICT c, size_t c_stride) {
  constexpr size_t kRows = 2 * kTileRows / kTerms;
  constexpr size_t kWidth = kVecs * kOutputs;
  const size_t step_pairs = StepPairs(pairs);
  const size_t rest = pairs % step_pairs;
  HWY_ALIGN float second[kTileRows * kWidth];
  for (size_t r = 0; r < rows; r += kRows) {
    const size_t n = std::min(rows - r, kRows);
    float* const to = c + r * c_stride;
    // `count` pairs from pair `begin` on.
    const auto multiply = [&](size_t begin, size_t count, size_t row_bytes) HWY_ATTR {
      const bool adds = add || begin != 0;
      const uint8_t* from[kVecs];
      for (size_t v = 0; v < kVecs; ++v) from[v] = w[v] + begin * step;
      const size_t at = r * x_stride + 2 * begin;
      const hwy::bfloat16_t* const a = x[0] + at;
      if constexpr (kTerms == 2) {
        unit.Shape({{n, n}, row_bytes});
        PairTile<2, kVecs>(from, step, count, row_bytes, {a, x[1] + at}, x_stride,
                           {adds, begin != 0}, {to, second}, {c_stride, kWidth});
      } else if (n <= kTileRows) {
        unit.Shape({{n, n}, row_bytes});
        PairTile<1, kVecs>(from, step, count, row_bytes, {a}, x_stride, {adds}, {to}, {c_stride});
      } else {
        unit.Shape({{kTileRows, n - kTileRows}, row_bytes});
        PairTile<2, kVecs>(from, step, count, row_bytes, {a, a + kTileRows * x_stride}, x_stride,
                           {adds, adds}, {to, to + kTileRows * c_stride}, {c_stride, c_stride});
      }
    };
    if (pairs != rest) multiply(0, pairs - rest, step_pairs * 4);
    if (rest != 0) multiply(pairs - rest, rest, rest * 4);
    if constexpr (kTerms == 2) {
      const DF d;
      for (size_t i = 0; i < n * kWidth; i += kLanes) {
        float* sum = to + i / kWidth * c_stride + i % kWidth;
        hn::StoreU(hn::Add(hn::LoadU(d, sum), hn::Load(d, second + i)), d, sum);
      }
    }
  }
}

}  // namespace amx

// `rows` rows times pairs of weights, in tiles of at most kMostRows rows, or in AMX's. See
// PairTile.
template <class Pairs, size_t kMostRows, size_t kVecs, class Input>
HWY_INLINE void MultiplyPairs([[maybe_unused]] amx::Unit& unit, const uint8_t* const (&w)[kVecs],
                              size_t step, size_t pairs, const Input* HWY_RESTRICT x,
                              size_t x_stride, size_t rows, bool add, float* HWY_RESTRICT c,
                              size_t c_stride) {
  if constexpr (kMayHaveAmx && Pairs::kAreBF16 && !std::is_same_v<Input, float>) {
    const hwy::bfloat16_t* const terms[] = {x};
    if (HasAmx()) {
      return amx::PairRows(unit, w, step, pairs, terms, x_stride, rows, add, c, c_stride);
    }
  }
  ForRowTiles<kMostRows, 4, 2, 1>(rows, [&](auto tile_rows, size_t r) HWY_ATTR {
    PairTile<Pairs, tile_rows()>(w, step, pairs, x + r * x_stride, x_stride, add, c + r * c_stride,
                                 c_stride);
  });
}

}  // namespace HWY_NAMESPACE
}  // namespace lapidary
HWY_AFTER_NAMESPACE();

#endif  // include guard
