// Writes GGUF files in memory, right ones and wrong ones: nothing is checked, every field of the
// header can be set to nonsense.
#ifndef LAPIDARY_TESTS_SUPPORT_GGUF_BUILDER_H_
#define LAPIDARY_TESTS_SUPPORT_GGUF_BUILDER_H_

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <random>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "lapidary/base/result.h"
#include "lapidary/config/config.h"
#include "lapidary/weights/gguf.h"
#include "tests/support/dequantize.h"

namespace lapidary::testing {

using Bytes = std::vector<std::uint8_t>;

template <class T>
void Put(Bytes& bytes, T value) {
  const std::size_t end = bytes.size();
  bytes.resize(end + sizeof(T));
  std::memcpy(bytes.data() + end, &value, sizeof(T));
}

inline void PutText(Bytes& bytes, std::string_view text) {
  Put<std::uint64_t>(bytes, text.size());
  bytes.insert(bytes.end(), text.begin(), text.end());
}

template <class T>
constexpr GgufType TypeOf() {
  if constexpr (std::is_same_v<T, std::uint8_t>) return GgufType::kUint8;
  if constexpr (std::is_same_v<T, bool>) return GgufType::kBool;
  if constexpr (std::is_same_v<T, std::int32_t>) return GgufType::kInt32;
  if constexpr (std::is_same_v<T, std::uint32_t>) return GgufType::kUint32;
  if constexpr (std::is_same_v<T, std::uint64_t>) return GgufType::kUint64;
  if constexpr (std::is_same_v<T, float>) return GgufType::kFloat32;
  if constexpr (std::is_same_v<T, double>) return GgufType::kFloat64;
}

struct GgufBuilder {
  struct Entry {
    std::string key;
    Bytes value;  // type and value
  };
  struct Tensor {
    std::string name;
    std::vector<std::uint64_t> dims;
    std::uint32_t type = 0;
    Bytes data;
    std::optional<std::uint64_t> offset;  // instead of the right one
  };

  std::uint32_t version = 3;
  std::uint64_t alignment = 32;  // used for the layout; a key must be added besides
  std::vector<Entry> metadata;
  std::vector<Tensor> tensors;

  // Sets a scalar; replaces an older value of this key.
  template <class T>
  void Set(const std::string& key, T value) {
    Bytes bytes;
    Put(bytes, static_cast<std::uint32_t>(TypeOf<T>()));
    Put(bytes, value);
    SetRaw(key, std::move(bytes));
  }
  void SetText(const std::string& key, std::string_view value) {
    Bytes bytes;
    Put(bytes, static_cast<std::uint32_t>(GgufType::kString));
    PutText(bytes, value);
    SetRaw(key, std::move(bytes));
  }
  template <class T>
  void SetArray(const std::string& key, const std::vector<T>& values) {
    Bytes bytes = ArrayHead(TypeOf<T>(), values.size());
    for (const T value : values) Put(bytes, value);
    SetRaw(key, std::move(bytes));
  }
  void SetTexts(const std::string& key, const std::vector<std::string>& values) {
    Bytes bytes = ArrayHead(GgufType::kString, values.size());
    for (const std::string& value : values) PutText(bytes, value);
    SetRaw(key, std::move(bytes));
  }
  static Bytes ArrayHead(GgufType element, std::uint64_t count) {
    Bytes bytes;
    Put(bytes, static_cast<std::uint32_t>(GgufType::kArray));
    Put(bytes, static_cast<std::uint32_t>(element));
    Put(bytes, count);
    return bytes;
  }
  void SetRaw(const std::string& key, Bytes value) {
    Remove(key);
    metadata.push_back({key, std::move(value)});
  }
  void Remove(const std::string& key) {
    std::erase_if(metadata, [&](const Entry& entry) { return entry.key == key; });
  }

  Tensor* Find(std::string_view name) {
    for (Tensor& tensor : tensors) {
      if (tensor.name == name) return &tensor;
    }
    return nullptr;
  }

  // The directory and what stands in front of it.
  Bytes Header(std::optional<std::uint64_t> tensor_count = {},
               std::optional<std::uint64_t> entry_count = {}) const {
    Bytes bytes = {'G', 'G', 'U', 'F'};
    Put(bytes, version);
    Put<std::uint64_t>(bytes, tensor_count.value_or(tensors.size()));
    Put<std::uint64_t>(bytes, entry_count.value_or(metadata.size()));
    for (const Entry& entry : metadata) {
      PutText(bytes, entry.key);
      bytes.insert(bytes.end(), entry.value.begin(), entry.value.end());
    }
    std::uint64_t offset = 0;
    for (const Tensor& tensor : tensors) {
      PutText(bytes, tensor.name);
      Put(bytes, static_cast<std::uint32_t>(tensor.dims.size()));
      for (const std::uint64_t dim : tensor.dims) Put(bytes, dim);
      Put(bytes, tensor.type);
      Put(bytes, tensor.offset.value_or(offset));
      offset += (tensor.data.size() + alignment - 1) / alignment * alignment;
    }
    return bytes;
  }

