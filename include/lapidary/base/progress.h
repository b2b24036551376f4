// How a long operation reports back.
#ifndef LAPIDARY_BASE_PROGRESS_H_
#define LAPIDARY_BASE_PROGRESS_H_

#include <cstdint>
#include <functional>

namespace lapidary {

// `done` of `total` units of work: bytes while loading and converting. `done` never decreases and
// reaches `total` when the work is complete.
struct Progress {
  std::uint64_t done = 0;
  std::uint64_t total = 0;
};

// Called on the thread that called the operation. Returning false cancels: the operation then
// returns kCancelled and leaves nothing behind.
using ProgressCallback = std::function<bool(const Progress&)>;

}  // namespace lapidary

#endif  // LAPIDARY_BASE_PROGRESS_H_
