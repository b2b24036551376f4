// Writes safetensors files and Hugging Face folders, right ones and wrong ones.
#ifndef LAPIDARY_TESTS_SUPPORT_SAFETENSORS_BUILDER_H_
#define LAPIDARY_TESTS_SUPPORT_SAFETENSORS_BUILDER_H_

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "lapidary/base/result.h"
#include "lapidary/config/config.h"
#include "tests/support/gguf_builder.h"
#include "tests/support/scalar.h"
#include "tests/support/synthetic_gguf.h"
#include "tests/support/temp_folder.h"

namespace lapidary::testing {

using Json = nlohmann::json;

struct SafetensorsBuilder {
  struct Tensor {
    std::string name;
    std::string dtype;
    std::vector<std::uint64_t> shape;  // rows first
    Bytes data;
  };
  std::vector<Tensor> tensors;

  // BF16 values of about 0.1, a stream of their own for every name.
  void Add(const std::string& name, std::vector<std::uint64_t> shape) {
    std::size_t count = 1;
    for (const std::uint64_t size : shape) count *= size;
    Bytes data(2 * count);
    const std::uint64_t seed = Fnv1a(name);
    for (std::size_t i = 0; i < count; ++i) {
      const auto word = static_cast<std::uint16_t>(StreamWord(seed, i));
      const std::uint16_t bits =
          (word & 0x807F) | static_cast<std::uint16_t>(0x3D80 + (word & 0x80));
      std::memcpy(data.data() + 2 * i, &bits, 2);
    }
    tensors.push_back({name, "BF16", std::move(shape), std::move(data)});
  }

  // The value at a position of a BF16 tensor.
  float At(std::string_view name, std::size_t i) const {
    for (const Tensor& tensor : tensors) {
      if (tensor.name == name) return BrainToFloat(tensor.data.data() + 2 * i);
    }
    return std::nanf("");
  }

  Json Header() const {
    Json header;
    header["__metadata__"] = {{"format", "pt"}};
    std::size_t offset = 0;
    for (const Tensor& tensor : tensors) {
      header[tensor.name] = {{"dtype", tensor.dtype},
                             {"shape", tensor.shape},
                             {"data_offsets", {offset, offset + tensor.data.size()}}};
      offset += tensor.data.size();
    }
    return header;
  }
  Bytes Build() const { return Build(Header().dump()); }
  Bytes Build(std::string_view header) const {
    Bytes bytes(8 + header.size());
    const std::uint64_t size = header.size();
    std::memcpy(bytes.data(), &size, 8);
    std::memcpy(bytes.data() + 8, header.data(), header.size());
    for (const Tensor& tensor : tensors) {
      bytes.insert(bytes.end(), tensor.data.begin(), tensor.data.end());
    }
    return bytes;
  }
};

// A field of a protocol buffer: a number, or bytes.
inline void PutVarint(Bytes& bytes, std::uint64_t value) {
  for (; value >= 128; value >>= 7) bytes.push_back(static_cast<std::uint8_t>(value | 128));
  bytes.push_back(static_cast<std::uint8_t>(value));
}
inline void PutField(Bytes& bytes, std::uint64_t field, std::uint64_t number) {
  PutVarint(bytes, field << 3);
  PutVarint(bytes, number);
}
inline void PutField(Bytes& bytes, std::uint64_t field, const Bytes& value) {
  PutVarint(bytes, field << 3 | 2);
  PutVarint(bytes, value.size());
  bytes.insert(bytes.end(), value.begin(), value.end());
}

// A sentencepiece model of these pieces with scores 0, -0.5, -1, ... and the types 3 3 3 2 1 1 ...
inline Bytes SentencepieceModel(const std::vector<std::string>& pieces,
                                std::uint64_t model_type = 2) {
  Bytes model;
  for (std::size_t i = 0; i < pieces.size(); ++i) {
    Bytes piece;
    PutField(piece, 1, Bytes(pieces[i].begin(), pieces[i].end()));
    PutVarint(piece, 2 << 3 | 5);
    Put(piece, -0.5f * static_cast<float>(i));
    if (i < 4) PutField(piece, 3, i < 3 ? 3 : 2);  // 1 is the default and left out
    PutField(model, 1, piece);
  }
  Bytes trainer;
  PutField(trainer, 3, model_type);
  PutField(trainer, 4, pieces.size());
  PutField(model, 2, trainer);
  return model;
}

// The folder of a small model with a vision tower, in the spelling of the published checkpoints.
struct HuggingFaceBuilder {
  Config config;
  SafetensorsBuilder weights;
  Json json;        // config.json
  Bytes tokenizer;  // tokenizer.model; may be empty

  // Changes the name of every tensor.
  void Rename(const std::function<std::string(const std::string&)>& change) {
    for (auto& tensor : weights.tensors) tensor.name = change(tensor.name);
  }

