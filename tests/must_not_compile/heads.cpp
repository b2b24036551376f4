// expect: heads must be a multiple of kv_heads
#include <lapidary/config/models.h>

struct Odd {
  static constexpr std::string_view kName = "five heads share two key/value heads";
  static constexpr lapidary::Config kConfig = [] {
    lapidary::Config config = lapidary::Gemma3_270M::kConfig;
    config.heads = 5;
    config.kv_heads = 2;
    return config;
  }();
};

static_assert(lapidary::CheckedModel<Odd>::kOk);
