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

template <Format kFormat>
void CheckCodes() {
  constexpr QuantSpec kSpec = SpecOf(kFormat);
  CAPTURE(kSpec.name);
  std::mt19937 random(2);
  std::vector<uint8_t> slab(64 * kSpec.bits);
  // What is behind the units follows here.
  const uint8_t* const middle = slab.data() + kSpec.slab_bytes();
  const uint8_t* const low = middle + 64 * kSpec.middle_bits;
  for (int round = 0; round < 20; ++round) {
    for (uint8_t& byte : slab) byte = static_cast<uint8_t>(random());
    size_t wrong = 0;
    for (int q = 0; q < 8; ++q) {
      for (size_t v = 0; v < kPanelVectors; ++v) {
        HWY_ALIGN uint8_t codes[kVectorBytes];
        hn::Store(LoadCodes<kFormat>({slab.data(), middle, low}, q, v), DU8(), codes);
        for (size_t i = 0; i < kVectorBytes; ++i) {
          const size_t row = v * kLanes + i / 4;
          const size_t input = static_cast<size_t>(q) * 4 + i % 4;
          const int code = SlabCode(kSpec, slab.data(), middle, low, row, input);
          wrong +=
              codes[i] != (kSpec.has_codebook ? lapidary::testing::kNonLinear[code] + 128 : code);
        }
      }
    }
    CHECK(wrong == 0);
  }
}

TEST_CASE("codes of a slab are cut out of their bit planes") {
  for (const QuantSpec* spec : kAllSpecs) {
    WithFormat(spec->format, []<Format kFormat>() {
      if constexpr (!SpecOf(kFormat).is_float()) CheckCodes<kFormat>();
    });
  }
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
    const bool one_level = kSpec.scale == ScaleKind::kF16;
    const size_t halves = one_level ? groups * 16 : 32;
    tame(0, one_level && kSpec.has_min ? 2 * halves : halves);
    size_t wrong = 0;
    const auto half = [&](size_t at) { return lapidary::testing::HalfToFloat(unit.data() + at); };
    for (size_t g = 0; g < groups; ++g) {
      for (size_t r = 0; r < 16; ++r) {
        float scale, min;
        const uint8_t* factors = unit.data() + 64 + r;
        if (one_level) {
          scale = half(2 * (16 * g + r));
          min = half(2 * (16 * (groups + g) + r));
        } else if (kSpec.scale == ScaleKind::kF16TimesHalves) {
          scale = half(2 * r) * static_cast<float>(factors[16 * g] % 16);
          min = half(32 + 2 * r) * static_cast<float>(factors[16 * g] / 16);
        } else {
          scale = half(2 * r) * static_cast<float>(static_cast<int8_t>(factors[16 * g]));
          min = half(32 + 2 * r) * static_cast<float>(factors[16 * (groups + g)]);
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
  for (const QuantSpec* spec : kAllSpecs) {
    WithFormat(spec->format, []<Format kFormat>() {
      if constexpr (!SpecOf(kFormat).is_float()) CheckScales<kFormat>();
    });
  }
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace lapidary
HWY_AFTER_NAMESPACE();
