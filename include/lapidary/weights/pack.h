// Packing: from the rows of a source file to the panels that quant.h describes.
//
// Plain C++ that moves bits and computes nothing: speed comes from taking the 16 rows of a panel
// one unit at a time, so that the unit being written stays in the first-level cache and the rows
// are read as 16 straight streams, and from moving four codes at a time. Formats are run-time
// values here: each has a branch that says where its block keeps codes and scales, everything else
// is common. The block layouts of the source are those of ggml (ggml-common.h, ggml-quants.c).
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

// The codes of 32 consecutive inputs of a row.
struct SlabRow {
  Quad quads[8];
};

// Bit i of a nibble becomes the lowest bit of lane i. The four copies that the product makes of the
// nibble are 7 bits apart, so that bit i of copy i lands on bit 8 i.
inline Quad SpreadNibble(std::uint32_t nibble) { return nibble * 0x00204081u & kLowBits; }

// 16 bytes, the low halves of which are the first 16 codes.
inline void ReadHalves(const std::uint8_t* bytes, SlabRow& codes) {
  for (std::size_t q = 0; q < 4; ++q) {
    const Quad both = LoadQuad(bytes + 4 * q);
    codes.quads[q] = both & kLowNibbles;
    codes.quads[q + 4] = both >> 4 & kLowNibbles;
  }
}

// 32 bytes, one per code: their bits from `shift` on under a mask, put at bit `to` of the codes.
inline void AddBits(const std::uint8_t* bytes, std::size_t shift, Quad mask, unsigned to,
                    SlabRow& codes) {
  for (std::size_t q = 0; q < 8; ++q) {
    codes.quads[q] |= (LoadQuad(bytes + 4 * q) >> shift & mask) << to;
  }
}

// Codes of slab `i` of a block of the source file.
inline SlabRow ReadCodes(Format format, const std::uint8_t* block, std::size_t i) {
  SlabRow codes = {};
  switch (format) {
    case Format::kF32:
    case Format::kF16:
    case Format::kBF16:
      break;
    case Format::kQ4_0:
    case Format::kIQ4_NL:
      ReadHalves(block + 2, codes);
      break;
    case Format::kQ4_1:
      ReadHalves(block + 4, codes);
      break;
    case Format::kQ5_0:
    case Format::kQ5_1: {
      const std::uint8_t* high = block + (format == Format::kQ5_0 ? 2 : 4);
      ReadHalves(high + 4, codes);
      const auto bits = LoadLittleEndian<std::uint32_t>(high);
      for (std::uint32_t q = 0; q < 8; ++q) {
        codes.quads[q] |= SpreadNibble(bits >> (4 * q) & 15) << 4;
      }
      break;
    }
    case Format::kQ8_0:
    case Format::kQ8_0Planes:
      // Signed codes become unsigned ones with 128 as their zero: the sign bit turns.
      for (std::size_t q = 0; q < 8; ++q)
        codes.quads[q] = LoadQuad(block + 2 + 4 * q) ^ 0x80808080u;
      break;
    // The 256 inputs of the others are cut into stretches that share bytes: 4 slabs of 2-bit codes,
    // 2 slabs of 4-bit codes, 8 slabs of single bits.
    case Format::kQ2_K:
      AddBits(block + 16 + 32 * (i / 4), 2 * (i % 4), kLowPairs, 0, codes);
      break;
    case Format::kQ3_K:
      AddBits(block + 32 + 32 * (i / 4), 2 * (i % 4), kLowPairs, 0, codes);
      AddBits(block, i, kLowBits, 2, codes);
      break;
    case Format::kQ4_K:
      AddBits(block + 16 + 32 * (i / 2), 4 * (i % 2), kLowNibbles, 0, codes);
      break;
    case Format::kQ5_K:
      AddBits(block + 48 + 32 * (i / 2), 4 * (i % 2), kLowNibbles, 0, codes);
      AddBits(block + 16, i, kLowBits, 4, codes);
      break;
    case Format::kQ6_K:
      // Within each half of 4 slabs, slabs s and s + 2 share bytes of nibbles.
      AddBits(block + 64 * (i / 4) + 32 * (i % 2), i % 4 < 2 ? 0 : 4, kLowNibbles, 0, codes);
      AddBits(block + 128 + 32 * (i / 4), 2 * (i % 4), kLowPairs, 4, codes);
      break;
    case Format::kIQ4_XS:
      ReadHalves(block + 8 + 16 * i, codes);
      break;
  }
  return codes;
}

// The codes without their lowest `bits`.
inline SlabRow DropBits(const SlabRow& codes, int bits) {
  if (bits == 0) return codes;
  SlabRow high;
  const Quad mask = kLowBits * ((1u << (8 - bits)) - 1);
  for (std::size_t q = 0; q < 8; ++q) high.quads[q] = codes.quads[q] >> bits & mask;
  return high;
}

