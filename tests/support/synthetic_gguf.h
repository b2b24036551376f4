// Tiny models as GGUF files in memory.
//
// Their weights are generated, not stored. tests/golden/make_tiny.py generates the same bytes, runs
// them through transformers and keeps the logits (golden.h reads those).
#ifndef LAPIDARY_TESTS_SUPPORT_SYNTHETIC_GGUF_H_
#define LAPIDARY_TESTS_SUPPORT_SYNTHETIC_GGUF_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "lapidary/base/result.h"
#include "lapidary/config/config.h"
#include "lapidary/weights/quant.h"
#include "tests/support/gguf_builder.h"

namespace lapidary::testing {

// ---- Generated weights ----

inline constexpr std::uint64_t kFnvBasis = 0xCBF29CE484222325u;
inline constexpr std::uint64_t kFnvPrime = 0x100000001B3u;

// FNV-1a, 64 bits.
constexpr std::uint64_t Fnv1a(std::string_view text) {
  std::uint64_t hash = kFnvBasis;
  for (const char c : text) hash = (hash ^ static_cast<std::uint8_t>(c)) * kFnvPrime;
  return hash;
}

// Number `index` of the splitmix64 sequence that starts at the hash of a name.
constexpr std::uint64_t StreamWord(std::uint64_t seed, std::uint64_t index) {
  std::uint64_t z = seed + (index + 1) * 0x9E3779B97F4A7C15u;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  return z ^ (z >> 31);
}

inline Bytes RandomBytes(std::string_view name, std::size_t count) {
  Bytes out(count);
  const std::uint64_t seed = Fnv1a(name);
  for (std::size_t i = 0; i < count; i += 8) {
    const std::uint64_t word = StreamWord(seed, i / 8);
    std::memcpy(out.data() + i, &word, std::min<std::size_t>(8, count - i));
  }
  return out;
}

namespace internal {

// Replaces each number of type T in the bytes by change(number).
template <class T, class Change>
void ChangeEach(Bytes& bytes, Change change) {
  for (std::size_t i = 0; i + sizeof(T) <= bytes.size(); i += sizeof(T)) {
    T value;
    std::memcpy(&value, bytes.data() + i, sizeof(T));
    value = static_cast<T>(change(value));
    std::memcpy(bytes.data() + i, &value, sizeof(T));
  }
}

// Puts an f16 scale at `offset` of each block: the bits plus 0 .. 1023, of either sign if
// is_signed.
inline void PutScales(Bytes& bytes, std::string_view name, std::size_t block_bytes,
                      std::size_t offset, std::uint32_t bits, bool is_signed) {
  const std::uint64_t seed = Fnv1a(StrCat(name, ".", offset));
  for (std::size_t block = 0; block < bytes.size() / block_bytes; ++block) {
    const std::uint64_t word = StreamWord(seed, block);
    std::uint64_t scale = (word & 0x3FF) + bits;
    if (is_signed) scale |= (word >> 48) & 0x8000;
    bytes[block * block_bytes + offset] = static_cast<std::uint8_t>(scale);
    bytes[block * block_bytes + offset + 1] = static_cast<std::uint8_t>(scale >> 8);
  }
}

}  // namespace internal

// The bytes of a matrix [rows, cols] in a GGUF file: all bit patterns of codes, scales and
// exponents such that weights are about 0.06 large. cols must be whole blocks of the format.
inline Bytes GenerateMatrix(std::string_view name, std::size_t rows, std::size_t cols,
                            Format format) {
  const QuantSpec& spec = SpecOf(format);
  const auto block_bytes = static_cast<std::size_t>(spec.source_bytes);
  Bytes bytes =
      RandomBytes(name, rows * cols / static_cast<std::size_t>(spec.source_block) * block_bytes);
  const auto put = [&](std::size_t offset, std::uint32_t bits, bool is_signed) {
    internal::PutScales(bytes, name, block_bytes, offset, bits, is_signed);
  };
  switch (format) {
    // Floats: any sign and fraction; exponents -7 .. -4, that is 2^-7 <= |value| < 2^-3.
    case Format::kF32:
      internal::ChangeEach<std::uint32_t>(bytes, [](std::uint32_t x) {
        return (x & 0x807FFFFF) | ((123 - ((x >> 23) & 3)) << 23);
      });
      break;
    case Format::kBF16:
      internal::ChangeEach<std::uint16_t>(
          bytes, [](std::uint32_t x) { return (x & 0x807F) | ((123 - ((x >> 7) & 3)) << 7); });
      break;
    case Format::kF16:
      internal::ChangeEach<std::uint16_t>(
          bytes, [](std::uint32_t x) { return (x & 0x83FF) | ((11 - ((x >> 10) & 3)) << 10); });
      break;
    case Format::kQ8_0:
      put(0, 0x1000, false);
      break;
    case Format::kQ4_0:
      put(0, 0x2000, true);
      break;
    case Format::kQ5_0:
      put(0, 0x1C00, true);
      break;
    case Format::kQ4_K:
      put(0, 0x0800, false);
      put(2, 0x1400, false);
      break;
    case Format::kQ6_K:
      put(208, 0x0200, true);
      break;  // partly subnormal
    default:
      break;  // no tiny model has them
  }
  return bytes;
}

// Norm gains as a GGUF file holds them: smallest / 8 .. (smallest + width) / 8. 19 bits behind the
// point, hence exact.
inline std::vector<float> GenerateGains(std::string_view name, std::size_t size,
                                        std::int32_t smallest, std::int32_t width) {
  std::vector<float> gains(size);
  const std::uint64_t seed = Fnv1a(name);
  for (std::size_t i = 0; i < size; ++i) {
    const auto step = static_cast<std::int32_t>(StreamWord(seed, i) & 0xFFFF);
    gains[i] = static_cast<float>(smallest * 65536 + width * step) * 0x1p-19f;
  }
  return gains;
}

// ---- Tiny models ----

// Every mechanism at work: GQA, a window smaller than the prompts, a RoPE factor, a query scale
// that is not head_dim^-1/2, two global layers among eight, a vocabulary that fills no panel.
struct TinyModel {
  static constexpr std::string_view kName = "tiny";
  static constexpr Config kConfig = {.layers = 8,
                                     .width = 256,
                                     .ff_width = 512,
                                     .heads = 4,
                                     .kv_heads = 2,
                                     .head_dim = 64,
                                     .query_pre_attn_scalar = 96,
                                     .window = 20,
                                     .global_every = 3,
                                     .context = 512,
                                     .vocabulary = 387,
                                     .rope_factor_global = 8};
};

// Shapes that fill no vector, panel or unit, a width whose root is not a bf16 value, three query
// heads on one key head, other RoPE bases, a large epsilon. Rows hold no whole block of a K-quant.
struct TinyOddModel {
  static constexpr std::string_view kName = "tiny odd";
  static constexpr Config kConfig = {.layers = 5,
                                     .width = 288,
                                     .ff_width = 544,
                                     .heads = 3,
                                     .kv_heads = 1,
                                     .head_dim = 96,
                                     .query_pre_attn_scalar = 60,
                                     .window = 7,
                                     .global_every = 2,
                                     .context = 256,
                                     .vocabulary = 369,
                                     .rope_base_local = 5'000,
                                     .rope_base_global = 250'000,
                                     .rope_factor_global = 3,
                                     .norm_epsilon = 0x1p-4};
};

// The formats of a model's matrices.
struct TinyFormats {
  Format embedding = Format::kF32;
  Format query_key = Format::kF32;
  Format value = Format::kF32;
  Format attention_out = Format::kF32;
  Format gate_up = Format::kF32;
  Format down = Format::kF32;

