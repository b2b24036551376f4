// Activations in all their forms against the scalar twin.
#include <cmath>
#include <cstdint>
#include <cstring>
#include <random>
#include <span>
#include <vector>

#include "lapidary/base/buffer.h"
#include "lapidary/kernels/quantize-inl.h"
#include "tests/support/catch.h"
#include "tests/support/scalar.h"

HWY_BEFORE_NAMESPACE();
namespace lapidary {
namespace HWY_NAMESPACE {
namespace {

using lapidary::testing::BrainBits;
using lapidary::testing::FromBrainBits;
using lapidary::testing::QuantizedRow;
using lapidary::testing::QuantizeRow;
using lapidary::testing::UniformVector;

constexpr unsigned kAllForms = kFormF32 | kFormBF16 | kFormWords;

struct Stored {
  Stored(size_t rows, size_t cols)
      : memory(*AlignedBuffer::Allocate(ActivationBytes(rows, cols), "activations")),
        x(BindActivations(memory.data(), rows, cols)) {
    std::memset(memory.data(), 0x5A, memory.size());  // whatever must be written shows if it is not
  }
  AlignedBuffer memory;
  Activations x;
};

uint16_t Bits(hwy::bfloat16_t value) {
  uint16_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  return bits;
}

// Input i of a row in a form of integers.
int Byte(const Activations& x, size_t row, size_t i) {
  return GroupAt<kFormBytes>(x, row, i)->bytes[i % 32];
}
int Planes(const Activations& x, size_t row, size_t i) {
  const PlaneGroup& group = *GroupAt<kFormPlanes>(x, row, i);
  return 256 * group.high[i % 32] + group.low[i % 32];
}
int Word(const Activations& x, size_t row, size_t i) {
  constexpr size_t kPlace[] = {0, 2, 1, 3};  // every four are stored in the order 0 2 1 3
  return GroupAt<kFormWords>(x, row, i)->words[i % 32 / 4 * 4 + kPlace[i % 4]];
}

// What the groups of a row share, counting wrong values.
template <unsigned kForm>
size_t CountWrongFactors(const Activations& x, size_t row, const QuantizedRow& expected) {
  size_t wrong = 0;
  for (size_t g = 0; g < x.groups(); ++g) {
    const GroupFactors& factors = GroupAt<kForm>(x, row, g * 32)->factors;
    const double scale = g < expected.scales.size() ? expected.scales[g] : 0.0;
    wrong += std::abs(static_cast<double>(factors.scale) - scale) > 1e-7 * scale;
    int sums[2] = {};
    for (size_t i = g * 32; i < g * 32 + 32 && i < expected.integers.size(); ++i) {
      sums[i % 32 / 16] += expected.integers[i];
    }
    wrong += factors.first_half != sums[0];
    wrong += factors.sum != sums[0] + sums[1];
    wrong += factors.value_sum != factors.scale * static_cast<float>(sums[0] + sums[1]);
  }
  return wrong;
}

void CheckRow(std::span<const float> values, const Activations& x, size_t row, unsigned forms,
              Precision precision) {
  CAPTURE(values.size(), row, forms);
  REQUIRE(x.inputs() % kActivationPadding == 0);
  REQUIRE(x.inputs() >= values.size());
  REQUIRE(x.stride >= x.inputs());
  const QuantizedRow expected =
      QuantizeRow(values, precision == Precision::kFast ? 127.0f : 127.0f * 256 + 127);
  size_t wrong = 0;
  for (size_t i = 0; i < x.inputs(); ++i) {
    const float value = i < values.size() ? values[i] : 0.0f;
    const int integer = i < expected.integers.size() ? expected.integers[i] : 0;
    const size_t at = row * x.stride + i;
    if (forms & kFormF32) wrong += x.f32[at] != value;
    if (forms & kFormBF16) {
      const uint16_t high = BrainBits(value);
      wrong += Bits(x.bf16[at]) != high;
      if (precision == Precision::kExact) {
        wrong += Bits(x.bf16_low[at]) != BrainBits(value - FromBrainBits(high));
      }
    }
    if (forms & kFormBytes) wrong += Byte(x, row, i) != integer;
    if (forms & kFormPlanes) wrong += Planes(x, row, i) != integer;
    if (forms & kFormWords) wrong += Word(x, row, i) != integer;
  }
  CHECK(wrong == 0);
  if (forms & kFormBytes) CHECK(CountWrongFactors<kFormBytes>(x, row, expected) == 0);
  if (forms & kFormPlanes) CHECK(CountWrongFactors<kFormPlanes>(x, row, expected) == 0);
  if (forms & kFormWords) CHECK(CountWrongFactors<kFormWords>(x, row, expected) == 0);
}

TEST_CASE("activations are stored in every form, odd tails filled with zeros") {
  std::mt19937 random(1);
  for (const size_t cols : {1, 2, 3, 15, 16, 17, 31, 32, 33, 63, 64, 65, 96, 127, 200, 640, 1152}) {
    Stored stored(3, cols);
    const std::vector<float> values = UniformVector(random, cols, 7);
    for (const size_t row : {2, 0, 1}) {
      StoreActivations(values.data(), 0, cols, kAllForms | kFormPlanes, Precision::kExact, stored.x,
                       row);
      CheckRow(values, stored.x, row, kAllForms | kFormPlanes, Precision::kExact);
      StoreActivations(values.data(), 0, cols, kAllForms | kFormBytes, Precision::kFast, stored.x,
                       row);
      CheckRow(values, stored.x, row, kAllForms | kFormBytes, Precision::kFast);
    }
  }
}

TEST_CASE("a row of activations may be stored in pieces of 32") {
  std::mt19937 random(2);
  const size_t cols = 224;
  const std::vector<float> values = UniformVector(random, cols);
  Stored stored(1, cols);
  for (size_t begin = 0; begin < cols; begin += 32) {
    const size_t from = (begin + 96) % cols;  // in any order
    StoreActivations(values.data() + from, from, 32, kAllForms | kFormPlanes, Precision::kExact,
                     stored.x, 0);
  }
  CheckRow(values, stored.x, 0, kAllForms | kFormPlanes, Precision::kExact);
}

TEST_CASE("f32 activations may be stored in place") {
  std::mt19937 random(3);
  const std::vector<float> values = UniformVector(random, 100);
  Stored stored(1, values.size());
  std::copy(values.begin(), values.end(), stored.x.f32);
  StoreActivations(stored.x.f32, 0, values.size(), kFormF32 | kFormWords, Precision::kExact,
                   stored.x, 0);
  CheckRow(values, stored.x, 0, kFormF32 | kFormWords, Precision::kExact);
}

TEST_CASE("groups of zeros and of tiny values have scale 0") {
  std::vector<float> values(128, 0.0f);
  for (size_t i = 32; i < 64; ++i) values[i] = 1e-31f;
  for (size_t i = 64; i < 96; ++i) values[i] = -1e-29f;
  values[97] = -2.5f;
  Stored stored(1, values.size());
  for (const Precision precision : {Precision::kFast, Precision::kExact}) {
    const unsigned narrow = precision == Precision::kFast ? kFormBytes : kFormPlanes;
    StoreActivations(values.data(), 0, values.size(), kAllForms | narrow, precision, stored.x, 0);
    CheckRow(values, stored.x, 0, kAllForms | narrow, precision);
    CHECK(stored.x.words[0].factors.scale == 0);
    CHECK(stored.x.words[1].factors.scale == 0);
    CHECK(stored.x.words[2].factors.scale > 0);
    CHECK(stored.x.words[3].factors.scale > 0);
  }
}

TEST_CASE("activations of several hundred thousand stay finite and lose less than 1 %") {
  // Gemma 3's activations reach such values; an f16 scale or sum would overflow at 65504.
  std::mt19937 random(4);
  std::vector<float> values = UniformVector(random, 64, 2e4f);
  values[5] = 3e5f;
  values[40] = -3e5f;
  Stored stored(1, values.size());
  for (const Precision precision : {Precision::kFast, Precision::kExact}) {
    const unsigned narrow = precision == Precision::kFast ? kFormBytes : kFormPlanes;
    StoreActivations(values.data(), 0, values.size(), kAllForms | narrow, precision, stored.x, 0);
    CheckRow(values, stored.x, 0, kAllForms | narrow, precision);
    const float limit = precision == Precision::kFast ? 0.5f / 127 : 0.5f / 32639;
    for (size_t i = 0; i < values.size(); ++i) {
      const float scale = stored.x.words[i / 32].factors.scale;
      const float back = scale * static_cast<float>(Word(stored.x, 0, i));
      CHECK(std::abs(back - values[i]) <= 3e5f * limit * 1.001f);
    }
  }
}

TEST_CASE("activations round to nearest, ties to even") {
  std::vector<float> values(32, 0.0f);
  values[0] = 127.0f;  // the scale of kFast becomes 1
  const float halves[] = {0.5f, 1.5f, 2.5f, -0.5f, -1.5f, -2.5f, 0.499f, 126.5f};
  std::copy(std::begin(halves), std::end(halves), values.begin() + 1);
  Stored stored(1, 32);
  StoreActivations(values.data(), 0, 32, kFormBytes, Precision::kFast, stored.x, 0);
  CHECK(stored.x.bytes[0].factors.scale == 1.0f);
  const int expected[] = {127, 0, 2, 2, 0, -2, -2, 0, 126};
  for (size_t i = 0; i < std::size(expected); ++i) CHECK(Byte(stored.x, 0, i) == expected[i]);
}

TEST_CASE("bf16 is rounded to nearest even, not truncated") {
  // Exactly between two bf16 numbers, a little above and below, of both parities and signs.
  std::vector<float> values;
  for (const uint32_t bits : {0x3F808000u, 0x3F818000u, 0x3F808001u, 0x3F807FFFu, 0xBF808000u,
                              0xBF818000u, 0x3FFFFFFFu, 0x00008000u, 0x7F7F7FFFu}) {
    float value;
    std::memcpy(&value, &bits, sizeof(value));
    values.push_back(value);
  }
  Stored stored(1, values.size());
  StoreActivations(values.data(), 0, values.size(), kFormBF16, Precision::kExact, stored.x, 0);
  const uint16_t expected[] = {0x3F80, 0x3F82, 0x3F81, 0x3F80, 0xBF80,
                               0xBF82, 0x4000, 0x0000, 0x7F7F};
  for (size_t i = 0; i < values.size(); ++i) {
    CAPTURE(i);
    CHECK(Bits(stored.x.bf16[i]) == expected[i]);
    CHECK(BrainBits(values[i]) == expected[i]);
  }
}

TEST_CASE("bf16 and its remainder hold 16 bits of an activation") {
  std::mt19937 random(5);
  const std::vector<float> values = UniformVector(random, 1000, 100);
  Stored stored(1, values.size());
  StoreActivations(values.data(), 0, values.size(), kFormBF16, Precision::kExact, stored.x, 0);
  size_t wrong = 0;
  for (size_t i = 0; i < values.size(); ++i) {
    const float both =
        FromBrainBits(Bits(stored.x.bf16[i])) + FromBrainBits(Bits(stored.x.bf16_low[i]));
    wrong += std::abs(both - values[i]) > std::abs(values[i]) * 0x1p-17f;
  }
  CHECK(wrong == 0);
}

TEST_CASE("the forms of a buffer do not overlap") {
  std::mt19937 random(6);
  const size_t rows = 5, cols = 97;
  std::vector<std::vector<float>> values;
  Stored stored(rows, cols);
  for (size_t r = 0; r < rows; ++r) {
    values.push_back(UniformVector(random, cols));
    StoreActivations(values[r].data(), 0, cols, kAllForms | kFormPlanes, Precision::kExact,
                     stored.x, r);
  }
  for (size_t r = 0; r < rows; ++r) {
    CheckRow(values[r], stored.x, r, kAllForms | kFormPlanes, Precision::kExact);
  }
  const auto* end = reinterpret_cast<const uint8_t*>(stored.x.words + rows * stored.x.group_stride);
  CHECK(AlignedBytes(static_cast<size_t>(end - stored.memory.data())) == stored.memory.size());
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace lapidary
HWY_AFTER_NAMESPACE();
