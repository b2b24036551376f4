// The generation loop: prompt ids in, text out.
#if defined(LAPIDARY_GENERATE_GENERATE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef LAPIDARY_GENERATE_GENERATE_INL_H_
#undef LAPIDARY_GENERATE_GENERATE_INL_H_
#else
#define LAPIDARY_GENERATE_GENERATE_INL_H_
#endif

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "lapidary/base/progress.h"
#include "lapidary/base/result.h"
#include "lapidary/base/stopwatch.h"
#include "lapidary/generate/likelihood-inl.h"
#include "lapidary/generate/options.h"
#include "lapidary/generate/sampler-inl.h"
#include "lapidary/generate/speculation.h"
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

// One text in the making: chooses tokens from logits and turns them into text, up to whatever ends
// it. Generate runs one with a session; GenerateBatch runs many.
class Generation {
 public:
  // The tokenizer and the options must outlive it. `choices`: ids from here on stand for pictures
  // and are never chosen.
  Generation(const Tokenizer& tokenizer, const GenerateOptions& options, size_t choices,
             TextCallback on_text)
      : tokenizer_(tokenizer),
        options_(options),
        choices_(choices),
        on_text_(std::move(on_text)),
        sampler_(options.sampling, options.logit_bias),
        wanted_best_(options.log_probabilities != 0 ? 0 : sampler_.wanted()),
        stops_(options.stop_strings) {
    result_.all_logits = wanted_best_ == 0;
  }

  // How many of the most likely tokens Next looks at; 0: all logits.
  size_t wanted_best() const { return wanted_best_; }

  // Makes the session compute what Next will ask for, and whoever guesses read the text so far:
  // part of reading the prompt.
  template <ModelSpec M>
  void Prepare(const Session<M>& session) const {
    if (options_.max_tokens == 0) return;
    wanted_best_ == 0 ? void(session.logits()) : void(session.Best(wanted_best_));
    if (options_.guess) options_.guess(session.ids(), 0);
  }

  // Chooses the token behind those of the session. Nothing once the text is complete; the id is to
  // be appended to the session.
  template <ModelSpec M>
  std::optional<int32_t> Next(const Session<M>& session) {
    if (options_.max_tokens == 0) return std::nullopt;
    if (options_.cancel.stop_requested()) return End(StopReason::kCancelled);
    int32_t id;
    if (wanted_best_ != 0) {
      id = sampler_.SampleBest(session.Best(wanted_best_));
    } else {
      const std::span<const float> logits = session.logits();
      id = sampler_.Sample(logits.first(choices_), session.ids());
      if (options_.log_probabilities != 0) {
        result_.choices.push_back(ChoiceOf(logits, choices_, id, options_.log_probabilities));
      }
    }
    return Accept(id, session.position() == session.context());
  }

  // How many tokens may yet be appended behind the one that Next chose; the last of a text is not.
  template <ModelSpec M>
  size_t AppendedLater(const Session<M>& session) const {
    return std::min(options_.max_tokens - result_.ids.size(),
                    session.context() - session.position()) -
           1;
  }

  // The text so far, and what was held back of it.
  GenerateResult Finish() {
    if (!stops_.stopped()) {
      Show(stops_.Push(characters_.Finish()));
      Show(stops_.Finish());
    }
    return std::move(result_);
  }

 private:
  std::optional<int32_t> Accept(int32_t id, bool is_full) {
    result_.ids.push_back(id);
    if (options_.stop_at_end && IsEnd(tokenizer_, id)) return End(StopReason::kEnd);
    Show(stops_.Push(characters_.Push(tokenizer_.TokenText(id))));
    if (stops_.stopped()) return End(StopReason::kStopString);
    if (!wanted_) return End(StopReason::kCancelled);
    if (result_.ids.size() == options_.max_tokens) return std::nullopt;
    if (is_full) return End(StopReason::kContextFull);
    return id;
  }

  std::nullopt_t End(StopReason reason) {
    result_.reason = reason;
    return std::nullopt;
  }

  void Show(const std::string& text) {
    if (text.empty()) return;
    if (on_text_ && wanted_) wanted_ = on_text_(text);
    result_.text += text;
  }

