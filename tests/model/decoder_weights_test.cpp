#include "lapidary/model/decoder_weights.h"

#include <cmath>
#include <cstddef>
#include <limits>
#include <random>
#include <vector>

#include "lapidary/weights/weight_file.h"
#include "tests/support/catch.h"
#include "tests/support/synthetic_gguf.h"
#include "tests/support/temp_folder.h"

namespace {

constexpr std::size_t kHeadDim = 64;

struct Gains {
  std::vector<float> q, k;
};

// Gains of queries around 1, of keys from 1e-3 to 1e3 (trained models: 0.01 to 30), of either sign.
Gains RandomGains() {
  std::mt19937 random(5);
  std::normal_distribution<float> normal;
  Gains gains;
  for (std::size_t i = 0; i < kHeadDim; ++i) {
    gains.q.push_back(1 + 0.3f * normal(random));
    gains.k.push_back(std::pow(10.0f, 3 * std::sin(static_cast<float>(i))) * normal(random));
  }
  return gains;
}

}  // namespace

TEST_CASE("gains of keys are balanced, and every product with those of queries is kept") {
  const Gains before = RandomGains();
  Gains after = before;
  lapidary::BalanceGains(kHeadDim, after.q.data(), after.k.data());
  int moved = 0;
  for (std::size_t i = 0; i < kHeadDim; ++i) {
    CHECK(after.q[i] * after.k[i] == before.q[i] * before.k[i]);
    int exponent = 0;
    CHECK(std::frexp(after.q[i] / before.q[i], &exponent) == 0.5f);  // a power of two
    moved += exponent != 1;
  }
  CHECK(moved > 40);
  for (std::size_t i = 0; i < kHeadDim / 2; ++i) {
    // What RoPE turns into each other has one factor, or scores would change.
    CHECK(after.k[i] / before.k[i] == after.k[i + kHeadDim / 2] / before.k[i + kHeadDim / 2]);
    const float size = std::hypot(after.k[i], after.k[i + kHeadDim / 2]);  // sqrt(2) within sqrt(2)
    CHECK(size > 1 - 1e-6f);
    CHECK(size < 2 + 1e-6f);
  }
}

TEST_CASE("every layer of a decoder gets its own gains, balanced") {
  using lapidary::testing::TinyModel;
  constexpr lapidary::Config kConfig = TinyModel::kConfig;
  const lapidary::testing::TempFolder folder;
  lapidary::testing::WriteFile(folder / "tiny.gguf",
                               lapidary::testing::TinyGguf(kConfig, lapidary::testing::kTinyQ4K));
  const auto file = lapidary::WeightFile::Open(folder / "tiny.gguf");
  REQUIRE(file.ok());
  const auto weights = lapidary::FindDecoderWeights(*file, kConfig);
  REQUIRE(weights.ok());
  const auto head_dim = static_cast<std::size_t>(kConfig.head_dim);
  int moved = 0;
  for (std::size_t layer = 0; layer < weights->layers.size(); ++layer) {
    const auto gain_of = [&](const char* name) {
      return file->Vector(lapidary::StrCat("layers.", layer, ".", name), head_dim)->data();
    };
    const float* const q = gain_of("q_norm");
    const float* const k = gain_of("k_norm");
    const auto& found = weights->layers[layer];
    for (std::size_t i = 0; i < head_dim; ++i) {
      CHECK(found.q_norm[i] * found.k_norm[i] == q[i] * k[i]);
      moved += found.k_norm[i] != k[i];
    }
    for (std::size_t i = 0; i < head_dim / 2; ++i) {
      const float size = std::hypot(found.k_norm[i], found.k_norm[i + head_dim / 2]);
      CHECK(size > 1 - 1e-6f);
      CHECK(size < 2 + 1e-6f);
    }
  }
  CHECK(moved > 0);
}

TEST_CASE("gains that have no size stay as they are") {
  const float infinity = std::numeric_limits<float>::infinity();
  for (const float value : {0.0f, infinity, std::numeric_limits<float>::quiet_NaN()}) {
    std::vector<float> q = {2, 3};
    std::vector<float> k = {0, value};
    lapidary::BalanceGains(2, q.data(), k.data());
    CHECK(q[0] == 2);
    CHECK(q[1] == 3);
    CHECK(k[0] == 0);
    CHECK((k[1] == value || std::isnan(value)));
  }
}

TEST_CASE("gains too far from 1 are moved as far as an f32 surely holds") {
  std::vector<float> q = {1, 1};
  std::vector<float> k = {1e30f, 1e30f};
  lapidary::BalanceGains(2, q.data(), k.data());
  CHECK(q[0] == 65536.0f);
  CHECK(k[0] == 1e30f / 65536.0f);
}
