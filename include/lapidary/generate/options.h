// What a generation may be told, and what it tells.
#ifndef LAPIDARY_GENERATE_OPTIONS_H_
#define LAPIDARY_GENERATE_OPTIONS_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "lapidary/base/progress.h"

namespace lapidary {

// How the next token is chosen. The steps are applied in the order of these fields, as Hugging
// Face's generate() does. The default is greedy.
struct SamplingOptions {
  float repetition_penalty =
      1;  // logits of tokens seen before are divided (if positive) or multiplied by it
  float temperature = 0;   // 0: the most likely token, and the fields below do not matter
  std::size_t top_k = 0;   // keep the k most likely; 0: all
  float top_p = 1;         // then the fewest whose probabilities sum up to top_p
  float min_p = 0;         // then those at least min_p times as likely as the most likely
  std::uint64_t seed = 0;  // equal seeds give equal draws, on every machine
};

struct GenerateOptions {
  std::size_t max_tokens = 256;
  SamplingOptions sampling = {};
  std::vector<std::string> stop_strings = {};  // the text ends before the first of them
  bool stop_at_end = true;  // stop at <eos> and, if the vocabulary has it, <end_of_turn>
  ProgressCallback prefill_progress = {};  // in tokens of the prompt
};

// Receives the text as it is made, whole characters only. Returning false stops the generation.
using TextCallback = std::function<bool(std::string_view text)>;

enum class StopReason {
  kEnd,         // the model ended its text
  kStopString,  // one of GenerateOptions::stop_strings
  kMaxTokens,
  kContextFull,
  kCancelled,  // the callback returned false
};

struct GenerateResult {
  std::string text;               // everything the callback received
  std::vector<std::int32_t> ids;  // chosen tokens, the one that ended the text included
  StopReason reason = StopReason::kMaxTokens;
  std::size_t prompt_tokens = 0;
  double prefill_seconds = 0;
  double decode_seconds = 0;  // of ids.size() - 1 steps: prefill gives the first token
};

}  // namespace lapidary

#endif  // LAPIDARY_GENERATE_OPTIONS_H_
