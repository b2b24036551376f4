// The sampler against a slow twin that follows Hugging Face's logits processors step by step.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <map>
#include <numeric>
#include <random>
#include <span>
#include <vector>

#include "lapidary/generate/sampler-inl.h"
#include "tests/support/catch.h"
#include "tests/support/scalar.h"

HWY_BEFORE_NAMESPACE();
namespace lapidary {
namespace HWY_NAMESPACE {
namespace {

using lapidary::testing::UniformVector;

constexpr double kRemoved = -std::numeric_limits<double>::infinity();

std::vector<double> Softmax(const std::vector<double>& logits) {
  const double max = *std::max_element(logits.begin(), logits.end());
  std::vector<double> p;
  double total = 0;
  for (const double logit : logits) total += p.emplace_back(std::exp(logit - max));
  for (double& value : p) value /= total;
  return p;
}

// The distribution that transformers samples from: RepetitionPenaltyLogitsProcessor, then the
// warpers for temperature, top k, top p and min p, each a filter of logits as in
// generation/logits_process.py.
std::vector<double> Distribution(std::span<const float> raw, std::span<const int32_t> history,
                                 const SamplingOptions& options) {
  std::vector<double> logits(raw.begin(), raw.end());
  const double penalty = static_cast<double>(options.repetition_penalty);
  for (size_t i = 0; i < logits.size(); ++i) {
    if (std::find(history.begin(), history.end(), static_cast<int32_t>(i)) == history.end())
      continue;
    logits[i] = logits[i] < 0 ? logits[i] * penalty : logits[i] / penalty;
  }
  for (double& logit : logits) logit /= static_cast<double>(options.temperature);
  if (options.top_k != 0) {
    std::vector<double> sorted = logits;
    std::sort(sorted.begin(), sorted.end(), std::greater<>());
    const double kth = sorted[std::min(options.top_k, sorted.size()) - 1];
    for (double& logit : logits) logit = logit < kth ? kRemoved : logit;
  }
  if (options.top_p < 1) {
    const std::vector<double> p = Softmax(logits);
    std::vector<size_t> ascending(logits.size());
    std::iota(ascending.begin(), ascending.end(), size_t{0});
    std::sort(ascending.begin(), ascending.end(), [&](size_t a, size_t b) { return p[a] < p[b]; });
    double cumulative = 0;
    for (size_t i = 0; i + 1 < ascending.size(); ++i) {  // the most likely one stays
      cumulative += p[ascending[i]];
      if (cumulative <= 1 - static_cast<double>(options.top_p)) logits[ascending[i]] = kRemoved;
    }
  }
  if (options.min_p > 0) {
    const std::vector<double> p = Softmax(logits);
    const double least = static_cast<double>(options.min_p) * *std::max_element(p.begin(), p.end());
    for (size_t i = 0; i < p.size(); ++i) {
      if (p[i] < least) logits[i] = kRemoved;
    }
  }
  return Softmax(logits);
}

// Draws often: every token of the distribution must appear about as often as it says, no other at
// all.
void CheckDistribution(std::span<const float> logits, std::span<const int32_t> history,
                       SamplingOptions options) {
  constexpr int kDraws = 10'000;
  const std::vector<double> expected = Distribution(logits, history, options);
  std::vector<int> count(logits.size());
  Sampler sampler(options);
  for (int i = 0; i < kDraws; ++i) ++count[static_cast<size_t>(sampler.Sample(logits, history))];
  CAPTURE(options.temperature, options.top_k, options.top_p, options.min_p,
          options.repetition_penalty, logits.size());
  size_t wrong = 0, impossible = 0;
  for (size_t i = 0; i < logits.size(); ++i) {
    // Five standard deviations of a binomial distribution, and one draw for the rare ones.
    const double mean = expected[i] * kDraws;
    const double tolerance = 5 * std::sqrt(mean * (1 - expected[i])) + 1;
    wrong += !(std::abs(count[i] - mean) <= tolerance);
    impossible += expected[i] == 0 && count[i] != 0;
  }
  CHECK(wrong == 0);
  CHECK(impossible == 0);
}

TEST_CASE("greedy takes the largest logit, of equal ones the lowest id") {
  Sampler greedy(SamplingOptions{});
  CHECK(greedy.Sample(std::vector<float>{1, 3, 2, 3}, {}) == 1);
  CHECK(greedy.Sample(std::vector<float>{-5}, {}) == 0);
  CHECK(greedy.Sample(std::vector<float>{-2, -2, -2}, {}) == 0);
  std::vector<float> logits(262'144, -1.0f);
  logits.back() = 40;  // no cap, and the last one counts
  CHECK(greedy.Sample(logits, {}) == 262'143);
  // Greedy ignores what only drawing uses.
  Sampler also(
      SamplingOptions{.temperature = 0, .top_k = 1, .top_p = 0.1f, .min_p = 0.5f, .seed = 9});
  CHECK(also.Sample(std::vector<float>{1, 3, 2, 3}, {}) == 1);
}

TEST_CASE("draws follow the distribution of Hugging Face's steps") {
  std::mt19937 random(1);
  std::vector<float> logits = UniformVector(random, 37, 4);
  const std::vector<int32_t> history = {3, 5, 3, 3, 36, 0};
  for (const float penalty : {1.0f, 1.3f}) {
    for (const float temperature : {0.6f, 1.5f}) {
      for (const size_t top_k : {0, 1, 5, 100}) {
        for (const float top_p : {1.0f, 0.9f, 0.5f}) {
          const float min_p = top_k == 5 ? 0.1f : 0.0f;
          CheckDistribution(logits, history, {penalty, temperature, top_k, top_p, min_p, random()});
        }
      }
    }
  }
  CheckDistribution(logits, {}, {.temperature = 1, .min_p = 0.2f});
  CheckDistribution(logits, {}, {.temperature = 1, .top_p = 0.7f, .min_p = 0.3f});
}

TEST_CASE(
    "the order of the steps shows: top p counts what top k left, min p what is left of both") {
  // Probabilities 0.4, 0.3, 0.2, 0.1.
  std::vector<float> logits;
  for (const double p : {0.4, 0.3, 0.2, 0.1}) logits.push_back(static_cast<float>(std::log(p)));
  const auto possible = [&](SamplingOptions options) {
    options.temperature = 1;
    std::map<int32_t, int> seen;
    Sampler sampler(options);
    for (int i = 0; i < 2000; ++i) ++seen[sampler.Sample(logits, {})];
    return seen.size();
  };
  CHECK(possible({.top_p = 0.65f}) == 2);
  CHECK(possible({.top_p = 0.75f}) == 3);
  // Of the three best, 0.4 / 0.9 = 0.44 and 0.3 / 0.9 = 0.33: two make 0.75.
  CHECK(possible({.top_k = 3, .top_p = 0.75f}) == 2);
  CHECK(possible({.top_k = 3, .top_p = 0.80f}) == 3);
  CHECK(possible({.min_p = 0.4f}) == 3);
  CHECK(possible({.min_p = 0.6f}) == 2);
  CHECK(possible({.top_k = 2, .min_p = 0.4f}) == 2);
}

TEST_CASE("at least the most likely token stays") {
  const std::vector<float> logits = {0, 1, 5, 1};
  for (const SamplingOptions& options :
       {SamplingOptions{.temperature = 1, .top_k = 1},
        SamplingOptions{.temperature = 1, .top_p = 0},
        SamplingOptions{.temperature = 1, .top_p = 1e-6f},
        SamplingOptions{.temperature = 1, .min_p = 1},
        SamplingOptions{.temperature = 1, .min_p = 2}, SamplingOptions{.temperature = 1e-3f}}) {
    Sampler sampler(options);
    for (int i = 0; i < 100; ++i) REQUIRE(sampler.Sample(logits, {}) == 2);
  }
}

TEST_CASE("a vocabulary of full size: top p may need more than a few hundred tokens") {
  std::mt19937 random(2);
  std::vector<float> logits = UniformVector(random, 20'011, 0.5f);
  SamplingOptions options = {.temperature = 1, .top_p = 0.5f, .seed = 3};
  const std::vector<double> expected = Distribution(logits, {}, options);
  Sampler sampler(options);
  std::vector<char> seen(logits.size());
  size_t impossible = 0;
  for (int i = 0; i < 60; ++i) {
    const auto id = static_cast<size_t>(sampler.Sample(logits, {}));
    impossible += expected[id] == 0;
    seen[id] = 1;
  }
  CHECK(impossible == 0);
  CHECK(std::count(seen.begin(), seen.end(), 1) > 50);
}

TEST_CASE("equal seeds give equal draws") {
  std::mt19937 random(4);
  const std::vector<float> logits = UniformVector(random, 1000, 2);
  const auto draws = [&](uint64_t seed) {
    Sampler sampler(SamplingOptions{.temperature = 1, .top_k = 200, .top_p = 0.95f, .seed = seed});
    std::vector<int32_t> ids;
    for (int i = 0; i < 50; ++i) ids.push_back(sampler.Sample(logits, {}));
    return ids;
  };
  CHECK(draws(1) == draws(1));
  CHECK(draws(1) != draws(2));
  // The generator is specified by the C++ standard, so these are the draws on every machine: four
  // equally likely tokens show the two highest bits of its numbers.
  Sampler sampler(SamplingOptions{.temperature = 1, .seed = 5});
  std::mt19937_64 bits(5);
  for (int i = 0; i < 100; ++i) {
    REQUIRE(sampler.Sample(std::vector<float>(4, 1.0f), {}) == static_cast<int32_t>(bits() >> 62));
  }
}

TEST_CASE("the best tokens are enough, and give the same draws as all of them") {
  std::mt19937 random(6);
  for (const size_t size : {30, 1000}) {
    std::vector<float> logits = UniformVector(random, size, 3);
    // Equal ones, also at the border of the best.
    for (size_t i = 0; i + 1 < size; i += 3) logits[i] = logits[i + 1];
    std::vector<TokenLogit> order;
    for (size_t i = 0; i < size; ++i) order.push_back({static_cast<int32_t>(i), logits[i]});
    std::sort(order.begin(), order.end(),
              [](const TokenLogit& a, const TokenLogit& b) { return MoreLikely(a, b); });
    for (const SamplingOptions& options :
         {SamplingOptions{}, SamplingOptions{.temperature = 1, .top_k = 1},
          SamplingOptions{.temperature = 0.7f, .top_k = 40, .top_p = 0.9f, .min_p = 0.05f},
          SamplingOptions{.temperature = 2, .top_k = 256},
          SamplingOptions{.temperature = 1e-3f, .top_k = 20}}) {
      Sampler all(options), some(options);
      REQUIRE(some.wanted() > 0);
      const std::span<const TokenLogit> best(order.data(), std::min(size, some.wanted()));
      for (int i = 0; i < 200; ++i) REQUIRE(some.SampleBest(best) == all.Sample(logits, {}));
    }
  }
  CHECK(Sampler(SamplingOptions{}).wanted() == 1);
  for (const SamplingOptions& options :
       {SamplingOptions{.temperature = 1}, SamplingOptions{.temperature = 1, .top_k = 1000},
        SamplingOptions{.temperature = 1, .top_p = 0.9f},
        SamplingOptions{.repetition_penalty = 1.1f}}) {
    CHECK(Sampler(options).wanted() == 0);
  }
  CHECK(Sampler(SamplingOptions{}, {{3, 1}}).wanted() == 0);
}

TEST_CASE("the repetition penalty changes each token once, towards less likely") {
  Sampler sampler(SamplingOptions{.repetition_penalty = 2});
  // Positive logits are divided, negative ones multiplied; a token that came three times is
  // penalised once.
  CHECK(sampler.Sample(std::vector<float>{4, 3, -1}, std::vector<int32_t>{0, 0, 0}) == 1);
  CHECK(sampler.Sample(std::vector<float>{4, 1.9f, -1}, std::vector<int32_t>{0, 0, 0}) == 0);
  CHECK(sampler.Sample(std::vector<float>{-1, -1.9f, -3}, std::vector<int32_t>{0}) == 1);
  CHECK(sampler.Sample(std::vector<float>{-1, -2.1f, -3}, std::vector<int32_t>{0}) == 0);
  // Ids without a logit (a picture's) do not matter.
  CHECK(sampler.Sample(std::vector<float>{4, 3}, std::vector<int32_t>{2, 262'144, -1}) == 0);
}

TEST_CASE("logits far apart, infinite or huge give no NaN") {
  const float infinity = std::numeric_limits<float>::infinity();
  Sampler sampler(SamplingOptions{.temperature = 1, .top_p = 0.9f, .min_p = 0.01f});
  for (int i = 0; i < 100; ++i) {
    REQUIRE(sampler.Sample(std::vector<float>{-infinity, 0, -1e38f, -200}, {}) == 1);
    REQUIRE(sampler.Sample(std::vector<float>{3e38f, -3e38f, 0}, {}) == 0);
  }
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace lapidary
HWY_AFTER_NAMESPACE();
