// Quantised weights times 16-bit activations in AMX registers: the integers of a group are summed
// in a tile, 16 rows by 16 outputs, and then scaled by vectors as these scale their own sums. The
// results are the same to the bit.
#if defined(LAPIDARY_KERNELS_AMX_QUANT_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef LAPIDARY_KERNELS_AMX_QUANT_INL_H_
#undef LAPIDARY_KERNELS_AMX_QUANT_INL_H_
#else
#define LAPIDARY_KERNELS_AMX_QUANT_INL_H_
#endif

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "lapidary/kernels/amx-inl.h"
#include "lapidary/kernels/group_dot-inl.h"
#include "lapidary/kernels/quantize-inl.h"
#include "lapidary/kernels/simd-inl.h"
#include "lapidary/kernels/tile-inl.h"

HWY_BEFORE_NAMESPACE();
namespace lapidary {
namespace HWY_NAMESPACE {
namespace amx {

// Whether that is faster than vectors: where a group is large, and sums need no minima (prefill in
// kExact of 1B Q4_0 1.15 to 1.4 times, four runs in alternation; with minima 0.95 times, with
// groups of 16 0.7 to 0.9; Emerald Rapids).
constexpr bool SuitsTiles(const matmul::GroupTraits& traits) {
  return traits.form == kFormPlanes && traits.group == 32 && !traits.has_min;
}

// kTileRows rows times vector v of a tile column, the codes signed: rows from `skip` on are added
// to c[kTileRows][16] (or stored, if k0 is 0); rows of c are kPairOutputs apart.
template <matmul::GroupTraits kTraits>
HWY_NOINLINE void QuantTile(const TileColumn& w, size_t v, const Activations& x, size_t row,
                            size_t skip, float* HWY_RESTRICT c) {
  constexpr size_t kGroup = kTraits.group;
  static_assert(SuitsTiles(kTraits) && kGroup == kActivationGroup);
  const DF d;
  const DI32 di;
  const uint8_t* HWY_RESTRICT codes = w.codes + v * kVectorBytes;
  const float* HWY_RESTRICT scales = w.scales + v * kLanes;
  HWY_ALIGN int32_t sums[2][kTileRows * kOutputs];
  VF acc[kTileRows];
  HWY_UNROLL(16) for (size_t r = 0; r < kTileRows; ++r) {
    acc[r] = w.k0 == 0 ? hn::Zero(d) : hn::Load(d, c + r * kPairOutputs);
  }
  const PlaneGroup* HWY_RESTRICT group = GroupAt<kFormPlanes>(x, row, w.k0);
  const size_t row_bytes = x.group_stride * sizeof(PlaneGroup);
  for (size_t k = 0; k < w.inputs; k += kGroup, ++group) {
    Load<kB>(codes, 2 * kVectorBytes);
    Load<kA>(group->high, row_bytes);
    Zero<0>();
    MultiplyBytes<0, kA, kB>();
    Load<kA + 1>(group->low, row_bytes);
    Zero<2>();
    MultiplyBytes<2, kA + 1, kB>();
    Store<0>(sums[0], kTileBytes);
    Store<2>(sums[1], kTileBytes);
    const VF scale = hn::Load(d, scales);
    HWY_UNROLL(16) for (size_t r = 0; r < kTileRows; ++r) {
      const VI32 high = hn::ShiftLeft<8>(hn::Load(di, sums[0] + r * kOutputs));
      const VI32 sum = hn::Add(high, hn::Load(di, sums[1] + r * kOutputs));
      matmul::AddScaled(sum, scale, group[r * x.group_stride].factors.scale, acc[r]);
    }
    codes += kGroup / 4 * 2 * kVectorBytes;
    scales += kTileOutputs;
  }
  HWY_UNROLL(16) for (size_t r = 0; r < kTileRows; ++r) {
    if (r >= skip) hn::Store(acc[r], d, c + r * kPairOutputs);
  }
}

// `rows` >= kTileRows rows times a tile column. What is left of whole tiles makes one with rows
// that are done already.
template <matmul::GroupTraits kTraits>
HWY_NOINLINE void QuantColumn(const TileColumn& w, const Activations& x, size_t row, size_t rows,
                              float* HWY_RESTRICT c) {
  Unit unit;
  unit.Shape({{kTileRows, kTileRows}, kTraits.group});
  for (size_t next = 0; next < rows; next += kTileRows) {
    const size_t r = std::min(next, rows - kTileRows);
    for (size_t v = 0; v < 2; ++v) {
      QuantTile<kTraits>(w, v, x, row + r, next - r, c + r * kPairOutputs + v * kLanes);
    }
  }
}

}  // namespace amx
}  // namespace HWY_NAMESPACE
}  // namespace lapidary
HWY_AFTER_NAMESPACE();

#endif  // include guard
