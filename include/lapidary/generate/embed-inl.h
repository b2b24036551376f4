// A text as one vector.
#if defined(LAPIDARY_GENERATE_EMBED_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef LAPIDARY_GENERATE_EMBED_INL_H_
#undef LAPIDARY_GENERATE_EMBED_INL_H_
#else
#define LAPIDARY_GENERATE_EMBED_INL_H_
#endif

#include <cstddef>
#include <span>
#include <vector>

#include "lapidary/base/result.h"
#include "lapidary/generate/options.h"
#include "lapidary/model/model-inl.h"
#include "lapidary/text/prompt.h"

HWY_BEFORE_NAMESPACE();
namespace lapidary {
namespace HWY_NAMESPACE {

// The hidden state behind the final norm of a prompt's tokens, pooled: [width], of any length
// (divide by it to compare by cosine). Errors: those of Session::Prefill.
template <ModelSpec M>
Result<std::vector<float>> Embed(const Model<M>& model, const PromptView& prompt,
                                 Pooling pooling = Pooling::kMean) {
  constexpr size_t kWidth = M::kConfig.width;
  Session<M> session(model);
  std::vector<double> sums(kWidth);
  const size_t last = prompt.ids.size() - 1;
  Status status = session.PrefillWithHidden(prompt, [&](size_t index, std::span<const float> row) {
    if (pooling == Pooling::kLast && index != last) return true;
    for (size_t i = 0; i < kWidth; ++i) sums[i] += static_cast<double>(row[i]);
    return true;
  });
  if (!status) return status.error();
  const double count = pooling == Pooling::kMean ? static_cast<double>(prompt.ids.size()) : 1.0;
  std::vector<float> embedding;
  for (const double sum : sums) embedding.push_back(static_cast<float>(sum / count));
  return embedding;
}

}  // namespace HWY_NAMESPACE
}  // namespace lapidary
HWY_AFTER_NAMESPACE();

#endif  // include guard
