// Unpacking a stretch of two panels into a scratch, for kernels that pass over it more than once.
#if defined(LAPIDARY_KERNELS_UNPACK_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef LAPIDARY_KERNELS_UNPACK_INL_H_
#undef LAPIDARY_KERNELS_UNPACK_INL_H_
#else
#define LAPIDARY_KERNELS_UNPACK_INL_H_
#endif

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "lapidary/kernels/amx-inl.h"
#include "lapidary/kernels/pair_tile-inl.h"
#include "lapidary/kernels/panel-inl.h"
#include "lapidary/kernels/quantize-inl.h"
#include "lapidary/kernels/simd-inl.h"
#include "lapidary/kernels/tile-inl.h"
#include "lapidary/weights/quant.h"

HWY_BEFORE_NAMESPACE();
namespace lapidary {
namespace HWY_NAMESPACE {

// Inputs unpacked at a time: the codes of a tile column, 32 bytes an input and with AVX2 half of
// that, are no larger than a first-level cache. (256, 512 and 768 are as fast within 1 %, one core
// of Zen 4 with 32 KB.) A multiple of the largest unit, 256.
inline constexpr size_t kBlockInputs = 1024;
// Few rows leave what was unpacked so soon that less of it at a time is better: 16 sessions of the
// 1B in Q4_0 make 352 instead of 309 tokens/s, 32 make 375 instead of 365 (two cores of Zen 5; with
// AVX2 there 8 make 150 instead of 140, 16 make 168 instead of 161).
inline constexpr size_t kFewRows = 32;
inline constexpr size_t kFewRowsInputs = 256;
inline constexpr size_t kFloatBlockInputs = 512;

// Pairs that a thread multiplies by the same rows, one after the other or, with AMX, together:
// every 32 rows of activations are read once for all of them, because no chunk's activations stay
// in the second-level cache once they have more than 2048 inputs (bf16 weights, one core of Emerald
// Rapids: 0.65 TFLOP/s from the third level, 1.6 from the second).
inline constexpr size_t kPairGroup = kMayHaveAmx ? 8 : 2;

// A stretch of a pair of panels, rounded to bf16: tile columns, [pairs, 2 vectors of pairs] each.
using RoundedPair = uint8_t[kTilesPerPair][kFloatBlockInputs / 2 * 2 * kVectorBytes];

// A stretch of a pair of panels, unpacked: kTilesPerPair tile columns, each of two vectors; and
// stretches of a group, rounded.
struct MatMulScratch {
  static constexpr size_t kGroups = kBlockInputs / 16;  // the shortest
  HWY_ALIGN uint8_t codes[kTilesPerPair][kBlockInputs / 4 * 2 * kVectorBytes];
  HWY_ALIGN float scales[kTilesPerPair][kGroups * 2 * kLanes];
  HWY_ALIGN float mins[kTilesPerPair][kGroups * 2 * kLanes];
  HWY_ALIGN RoundedPair rounded[kMayHaveAmx ? kPairGroup : 1];
};

// Where the pairs of a tile column begin, in a panel or rounded.
struct PairColumn {
  const uint8_t* vectors[2];
  size_t step;  // bytes from one pair to the next
};

namespace matmul {

// Unpacks inputs [k0, k0 + inputs) of panel p of a pair, whole units. Codes are unsigned, or signed
// with the zero of their format subtracted.
template <Format kFormat, bool kSigned>
HWY_NOINLINE void UnpackPanel(const PanelPair& panels, size_t p, size_t k0, size_t inputs,
                              MatMulScratch& scratch) {
  constexpr QuantSpec kSpec = SpecOf(kFormat);
  constexpr size_t kSlabs = kSpec.unit_inputs() / kSlabInputs;
  constexpr size_t kMiddleBytes = kSpec.slab_bytes(Plane::kMiddle);
  constexpr size_t kLowBytes = kSpec.slab_bytes(Plane::kLow);
  const DF d;
  const size_t first_unit = k0 / kSpec.unit_inputs();
  const size_t units = inputs / kSpec.unit_inputs();
  for (size_t v = 0; v < kPanelVectors; ++v) {
    const size_t vector = p * kPanelVectors + v;
    uint8_t* HWY_RESTRICT codes = scratch.codes[vector / 2] + vector % 2 * kVectorBytes;
    float* HWY_RESTRICT scales = scratch.scales[vector / 2] + vector % 2 * kLanes;
    float* HWY_RESTRICT mins = scratch.mins[vector / 2] + vector % 2 * kLanes;
    const uint8_t* middle = panels.middles[p] + k0 / kSlabInputs * kMiddleBytes;
    const uint8_t* low = panels.lows[p] + k0 / kSlabInputs * kLowBytes;
    for (size_t u = 0; u < units; ++u) {
      const uint8_t* unit = panels.units[p] + (first_unit + u) * kSpec.unit_bytes();
      if (v == 0) {  // a step of few rows waits for memory here
        PrefetchBytes<kSpec.unit_bytes(), 2>(unit + kUnpackPrefetchBytes);
        PrefetchBytes<kSlabs * kMiddleBytes, 2>(middle + kUnpackPrefetchBytes);
        PrefetchBytes<kSlabs * kLowBytes, 2>(low + kUnpackPrefetchBytes);
      }
      for (size_t g = 0; g < kSpec.unit_groups(); ++g) {
        hn::Store(LoadScales<kFormat>(unit, g, v), d, scales);
        scales += 2 * kLanes;
        if constexpr (kSpec.has_min) {
          hn::Store(LoadMins<kFormat>(unit, g, v), d, mins);
          mins += 2 * kLanes;
        }
      }
      const uint8_t* slab = unit + kSpec.slabs_offset();
      for (size_t s = 0; s < kSlabs; ++s) {
        HWY_UNROLL(8) for (int q = 0; q < static_cast<int>(kSlabQuads); ++q) {
          VU8 code = LoadCodes<kFormat>({slab, middle, low}, q, v);
          if constexpr (kSigned && kSpec.zero != 0) {
            code = hn::Sub(code, hn::Set(DU8(), static_cast<uint8_t>(kSpec.zero)));
          }
          hn::Store(code, DU8(), codes);
          codes += 2 * kVectorBytes;
        }
        slab += kSpec.slab_bytes();
        middle += kMiddleBytes;
        low += kLowBytes;
      }
    }
  }
}

// UnpackPanel of some format.
using UnpackFunction = void (*)(const PanelPair&, size_t p, size_t k0, size_t inputs,
                                MatMulScratch&);

HWY_INLINE void UnpackPair(UnpackFunction unpack, const PanelPair& panels, size_t k0, size_t inputs,
                           MatMulScratch& scratch) {
  for (size_t p = 0; p < 2; ++p) unpack(panels, p, k0, inputs, scratch);
}

// Rounds inputs [k0, k0 + 2 * pairs) of a pair of panels of f16 to bf16.
HWY_NOINLINE inline void RoundHalves(const PanelPair& panels, size_t k0, size_t pairs,
                                     RoundedPair& rounded) {
  constexpr size_t kUnitBytes = SpecOf(Format::kF16).unit_bytes();
  for (size_t v = 0; v < 2 * kPanelVectors; ++v) {
    const uint8_t* from =
        panels.units[v / kPanelVectors] + k0 / 2 * kUnitBytes + v % kPanelVectors * kVectorBytes;
    uint8_t* HWY_RESTRICT to = rounded[v / 2] + v % 2 * kVectorBytes;
    for (size_t i = 0; i < pairs; ++i) {
      hn::Store(RoundHalfPairs(from), DBF16(), reinterpret_cast<hwy::bfloat16_t*>(to));
      from += kUnitBytes;
      to += 2 * kVectorBytes;
    }
  }
}

// Rounds to bf16 what UnpackPair made of `inputs` inputs of a quantised format.
HWY_NOINLINE inline void RoundUnpacked(const QuantSpec& spec, const MatMulScratch& scratch,
                                       size_t inputs, RoundedPair& rounded) {
  const DF d;
  const size_t quads = static_cast<size_t>(spec.group) / 4;
  const VF zero = hn::Set(d, static_cast<float>(-spec.zero));
  for (size_t vector = 0; vector < 2 * kPanelVectors; ++vector) {
    const size_t t = vector / 2;
    const size_t v = vector % 2;
    const uint8_t* HWY_RESTRICT codes = scratch.codes[t] + v * kVectorBytes;
    uint8_t* HWY_RESTRICT to = rounded[t] + v * kVectorBytes;
    for (size_t g = 0; g < inputs / static_cast<size_t>(spec.group); ++g) {
      const size_t at = (g * 2 + v) * kLanes;
      const VF scale = hn::Load(d, scratch.scales[t] + at);
      VF start = hn::Mul(scale, zero);
      if (spec.has_min) start = hn::Sub(start, hn::Load(d, scratch.mins[t] + at));
      for (size_t q = 0; q < quads; ++q) {
        RoundQuad(hn::Load(DU8(), codes), scale, start, to);
        codes += 2 * kVectorBytes;
        to += 4 * kVectorBytes;
      }
    }
  }
}

// Tile column t of a pair of panels of floats, from input k0 on.
HWY_INLINE PairColumn ColumnOfPanels(const PanelPair& panels, size_t k0, size_t t) {
  const size_t unit_bytes = SpecOf(panels.format).unit_bytes();
  PairColumn column = {{}, unit_bytes};
  for (size_t v = 0; v < 2; ++v) {
    const size_t vector = t * 2 + v;
    column.vectors[v] = panels.units[vector / kPanelVectors] + k0 / 2 * unit_bytes +
                        vector % kPanelVectors * kVectorBytes;
  }
  return column;
}

HWY_INLINE PairColumn ColumnOf(const RoundedPair& rounded, size_t t) {
  return {{rounded[t], rounded[t] + kVectorBytes}, 2 * kVectorBytes};
}

// One row of a matrix of floats, as f32.
template <Format kFormat>
HWY_NOINLINE void UnpackFloatRow(const PackedMatrix& w, size_t row, float* HWY_RESTRICT out) {
  const DF d;
  const size_t v = row % kPanelRows / kLanes;
  HWY_ALIGN float even[kLanes];
  HWY_ALIGN float odd[kLanes];
  const uint8_t* from = w.panel(row / kPanelRows) + v * kVectorBytes;
  for (size_t k = 0; k < w.cols; k += 2, from += SpecOf(kFormat).unit_bytes()) {
    // A lane is 4 bytes wide in either case: one value, or a pair of halves.
    const FloatPair pair = LoadPair<kFormat>(from);
    hn::Store(pair.even, d, even);
    hn::Store(pair.odd, d, odd);
    out[k] = even[row % kLanes];
    if (k + 1 < w.cols) out[k + 1] = odd[row % kLanes];
  }
}

// The same for a quantised one. Unpacks the 15 rows beside it too, which saves a second way of
// reading every format.
HWY_NOINLINE inline void UnpackQuantRow(UnpackFunction unpack, const PackedMatrix& w, size_t row,
                                        MatMulScratch& scratch, float* HWY_RESTRICT out) {
  const QuantSpec& spec = SpecOf(w.format);
  const PanelRef panel = {w, row / kPanelRows};
  const size_t vector = row % kPanelRows / kLanes;
  const size_t lane = vector % 2 * kLanes + row % kLanes;
  const auto group = static_cast<size_t>(spec.group);
  for (size_t k0 = 0; k0 < w.cols; k0 += kBlockInputs) {
    unpack({panel, panel}, 0, k0, std::min(kBlockInputs, spec.padded_cols(w.cols) - k0), scratch);
    const uint8_t* HWY_RESTRICT codes = scratch.codes[vector / 2] + lane * 4;
    const float* HWY_RESTRICT scale = scratch.scales[vector / 2] + lane;
    const float* HWY_RESTRICT min = scratch.mins[vector / 2] + lane;
    const size_t end = std::min(k0 + kBlockInputs, w.cols);
    for (size_t k = k0; k < end; k += group) {
      for (size_t i = 0; i < std::min(group, end - k); ++i) {
        const int code = codes[i / 4 * 2 * kVectorBytes + i % 4] - spec.zero;
        const float value = *scale * static_cast<float>(code);
        out[k + i] = spec.has_min ? value - *min : value;
      }
      codes += group / 4 * 2 * kVectorBytes;
      scale += kTileOutputs;
      min += kTileOutputs;
    }
  }
}

}  // namespace matmul

// One row of a packed matrix as f32, [w.cols]: an embedding lookup.
HWY_INLINE void UnpackRow(const PackedMatrix& w, size_t row, MatMulScratch& scratch,
                          float* HWY_RESTRICT out) {
  WithFormat(w.format, [&]<Format kFormat>() HWY_ATTR {
    if constexpr (SpecOf(kFormat).is_float()) {
      matmul::UnpackFloatRow<kFormat>(w, row, out);
    } else {
      matmul::UnpackQuantRow(&matmul::UnpackPanel<kFormat, false>, w, row, scratch, out);
    }
  });
}

}  // namespace HWY_NAMESPACE
}  // namespace lapidary
HWY_AFTER_NAMESPACE();

#endif  // include guard
