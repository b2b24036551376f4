// expect: ff_width must be a positive multiple of 32
#include <lapidary/config/models.h>

struct Odd {
  static constexpr std::string_view kName = "a feed-forward width of 2000";
  static constexpr lapidary::Config kConfig = [] {
    lapidary::Config config = lapidary::Gemma3_270M::kConfig;
    config.ff_width = 2000;
    return config;
  }();
};

static_assert(lapidary::CheckedModel<Odd>::kOk);
