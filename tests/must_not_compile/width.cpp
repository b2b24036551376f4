// expect: width must be a positive multiple of 32, the group of the quantised activations
#include <lapidary/config/models.h>

struct Odd {
  static constexpr std::string_view kName = "a width of 650";
  static constexpr lapidary::Config kConfig = [] {
    lapidary::Config config = lapidary::Gemma3_270M::kConfig;
    config.width = 650;
    return config;
  }();
};

static_assert(lapidary::CheckedModel<Odd>::kOk);
