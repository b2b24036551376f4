// expect: head_dim must be a positive multiple of 32: RoPE turns pairs
#include <lapidary/config/models.h>

struct Odd {
  static constexpr std::string_view kName = "heads of 255";
  static constexpr lapidary::Config kConfig = [] {
    lapidary::Config config = lapidary::Gemma3_270M::kConfig;
    config.head_dim = 255;
    return config;
  }();
};

static_assert(lapidary::CheckedModel<Odd>::kOk);
