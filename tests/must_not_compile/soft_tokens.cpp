// expect: vision.soft_tokens must be a square whose root divides the patches along a side
#include <lapidary/config/models.h>

constexpr lapidary::VisionConfig kOdd = [] {
  lapidary::VisionConfig config = lapidary::kSigLip;
  config.soft_tokens = 200;
  return config;
}();

static_assert(lapidary::CheckedVision<kOdd>::kOk);
