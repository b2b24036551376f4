// How long something took.
#ifndef LAPIDARY_BASE_STOPWATCH_H_
#define LAPIDARY_BASE_STOPWATCH_H_

#include <chrono>

namespace lapidary {

// Seconds since it was made.
class Stopwatch {
 public:
  double seconds() const {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
  }

 private:
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

}  // namespace lapidary

#endif  // LAPIDARY_BASE_STOPWATCH_H_