  const Tokenizer& tokenizer_;
  const GenerateOptions& options_;
  size_t choices_;
  TextCallback on_text_;
  Sampler sampler_;
  size_t wanted_best_;  // tokens that the sampler needs to see; 0: all logits
  Utf8Stream characters_;
  StopStrings stops_;
  bool wanted_ = true;
  GenerateResult result_;
};

// What Generation needs of a model. kUnsupported if it has no vocabulary, kInvalidArgument for a
// bias of a token that it does not have.
template <ModelSpec M>
Result<Generation> StartGeneration(const Model<M>& model, const GenerateOptions& options,
                                   const TextCallback& on_text) {
  if (model.tokenizer() == nullptr) {
    return MakeError(ErrorCode::kUnsupported,
                     "the model's file holds no vocabulary to make text with");
  }
  // Rows beyond the text vocabulary stand for pictures.
  constexpr size_t kChoices = std::min<size_t>(M::kConfig.vocabulary, kImageSoftToken);
  for (const LogitBias& bias : options.logit_bias) {
    if (static_cast<size_t>(bias.id) < kChoices) continue;
    return MakeError(ErrorCode::kInvalidArgument, "logit_bias: expected ids 0 .. ", kChoices - 1,
                     ", found ", bias.id);
  }
  return Generation(*model.tokenizer(), options, kChoices, on_text);
}

// The progress of a prefill that GenerateOptions::cancel ends too.
inline ProgressCallback CancellableProgress(const GenerateOptions& options) {
  return [&options](const Progress& progress) {
    if (options.cancel.stop_requested()) return false;
    return !options.prefill_progress || options.prefill_progress(progress);
  };
}

// Generates up to max_tokens tokens behind what the session holds. All chosen tokens but the last
// become part of the session; the last is in the result's ids only. A callback that returns false,
// and a context that is full, end the text without an error. Errors: kInvalidArgument if the
// session has no logits to begin with, those of StartGeneration, kOutOfMemory.
template <ModelSpec M>
Result<GenerateResult> Continue(const Model<M>& model, Session<M>& session,
                                const GenerateOptions& options, const TextCallback& on_text = {}) {
  if (!session.has_logits()) {
    return MakeError(ErrorCode::kInvalidArgument, "the session has no logits to go on from");
  }
  Result<Generation> generation = StartGeneration(model, options, on_text);
  if (!generation) return generation.error();
  generation->Prepare(session);
  const Stopwatch watch;
  Speculation speculation(options.guess);
  std::vector<int32_t> ids(session.ids().begin(), session.ids().end());  // and the next one
  while (const auto id = generation->Next(session)) {
    ids.push_back(*id);
    std::vector<int32_t> guesses;
    if (session.Guessed(*id)) {
      speculation.CameTrue();
    } else {
      guesses = speculation.NextRound(ids, watch.seconds(), generation->AppendedLater(session));
    }
    if (Status status = session.Append(*id, guesses); !status) return status.error();
  }
  GenerateResult result = generation->Finish();
  result.decode_seconds = watch.seconds();
  result.guesses = speculation.guesses();
  result.guesses_true = speculation.guesses_true();
  return result;
}

// Appends the prompt to the session and continues it. Errors: those of Session::Prefill for the
// prompt and those of Continue.
template <ModelSpec M>
Result<GenerateResult> Generate(const Model<M>& model, Session<M>& session,
                                const PromptView& prompt, const GenerateOptions& options,
                                const TextCallback& on_text = {}) {
  const Result<Generation> generation = StartGeneration(model, options, {});
  if (!generation) return generation.error();
  const Stopwatch watch;
  if (Status status = session.Prefill(prompt, CancellableProgress(options)); !status) {
    return status.error();
  }
  generation->Prepare(session);
  const double prefill_seconds = watch.seconds();
  Result<GenerateResult> result = Continue(model, session, options, on_text);
  if (!result) return result;
  result->prompt_tokens = prompt.ids.size();
  result->prefill_seconds = prefill_seconds;
  return result;
}

}  // namespace HWY_NAMESPACE
}  // namespace lapidary
HWY_AFTER_NAMESPACE();

#endif  // include guard
