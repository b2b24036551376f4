// Many prompts at once: while the texts of several are made, each step reads the weights once for
// all of them.
#if defined(LAPIDARY_GENERATE_BATCH_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef LAPIDARY_GENERATE_BATCH_INL_H_
#undef LAPIDARY_GENERATE_BATCH_INL_H_
#else
#define LAPIDARY_GENERATE_BATCH_INL_H_
#endif

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "lapidary/base/result.h"
#include "lapidary/base/stopwatch.h"
#include "lapidary/generate/generate-inl.h"
#include "lapidary/generate/options.h"
#include "lapidary/model/model-inl.h"
#include "lapidary/text/prompt.h"

HWY_BEFORE_NAMESPACE();
namespace lapidary {
namespace HWY_NAMESPACE {

// Generates a text for every prompt, `options.sessions` at a time; a prompt takes the place of one
// whose text is complete. Each text is the one that Generate() makes with a session of its own.
// on_result receives them in the order in which they end, or the error of a prompt that Prefill
// refuses. Errors: kCancelled if on_result returned false, those of StartGeneration, kOutOfMemory.
template <ModelSpec M>
Status GenerateBatch(const Model<M>& model, std::span<const Prompt> prompts,
                     const BatchOptions& options, const BatchCallback& on_result) {
  struct Text {
    size_t prompt;
    Session<M> session;
    Generation generation;
    Stopwatch watch;
    double prefill_seconds;
    int32_t next;  // for the session
  };
  if (auto checked = StartGeneration(model, options.generate, {}); !checked) {
    return checked.error();
  }
  std::vector<std::unique_ptr<Text>> texts;
  bool wanted = true;
  // Chooses a token; false once the text is complete, and then it has been handed out.
  const auto advance = [&](Text& text) {
    if (const auto id = text.generation.Next(text.session)) {
      text.next = *id;
      return true;
    }
    GenerateResult result = text.generation.Finish();
    result.prompt_tokens = prompts[text.prompt].ids.size();
    result.prefill_seconds = text.prefill_seconds;
    result.decode_seconds = text.watch.seconds();
    wanted = on_result(text.prompt, std::move(result)) && wanted;
    return false;
  };
  const auto start = [&](size_t prompt) {
    Session<M> session(model, options.context);
    Stopwatch watch;
    if (Status status = session.Prefill(prompts[prompt], CancellableProgress(options.generate));
        !status) {
      wanted = on_result(prompt, status.error()) && wanted;
      return;
    }
    const double seconds = watch.seconds();
    std::unique_ptr<Text> text(new Text{prompt, std::move(session),
                                        *StartGeneration(model, options.generate, {}), Stopwatch(),
                                        seconds, 0});
    if (advance(*text)) texts.push_back(std::move(text));
  };

  const size_t most = std::clamp<size_t>(options.sessions, 1, model.chunk());
  for (size_t next = 0; next < prompts.size() || !texts.empty();) {
    while (wanted && texts.size() < most && next < prompts.size()) start(next++);
    if (!wanted) return MakeError(ErrorCode::kCancelled, "cancelled by the caller");
    std::vector<Session<M>*> sessions;
    std::vector<int32_t> ids;
    for (const auto& text : texts) {
      sessions.push_back(&text->session);
      ids.push_back(text->next);
    }
    // All have the same options.
    const size_t best = texts.empty() ? 0 : texts.front()->generation.wanted_best();
    if (Status status = model.DecodeTogether(sessions, ids, best); !status) return status;
    std::erase_if(texts, [&](const auto& text) { return !advance(*text); });
  }
  return wanted ? Status() : MakeError(ErrorCode::kCancelled, "cancelled by the caller");
}

}  // namespace HWY_NAMESPACE
}  // namespace lapidary
HWY_AFTER_NAMESPACE();

#endif  // include guard
