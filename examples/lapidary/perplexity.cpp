// lapidary perplexity: how well the model predicts a text.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "command.h"
#include "json_out.h"
#include "lapidary/generate/engine.h"
#include "model_flags.h"
#include "terminal.h"

namespace lapidary::cli {
namespace {

struct PerplexityFlags {
  ModelFlags model;
  std::string file;
  std::size_t last = 0;  // 0: all
  bool json = false;
};

// -log(softmax(logits)[id])
double NegativeLogLikelihood(std::span<const float> logits, std::int32_t id) {
  const float max = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const float logit : logits) sum += std::exp(logit - max);
  return std::log(sum) - (logits[static_cast<std::size_t>(id)] - max);
}

Status Run(const PerplexityFlags& flags) {
  CatchInterrupts();
  const Result<std::string> text = ReadText(flags.file);
  if (!text) return text.error();
  const Result<OpenedModel> opened = OpenModelOf(flags.model);
  if (!opened) return opened.error();
  const std::vector<std::int32_t> ids = opened->model->tokenizer()->Encode(*text);
  if (ids.empty()) return MakeError(ErrorCode::kInvalidArgument, flags.file, " holds no text");
  Result<std::unique_ptr<EngineSession>> session = opened->NewSession(flags.model);
  if (!session) return session.error();

  double total = 0;
  std::size_t counted = 0;
  {
    ProgressMeter meter("reading", ProgressMeter::Unit::kTokens);
    const std::size_t window = (*session)->context();
    for (std::size_t begin = 0; begin < ids.size(); begin += window) {
      // <bos> and all ids but the last predict one id each.
      const std::span<const std::int32_t> scored =
          std::span(ids).subspan(begin, std::min(window, ids.size() - begin));
      std::vector<std::int32_t> inputs = {kBos};
      inputs.insert(inputs.end(), scored.begin(), scored.end() - 1);
      if (begin > 0) session = opened->NewSession(flags.model);
      if (!session) return session.error();
      const std::size_t read =
          flags.last == 0 ? 0 : inputs.size() - std::min(flags.last, inputs.size());
      if (read > 0) {
        const auto advance = [&](const Progress& p) { return meter({begin + p.done, ids.size()}); };
        if (Status s = (*session)->Prefill(std::span(inputs).first(read), advance); !s) return s;
      }
      const auto visit = [&](std::size_t i, std::span<const float> logits) {
        total += NegativeLogLikelihood(logits, scored[read + i]);
        counted += 1;
        return meter({begin + read + i + 1, ids.size()});
      };
      const std::span<const std::int32_t> rest = std::span(inputs).subspan(read);
      if (Status status = (*session)->PrefillWithLogits(rest, visit, 64); !status) return status;
    }
  }
  const double nll = total / static_cast<double>(counted);
  if (flags.json) {
    PrintJson({{"tokens", counted}, {"nll", nll}, {"perplexity", std::exp(nll)}});
    return {};
  }
  WriteOut(StrCat("tokens ", counted, ", nll ", Fixed(nll, 5), ", perplexity ",
                  Fixed(std::exp(nll), 4), "\n"));
  return {};
}

}  // namespace

void AddPerplexity(CLI::App& app, Command* chosen) {
  AddCommand<PerplexityFlags>(
      app, chosen, "perplexity", "Measure how well the model predicts a text", Run,
      [](CLI::App& command, PerplexityFlags& flags) {
        AddModelFlags(command, flags.model);
        AddContextFlag(command, flags.model);
        AddText(command, {"-f,--file", "FILE", "The text (- is standard input)"}, flags.file,
                Need::kRequired);
        AddNumber(command,
                  {"--last", "N", "Count only the last N tokens of each window [all of them]"}, 1,
                  1 << 20, flags.last);
        AddJsonFlag(command, flags.json);
        SetFooter(
            command,
            "Every token of the text is predicted from those in front of it, the first from "
            "<bos>.\n"
            "A text longer than the context is cut into windows, each with a <bos> of its own.\n"
            "nll is the mean of -log(probability) per token; perplexity is its exponential.\n"
            "Example:\n"
            "  lapidary perplexity -m gemma-3-270m.lap -f book.txt --context 2048");
      });
}

}  // namespace lapidary::cli
