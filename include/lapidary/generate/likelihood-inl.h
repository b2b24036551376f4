// How likely the model finds a token or a text.
#if defined(LAPIDARY_GENERATE_LIKELIHOOD_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef LAPIDARY_GENERATE_LIKELIHOOD_INL_H_
#undef LAPIDARY_GENERATE_LIKELIHOOD_INL_H_
#else
#define LAPIDARY_GENERATE_LIKELIHOOD_INL_H_
#endif

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "lapidary/base/result.h"
#include "lapidary/generate/options.h"
#include "lapidary/generate/sampler-inl.h"
#include "lapidary/kernels/simd-inl.h"
#include "lapidary/model/model-inl.h"

HWY_BEFORE_NAMESPACE();
namespace lapidary {
namespace HWY_NAMESPACE {

// The logarithm of the sum of e^logit: what has to be subtracted from a logit to get the logarithm
// of its probability. Precondition: logits is not empty.
HWY_INLINE double LogSumExp(std::span<const float> logits) {
  constexpr size_t kBlock = 4096;  // short enough for f32 sums, see below
  const DF d;
  const float largest = MaxOf(logits);
  const VF max = hn::Set(d, largest);
  // Blocks in f32, their sums in double: a plain f32 sum of 262144 terms loses 4 digits.
  double total = 0;
  for (size_t begin = 0; begin < logits.size(); begin += kBlock) {
    const std::span<const float> block =
        logits.subspan(begin, std::min(kBlock, logits.size() - begin));
    VF sum = hn::Zero(d);
    size_t i = 0;
    for (; i + kLanes <= block.size(); i += kLanes) {
      sum = hn::Add(sum, Exp(hn::Sub(hn::LoadU(d, block.data() + i), max)));
    }
    if (i < block.size()) {
      const size_t rest = block.size() - i;
      const VF e = Exp(hn::Sub(hn::LoadN(d, block.data() + i, rest), max));
      sum = hn::Add(sum, hn::IfThenElseZero(hn::FirstN(d, rest), e));
    }
    total += static_cast<double>(hn::ReduceSum(d, sum));
  }
  return static_cast<double>(largest) + std::log(total);
}

// What TokenChoice says of `chosen`: its place among all logits, and the `n` most likely of the
// first `choices` ids. Equal ones come in the order of their ids.
inline TokenChoice ChoiceOf(std::span<const float> logits, size_t choices, int32_t chosen,
                            size_t n) {
  const auto normaliser = static_cast<float>(LogSumExp(logits));
  TokenChoice choice = {logits[chosen] - normaliser, {}};
  std::vector<TokenProbability>& top = choice.top;
  n = std::min(n, choices);
  // n is small: nearly every logit is behind the worst of those kept, which one comparison tells.
  for (size_t i = 0; i < choices; ++i) {
    if (top.size() == n && !(logits[i] > top.back().log_probability)) continue;
    if (top.size() == n) top.pop_back();
    const auto place = std::find_if(top.begin(), top.end(), [&](const TokenProbability& other) {
      return logits[i] > other.log_probability;
    });
    top.insert(place, {static_cast<int32_t>(i), logits[i]});
  }
  for (TokenProbability& token : top) token.log_probability -= normaliser;
  return choice;
}

// Appends a continuation to the session and says how likely the model found it, token by token.
// Several continuations of one prompt: Session::Fork. Errors: kInvalidArgument if the session has
// no logits, and those of Session::Prefill, with nothing changed; kOutOfMemory.
template <ModelSpec M>
Result<Likelihood> Score(Session<M>& session, std::span<const int32_t> continuation) {
  if (!session.has_logits()) {
    return MakeError(ErrorCode::kInvalidArgument, "the session has no logits to score with");
  }
  Likelihood likelihood;
  const auto add = [&](std::span<const float> logits, int32_t id) {
    const double log_probability = static_cast<double>(logits[id]) - LogSumExp(logits);
    likelihood.log_probabilities.push_back(static_cast<float>(log_probability));
    likelihood.total += log_probability;
    likelihood.is_greedy = likelihood.is_greedy && ArgMax(logits) == id;
  };
  const std::vector<float> first(session.logits().begin(), session.logits().end());
  Status status =
      session.PrefillWithLogits(continuation, [&](size_t index, std::span<const float> logits) {
        if (index == 0) add(first, continuation[0]);
        if (index + 1 < continuation.size()) add(logits, continuation[index + 1]);
        return true;
      });
  if (!status) return status.error();
  return likelihood;
}

}  // namespace HWY_NAMESPACE
}  // namespace lapidary
HWY_AFTER_NAMESPACE();

#endif  // include guard