  Bytes Build() const {
    Bytes bytes = Header();
    for (const Tensor& tensor : tensors) {
      bytes.resize((bytes.size() + alignment - 1) / alignment * alignment);
      bytes.insert(bytes.end(), tensor.data.begin(), tensor.data.end());
    }
    bytes.resize((bytes.size() + alignment - 1) / alignment * alignment);
    return bytes;
  }
};

// A tensor of random values: [cols] or [cols, rows].
template <class Random>
void AddTensor(GgufBuilder& builder, const std::string& name, std::vector<std::uint64_t> dims,
               Format format, Random& random) {
  std::size_t values = 1;
  for (const std::uint64_t dim : dims) values *= dim;
  builder.tensors.push_back({name,
                             std::move(dims),
                             static_cast<std::uint32_t>(format),
                             RandomBlocks(format, values, random),
                             {}});
}

// Pieces of a vocabulary that has all six types; some are not ASCII, one is empty.
inline std::vector<std::string> SomePieces(std::size_t count) {
  std::vector<std::string> pieces = {"<pad>", "<eos>",           "<bos>",  "<unk>",
                                     "\n\n",  "\xE2\x96\x81the", "<0x0A>", ""};
  while (pieces.size() < count) pieces.push_back(StrCat("piece", pieces.size()));
  pieces.resize(count);
  return pieces;
}

// A whole Gemma 3 model of any shape with random weights: `matrices` in their format, norms in f32.
// The formats must allow the widths (256 for the K formats).
inline GgufBuilder BuildGemma(const Config& c, Format matrices, std::uint32_t seed = 1) {
  std::mt19937 random(seed);
  GgufBuilder b;
  const auto set = [&](const char* key, std::int32_t value) {
    b.Set(StrCat("gemma3.", key), static_cast<std::uint32_t>(value));
  };
  const auto set_float = [&](const char* key, double value) {
    b.Set(StrCat("gemma3.", key), static_cast<float>(value));
  };
  b.SetText("general.architecture", "gemma3");
  b.SetText("general.license", "gemma");
  set("block_count", c.layers);
  set("context_length", c.context);
  set("embedding_length", c.width);
  set("feed_forward_length", c.ff_width);
  set("attention.head_count", c.heads);
  set("attention.head_count_kv", c.kv_heads);
  set("attention.key_length", c.head_dim);
  set("attention.value_length", c.head_dim);
  set("attention.sliding_window", c.window);
  set("attention.sliding_window_pattern", c.global_every);
  set("attention.query_pre_attn_scalar", c.query_pre_attn_scalar);
  set_float("attention.layer_norm_rms_epsilon", c.norm_epsilon);
  set_float("rope.freq_base", c.rope_base_global);
  set_float("rope.freq_base_swa", c.rope_base_local);
  if (c.rope_factor_global != 1) {
    b.SetText("gemma3.rope.scaling.type", "linear");
    set_float("rope.scaling.factor", c.rope_factor_global);
  }
  const auto count = static_cast<std::size_t>(c.vocabulary);
  std::vector<float> scores(count);
  std::vector<std::int32_t> types(count, 1);
  for (std::size_t i = 0; i < count; ++i) scores[i] = -static_cast<float>(i) / 4;
  const std::int32_t first_types[] = {3, 3, 3, 2, 4, 1, 6, 5};
  for (std::size_t i = 0; i < std::min<std::size_t>(8, count); ++i) types[i] = first_types[i];
  b.SetText("tokenizer.ggml.model", "llama");
  b.SetTexts("tokenizer.ggml.tokens", SomePieces(count));
  b.SetArray("tokenizer.ggml.scores", scores);
  b.SetArray("tokenizer.ggml.token_type", types);

  const auto matrix = [&](const std::string& name, std::int32_t rows, std::int32_t cols) {
    AddTensor(b, name + ".weight",
              {static_cast<std::uint64_t>(cols), static_cast<std::uint64_t>(rows)}, matrices,
              random);
  };
  const auto vector = [&](const std::string& name, std::int32_t size) {
    AddTensor(b, name + ".weight", {static_cast<std::uint64_t>(size)}, Format::kF32, random);
  };
  vector("output_norm", c.width);
  matrix("token_embd", c.vocabulary, c.width);
  for (std::int32_t i = 0; i < c.layers; ++i) {
    const std::string block = StrCat("blk.", i, ".");
    matrix(block + "attn_k", c.kv_width(), c.width);
    vector(block + "attn_k_norm", c.head_dim);
    vector(block + "attn_norm", c.width);
    matrix(block + "attn_output", c.width, c.queries_width());
    matrix(block + "attn_q", c.queries_width(), c.width);
    vector(block + "attn_q_norm", c.head_dim);
    matrix(block + "attn_v", c.kv_width(), c.width);
    matrix(block + "ffn_down", c.width, c.ff_width);
    matrix(block + "ffn_gate", c.ff_width, c.width);
    vector(block + "ffn_norm", c.width);
    matrix(block + "ffn_up", c.ff_width, c.width);
    vector(block + "post_attention_norm", c.width);
    vector(block + "post_ffw_norm", c.width);
  }
  return b;
}

// Small, and no two fields alike.
inline constexpr Config kTinyConfig = {.layers = 3,
                                       .width = 96,
                                       .ff_width = 160,
                                       .heads = 4,
                                       .kv_heads = 2,
                                       .head_dim = 32,
                                       .query_pre_attn_scalar = 24,
                                       .window = 7,
                                       .global_every = 2,
                                       .context = 100,
                                       .vocabulary = 37,
                                       .rope_base_local = 5'000,
                                       .rope_base_global = 70'000,
                                       .rope_factor_global = 2.5,
                                       .norm_epsilon = 2e-6};

}  // namespace lapidary::testing

#endif  // LAPIDARY_TESTS_SUPPORT_GGUF_BUILDER_H_
