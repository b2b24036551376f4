// The formats of weights, as data, and the packed panels in which a matrix is stored.
//
// Panels. A matrix of [rows, cols] (one row per output, one column per input) is cut into panels of
// 16 rows; the last one is filled up with rows of zeros. Inside a panel, inputs come in *quads*: 4
// consecutive inputs of each of the 16 rows side by side, byte 4 * row + input. A quad is 64 bytes
// of 8-bit codes: one 512-bit vector, two 256-bit, four 128-bit. That is the order that dot products of
// unsigned weight bytes with a broadcast quad of activation bytes want, on every CPU.
//
// Codes. 32 consecutive inputs of a panel (8 quads) are a *slab*. Codes of fewer than 8 bits are split
// into bit planes, each 64-byte row of which serves several quads with a shift and a mask:
//   8 bits        8 rows, row q = quad q
//   low 4 bits    4 rows, row r: low nibbles = quad r, high nibbles = quad r + 4
//   2 bits        2 rows, row r: bits 2i, 2i+1 = quad 4r + i
//   1 bit         1 row,         bit q = quad q
// 5 bits = the 4-bit plane, then 1 bit; 6 = 4, then 2; 3 = 2, then 1; lowest bits first.
//
// Scales. A *unit* of a panel is a run of inputs that is stored together: its scales, then its slabs.
//   one-level formats (kF16): 64 inputs
//       f16 scale[2][16]  (f16 min[2][16])  slab[2]
//   two-level formats (kF16TimesI8): 256 inputs, `groups` = 256 / group
//       f16 d[16]  f16 dmin[16] (zeros if there is no min)  i8 scale[groups][16]  (u8 min[groups][16])
//       slab[8]
// weight = scale * (code - zero) - min, with scale = d * scale[g] and min = dmin * min[g] in the second
// case; a codebook format replaces (code - zero) by kCodebook[code]. (Q4_1 and Q5_1 add their min: it is
// stored with its sign turned.) Inputs are padded to whole units with zeros.
//
// Float formats have no scales: f32 panels hold input after input, 16 rows * 4 bytes; f16 and bf16
// panels hold pairs of inputs, 16 rows * 2 inputs * 2 bytes. Odd columns are padded to pairs.
//
// All bits are those of the source file: packing moves them and loses none.
#ifndef LAPIDARY_WEIGHTS_QUANT_H_
#define LAPIDARY_WEIGHTS_QUANT_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace lapidary {

inline constexpr std::size_t kPanelRows = 16;
inline constexpr std::size_t kQuadBytes = kPanelRows * 4;
inline constexpr std::size_t kSlabInputs = 32;

// Numbers of the GGUF specification (ggml_type), so that files and messages need no translation.
enum class Format : std::uint32_t {
  kF32 = 0,
  kF16 = 1,
  kQ4_0 = 2,
  kQ5_0 = 6,
  kQ8_0 = 8,
  kQ4_K = 12,
  kQ6_K = 14,
  kBF16 = 30,
};

enum class ScaleKind : std::uint8_t {
  kNone,         // a float format
  kF16,          // one f16 scale (and min) per group
  kF16TimesI8,   // f16 per 256 inputs times an 8-bit integer per group
};

struct QuantSpec {
  Format format = Format::kF32;
  std::string_view name;
  int bits = 0;             // of a code; of a value for float formats
  int group = 1;            // inputs that share a scale: 16 or 32; 1 for float formats
  int zero = 0;             // the code that means 0
  ScaleKind scale = ScaleKind::kNone;
  bool has_min = false;
  bool has_codebook = false;
  int source_block = 1;     // inputs of a block of the source file
  int source_bytes = 0;     // bytes of such a block

  constexpr bool is_float() const { return scale == ScaleKind::kNone; }

  // Inputs of a unit: the granularity to which a row is padded.
  constexpr std::size_t unit_inputs() const {
    switch (scale) {
      case ScaleKind::kNone: return 2;
      case ScaleKind::kF16: return 64;
      case ScaleKind::kF16TimesI8: return 256;
    }
    return 2;
  }
  constexpr std::size_t unit_groups() const {
    return is_float() ? 0 : unit_inputs() / static_cast<std::size_t>(group);
  }
  // Bytes of the codes of 32 inputs of a panel.
  constexpr std::size_t slab_bytes() const {
    return kPanelRows * kSlabInputs * static_cast<std::size_t>(bits) / 8;
  }
  // Offsets inside a unit.
  constexpr std::size_t scales_offset() const {
    return scale == ScaleKind::kF16TimesI8 ? 2 * 2 * kPanelRows : 0;
  }
  constexpr std::size_t scales_bytes() const {
    return unit_groups() * kPanelRows * (scale == ScaleKind::kF16 ? 2 : 1);
  }
  constexpr std::size_t mins_offset() const { return scales_offset() + scales_bytes(); }
  constexpr std::size_t slabs_offset() const {
    return mins_offset() + (has_min ? scales_bytes() : 0);
  }
  constexpr std::size_t unit_bytes() const {
    if (is_float()) return kPanelRows * unit_inputs() * static_cast<std::size_t>(bits) / 8;
    return slabs_offset() + unit_inputs() / kSlabInputs * slab_bytes();
  }
  constexpr std::size_t units(std::size_t cols) const {
    return (cols + unit_inputs() - 1) / unit_inputs();
  }
  constexpr std::size_t padded_cols(std::size_t cols) const { return units(cols) * unit_inputs(); }
  constexpr std::size_t panel_bytes(std::size_t cols) const { return units(cols) * unit_bytes(); }
};

