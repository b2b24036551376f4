// Who sees whom: the one place that says so. Attention, the decoder and the picture of the mask all
// ask here.
#ifndef LAPIDARY_KERNELS_VISIBLE_KEYS_H_
#define LAPIDARY_KERNELS_VISIBLE_KEYS_H_

#include <cstddef>

namespace lapidary {

// The keys that a query row sees: positions first .. last, both included; none if first > last.
struct VisibleKeys {
  std::size_t first = 0;
  std::size_t last = 0;

  // Whether any is one of begin .. end - 1.
  constexpr bool Meets(std::size_t begin, std::size_t end) const {
    return first <= last && last >= begin && first < end;
  }
  constexpr bool Contains(std::size_t position) const {
    return first <= position && position <= last;
  }
};

// The keys of the query at `position`: all earlier ones and itself, on local layers the last
// `window` of these (0: no limit). The rows of a picture see its later rows too: block_end is the
// position of the last row of the picture that the query belongs to, and `position` itself for
// text. (As create_masks_for_vision_model in Hugging Face's modeling_gemma3.py: the window limits
// what lies behind, also within a picture, and never what lies ahead.)
constexpr VisibleKeys KeysOfQuery(std::size_t position, std::size_t block_end, std::size_t window) {
  return {window != 0 && position >= window ? position - window + 1 : 0, block_end};
}

}  // namespace lapidary

#endif  // LAPIDARY_KERNELS_VISIBLE_KEYS_H_
