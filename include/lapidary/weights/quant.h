// The formats of weights, as data, and the packed panels in which a matrix is stored.
//
// Panels. A matrix of [rows, cols] (one row per output, one column per input) is cut into panels of
// 16 rows; the last one is filled up with rows of zeros. Inside a panel, inputs come in *quads*: 4
// consecutive inputs of each of the 16 rows side by side, byte 4 * row + input. A quad is 64 bytes
// of 8-bit codes: one 512-bit vector, two 256-bit, four 128-bit. That is the order that dot
// products of unsigned weight bytes with a broadcast quad of activation bytes want, on every CPU.
//
// Codes. 32 consecutive inputs of a panel (8 quads) are a *slab*. Codes of fewer than 8 bits are
// split into bit planes, each 64-byte row of which serves several quads with a shift and a mask:
//   8 bits        8 rows, row q = quad q
//   low 4 bits    4 rows, row r: low nibbles = quad r, high nibbles = quad r + 4
//   2 bits        2 rows, row r: bits 2i, 2i+1 = quad 4r + i
//   1 bit         1 row,         bit q = quad q
// 5 bits = the 4-bit plane, then 1 bit; 6 = 4, then 2; 3 = 2, then 1; lowest bits first.
//
// Scales. A *unit* of a panel is a run of inputs that is stored together: its scales, then its
// slabs.
//   one-level formats (kF16): 64 inputs
//       f16 scale[2][16]  (f16 min[2][16])  slab[2]
//   two-level formats (kF16TimesI8): 256 inputs, `groups` = 256 / group
//       f16 d[16]  f16 dmin[16] (zeros if there is no min)  i8 scale[groups][16]  (u8
//       min[groups][16]) slab[8]
//   two-level formats with 4-bit scales (kF16TimesHalves): the same, but one byte holds both of a
//   group
//       f16 d[16]  f16 dmin[16]  u8 scale_and_min[groups][16] (low half: scale)  slab[8]
// weight = scale * (code - zero) - min, with scale = d * scale[g] and min = dmin * min[g] in the
// two-level cases. (Q4_1 and Q5_1 add their min: it is stored with its sign turned.) Inputs are
// padded to whole units with zeros.
//
// A codebook format replaces its 4-bit code by a byte, kCodebook[code], before anything else: its
// values are stored 128 too high, so that they are unsigned like all codes, and 128 is the zero.
//
// A format in planes (middle_bits, low_bits) keeps all but the highest bits of its codes apart, in
// slabs behind the units of all panels, so that who needs the high bits only reads no others:
//   unit[panels][units]  slab of middle bits[panels][slabs of a row]  slab of low bits[...][...]
//
// Float formats have no scales: f32 panels hold input after input, 16 rows * 4 bytes; f16 and bf16
// panels hold pairs of inputs, 16 rows * 2 inputs * 2 bytes. Odd columns are padded to pairs.
//
// All bits are those of the source file: packing moves them and loses none.
#ifndef LAPIDARY_WEIGHTS_QUANT_H_
#define LAPIDARY_WEIGHTS_QUANT_H_

#include <bit>
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
  kQ4_1 = 3,
  kQ5_0 = 6,
  kQ5_1 = 7,
  kQ8_0 = 8,
  kQ2_K = 10,
  kQ3_K = 11,
  kQ4_K = 12,
  kQ5_K = 13,
  kQ6_K = 14,
  kIQ4_NL = 20,
  kIQ4_XS = 23,
  kBF16 = 30,
  // Not of GGUF: the weights of Q8_0 in planes, for the output head (model/output_head-inl.h).
  // (1008 was a layout in two planes.)
  kQ8_0Planes = 2008,
};

enum class ScaleKind : std::uint8_t {
  kNone,            // a float format
  kF16,             // one f16 scale (and min) per group
  kF16TimesI8,      // f16 per 256 inputs times an 8-bit integer per group
  kF16TimesHalves,  // f16 per 256 inputs times half a byte per group, scale and min in one byte
};

// The values of IQ4_NL and IQ4_XS (kvalues_iq4nl of ggml) plus 128.
inline constexpr std::uint8_t kCodebook[16] = {1,   24,  45,  63,  79,  93,  106, 118,
                                               129, 141, 153, 166, 181, 197, 217, 241};

// What a packed matrix consists of, one behind the other. Only units hold scales.
enum class Plane {
  kUnits,   // [panels][units]
  kMiddle,  // [panels][slabs of a row]; empty unless the format keeps these bits apart
  kLow,     // the same
};
inline constexpr Plane kAllPlanes[] = {Plane::kUnits, Plane::kMiddle, Plane::kLow};

