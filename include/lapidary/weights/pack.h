// Packing: from the rows of a source file to the panels that quant.h describes.
//
// Plain C++ that moves bits and computes nothing: speed comes from taking the 16 rows of a panel
// one unit at a time, so that the unit being written stays in the first-level cache and the rows
// are read as 16 straight streams. The block layouts of the source are those of ggml
// (ggml-common.h, ggml-quants.c).
#ifndef LAPIDARY_WEIGHTS_PACK_H_
#define LAPIDARY_WEIGHTS_PACK_H_

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

#include "lapidary/base/bytes.h"
#include "lapidary/weights/quant.h"

namespace lapidary {
namespace internal {

// Four 8-bit codes in one number: lane i is input i of a quad.
using Quad = std::uint32_t;
inline constexpr Quad kLowNibbles = 0x0F0F0F0F;
inline constexpr Quad kLowPairs = 0x03030303;
inline constexpr Quad kLowBits = 0x01010101;

inline Quad LoadQuad(const std::uint8_t* codes) { return LoadLittleEndian<Quad>(codes); }

// `slab` is where a slab of codes, or one plane of it, begins; `plane_row` its line of 64 bytes.
inline void StoreQuad(Quad quad, std::uint8_t* slab, std::size_t plane_row, std::size_t row) {
  StoreLittleEndian(quad, slab + plane_row * kQuadBytes + 4 * row);
}

// Bit i of a nibble becomes the lowest bit of lane i. The four copies that the product makes of the
// nibble are 7 bits apart, so that bit i of copy i lands on bit 8 i.
inline Quad SpreadNibble(std::uint32_t nibble) { return nibble * 0x00204081u & kLowBits; }

// One block (32 inputs) of a one-level format into group g of a unit.
template <Format F>
void PackGroup(const std::uint8_t* block, std::size_t g, std::size_t row, std::uint8_t* unit) {
  constexpr QuantSpec kSpec = SpecOf(F);
  std::memcpy(unit + kSpec.scales_offset() + 2 * (g * kPanelRows + row), block, 2);
  std::uint8_t* slab = unit + kSpec.slabs_offset() + g * kSpec.slab_bytes();
  if constexpr (F == Format::kQ8_0) {
    // Signed codes become unsigned ones with 128 as their zero: the sign bit turns.
    for (std::size_t q = 0; q < 8; ++q) {
      StoreQuad(LoadQuad(block + 2 + 4 * q) ^ 0x80808080u, slab, q, row);
    }
  } else {
    // Byte j of the block holds input j in its low and input j + 16 in its high half: as the panel.
    const std::uint8_t* nibbles = block + (F == Format::kQ5_0 ? 6 : 2);
    for (std::size_t r = 0; r < 4; ++r) StoreQuad(LoadQuad(nibbles + 4 * r), slab, r, row);
    if constexpr (F == Format::kQ5_0) {
      const std::uint32_t high = LoadLittleEndian<std::uint32_t>(block + 2);
      Quad bits = 0;
      for (std::uint32_t q = 0; q < 8; ++q) bits |= SpreadNibble(high >> (4 * q) & 15) << q;
      StoreQuad(bits, slab, 4, row);
    }
  }
}

// One block (256 inputs) of Q4_K: f16 d, f16 dmin, 12 bytes with eight 6-bit scales and mins, 128
// bytes of codes. 64 inputs share 32 bytes of codes, the first half of them in the low nibbles.
inline void PackQ4K(const std::uint8_t* block, std::size_t row, std::uint8_t* unit) {
  constexpr QuantSpec kSpec = kQ4_KSpec;
  std::memcpy(unit + 2 * row, block, 2);
  std::memcpy(unit + 2 * (kPanelRows + row), block + 2, 2);
  const std::uint8_t* packed = block + 4;
  std::uint8_t* scales = unit + kSpec.scales_offset() + row;
  std::uint8_t* mins = unit + kSpec.mins_offset() + row;
  for (std::size_t g = 0; g < 4; ++g) {
    // Scales and mins 0..3 fill the low 6 bits of bytes 0..7. Those of 4..7 have their low 4 bits
    // in bytes 8..11 and their high 2 bits in the top of bytes 0..7.
    const unsigned a = packed[g], b = packed[g + 4], c = packed[g + 8];
    scales[g * kPanelRows] = static_cast<std::uint8_t>(a & 63);
    mins[g * kPanelRows] = static_cast<std::uint8_t>(b & 63);
    scales[(g + 4) * kPanelRows] = static_cast<std::uint8_t>((c & 15) | (a >> 6 << 4));
    mins[(g + 4) * kPanelRows] = static_cast<std::uint8_t>(c >> 4 | (b >> 6 << 4));
  }
  for (std::size_t pair = 0; pair < 4; ++pair) {
    const std::uint8_t* codes = block + 16 + 32 * pair;
    std::uint8_t* even = unit + kSpec.slabs_offset() + 2 * pair * kSpec.slab_bytes();
    std::uint8_t* odd = even + kSpec.slab_bytes();
    for (std::size_t r = 0; r < 4; ++r) {
      const Quad a = LoadQuad(codes + 4 * r);
      const Quad b = LoadQuad(codes + 16 + 4 * r);
      StoreQuad((a & kLowNibbles) | (b & kLowNibbles) << 4, even, r, row);
      StoreQuad((a >> 4 & kLowNibbles) | (b & ~kLowNibbles), odd, r, row);
    }
  }
}

// One block (256 inputs) of Q6_K: 128 bytes of low nibbles, 64 bytes of high pairs, 16 signed 8-bit
// scales, f16 d. Each half of 128 inputs is four slabs: slab s has its nibbles in bytes 32 (s % 2)
// .., low half for s < 2, and its pairs in bits 2 s of the 32 bytes of pairs.
inline void PackQ6K(const std::uint8_t* block, std::size_t row, std::uint8_t* unit) {
  constexpr QuantSpec kSpec = kQ6_KSpec;
  std::memcpy(unit + 2 * row, block + 208, 2);
  for (std::size_t g = 0; g < kSpec.unit_groups(); ++g) {
    unit[kSpec.scales_offset() + g * kPanelRows + row] = block[192 + g];
  }
  for (std::size_t i = 0; i < 8; ++i) {
    const std::size_t half = i / 4, s = i % 4;
    const std::uint8_t* nibbles = block + 64 * half + 32 * (s % 2);
    const std::uint8_t* pairs = block + 128 + 32 * half;
    const unsigned nibble_shift = s < 2 ? 0 : 4;
    const unsigned pair_shift = static_cast<unsigned>(2 * s);
    std::uint8_t* slab = unit + kSpec.slabs_offset() + i * kSpec.slab_bytes();
    for (std::size_t r = 0; r < 4; ++r) {
      const Quad a = LoadQuad(nibbles + 4 * r) >> nibble_shift & kLowNibbles;
      const Quad b = LoadQuad(nibbles + 16 + 4 * r) >> nibble_shift & kLowNibbles;
      StoreQuad(a | b << 4, slab, r, row);
    }
    for (std::size_t r = 0; r < 2; ++r) {
      Quad four = 0;
      for (unsigned j = 0; j < 4; ++j) {
        four |= (LoadQuad(pairs + 16 * r + 4 * j) >> pair_shift & kLowPairs) << (2 * j);
      }
      StoreQuad(four, slab + 4 * kQuadBytes, r, row);
    }
  }
}

// Up to 16 rows into one panel, which is all zeros beforehand where `rows` or cols leave gaps.
template <Format F>
void PackPanel(const std::uint8_t* source, std::size_t row_bytes, std::size_t rows,
               std::size_t cols, std::uint8_t* panel) {
  constexpr QuantSpec kSpec = SpecOf(F);
  constexpr std::size_t kBlock = static_cast<std::size_t>(kSpec.source_block);
  constexpr std::size_t kBlockBytes = static_cast<std::size_t>(kSpec.source_bytes);
  if constexpr (kSpec.is_float()) {
    constexpr std::size_t kInputs = 4 / kBlockBytes;  // of the 4 bytes that a row has in 64
    for (std::size_t c = 0; c < cols; c += kInputs) {
      std::uint8_t* out = panel + c / kInputs * kQuadBytes;
      const std::size_t bytes = std::min(kInputs, cols - c) * kBlockBytes;
      for (std::size_t row = 0; row < rows; ++row) {
        std::memcpy(out + 4 * row, source + row * row_bytes + c * kBlockBytes, bytes);
      }
    }
  } else {
    constexpr std::size_t kBlocks = kSpec.unit_inputs() / kBlock;  // of a unit
    const std::size_t blocks = cols / kBlock;                      // of a row
    for (std::size_t b = 0; b < blocks; b += kBlocks) {
      std::uint8_t* unit = panel + b / kBlocks * kSpec.unit_bytes();
      const std::size_t present = std::min(kBlocks, blocks - b);
      for (std::size_t row = 0; row < rows; ++row) {
        const std::uint8_t* block = source + row * row_bytes + b * kBlockBytes;
        if constexpr (F == Format::kQ4_K) {
          PackQ4K(block, row, unit);
        } else if constexpr (F == Format::kQ6_K) {
          PackQ6K(block, row, unit);
        } else {
          for (std::size_t g = 0; g < present; ++g) {
            PackGroup<F>(block + g * kBlockBytes, g, row, unit);
          }
        }
      }
    }
  }
}

}  // namespace internal

// Bytes of one row of `cols` inputs in a source file. cols must be a multiple of spec.source_block.
constexpr std::size_t SourceRowBytes(const QuantSpec& spec, std::size_t cols) {
  return cols / static_cast<std::size_t>(spec.source_block) *
         static_cast<std::size_t>(spec.source_bytes);
}

// Packs the panels [first, first + count) of a matrix.
//   source  [rows, SourceRowBytes(cols)], the whole matrix, row after row; cols is a multiple of
//   the
//           format's source_block
//   out     [count, panel_bytes(cols)]
// Rows from `rows` on are zeros: the filling of the last panel, or whole panels behind it. F must
// be a format of this library; every byte of `out` is written.
inline void PackPanels(Format format, std::span<const std::uint8_t> source, std::size_t rows,
                       std::size_t cols, std::size_t first, std::size_t count, std::uint8_t* out) {
  WithFormat(format, [&]<Format F>() {
    constexpr QuantSpec kSpec = SpecOf(F);
    const std::size_t row_bytes = SourceRowBytes(kSpec, cols);
    const std::size_t panel_bytes = kSpec.panel_bytes(cols);
    // A format with a second scale level and no min leaves a field of every unit untouched.
    constexpr bool kLeavesGaps = kSpec.scale == ScaleKind::kF16TimesI8 && !kSpec.has_min;
    const bool gaps = kLeavesGaps || kSpec.padded_cols(cols) != cols;
    for (std::size_t i = 0; i < count; ++i) {
      const std::size_t row = (first + i) * kPanelRows;
      const std::size_t present = row < rows ? std::min(kPanelRows, rows - row) : 0;
      std::uint8_t* panel = out + i * panel_bytes;
      if (gaps || present < kPanelRows) std::memset(panel, 0, panel_bytes);
      if (present == 0) continue;
      internal::PackPanel<F>(source.data() + row * row_bytes, row_bytes, present, cols, panel);
    }
  });
}

// Widens one value of F32, F16 or BF16 to f32; exact, infinities and NaNs included.
inline float WidenToFloat(Format format, const std::uint8_t* bytes) {
  if (format == Format::kF32) return LoadLittleEndian<float>(bytes);
  const std::uint32_t half = LoadLittleEndian<std::uint16_t>(bytes);
  if (format == Format::kBF16) return std::bit_cast<float>(half << 16);
  const std::uint32_t sign = (half & 0x8000u) << 16;
  const std::uint32_t exponent = half >> 10 & 31;
  const std::uint32_t mantissa = half & 0x3FFu;
  if (exponent == 31) return std::bit_cast<float>(sign | 0x7F800000u | mantissa << 13);
  if (exponent != 0) return std::bit_cast<float>(sign | (exponent + 112) << 23 | mantissa << 13);
  // Subnormal: mantissa / 2^24, exact in f32.
  const float magnitude = static_cast<float>(mantissa) * 0x1p-24f;
  return sign != 0 ? -magnitude : magnitude;
}

}  // namespace lapidary

#endif  // LAPIDARY_WEIGHTS_PACK_H_
