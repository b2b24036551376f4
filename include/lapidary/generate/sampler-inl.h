// Choosing the next token from its logits.
#if defined(LAPIDARY_GENERATE_SAMPLER_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef LAPIDARY_GENERATE_SAMPLER_INL_H_
#undef LAPIDARY_GENERATE_SAMPLER_INL_H_
#else
#define LAPIDARY_GENERATE_SAMPLER_INL_H_
#endif

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <random>
#include <span>
#include <vector>

#include "lapidary/generate/options.h"
#include "lapidary/kernels/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace lapidary {
namespace HWY_NAMESPACE {

// The lowest id with the largest logit. Precondition: logits is not empty.
HWY_INLINE int32_t ArgMax(std::span<const float> logits) {
  return static_cast<int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
}

class Sampler {
 public:
  explicit Sampler(const SamplingOptions& options) : options_(options), random_(options.seed) {}

  // The next token. `history` is every token so far, for the repetition penalty.
  int32_t Sample(std::span<const float> logits, std::span<const int32_t> history) {
    if (options_.repetition_penalty != 1.0f) {
      penalised_.assign(logits.begin(), logits.end());
      Penalise(logits, history);
      logits = penalised_;
    }
    if (options_.temperature <= 0.0f) return ArgMax(logits);
    ComputeWeights(logits);
    KeepTopK();
    KeepTopP();
    return Draw();
  }

 private:
  void Penalise(std::span<const float> logits, std::span<const int32_t> history) {
    for (const int32_t id : history) {
      if (static_cast<size_t>(id) >= logits.size()) continue;
      const float logit = logits[id];  // of the original: a token is penalised once
      const float penalty = options_.repetition_penalty;
      penalised_[id] = logit > 0 ? logit / penalty : logit * penalty;
    }
  }

  // weights = e^((logit - max) / temperature): 1 for the most likely token. Candidates: all of
  // them.
  void ComputeWeights(std::span<const float> logits) {
    const DF d;
    const size_t n = logits.size();
    const VF max = hn::Set(d, *std::max_element(logits.begin(), logits.end()));
    const VF inverse = hn::Set(d, 1.0f / options_.temperature);
    weights_.resize(n);
    for (size_t i = 0; i < n; i += kLanes) {
      const VF w = Exp(hn::Mul(hn::Sub(hn::LoadN(d, logits.data() + i, n - i), max), inverse));
      hn::StoreN(w, d, weights_.data() + i, n - i);
    }
    candidates_.resize(n);
    std::iota(candidates_.begin(), candidates_.end(), 0);
  }

  auto MoreLikely() const {
    return [this](int32_t a, int32_t b) {
      return weights_[a] != weights_[b] ? weights_[a] > weights_[b] : a < b;
    };
  }

  // Sorts the `count` most likely candidates to the front.
  void SortFront(size_t count) {
    const auto middle = candidates_.begin() + static_cast<std::ptrdiff_t>(count);
    if (count < candidates_.size()) {
      std::nth_element(candidates_.begin(), middle, candidates_.end(), MoreLikely());
    }
    std::sort(candidates_.begin(), middle, MoreLikely());
  }

  void KeepTopK() {
    if (options_.top_k == 0 || options_.top_k >= candidates_.size()) return;
    SortFront(options_.top_k);
    candidates_.resize(options_.top_k);
  }

  double Total() const {
    double total = 0;
    for (const int32_t id : candidates_) total += weights_[id];
    return total;
  }

  // Also applies min_p: both cut the sorted candidates.
  void KeepTopP() {
    if (options_.top_p < 1.0f) {
      const double enough = Total() * std::max(options_.top_p, 0.0f);
      // Usually a few hundred of 262144 suffice: sort more only when they do not.
      size_t sorted = std::min<size_t>(256, candidates_.size());
      double sum = 0;
      size_t kept = 0;
      SortFront(sorted);
      while (true) {
        while (kept < sorted && (kept == 0 || sum < enough)) sum += weights_[candidates_[kept++]];
        if (sum >= enough || sorted == candidates_.size()) break;
        sorted = std::min(sorted * 8, candidates_.size());
        SortFront(sorted);
      }
      candidates_.resize(kept);
    }
    if (options_.min_p > 0.0f) {
      const float least =
          std::min(options_.min_p, 1.0f);  // the most likely one, of weight 1, stays
      std::erase_if(candidates_, [this, least](int32_t id) { return weights_[id] < least; });
    }
  }

  int32_t Draw() {
    // 53 random bits as a fraction: unlike std::uniform_real_distribution, the same everywhere.
    const double fraction = static_cast<double>(random_() >> 11) * 0x1p-53;
    double rest = Total() * fraction;
    for (const int32_t id : candidates_) {
      rest -= weights_[id];
      if (rest < 0) return id;
    }
    return candidates_.back();
  }

  SamplingOptions options_;
  std::mt19937_64 random_;
  std::vector<float> penalised_, weights_;  // [vocabulary]
  std::vector<int32_t> candidates_;
};

}  // namespace HWY_NAMESPACE
}  // namespace lapidary
HWY_AFTER_NAMESPACE();

#endif  // include guard
