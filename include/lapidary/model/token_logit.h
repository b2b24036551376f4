// A token and its logit.
#ifndef LAPIDARY_MODEL_TOKEN_LOGIT_H_
#define LAPIDARY_MODEL_TOKEN_LOGIT_H_

#include <cstdint>

namespace lapidary {

struct TokenLogit {
  std::int32_t id = 0;
  float logit = 0;

  friend bool operator==(const TokenLogit&, const TokenLogit&) = default;
  // The order of likelihood; equal ones come in the order of their ids.
  friend constexpr bool MoreLikely(const TokenLogit& a, const TokenLogit& b) {
    return a.logit != b.logit ? a.logit > b.logit : a.id < b.id;
  }
};

}  // namespace lapidary

#endif  // LAPIDARY_MODEL_TOKEN_LOGIT_H_
