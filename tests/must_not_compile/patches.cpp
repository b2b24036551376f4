// expect: vision.image must be a positive multiple of vision.patch
#include <lapidary/config/models.h>

constexpr lapidary::VisionConfig kOdd = [] {
  lapidary::VisionConfig config = lapidary::kSigLip;
  config.image = 897;
  return config;
}();

static_assert(lapidary::CheckedVision<kOdd>::kOk);
