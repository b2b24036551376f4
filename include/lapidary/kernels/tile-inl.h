// What register tiles share: their sizes, the pairs of panels that they pass over, and how rows are
// cut into tiles.
#if defined(LAPIDARY_KERNELS_TILE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef LAPIDARY_KERNELS_TILE_INL_H_
#undef LAPIDARY_KERNELS_TILE_INL_H_
#else
#define LAPIDARY_KERNELS_TILE_INL_H_
#endif

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <type_traits>

#include "lapidary/config/precision.h"
#include "lapidary/kernels/panel-inl.h"
#include "lapidary/kernels/simd-inl.h"
#include "lapidary/weights/quant.h"

HWY_BEFORE_NAMESPACE();
namespace lapidary {
namespace HWY_NAMESPACE {

inline constexpr size_t kPairOutputs = 2 * kPanelRows;
inline constexpr size_t kTileOutputs = 2 * kLanes;
inline constexpr size_t kTilesPerPair = kPairOutputs / kTileOutputs;

// Rows of a register tile. 16 registers: 4 rows x 2 vectors of integer sums leave room for the
// weights and a broadcast; 32 registers hold 6 x 2 sums of integers and of floats. What is left
// over, or all of a small step, goes two by two; with 32 registers small steps read weights in
// place, and tiles of one row do (512 tokens take no longer; the first program compiles in 0.2 s
// less).
inline constexpr size_t kTileRows = kManyRegisters ? 6 : 4;
inline constexpr size_t kRestTileRows = kManyRegisters ? 1 : 2;
inline constexpr size_t kFloatTileRows = kManyRegisters ? 12 : 5;
// Sums that the registers hold besides what is multiplied.
inline constexpr size_t kMostSums = kManyRegisters ? 24 : 12;

// Few rows are multiplied with weights in place, as many at a time as the registers hold sums for:
// to unpack again for every tile costs less than to store what was unpacked and read it.
inline constexpr size_t kInPlaceTileRows = kManyRegisters && kPanelVectors == 1 ? 4 : 1;

// How many are few. In kExact 16 rows take 0.6 (Q8_0) to 0.8 (Q4_0) of the time that they take with
// unpacked weights, 64 rows 0.84 to 0.98. Hundreds take 0.94 to 1 with plain groups of 32, 1.02 to
// 1.04 with K-quants (one core of Zen 5). In kFast, whose fewest rows are those of kExact (see
// RowsAlwaysExact), a step of 8, 16 and 64 rows takes 0.75, 0.8 and 0.91 of the time (1B Q4_0) and
// hundreds 0.98 (1B) to 1.03 (270M Q4_K_M). Formats of which files hold little have only what one
// row needs: their kernels of four rows would be 4 % of the code of the smallest program. 0: there
// is no such kernel.
inline constexpr size_t kAllRows = std::numeric_limits<size_t>::max();
constexpr size_t InPlaceRows(Format format, Precision precision) {
  const bool exact = precision == Precision::kExact;
  const size_t fewest = exact ? 1 : 0;
  if (kInPlaceTileRows == 1) return fewest;
  switch (format) {
    case Format::kQ8_0Planes:
      if (!exact) return 0;  // only the head has it, which is always exact
      [[fallthrough]];
    case Format::kQ4_0:
    case Format::kQ5_0:
    case Format::kQ8_0:
      return exact && kHasByteDot ? kAllRows : 64;
    case Format::kQ4_K:
    case Format::kQ5_K:
    case Format::kQ6_K:
      return 64;
    default:
      return fewest;
  }
}

template <size_t kRows, size_t kVecs, class V>
HWY_INLINE void SetZero(V (&sums)[kRows][kVecs]) {
  HWY_UNROLL(16) for (size_t r = 0; r < kRows; ++r) {
    HWY_UNROLL(8) for (size_t v = 0; v < kVecs; ++v) sums[r][v] = hn::Zero(hn::DFromV<V>());
  }
}

// Calls tile(size constant, first row) for `rows` rows in tiles of kSizes, the first as often as it
// fits, then the next; the last size is 1. (Four query heads share a key head in the 270M and 1B:
// one tile of 4 makes 84 GOP/s of a page of keys in a step of decode, two of 2 made 48.)
template <size_t... kSizes, class Tile>
HWY_INLINE void ForRowTiles(size_t rows, const Tile& tile) {
  size_t r = 0;
  const auto cut = [&](auto size) HWY_ATTR {
    for (; r + size() <= rows; r += size()) tile(size, r);
  };
  (cut(std::integral_constant<size_t, kSizes>()), ...);
}

// Weights are asked for so many bytes before they are needed, into the first-level cache, where
// unpacking or several rows take dozens of instructions. With AVX-512 a page of 4 KB ahead, because
// the processor's own prefetching ends with a page: one core of Zen 5 reads K-quants (`down` of the
// 4B, one row) in 0.45 (Q3_K) to 0.82 (Q6_K) of the time that it takes with a lead of 256 bytes,
// Q4_0 and Q5_0 in 0.9, and leads of 1, 2, 8 and 20 KB are worse; 4 and 8 rows take 0.5 to 0.75.
// CPUs with AVX2 only gain from 256 bytes, and not from more; others with AVX-512 were not measured
// with 4 KB. Of one row by plain bytes or floats processors see enough by themselves.
inline constexpr ptrdiff_t kPrefetchBytes = kManyRegisters ? 4096 : 256;
constexpr bool WantsPrefetch(const QuantSpec& spec, size_t rows) {
  if (rows > 1 || spec.is_in_planes()) return true;
  if constexpr (kManyRegisters) return !spec.is_float() && spec.bits < 8;
  if (spec.is_float()) return spec.bits == 16;
  return spec.is_two_level() || (spec.bits != 4 && spec.bits != 8);
}

// Of several rows, the pair that comes next is wanted after the tiles of this one.
inline constexpr ptrdiff_t kUnpackPrefetchBytes = 32768;

// Asks for kBytes bytes in the first-level or second-level cache.
template <size_t kBytes, int kLevel>
HWY_INLINE void PrefetchBytes(const uint8_t* p) {
  HWY_UNROLL(16) for (size_t i = 0; i < kBytes; i += 64) Prefetch<kLevel>(p + i);
}

// Asks for kBytes bytes of weights that are multiplied with kRows rows, if that helps.
template <Format kFormat, size_t kRows, size_t kBytes>
HWY_INLINE void PrefetchWeights(const uint8_t* p) {
  if constexpr (WantsPrefetch(SpecOf(kFormat), kRows)) PrefetchBytes<kBytes, 1>(p);
}

// A panel of a matrix.
struct PanelRef {
  const PackedMatrix& matrix;
  size_t panel;
};

// Two panels of matrices of the same format and width, which are multiplied together.
struct PanelPair {
  PanelPair() = default;
  // In line, so that a pair is not written in words and at once copied in vectors, which wait until
  // everything before them has left the processor (3 % of a step of the 4B, 6 % of the 270M).
  HWY_INLINE PanelPair(PanelRef a, PanelRef b)
      : format(a.matrix.format),
        cols(a.matrix.cols),
        units{a.matrix.panel(a.panel), b.matrix.panel(b.panel)} {
    constexpr QuantSpec kSpec = kQ8_0PlanesSpec;  // of the only format in planes
    if (format != kSpec.format) return;
    middles[0] = a.matrix.panel(kSpec, Plane::kMiddle, a.panel);
    middles[1] = b.matrix.panel(kSpec, Plane::kMiddle, b.panel);
    lows[0] = a.matrix.panel(kSpec, Plane::kLow, a.panel);
    lows[1] = b.matrix.panel(kSpec, Plane::kLow, b.panel);
  }

