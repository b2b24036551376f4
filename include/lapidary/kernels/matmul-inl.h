// Activations times packed weights.
//
// The unit of work is a pair of panels, 32 outputs, times some rows of activations; threads divide
// the pairs among them. One row (decode) reads the panels in place: the time is that of reading
// memory. More rows (prefill) unpack a stretch of the pair once into an L1-sized scratch and pass
// over it with register tiles of kTileRows rows by two vectors of outputs.
//
// The panels of a pair should lie far from each other, and the pairs that a thread takes one after
// another should go forward in both places: then the thread reads two long streams, which the
// processor fetches ahead by itself. Panels that are neighbours make streams that end after some
// kilobytes. On two cores of Zen 3 that is the difference between 16 to 18 and 22 to 24 GB/s of the
// 25 that reading alone reaches, one row of the 270M's head; layers gain a tenth.
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
#include <type_traits>

#include "lapidary/kernels/panel-inl.h"
#include "lapidary/kernels/quantize-inl.h"
#include "lapidary/kernels/simd-inl.h"
#include "lapidary/weights/quant.h"

HWY_BEFORE_NAMESPACE();
namespace lapidary {
namespace HWY_NAMESPACE {

inline constexpr size_t kPairOutputs = 2 * kPanelRows;
inline constexpr size_t kTileOutputs = 2 * kLanes;
inline constexpr size_t kTilesPerPair = kPairOutputs / kTileOutputs;

// Rows of a register tile. 16 registers: 4 rows x 2 vectors of integer sums leave room for the
// weights and a broadcast; 32 registers hold 6 x 2 sums of integers and of floats.
inline constexpr size_t kTileRows = kManyRegisters ? 6 : 4;
inline constexpr size_t kFloatTileRows = kManyRegisters ? 12 : 5;
inline constexpr size_t kMostSums = 24;  // that 32 registers hold, besides what is multiplied

// Steps of so few rows wait for memory, not for arithmetic: they use the kExact form of
// activations, whatever precision was asked for.
inline constexpr size_t kMemoryBoundRows = 4;

// Inputs unpacked at a time: a tile column (at most 32 bytes per input) stays within L1. A multiple
// of the largest unit, 256.
inline constexpr size_t kBlockInputs = 1024;
inline constexpr size_t kFloatBlockInputs = 512;

// Of one row, weights are asked for so many bytes before they are needed. Where unpacking takes
// dozens of instructions, the processor by itself looks too short a way ahead: one core of Zen 4
// reads Q5_0, Q4_K and Q6_K at 20 to 24 GB/s without, at 30 to 33 with a lead of 128 to 320 bytes
// into the first level, and at 21 to 25 with a longer one. Of the plain formats it sees enough:
// Q8_0 and F32 are read at 35 and 40 without, at 28 and 34 with.
inline constexpr ptrdiff_t kPrefetchBytes = 256;
constexpr bool WantsPrefetch(const QuantSpec& spec) {
  if (spec.is_float()) return spec.bits == 16;
  return spec.low_bits != 0 || spec.is_two_level() || (spec.bits != 4 && spec.bits != 8);
}

// Of several rows, the pair that comes next is wanted after the tiles of this one.
inline constexpr ptrdiff_t kUnpackPrefetchBytes = 32768;

// Asks for kBytes bytes in the first-level or second-level cache.
template <size_t kBytes, int kLevel>
HWY_INLINE void PrefetchBytes(const uint8_t* p) {
  HWY_UNROLL(16) for (size_t i = 0; i < kBytes; i += 64) Prefetch<kLevel>(p + i);
}

// Asks for kBytes bytes of a row of weights, if that helps.
template <Format kFormat, size_t kBytes>
HWY_INLINE void PrefetchRow(const uint8_t* p) {
  if constexpr (WantsPrefetch(SpecOf(kFormat))) PrefetchBytes<kBytes, 1>(p);
}

// A panel of a matrix.
struct PanelRef {
  const PackedMatrix& matrix;
  size_t panel;
};

// Two panels of matrices of the same format and width, which are multiplied together.
struct PanelPair {
  PanelPair(PanelRef a, PanelRef b)
      : format(a.matrix.format),
        cols(a.matrix.cols),
        units{a.matrix.panel(a.panel), b.matrix.panel(b.panel)},
        lows{a.matrix.low(a.panel), b.matrix.low(b.panel)} {}

