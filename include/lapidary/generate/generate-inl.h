// The generation loop: prompt ids in, text out.
#if defined(LAPIDARY_GENERATE_GENERATE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef LAPIDARY_GENERATE_GENERATE_INL_H_
#undef LAPIDARY_GENERATE_GENERATE_INL_H_
#else
#define LAPIDARY_GENERATE_GENERATE_INL_H_
#endif

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include "lapidary/base/result.h"
#include "lapidary/generate/options.h"
#include "lapidary/generate/sampler-inl.h"
#include "lapidary/generate/stop_strings.h"
#include "lapidary/model/model-inl.h"
#include "lapidary/text/prompt.h"
#include "lapidary/text/tokenizer.h"
#include "lapidary/text/utf8_stream.h"

HWY_BEFORE_NAMESPACE();
namespace lapidary {
namespace HWY_NAMESPACE {

// Whether the model says with this token that its text, or its turn, is over.
inline bool IsEnd(const Tokenizer& tokenizer, int32_t id) {
  return id == kEos || (id == kEndOfTurn && tokenizer.Piece(id) == "<end_of_turn>");
}

// Appends the prompt to the session and generates up to max_tokens tokens. All chosen tokens but
// the last become part of the session; the last is in the result's ids only. A callback that
// returns false, and a context that is full, end the text without an error. Errors: those of
// Session::Prefill for the prompt, kUnsupported if the model has no tokenizer, kOutOfMemory.
template <ModelSpec M>
Result<GenerateResult> Generate(const Model<M>& model, Session<M>& session,
                                const PromptView& prompt, const GenerateOptions& options,
                                const TextCallback& on_text = {}) {
  using Clock = std::chrono::steady_clock;
  const auto seconds = [](Clock::time_point from) {
    return std::chrono::duration<double>(Clock::now() - from).count();
  };
  const Tokenizer* tokenizer = model.tokenizer();
  if (tokenizer == nullptr) {
    return MakeError(ErrorCode::kUnsupported,
                     "the model's file holds no vocabulary to make text with");
  }
  // Rows beyond the text vocabulary stand for pictures and are never sampled.
  const size_t choices = std::min<size_t>(M::kConfig.vocabulary, kImageSoftToken);

  GenerateResult result;
  result.prompt_tokens = prompt.ids.size();
  const Clock::time_point start = Clock::now();
  if (Status status = session.Prefill(prompt, options.prefill_progress); !status) {
    return status.error();
  }
  result.prefill_seconds = seconds(start);

  Sampler sampler(options.sampling);
  Utf8Stream characters;
  StopStrings stops(options.stop_strings);
  bool wanted = true;
  const auto show = [&](std::string text) {
    if (text.empty()) return;
    if (on_text && wanted) wanted = on_text(text);
    result.text += text;
  };

  const Clock::time_point decode_start = Clock::now();
  while (result.ids.size() < options.max_tokens) {
    const int32_t id = sampler.Sample(session.logits().first(choices), session.ids());
    result.ids.push_back(id);
    if (options.stop_at_end && IsEnd(*tokenizer, id)) {
      result.reason = StopReason::kEnd;
      break;
    }
    show(stops.Push(characters.Push(tokenizer->TokenText(id))));
    if (stops.stopped() || !wanted) {
      result.reason = stops.stopped() ? StopReason::kStopString : StopReason::kCancelled;
      break;
    }
    if (result.ids.size() == options.max_tokens) break;
    if (session.position() == session.context()) {
      result.reason = StopReason::kContextFull;
      break;
    }
    if (auto logits = session.Decode(id); !logits) return logits.error();
  }
  result.decode_seconds = seconds(decode_start);
  if (!stops.stopped()) {
    show(stops.Push(characters.Finish()));
    show(stops.Finish());
  }
  return result;
}

}  // namespace HWY_NAMESPACE
}  // namespace lapidary
HWY_AFTER_NAMESPACE();

#endif  // include guard
