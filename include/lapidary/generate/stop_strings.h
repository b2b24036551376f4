// Stop strings in a stream of text that arrives in pieces.
#ifndef LAPIDARY_GENERATE_STOP_STRINGS_H_
#define LAPIDARY_GENERATE_STOP_STRINGS_H_

#include <algorithm>
#include <cstddef>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace lapidary {

// Passes text on up to the first stop string. What might be the beginning of one is held back until
// the next piece decides, so a stop string is found across the borders of tokens and never shown in
// part.
class StopStrings {
 public:
  // Empty strings are ignored.
  explicit StopStrings(std::vector<std::string> strings) : strings_(std::move(strings)) {
    std::erase(strings_, "");
  }

  // Text that may be shown now. Once stopped() is true, all that follows is dropped.
  std::string Push(std::string_view text) {
    if (stopped_) return {};
    held_ += text;
    // The one that is complete first counts, and of those that end together the longest: then the
    // result does not depend on where the text is cut into pieces.
    std::size_t first = std::string::npos;
    std::size_t end = std::string::npos;
    for (const std::string& stop : strings_) {
      const std::size_t begin = held_.find(stop);
      if (begin == std::string::npos || begin + stop.size() > end) continue;
      first = begin + stop.size() < end ? begin : std::min(first, begin);
      end = begin + stop.size();
    }
    if (first != std::string::npos) {
      stopped_ = true;
      held_.resize(first);
      return std::exchange(held_, {});
    }
    const std::size_t shown = held_.size() - LongestPrefixAtEnd();
    std::string out = held_.substr(0, shown);
    held_.erase(0, shown);
    return out;
  }

  // What was held back, at the end of the text.
  std::string Finish() { return std::exchange(held_, {}); }

  bool stopped() const { return stopped_; }

 private:
  std::size_t LongestPrefixAtEnd() const {
    std::size_t longest = 0;
    for (const std::string& stop : strings_) {
      for (std::size_t n = std::min(stop.size() - 1, held_.size()); n > longest; --n) {
        if (std::string_view(held_).ends_with(std::string_view(stop).substr(0, n))) longest = n;
      }
    }
    return longest;
  }

  std::vector<std::string> strings_;
  std::string held_;
  bool stopped_ = false;
};

}  // namespace lapidary

#endif  // LAPIDARY_GENERATE_STOP_STRINGS_H_