  // After these panels, those of another pair are read, and not what lies behind these.
  void SetNext(const PanelPair& next) {
    for (size_t p = 0; p < 2; ++p) {
      units_ahead[p] = next.units[p] - units[p];
      lows_ahead[p] = next.lows[p] - lows[p];
    }
  }

  Format format;
  size_t cols;
  const uint8_t* units[2];
  const uint8_t* lows[2];  // slabs of low bits
  ptrdiff_t units_ahead[2] = {kPrefetchBytes, kPrefetchBytes};
  ptrdiff_t lows_ahead[2] = {kPrefetchBytes, kPrefetchBytes};
};

// The pairs of a matrix: panel i of its first half with panel i of its second. In the last pair of
// an odd number of panels, one stands twice.
inline size_t CountPairs(const PackedMatrix& w) { return (w.panels() + 1) / 2; }
inline PanelPair PairOf(const PackedMatrix& w, size_t i) {
  return {{w, i}, {w, std::min(i + CountPairs(w), w.panels() - 1)}};
}

// A stretch of a pair of panels, unpacked: kTilesPerPair tile columns, each of two vectors.
struct MatMulScratch {
  static constexpr size_t kGroups = kBlockInputs / kSumGroup;
  HWY_ALIGN uint8_t codes[kTilesPerPair][kBlockInputs / 4 * 2 * kVectorBytes];
  HWY_ALIGN float scales[kTilesPerPair][kGroups * 2 * kLanes];
  HWY_ALIGN float mins[kTilesPerPair][kGroups * 2 * kLanes];
};

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
  const unsigned form = FormFor(spec.format, precision);
  const bool narrow = form == kFormBytes && !kHasByteDot;
  return {form, spec.group, spec.has_min, narrow ? QuadsIn16Bits(spec.code_bits(), spec.group) : 0};
}

template <size_t kRows, size_t kVecs, class V>
HWY_INLINE void SetZero(V (&sums)[kRows][kVecs]) {
  HWY_UNROLL(16) for (size_t r = 0; r < kRows; ++r) {
    HWY_UNROLL(8) for (size_t v = 0; v < kVecs; ++v) sums[r][v] = hn::Zero(hn::DFromV<V>());
  }
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

// acc[r][v] += one group, scaled: scale * x_scale * (sum code x - zero sum x) - min * x_scale * sum
// x. `scale(v)` and `min(v)` load those of the weights.
template <GroupTraits kTraits, size_t kRows, size_t kVecs, class Codes, class Scale, class Min>
HWY_INLINE void AddGroup(const Codes& codes, const Scale& scale, const Min& min, int32_t zero,
                         const Activations& x, size_t row, size_t k, VF (&acc)[kRows][kVecs]) {
  const DF d;
  VI32 sum[kRows][kVecs];
  int32_t x_sum[kRows];
  HWY_UNROLL(8) for (size_t r = 0; r < kRows; ++r) {
    const int32_t* sums = x.sums + (row + r) * x.sum_groups() + k / kSumGroup;
    x_sum[r] = kTraits.group == 32 ? sums[0] + sums[1] : sums[0];
    const VI32 start = hn::Set(DI32(), -zero * x_sum[r]);
    HWY_UNROLL(8) for (size_t v = 0; v < kVecs; ++v) sum[r][v] = start;
  }
  DotGroup<kTraits>(codes, x, row, k, sum);
  HWY_UNROLL(8) for (size_t v = 0; v < kVecs; ++v) {
    const VF w_scale = scale(v);
    HWY_UNROLL(8) for (size_t r = 0; r < kRows; ++r) {
      const float x_scale = x.scales[(row + r) * x.groups() + k / kActivationGroup];
      const VF joint = hn::Mul(w_scale, hn::Set(d, x_scale));
      acc[r][v] = hn::MulAdd(hn::ConvertTo(d, sum[r][v]), joint, acc[r][v]);
      if constexpr (kTraits.has_min) {
        const float scaled_sum = x_scale * static_cast<float>(x_sum[r]);
        acc[r][v] = hn::NegMulAdd(min(v), hn::Set(d, scaled_sum), acc[r][v]);
      }
    }
  }
}

// Unpacks inputs [k0, k0 + inputs) of the panels of a pair, whole units.
template <Format kFormat>
HWY_NOINLINE void UnpackPair(const PanelPair& panels, size_t k0, size_t inputs,
                             MatMulScratch& scratch) {
  constexpr QuantSpec kSpec = SpecOf(kFormat);
  const DF d;
  const size_t first_unit = k0 / kSpec.unit_inputs();
  const size_t units = inputs / kSpec.unit_inputs();
  for (size_t p = 0; p < 2; ++p) {
    for (size_t v = 0; v < kPanelVectors; ++v) {
      const size_t vector = p * kPanelVectors + v;
      uint8_t* HWY_RESTRICT codes = scratch.codes[vector / 2] + vector % 2 * kVectorBytes;
      float* HWY_RESTRICT scales = scratch.scales[vector / 2] + vector % 2 * kLanes;
      float* HWY_RESTRICT mins = scratch.mins[vector / 2] + vector % 2 * kLanes;
      const uint8_t* low = panels.lows[p] + k0 / kSlabInputs * kSpec.low_slab_bytes();
      for (size_t u = 0; u < units; ++u) {
        const uint8_t* unit = panels.units[p] + (first_unit + u) * kSpec.unit_bytes();
        if (v == 0) {  // a step of few rows waits for memory here
          PrefetchBytes<kSpec.unit_bytes(), 2>(unit + kUnpackPrefetchBytes);
          PrefetchBytes<kSpec.unit_inputs() / kSlabInputs * kSpec.low_slab_bytes(), 2>(
              low + kUnpackPrefetchBytes);
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
        for (size_t s = 0; s < kSpec.unit_inputs() / kSlabInputs; ++s) {
          HWY_UNROLL(8) for (int q = 0; q < static_cast<int>(kSlabQuads); ++q) {
            hn::Store(LoadCodes<kFormat>(slab, low, q, v), DU8(), codes);
            codes += 2 * kVectorBytes;
          }
          slab += kSpec.slab_bytes();
          low += kSpec.low_slab_bytes();
        }
      }
    }
  }
}

// A tile column of unpacked weights: inputs [k0, k0 + inputs) of kTileOutputs outputs.
struct TileColumn {
  const uint8_t* HWY_RESTRICT codes;  // [inputs / 4, 2 vectors of quads]
  const float* HWY_RESTRICT scales;   // [groups, kTileOutputs]
  const float* HWY_RESTRICT mins;     // [groups, kTileOutputs]
  size_t k0, inputs;
  int32_t zero;
};

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
  for (size_t k = w.k0; k < w.k0 + w.inputs; k += kTraits.group) {
    AddGroup<kTraits>(
        ScratchCodes{w.codes},
        [&w](size_t v) LAPIDARY_INLINE_LAMBDA { return hn::Load(DF(), w.scales + v * kLanes); },
        [&w](size_t v) LAPIDARY_INLINE_LAMBDA { return hn::Load(DF(), w.mins + v * kLanes); },
        w.zero, x, row, k, acc);
    w.codes += kTraits.group / 4 * 2 * kVectorBytes;
    w.scales += kTileOutputs;
    w.mins += kTileOutputs;
  }
  HWY_UNROLL(8) for (size_t r = 0; r < kRows; ++r) {
    HWY_UNROLL(8) for (size_t v = 0; v < 2; ++v) {
      hn::Store(acc[r][v], d, c + r * kPairOutputs + v * kLanes);
    }
  }
}

// One row times a pair of panels, read in place: c[kPairOutputs]. Both panels at once, because two
// streams of reads keep the memory busier than one. `cols` is panels.cols, or a constant of the
// compiler.
template <Format kFormat, class Cols>
HWY_NOINLINE void QuantRow(const PanelPair& panels, Cols cols, const Activations& x, size_t row,
                           float* HWY_RESTRICT c) {
  constexpr QuantSpec kSpec = SpecOf(kFormat);
  constexpr size_t kGroupsPerSlab = kSlabInputs / kSpec.group;
  constexpr size_t kVectors = 2 * kPanelVectors;
  const DF d;
  VF acc[1][kVectors];
  HWY_UNROLL(8) for (size_t v = 0; v < kVectors; ++v) acc[0][v] = hn::Zero(d);
  const uint8_t* units[2] = {panels.units[0], panels.units[1]};
  const uint8_t* lows[2] = {panels.lows[0], panels.lows[1]};
  for (size_t k = 0; k < cols; k += kSpec.unit_inputs()) {
    PrefetchRow<kFormat, kSpec.slabs_offset()>(units[0] + panels.units_ahead[0]);
    PrefetchRow<kFormat, kSpec.slabs_offset()>(units[1] + panels.units_ahead[1]);
    for (size_t s = 0; s < kSpec.unit_inputs() / kSlabInputs; ++s) {
      const size_t slab = kSpec.slabs_offset() + s * kSpec.slab_bytes();
      const uint8_t* const slabs[2] = {units[0] + slab, units[1] + slab};
      PrefetchRow<kFormat, kSpec.slab_bytes()>(slabs[0] + panels.units_ahead[0]);
      PrefetchRow<kFormat, kSpec.slab_bytes()>(slabs[1] + panels.units_ahead[1]);
      PrefetchRow<kFormat, kSpec.low_slab_bytes()>(lows[0] + panels.lows_ahead[0]);
      PrefetchRow<kFormat, kSpec.low_slab_bytes()>(lows[1] + panels.lows_ahead[1]);
      HWY_UNROLL(2) for (size_t g = 0; g < kGroupsPerSlab; ++g) {
        const size_t group = s * kGroupsPerSlab + g;
        AddGroup<TraitsOf(kSpec, Precision::kExact)>(
            SlabCodes<kFormat>{
                {slabs[0], slabs[1]}, {lows[0], lows[1]}, static_cast<int>(g) * kSpec.group / 4},
            [&](size_t v) LAPIDARY_INLINE_LAMBDA {
              return LoadScales<kFormat>(units[v / kPanelVectors], group, v % kPanelVectors);
            },
            [&](size_t v) LAPIDARY_INLINE_LAMBDA {
              if constexpr (kSpec.has_min)
                return LoadMins<kFormat>(units[v / kPanelVectors], group, v % kPanelVectors);
            },
            kSpec.zero, x, row, k + s * kSlabInputs + g * kSpec.group, acc);
      }
      lows[0] += kSpec.low_slab_bytes();
      lows[1] += kSpec.low_slab_bytes();
    }
    units[0] += kSpec.unit_bytes();
    units[1] += kSpec.unit_bytes();
  }
  HWY_UNROLL(8) for (size_t v = 0; v < kVectors; ++v) hn::Store(acc[0][v], d, c + v * kLanes);
}

// Calls tile(size constant, first row) for `rows` rows in pieces of kMost, 4, 2 and 1. (Four query
// heads share a key head in the 270M and 1B: one tile of 4 makes 84 GOP/s of a page of keys in a
// step of decode, two of 2 made 48.)
template <size_t kMost, class Tile>
HWY_INLINE void ForRowTiles(size_t rows, const Tile& tile) {
  size_t r = 0;
  for (; r + kMost <= rows; r += kMost) tile(std::integral_constant<size_t, kMost>(), r);
  if constexpr (kMost > 4) {
    for (; r + 4 <= rows; r += 4) tile(std::integral_constant<size_t, 4>(), r);
  }
  if constexpr (kMost > 2) {
    for (; r + 2 <= rows; r += 2) tile(std::integral_constant<size_t, 2>(), r);
  }
  for (; r < rows; ++r) tile(std::integral_constant<size_t, 1>(), r);
}

// Length of the stretches in which `cols` inputs are unpacked: equal ones, so that the last is no
// stub.
HWY_INLINE size_t BlockLength(size_t cols, size_t most) {
  const size_t blocks = (cols + most - 1) / most;
  return ((cols + blocks - 1) / blocks + 255) / 256 * 256;
}

// Many rows times a pair of panels.
template <Format kFormat, Precision kPrecision>
HWY_NOINLINE void QuantPair(const PanelPair& panels, const Activations& x, size_t row0, size_t rows,
                            MatMulScratch& scratch, float* HWY_RESTRICT c) {
  constexpr QuantSpec kSpec = SpecOf(kFormat);
  const size_t block = BlockLength(x.stride, kBlockInputs);
  for (size_t k0 = 0; k0 < x.stride; k0 += block) {
    const size_t inputs = std::min(block, x.stride - k0);
    UnpackPair<kFormat>(panels, k0, inputs, scratch);
    for (size_t t = 0; t < kTilesPerPair; ++t) {
      const TileColumn column = {scratch.codes[t], scratch.scales[t], scratch.mins[t], k0,
                                 inputs,           kSpec.zero};
      ForRowTiles<kTileRows>(rows, [&](auto tile_rows, size_t r) HWY_ATTR {
        QuantTile<TraitsOf(kSpec, kPrecision), tile_rows()>(
            column, x, row0 + r, c + r * kPairOutputs + t * kTileOutputs);
      });
    }
  }
}

}  // namespace matmul

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

// c[kRows][2 vectors] += x[kRows][2 * pairs] times pairs of float weights. The vectors of pair i
// are at w0 + i * step and w1 + i * step (bytes). Serves weights, and keys and values in attention.
template <class Pairs, size_t kRows, class Input>
HWY_NOINLINE void PairTile(const uint8_t* HWY_RESTRICT w0, const uint8_t* HWY_RESTRICT w1,
                           size_t step, size_t pairs, const Input* HWY_RESTRICT x, size_t x_stride,
                           float* HWY_RESTRICT c, size_t c_stride) {
  const DF d;
  VF acc[kRows][2];
  matmul::SetZero(acc);
  for (size_t i = 0; i < pairs; ++i) {
    if constexpr (std::is_same_v<Input, float>) {
      const FloatPair a = Pairs::Floats(w0 + i * step);
      const FloatPair b = Pairs::Floats(w1 + i * step);
      HWY_UNROLL(16) for (size_t r = 0; r < kRows; ++r) {
        const VF even = hn::Set(d, x[r * x_stride + 2 * i]);
        acc[r][0] = hn::MulAdd(a.even, even, acc[r][0]);
        acc[r][1] = hn::MulAdd(b.even, even, acc[r][1]);
        KeepInRegister(acc[r][0]);
        KeepInRegister(acc[r][1]);
      }
      HWY_UNROLL(16) for (size_t r = 0; r < kRows; ++r) {
        const VF odd = hn::Set(d, x[r * x_stride + 2 * i + 1]);
        acc[r][0] = hn::MulAdd(a.odd, odd, acc[r][0]);
        acc[r][1] = hn::MulAdd(b.odd, odd, acc[r][1]);
        KeepInRegister(acc[r][0]);
        KeepInRegister(acc[r][1]);
      }
    } else {
      const auto a = Pairs::Brains(w0 + i * step);
      const auto b = Pairs::Brains(w1 + i * step);
      HWY_UNROLL(16) for (size_t r = 0; r < kRows; ++r) {
        const auto both = BroadcastPair(x + r * x_stride + 2 * i);
        VF unused = hn::Zero(d);
        acc[r][0] = hn::ReorderWidenMulAccumulate(d, a, both, acc[r][0], unused);
        acc[r][1] = hn::ReorderWidenMulAccumulate(d, b, both, acc[r][1], unused);
      }
    }
  }
  HWY_UNROLL(16) for (size_t r = 0; r < kRows; ++r) {
    HWY_UNROLL(2) for (size_t v = 0; v < 2; ++v) {
      float* to = c + r * c_stride + v * kLanes;
      hn::StoreU(hn::Add(hn::LoadU(d, to), acc[r][v]), d, to);
    }
  }
}

namespace matmul {

// One row times a pair of panels of float weights, read in place: c[kPairOutputs]. Sums in the
// order of FloatPairOfPanels.
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
      PrefetchRow<kFormat, kUnitBytes>(units[0] + kPrefetchBytes);
      PrefetchRow<kFormat, kUnitBytes>(units[1] + kPrefetchBytes);
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

// Some rows times a pair of panels of float weights: c[rows][kPairOutputs]. The activations are the
// sum of kTerms terms, [rows, stride] each.
template <Format kFormat, size_t kTerms, class Input>
HWY_NOINLINE void FloatPairOfPanels(const uint8_t* const (&panels)[2], size_t cols,
                                    const Input* const (&x)[kTerms], size_t stride, size_t rows,
                                    float* HWY_RESTRICT c) {
  if (rows == 1) return FloatRow<kFormat>(panels, cols, x, c);
  std::fill_n(c, rows * kPairOutputs, 0.0f);
  constexpr size_t kStep = SpecOf(kFormat).unit_bytes();
  for (size_t k0 = 0; k0 < cols; k0 += kFloatBlockInputs) {
    const size_t pairs = (std::min(kFloatBlockInputs, cols - k0) + 1) / 2;
    for (size_t t = 0; t < kTilesPerPair; ++t) {
      const uint8_t* w[2];
      for (size_t v = 0; v < 2; ++v) {
        const size_t vector = t * 2 + v;
        w[v] =
            panels[vector / kPanelVectors] + k0 / 2 * kStep + vector % kPanelVectors * kVectorBytes;
      }
      ForRowTiles<kFloatTileRows>(rows, [&](auto tile_rows, size_t r) HWY_ATTR {
        for (const Input* term : x) {
          PairTile<WeightPairs<kFormat>, tile_rows()>(
              w[0], w[1], kStep, pairs, term + r * stride + k0, stride,
              c + r * kPairOutputs + t * kTileOutputs, kPairOutputs);
        }
      });
    }
  }
}

}  // namespace matmul

// c[rows][32] = x[row0 .. row0 + rows) times the outputs of a pair, 16 of each panel, in f32.
// Outputs beyond the rows of a matrix hold values of no meaning. x must have the form
// FormFor(panels.format, precision).
HWY_NOINLINE inline void MatMulPair(const PanelPair& panels, const Activations& x, size_t row0,
                                    size_t rows, Precision precision, MatMulScratch& scratch,
                                    float* HWY_RESTRICT c) {
  WithFormat(panels.format, [&]<Format kFormat>() HWY_ATTR {
    constexpr QuantSpec kSpec = SpecOf(kFormat);
    if constexpr (kSpec.is_float()) {
      const size_t at = row0 * x.stride;
      const auto multiply = [&](const auto& terms) HWY_ATTR {
        matmul::FloatPairOfPanels<kFormat>(panels.units, panels.cols, terms, x.stride, rows, c);
      };
      if constexpr (kHasBF16Dot && kFormat == Format::kBF16) {
        const hwy::bfloat16_t* const terms[] = {x.bf16 + at, x.bf16_low + at};
        if (precision == Precision::kExact) return multiply(terms);
        const hwy::bfloat16_t* const rounded[] = {terms[0]};
        multiply(rounded);
      } else {
        const float* const terms[] = {x.f32 + at};
        multiply(terms);
      }
    } else if (rows == 1 && precision == Precision::kExact) {
      matmul::QuantRow<kFormat>(panels, panels.cols, x, row0, c);
    } else if (precision == Precision::kFast) {
      matmul::QuantPair<kFormat, Precision::kFast>(panels, x, row0, rows, scratch, c);
    } else {
      matmul::QuantPair<kFormat, Precision::kExact>(panels, x, row0, rows, scratch, c);
    }
  });
}

}  // namespace HWY_NAMESPACE
}  // namespace lapidary
HWY_AFTER_NAMESPACE();

#endif  // include guard
