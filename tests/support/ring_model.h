// A tiny model whose sessions soon outgrow the rings of their local layers.
#ifndef LAPIDARY_TESTS_SUPPORT_RING_MODEL_H_
#define LAPIDARY_TESTS_SUPPORT_RING_MODEL_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "tests/support/synthetic_gguf.h"
#include "tests/support/tiny_model.h"

namespace lapidary::testing {

// A context of many times the rings, so that they come round; a window of more than a page; one
// key/value head, so that a decoding team divides the pages of attention.
struct RingModel {
  static constexpr std::string_view kName = "ring";
  static constexpr Config kConfig = {.layers = 3,
                                     .width = 64,
                                     .ff_width = 96,
                                     .heads = 3,
                                     .kv_heads = 1,
                                     .head_dim = 32,
                                     .query_pre_attn_scalar = 24,
                                     .window = 300,
                                     .global_every = 3,
                                     .context = 2048,
                                     .vocabulary = 365,
                                     .rope_factor_global = 2};
};
inline constexpr TinyFormats kRingFormats = TinyFormats::Uniform(Format::kQ8_0);

inline Ids RingIds(std::size_t count, std::uint64_t seed = 1) { return SomeIds(count, 365, seed); }

inline std::span<const std::int32_t> First(const Ids& ids, std::size_t n) {
  return std::span(ids).first(n);
}
inline std::span<const std::int32_t> From(const Ids& ids, std::size_t n) {
  return std::span(ids).subspan(n);
}

}  // namespace lapidary::testing

#endif  // LAPIDARY_TESTS_SUPPORT_RING_MODEL_H_
