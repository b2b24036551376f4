// The five published sizes as tags, the concept that a tag satisfies, and the check of its values.
//
// A program adds a model of its own the same way:
//
//     struct MyModel {
//       static constexpr std::string_view kName = "my model";
//       static constexpr lapidary::Config kConfig = {.layers = 12, .width = 512, ...};
//     };
#ifndef LAPIDARY_CONFIG_MODELS_H_
#define LAPIDARY_CONFIG_MODELS_H_

#include <concepts>
#include <cstdint>
#include <string_view>

#include "lapidary/config/config.h"

namespace lapidary {

// What a model tag must offer.
template <class M>
concept ModelSpec = requires {
  { M::kName } -> std::convertible_to<std::string_view>;
  { M::kConfig } -> std::convertible_to<const Config&>;
};

// The same for an image encoder; see CheckedModel.
template <VisionConfig kConfig>
struct CheckedVision {
  // Soft tokens along a side.
  static constexpr std::int32_t kSoftGrid = [] {
    std::int32_t side = 0;
    while (side * side < kConfig.soft_tokens) ++side;
    return side;
  }();
  static_assert(kConfig.image > 0 && kConfig.patch > 0 && kConfig.image % kConfig.patch == 0,
                "vision.image must be a positive multiple of vision.patch");
  static_assert(kConfig.width > 0 && kConfig.width % 32 == 0,
                "vision.width must be a positive multiple of 32, the group of the activations");
  static_assert(
      kConfig.heads > 0 && kConfig.width % (2 * kConfig.heads) == 0,
      "vision.width must be a multiple of twice vision.heads: heads have pairs of inputs");
  static_assert(kConfig.ff_width > 0 && kConfig.layers > 0,
                "vision.ff_width and vision.layers must be positive");
  static_assert(kConfig.soft_tokens > 0 && kSoftGrid * kSoftGrid == kConfig.soft_tokens &&
                    kConfig.grid() % kSoftGrid == 0,
                "vision.soft_tokens must be a square whose root divides the patches along a side");
  static constexpr bool kOk = true;
};

// Instantiated once for every model that a program uses: says in a sentence which value is wrong.
template <ModelSpec M>
struct CheckedModel {
  static constexpr Config kConfig = M::kConfig;
  static_assert(kConfig.layers > 0, "a model needs at least one layer");
  static_assert(kConfig.width > 0 && kConfig.width % 32 == 0,
                "width must be a positive multiple of 32, the group of the quantised activations");
  static_assert(
      kConfig.ff_width > 0 && kConfig.ff_width % 32 == 0,
      "ff_width must be a positive multiple of 32, the group of the quantised activations");
  static_assert(kConfig.heads > 0 && kConfig.kv_heads > 0, "heads and kv_heads must be positive");
  static_assert(kConfig.kv_heads <= 0 || kConfig.heads % kConfig.kv_heads == 0,
                "heads must be a multiple of kv_heads: each key/value head serves a whole group");
  static_assert(
      kConfig.head_dim > 0 && kConfig.head_dim % 32 == 0,
      "head_dim must be a positive multiple of 32: RoPE turns pairs, kernels read panels");
  static_assert(kConfig.query_pre_attn_scalar > 0, "query_pre_attn_scalar must be positive");
  static_assert(kConfig.window > 0, "window must be positive: a query sees at least its own key");
  static_assert(kConfig.global_every > 0, "global_every must be positive");
  static_assert(kConfig.context >= kConfig.window, "context must not be smaller than window");
  static_assert(kConfig.vocabulary > 0, "vocabulary must be positive");
  static_assert(kConfig.rope_base_local > 1 && kConfig.rope_base_global > 1,
                "RoPE bases must be larger than 1");
  static_assert(kConfig.rope_factor_global > 0, "rope_factor_global must be positive");
  static constexpr bool kOk = true;
};

// The vision tower that the 4B, 12B and 27B share.
inline constexpr VisionConfig kSigLip = {.image = 896,
                                         .patch = 14,
                                         .width = 1152,
                                         .layers = 27,
                                         .heads = 16,
                                         .ff_width = 4304,
                                         .soft_tokens = 256};

// Shapes: the published config.json of google/gemma-3-*. The 27B scales its queries by
// (width / heads)^-1/2 = 168^-1/2, all others by head_dim^-1/2. RoPE of the global layers is
// stretched by 8 from 4B on.
struct Gemma3_270M {
  static constexpr std::string_view kName = "Gemma 3 270M";
  static constexpr Config kConfig = {.layers = 18,
                                     .width = 640,
                                     .ff_width = 2048,
                                     .heads = 4,
                                     .kv_heads = 1,
                                     .head_dim = 256,
                                     .query_pre_attn_scalar = 256,
                                     .window = 512,
                                     .context = 32'768,
                                     .vocabulary = 262'144};
};

struct Gemma3_1B {
  static constexpr std::string_view kName = "Gemma 3 1B";
  static constexpr Config kConfig = {.layers = 26,
                                     .width = 1152,
                                     .ff_width = 6912,
                                     .heads = 4,
                                     .kv_heads = 1,
                                     .head_dim = 256,
                                     .query_pre_attn_scalar = 256,
                                     .window = 512,
                                     .context = 32'768,
                                     .vocabulary = 262'144};
};

struct Gemma3_4B {
  static constexpr std::string_view kName = "Gemma 3 4B";
  static constexpr Config kConfig = {.layers = 34,
                                     .width = 2560,
                                     .ff_width = 10'240,
                                     .heads = 8,
                                     .kv_heads = 4,
                                     .head_dim = 256,
                                     .query_pre_attn_scalar = 256,
                                     .window = 1024,
                                     .context = 131'072,
                                     .vocabulary = 262'208,
                                     .rope_factor_global = 8,
                                     .vision = kSigLip};
};

struct Gemma3_12B {
  static constexpr std::string_view kName = "Gemma 3 12B";
  static constexpr Config kConfig = {.layers = 48,
                                     .width = 3840,
                                     .ff_width = 15'360,
                                     .heads = 16,
                                     .kv_heads = 8,
                                     .head_dim = 256,
                                     .query_pre_attn_scalar = 256,
                                     .window = 1024,
                                     .context = 131'072,
                                     .vocabulary = 262'208,
                                     .rope_factor_global = 8,
                                     .vision = kSigLip};
};

struct Gemma3_27B {
  static constexpr std::string_view kName = "Gemma 3 27B";
  static constexpr Config kConfig = {.layers = 62,
                                     .width = 5376,
                                     .ff_width = 21'504,
                                     .heads = 32,
                                     .kv_heads = 16,
                                     .head_dim = 128,
                                     .query_pre_attn_scalar = 168,
                                     .window = 1024,
                                     .context = 131'072,
                                     .vocabulary = 262'208,
                                     .rope_factor_global = 8,
                                     .vision = kSigLip};
};

// The published sizes by name.
struct KnownModel {
  std::string_view name;
  Config config;
};
inline constexpr KnownModel kKnownModels[] = {{Gemma3_270M::kName, Gemma3_270M::kConfig},
                                              {Gemma3_1B::kName, Gemma3_1B::kConfig},
                                              {Gemma3_4B::kName, Gemma3_4B::kConfig},
                                              {Gemma3_12B::kName, Gemma3_12B::kConfig},
                                              {Gemma3_27B::kName, Gemma3_27B::kConfig}};

// "Gemma 3 4B" for a published Config, "custom" for any other.
inline std::string_view NameOf(const Config& config) {
  for (const KnownModel& model : kKnownModels) {
    if (model.config == config) return model.name;
  }
  return "custom";
}

}  // namespace lapidary

#endif  // LAPIDARY_CONFIG_MODELS_H_
