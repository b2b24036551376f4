// Activations times packed weights.
//
// The unit of work is a pair of panels, 32 outputs, times some rows of activations; threads divide
// the pairs among them. One row (decode) reads the panels in place: the time is that of reading
// memory. With AVX-512 so do more rows, four at a time (see InPlaceRows). Otherwise many rows
// (prefill) unpack a stretch of the pair once into an L1-sized scratch and pass over it with
// register tiles of kTileRows rows by two vectors of outputs.
//
// Every output is summed in one order, whatever the tile, the block, the thread or the vector
// width: exact integers within a group of 16 or 32 inputs, then f32 over the groups from first to
// last. Results therefore do not depend on how a prompt is cut into chunks.
#if defined(LAPIDARY_KERNELS_MATMUL_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef LAPIDARY_KERNELS_MATMUL_INL_H_
#undef LAPIDARY_KERNELS_MATMUL_INL_H_
#else
#define LAPIDARY_KERNELS_MATMUL_INL_H_
#endif

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>

#include "lapidary/config/precision.h"
#include "lapidary/kernels/amx_quant-inl.h"
#include "lapidary/kernels/group_dot-inl.h"
#include "lapidary/kernels/pair_tile-inl.h"
#include "lapidary/kernels/panel-inl.h"
#include "lapidary/kernels/quantize-inl.h"
#include "lapidary/kernels/simd-inl.h"
#include "lapidary/kernels/tile-inl.h"
#include "lapidary/kernels/unpack-inl.h"
#include "lapidary/weights/quant.h"

