// Reading packed panels, against a dequantiser that works on the blocks of the source file.
#include "tests/support/panel.h"

#include <cmath>
#include <cstdint>
#include <random>
#include <vector>

#include "lapidary/base/buffer.h"
#include "lapidary/kernels/panel-inl.h"
#include "tests/support/catch.h"
#include "tests/support/dequantize.h"
#include "tests/support/packed.h"
#include "tests/support/scalar.h"

HWY_BEFORE_NAMESPACE();
namespace lapidary {
namespace HWY_NAMESPACE {
namespace {

using lapidary::testing::AwkwardCols;
using lapidary::testing::Packed;
using lapidary::testing::PanelValue;
using lapidary::testing::SlabCode;

TEST_CASE("a row of a packed matrix is unpacked as its source says") {
  std::mt19937 random(1);
  for (const QuantSpec* spec : kAllSpecs) {
    for (const size_t cols : AwkwardCols(*spec)) {
      for (const size_t rows : {1, 15, 16, 17, 35}) {
        const Packed packed = Packed::Random(spec->format, rows, cols, random);
        std::vector<float> row(cols + 1);
        size_t wrong = 0;
        for (size_t r = 0; r < rows; ++r) {
          row[cols] = 123.0f;
          UnpackRow(packed.matrix, r, row.data());
          wrong += row[cols] != 123.0f;  // nothing behind the row is touched
          for (size_t k = 0; k < cols; ++k) {
            // Equal to the bit, except that scale * code - min may be one rounding or two.
            const float expected = packed.value(r, k);
            const float tolerance = spec->has_min ? 4e-7f * packed.largest(r) : 0.0f;
            wrong += !(std::abs(row[k] - expected) <= tolerance);
          }
        }
        CAPTURE(spec->name, rows, cols);
        CHECK(wrong == 0);
      }
    }
  }
}

template <Format kFormat>
void CheckCodes() {
  constexpr QuantSpec kSpec = SpecOf(kFormat);
  CAPTURE(kSpec.name);
  std::mt19937 random(2);
  std::vector<uint8_t> slab(kSpec.slab_bytes());
  for (int round = 0; round < 20; ++round) {
    for (uint8_t& byte : slab) byte = static_cast<uint8_t>(random());
    size_t wrong = 0;
    for (int q = 0; q < 8; ++q) {
      for (size_t v = 0; v < kPanelVectors; ++v) {
        HWY_ALIGN uint8_t codes[kVectorBytes];
        hn::Store(LoadCodes<kFormat>(slab.data(), q, v), DU8(), codes);
        for (size_t i = 0; i < kVectorBytes; ++i) {
          const size_t row = v * kLanes + i / 4;
          const size_t input = static_cast<size_t>(q) * 4 + i % 4;
          wrong += codes[i] != SlabCode(kSpec.bits, slab.data(), row, input);
        }
      }
    }
    CHECK(wrong == 0);
  }
}

TEST_CASE("codes of a slab are cut out of their bit planes") {
  CheckCodes<Format::kQ4_0>();
  CheckCodes<Format::kQ5_0>();
  CheckCodes<Format::kQ8_0>();
  CheckCodes<Format::kQ4_K>();
  CheckCodes<Format::kQ6_K>();
}

// f16 numbers of all kinds that are finite: signs, subnormal ones, the largest.
uint16_t SomeHalf(std::mt19937& random) {
  const uint16_t bits = static_cast<uint16_t>(random());
  return (bits & 0x7C00) == 0x7C00 ? static_cast<uint16_t>(bits & 0x83FF) : bits;
}

template <Format kFormat>
void CheckScales() {
  constexpr QuantSpec kSpec = SpecOf(kFormat);
  CAPTURE(kSpec.name);
  std::mt19937 random(3);
  std::vector<uint8_t> unit(kSpec.unit_bytes());
  for (int round = 0; round < 50; ++round) {
    for (uint8_t& byte : unit) byte = static_cast<uint8_t>(random());
    const auto tame = [&](size_t at, size_t count) {
      for (size_t i = 0; i < count; ++i) {
        const uint16_t half = SomeHalf(random);
        std::memcpy(unit.data() + at + 2 * i, &half, 2);
      }
    };
    const size_t groups = kSpec.unit_groups();
    tame(0, kSpec.scale == ScaleKind::kF16 ? groups * 16 : 32);
    size_t wrong = 0;
    for (size_t g = 0; g < groups; ++g) {
      for (size_t r = 0; r < 16; ++r) {
        float scale, min = 0;
        if (kSpec.scale == ScaleKind::kF16) {
          scale = lapidary::testing::HalfToFloat(unit.data() + 2 * (16 * g + r));
        } else {
          const int8_t factor = static_cast<int8_t>(unit[64 + 16 * g + r]);
          scale = lapidary::testing::HalfToFloat(unit.data() + 2 * r) * static_cast<float>(factor);
          const uint8_t min_factor = unit[64 + 16 * groups + 16 * g + r];
          min = lapidary::testing::HalfToFloat(unit.data() + 32 + 2 * r) *
                static_cast<float>(min_factor);
        }
        HWY_ALIGN float loaded[kLanes];
        hn::Store(LoadScales<kFormat>(unit.data(), g, r / kLanes), DF(), loaded);
        wrong += loaded[r % kLanes] != scale;
        if constexpr (kSpec.has_min) {
          hn::Store(LoadMins<kFormat>(unit.data(), g, r / kLanes), DF(), loaded);
          wrong += loaded[r % kLanes] != min;
        }
      }
    }
    CHECK(wrong == 0);
  }
}

TEST_CASE("scales and minima of a unit are exact products") {
  CheckScales<Format::kQ4_0>();
  CheckScales<Format::kQ5_0>();
  CheckScales<Format::kQ8_0>();
  CheckScales<Format::kQ4_K>();
  CheckScales<Format::kQ6_K>();
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace lapidary
HWY_AFTER_NAMESPACE();
