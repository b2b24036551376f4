// expect: vision.image must be a positive multiple of vision.patch
#include <lapidary/config/models.h>

struct Odd {
  static constexpr std::string_view kName = "pictures of 64.07 patches";
  static constexpr lapidary::Config kConfig = [] {
    lapidary::Config config = lapidary::Gemma3_4B::kConfig;
    config.vision.image = 897;
    return config;
  }();
};

static_assert(lapidary::CheckedVision<Odd::kConfig.vision>::kOk);
