// The pages in which keys and values are kept: shared by the cache that owns the memory and the
// attention kernels that read it (attention-inl.h describes the order inside a page).
#ifndef LAPIDARY_KERNELS_KV_LAYOUT_H_
#define LAPIDARY_KERNELS_KV_LAYOUT_H_

#include <cstddef>
#include <cstdint>

namespace lapidary {

// How a key or value is stored: bf16, or 8-bit integers with one f32 scale for each.
enum class KvFormat : std::uint8_t { kBF16, kInt8 };

inline constexpr std::size_t kBlockKeys = 16;  // positions of a panel
// Positions of a page of a cache; page i starts at position 128 * i. Smaller pages would cost more
// softmaxes, larger ones more memory: rings are whole pages.
inline constexpr std::size_t kPageKeys = 128;
// The most positions that a page of anybody may have. (Prefill of 2048 tokens is as fast with pages
// of 256 as with 128, the 270M on two cores of Zen 5; a picture, whose 4096 patches all see each
// other, takes 2 % longer with 128.)
inline constexpr std::size_t kMostPageKeys = 256;

constexpr std::size_t KvElementBytes(KvFormat format) { return format == KvFormat::kBF16 ? 2 : 1; }

// Bytes of the keys, or of the values, of a page of one key/value head, scales included.
constexpr std::size_t KvHalfPageBytes(KvFormat format, std::size_t head_dim) {
  const std::size_t scales = format == KvFormat::kInt8 ? kPageKeys * sizeof(float) : 0;
  return kPageKeys * head_dim * KvElementBytes(format) + scales;
}

// One half of a page of one head: the keys, or the values.
struct KvHalfPage {
  std::uint8_t* elements;  // [positions * head_dim] in the order of attention-inl.h
  float* scales;           // [positions] in kInt8, otherwise unused
};

// A page of one key/value head: a view of 2 * KvHalfPageBytes, 64-byte aligned.
struct KvPage {
  KvFormat format;
  std::size_t positions;  // at most kMostPageKeys
  KvHalfPage keys, values;
};
inline KvPage BindKvPage(KvFormat format, std::size_t head_dim, std::uint8_t* memory) {
  const auto half = [&](std::uint8_t* at) {
    return KvHalfPage{at,
                      reinterpret_cast<float*>(at + kPageKeys * head_dim * KvElementBytes(format))};
  };
  return {format, kPageKeys, half(memory), half(memory + KvHalfPageBytes(format, head_dim))};
}

}  // namespace lapidary

#endif  // LAPIDARY_KERNELS_KV_LAYOUT_H_
