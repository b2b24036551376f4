// expect: head_dim must be a positive multiple of 32
#include <lapidary/config/models.h>

struct Odd {
  static constexpr std::string_view kName = "heads of 72";
  static constexpr lapidary::Config kConfig = [] {
    lapidary::Config config = lapidary::Gemma3_270M::kConfig;
    config.head_dim = 72;
    return config;
  }();
};

static_assert(lapidary::CheckedModel<Odd>::kOk);
