// Rounding and quantising weights, against the definitions of the formats.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "lapidary/weights/convert-inl.h"
#include "tests/support/catch.h"
#include "tests/support/dequantize.h"
#include "tests/support/scalar.h"

namespace lapidary {
namespace {

namespace encode = HWY_NAMESPACE::encode;
using testing::Dequantize;
using testing::Uniform;
using testing::UniformVector;

// A matrix with these F32 values, to be given another format.
ImportTensor Tensor(const std::vector<float>& values, std::size_t cols, Format format) {
  ImportTensor tensor;
  tensor.format = format;
  tensor.rows = tensor.source_rows = values.size() / cols;
  tensor.cols = cols;
  tensor.source = {reinterpret_cast<const std::uint8_t*>(values.data()), 4 * values.size()};
  return tensor;
}

std::vector<std::uint8_t> Encode(const std::vector<float>& values, Format format) {
  const ImportTensor tensor = Tensor(values, values.size(), format);
  std::vector<std::uint8_t> out(SourceRowBytes(SpecOf(format), values.size()));
  REQUIRE(encode::Rows(tensor, 0, 1, out.data()));
  return out;
}

double SquaredError(const std::vector<float>& a, const std::vector<float>& b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    sum += std::pow(static_cast<double>(a[i]) - static_cast<double>(b[i]), 2);
  }
  return sum;
}

TEST_CASE("f16 is rounded to nearest even") {
  // Every f16, and what lies a quarter, half and three quarters of the way to the next one.
  std::size_t wrong = 0;
  for (std::uint16_t bits = 0; bits < 0x7BFF; ++bits) {
    const auto next = static_cast<std::uint16_t>(bits + 1);
    const float low = encode::HalfToFloat(bits), high = encode::HalfToFloat(next);
    const float middle = low + (high - low) / 2;
    wrong += encode::RoundToHalf(low) != bits;
    wrong += encode::RoundToHalf(-low) != (bits | 0x8000);
    wrong += encode::RoundToHalf(low + (high - low) / 4) != bits;
    wrong += encode::RoundToHalf(middle) != (bits % 2 == 0 ? bits : next);
    wrong += encode::RoundToHalf(low + (high - low) / 4 * 3) != next;
  }
  CHECK(wrong == 0);
  CHECK(encode::RoundToHalf(65519.0f) == 0x7BFF);
  CHECK(encode::RoundToHalf(65520.0f) == 0x7C00);
  CHECK(encode::RoundToHalf(1e30f) == 0x7C00);
}

TEST_CASE("bf16 is rounded to nearest even") {
  std::mt19937 random(1);
  std::size_t wrong = 0;
  for (int i = 0; i < 100'000; ++i) {
    const auto value = std::bit_cast<float>(static_cast<std::uint32_t>(random()));
    if (std::isfinite(value)) wrong += encode::RoundToBrain(value) != testing::BrainBits(value);
  }
  CHECK(wrong == 0);
  CHECK(encode::RoundToBrain(1.00390625f) == 0x3F80);  // half way
  CHECK(encode::RoundToBrain(1.01171875f) == 0x3F82);
  CHECK(encode::RoundToBrain(3.4e38f) == 0x7F80);
}

TEST_CASE("weights on a lattice of 4 bits come back exactly") {
  // What quantisation-aware training leaves: d * (code - 8) with an f16 d, in blocks of 32 that use
  // all codes or only some of them.
  std::mt19937 random(2);
  for (int round = 0; round < 20'000; ++round) {
    const float sign = random() % 2 == 0 ? 1.0f : -1.0f;
    const float d = encode::HalfToFloat(encode::RoundToHalf(
        sign * std::exp2(Uniform(random, 6.0f) - 7) * (1.5f + Uniform(random, 0.5f))));
    const int lowest = -8 + static_cast<int>(random() % 8),
              highest = static_cast<int>(random() % 8);
    std::vector<float> values(32);
    for (float& value : values) {
      const int code =
          lowest + static_cast<int>(random() % static_cast<unsigned>(highest - lowest + 1));
      value = d * static_cast<float>(code);
    }
    const std::vector<float> back = Dequantize(Format::kQ4_0, Encode(values, Format::kQ4_0));
    if (back != values) {
      CAPTURE(round, d, lowest, highest);
      FAIL("a lattice was not found");
    }
  }
}

TEST_CASE("the codes of a lattice are found although its values were rounded to bf16") {
  std::mt19937 random(3);
  for (int round = 0; round < 2000; ++round) {
    const float d = encode::HalfToFloat(encode::RoundToHalf(0.01f + 0.005f * Uniform(random)));
    std::vector<float> exact(32), rounded(32);
    for (std::size_t i = 0; i < 32; ++i) {
      exact[i] = d * static_cast<float>(static_cast<int>(random() % 16) - 8);
      rounded[i] = testing::RoundToBrain(exact[i]);
    }
    exact[0] = rounded[0] = -8 * d;
    rounded[0] = testing::RoundToBrain(rounded[0]);
    const std::vector<float> back = Dequantize(Format::kQ4_0, Encode(rounded, Format::kQ4_0));
    // bf16 is off by 2^-9 at most, which is what the scale may be off by.
    for (std::size_t i = 0; i < 32; ++i) CHECK(std::abs(back[i] - exact[i]) <= 8 * d * 0x1p-8f);
  }
}

TEST_CASE("4 bits are never worse than with a scale from the largest value alone") {
  std::mt19937 random(4);
  double searched = 0, simple = 0;
  for (int round = 0; round < 3000; ++round) {
    std::vector<float> values(32);
    // Nearly normal.
    for (float& value : values) {
      value = Uniform(random) + Uniform(random) + Uniform(random) + Uniform(random);
    }
    const double error =
        SquaredError(values, Dequantize(Format::kQ4_0, Encode(values, Format::kQ4_0)));
    // The rule of ggml: the value of largest magnitude becomes code 0, -8 times the scale.
    const float largest = *std::max_element(
        values.begin(), values.end(), [](float a, float b) { return std::abs(a) < std::abs(b); });
    const float d = encode::HalfToFloat(encode::RoundToHalf(largest / -8));
    std::vector<float> back;
    for (const float value : values) {
      back.push_back(d * std::clamp(std::nearbyint(value / d), -8.0f, 7.0f));
    }
    const double usual = SquaredError(values, back);
    CHECK(error <= usual * (1 + 1e-5));
    searched += error;
    simple += usual;
  }
  // Measured: 0.89.
  CHECK(searched < 0.92 * simple);
}

TEST_CASE("8 bits are off by half a step at most") {
  std::mt19937 random(5);
  for (const float limit : {1e-3f, 0.1f, 30.0f}) {
    const std::vector<float> values = UniformVector(random, 320, limit);
    const std::vector<float> back = Dequantize(Format::kQ8_0, Encode(values, Format::kQ8_0));
    for (std::size_t b = 0; b < values.size(); b += 32) {
      float max = 0;
      for (std::size_t i = b; i < b + 32; ++i) max = std::max(max, std::abs(values[i]));
      for (std::size_t i = b; i < b + 32; ++i) {
        // Half a step, and 127 times what rounding the scale to f16 costs.
        CHECK(std::abs(back[i] - values[i]) <= max * (0.5f / 127 + 0x1p-11f));
      }
    }
  }
  CHECK(Dequantize(Format::kQ8_0, Encode(std::vector<float>(32), Format::kQ8_0)) ==
        std::vector<float>(32));
  CHECK(Dequantize(Format::kQ4_0, Encode(std::vector<float>(32), Format::kQ4_0)) ==
        std::vector<float>(32));
}

TEST_CASE("rows, columns and gains are taken from where the source has them") {
  std::mt19937 random(6);
  const std::vector<float> values = UniformVector(random, 12);  // [3, 4]
  ImportTensor tensor = Tensor(values, 4, Format::kBF16);
  std::vector<std::uint8_t> out(2 * 2 * 4);
  REQUIRE(encode::Rows(tensor, 1, 2, out.data()));
  for (std::size_t i = 0; i < 8; ++i) {
    CHECK(testing::BrainToFloat(out.data() + 2 * i) == testing::RoundToBrain(values[4 + i]));
  }
  // As [4, 3]: what was a column is a row.
  tensor.transposed = true;
  tensor.rows = tensor.source_rows = 4;
  tensor.cols = 3;
  tensor.format = Format::kF32;
  std::vector<float> columns(2 * 3);
  REQUIRE(encode::Rows(tensor, 2, 2, reinterpret_cast<std::uint8_t*>(columns.data())));
  CHECK(columns ==
        std::vector<float>{values[2], values[6], values[10], values[3], values[7], values[11]});

  ImportTensor gain = Tensor(values, 12, Format::kF32);
  gain.kind = SectionKind::kVector;
  gain.less_one = true;
  std::vector<float> gains(12);
  REQUIRE(encode::Rows(gain, 0, 1, reinterpret_cast<std::uint8_t*>(gains.data())));
  for (std::size_t i = 0; i < 12; ++i) CHECK(gains[i] == 1 + values[i]);
}

TEST_CASE("values that are not finite are noticed") {
  for (const float bad :
       {std::numeric_limits<float>::infinity(), -std::numeric_limits<float>::infinity(),
        std::numeric_limits<float>::quiet_NaN()}) {
    for (const Format format : {Format::kQ4_0, Format::kQ8_0, Format::kBF16}) {
      std::vector<float> values(64, 0.5f);
      values[40] = bad;
      std::vector<std::uint8_t> out(SourceRowBytes(SpecOf(format), 64));
      CHECK_FALSE(encode::Rows(Tensor(values, 64, format), 0, 1, out.data()));
    }
  }
}

}  // namespace
}  // namespace lapidary
