#include "speed_line.h"

#include "machine.h"
#include "terminal.h"
#include "work.h"

namespace lapidary::cli {

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

Speed::Speed(const GenerateResult& result, std::size_t position, const Engine& model) {
  if (result.prefill_seconds > 0) {
    prefill = static_cast<double>(result.prompt_tokens) / result.prefill_seconds;
  }
  if (result.ids.size() < 2 || result.decode_seconds <= 0) return;
  // Prefill gives the first token.
  const std::size_t steps = result.ids.size() - 1;
  decode = static_cast<double>(steps) / result.decode_seconds;
  if (result.guesses != 0) return;
  decode_gb_s = 1e-9 * decode *
                DecodeBytes(model.file(), position - steps, steps,
                            result.all_logits ? HeadUse::kLogits : HeadUse::kBest);
  const Result<double> read = MeasureReadBandwidth(model.threads(), 3);
  if (read) read_gb_s = 1e-9 * *read;
}

std::string SpeedLine(const GenerateResult& result, const Speed& speed, const Engine& model,
                      const std::string& hash) {
  std::string line =
      StrCat(result.prompt_tokens, " + ", result.ids.size(), " tokens (",
             StopReasonName(result.reason), ") | prefill ", Fixed(speed.prefill, 1), " tok/s");
  if (speed.decode > 0) line += StrCat(" | decode ", Fixed(speed.decode, 1), " tok/s");
  if (speed.decode_gb_s) line += StrCat(", ", Fixed(*speed.decode_gb_s, 1), " GB/s");
  if (speed.read_gb_s) {
    line += StrCat(" = ", Fixed(100 * *speed.decode_gb_s / *speed.read_gb_s, 0), " % of ",
                   Fixed(*speed.read_gb_s, 1), " GB/s");
  }
  if (result.guesses != 0) {
    line += StrCat(", ", result.guesses_true, " of ", result.guesses, " guesses true");
  }
  return line + StrCat(" | ", model.target(), ", ", model.threads(),
                       model.threads() == 1 ? " thread" : " threads", " | logits ", hash, "\n");
}

}  // namespace lapidary::cli