  static constexpr TinyFormats Uniform(Format f) { return {f, f, f, f, f, f}; }
  friend constexpr bool operator==(const TinyFormats&, const TinyFormats&) = default;
};

// As files called Q4_K_M mix them.
inline constexpr TinyFormats kTinyQ4K = {.embedding = Format::kQ6_K,
                                         .query_key = Format::kQ4_K,
                                         .value = Format::kQ6_K,
                                         .attention_out = Format::kQ4_K,
                                         .gate_up = Format::kQ4_K,
                                         .down = Format::kQ6_K};

// A vocabulary in the manner of Gemma's, small: the special pieces with their usual ids (turns are
// 105 and 106), printable ASCII, a few merges, newlines and a run of spaces as user-defined pieces,
// all bytes.
struct TinyVocabulary {
  std::vector<std::string> pieces;
  std::vector<float> scores;
  std::vector<std::int32_t> types;  // 1 normal, 2 unknown, 3 control, 4 user-defined, 6 byte

  // size >= 365: the bytes are complete then.
  explicit TinyVocabulary(std::size_t size) {
    const auto normal = [&](std::string piece) { Add(std::move(piece), -Index(), 1); };
    Add("<pad>", 0, 3);
    Add("<eos>", 0, 3);
    Add("<bos>", 0, 3);
    Add("<unk>", 0, 2);
    normal("\u2581");
    for (char c = '!'; c <= '~'; ++c) normal(std::string(1, c));
    for (const char* piece : {"th", "he", "in", "er", "an", "\u2581t"}) normal(piece);
    Add("<start_of_turn>", 0, 3);  // 105
    Add("<end_of_turn>", 0, 3);
    Add("\n", 0, 4);
    Add("\n\n", 0, 4);
    for (int byte = 0; byte < 256; ++byte) {
      constexpr char kDigits[] = "0123456789ABCDEF";
      Add(StrCat("<0x", kDigits[byte / 16], kDigits[byte % 16], ">"), 0, 6);
    }
    Add("  ", 0, 4);  // GGUF files hold runs of spaces as spaces
    for (const char* piece : {"the", "\u2581the", "ing", "and", "\u2581a", "\u00e9", "\u00f1",
                              "\u03b1", "\u044f", "\u65e5", "\U0001F600"}) {
      normal(piece);
    }
    while (pieces.size() < size) Add(StrCat("<unused", pieces.size(), ">"), 0, 3);
    pieces.resize(size);
    scores.resize(size);
    types.resize(size);
  }

