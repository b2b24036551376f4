// Exp and the elementwise kernels against double precision.
#include <cmath>
#include <limits>
#include <random>
#include <span>
#include <vector>

#include "lapidary/kernels/norm-inl.h"
#include "lapidary/kernels/simd-inl.h"
#include "tests/support/catch.h"
#include "tests/support/scalar.h"

HWY_BEFORE_NAMESPACE();
namespace lapidary {
namespace HWY_NAMESPACE {
namespace {

using lapidary::testing::Gelu;
using lapidary::testing::RootMeanSquare;
using lapidary::testing::Uniform;
using lapidary::testing::UniformVector;

// Sizes that kernels meet: widths are multiples of 32, halves of heads of 16.
constexpr size_t kSizes[] = {16, 32, 48, 96, 256, 288, 640, 5376};

float ExpOf(float x) { return hn::GetLane(Exp(hn::Set(DF(), x))); }

TEST_CASE("exp is right to 2e-7 where its result is a normal number") {
  double worst = 0;
  for (int i = 0; i <= 200'000; ++i) {
    const float x = -87.29f + static_cast<float>(i) * (175.29f / 200'000);
    const double exact = std::exp(static_cast<double>(x));
    worst = std::max(worst, std::abs(static_cast<double>(ExpOf(x)) / exact - 1));
  }
  CAPTURE(worst);
  CHECK(worst < 2e-7);
  CHECK(ExpOf(0.0f) == 1.0f);
}

TEST_CASE("exp at its ends") {
  CHECK(ExpOf(-87.4f) == 0.0f);
  CHECK(ExpOf(-1e30f) == 0.0f);
  CHECK(ExpOf(-std::numeric_limits<float>::infinity()) == 0.0f);
  CHECK(std::isfinite(ExpOf(89.0f)));
  CHECK(ExpOf(std::numeric_limits<float>::infinity()) > 1e38f);
}

TEST_CASE("the exp of weights in bf16 is right to 3.2e-6, and 0 where the other is") {
  const auto exp_of = [](float x) { return hn::GetLane(ExpForBF16(hn::Set(DF(), x))); };
  double worst = 0;
  for (int i = 0; i <= 200'000; ++i) {
    const float x = -87.29f + static_cast<float>(i) * (87.29f / 200'000);
    const double exact = std::exp(static_cast<double>(x));
    worst = std::max(worst, std::abs(static_cast<double>(exp_of(x)) / exact - 1));
  }
  CAPTURE(worst);
  CHECK(worst < 3.2e-6);
  CHECK(exp_of(0.0f) == 1.0f);
  CHECK(exp_of(-87.4f) == 0.0f);
  CHECK(exp_of(-1e30f) == 0.0f);
  CHECK(exp_of(-std::numeric_limits<float>::infinity()) == 0.0f);
}

TEST_CASE("the sum of squares keeps 1e-6 of accuracy at any size") {
  std::mt19937 random(1);
  for (const size_t n : {0, 1, 3, 15, 16, 17, 31, 33, 640, 5377}) {
    const std::vector<float> x = UniformVector(random, n, 1e3f);
    double exact = 0;
    for (const float value : x) exact += static_cast<double>(value) * static_cast<double>(value);
    CAPTURE(n);
    CHECK(std::abs(static_cast<double>(SumOfSquares(x.data(), n)) - exact) <= 1e-6 * exact);
  }
}

TEST_CASE("RMSNorm divides by the root mean square and multiplies by the gain as it is") {
  std::mt19937 random(2);
  for (const size_t n : kSizes) {
    const std::vector<float> x = UniformVector(random, n, 30);
    const std::vector<float> gain = UniformVector(random, n, 3);
    const double rms = RootMeanSquare(x, 1e-6);
    std::vector<float> out(n), in_place = x, residual = UniformVector(random, n);
    const std::vector<float> before = residual;
    RmsNorm(x.data(), gain.data(), n, 1e-6f, out.data());
    RmsNorm(in_place.data(), gain.data(), n, 1e-6f, in_place.data());
    AddRmsNorm(x.data(), gain.data(), n, 1e-6f, residual.data());
    CHECK(in_place == out);
    size_t wrong = 0;
    for (size_t i = 0; i < n; ++i) {
      const double exact = static_cast<double>(x[i]) / rms * static_cast<double>(gain[i]);
      wrong += !(std::abs(static_cast<double>(out[i]) - exact) <= 1e-6 * std::abs(exact));
      const double sum = static_cast<double>(before[i]) + exact;
      wrong += !(std::abs(static_cast<double>(residual[i]) - sum) <= 1e-6 * (std::abs(exact) + 1));
    }
    CAPTURE(n);
    CHECK(wrong == 0);
  }
}

TEST_CASE("RMSNorm survives activations of several hundred thousand, and zeros") {
  std::mt19937 random(3);
  std::vector<float> x = UniformVector(random, 640);
  x[77] = 3e5f;
  const std::vector<float> gain(640, 2.0f);
  std::vector<float> out(640);
  RmsNorm(x.data(), gain.data(), size_t{640}, 1e-6f, out.data());
  const double rms = RootMeanSquare(x, 1e-6);
  for (const size_t i : {size_t{0}, size_t{77}, size_t{639}}) {
    const double exact = static_cast<double>(x[i]) / rms * 2;
    CHECK(std::abs(static_cast<double>(out[i]) - exact) <= 1e-6 * std::abs(exact));
  }
  const std::vector<float> zeros(640, 0.0f);
  RmsNorm(zeros.data(), gain.data(), size_t{640}, 1e-6f, out.data());
  CHECK(out == zeros);
}

TEST_CASE("the residual stream holds several hundred thousand") {
  std::vector<float> residual(16, 3e5f), x(16, -2.0f), gain(16, 1024.0f);
  AddRmsNorm(x.data(), gain.data(), 16, 0.0f, residual.data());
  for (const float value : residual) CHECK(value == 3e5f - 1024.0f);
}

TEST_CASE("the epsilon is added to the mean, under the root") {
  const std::vector<float> x(32, 1e-3f), gain(32, 1.0f);
  std::vector<float> out(32);
  RmsNorm(x.data(), gain.data(), size_t{32}, 3e-6f, out.data());
  CHECK(std::abs(out[0] - 0.5f) < 1e-6f);  // 1e-3 / sqrt(1e-6 + 3e-6)
}

TEST_CASE("scaling") {
  std::mt19937 random(4);
  for (const size_t n : kSizes) {
    const std::vector<float> x = UniformVector(random, n);
    std::vector<float> y = x;
    Scale(y.data(), n, 25.25f);
    size_t wrong = 0;
    for (size_t i = 0; i < n; ++i) wrong += y[i] != x[i] * 25.25f;
    CHECK(wrong == 0);
  }
}

TEST_CASE("RoPE turns split halves") {
  std::mt19937 random(5);
  for (const size_t head_dim : {32, 64, 96, 128, 256}) {
    const size_t half = head_dim / 2;
    const std::vector<float> x = UniformVector(random, head_dim, 4);
    std::vector<float> cosine(half), sine(half), angle = UniformVector(random, half, 3.14f);
    for (size_t i = 0; i < half; ++i) {
      cosine[i] = std::cos(angle[i]);
      sine[i] = std::sin(angle[i]);
    }
    std::vector<float> y = x;
    RotateHalves(cosine.data(), sine.data(), head_dim, 0.25f, y.data());
    size_t wrong = 0;
    for (size_t i = 0; i < half; ++i) {
      const double a = static_cast<double>(x[i]), b = static_cast<double>(x[i + half]);
      const double c = std::cos(static_cast<double>(angle[i])),
                   s = std::sin(static_cast<double>(angle[i]));
      wrong += !(std::abs(static_cast<double>(y[i]) - 0.25 * (a * c - b * s)) <= 1e-6);
      wrong += !(std::abs(static_cast<double>(y[i + half]) - 0.25 * (b * c + a * s)) <= 1e-6);
    }
    CAPTURE(head_dim);
    CHECK(wrong == 0);
  }
}

TEST_CASE("LayerNorm subtracts the mean, divides by the deviation, multiplies and adds") {
  std::mt19937 random(7);
  for (const size_t n : {16, 32, 96, 1152}) {
    std::vector<float> x = UniformVector(random, n, 3.0f);
    for (float& value : x) value += 5.0f;  // a mean that matters
    const std::vector<float> gain = UniformVector(random, n, 2.0f);
    const std::vector<float> bias = UniformVector(random, n);
    double mean = 0, variance = 0;
    for (const float value : x) mean += static_cast<double>(value) / static_cast<double>(n);
    for (const float value : x) {
      const double d = static_cast<double>(value) - mean;
      variance += d * d / static_cast<double>(n);
    }
    std::vector<float> out(n);
    LayerNorm(x.data(), gain.data(), bias.data(), n, 1e-6f, out.data());
    for (size_t i = 0; i < n; ++i) {
      const double exact = (static_cast<double>(x[i]) - mean) / std::sqrt(variance + 1e-6) *
                               static_cast<double>(gain[i]) +
                           static_cast<double>(bias[i]);
      CAPTURE(n, i);
      CHECK(std::abs(static_cast<double>(out[i]) - exact) < 4e-6);  // a few f32 roundings of 4
    }
  }
  // The same everywhere: nothing is left of it but the bias.
  const std::vector<float> flat(32, 7.0f), gain(32, 3.0f), bias(32, 0.5f);
  std::vector<float> out(32);
  LayerNorm(flat.data(), gain.data(), bias.data(), 32, 1e-6f, out.data());
  CHECK(out == bias);
}

float GeluTimesOf(float gate, float up) {
  const DF d;
  return hn::GetLane(GeluTimes(hn::Set(d, gate), hn::Set(d, up)));
}

TEST_CASE("GELU is the tanh form") {
  CHECK(std::abs(GeluTimesOf(1, 1) - 0.841192f) < 1e-6f);  // with erf: 0.841345
  CHECK(GeluTimesOf(0, 5) == 0.0f);
  // Where tanh is near -1 the textbook form itself cancels: compare absolutely there.
  double worst = 0;
  for (int i = -12'000; i <= 12'000; ++i) {
    const float x = static_cast<float>(i) / 1000;
    const double exact = Gelu(static_cast<double>(x));
    const double error = std::abs(static_cast<double>(GeluTimesOf(x, 1)) - exact);
    worst = std::max(worst, error / std::max(1.0, std::abs(exact)));
  }
  CAPTURE(worst);
  CHECK(worst < 5e-7);
}

TEST_CASE("GELU at its ends is the identity or nothing") {
  for (const float x : {20.0f, 1e3f, 3e5f, 1e20f}) {
    CHECK(GeluTimesOf(x, 2) == 2 * x);
    CHECK(std::abs(GeluTimesOf(-x, 2)) < 1e-15f);
  }
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace lapidary
HWY_AFTER_NAMESPACE();
