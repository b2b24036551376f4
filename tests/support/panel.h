// Reads packed panels one value at a time, straight from the description in quant.h.
#ifndef LAPIDARY_TESTS_SUPPORT_PANEL_H_
#define LAPIDARY_TESTS_SUPPORT_PANEL_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "lapidary/weights/quant.h"
#include "tests/support/dequantize.h"

namespace lapidary::testing {

// The code of input `i` (0 .. 31) of row `r` in a slab.
inline int SlabCode(int bits, const std::uint8_t* slab, std::size_t r, std::size_t i) {
  const std::size_t quad = i / 4;
  const std::size_t byte = 4 * r + i % 4;
  if (bits == 8) return slab[64 * quad + byte];
  int code = 0, shift = 0;
  if (bits >= 4) {
    code = slab[64 * (quad % 4) + byte] >> (quad < 4 ? 0 : 4) & 15;
    slab += 4 * 64;
    shift = 4;
    bits -= 4;
  }
  if (bits >= 2) {
    code |= (slab[64 * (quad / 4) + byte] >> (2 * (quad % 4)) & 3) << shift;
    slab += 2 * 64;
    shift += 2;
    bits -= 2;
  }
  if (bits == 1) code |= (slab[byte] >> quad & 1) << shift;
  return code;
}

// The same where codes are in planes: slabs of their highest, middle and lowest bits.
inline int SlabCode(const QuantSpec& spec, const std::uint8_t* slab, const std::uint8_t* middle,
                    const std::uint8_t* low, std::size_t r, std::size_t i) {
  const int middle_bits = spec.middle_bits, low_bits = spec.low_bits;
  int code = SlabCode(spec.bits - middle_bits - low_bits, slab, r, i);
  if (middle_bits != 0) code = code << middle_bits | SlabCode(middle_bits, middle, r, i);
  if (low_bits != 0) code = code << low_bits | SlabCode(low_bits, low, r, i);
  return code;
}

// The value at (row, col); both may lie in the padding.
inline float PanelValue(const PackedMatrix& matrix, std::size_t row, std::size_t col) {
  const QuantSpec& spec = SpecOf(matrix.format);
  const std::uint8_t* panel = matrix.panel(row / 16);
  const std::size_t r = row % 16;
  if (matrix.format == Format::kF32) {
    float value = 0;
    DequantizeBlock(Format::kF32, panel + 64 * col + 4 * r, &value);
    return value;
  }
  if (spec.is_float()) {
    float value = 0;
    DequantizeBlock(matrix.format, panel + 64 * (col / 2) + 4 * r + 2 * (col % 2), &value);
    return value;
  }
  const std::uint8_t* unit = panel + col / spec.unit_inputs() * spec.unit_bytes();
  const std::size_t i = col % spec.unit_inputs();
  const std::size_t group = i / static_cast<std::size_t>(spec.group);
  const std::size_t groups = spec.unit_inputs() / static_cast<std::size_t>(spec.group);
  float scale, min = 0;
  const std::uint8_t* slabs = unit;
  if (spec.scale == ScaleKind::kF16) {
    scale = HalfToFloat(slabs + 2 * (16 * group + r));
    slabs += 2 * 16 * groups;
    if (spec.has_min) {
      min = HalfToFloat(slabs + 2 * (16 * group + r));
      slabs += 2 * 16 * groups;
    }
  } else if (spec.scale == ScaleKind::kF16TimesHalves) {
    const int both = unit[64 + 16 * group + r];
    scale = HalfToFloat(unit + 2 * r) * static_cast<float>(both % 16);
    min = HalfToFloat(unit + 32 + 2 * r) * static_cast<float>(both / 16);
    slabs = unit + 64 + 16 * groups;
  } else {
    scale = HalfToFloat(unit + 2 * r) *
            static_cast<float>(static_cast<std::int8_t>(unit[64 + 16 * group + r]));
    slabs = unit + 64 + 16 * groups;
    if (spec.has_min) {
      min = HalfToFloat(unit + 32 + 2 * r) * static_cast<float>(slabs[16 * group + r]);
      slabs += 16 * groups;
    }
  }
  // Behind the units of all panels come slabs of 64 bytes a bit: of middle bits, then of low ones.
  const std::size_t panels = matrix.panels(), row_slabs = spec.padded_cols(matrix.cols) / 32;
  const auto middle_bytes = static_cast<std::size_t>(64 * spec.middle_bits);
  const auto low_bytes = static_cast<std::size_t>(64 * spec.low_bits);
  const std::uint8_t* middles = matrix.data + panels * spec.units(matrix.cols) * spec.unit_bytes();
  const std::uint8_t* lows = middles + panels * row_slabs * middle_bytes;
  const std::size_t slab = row / 16 * row_slabs + col / 32;
  const auto unit_slab_bytes =
      static_cast<std::size_t>(64 * (spec.bits - spec.middle_bits - spec.low_bits));
  const int code = SlabCode(spec, slabs + i / 32 * unit_slab_bytes, middles + slab * middle_bytes,
                            lows + slab * low_bytes, r, i % 32);
  if (spec.has_codebook) return scale * static_cast<float>(kNonLinear[code]);
  return scale * static_cast<float>(code - spec.zero) - min;
}

// [rows, cols]
inline std::vector<float> UnpackMatrix(const PackedMatrix& matrix) {
  std::vector<float> values;
  values.reserve(matrix.rows * matrix.cols);
  for (std::size_t row = 0; row < matrix.rows; ++row) {
    for (std::size_t col = 0; col < matrix.cols; ++col)
      values.push_back(PanelValue(matrix, row, col));
  }
  return values;
}

}  // namespace lapidary::testing

#endif  // LAPIDARY_TESTS_SUPPORT_PANEL_H_
