// The tensors of a decoder, found in a weight file and checked against a Config.
#ifndef LAPIDARY_MODEL_DECODER_WEIGHTS_H_
#define LAPIDARY_MODEL_DECODER_WEIGHTS_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "lapidary/base/result.h"
#include "lapidary/base/xxhash64.h"
#include "lapidary/config/config.h"
#include "lapidary/weights/quant.h"
#include "lapidary/weights/weight_file.h"

namespace lapidary {

// Views into the weight file. Matrices are [outputs, inputs]; norms are gains, [width] or
// [head_dim].
struct LayerWeights {
  const float* attention_norm = nullptr;
  PackedMatrix q, k, v;
  const float* q_norm = nullptr;
  const float* k_norm = nullptr;
  PackedMatrix attention_out;
  const float* post_attention_norm = nullptr;
  const float* ff_norm = nullptr;
  PackedMatrix gate, up, down;
  const float* post_ff_norm = nullptr;
};

struct DecoderWeights {
  PackedMatrix embedding;  // [vocabulary, width], also the output head
  std::vector<LayerWeights> layers;
  const float* final_norm = nullptr;
};

// Every tensor of the decoder, or the first error: a missing tensor, or one of another shape.
inline Result<DecoderWeights> FindDecoderWeights(const WeightFile& file, const Config& config) {
  const auto width = static_cast<std::size_t>(config.width);
  const auto ff_width = static_cast<std::size_t>(config.ff_width);
  const auto head_dim = static_cast<std::size_t>(config.head_dim);
  const auto queries_width = static_cast<std::size_t>(config.queries_width());
  const auto kv_width = static_cast<std::size_t>(config.kv_width());

  Status status;
  const auto matrix = [&](const std::string& name, std::size_t rows, std::size_t cols) {
    Result<PackedMatrix> found = file.Matrix(name, rows, cols);
    if (found) return *found;
    if (status.ok()) status = found.error();
    return PackedMatrix{};
  };
  const auto vector = [&](const std::string& name, std::size_t size) -> const float* {
    Result<std::span<const float>> found = file.Vector(name, size);
    if (found) return found->data();
    if (status.ok()) status = found.error();
    return nullptr;
  };

  DecoderWeights weights;
  weights.embedding = matrix("embedding", static_cast<std::size_t>(config.vocabulary), width);
  weights.final_norm = vector("final_norm", width);
  weights.layers.resize(static_cast<std::size_t>(config.layers));
  for (std::size_t i = 0; i < weights.layers.size(); ++i) {
    const std::string prefix = StrCat("layers.", i, ".");
    LayerWeights& layer = weights.layers[i];
    layer.attention_norm = vector(prefix + "attention_norm", width);
    layer.q = matrix(prefix + "q", queries_width, width);
    layer.k = matrix(prefix + "k", kv_width, width);
    layer.v = matrix(prefix + "v", kv_width, width);
    layer.q_norm = vector(prefix + "q_norm", head_dim);
    layer.k_norm = vector(prefix + "k_norm", head_dim);
    layer.attention_out = matrix(prefix + "attention_out", width, queries_width);
    layer.post_attention_norm = vector(prefix + "post_attention_norm", width);
    layer.ff_norm = vector(prefix + "ff_norm", width);
    layer.gate = matrix(prefix + "gate", ff_width, width);
    layer.up = matrix(prefix + "up", ff_width, width);
    layer.down = matrix(prefix + "down", width, ff_width);
    layer.post_ff_norm = vector(prefix + "post_ff_norm", width);
  }
  if (!status) return status.error();
  return weights;
}

// A number that tells these weights from others of the same Config: XXH64 over the formats, the
// first bytes of every matrix, and the norms. The same for a file and for the blob made of it.
inline std::uint64_t Fingerprint(const DecoderWeights& weights, const Config& config) {
  XxHash64 hash;
  const auto add = [&](const void* bytes, std::size_t count) {
    hash.Update({static_cast<const std::uint8_t*>(bytes), count});
  };
  const auto add_matrix = [&](const PackedMatrix& matrix) {
    constexpr std::size_t kBytes = 256;  // touches one page of a mapped file
    add(&matrix.format, sizeof(matrix.format));
    add(matrix.data, std::min(matrix.bytes(), kBytes));
  };
  const std::size_t norm_bytes = static_cast<std::size_t>(config.width) * sizeof(float);
  add_matrix(weights.embedding);
  add(weights.final_norm, norm_bytes);
  for (const LayerWeights& layer : weights.layers) {
    for (const PackedMatrix* matrix : {&layer.q, &layer.k, &layer.v, &layer.attention_out,
                                       &layer.gate, &layer.up, &layer.down}) {
      add_matrix(*matrix);
    }
    add(layer.attention_norm, norm_bytes);
    add(layer.ff_norm, norm_bytes);
  }
  return hash.digest();
}

}  // namespace lapidary

#endif  // LAPIDARY_MODEL_DECODER_WEIGHTS_H_