struct QuantSpec {
  Format format = Format::kF32;
  std::string_view name;
  int bits = 0;         // of a stored code; of a value for float formats
  int middle_bits = 0;  // of these, kept in slabs of their own behind the units
  int low_bits = 0;     // the same, the lowest
  int group = 1;        // inputs that share a scale: 16 or 32; 1 for float formats
  int zero = 0;         // the code that means 0
  ScaleKind scale = ScaleKind::kNone;
  bool has_min = false;
  bool has_codebook = false;
  int source_block = 1;  // inputs of a block of the source file
  int source_bytes = 0;  // bytes of such a block

  constexpr bool is_float() const { return scale == ScaleKind::kNone; }
  constexpr bool is_two_level() const {
    return scale == ScaleKind::kF16TimesI8 || scale == ScaleKind::kF16TimesHalves;
  }
  constexpr bool is_in_planes() const { return low_bits != 0; }
  // Bits of a code that a plane holds.
  constexpr int plane_bits(Plane plane) const {
    if (plane == Plane::kMiddle) return middle_bits;
    return plane == Plane::kLow ? low_bits : bits - middle_bits - low_bits;
  }
  // Bits of a code below these.
  constexpr int bits_below(Plane plane) const {
    return plane == Plane::kUnits ? middle_bits + low_bits : plane == Plane::kMiddle ? low_bits : 0;
  }
  // Bits of a code as the arithmetic sees it.
  constexpr int code_bits() const { return has_codebook ? 8 : bits; }

