// Sizes of the pages in which keys and values are kept: shared by the cache that owns the memory
// and the attention kernels that read it (attention-inl.h describes the order inside a page).
#ifndef LAPIDARY_KERNELS_KV_LAYOUT_H_
#define LAPIDARY_KERNELS_KV_LAYOUT_H_

#include <cstddef>

namespace lapidary {

inline constexpr std::size_t kBlockKeys = 16;  // positions of a panel
inline constexpr std::size_t kPageKeys =
    256;  // positions of a page; page i starts at position 256 * i
inline constexpr std::size_t kPageBlocks = kPageKeys / kBlockKeys;

// Elements of the keys, or of the values, of one key/value head.
constexpr std::size_t BlockElements(std::size_t head_dim) { return kBlockKeys * head_dim; }
constexpr std::size_t PageElements(std::size_t head_dim) { return kPageKeys * head_dim; }

}  // namespace lapidary

#endif  // LAPIDARY_KERNELS_KV_LAYOUT_H_