constexpr std::size_t CountPanels(std::size_t rows) { return (rows + kPanelRows - 1) / kPanelRows; }

inline constexpr QuantSpec kF32Spec = {
    .format = Format::kF32, .name = "F32", .bits = 32, .source_bytes = 4};
inline constexpr QuantSpec kF16Spec = {
    .format = Format::kF16, .name = "F16", .bits = 16, .source_bytes = 2};
inline constexpr QuantSpec kBF16Spec = {
    .format = Format::kBF16, .name = "BF16", .bits = 16, .source_bytes = 2};
inline constexpr QuantSpec kQ4_0Spec = {.format = Format::kQ4_0,
                                        .name = "Q4_0",
                                        .bits = 4,
                                        .group = 32,
                                        .zero = 8,
                                        .scale = ScaleKind::kF16,
                                        .source_block = 32,
                                        .source_bytes = 18};
inline constexpr QuantSpec kQ5_0Spec = {.format = Format::kQ5_0,
                                        .name = "Q5_0",
                                        .bits = 5,
                                        .group = 32,
                                        .zero = 16,
                                        .scale = ScaleKind::kF16,
                                        .source_block = 32,
                                        .source_bytes = 22};
inline constexpr QuantSpec kQ8_0Spec = {.format = Format::kQ8_0,
                                        .name = "Q8_0",
                                        .bits = 8,
                                        .group = 32,
                                        .zero = 128,
                                        .scale = ScaleKind::kF16,
                                        .source_block = 32,
                                        .source_bytes = 34};
inline constexpr QuantSpec kQ4_KSpec = {.format = Format::kQ4_K,
                                        .name = "Q4_K",
                                        .bits = 4,
                                        .group = 32,
                                        .scale = ScaleKind::kF16TimesI8,
                                        .has_min = true,
                                        .source_block = 256,
                                        .source_bytes = 144};
inline constexpr QuantSpec kQ6_KSpec = {.format = Format::kQ6_K,
                                        .name = "Q6_K",
                                        .bits = 6,
                                        .group = 16,
                                        .zero = 32,
                                        .scale = ScaleKind::kF16TimesI8,
                                        .source_block = 256,
                                        .source_bytes = 210};

// Turns a run-time format into a compile-time one: calls f.template operator()<format>(). Returns false
// for a number that is no format of this library.
template <class F>
constexpr bool WithFormat(Format format, F&& f) {
  switch (format) {
    case Format::kF32: f.template operator()<Format::kF32>(); return true;
    case Format::kF16: f.template operator()<Format::kF16>(); return true;
    case Format::kBF16: f.template operator()<Format::kBF16>(); return true;
    case Format::kQ4_0: f.template operator()<Format::kQ4_0>(); return true;
    case Format::kQ5_0: f.template operator()<Format::kQ5_0>(); return true;
    case Format::kQ8_0: f.template operator()<Format::kQ8_0>(); return true;
    case Format::kQ4_K: f.template operator()<Format::kQ4_K>(); return true;
    case Format::kQ6_K: f.template operator()<Format::kQ6_K>(); return true;
  }
  return false;
}

inline constexpr const QuantSpec* kAllSpecs[] = {&kF32Spec,  &kF16Spec,  &kBF16Spec, &kQ4_0Spec,
                                                 &kQ5_0Spec, &kQ8_0Spec, &kQ4_KSpec, &kQ6_KSpec};

// The spec of a format number as files write it; null for one that this library does not read.
constexpr const QuantSpec* FindSpec(std::uint32_t format) {
  for (const QuantSpec* spec : kAllSpecs) {
    if (static_cast<std::uint32_t>(spec->format) == format) return spec;
  }
  return nullptr;
}

// Not through FindSpec: g++ 12 with -fsanitize=undefined takes no comparison with null for a constant.
constexpr const QuantSpec& SpecOf(Format format) {
  for (const QuantSpec* spec : kAllSpecs) {
    if (spec->format == format) return *spec;
  }
  return kF32Spec;
}

// A matrix in packed panels: a view of a mapped file, or of memory that packing filled.
struct PackedMatrix {
  Format format = Format::kF32;
  std::size_t rows = 0;  // outputs
  std::size_t cols = 0;  // inputs
  const std::uint8_t* data = nullptr;  // [CountPanels(rows), SpecOf(format).panel_bytes(cols)]

  std::size_t panels() const { return CountPanels(rows); }
  std::size_t panel_bytes() const { return SpecOf(format).panel_bytes(cols); }
  std::size_t bytes() const { return panels() * panel_bytes(); }
  const std::uint8_t* panel(std::size_t i) const { return data + i * panel_bytes(); }
};

}  // namespace lapidary

#endif  // LAPIDARY_WEIGHTS_QUANT_H_
