// Reads the files of tests/golden: what other programs say that a model should answer.
//
// LAPIDARY_GOLDEN_DIR, a compile definition, is the folder. Functions throw std::runtime_error if a
// file is missing or not as expected, which fails the test that asked.
#ifndef LAPIDARY_TESTS_SUPPORT_GOLDEN_H_
#define LAPIDARY_TESTS_SUPPORT_GOLDEN_H_

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <span>
#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "lapidary/config/config.h"
#include "lapidary/weights/quant.h"
#include "tests/support/synthetic_gguf.h"

namespace lapidary::testing {

inline std::filesystem::path GoldenPath(std::string_view name) {
  return std::filesystem::path(LAPIDARY_GOLDEN_DIR) / name;
}

// A whole file.
inline std::string ReadGoldenText(std::string_view name) {
  std::ifstream in(GoldenPath(name), std::ios::binary);
  if (!in) throw std::runtime_error("cannot read " + GoldenPath(name).string());
  return {std::istreambuf_iterator<char>(in), {}};
}

// Raw little-endian float32.
inline std::vector<float> ReadGoldenFloats(std::string_view name) {
  const std::string bytes = ReadGoldenText(name);
  if (bytes.size() % sizeof(float) != 0)
    throw std::runtime_error(StrCat(name, ": not whole floats"));
  std::vector<float> values(bytes.size() / sizeof(float));
  std::memcpy(values.data(), bytes.data(), bytes.size());
  return values;
}

// Whitespace-separated decimal ids.
inline std::vector<std::int32_t> ReadGoldenIds(std::string_view name) {
  std::istringstream in(ReadGoldenText(name));
  return {std::istream_iterator<std::int32_t>(in), {}};
}

inline nlohmann::json ReadGoldenJson(std::string_view name) {
  return nlohmann::json::parse(ReadGoldenText(name));
}

// ---- Tiny models ----

// The variants of tiny.json. The configs of odd_* are TinyOddModel's, of the others TinyModel's.
inline constexpr std::string_view kTinyVariants[] = {"f32",  "bf16", "f16",     "q8_0",    "q4_0",
                                                     "q5_0", "q4_k", "odd_f32", "odd_q8_0"};

// What transformers in float32 says of a tiny model and a prompt of 70 ids.
struct TinyGolden {
  Config config;
  TinyFormats formats;
  std::uint64_t data_hash = 0;           // DataHash of the model's file
  std::vector<std::int32_t> ids;         // the prompt
  std::vector<std::int32_t> best;        // per id: which next id has the largest logit
  std::vector<std::size_t> rows;         // positions in `ids` whose logits were kept
  std::vector<float> logits;             // [rows, vocabulary]
  std::vector<std::size_t> hidden_rows;  // F32 variants: positions whose residual stream was kept
  std::vector<float>
      hidden;  // [layers + 1, hidden_rows, width]: in front of layer 0, then after each

