// The shape of a Gemma 3 model as data.
//
// A Config is a plain aggregate. It serves three times: as a compile-time constant that cuts the
// kernels (through a model tag, see models.h), as the header of a weight file, and as the
// right-hand side of the comparison between the two when a file is opened.
#ifndef LAPIDARY_CONFIG_CONFIG_H_
#define LAPIDARY_CONFIG_CONFIG_H_

#include <cstdint>
#include <string>
#include <string_view>

#include "lapidary/base/result.h"

namespace lapidary {

// SigLIP tower and projector of the 4B, 12B and 27B (Gemma 3 report, section 2.2; the numbers are
// those of `vision_config` in the published config.json). All zero: a model without pictures.
struct VisionConfig {
  std::int32_t image = 0;        // pixels along a side of the square input
  std::int32_t patch = 0;        // pixels along a side of a patch
  std::int32_t width = 0;        // embedding width
  std::int32_t layers = 0;       // encoder layers
  std::int32_t heads = 0;        // attention heads; head dim = width / heads
  std::int32_t ff_width = 0;     // inner width of the MLP
  std::int32_t soft_tokens = 0;  // rows that one picture becomes, after pooling

  constexpr bool present() const { return image != 0; }
  constexpr std::int32_t grid() const { return image / patch; }       // patches along a side
  constexpr std::int32_t patches() const { return grid() * grid(); }  // of a picture
  friend constexpr bool operator==(const VisionConfig&, const VisionConfig&) = default;
};

// Everything that decides the arithmetic of a decoder. Widths count elements, contexts count
// tokens.
struct Config {
  std::int32_t layers = 0;
  std::int32_t width = 0;     // residual stream
  std::int32_t ff_width = 0;  // inner width of the feed-forward block
  std::int32_t heads = 0;     // query heads
  std::int32_t kv_heads = 0;  // key/value heads; heads / kv_heads query heads share one
  std::int32_t head_dim = 0;
  std::int32_t query_pre_attn_scalar = 0;  // queries are scaled by its inverse square root
  std::int32_t window = 0;                 // keys a query of a local layer sees, itself included
  std::int32_t global_every = 6;           // see KindOfLayer
  std::int32_t context = 0;                // longest sequence the model was trained for
  std::int32_t vocabulary = 0;             // rows of the embedding
  double rope_base_local = 10'000;
  double rope_base_global = 1'000'000;
  double rope_factor_global = 1;  // positions of global layers are divided by it
  double norm_epsilon = 1e-6;
  VisionConfig vision = {};

  constexpr std::int32_t queries_width() const { return heads * head_dim; }
  constexpr std::int32_t kv_width() const { return kv_heads * head_dim; }

  friend constexpr bool operator==(const Config&, const Config&) = default;
};

// Gemma 3 interleaves layers that attend to a window with layers that attend to everything.
enum class LayerKind { kLocal, kGlobal };

// Five local layers, then a global one, from the first layer on (report, section 2): with
// global_every = 6 the layers 5, 11, 17, ... are global.
constexpr LayerKind KindOfLayer(const Config& config, std::int32_t layer) {
  return (layer + 1) % config.global_every == 0 ? LayerKind::kGlobal : LayerKind::kLocal;
}

constexpr std::int32_t CountLayers(const Config& config, LayerKind kind) {
  std::int32_t count = 0;
  for (std::int32_t i = 0; i < config.layers; ++i) count += KindOfLayer(config, i) == kind;
  return count;
}

// One "name expected found" clause for every field in which the two differ; empty when equal.
std::string DescribeDifference(const Config& expected, const Config& found);

// The fields in one line, as `inspect` shows them.
std::string Describe(const Config& config);

namespace internal {

// Calls visit(name, field of a, field of b) for every field, in declaration order: the one place
// that lists them.
template <class Visitor>
constexpr void VisitFields(const Config& a, const Config& b, Visitor&& visit) {
  visit("layers", a.layers, b.layers);
  visit("width", a.width, b.width);
  visit("ff_width", a.ff_width, b.ff_width);
  visit("heads", a.heads, b.heads);
  visit("kv_heads", a.kv_heads, b.kv_heads);
  visit("head_dim", a.head_dim, b.head_dim);
  visit("query_pre_attn_scalar", a.query_pre_attn_scalar, b.query_pre_attn_scalar);
  visit("window", a.window, b.window);
  visit("global_every", a.global_every, b.global_every);
  visit("context", a.context, b.context);
  visit("vocabulary", a.vocabulary, b.vocabulary);
  visit("rope_base_local", a.rope_base_local, b.rope_base_local);
  visit("rope_base_global", a.rope_base_global, b.rope_base_global);
  visit("rope_factor_global", a.rope_factor_global, b.rope_factor_global);
  visit("norm_epsilon", a.norm_epsilon, b.norm_epsilon);
  visit("vision.image", a.vision.image, b.vision.image);
  visit("vision.patch", a.vision.patch, b.vision.patch);
  visit("vision.width", a.vision.width, b.vision.width);
  visit("vision.layers", a.vision.layers, b.vision.layers);
  visit("vision.heads", a.vision.heads, b.vision.heads);
  visit("vision.ff_width", a.vision.ff_width, b.vision.ff_width);
  visit("vision.soft_tokens", a.vision.soft_tokens, b.vision.soft_tokens);
}

}  // namespace internal

inline std::string DescribeDifference(const Config& expected, const Config& found) {
  std::string text;
  internal::VisitFields(expected, found, [&](const char* name, auto want, auto have) {
    if (want == have) return;
    text += StrCat(text.empty() ? "" : "; ", name, ": expected ", want, ", found ", have);
  });
  return text;
}

inline std::string Describe(const Config& config) {
  std::string text;
  internal::VisitFields(config, config, [&](const char* name, auto value, auto) {
    if (std::string_view(name).starts_with("vision.") && !config.vision.present()) return;
    text += StrCat(text.empty() ? "" : " ", name, "=", value);
  });
  return text;
}

}  // namespace lapidary

#endif  // LAPIDARY_CONFIG_CONFIG_H_
