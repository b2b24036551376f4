// The tensors of a decoder, found in a weight file and checked against a Config.
#ifndef LAPIDARY_MODEL_DECODER_WEIGHTS_H_
#define LAPIDARY_MODEL_DECODER_WEIGHTS_H_

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "lapidary/base/result.h"
#include "lapidary/base/xxhash64.h"
#include "lapidary/config/config.h"
#include "lapidary/weights/quant.h"
#include "lapidary/weights/weight_file.h"

namespace lapidary {

// Views into the weight file, q_norm and k_norm of a decoder into DecoderWeights::head_gains.
// Matrices are [outputs, inputs]; norms are gains, [width] or [head_dim].
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
  std::shared_ptr<float[]> head_gains;  // [layers, q and k, head_dim], see BalanceGains
};

// Moves powers of two from the gains of keys to those of queries, [head_dim] each, so that all
// dimensions of a key are of the same size. Their product, a score, stays the same to the bit, but
// a key whose dimensions share one scale of 8-bit integers loses less: gains of the 270M reach 30
// where most are 3, and int8 costs 0.58 % of perplexity instead of 1.12 % (docs/numerics.md).
// Dimensions i and i + head_dim / 2, which RoPE turns into each other, get the same factor.
inline void BalanceGains(std::size_t head_dim, float* q_norm, float* k_norm) {
  const std::size_t half = head_dim / 2;
  for (std::size_t i = 0; i < half; ++i) {
    const float size = std::hypot(k_norm[i], k_norm[i + half]) / std::sqrt(2.0f);
    if (!std::isfinite(size) || size == 0.0f) continue;
    const int exponent = std::clamp(static_cast<int>(std::lround(std::log2(size))), -16, 16);
    for (const std::size_t dim : {i, i + half}) {
      q_norm[dim] = std::ldexp(q_norm[dim], exponent);
      k_norm[dim] = std::ldexp(k_norm[dim], -exponent);
    }
  }
}

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

  weights.head_gains = std::make_shared<float[]>(weights.layers.size() * 2 * head_dim);
  float* gains = weights.head_gains.get();
  for (LayerWeights& layer : weights.layers) {
    float* const k_norm = gains + head_dim;
    std::copy_n(layer.q_norm, head_dim, gains);
    std::copy_n(layer.k_norm, head_dim, k_norm);
    BalanceGains(head_dim, gains, k_norm);
    layer.q_norm = gains;
    layer.k_norm = k_norm;
    gains += 2 * head_dim;
  }
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
