// Who sees whom, as a PNG file.
#ifndef LAPIDARY_EXAMPLES_MASK_PICTURE_H_
#define LAPIDARY_EXAMPLES_MASK_PICTURE_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "lapidary/base/result.h"

namespace lapidary::cli {

// What a query (row) is to a key (column).
enum class Sight : std::uint8_t {
  kNone,    // does not see it
  kBehind,  // sees it: the key is not later than the query
  kAhead,   // sees it although it is later
  kTooFar,  // would see it, were it within the window
};

// One square of the picture.
struct MaskPanel {
  std::string title;
  std::function<Sight(std::size_t query, std::size_t key)> sight;
};

// Draws panels of count x count cells, two beside each other; pictured[i] says whether token i
// belongs to a picture, which tints its rows and columns; letters[i] stands beside row i and above
// column i where cells are large enough. Returns the bytes of a PNG file.
Result<std::vector<std::uint8_t>> DrawMask(const std::vector<MaskPanel>& panels,
                                           const std::vector<bool>& pictured,
                                           const std::string& letters);

}  // namespace lapidary::cli

#endif  // LAPIDARY_EXAMPLES_MASK_PICTURE_H_
