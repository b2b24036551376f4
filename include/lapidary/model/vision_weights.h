// The tensors of the image encoder, found in a weight file and checked against a Config.
#ifndef LAPIDARY_MODEL_VISION_WEIGHTS_H_
#define LAPIDARY_MODEL_VISION_WEIGHTS_H_

#include <algorithm>
#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "lapidary/base/result.h"
#include "lapidary/config/config.h"
#include "lapidary/weights/quant.h"
#include "lapidary/weights/weight_file.h"

namespace lapidary {

// x -> matrix x + bias. Views into the weight file, as everything here.
struct Affine {
  PackedMatrix matrix;          // [outputs, inputs]
  const float* bias = nullptr;  // [outputs]
};

// x -> (x - mean) / deviation * gain + bias.
struct LayerNormWeights {
  const float* gain = nullptr;  // [width]
  const float* bias = nullptr;  // [width]
};

struct VisionLayerWeights {
  LayerNormWeights norm1, norm2;
  Affine q, k, v, out;
  Affine up, down;
};

struct VisionWeights {
  Affine patch;            // [width, 3 * patch * patch], inputs in the order channel, y, x
  PackedMatrix positions;  // [patches, width]
  std::vector<VisionLayerWeights> layers;
  LayerNormWeights final_norm;
  const float* soft_norm = nullptr;  // [width], the gain itself
  PackedMatrix projection;           // [width of the decoder, width]
};

// Every tensor of the encoder; nothing if the file has none of them: it is then for text only. A
// file that has some but not all is kCorrupt; the error names the first that is missing or of
// another shape. Precondition: config.vision.present().
inline Result<std::optional<VisionWeights>> FindVisionWeights(const WeightFile& file,
                                                              const Config& config) {
  using Found = std::optional<VisionWeights>;
  const bool any = std::any_of(
      file.sections().begin(), file.sections().end(),
      [](const Section& section) { return std::string_view(section.name).starts_with("vision."); });
  if (!any) return Found();

  const VisionConfig& vision = config.vision;
  const auto width = static_cast<std::size_t>(vision.width);
  const auto ff_width = static_cast<std::size_t>(vision.ff_width);
  Status status;
  const auto keep = [&](const Error& error) {
    if (status.ok()) status = MakeError(ErrorCode::kCorrupt, error.message);
  };
  const auto matrix = [&](const std::string& name, std::size_t rows, std::size_t cols) {
    Result<PackedMatrix> found = file.Matrix("vision." + name, rows, cols);
    if (found) return *found;
    keep(found.error());
    return PackedMatrix{};
  };
  const auto vector = [&](const std::string& name, std::size_t size) -> const float* {
    Result<std::span<const float>> found = file.Vector("vision." + name, size);
    if (found) return found->data();
    keep(found.error());
    return nullptr;
  };
  const auto affine = [&](const std::string& name, std::size_t rows, std::size_t cols) {
    return Affine{matrix(name, rows, cols), vector(name + "_bias", rows)};
  };
  const auto norm = [&](const std::string& name) {
    return LayerNormWeights{vector(name, width), vector(name + "_bias", width)};
  };

  VisionWeights weights;
  const auto patch = static_cast<std::size_t>(vision.patch);
  weights.patch = affine("patch", width, 3 * patch * patch);
  weights.positions = matrix("positions", static_cast<std::size_t>(vision.patches()), width);
  weights.layers.resize(static_cast<std::size_t>(vision.layers));
  for (std::size_t i = 0; i < weights.layers.size(); ++i) {
    const std::string prefix = StrCat("layers.", i, ".");
    VisionLayerWeights& layer = weights.layers[i];
    layer.norm1 = norm(prefix + "norm1");
    layer.q = affine(prefix + "q", width, width);
    layer.k = affine(prefix + "k", width, width);
    layer.v = affine(prefix + "v", width, width);
    layer.out = affine(prefix + "out", width, width);
    layer.norm2 = norm(prefix + "norm2");
    layer.up = affine(prefix + "up", ff_width, width);
    layer.down = affine(prefix + "down", width, ff_width);
  }
  weights.final_norm = norm("final_norm");
  weights.soft_norm = vector("soft_norm", width);
  weights.projection = matrix("projection", static_cast<std::size_t>(config.width), width);
  if (!status) return status.error();
  return Found(std::move(weights));
}

}  // namespace lapidary

#endif  // LAPIDARY_MODEL_VISION_WEIGHTS_H_
