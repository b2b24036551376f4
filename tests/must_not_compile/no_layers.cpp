// expect: a model needs at least one layer
#include <lapidary/config/models.h>

struct Odd {
  static constexpr std::string_view kName = "no layers";
  static constexpr lapidary::Config kConfig = [] {
    lapidary::Config config = lapidary::Gemma3_270M::kConfig;
    config.layers = 0;
    return config;
  }();
};

static_assert(lapidary::CheckedModel<Odd>::kOk);
