// Guesses by what the text so far says.
#ifndef LAPIDARY_GENERATE_PROMPT_LOOKUP_H_
#define LAPIDARY_GENERATE_PROMPT_LOOKUP_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace lapidary {

// A GuessCallback (options.h) that looks the last tokens up in the text so far: what followed them
// there may follow again. Good for texts that repeat what they were given (corrected, quoted,
// translated into another format) and for those that repeat themselves.
class PromptLookup {
 public:
  std::vector<std::int32_t> operator()(std::span<const std::int32_t> ids, std::size_t most) const {
    if (most == 0) return {};
    // The longest match, of equally long ones the last.
    std::size_t longest = kShortest - 1, next = ids.size();
    for (std::size_t end = ids.size(); end-- > kShortest;) {
      std::size_t length = 0;
      while (length < std::min(end, kLongest) &&
             ids[end - 1 - length] == ids[ids.size() - 1 - length]) {
        ++length;
      }
      if (length <= longest) continue;
      longest = length;
      next = end;
      if (longest == kLongest) break;
    }
    // Two tokens that occurred before say little: if the guess is wrong, it should be a cheap one.
    if (longest == kShortest) most = std::min<std::size_t>(most, 1);
    std::vector<std::int32_t> guesses;
    if (next == ids.size()) return guesses;
    for (std::size_t at = next; guesses.size() < most; ++at) {
      // Behind the text come the guesses: what goes round will go round again.
      guesses.push_back(at < ids.size() ? ids[at] : guesses[at - ids.size()]);
    }
    return guesses;
  }

 private:
  static constexpr std::size_t kShortest = 2;
  static constexpr std::size_t kLongest = 16;
};

}  // namespace lapidary

#endif  // LAPIDARY_GENERATE_PROMPT_LOOKUP_H_
