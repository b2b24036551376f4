#include "sampling_flags.h"

namespace lapidary::cli {

void AddSamplingFlags(CLI::App& command, SamplingFlags& flags) {
  SamplingOptions& sampling = flags.sampling;
  AddNumber(command,
            {"--temp", "T",
             StrCat("Temperature; 0 takes the most likely token [", sampling.temperature, "]")},
            0, 1000, sampling.temperature);
  AddNumber(
      command,
      {"--top-k", "K", StrCat("Only the K most likely tokens; 0: all [", sampling.top_k, "]")}, 0,
      1 << 30, sampling.top_k);
  AddNumber(command,
            {"--top-p", "P",
             StrCat("Only the most likely tokens that have the probability P together [",
                    sampling.top_p, "]")},
            0, 1, sampling.top_p);
  AddNumber(command,
            {"--min-p", "P", "Only tokens at least P times as likely as the most likely one [0]"},
            0, 1, sampling.min_p);
  AddNumber(command,
            {"--repeat-penalty", "X", "Divides the logits of tokens that occurred before [1]"},
            0.01, 100, sampling.repetition_penalty);
  AddNumber(command, {"--seed", "S", "Of the random numbers [0]"}, 0, 0x1p63, flags.seed);
}

}  // namespace lapidary::cli
