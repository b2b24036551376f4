// lapidary generate: completes a text.
#include <cstdint>
#include <cstdio>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "command.h"
#include "images.h"
#include "json_out.h"
#include "lapidary/generate/engine.h"
#include "lapidary/generate/speculation.h"
#include "lapidary/text/chat_template.h"
#include "model_flags.h"
#include "sampling_flags.h"
#include "speed_line.h"
#include "terminal.h"

namespace lapidary::cli {
namespace {

struct GenerateFlags {
  ModelFlags model;
  ImageFlags images;
  std::optional<std::string> prompt;  // one of these two
  std::optional<std::string> prompt_file;
  bool chat = false;
  std::size_t tokens = 64;
  SamplingFlags sampling;
  std::vector<std::string> stop;
  bool lookup = true;
  std::optional<std::string> draft;  // a file
  bool json = false;
};

Result<Prompt> MakePrompt(const GenerateFlags& flags, const Engine& model) {
  const Tokenizer& tokenizer = *model.tokenizer();
  const Result<std::string> text = flags.prompt ? *flags.prompt : ReadText(*flags.prompt_file);
  if (!text) return text.error();
  Result<std::vector<ImageEmbedding>> images = EncodeImages(model, flags.images);
  if (!images) return images.error();
  if (flags.chat) {
    const Result<ChatTemplate> chat = ChatTemplate::Create(tokenizer);
    if (!chat) return chat.error();
    return Prompt{chat->FirstTurn("", *text, *images), *images};
  }
  if (images->empty()) return Prompt{tokenizer.EncodePrompt(*text), {}};
  PromptBuilder builder(tokenizer, PromptBuilder::Text::kWithControl);
  builder.AddId(kBos).AddImages(*images).AddText(*text);
  return Prompt{builder.Take(), *images};
}

// Who guesses how the text goes on, if anybody.
Result<GuessCallback> GuessOf(const GenerateFlags& flags) {
  if (!flags.draft) return flags.lookup ? GenerateOptions().guess : nullptr;
  ModelFlags draft = flags.model;
  draft.path = *flags.draft;
  const Result<OpenedModel> opened = OpenModelOf(draft, /*needs_text=*/false);
  if (!opened) return opened.error();
  Result<std::unique_ptr<EngineSession>> session = opened->NewSession(draft);
  if (!session) return session.error();
  return DraftOf(std::shared_ptr<EngineSession>(*std::move(session)));
}

Status Run(const GenerateFlags& flags) {
  CatchInterrupts();
  const Result<OpenedModel> opened = OpenModelOf(flags.model);
  if (!opened) return opened.error();
  const Engine& model = *opened->model;
  const Result<Prompt> prompt = MakePrompt(flags, model);
  if (!prompt) return prompt.error();
  Result<std::unique_ptr<EngineSession>> session = opened->NewSession(flags.model);
  if (!session) return session.error();

  // Made here, removed before the first text appears on the same terminal.
  auto meter = std::make_unique<ProgressMeter>("reading the prompt", ProgressMeter::Unit::kTokens);
  GenerateOptions options;
  options.max_tokens = flags.tokens;
  options.sampling = flags.sampling.options();
  options.stop_strings = flags.stop;
  Result<GuessCallback> guess = GuessOf(flags);
  if (!guess) return guess.error();
  options.guess = *std::move(guess);
  options.prefill_progress = [&](const Progress& progress) {
    const bool go_on = (*meter)(progress);
    if (progress.done == progress.total) meter.reset();
    return go_on;
  };
  const Result<GenerateResult> result = (*session)->Generate(
      *prompt, options,
      [&](std::string_view text) { return (flags.json || WriteOut(text)) && !Interrupted(); });
  meter.reset();
  if (!result) return result.error();
  if (!flags.json && !result->text.ends_with('\n')) WriteOut("\n");
  if (WriteOutError() != 0) return {};

  const Speed speed(*result, (*session)->position(), model);
  const std::string hash = HashOf((*session)->logits());
  if (!flags.json) {
    const std::string line = SpeedLine(*result, speed, model, hash);
    std::fwrite(line.data(), 1, line.size(), stderr);
    return {};
  }
  const auto or_null = [](const std::optional<double>& value) {
    return value ? Json(*value) : Json();
  };
  PrintJson({{"text", result->text},
             {"ids", result->ids},
             {"prompt_ids", prompt->ids},
             {"stop_reason", StopReasonName(result->reason)},
             {"prompt_tokens", result->prompt_tokens},
             {"tokens", result->ids.size()},
             {"prefill_tok_s", speed.prefill},
             {"decode_tok_s", speed.decode > 0 ? Json(speed.decode) : Json()},
             {"decode_gb_s", or_null(speed.decode_gb_s)},
             {"read_gb_s_limit", or_null(speed.read_gb_s)},
             {"guesses", result->guesses},
             {"guesses_true", result->guesses_true},
             {"first_token_s", result->prefill_seconds},
             {"load_s", opened->load_seconds},
             {"model", NameOf(model.config())},
             {"precision", PrecisionName(model.precision())},
             {"target", model.target()},
             {"threads", model.threads()},
             {"logits_hash", hash}});
  return {};
}

}  // namespace

void AddGenerate(CLI::App& app, Command* chosen) {
  AddCommand<GenerateFlags>(
      app, chosen, "generate", "Complete a text", Run, [](CLI::App& command, GenerateFlags& flags) {
        AddModelFlags(command, flags.model);
        AddContextFlag(command, flags.model);
        CLI::App& prompt = AddOneOf(command, "Prompt", "What to complete.");
        AddText(prompt, {"-p,--prompt", "TEXT", "The text"}, flags.prompt);
        AddText(prompt, {"-f,--prompt-file", "FILE", "A file with the text (- is standard input)"},
                flags.prompt_file);
        AddImageFlags(command, flags.images);
        AddFlag(command, "--chat",
                "Take the prompt for a question in a chat, in the template of the "
                "instruction-tuned models",
                flags.chat);
        AddNumber(command, {"-n,--tokens", "N", "Most tokens to generate [64]"}, 0, 1 << 30,
                  flags.tokens);
        AddSamplingFlags(command, flags.sampling);
        AddTexts(command, {"--stop", "TEXT", "End before this text; may be given several times"},
                 flags.stop);
        CLI::App& guesses = AddAtMostOneOf(command, "Guesses",
                                           "Several tokens are computed at a time, as far as they "
                                           "are guessed right. The text stays the same.");
        AddFlag(guesses, "--lookup,!--no-lookup",
                "Guess by what followed the last tokens earlier in the text; that is what happens "
                "without any of these",
                flags.lookup);
        AddText(guesses, {"--draft", "FILE", "Guess by a smaller model with the same vocabulary"},
                flags.draft);
        AddJsonFlag(command, flags.json);
        SetFooter(
            command,
            "Only the new text goes to standard output. The last line on standard error: "
            "tokens of the\n"
            "prompt + new ones, speeds, guesses or, without any, bytes that decode read per "
            "second and\n"
            "their share of what the memory delivers, instruction set, threads, and a hash of "
            "the last\n"
            "logits.\n"
            "Example:\n"
            "  lapidary generate -m gemma-3-270m.lap -p \"Once upon a time\" -n 200 --temp "
            "0.8 --top-p "
            "0.95");
      });
}

}  // namespace lapidary::cli
