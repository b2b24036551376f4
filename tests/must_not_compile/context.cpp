// expect: context must not be smaller than window
#include <lapidary/config/models.h>

struct Odd {
  static constexpr std::string_view kName = "a window that never fills";
  static constexpr lapidary::Config kConfig = [] {
    lapidary::Config config = lapidary::Gemma3_270M::kConfig;
    config.context = 500;
    return config;
  }();
};

static_assert(lapidary::CheckedModel<Odd>::kOk);