// Splits codes into the bit planes of a slab; higher bits are left out.
inline void StoreCodes(int bits, const SlabRow& codes, std::uint8_t* slab, std::size_t row) {
  const Quad* const q = codes.quads;
  std::uint8_t* line = slab + 4 * row;
  const auto store = [&line](Quad quad) {
    StoreLittleEndian(quad, line);
    line += kQuadBytes;
  };
  if (bits == 8) {
    for (std::size_t i = 0; i < 8; ++i) store(q[i]);
    return;
  }
  int done = 0;
  if (bits >= 4) {
    for (std::size_t i = 0; i < 4; ++i) store((q[i] & kLowNibbles) | (q[i + 4] & kLowNibbles) << 4);
    done = 4;
  }
  if (bits - done >= 2) {
    for (std::size_t i = 0; i < 8; i += 4) {
      Quad four = 0;
      for (std::size_t j = 0; j < 4; ++j) four |= (q[i + j] >> done & kLowPairs) << (2 * j);
      store(four);
    }
    done += 2;
  }
  if (bits - done == 1) {
    Quad eight = 0;
    for (std::size_t i = 0; i < 8; ++i) eight |= (q[i] >> done & kLowBits) << i;
    store(eight);
  }
}

// The bits of a plane, of codes in a source file.
inline void StorePlane(const QuantSpec& spec, Plane plane, const SlabRow& codes, std::uint8_t* slab,
                       std::size_t row) {
  StoreCodes(spec.plane_bits(plane), DropBits(codes, spec.bits_below(plane)), slab, row);
}

// Scales (and minima) of a block of a one-level format, which becomes group g of a unit.
inline void PackScales(const QuantSpec& spec, const std::uint8_t* block, std::size_t g,
                       std::size_t row, std::uint8_t* unit) {
  const std::size_t at = 2 * (g * kPanelRows + row);
  std::memcpy(unit + spec.scales_offset() + at, block, 2);
  if (!spec.has_min) return;
  // The source adds its minimum, panels subtract theirs.
  const auto min = LoadLittleEndian<std::uint16_t>(block + 2);
  StoreLittleEndian(static_cast<std::uint16_t>(min ^ 0x8000u), unit + spec.mins_offset() + at);
}

// Scales (and minima) of a block of a two-level format, which becomes a unit.
inline void PackSuperScales(const QuantSpec& spec, const std::uint8_t* block, std::size_t row,
                            std::uint8_t* unit) {
  std::uint8_t* const scales = unit + spec.scales_offset() + row;
  std::uint8_t* const mins = unit + spec.mins_offset() + row;
  std::size_t d = 0;  // where the block has its f16 factor; that of the minima follows
  switch (spec.format) {
    case Format::kQ4_K:
    case Format::kQ5_K:
      for (std::size_t g = 0; g < 4; ++g) {
        // Scales and mins 0..3 fill the low 6 bits of bytes 0..7. Those of 4..7 have their low 4
        // bits in bytes 8..11 and their high 2 bits in the top of bytes 0..7.
        const unsigned a = block[4 + g], b = block[8 + g], c = block[12 + g];
        scales[g * kPanelRows] = static_cast<std::uint8_t>(a & 63);
        mins[g * kPanelRows] = static_cast<std::uint8_t>(b & 63);
        scales[(g + 4) * kPanelRows] = static_cast<std::uint8_t>((c & 15) | (a >> 6 << 4));
        mins[(g + 4) * kPanelRows] = static_cast<std::uint8_t>(c >> 4 | (b >> 6 << 4));
      }
      break;
    case Format::kQ2_K:
      for (std::size_t g = 0; g < 16; ++g) scales[g * kPanelRows] = block[g];
      d = 80;
      break;
    case Format::kQ3_K:
      for (std::size_t g = 0; g < 16; ++g) {
        const int low = block[96 + g % 8] >> (g < 8 ? 0 : 4) & 15;
        const int high = block[104 + g % 4] >> (g / 4 * 2) & 3;
        scales[g * kPanelRows] = static_cast<std::uint8_t>((low | high << 4) - 32);
      }
      d = 108;
      break;
    case Format::kQ6_K:
      for (std::size_t g = 0; g < 16; ++g) scales[g * kPanelRows] = block[192 + g];
      d = 208;
      break;
    case Format::kIQ4_XS:
      for (std::size_t g = 0; g < 8; ++g) {
        const int low = block[4 + g / 2] >> (g % 2 * 4) & 15;
        const int high = block[2 + g / 4] >> (g % 4 * 2) & 3;
        scales[g * kPanelRows] = static_cast<std::uint8_t>((low | high << 4) - 32);
      }
      break;
    default:
      break;
  }
  std::memcpy(unit + 2 * row, block + d, 2);
  if (spec.has_min) std::memcpy(unit + 2 * (kPanelRows + row), block + d + 2, 2);
}

