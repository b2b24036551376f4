// The options of subcommands that choose tokens.
#ifndef LAPIDARY_EXAMPLES_SAMPLING_FLAGS_H_
#define LAPIDARY_EXAMPLES_SAMPLING_FLAGS_H_

#include <cstddef>

#include "lapidary/generate/options.h"
#include "options.h"

namespace lapidary::cli {

struct SamplingFlags {
  SamplingOptions sampling;
  std::size_t seed = 0;

  SamplingOptions options() const {
    SamplingOptions options = sampling;
    options.seed = seed;
    return options;
  }
};

// --temp, --top-k, --top-p, --min-p, --repeat-penalty and --seed; the defaults are those that
// `flags` has now.
void AddSamplingFlags(CLI::App& command, SamplingFlags& flags);

}  // namespace lapidary::cli

#endif  // LAPIDARY_EXAMPLES_SAMPLING_FLAGS_H_