  // Inputs of a unit: the granularity to which a row is padded.
  constexpr std::size_t unit_inputs() const { return is_float() ? 2 : is_two_level() ? 256 : 64; }
  constexpr std::size_t unit_groups() const {
    return is_float() ? 0 : unit_inputs() / static_cast<std::size_t>(group);
  }
  // Bytes of the codes of 32 inputs of a panel.
  constexpr std::size_t slab_bytes(Plane plane = Plane::kUnits) const {
    return kPanelRows * kSlabInputs * static_cast<std::size_t>(plane_bits(plane)) / 8;
  }
  // Offsets inside a unit.
  constexpr std::size_t scales_offset() const { return is_two_level() ? 2 * 2 * kPanelRows : 0; }
  constexpr std::size_t scales_bytes() const {
    return unit_groups() * kPanelRows * (scale == ScaleKind::kF16 ? 2 : 1);
  }
  constexpr std::size_t mins_offset() const {
    return scales_offset() + (scale == ScaleKind::kF16TimesHalves ? 0 : scales_bytes());
  }
  constexpr std::size_t slabs_offset() const {
    return (has_min ? mins_offset() : scales_offset()) + scales_bytes();
  }
  constexpr std::size_t unit_bytes() const {
    if (is_float()) return kPanelRows * unit_inputs() * static_cast<std::size_t>(bits) / 8;
    return slabs_offset() + unit_inputs() / kSlabInputs * slab_bytes();
  }
  // A shift, because dividing by a number that the compiler does not know takes as long as some
  // hundred weights.
  constexpr std::size_t units(std::size_t cols) const {
    return (cols + unit_inputs() - 1) >> std::countr_zero(unit_inputs());
  }
  constexpr std::size_t padded_cols(std::size_t cols) const { return units(cols) * unit_inputs(); }
  // Bytes of a panel, in a plane and in all of them.
  constexpr std::size_t plane_bytes(Plane plane, std::size_t cols) const {
    if (plane == Plane::kUnits) return units(cols) * unit_bytes();
    return padded_cols(cols) / kSlabInputs * slab_bytes(plane);
  }
  constexpr std::size_t panel_bytes(std::size_t cols) const {
    std::size_t bytes = 0;
    for (const Plane plane : kAllPlanes) bytes += plane_bytes(plane, cols);
    return bytes;
  }
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
inline constexpr QuantSpec kQ4_1Spec = {.format = Format::kQ4_1,
                                        .name = "Q4_1",
                                        .bits = 4,
                                        .group = 32,
                                        .scale = ScaleKind::kF16,
                                        .has_min = true,
                                        .source_block = 32,
                                        .source_bytes = 20};
inline constexpr QuantSpec kQ5_0Spec = {.format = Format::kQ5_0,
                                        .name = "Q5_0",
                                        .bits = 5,
                                        .group = 32,
                                        .zero = 16,
                                        .scale = ScaleKind::kF16,
                                        .source_block = 32,
                                        .source_bytes = 22};
inline constexpr QuantSpec kQ5_1Spec = {.format = Format::kQ5_1,
                                        .name = "Q5_1",
                                        .bits = 5,
                                        .group = 32,
                                        .scale = ScaleKind::kF16,
                                        .has_min = true,
                                        .source_block = 32,
                                        .source_bytes = 24};
inline constexpr QuantSpec kQ8_0Spec = {.format = Format::kQ8_0,
                                        .name = "Q8_0",
                                        .bits = 8,
                                        .group = 32,
                                        .zero = 128,
                                        .scale = ScaleKind::kF16,
                                        .source_block = 32,
                                        .source_bytes = 34};
inline constexpr QuantSpec kQ8_0PlanesSpec = {.format = Format::kQ8_0Planes,
                                              .name = "Q8_0/3",
                                              .bits = 8,
                                              .middle_bits = 2,
                                              .low_bits = 4,
                                              .group = 32,
                                              .zero = 128,
                                              .scale = ScaleKind::kF16,
                                              .source_block = 32,
                                              .source_bytes = 34};
inline constexpr QuantSpec kQ2_KSpec = {.format = Format::kQ2_K,
                                        .name = "Q2_K",
                                        .bits = 2,
                                        .group = 16,
                                        .scale = ScaleKind::kF16TimesHalves,
                                        .has_min = true,
                                        .source_block = 256,
                                        .source_bytes = 84};
inline constexpr QuantSpec kQ3_KSpec = {.format = Format::kQ3_K,
                                        .name = "Q3_K",
                                        .bits = 3,
                                        .group = 16,
                                        .zero = 4,
                                        .scale = ScaleKind::kF16TimesI8,
                                        .source_block = 256,
                                        .source_bytes = 110};
inline constexpr QuantSpec kQ4_KSpec = {.format = Format::kQ4_K,
                                        .name = "Q4_K",
                                        .bits = 4,
                                        .group = 32,
                                        .scale = ScaleKind::kF16TimesI8,
                                        .has_min = true,
                                        .source_block = 256,
                                        .source_bytes = 144};
inline constexpr QuantSpec kQ5_KSpec = {.format = Format::kQ5_K,
                                        .name = "Q5_K",
                                        .bits = 5,
                                        .group = 32,
                                        .scale = ScaleKind::kF16TimesI8,
                                        .has_min = true,
                                        .source_block = 256,
                                        .source_bytes = 176};
inline constexpr QuantSpec kQ6_KSpec = {.format = Format::kQ6_K,
                                        .name = "Q6_K",
                                        .bits = 6,
                                        .group = 16,
                                        .zero = 32,
                                        .scale = ScaleKind::kF16TimesI8,
                                        .source_block = 256,
                                        .source_bytes = 210};
inline constexpr QuantSpec kIQ4_NLSpec = {.format = Format::kIQ4_NL,
                                          .name = "IQ4_NL",
                                          .bits = 4,
                                          .group = 32,
                                          .zero = 128,
                                          .scale = ScaleKind::kF16,
                                          .has_codebook = true,
                                          .source_block = 32,
                                          .source_bytes = 18};
inline constexpr QuantSpec kIQ4_XSSpec = {.format = Format::kIQ4_XS,
                                          .name = "IQ4_XS",
                                          .bits = 4,
                                          .group = 32,
                                          .zero = 128,
                                          .scale = ScaleKind::kF16TimesI8,
                                          .has_codebook = true,
                                          .source_block = 256,
                                          .source_bytes = 136};

// Turns a run-time format into a compile-time one: calls f.template operator()<format>(). Returns
// false for a number that is no format of this library.
template <class F>
constexpr bool WithFormat(Format format, F&& f) {
  switch (format) {
    case Format::kF32:
      f.template operator()<Format::kF32>();
      return true;
    case Format::kF16:
      f.template operator()<Format::kF16>();
      return true;
    case Format::kBF16:
      f.template operator()<Format::kBF16>();
      return true;
    case Format::kQ4_0:
      f.template operator()<Format::kQ4_0>();
      return true;
    case Format::kQ4_1:
      f.template operator()<Format::kQ4_1>();
      return true;
    case Format::kQ5_0:
      f.template operator()<Format::kQ5_0>();
      return true;
    case Format::kQ5_1:
      f.template operator()<Format::kQ5_1>();
      return true;
    case Format::kQ8_0:
      f.template operator()<Format::kQ8_0>();
      return true;
    case Format::kQ8_0Planes:
      f.template operator()<Format::kQ8_0Planes>();
      return true;
    case Format::kQ2_K:
      f.template operator()<Format::kQ2_K>();
      return true;
    case Format::kQ3_K:
      f.template operator()<Format::kQ3_K>();
      return true;
    case Format::kQ4_K:
      f.template operator()<Format::kQ4_K>();
      return true;
    case Format::kQ5_K:
      f.template operator()<Format::kQ5_K>();
      return true;
    case Format::kQ6_K:
      f.template operator()<Format::kQ6_K>();
      return true;
    case Format::kIQ4_NL:
      f.template operator()<Format::kIQ4_NL>();
      return true;
    case Format::kIQ4_XS:
      f.template operator()<Format::kIQ4_XS>();
      return true;
  }
  return false;
}

inline constexpr const QuantSpec* kAllSpecs[] = {
    &kF32Spec,  &kF16Spec,  &kBF16Spec,       &kQ4_0Spec,  &kQ4_1Spec, &kQ5_0Spec,
    &kQ5_1Spec, &kQ8_0Spec, &kQ8_0PlanesSpec, &kQ2_KSpec,  &kQ3_KSpec, &kQ4_KSpec,
    &kQ5_KSpec, &kQ6_KSpec, &kIQ4_NLSpec,     &kIQ4_XSSpec};

// A switch, because a step of decode asks for the spec of every panel: a search through kAllSpecs
// took 4 to 5 % of a step of the 270M (two cores and one of Zen 3).
constexpr const QuantSpec& SpecOf(Format format) {
  switch (format) {
    case Format::kF32:
      return kF32Spec;
    case Format::kF16:
      return kF16Spec;
    case Format::kQ4_0:
      return kQ4_0Spec;
    case Format::kQ4_1:
      return kQ4_1Spec;
    case Format::kQ5_0:
      return kQ5_0Spec;
    case Format::kQ5_1:
      return kQ5_1Spec;
    case Format::kQ8_0:
      return kQ8_0Spec;
    case Format::kQ8_0Planes:
      return kQ8_0PlanesSpec;
    case Format::kQ2_K:
      return kQ2_KSpec;
    case Format::kQ3_K:
      return kQ3_KSpec;
    case Format::kQ4_K:
      return kQ4_KSpec;
    case Format::kQ5_K:
      return kQ5_KSpec;
    case Format::kQ6_K:
      return kQ6_KSpec;
    case Format::kIQ4_NL:
      return kIQ4_NLSpec;
    case Format::kIQ4_XS:
      return kIQ4_XSSpec;
    case Format::kBF16:
      return kBF16Spec;
  }
  return kF32Spec;
}

// The spec of a format number as files write it; null for one that this library does not read.
constexpr const QuantSpec* FindSpec(std::uint32_t format) {
  const QuantSpec& spec = SpecOf(static_cast<Format>(format));
  return static_cast<std::uint32_t>(spec.format) == format ? &spec : nullptr;
}

// The same for the files of others.
constexpr const QuantSpec* FindSourceSpec(std::uint32_t format) {
  const QuantSpec* spec = FindSpec(format);
  return spec == nullptr || spec->is_in_planes() ? nullptr : spec;
}

// A matrix in packed panels: a view of a mapped file, or of memory that packing filled.
struct PackedMatrix {
  Format format = Format::kF32;
  std::size_t rows = 0;  // outputs
  std::size_t cols = 0;  // inputs
  // Plane after plane.
  const std::uint8_t* data = nullptr;

  std::size_t panels() const { return CountPanels(rows); }
  std::size_t panel_bytes() const { return SpecOf(format).panel_bytes(cols); }
  std::size_t bytes() const { return panels() * panel_bytes(); }
  // Units of panel i.
  const std::uint8_t* panel(std::size_t i) const {
    return data + i * SpecOf(format).plane_bytes(Plane::kUnits, cols);
  }
  // What panel i has in a plane. `spec` is that of the format: a constant makes this cheap.
  const std::uint8_t* panel(const QuantSpec& spec, Plane plane, std::size_t i) const {
    std::size_t before = 0;
    if (plane != Plane::kUnits) before += spec.plane_bytes(Plane::kUnits, cols);
    if (plane == Plane::kLow) before += spec.plane_bytes(Plane::kMiddle, cols);
    return data + panels() * before + i * spec.plane_bytes(plane, cols);
  }
};

}  // namespace lapidary

#endif  // LAPIDARY_WEIGHTS_QUANT_H_