  // After these panels, those of another pair are read, and not what lies behind these.
  void SetNext(const PanelPair& next) {
    for (size_t p = 0; p < 2; ++p) {
      units_ahead[p] = next.units[p] - units[p];
      middles_ahead[p] = next.middles[p] - middles[p];
      lows_ahead[p] = next.lows[p] - lows[p];
    }
  }

  Format format = Format::kF32;
  size_t cols = 0;
  const uint8_t* units[2] = {};
  const uint8_t* middles[2] = {};  // slabs, of a format in planes
  const uint8_t* lows[2] = {};
  ptrdiff_t units_ahead[2] = {kPrefetchBytes, kPrefetchBytes};
  ptrdiff_t middles_ahead[2] = {kPrefetchBytes, kPrefetchBytes};
  ptrdiff_t lows_ahead[2] = {kPrefetchBytes, kPrefetchBytes};
};

// A tile column of unpacked weights: inputs [k0, k0 + inputs) of kTileOutputs outputs.
struct TileColumn {
  const uint8_t* HWY_RESTRICT codes;  // [inputs / 4, 2 vectors of quads]
  const float* HWY_RESTRICT scales;   // [groups, kTileOutputs]
  const float* HWY_RESTRICT mins;     // [groups, kTileOutputs]
  size_t k0, inputs;
  int32_t zero;
};

// The panels of a pair should lie far from each other, and the pairs that a thread takes one after
// another should go forward in both places: then the thread reads two long streams, which the
// processor fetches ahead by itself. Panels that are neighbours make streams that end after some
// kilobytes. On two cores of Zen 3 that is the difference between 16 to 18 and 22 to 24 GB/s of the
// 25 that reading alone reaches, one row of the 270M's head; layers gain a tenth.
//
// The pairs of a matrix: panel i of its first half with panel i of its second. In the last pair of
// an odd number of panels, one stands twice.
inline size_t CountPairs(const PackedMatrix& w) { return (w.panels() + 1) / 2; }
HWY_INLINE PanelPair PairOf(const PackedMatrix& w, size_t i) {
  return {{w, i}, {w, std::min(i + CountPairs(w), w.panels() - 1)}};
}

}  // namespace HWY_NAMESPACE
}  // namespace lapidary
HWY_AFTER_NAMESPACE();

#endif  // include guard
