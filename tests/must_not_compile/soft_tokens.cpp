// expect: vision.soft_tokens must be a square whose root divides the patches along a side
#include <lapidary/config/models.h>

struct Odd {
  static constexpr std::string_view kName = "255 soft tokens";
  static constexpr lapidary::Config kConfig = [] {
    lapidary::Config config = lapidary::Gemma3_4B::kConfig;
    config.vision.soft_tokens = 255;
    return config;
  }();
};

static_assert(lapidary::CheckedVision<Odd::kConfig.vision>::kOk);
