#pragma once
#include <lapidary/config/models.h>

namespace own {

// Small, so that it compiles fast for several instruction sets.
struct Model {
  static constexpr std::string_view kName = "a model of this project";
  static constexpr lapidary::Config kConfig = {.layers = 2,
                                               .width = 64,
                                               .ff_width = 64,
                                               .heads = 2,
                                               .kv_heads = 1,
                                               .head_dim = 32,
                                               .query_pre_attn_scalar = 32,
                                               .window = 32,
                                               .context = 64,
                                               .vocabulary = 128};
};

}  // namespace own
