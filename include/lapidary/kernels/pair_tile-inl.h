// The register tile of float weights, and of keys and values in attention: pairs of consecutive
// inputs times f32 or, where the CPU multiplies them, bf16.
#if defined(LAPIDARY_KERNELS_PAIR_TILE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef LAPIDARY_KERNELS_PAIR_TILE_INL_H_
#undef LAPIDARY_KERNELS_PAIR_TILE_INL_H_
#else
#define LAPIDARY_KERNELS_PAIR_TILE_INL_H_
#endif

#include <cstddef>
#include <cstdint>
#include <type_traits>

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

// Two consecutive inputs in every lane.
struct BroadcastFloats {
  VF even, odd;
};
HWY_INLINE BroadcastFloats BroadcastPair(const float* x) {
  return {hn::Set(DF(), x[0]), hn::Set(DF(), x[1])};
}
HWY_INLINE hn::Vec<DBF16> BroadcastPair(const hwy::bfloat16_t* x) {
  return hn::BitCast(DBF16(), Broadcast32(x));
}

// What PairTile multiplies with: pairs of consecutive inputs of kLanes rows, loaded as floats or,
// for bf16 dot products, as pairs of bf16.
template <Format kFormat>
struct WeightPairs {
  static HWY_INLINE FloatPair Floats(const uint8_t* p) { return LoadPair<kFormat>(p); }
  static HWY_INLINE hn::Vec<DBF16> Brains(const uint8_t* p) {
    static_assert(kFormat == Format::kBF16);
    return hn::LoadU(DBF16(), reinterpret_cast<const hwy::bfloat16_t*>(p));
  }
};
// Bytes of the KV cache; their scales are applied elsewhere. A byte is exact in bf16.
struct BytePairs {
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
HWY_INLINE hn::Vec<DBF16> RoundHalves(const uint8_t* HWY_RESTRICT p) {
  const hn::Repartition<hwy::float16_t, DF> dh;
  const auto halves = hn::LoadU(dh, reinterpret_cast<const hwy::float16_t*>(p));
  return hn::OrderedDemote2To(DBF16(), hn::PromoteLowerTo(DF(), halves),
                              hn::PromoteUpperTo(DF(), halves));
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
      HWY_UNROLL(2) for (size_t v = 0; v < kVecs; ++v) weights[v] = Pairs::Floats(w[v] + i * step);
      HWY_UNROLL(16) for (size_t r = 0; r < kRows; ++r) {
        const VF even = hn::Set(d, x[r * x_stride + 2 * i]);
        HWY_UNROLL(2) for (size_t v = 0; v < kVecs; ++v) {
          acc[r][v] = hn::MulAdd(weights[v].even, even, acc[r][v]);
          KeepInRegister(acc[r][v]);
        }
      }
      HWY_UNROLL(16) for (size_t r = 0; r < kRows; ++r) {
        const VF odd = hn::Set(d, x[r * x_stride + 2 * i + 1]);
        HWY_UNROLL(2) for (size_t v = 0; v < kVecs; ++v) {
          acc[r][v] = hn::MulAdd(weights[v].odd, odd, acc[r][v]);
          KeepInRegister(acc[r][v]);
        }
      }
    } else {
      hn::Vec<DBF16> weights[kVecs];
      HWY_UNROLL(2) for (size_t v = 0; v < kVecs; ++v) weights[v] = Pairs::Brains(w[v] + i * step);
      HWY_UNROLL(32) for (size_t r = 0; r < kRows; ++r) {
        const auto both = BroadcastPair(x + r * x_stride + 2 * i);
        VF unused = hn::Zero(d);
        HWY_UNROLL(2) for (size_t v = 0; v < kVecs; ++v) {
          acc[r][v] = hn::ReorderWidenMulAccumulate(d, weights[v], both, acc[r][v], unused);
        }
      }
    }
  }
  HWY_UNROLL(32) for (size_t r = 0; r < kRows; ++r) {
    HWY_UNROLL(2) for (size_t v = 0; v < kVecs; ++v) {
      float* to = c + r * c_stride + v * kLanes;
      hn::StoreU(add ? hn::Add(hn::LoadU(d, to), acc[r][v]) : acc[r][v], d, to);
    }
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace lapidary
HWY_AFTER_NAMESPACE();

#endif  // include guard