  std::span<const float> logits_of(std::size_t row_index) const {
    const auto vocabulary = static_cast<std::size_t>(config.vocabulary);
    return std::span(logits).subspan(row_index * vocabulary, vocabulary);
  }
  // after = 0: the embedding, 1: the output of layer 0, ...
  std::span<const float> hidden_of(std::size_t after, std::size_t row_index) const {
    const auto width = static_cast<std::size_t>(config.width);
    return std::span(hidden).subspan((after * hidden_rows.size() + row_index) * width, width);
  }
};

namespace internal {

inline Config ConfigFromJson(const nlohmann::json& json) {
  Config config;
  json.at("layers").get_to(config.layers);
  json.at("width").get_to(config.width);
  json.at("ff_width").get_to(config.ff_width);
  json.at("heads").get_to(config.heads);
  json.at("kv_heads").get_to(config.kv_heads);
  json.at("head_dim").get_to(config.head_dim);
  json.at("query_pre_attn_scalar").get_to(config.query_pre_attn_scalar);
  json.at("window").get_to(config.window);
  json.at("global_every").get_to(config.global_every);
  json.at("context").get_to(config.context);
  json.at("vocabulary").get_to(config.vocabulary);
  json.at("rope_base_local").get_to(config.rope_base_local);
  json.at("rope_base_global").get_to(config.rope_base_global);
  json.at("rope_factor_global").get_to(config.rope_factor_global);
  json.at("norm_epsilon").get_to(config.norm_epsilon);
  return config;
}

inline Format FormatFromName(const std::string& name) {
  for (const QuantSpec* spec : kAllSpecs) {
    if (spec->name == name) return spec->format;
  }
  throw std::runtime_error("no format " + name);
}

}  // namespace internal

inline TinyGolden LoadTinyGolden(std::string_view variant) {
  const nlohmann::json json = ReadGoldenJson("tiny.json");
  const nlohmann::json& entry = json.at("variants").at(std::string(variant));
  TinyGolden golden;
  golden.config =
      internal::ConfigFromJson(json.at("configs").at(entry.at("config").get<std::string>()));
  const auto format = [&](const char* role) {
    return internal::FormatFromName(entry.at("formats").at(role).get<std::string>());
  };
  golden.formats = {.embedding = format("embedding"),
                    .query_key = format("query_key"),
                    .value = format("value"),
                    .attention_out = format("attention_out"),
                    .gate_up = format("gate_up"),
                    .down = format("down")};
  golden.data_hash = std::stoull(entry.at("data_hash").get<std::string>(), nullptr, 16);
  entry.at("ids").get_to(golden.ids);
  entry.at("best").get_to(golden.best);
  entry.at("rows").get_to(golden.rows);
  golden.logits = ReadGoldenFloats(entry.at("logits").get<std::string>());
  if (entry.contains("hidden")) {
    entry.at("hidden_rows").get_to(golden.hidden_rows);
    golden.hidden = ReadGoldenFloats(entry.at("hidden").get<std::string>());
  }
  const Config& c = golden.config;
  if (golden.logits.size() != golden.rows.size() * static_cast<std::size_t>(c.vocabulary) ||
      golden.hidden.size() != golden.hidden_rows.size() * static_cast<std::size_t>(c.layers + 1) *
                                  static_cast<std::size_t>(c.width)) {
    throw std::runtime_error(StrCat("golden ", variant, ": sizes do not fit the config"));
  }
  return golden;
}

// The model of a variant, as a file that a test may still change.
inline GgufBuilder TinyGgufBuilder(const TinyGolden& golden) {
  return TinyGgufBuilder(golden.config, golden.formats);
}

// ---- The real 270M ----

inline constexpr std::string_view kRealTexts[] = {"prose", "code", "spanish", "mixed"};

// A greedy continuation. margins: by how much the logit of each new id was ahead of the second
// best; an engine with rounding errors may part from the reference where it is small.
struct RealGreedy {
  std::string prompt;
  std::vector<std::int32_t> prompt_ids;
  std::vector<std::int32_t> new_ids;
  std::string new_text;
  std::vector<double> margins;
};

// The best next ids at a position, best first, with their natural log-probabilities.
struct RealTop {
  std::size_t position = 0;
  std::vector<std::int32_t> ids;
  std::vector<double> log_probabilities;
};

// What transformers says of a text.
struct RealText {
  std::vector<std::int32_t> ids;  // texts/NAME.ids, <bos> first
  double nll = 0;                 // natural, summed over ids 1 ..
  double perplexity = 0;
  std::vector<double> next_log_probabilities;  // [ids - 1]: of ids[i + 1] at position i
  std::vector<RealTop> top;                    // every 16th position
};

inline std::vector<RealGreedy> LoadRealGreedy() {
  const nlohmann::json json = ReadGoldenJson("real_270m.json");
  std::vector<RealGreedy> all;
  for (const nlohmann::json& entry : json.at("greedy")) {
    RealGreedy greedy;
    entry.at("prompt").get_to(greedy.prompt);
    entry.at("prompt_ids").get_to(greedy.prompt_ids);
    entry.at("new_ids").get_to(greedy.new_ids);
    entry.at("new_text").get_to(greedy.new_text);
    entry.at("margins").get_to(greedy.margins);
    all.push_back(std::move(greedy));
  }
  return all;
}

// name: one of kRealTexts.
inline RealText LoadRealText(std::string_view name) {
  const nlohmann::json json = ReadGoldenJson("real_270m.json");
  const nlohmann::json& entry = json.at("texts").at(std::string(name));
  RealText text;
  text.ids = ReadGoldenIds(StrCat("texts/", name, ".ids"));
  entry.at("nll").get_to(text.nll);
  entry.at("perplexity").get_to(text.perplexity);
  entry.at("next_log_probabilities").get_to(text.next_log_probabilities);
  for (const nlohmann::json& row : entry.at("top")) {
    text.top.push_back({row.at("position").get<std::size_t>(),
                        row.at("ids").get<std::vector<std::int32_t>>(),
                        row.at("log_probabilities").get<std::vector<double>>()});
  }
  if (text.ids.size() != entry.at("ids").get<std::size_t>() ||
      text.next_log_probabilities.size() + 1 != text.ids.size()) {
    throw std::runtime_error(StrCat("golden text ", name, ": numbers of ids differ"));
  }
  return text;
}

}  // namespace lapidary::testing

#endif  // LAPIDARY_TESTS_SUPPORT_GOLDEN_H_
