// The last line that generate and chat print: what was done, how fast, and how near to the limit.
#ifndef LAPIDARY_EXAMPLES_SPEED_LINE_H_
#define LAPIDARY_EXAMPLES_SPEED_LINE_H_

#include <cstddef>
#include <optional>
#include <string>

#include "lapidary/generate/engine.h"

namespace lapidary::cli {

const char* StopReasonName(StopReason reason);

// Tokens per second and what that takes from the memory.
struct Speed {
  double prefill = 0, decode = 0;
  // Nothing if no step was decoded, if steps were of several tokens (guesses), or if there was no
  // memory left to measure with.
  std::optional<double> decode_gb_s, read_gb_s;

  // `position`: tokens in the session behind the generation. Reads memory for some 0.2 s.
  Speed(const GenerateResult& result, std::size_t position, const Engine& model);
};

// With its line break. `hash`: of the last logits.
std::string SpeedLine(const GenerateResult& result, const Speed& speed, const Engine& model,
                      const std::string& hash);

}  // namespace lapidary::cli

#endif  // LAPIDARY_EXAMPLES_SPEED_LINE_H_
