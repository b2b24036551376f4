// Whether parts of a file overlap, which no format allows.
#ifndef LAPIDARY_BASE_OVERLAP_H_
#define LAPIDARY_BASE_OVERLAP_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <utility>
#include <vector>

namespace lapidary::internal {

// Bytes [offset, offset + bytes) of a file, which must hold them.
struct FilePart {
  std::uint64_t offset = 0;
  std::uint64_t bytes = 0;
};

// The numbers of two parts that share a byte, the one that begins first in front.
inline std::optional<std::pair<std::size_t, std::size_t>> FindOverlap(
    std::span<const FilePart> parts) {
  std::vector<std::size_t> order;
  for (std::size_t i = 0; i < parts.size(); ++i) {
    if (parts[i].bytes != 0) order.push_back(i);
  }
  std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    return std::pair(parts[a].offset, a) < std::pair(parts[b].offset, b);
  });
  for (std::size_t i = 1; i < order.size(); ++i) {
    const FilePart& before = parts[order[i - 1]];
    if (before.offset + before.bytes > parts[order[i]].offset) return {{order[i - 1], order[i]}};
  }
  return std::nullopt;
}

}  // namespace lapidary::internal

#endif  // LAPIDARY_BASE_OVERLAP_H_
