// The machine: what it runs on and how fast it reads memory.
#ifndef LAPIDARY_EXAMPLES_MACHINE_H_
#define LAPIDARY_EXAMPLES_MACHINE_H_

#include <cstddef>

#include "lapidary/base/result.h"

namespace lapidary::cli {

// Bytes per second that `threads` threads read together from memory: the best of `passes`, each in
// three patterns, over 256 MB, which is more than caches hold. Eight passes take about half a
// second. kOutOfMemory.
Result<double> MeasureReadBandwidth(std::size_t threads, int passes);

}  // namespace lapidary::cli

#endif  // LAPIDARY_EXAMPLES_MACHINE_H_
