// What a session knows about the tokens that may come next.
#if defined(LAPIDARY_MODEL_OUTLOOK_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef LAPIDARY_MODEL_OUTLOOK_INL_H_
#undef LAPIDARY_MODEL_OUTLOOK_INL_H_
#else
#define LAPIDARY_MODEL_OUTLOOK_INL_H_
#endif

#include <cstddef>
#include <mutex>
#include <span>
#include <utility>
#include <vector>

#include "lapidary/model/output_head-inl.h"
#include "lapidary/model/token_logit.h"

HWY_BEFORE_NAMESPACE();
namespace lapidary {
namespace HWY_NAMESPACE {

// The hidden state behind the last token, and the logits or the best tokens that the output head
// makes of it: computed when they are first asked for, and kept. Of a step that ran ahead there are
// several states, for this token and those that may follow; the head then works on all that are
// left at once.
class Outlook {
 public:
  Outlook() = default;
  // `hidden`: [states, width].
  Outlook(std::vector<float> hidden, size_t width)
      : states_(hidden.size() / width), hidden_(std::move(hidden)) {}
  // Of one state, of which the logits are known only.
  explicit Outlook(std::vector<float> logits)
      : states_(logits.empty() ? 0 : 1), logits_(std::move(logits)) {}

  bool empty() const { return states_ == 0; }

  // Goes on to the next state. Precondition: there is one.
  void Advance() { ++state_; }

  // [vocabulary]; empty if nothing is known. The mutex guards the head.
  std::span<const float> Logits(OutputHead& head, std::mutex& mutex) {
    if (empty()) return {};
    const size_t vocabulary = head.vocabulary();
    if (logits_.empty()) {
      first_logits_ = state_;
      logits_.resize((states_ - state_) * vocabulary);
      std::vector<float*> rows;
      for (size_t i = state_; i < states_; ++i) {
        rows.push_back(logits_.data() + (i - state_) * vocabulary);
      }
      const std::lock_guard<std::mutex> lock(mutex);
      head.Logits(hidden_.data() + state_ * head.width(), rows.size(), rows.data());
    }
    return std::span<const float>(logits_).subspan((state_ - first_logits_) * vocabulary,
                                                   vocabulary);
  }
  // For a caller who has computed them with those of other sessions. Room for one state's.
  float* LogitsRoom(size_t vocabulary) {
    first_logits_ = state_;
    logits_.resize(vocabulary);
    return logits_.data();
  }

  // The same for Best(count).
  void KnowBest(size_t count, std::vector<TokenLogit> best) {
    count_ = count;
    first_best_ = state_;
    best_.clear();
    best_.push_back(std::move(best));
  }

  // The `count` most likely of the first `choices` tokens, the best first.
  std::span<const TokenLogit> Best(OutputHead& head, std::mutex& mutex, size_t count,
                                   size_t choices) {
    if (empty() || count == 0) return {};
    if (count == count_ && state_ - first_best_ < best_.size()) return best_[state_ - first_best_];
    count_ = count;
    first_best_ = state_;
    best_.clear();
    if (logits_.empty() && head.is_coarse() && count <= OutputHead::kMostBest) {
      const std::lock_guard<std::mutex> lock(mutex);
      best_ = head.Best(hidden_.data() + state_ * head.width(), states_ - state_, count, choices);
    } else {
      BestTokens best(count);
      best.Add(0, Logits(head, mutex).first(choices));
      best_.push_back(best.Take());
    }
    return best_[0];
  }

 private:
  size_t states_ = 0;
  size_t state_ = 0;           // the current one
  std::vector<float> hidden_;  // [states, width]; empty if a saved session was restored
  // What was computed, from a state on.
  size_t first_logits_ = 0, first_best_ = 0;
  std::vector<float> logits_;  // [states, vocabulary]
  size_t count_ = 0;
  std::vector<std::vector<TokenLogit>> best_;  // [states][count_]
};

}  // namespace HWY_NAMESPACE
}  // namespace lapidary
HWY_AFTER_NAMESPACE();

#endif  // include guard