 private:
  float Index() const { return static_cast<float>(pieces.size()); }
  void Add(std::string piece, float score, std::int32_t type) {
    pieces.push_back(std::move(piece));
    scores.push_back(score);
    types.push_back(type);
  }
};

// The complete file of a tiny model, not yet laid out, so that a test may change it.
//
// Keys are those of llama.cpp's converter for Gemma 3, and three more that a shape outside the
// published five needs: gemma3.attention.query_pre_attn_scalar,
// gemma3.attention.sliding_window_pattern and gemma3.rope.freq_base_swa.
inline GgufBuilder TinyGgufBuilder(const Config& config, const TinyFormats& formats) {
  GgufBuilder file;
  const auto set = [&](std::string_view key, std::int32_t value) {
    file.Set(StrCat("gemma3.", key), static_cast<std::uint32_t>(value));
  };
  const auto set_float = [&](std::string_view key, double value) {
    file.Set(StrCat("gemma3.", key), static_cast<float>(value));
  };
  file.SetText("general.architecture", "gemma3");
  file.SetText("general.name", "tiny");
  set("context_length", config.context);
  set("embedding_length", config.width);
  set("block_count", config.layers);
  set("feed_forward_length", config.ff_width);
  set("attention.head_count", config.heads);
  set("attention.head_count_kv", config.kv_heads);
  set("attention.key_length", config.head_dim);
  set("attention.value_length", config.head_dim);
  set_float("attention.layer_norm_rms_epsilon", config.norm_epsilon);
  set("attention.sliding_window", config.window);
  set("attention.sliding_window_pattern", config.global_every);
  set("attention.query_pre_attn_scalar", config.query_pre_attn_scalar);
  set_float("rope.freq_base", config.rope_base_global);
  set_float("rope.freq_base_swa", config.rope_base_local);
  if (config.rope_factor_global != 1) {
    file.SetText("gemma3.rope.scaling.type", "linear");
    set_float("rope.scaling.factor", config.rope_factor_global);
  }
  const TinyVocabulary vocabulary(static_cast<std::size_t>(config.vocabulary));
  file.SetText("tokenizer.ggml.model", "llama");
  file.SetText("tokenizer.ggml.pre", "default");
  file.SetTexts("tokenizer.ggml.tokens", vocabulary.pieces);
  file.SetArray("tokenizer.ggml.scores", vocabulary.scores);
  file.SetArray("tokenizer.ggml.token_type", vocabulary.types);
  file.Set("tokenizer.ggml.bos_token_id", std::uint32_t{2});
  file.Set("tokenizer.ggml.eos_token_id", std::uint32_t{1});
  file.Set("tokenizer.ggml.unknown_token_id", std::uint32_t{3});
  file.Set("tokenizer.ggml.padding_token_id", std::uint32_t{0});
  file.Set("tokenizer.ggml.add_bos_token", true);
  file.Set("tokenizer.ggml.add_eos_token", false);
  file.Set("tokenizer.ggml.add_space_prefix", false);
  file.Set("general.quantization_version", std::uint32_t{2});

  const auto add = [&](const std::string& name, std::vector<std::uint64_t> dims, Format format,
                       Bytes data) {
    file.tensors.push_back(
        {name, std::move(dims), static_cast<std::uint32_t>(format), std::move(data), {}});
  };
  const auto matrix = [&](const std::string& name, std::int32_t rows, std::int32_t cols,
                          Format format) {
    const auto r = static_cast<std::size_t>(rows);
    const auto c = static_cast<std::size_t>(cols);
    add(name, {c, r}, format, GenerateMatrix(name, r, c, format));
  };
  const auto gain = [&](const std::string& name, std::int32_t size, std::int32_t smallest,
                        std::int32_t range) {
    const auto n = static_cast<std::size_t>(size);
    Bytes data;
    for (const float value : GenerateGains(name, n, smallest, range)) Put(data, value);
    add(name, {n}, Format::kF32, std::move(data));
  };
  matrix("token_embd.weight", config.vocabulary, config.width, formats.embedding);
  gain("output_norm.weight", config.width, 6, 16);
  for (std::int32_t i = 0; i < config.layers; ++i) {
    const std::string layer = StrCat("blk.", i, ".");
    gain(layer + "attn_norm.weight", config.width, 4, 12);
    matrix(layer + "attn_q.weight", config.queries_width(), config.width, formats.query_key);
    matrix(layer + "attn_k.weight", config.kv_width(), config.width, formats.query_key);
    matrix(layer + "attn_v.weight", config.kv_width(), config.width, formats.value);
    gain(layer + "attn_q_norm.weight", config.head_dim, 8, 16);
    gain(layer + "attn_k_norm.weight", config.head_dim, 6, 12);
    matrix(layer + "attn_output.weight", config.width, config.queries_width(),
           formats.attention_out);
    gain(layer + "post_attention_norm.weight", config.width, 4, 24);
    gain(layer + "ffn_norm.weight", config.width, 8, 16);
    matrix(layer + "ffn_gate.weight", config.ff_width, config.width, formats.gate_up);
    matrix(layer + "ffn_up.weight", config.ff_width, config.width, formats.gate_up);
    matrix(layer + "ffn_down.weight", config.width, config.ff_width, formats.down);
    gain(layer + "post_ffw_norm.weight", config.width, 4, 24);
  }
  return file;
}

// The bytes of a tiny model's file.
inline Bytes TinyGguf(const Config& config, const TinyFormats& formats) {
  return TinyGgufBuilder(config, formats).Build();
}
inline Bytes TinyGguf(const Config& config, Format format) {
  return TinyGguf(config, TinyFormats::Uniform(format));
}

// FNV-1a over the 64-bit little-endian words of the data of every tensor in turn, each filled up
// with zeros: what make_tiny.py records of the bytes that it generated.
inline std::uint64_t DataHash(const GgufBuilder& file) {
  std::uint64_t hash = kFnvBasis;
  for (const GgufBuilder::Tensor& tensor : file.tensors) {
    const Bytes& data = tensor.data;
    for (std::size_t i = 0; i < data.size(); i += 8) {
      std::uint64_t word = 0;
      std::memcpy(&word, data.data() + i, std::min<std::size_t>(8, data.size() - i));
      hash = (hash ^ word) * kFnvPrime;
    }
  }
  return hash;
}

}  // namespace lapidary::testing

#endif  // LAPIDARY_TESTS_SUPPORT_SYNTHETIC_GGUF_H_
