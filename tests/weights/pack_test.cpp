#include "lapidary/weights/pack.h"

#include <cmath>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <vector>

#include "tests/support/catch.h"
#include "tests/support/dequantize.h"
#include "tests/support/panel.h"

namespace lapidary {
namespace {

using testing::Dequantize;
using testing::PanelValue;
using testing::RandomBlocks;
using testing::UnpackMatrix;

std::vector<std::uint8_t> FromHex(const std::string& hex) {
  std::vector<std::uint8_t> bytes;
  for (std::size_t i = 0; i < hex.size(); i += 2) {
    bytes.push_back(static_cast<std::uint8_t>(std::stoi(hex.substr(i, 2), nullptr, 16)));
  }
  return bytes;
}

// A packed matrix together with its memory, which had other contents before.
struct Packed {
  std::vector<std::uint8_t> bytes;
  PackedMatrix matrix;
};

Packed Pack(Format format, const std::vector<std::uint8_t>& source, std::size_t rows,
            std::size_t cols) {
  Packed packed;
  packed.matrix = {.format = format, .rows = rows, .cols = cols, .data = nullptr};
  packed.bytes.assign(packed.matrix.bytes(), 0xEE);
  packed.matrix.data = packed.bytes.data();
  std::uint8_t* out = packed.bytes.data();
  for (const Plane plane : kAllPlanes) {
    PackPanels(format, source, rows, cols, 0, CountPanels(rows), out, plane);
    out += CountPanels(rows) * SpecOf(format).plane_bytes(plane, cols);
  }
  return packed;
}

TEST_CASE("the scalar dequantisation of the tests equals that of ggml") {
  const auto goldens = nlohmann::json::parse(std::ifstream(LAPIDARY_GOLDEN_DIR "/quant.json"));
  CHECK(goldens.size() + 1 == std::size(kAllSpecs));
  for (const QuantSpec* spec : kAllSpecs) {
    CAPTURE(std::string(spec->name));
    // Planes are how Q8_0 is packed.
    const bool planes = spec->format == Format::kQ8_0Planes;
    const auto& golden = goldens.at(planes ? "Q8_0" : std::string(spec->name));
    const std::vector<std::uint8_t> source = FromHex(golden.at("source"));
    const std::vector<std::uint8_t> bits = FromHex(golden.at("values"));
    const std::vector<float> values = Dequantize(spec->format, source);
    REQUIRE(values.size() * 4 == bits.size());
    // Equal as numbers: a compiler may turn -0 * x around, but rounds every product as ggml does.
    for (std::size_t i = 0; i < values.size(); ++i) {
      float expected;
      std::memcpy(&expected, bits.data() + 4 * i, 4);
      CAPTURE(i);
      REQUIRE(values[i] == expected);
    }
    // And so does what packing makes of it.
    const Packed packed = Pack(spec->format, source, 1, values.size());
    CHECK(UnpackMatrix(packed.matrix) == values);
  }
}

TEST_CASE("packing keeps every value, at awkward sizes too") {
  std::mt19937 random(7);
  for (const QuantSpec* spec : kAllSpecs) {
    const auto block = static_cast<std::size_t>(spec->source_block);
    for (const std::size_t rows : {1u, 15u, 16u, 17u, 40u}) {
      for (const std::size_t blocks : {1u, 2u, 3u, 5u, 8u}) {
        const std::size_t cols = blocks * block;
        CAPTURE(std::string(spec->name), rows, cols);
        const std::vector<std::uint8_t> source = RandomBlocks(spec->format, rows * cols, random);
        const Packed packed = Pack(spec->format, source, rows, cols);
        REQUIRE(UnpackMatrix(packed.matrix) == Dequantize(spec->format, source));
        // The padding counts for nothing, whatever it is multiplied by.
        bool zero = true;
        const std::size_t padded_cols = spec->padded_cols(cols);
        for (std::size_t row = 0; row < CountPanels(rows) * kPanelRows; ++row) {
          for (std::size_t col = row < rows ? cols : 0; col < padded_cols; ++col) {
            zero = zero && PanelValue(packed.matrix, row, col) == 0;
          }
        }
        CHECK(zero);
      }
    }
  }
}

TEST_CASE("panels packed in slices are those packed at once") {
  std::mt19937 random(8);
  for (const QuantSpec* spec : kAllSpecs) {
    CAPTURE(std::string(spec->name));
    const std::size_t rows = 50, cols = 3 * static_cast<std::size_t>(spec->source_block);
    const std::vector<std::uint8_t> source = RandomBlocks(spec->format, rows * cols, random);
    const Packed whole = Pack(spec->format, source, rows, cols);
    std::vector<std::uint8_t> slices(whole.bytes.size(), 0xDD);
    std::uint8_t* out = slices.data();
    for (const Plane plane : kAllPlanes) {
      const std::size_t panel = spec->plane_bytes(plane, cols);
      PackPanels(spec->format, source, rows, cols, 3, 1, out + 3 * panel, plane);
      PackPanels(spec->format, source, rows, cols, 0, 2, out, plane);
      PackPanels(spec->format, source, rows, cols, 2, 1, out + 2 * panel, plane);
      out += 4 * panel;
      // Panels behind the last row are zeros.
      std::vector<std::uint8_t> behind(2 * panel, 0xDD);
      PackPanels(spec->format, source, rows, cols, 4, 2, behind.data(), plane);
      CHECK(behind == std::vector<std::uint8_t>(2 * panel));
    }
    CHECK(slices == whole.bytes);
  }
}

TEST_CASE("packed sizes stay close to those of the source") {
  for (const QuantSpec* spec : kAllSpecs) {
    CAPTURE(std::string(spec->name));
    const double packed = static_cast<double>(spec->panel_bytes(2560) * 16);
    const double source = static_cast<double>(16 * 16 * SourceRowBytes(*spec, 2560));
    // Q3_K keeps its 16 6-bit scales in a byte each.
    CHECK(packed <= (spec->format == Format::kQ3_K ? 1.06 : 1.03) * source);
    CHECK(packed >= source);
  }
}

TEST_CASE("widening to f32 is exact for all 65536 values of both 16-bit formats") {
  for (std::uint32_t bits = 0; bits < 65536; ++bits) {
    // Longer than a value: g++ 12 warns of reads for formats that are not asked for.
    const std::uint8_t bytes[256] = {static_cast<std::uint8_t>(bits),
                                     static_cast<std::uint8_t>(bits >> 8)};
    for (const Format format : {Format::kF16, Format::kBF16}) {
      const float wide = WidenToFloat(format, bytes);
      const float expected = Dequantize(format, bytes)[0];
      const bool same = std::isnan(expected)
                            ? std::isnan(wide)
                            : wide == expected && std::signbit(wide) == std::signbit(expected);
      if (!same) {
        CAPTURE(bits);
        FAIL("F16 or BF16 value widened wrongly");
      }
    }
  }
}

}  // namespace
}  // namespace lapidary