HWY_BEFORE_NAMESPACE();
namespace lapidary {
namespace HWY_NAMESPACE {

// Steps of so few rows use the kExact form of activations, whatever precision was asked for. Up to
// 4 wait for memory, not for arithmetic. AMX's kFast unpacks and rounds all weights, which takes as
// long as the products of 100 rows (see kRowBlock): up to 16 are sooner done in place.
inline size_t RowsAlwaysExact() { return kMayHaveAmx && HasAmx() ? 16 : 4; }

namespace matmul {

// kRows rows times a tile column, added to c[kRows][kTileOutputs] (or stored, if k0 is 0); rows of
// c are kPairOutputs apart.
template <GroupTraits kTraits, size_t kRows>
HWY_NOINLINE void QuantTile(TileColumn w, const Activations& x, size_t row, float* HWY_RESTRICT c) {
  const DF d;
  VF acc[kRows][2];
  HWY_UNROLL(8) for (size_t r = 0; r < kRows; ++r) {
    HWY_UNROLL(8) for (size_t v = 0; v < 2; ++v) {
      acc[r][v] = w.k0 == 0 ? hn::Zero(d) : hn::Load(d, c + r * kPairOutputs + v * kLanes);
    }
  }
  const auto* HWY_RESTRICT group = GroupAt<kTraits.form>(x, row, w.k0);
  for (size_t k = 0; k < w.inputs; k += kActivationGroup, ++group) {
    HWY_UNROLL(2) for (size_t first = 0; first < kActivationGroup; first += kTraits.group) {
      AddGroup<kTraits>(ScratchWeights{w.codes, w.scales, w.mins}, w.zero, group, x.group_stride,
                        first, acc);
      w.codes += kTraits.group / 4 * 2 * kVectorBytes;
      w.scales += kTileOutputs;
      w.mins += kTileOutputs;
    }
  }
  HWY_UNROLL(8) for (size_t r = 0; r < kRows; ++r) {
    HWY_UNROLL(8) for (size_t v = 0; v < 2; ++v) {
      hn::Store(acc[r][v], d, c + r * kPairOutputs + v * kLanes);
    }
  }
}

// kRows rows times a pair of panels, read in place: c[kRows][kPairOutputs]. Both panels at once,
// because two streams of reads keep the memory busier than one. `cols` is panels.cols, or a
// constant of the compiler.
template <Format kFormat, size_t kRows, Precision kPrecision = Precision::kExact, class Cols>
HWY_NOINLINE void QuantRows(const PanelPair& panels, Cols cols, const Activations& x, size_t row,
                            float* HWY_RESTRICT c) {
  constexpr QuantSpec kSpec = SpecOf(kFormat);
  constexpr size_t kGroupsPerSlab = kSlabInputs / kSpec.group;
  constexpr size_t kMiddleBytes = kSpec.slab_bytes(Plane::kMiddle);
  constexpr size_t kLowBytes = kSpec.slab_bytes(Plane::kLow);
  constexpr size_t kVectors = 2 * kPanelVectors;
  constexpr GroupTraits kTraits = TraitsOf(kSpec, kPrecision, kRows);
  const DF d;
  VF acc[kRows][kVectors];
  SetZero(acc);
  const uint8_t* units[2] = {panels.units[0], panels.units[1]};
  const uint8_t* middles[2] = {panels.middles[0], panels.middles[1]};
  const uint8_t* lows[2] = {panels.lows[0], panels.lows[1]};
  const auto* HWY_RESTRICT x_group = GroupAt<kTraits.form>(x, row, 0);
  for (size_t k = 0; k < cols; k += kSpec.unit_inputs()) {
    PrefetchWeights<kFormat, kRows, kSpec.slabs_offset()>(units[0] + panels.units_ahead[0]);
    PrefetchWeights<kFormat, kRows, kSpec.slabs_offset()>(units[1] + panels.units_ahead[1]);
    for (size_t s = 0; s < kSpec.unit_inputs() / kSlabInputs; ++s) {
      const size_t slab = kSpec.slabs_offset() + s * kSpec.slab_bytes();
      const Slab slabs[2] = {{units[0] + slab, middles[0], lows[0]},
                             {units[1] + slab, middles[1], lows[1]}};
      HWY_UNROLL(2) for (size_t p = 0; p < 2; ++p) {
        PrefetchWeights<kFormat, kRows, kSpec.slab_bytes()>(slabs[p].units + panels.units_ahead[p]);
        PrefetchWeights<kFormat, kRows, kMiddleBytes>(middles[p] + panels.middles_ahead[p]);
        PrefetchWeights<kFormat, kRows, kLowBytes>(lows[p] + panels.lows_ahead[p]);
      }
      HWY_UNROLL(2) for (size_t g = 0; g < kGroupsPerSlab; ++g) {
        const PanelWeights<kFormat> weights = {{units[0], units[1]},
                                               {slabs[0], slabs[1]},
                                               s * kGroupsPerSlab + g,
                                               static_cast<int>(g) * kSpec.group / 4};
        AddGroup<kTraits>(weights, kSpec.zero, x_group, x.group_stride, g * kSpec.group, acc);
      }
      ++x_group;
      HWY_UNROLL(2) for (size_t p = 0; p < 2; ++p) {
        middles[p] += kMiddleBytes;
        lows[p] += kLowBytes;
      }
    }
    units[0] += kSpec.unit_bytes();
    units[1] += kSpec.unit_bytes();
  }
  HWY_UNROLL(4) for (size_t r = 0; r < kRows; ++r) {
    HWY_UNROLL(8) for (size_t v = 0; v < kVectors; ++v) {
      hn::Store(acc[r][v], d, c + r * kPairOutputs + v * kLanes);
    }
  }
}

// `rows` rows times a group of pairs of panels, read in place for every tile of them. In kFast
// there are at least kInPlaceTileRows, and no kernel of one row: the last tile may do again what
// the one before did.
template <Format kFormat, Precision kPrecision>
HWY_INLINE void QuantGroupInPlace(std::span<const PanelPair> group, const Activations& x,
                                  size_t row0, size_t rows, float* HWY_RESTRICT c) {
  constexpr size_t kTile = std::min(InPlaceRows(kFormat, kPrecision), kInPlaceTileRows);
  for (const PanelPair& panels : group) {
    const auto tile = [&](auto tile_rows, size_t r) HWY_ATTR {
      QuantRows<kFormat, tile_rows(), kPrecision>(panels, panels.cols, x, row0 + r,
                                                  c + r * kPairOutputs);
    };
    if constexpr (kPrecision == Precision::kExact) {
      ForRowTiles<kTile, 1>(rows, tile);
    } else {
      for (size_t r = 0; r < rows; r += kTile) {
        tile(std::integral_constant<size_t, kTile>(), std::min(r, rows - kTile));
      }
    }
    c += rows * kPairOutputs;
  }
}

// Length of the stretches in which `cols` inputs are unpacked: equal ones, so that the last is no
// stub.
HWY_INLINE size_t BlockLength(size_t cols, size_t most) {
  const size_t blocks = (cols + most - 1) / most;
  return ((cols + blocks - 1) / blocks + 255) / 256 * 256;
}

// `rows` rows times a tile column; see QuantTile.
template <GroupTraits kTraits>
HWY_NOINLINE void QuantColumn(const TileColumn& w, const Activations& x, size_t row0, size_t rows,
                              float* HWY_RESTRICT c) {
  ForRowTiles<kTileRows, kRestTileRows, 1>(rows, [&](auto tile_rows, size_t r) HWY_ATTR {
    QuantTile<kTraits, tile_rows()>(w, x, row0 + r, c + r * kPairOutputs);
  });
}

// What a format brings to QuantPair, whose loops are the same for all.
struct QuantKernels {
  UnpackFunction unpack;
  void (*multiply)(const TileColumn&, const Activations&, size_t row0, size_t rows, float* c);
  int32_t zero;
};

// Many rows times a group of pairs of panels, one stretch of inputs after the other: that of the
// activations is read once from the third-level cache for all pairs.
HWY_NOINLINE inline void QuantGroup(const QuantKernels& kernels, std::span<const PanelPair> group,
                                    const Activations& x, size_t row0, size_t rows,
                                    MatMulScratch& scratch, float* HWY_RESTRICT c) {
  const size_t block = BlockLength(x.inputs(), rows <= kFewRows ? kFewRowsInputs : kBlockInputs);
  for (size_t k0 = 0; k0 < x.inputs(); k0 += block) {
    const size_t inputs = std::min(block, x.inputs() - k0);
    for (size_t i = 0; i < group.size(); ++i) {
      UnpackPair(kernels.unpack, group[i], k0, inputs, scratch);
      for (size_t t = 0; t < kTilesPerPair; ++t) {
        const TileColumn column = {scratch.codes[t], scratch.scales[t], scratch.mins[t], k0,
                                   inputs,           kernels.zero};
        kernels.multiply(column, x, row0, rows, c + i * rows * kPairOutputs + t * kTileOutputs);
      }
    }
  }
}

// One row times a pair of panels of float weights, read in place: c[kPairOutputs]. Sums in the
// order of FloatGroup.
template <Format kFormat, size_t kTerms, class Input>
HWY_NOINLINE void FloatRow(const uint8_t* const (&panels)[2], size_t cols,
                           const Input* const (&x)[kTerms], float* HWY_RESTRICT c) {
  constexpr size_t kUnitBytes = SpecOf(kFormat).unit_bytes();
  constexpr size_t kVectors = 2 * kPanelVectors;
  const DF d;
  VF acc[kVectors];
  HWY_UNROLL(8) for (size_t v = 0; v < kVectors; ++v) acc[v] = hn::Zero(d);
  const uint8_t* units[2] = {panels[0], panels[1]};
  for (size_t k0 = 0; k0 < cols; k0 += kFloatBlockInputs) {
    VF sums[kTerms][kVectors];
    SetZero(sums);
    for (size_t k = k0; k < std::min(k0 + kFloatBlockInputs, cols); k += 2) {
      PrefetchWeights<kFormat, 1, kUnitBytes>(units[0] + kPrefetchBytes);
      PrefetchWeights<kFormat, 1, kUnitBytes>(units[1] + kPrefetchBytes);
      HWY_UNROLL(2) for (size_t t = 0; t < kTerms; ++t) {
        const auto pair = BroadcastPair(x[t] + k);
        HWY_UNROLL(8) for (size_t v = 0; v < kVectors; ++v) {
          AddPair<WeightPairs<kFormat>>(units[v / kPanelVectors] + v % kPanelVectors * kVectorBytes,
                                        pair, sums[t][v]);
        }
      }
      units[0] += kUnitBytes;
      units[1] += kUnitBytes;
    }
    HWY_UNROLL(2) for (size_t t = 0; t < kTerms; ++t) {
      HWY_UNROLL(8) for (size_t v = 0; v < kVectors; ++v) acc[v] = hn::Add(acc[v], sums[t][v]);
    }
  }
  HWY_UNROLL(8) for (size_t v = 0; v < kVectors; ++v) hn::Store(acc[v], d, c + v * kLanes);
}

// Some rows times a group of pairs of panels of float weights: c[group][rows][kPairOutputs]. The
// activations are the sum of kTerms terms, [rows, stride] each. Weights in f16 are rounded to bf16
// if those are bf16. See QuantGroup for the order.
template <Format kFormat, size_t kTerms, class Input>
HWY_NOINLINE void FloatGroup(std::span<const PanelPair> group, const Input* const (&x)[kTerms],
                             size_t stride, size_t rows, MatMulScratch& scratch,
                             float* HWY_RESTRICT c) {
  constexpr bool kRounds = !std::is_same_v<Input, float> && kFormat == Format::kF16;
  using Pairs = WeightPairs<kRounds ? Format::kBF16 : kFormat>;
  const size_t cols = group[0].cols;
  if constexpr (!kRounds) {
    if (rows == 1) {
      for (size_t i = 0; i < group.size(); ++i) {
        FloatRow<kFormat>(group[i].units, cols, x, c + i * kPairOutputs);
      }
      return;
    }
  }
  for (size_t k0 = 0; k0 < cols; k0 += kFloatBlockInputs) {
    const size_t pairs = (std::min(kFloatBlockInputs, cols - k0) + 1) / 2;
    for (size_t i = 0; i < group.size(); ++i) {
      if constexpr (kRounds) RoundHalves(group[i], k0, pairs, scratch.rounded[0]);
      for (size_t t = 0; t < kTilesPerPair; ++t) {
        const PairColumn w =
            kRounds ? ColumnOf(scratch.rounded[0], t) : ColumnOfPanels(group[i], k0, t);
        ForRowTiles<kFloatTileRows, 4, 2, 1>(rows, [&](auto tile_rows, size_t r) HWY_ATTR {
          float* const to = c + (i * rows + r) * kPairOutputs + t * kTileOutputs;
          for (const Input* const& term : x) {
            PairTile<Pairs, tile_rows()>(w.vectors, w.step, pairs, term + r * stride + k0, stride,
                                         k0 != 0 || &term != x, to, kPairOutputs);
          }
        });
      }
    }
  }
}

// Some rows in bf16 times a group of pairs of panels, in AMX registers; the panels are bf16 or are
// rounded to it. The activations are the sum of kTerms terms, [rows, stride] each.
template <size_t kTerms>
HWY_NOINLINE void BF16Group(std::span<const PanelPair> group,
                            const hwy::bfloat16_t* const (&x)[kTerms], size_t stride, size_t rows,
                            MatMulScratch& scratch, float* HWY_RESTRICT c) {
  constexpr size_t kRows = 2 * amx::kTileRows;
  amx::Unit unit;
  const size_t cols = group[0].cols;
  for (size_t k0 = 0; k0 < cols; k0 += kFloatBlockInputs) {
    const size_t pairs = (std::min(kFloatBlockInputs, cols - k0) + 1) / 2;
    PairColumn columns[kPairGroup];
    for (size_t i = 0; i < group.size(); ++i) {
      const PanelPair& panels = group[i];
      if (panels.format == Format::kF16) {
        RoundHalves(panels, k0, pairs, scratch.rounded[i]);
      } else if (panels.format != Format::kBF16) {
        const size_t inputs = std::min(kFloatBlockInputs, PadActivations(cols) - k0);
        WithFormat(panels.format, [&]<Format kFormat>() HWY_ATTR {
          if constexpr (!SpecOf(kFormat).is_float()) {
            UnpackPair(&UnpackPanel<kFormat, false>, panels, k0, inputs, scratch);
          }
        });
        RoundUnpacked(SpecOf(panels.format), scratch, inputs, scratch.rounded[i]);
      }
      columns[i] = panels.format == Format::kBF16 ? ColumnOfPanels(panels, k0, 0)
                                                  : ColumnOf(scratch.rounded[i], 0);
    }
    for (size_t r = 0; r < rows; r += kRows) {
      const hwy::bfloat16_t* terms[kTerms];
      for (size_t t = 0; t < kTerms; ++t) terms[t] = x[t] + r * stride + k0;
      for (size_t i = 0; i < group.size(); ++i) {
        amx::PairRows(unit, columns[i].vectors, columns[i].step, pairs, terms, stride,
                      std::min(rows - r, kRows), k0 != 0, c + (i * rows + r) * kPairOutputs,
                      kPairOutputs);
      }
    }
  }
}

// MatMulGroup of pairs of one format, without AMX's tiles of bf16.
template <bool kAmx = kMayHaveAmx>
HWY_NOINLINE void MatMulAlike(std::span<const PanelPair> group, const Activations& x, size_t row0,
                              size_t rows, Precision precision, MatMulScratch& scratch,
                              float* HWY_RESTRICT c) {
  WithFormat(group[0].format, [&]<Format kFormat>() HWY_ATTR {
    constexpr QuantSpec kSpec = SpecOf(kFormat);
    if constexpr (kSpec.is_float()) {
      const size_t at = row0 * x.stride;
      const auto multiply = [&](const auto& terms) HWY_ATTR {
        FloatGroup<kFormat>(group, terms, x.stride, rows, scratch, c);
      };
      if constexpr (kHasBF16Dot && kFormat != Format::kF32) {
        const hwy::bfloat16_t* const terms[] = {x.bf16 + at, x.bf16_low + at};
        const hwy::bfloat16_t* const rounded[] = {terms[0]};
        if (precision == Precision::kFast) return multiply(rounded);
        if constexpr (kFormat == Format::kBF16) return multiply(terms);
      }
      if constexpr (!kHasBF16Dot || kFormat != Format::kBF16) {
        const float* const terms[] = {x.f32 + at};
        multiply(terms);
      }
    } else {
      constexpr size_t kFew = InPlaceRows(kFormat, Precision::kExact);
      constexpr size_t kMany = kFew == kAllRows ? kFew : kFew + 1;
      constexpr GroupTraits kTraits = TraitsOf(kSpec, Precision::kExact, kMany);
      bool amx_tiles = false;
      if constexpr (kAmx && amx::SuitsTiles(kTraits)) {
        amx_tiles = precision == Precision::kExact && rows >= amx::kTileRows && HasAmx();
      }
      if (precision == Precision::kExact && rows <= kFew && !amx_tiles) {
        return QuantGroupInPlace<kFormat, Precision::kExact>(group, x, row0, rows, c);
      }
      if constexpr (InPlaceRows(kFormat, Precision::kFast) != 0) {
        if (precision == Precision::kFast && rows >= kInPlaceTileRows &&
            rows <= InPlaceRows(kFormat, Precision::kFast)) {
          return QuantGroupInPlace<kFormat, Precision::kFast>(group, x, row0, rows, c);
        }
      }
      QuantKernels kernels = {&UnpackPanel<kFormat, false>,
                              &QuantColumn<TraitsOf(kSpec, Precision::kFast, kMany)>, kSpec.zero};
      if constexpr (kFew != kAllRows) {
        if (precision == Precision::kExact) kernels.multiply = &QuantColumn<kTraits>;
      }
      if constexpr (kAmx && amx::SuitsTiles(kTraits)) {
        if (amx_tiles) {
          kernels = {&UnpackPanel<kFormat, true>, &amx::QuantColumn<kTraits>, kSpec.zero};
        }
      }
      QuantGroup(kernels, group, x, row0, rows, scratch, c);
    }
  });
}

}  // namespace matmul

// c[group][rows][32] = x[row0 .. row0 + rows) times the outputs of at most kPairGroup pairs, 16 of
// each panel, in f32. Outputs beyond the rows of a matrix hold values of no meaning. x must have
// the forms FormFor(format, precision, rows) of all formats of the group. (A template, so that a
// target without AMX need not compile what is not for it.)
template <bool kAmx = kMayHaveAmx>
HWY_INLINE void MatMulGroup(std::span<const PanelPair> group, const Activations& x, size_t row0,
                            size_t rows, Precision precision, MatMulScratch& scratch,
                            float* HWY_RESTRICT c) {
  size_t count = 0;
  for (size_t i = 0; i < group.size(); i += count, c += count * rows * kPairOutputs) {
    // How many pairs from i on are like it.
    const auto count_alike = [&](const auto& is_like) HWY_ATTR {
      for (count = 1; i + count < group.size() && is_like(group[i + count].format); ++count) {
      }
      return group.subspan(i, count);
    };
    if constexpr (kAmx) {
      const auto in_bf16 = [&](Format format) {
        return FormFor(format, precision, rows) == kFormBF16;
      };
      if (HasAmx() && in_bf16(group[i].format)) {
        const auto alike = count_alike(in_bf16);
        const size_t at = row0 * x.stride;
        const hwy::bfloat16_t* const terms[] = {x.bf16 + at, x.bf16_low + at};
        const hwy::bfloat16_t* const rounded[] = {terms[0]};
        if (precision == Precision::kFast) {
          matmul::BF16Group(alike, rounded, x.stride, rows, scratch, c);
        } else {
          matmul::BF16Group(alike, terms, x.stride, rows, scratch, c);
        }
        continue;
      }
    }
    const auto alike = count_alike([&](Format format) { return format == group[i].format; });
    matmul::MatMulAlike(alike, x, row0, rows, precision, scratch, c);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace lapidary
HWY_AFTER_NAMESPACE();

#endif  // include guard