  void Write(const std::filesystem::path& folder) const {
    std::filesystem::create_directories(folder);
    WriteFile(folder / "model.safetensors", weights.Build());
    WriteFile(folder / "config.json", json.dump());
    if (!tokenizer.empty()) WriteFile(folder / "tokenizer.model", tokenizer);
  }
};

inline constexpr Config kTinyVisionConfig = [] {
  Config config = kTinyConfig;
  config.vision = {.image = 28,
                   .patch = 7,
                   .width = 48,
                   .layers = 2,
                   .heads = 3,
                   .ff_width = 72,
                   .soft_tokens = 1};  // 4 x 4 patches become a row
  return config;
}();

inline HuggingFaceBuilder BuildHuggingFace(const Config& c) {
  HuggingFaceBuilder b;
  b.config = c;
  const auto u = [](std::int32_t value) { return static_cast<std::uint64_t>(value); };
  const auto add = [&](const std::string& name, std::vector<std::uint64_t> shape) {
    b.weights.Add(name, std::move(shape));
  };
  const std::string text = "language_model.model.";
  add(text + "embed_tokens.weight", {u(c.vocabulary), u(c.width)});
  add(text + "norm.weight", {u(c.width)});
  for (std::int32_t i = 0; i < c.layers; ++i) {
    const std::string layer = StrCat(text, "layers.", i, ".");
    for (const char* norm : {"input_layernorm", "post_attention_layernorm",
                             "pre_feedforward_layernorm", "post_feedforward_layernorm"}) {
      add(layer + norm + ".weight", {u(c.width)});
    }
    for (const char* norm : {"q_norm", "k_norm"}) {
      add(layer + "self_attn." + norm + ".weight", {u(c.head_dim)});
    }
    add(layer + "self_attn.q_proj.weight", {u(c.queries_width()), u(c.width)});
    add(layer + "self_attn.k_proj.weight", {u(c.kv_width()), u(c.width)});
    add(layer + "self_attn.v_proj.weight", {u(c.kv_width()), u(c.width)});
    add(layer + "self_attn.o_proj.weight", {u(c.width), u(c.queries_width())});
    add(layer + "mlp.gate_proj.weight", {u(c.ff_width), u(c.width)});
    add(layer + "mlp.up_proj.weight", {u(c.ff_width), u(c.width)});
    add(layer + "mlp.down_proj.weight", {u(c.width), u(c.ff_width)});
  }
  const VisionConfig& v = c.vision;
  b.json = {{"model_type", v.present() ? "gemma3" : "gemma3_text"}};
  Json decoder = {{"model_type", "gemma3_text"},
                  {"num_hidden_layers", c.layers},
                  {"hidden_size", c.width},
                  {"intermediate_size", c.ff_width},
                  {"num_attention_heads", c.heads},
                  {"num_key_value_heads", c.kv_heads},
                  {"head_dim", c.head_dim},
                  {"query_pre_attn_scalar", c.query_pre_attn_scalar},
                  {"sliding_window", c.window},
                  {"sliding_window_pattern", c.global_every},
                  {"max_position_embeddings", c.context},
                  {"vocab_size", c.vocabulary},
                  {"rope_local_base_freq", c.rope_base_local},
                  {"rope_theta", c.rope_base_global},
                  {"rope_scaling", {{"factor", c.rope_factor_global}, {"rope_type", "linear"}}},
                  {"rms_norm_eps", c.norm_epsilon},
                  {"final_logit_softcapping", nullptr},
                  {"hidden_activation", "gelu_pytorch_tanh"}};
  std::vector<std::string> pieces = SomePieces(static_cast<std::size_t>(c.vocabulary));
  b.tokenizer = SentencepieceModel(pieces);
  if (!v.present()) {
    decoder.update(b.json);
    b.json = decoder;
    return b;
  }
  b.json["text_config"] = decoder;
  b.json["mm_tokens_per_image"] = v.soft_tokens;
  b.json["vision_config"] = {{"model_type", "siglip_vision_model"},
                             {"image_size", v.image},
                             {"patch_size", v.patch},
                             {"hidden_size", v.width},
                             {"num_hidden_layers", v.layers},
                             {"num_attention_heads", v.heads},
                             {"intermediate_size", v.ff_width}};
  const std::string tower = "vision_tower.vision_model.";
  const auto linear = [&](const std::string& name, std::int32_t rows, std::int32_t cols) {
    add(name + ".weight", {u(rows), u(cols)});
    add(name + ".bias", {u(rows)});
  };
  const auto norm = [&](const std::string& name) {
    add(name + ".weight", {u(v.width)});
    add(name + ".bias", {u(v.width)});
  };
  add(tower + "embeddings.patch_embedding.weight", {u(v.width), 3, u(v.patch), u(v.patch)});
  add(tower + "embeddings.patch_embedding.bias", {u(v.width)});
  const std::int32_t side = v.image / v.patch;
  add(tower + "embeddings.position_embedding.weight", {u(side * side), u(v.width)});
  for (std::int32_t i = 0; i < v.layers; ++i) {
    const std::string layer = StrCat(tower, "encoder.layers.", i, ".");
    norm(layer + "layer_norm1");
    norm(layer + "layer_norm2");
    for (const char* name : {"q_proj", "k_proj", "v_proj", "out_proj"}) {
      linear(layer + "self_attn." + name, v.width, v.width);
    }
    linear(layer + "mlp.fc1", v.ff_width, v.width);
    linear(layer + "mlp.fc2", v.width, v.ff_width);
  }
  norm(tower + "post_layernorm");
  add("multi_modal_projector.mm_input_projection_weight", {u(v.width), u(c.width)});
  add("multi_modal_projector.mm_soft_emb_norm.weight", {u(v.width)});
  return b;
}

}  // namespace lapidary::testing

#endif  // LAPIDARY_TESTS_SUPPORT_SAFETENSORS_BUILDER_H_
