// lapidary generate: completes a text.
#include <cstdint>
#include <cstdio>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "any_model.h"
#include "command.h"
#include "images.h"
#include "json_out.h"
#include "lapidary/text/chat_template.h"
#include "machine.h"
#include "model_flags.h"
#include "terminal.h"
#include "work.h"

namespace lapidary::cli {
namespace {

struct GenerateFlags {
  ModelFlags model;
  ImageFlags images;
  std::optional<std::string> prompt;  // one of these two
  std::optional<std::string> prompt_file;
  bool chat = false;
  std::size_t tokens = 64;
  SamplingOptions sampling;
  std::size_t seed = 0;
  std::vector<std::string> stop;
  bool json = false;
};

const char* StopReasonName(StopReason reason) {
  switch (reason) {
    case StopReason::kEnd:
      return "end";
    case StopReason::kStopString:
      return "stop string";
    case StopReason::kMaxTokens:
      return "length";
    case StopReason::kContextFull:
      return "context full";
    case StopReason::kCancelled:
      return "cancelled";
  }
  return "";
}

Result<Prompt> MakePrompt(const GenerateFlags& flags, const AnyModel& model) {
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

// Tokens per second and what that takes from the memory.
struct Speed {
  double prefill = 0, decode = 0;
  // Nothing if no step was decoded, or if there was no memory left to measure with.
  std::optional<double> decode_gb_s, read_gb_s;

  Speed(const GenerateResult& result, const AnyModel& model) {
    if (result.prefill_seconds > 0) {
      prefill = static_cast<double>(result.prompt_tokens) / result.prefill_seconds;
    }
    if (result.ids.size() < 2 || result.decode_seconds <= 0) return;
    // Prefill gives the first token.
    const std::size_t steps = result.ids.size() - 1;
    decode = static_cast<double>(steps) / result.decode_seconds;
    decode_gb_s = 1e-9 * decode * DecodeBytes(model.file(), result.prompt_tokens, steps);
    const Result<double> read = MeasureReadBandwidth(model.threads(), 3);
    if (read) read_gb_s = 1e-9 * *read;
  }
};

std::string SpeedLine(const GenerateResult& result, const Speed& speed, const AnyModel& model,
                      const std::string& hash) {
  std::string line =
      StrCat(result.prompt_tokens, " + ", result.ids.size(), " tokens (",
             StopReasonName(result.reason), ") | prefill ", Fixed(speed.prefill, 1), " tok/s");
  if (speed.decode_gb_s) {
    line += StrCat(" | decode ", Fixed(speed.decode, 1), " tok/s, ", Fixed(*speed.decode_gb_s, 1),
                   " GB/s");
  }
  if (speed.read_gb_s) {
    line += StrCat(" = ", Fixed(100 * *speed.decode_gb_s / *speed.read_gb_s, 0), " % of ",
                   Fixed(*speed.read_gb_s, 1), " GB/s");
  }
  return line + StrCat(" | ", TargetName(), ", ", model.threads(),
                       model.threads() == 1 ? " thread" : " threads", " | logits ", hash, "\n");
}

Status Run(const GenerateFlags& flags) {
  CatchInterrupts();
  const Result<OpenedModel> opened = OpenModelOf(flags.model);
  if (!opened) return opened.error();
  const AnyModel& model = *opened->model;
  const Result<Prompt> prompt = MakePrompt(flags, model);
  if (!prompt) return prompt.error();
  Result<std::unique_ptr<AnySession>> session = opened->NewSession(flags.model);
  if (!session) return session.error();

  // Made here, removed before the first text appears on the same terminal.
  auto meter = std::make_unique<ProgressMeter>("reading the prompt", ProgressMeter::Unit::kTokens);
  GenerateOptions options;
  options.max_tokens = flags.tokens;
  options.sampling = flags.sampling;
  options.sampling.seed = flags.seed;
  options.stop_strings = flags.stop;
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

  const Speed speed(*result, model);
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
             {"decode_tok_s", speed.decode_gb_s ? Json(speed.decode) : Json()},
             {"decode_gb_s", or_null(speed.decode_gb_s)},
             {"read_gb_s_limit", or_null(speed.read_gb_s)},
             {"first_token_s", result->prefill_seconds},
             {"load_s", opened->load_seconds},
             {"model", NameOf(model.config())},
             {"precision", PrecisionName(model.precision())},
             {"target", TargetName()},
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
        SamplingOptions& sampling = flags.sampling;
        AddNumber(command, {"--temp", "T", "Temperature; 0 takes the most likely token [0]"}, 0,
                  1000, sampling.temperature);
        AddNumber(command, {"--top-k", "K", "Only the K most likely tokens; 0: all [0]"}, 0,
                  1 << 30, sampling.top_k);
        AddNumber(command,
                  {"--top-p", "P",
                   "Only the most likely tokens that have the probability P together [1]"},
                  0, 1, sampling.top_p);
        AddNumber(
            command,
            {"--min-p", "P", "Only tokens at least P times as likely as the most likely one [0]"},
            0, 1, sampling.min_p);
        AddNumber(
            command,
            {"--repeat-penalty", "X", "Divides the logits of tokens that occurred before [1]"},
            0.01, 100, sampling.repetition_penalty);
        AddNumber(command, {"--seed", "S", "Of the random numbers [0]"}, 0, 0x1p63, flags.seed);
        AddTexts(command, {"--stop", "TEXT", "End before this text; may be given several times"},
                 flags.stop);
        AddJsonFlag(command, flags.json);
        SetFooter(command,
                  "Only the new text goes to standard output. The last line on standard error: "
                  "tokens of the\n"
                  "prompt + new ones, speeds, bytes that decode read per second and their share of "
                  "what the\n"
                  "memory delivers, instruction set, threads, and a hash of the last logits.\n"
                  "Example:\n"
                  "  lapidary generate -m gemma-3-270m.lap -p \"Once upon a time\" -n 200 --temp "
                  "0.8 --top-p "
                  "0.95");
      });
}

}  // namespace lapidary::cli
