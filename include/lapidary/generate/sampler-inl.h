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
#include <utility>
#include <vector>

#include "lapidary/generate/options.h"
#include "lapidary/kernels/simd-inl.h"
#include "lapidary/model/output_head-inl.h"
#include "lapidary/model/token_logit.h"

HWY_BEFORE_NAMESPACE();
namespace lapidary {
namespace HWY_NAMESPACE {

// The largest of them. Precondition: logits is not empty.
HWY_INLINE float MaxOf(std::span<const float> logits) {
  const DF d;
  // Independent chains: one would wait four cycles for each maximum.
  VF max[4];
  for (VF& m : max) m = hn::Set(d, logits[0]);
  size_t i = 0;
  for (; i + 4 * kLanes <= logits.size(); i += 4 * kLanes) {
    for (size_t j = 0; j < 4; ++j) {
      max[j] = hn::Max(max[j], hn::LoadU(d, logits.data() + i + j * kLanes));
    }
  }
  float result = hn::ReduceMax(d, hn::Max(hn::Max(max[0], max[1]), hn::Max(max[2], max[3])));
  for (; i < logits.size(); ++i) result = std::max(result, logits[i]);
  return result;
}

// The lowest id with the largest logit. Precondition: logits is not empty. (Two fast passes: a
// single one by std::max_element takes as long as a tenth of a small model's step.)
HWY_INLINE int32_t ArgMax(std::span<const float> logits) {
  const auto found = std::find(logits.begin(), logits.end(), MaxOf(logits));
  return found == logits.end() ? 0 : static_cast<int32_t>(found - logits.begin());
}

class Sampler {
 public:
  // Tokens of a bias that the logits do not have are left out.
  explicit Sampler(const SamplingOptions& options, std::vector<LogitBias> bias = {})
      : options_(options), bias_(std::move(bias)), random_(options.seed) {}

  // How many of the most likely tokens decide which one comes next; 0: all, perhaps because it
  // takes the probabilities of all to know. SampleBest then chooses what Sample would choose, and
  // draws as often.
  size_t wanted() const {
    if (options_.repetition_penalty != 1.0f || !bias_.empty()) return 0;
    if (options_.temperature <= 0.0f) return 1;
    return options_.top_k <= OutputHead::kMostBest ? options_.top_k : 0;
  }

  // The next token, from the wanted() most likely ones, the best first. (There are none if weights
  // that are no numbers made all logits NaN; then it is 0, as for all logits.)
  int32_t SampleBest(std::span<const TokenLogit> best) {
    if (best.empty()) return 0;
    if (options_.temperature <= 0.0f) return best[0].id;
    changed_.clear();
    for (const TokenLogit& token : best) changed_.push_back(token.logit);
    return best[static_cast<size_t>(Choose(changed_))].id;
  }

  // The next token. `history` is every token so far, for the repetition penalty.
  int32_t Sample(std::span<const float> logits, std::span<const int32_t> history) {
    if (options_.repetition_penalty != 1.0f || !bias_.empty()) {
      changed_.assign(logits.begin(), logits.end());
      AddBias();
      Penalise(history);
      logits = changed_;
    }
    return options_.temperature <= 0.0f ? ArgMax(logits) : Choose(logits);
  }

 private:
  // Draws the index of a logit.
  int32_t Choose(std::span<const float> logits) {
    logits_ = logits;
    ComputeWeights();
    KeepTopK();
    KeepTopP();
    return Draw();
  }

  void AddBias() {
    for (const LogitBias& bias : bias_) {
      if (static_cast<size_t>(bias.id) < changed_.size()) changed_[bias.id] += bias.bias;
    }
  }

  void Penalise(std::span<const int32_t> history) {
    if (options_.repetition_penalty == 1.0f) return;
    seen_.assign(history.begin(), history.end());  // a token is penalised once
    std::sort(seen_.begin(), seen_.end());
    seen_.erase(std::unique(seen_.begin(), seen_.end()), seen_.end());
    for (const int32_t id : seen_) {
      if (static_cast<size_t>(id) >= changed_.size()) continue;
      const float penalty = options_.repetition_penalty;
      changed_[id] = changed_[id] > 0 ? changed_[id] / penalty : changed_[id] * penalty;
    }
  }

  // weights = e^((logit - max) / temperature): 1 for the most likely token. Candidates: all of
  // them.
  void ComputeWeights() {
    const DF d;
    const size_t n = logits_.size();
    const VF max = hn::Set(d, MaxOf(logits_));
    const VF inverse = hn::Set(d, 1.0f / options_.temperature);
    weights_.resize(n);
    for (size_t i = 0; i < n; i += kLanes) {
      const VF w = Exp(hn::Mul(hn::Sub(hn::LoadN(d, logits_.data() + i, n - i), max), inverse));
      hn::StoreN(w, d, weights_.data() + i, n - i);
    }
    candidates_.resize(n);
    std::iota(candidates_.begin(), candidates_.end(), 0);
  }

  auto MoreLikelyFirst() const {
    return [this](int32_t a, int32_t b) {
      return MoreLikely(TokenLogit{a, logits_[a]}, TokenLogit{b, logits_[b]});
    };
  }

  // Sorts the `count` most likely candidates to the front.
  void SortFront(size_t count) {
    const auto middle = candidates_.begin() + static_cast<std::ptrdiff_t>(count);
    if (count < candidates_.size()) {
      std::nth_element(candidates_.begin(), middle, candidates_.end(), MoreLikelyFirst());
    }
    std::sort(candidates_.begin(), middle, MoreLikelyFirst());
  }

  void KeepTopK() {
    if (options_.top_k == 0) return;
    const size_t kept = std::min(options_.top_k, candidates_.size());
    SortFront(kept);
    candidates_.resize(kept);
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
  std::vector<LogitBias> bias_;
  std::mt19937_64 random_;
  std::span<const float> logits_;         // that are being chosen from
  std::vector<float> changed_, weights_;  // [vocabulary]
  std::vector<int32_t> seen_, candidates_;
};

}  // namespace HWY_NAMESPACE
}  // namespace lapidary
HWY_AFTER_NAMESPACE();

#endif  // include guard
