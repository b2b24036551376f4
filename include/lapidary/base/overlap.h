// Whether parts of a file overlap, which no format allows.
#ifndef LAPIDARY_BASE_OVERLAP_H_
#define LAPIDARY_BASE_OVERLAP_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

namespace lapidary::internal {

// Bytes [offset, offset + bytes) of a file, which must hold them, and the number of what they are.
struct FilePart {
  std::uint64_t offset = 0;
  std::uint64_t bytes = 0;
  std::size_t owner = 0;
};

// The owners of two parts that share a byte, the one that begins first in front.
inline std::optional<std::pair<std::size_t, std::size_t>> FindOverlap(std::vector<FilePart> parts) {
  std::erase_if(parts, [](const FilePart& part) { return part.bytes == 0; });
  std::sort(parts.begin(), parts.end(), [](const FilePart& a, const FilePart& b) {
    return std::pair(a.offset, a.owner) < std::pair(b.offset, b.owner);
  });
  for (std::size_t i = 1; i < parts.size(); ++i) {
    const FilePart& before = parts[i - 1];
    if (before.offset + before.bytes > parts[i].offset) return {{before.owner, parts[i].owner}};
  }
  return std::nullopt;
}

}  // namespace lapidary::internal

#endif  // LAPIDARY_BASE_OVERLAP_H_
