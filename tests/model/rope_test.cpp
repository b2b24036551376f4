// Tables of RoPE against angles in long double.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <initializer_list>
#include <vector>

#include "lapidary/config/models.h"
#include "lapidary/model/rope-inl.h"
#include "tests/support/catch.h"

HWY_BEFORE_NAMESPACE();
namespace lapidary {
namespace HWY_NAMESPACE {
namespace {

// Largest error of a sine or cosine over some positions.
double WorstError(double base, double factor, size_t head_dim, size_t context,
                  std::initializer_list<size_t> positions) {
  const RopeTable table(base, factor, head_dim, context);
  const size_t half = head_dim / 2;
  double worst = 0;
  for (const size_t position : positions) {
    std::vector<float> cosine(half + 1, 9.0f), sine(half + 1, 9.0f);
    table.Row(position, cosine.data(), sine.data());
    for (size_t i = 0; i < half; ++i) {
      const long double exponent =
          -2.0L * static_cast<long double>(i) / static_cast<long double>(head_dim);
      const long double angle = static_cast<long double>(position) /
                                static_cast<long double>(factor) *
                                std::pow(static_cast<long double>(base), exponent);
      worst = std::max(worst, std::abs(static_cast<double>(std::cos(angle) -
                                                           static_cast<long double>(cosine[i]))));
      worst = std::max(worst, std::abs(static_cast<double>(std::sin(angle) -
                                                           static_cast<long double>(sine[i]))));
    }
    CHECK(cosine[half] == 9.0f);
    CHECK(sine[half] == 9.0f);
  }
  return worst;
}

TEST_CASE("angles are right to the last bit of f32 up to the end of the longest context") {
  // Half a unit in the last place of a cosine near 1 is 3e-8; the angle itself must be far better
  // than 1e-4.
  CHECK(WorstError(1e6, 8, 256, 131'072, {0, 1, 8, 255, 256, 257, 4095, 65'536, 99'999, 131'071}) <
        4e-8);
  CHECK(WorstError(1e4, 1, 256, 131'072, {0, 1, 8, 255, 256, 257, 4095, 65'536, 99'999, 131'071}) <
        4e-8);
  CHECK(WorstError(1e6, 8, 128, 131'072, {131'071}) < 4e-8);
  CHECK(WorstError(1e6, 1, 256, 32'768, {32'767}) < 4e-8);
  // A context that is no multiple of the table's steps.
  CHECK(WorstError(1e4, 3, 96, 100, {0, 1, 99}) < 4e-8);
  CHECK(WorstError(1e4, 3, 32, 513, {255, 256, 511, 512}) < 4e-8);
}

TEST_CASE("at position 8 the first pair turns by 8 rad on local layers, by 1 rad with factor 8") {
  const Config& config = Gemma3_4B::kConfig;
  const size_t head_dim = static_cast<size_t>(config.head_dim);
  std::vector<float> cosine(head_dim / 2), sine(head_dim / 2);
  RopeTable(config.rope_base_local, 1, head_dim, 1024).Row(8, cosine.data(), sine.data());
  CHECK(std::abs(cosine[0] - std::cos(8.0f)) < 1e-7f);
  CHECK(std::abs(sine[0] - std::sin(8.0f)) < 1e-7f);
  RopeTable(config.rope_base_global, config.rope_factor_global, head_dim, 1024)
      .Row(8, cosine.data(), sine.data());
  CHECK(std::abs(cosine[0] - std::cos(1.0f)) < 1e-7f);
  CHECK(std::abs(sine[0] - std::sin(1.0f)) < 1e-7f);
}

TEST_CASE("position 0 turns nothing") {
  std::vector<float> cosine(128), sine(128);
  RopeTable(1e4, 1, 256, 512).Row(0, cosine.data(), sine.data());
  CHECK(cosine == std::vector<float>(128, 1.0f));
  CHECK(sine == std::vector<float>(128, 0.0f));
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace lapidary
HWY_AFTER_NAMESPACE();