// Up to 16 rows into one panel, which is all zeros beforehand where `rows` or cols leave gaps.
inline void PackFloatPanel(std::size_t row_bytes, const std::uint8_t* source, std::size_t rows,
                           std::uint8_t* panel) {
  // A row has 4 bytes in every 64: one value, or a pair of halves. An odd half comes alone.
  for (std::size_t at = 0; at + 4 <= row_bytes; at += 4) {
    std::uint8_t* const out = panel + at / 4 * kQuadBytes;
    for (std::size_t row = 0; row < rows; ++row) {
      std::memcpy(out + 4 * row, source + row * row_bytes + at, 4);
    }
  }
  if (row_bytes % 4 == 0) return;
  std::uint8_t* const out = panel + row_bytes / 4 * kQuadBytes;
  for (std::size_t row = 0; row < rows; ++row) {
    std::memcpy(out + 4 * row, source + (row + 1) * row_bytes - 2, 2);
  }
}

inline void PackQuantPanel(const QuantSpec& spec, std::size_t row_bytes, const std::uint8_t* source,
                           std::size_t rows, std::uint8_t* panel) {
  const auto block_bytes = static_cast<std::size_t>(spec.source_bytes);
  const std::size_t blocks = row_bytes / block_bytes;           // of a row
  const std::size_t unit_blocks = spec.is_two_level() ? 1 : 2;  // of a unit
  const std::size_t slabs =
      static_cast<std::size_t>(spec.source_block) / kSlabInputs;  // of a block
  for (std::size_t b = 0; b < blocks; b += unit_blocks) {
    std::uint8_t* const unit = panel + b / unit_blocks * spec.unit_bytes();
    const std::size_t present = std::min(unit_blocks, blocks - b);
    for (std::size_t row = 0; row < rows; ++row) {
      const std::uint8_t* block = source + row * row_bytes + b * block_bytes;
      std::uint8_t* slab = unit + spec.slabs_offset();
      for (std::size_t i = 0; i < present; ++i) {
        if (spec.is_two_level()) {
          PackSuperScales(spec, block, row, unit);
        } else {
          PackScales(spec, block, i, row, unit);
        }
        for (std::size_t s = 0; s < slabs; ++s) {
          StorePlane(spec, Plane::kUnits, ReadCodes(spec.format, block, s), slab, row);
          slab += spec.slab_bytes();
        }
        block += block_bytes;
      }
    }
  }
}

// The slabs that belong to such a panel in a plane behind the units.
inline void PackSlabs(const QuantSpec& spec, Plane plane, std::size_t row_bytes,
                      const std::uint8_t* source, std::size_t rows, std::uint8_t* out) {
  const auto block_bytes = static_cast<std::size_t>(spec.source_bytes);
  const std::size_t slabs =
      static_cast<std::size_t>(spec.source_block) / kSlabInputs;  // of a block
  for (std::size_t b = 0; b < row_bytes / block_bytes; ++b) {
    for (std::size_t s = 0; s < slabs; ++s) {
      for (std::size_t row = 0; row < rows; ++row) {
        const std::uint8_t* block = source + row * row_bytes + b * block_bytes;
        StorePlane(spec, plane, ReadCodes(spec.format, block, s), out, row);
      }
      out += spec.slab_bytes(plane);
    }
  }
}

}  // namespace internal

// Bytes of one row of `cols` inputs in a source file. cols must be a multiple of spec.source_block.
constexpr std::size_t SourceRowBytes(const QuantSpec& spec, std::size_t cols) {
  return cols / static_cast<std::size_t>(spec.source_block) *
         static_cast<std::size_t>(spec.source_bytes);
}

// Packs a plane of the panels [first, first + count) of a matrix.
//   source  [rows, SourceRowBytes(cols)], the whole matrix; cols is a multiple of source_block
//   out     [count, plane_bytes(plane, cols)]
// Rows from `rows` on are zeros: the filling of the last panel, or whole panels behind it. Every
// byte of `out` is written.
inline void PackPanels(Format format, std::span<const std::uint8_t> source, std::size_t rows,
                       std::size_t cols, std::size_t first, std::size_t count, std::uint8_t* out,
                       Plane plane = Plane::kUnits) {
  const QuantSpec& spec = SpecOf(format);
  const std::size_t row_bytes = SourceRowBytes(spec, cols);
  const std::size_t panel_bytes = spec.plane_bytes(plane, cols);
  if (panel_bytes == 0) return;  // a plane that the format has not; `out` may be null
  // A format with a second scale level and no min leaves a field of every unit untouched.
  const bool gaps = (spec.is_two_level() && !spec.has_min) || spec.padded_cols(cols) != cols;
  for (std::size_t i = 0; i < count; ++i) {
    const std::size_t row = (first + i) * kPanelRows;
    const std::size_t present = row < rows ? std::min(kPanelRows, rows - row) : 0;
    std::uint8_t* const panel = out + i * panel_bytes;
    if (gaps || present < kPanelRows) std::memset(panel, 0, panel_bytes);
    if (present == 0) continue;
    const std::uint8_t* const begin = source.data() + row * row_bytes;
    if (plane != Plane::kUnits) {
      internal::PackSlabs(spec, plane, row_bytes, begin, present, panel);
    } else if (spec.is_float()) {
      internal::PackFloatPanel(row_bytes, begin, present, panel);
    } else {
      internal::PackQuantPanel(spec, row_bytes, begin, present, panel);
    }
  }
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
