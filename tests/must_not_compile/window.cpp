// expect: window must be positive: a query sees at least its own key
#include <lapidary/config/models.h>

struct Odd {
  static constexpr std::string_view kName = "queries that see nothing";
  static constexpr lapidary::Config kConfig = [] {
    lapidary::Config config = lapidary::Gemma3_270M::kConfig;
    config.window = 0;
    return config;
  }();
};

static_assert(lapidary::CheckedModel<Odd>::kOk);
