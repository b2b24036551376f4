// From the tensors of other formats to ours: which model a GGUF file holds, and what its tensors are
// called here.
#ifndef LAPIDARY_WEIGHTS_IMPORT_H_
#define LAPIDARY_WEIGHTS_IMPORT_H_

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <limits>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "lapidary/base/bytes.h"
#include "lapidary/base/result.h"
#include "lapidary/config/config.h"
#include "lapidary/config/models.h"
#include "lapidary/text/vocabulary.h"
#include "lapidary/weights/blob.h"
#include "lapidary/weights/gguf.h"
#include "lapidary/weights/quant.h"

namespace lapidary {

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

// A tensor of a source file under the name and in the shape that it gets here. Matrices are packed
// in the format that they have; vectors become f32.
struct ImportTensor {
  std::string name;
  SectionKind kind = SectionKind::kMatrix;
  Format format = Format::kF32;  // of the source
  std::size_t rows = 0;          // 1 for a vector
  std::size_t cols = 0;
  std::size_t source_rows = 0;  // rows that the source has; the others are zeros
  std::span<const std::uint8_t> source;
};

// Everything that a file holds, as views of its bytes.
struct Import {
  Config config;
  std::vector<ImportTensor> tensors;
  std::optional<Vocabulary> vocabulary;
  std::string license;
  std::vector<std::string> warnings;  // contradictions and what was left out, one line each
};

// Recognises a Gemma 3 model in a GGUF file.
//
// The tensors' shapes decide. If they are those of a published size, its Config holds, and metadata
// that says otherwise is reported in `warnings`. Any other shape gets its Config from the shapes
// and, for what shapes do not tell, from the metadata: window, context, RoPE, query scale
// (`attention.scale` or `attention.query_pre_attn_scalar`, else the head dim) and the pattern of
// layers. The result views `gguf`'s file.
//
// Errors: kUnsupported (another architecture, a tensor type that is not read, an output head of its
// own), kCorrupt (missing tensors, shapes that contradict each other, a broken tokenizer).
Result<Import> ImportGguf(const Gguf& gguf);

namespace internal {

// Whole numbers without an exponent, others with the fewest digits.
inline std::string NumberText(double number) {
  if (number == std::floor(number) && std::abs(number) < 1e15) {
    return StrCat(static_cast<std::int64_t>(number));
  }
  return StrCat(number);
}

// Reads a GGUF file as a Gemma 3 model, step by step; ImportGguf at the end of this file is the
// table of contents.
class GgufImporter {
 public:
  explicit GgufImporter(const Gguf& gguf) : gguf_(gguf) {}

  Status CheckArchitecture();
  Status ReadShapes();
  Status ChooseConfig();
  void CompareMetadata();
  Status CollectTensors();
  Status CheckOutputHead();
  Status ReadVocabulary();
  void ReadLicense();
  void ReportUnknownTensors();

  Import import;

 private:
  // Rows of zero mean a vector.
  struct Expected {
    std::string_view source;
    std::string_view name;
    std::int32_t rows;
    std::int32_t cols;
  };

  static Error Missing(std::string_view name) {
    return MakeError(ErrorCode::kCorrupt, "GGUF tensor ", name, " is missing");
  }

  Result<const GgufTensor*> Tensor(std::string_view name) {
    const GgufTensor* tensor = gguf_.FindTensor(name);
    if (tensor == nullptr) return Missing(name);
    used_.insert(tensor->name);
    return tensor;
  }

  Status Add(const std::string& source, std::string name, std::int32_t rows, std::int32_t cols);
  Status ReadLayerPattern();

  // The first of these keys that holds a number. One that holds something else is reported.
  std::optional<double> Number(std::initializer_list<std::string_view> keys) {
    for (const std::string_view key : keys) {
      const GgufValue* value = gguf_.Find(StrCat("gemma3.", key));
      if (value == nullptr) continue;
      if (const std::optional<double> number = value->Number()) return number;
      Warn("gemma3.", key, " has type ", value->TypeName(), ", expected a number");
    }
    return std::nullopt;
  }

  std::optional<double> QueryScale() {
    if (const auto number = Number({"attention.query_pre_attn_scalar"})) return number;
    // llama.cpp writes the factor itself.
    if (const auto scale = Number({"attention.scale"}); scale && *scale > 0) {
      return std::round(1 / (*scale * *scale));
    }
    return std::nullopt;
  }

  template <class... Parts>
  void Warn(const Parts&... parts) {
    std::string text = StrCat(parts...);
    // Several steps may look at the same value.
    std::vector<std::string>& all = import.warnings;
    if (std::find(all.begin(), all.end(), text) == all.end()) all.push_back(std::move(text));
  }

  const Gguf& gguf_;
  const KnownModel* known_ = nullptr;
  std::uint64_t embedding_rows_ = 0;
  std::set<std::string_view> used_;
};

inline Status GgufImporter::CheckArchitecture() {
  const GgufValue* value = gguf_.Find("general.architecture");
  const std::string_view architecture =
      value != nullptr ? value->Text().value_or("not a string") : "missing";
  if (architecture != "gemma3") {
    return MakeError(ErrorCode::kUnsupported, "GGUF metadata general.architecture is ",
                     Printable(architecture), ", expected gemma3",
                     architecture == "clip" ? " (this is the vision part of a model)" : "");
  }
  if (const GgufValue* parts = gguf_.Find("split.count");
      parts && parts->Integer().value_or(0) > 1) {
    return MakeError(ErrorCode::kUnsupported, "the file is one of ", *parts->Integer(),
                     " parts of a split GGUF, expected a whole one (join them first)");
  }
  return {};
}

// Fills the fields of the Config that shapes decide.
inline Status GgufImporter::ReadShapes() {
  constexpr std::uint64_t kMost = 1 << 24;  // above any dimension of any model
  std::uint64_t layers = 0;
  for (const GgufTensor& tensor : gguf_.tensors()) {
    if (tensor.dims[0] > kMost || tensor.dims[1] > kMost) {
      return MakeError(ErrorCode::kCorrupt, "GGUF tensor ", Printable(tensor.name), ": the shape ",
                       tensor.ShapeText(), " is larger than that of any model");
    }
    // "blk.17.attn_q.weight": a number of more than four digits is no layer of any model.
    std::string_view name = tensor.name;
    if (!name.starts_with("blk.")) continue;
    name.remove_prefix(4);
    std::uint64_t layer = 0;
    std::size_t digits = 0;
    while (digits < std::min<std::size_t>(name.size(), 4) && name[digits] >= '0' &&
           name[digits] <= '9') {
      layer = layer * 10 + static_cast<std::uint64_t>(name[digits++] - '0');
    }
    const bool number = digits > 0 && digits < name.size() && name[digits] == '.';
    if (number) layers = std::max(layers, layer + 1);
  }
  Config& config = import.config;
  const auto shape = [&](std::string_view name, std::uint64_t& rows,
                         std::uint64_t& cols) -> Status {
    Result<const GgufTensor*> tensor = Tensor(name);
    if (!tensor) return tensor.error();
    rows = (*tensor)->rows();
    cols = (*tensor)->cols();
    return {};
  };
  std::uint64_t width = 0, ff_width = 0, queries = 0, keys = 0, head_dim = 0, one = 0;
  if (Status s = shape("token_embd.weight", embedding_rows_, width); !s) return s;
  if (layers == 0) return Missing("blk.0.attn_q.weight");
  if (Status s = shape("blk.0.ffn_gate.weight", ff_width, width); !s) return s;
  if (Status s = shape("blk.0.attn_k.weight", keys, width); !s) return s;
  if (Status s = shape("blk.0.attn_q.weight", queries, width); !s) return s;
  if (Status s = shape("blk.0.attn_q_norm.weight", one, head_dim); !s) return s;
  if (Status s = shape("token_embd.weight", embedding_rows_, width); !s) return s;
  if (queries % head_dim != 0 || keys % head_dim != 0) {
    return MakeError(ErrorCode::kCorrupt, "GGUF tensors of layer 0: ", queries, " query and ", keys,
                     " key outputs are no whole heads of ", head_dim, " (blk.0.attn_q_norm)");
  }
  if (const auto blocks = Number({"block_count"});
      blocks && *blocks > static_cast<double>(layers)) {
    return MakeError(ErrorCode::kCorrupt, "gemma3.block_count is ", NumberText(*blocks),
                     ", but the file has tensors of only ", layers, " layers");
  }
  config.layers = static_cast<std::int32_t>(layers);
  config.width = static_cast<std::int32_t>(width);
  config.ff_width = static_cast<std::int32_t>(ff_width);
  config.heads = static_cast<std::int32_t>(queries / head_dim);
  config.kv_heads = static_cast<std::int32_t>(keys / head_dim);
  config.head_dim = static_cast<std::int32_t>(head_dim);
  config.vocabulary = static_cast<std::int32_t>(embedding_rows_);
  return {};
}

inline Status GgufImporter::ChooseConfig() {
  Config& config = import.config;
  for (const KnownModel& model : kKnownModels) {
    const Config& other = model.config;
    if (config.layers == other.layers && config.width == other.width &&
        config.ff_width == other.ff_width && config.heads == other.heads &&
        config.kv_heads == other.kv_heads && config.head_dim == other.head_dim) {
      known_ = &model;
    }
  }
  if (known_ != nullptr) {
    const std::int32_t rows = config.vocabulary;
    config = known_->config;
    if (rows == config.vocabulary) return {};
    // Some converters drop the rows behind the pieces of text, ids 262144 and up. Nothing ever
    // samples or reads those, so that zeros stand in for them.
    if (rows >= Gemma3_1B::kConfig.vocabulary && rows < config.vocabulary) {
      Warn("the embedding has ", rows, " rows, ", known_->name, " has ", config.vocabulary,
           ": the rest is filled with zeros");
    } else {
      Warn("the embedding has ", rows, " rows, ", known_->name, " has ", config.vocabulary,
           ": taken as a model with another vocabulary");
      config.vocabulary = rows;
    }
    return {};
  }

  const auto whole = [&](std::initializer_list<std::string_view> keys,
                         std::optional<std::int32_t> otherwise, std::int32_t& field) -> Status {
    const std::optional<double> number = Number(keys);
    if (!number && otherwise) {
      field = *otherwise;
      return {};
    }
    if (!number || *number != std::floor(*number) || *number < 1 ||
        *number > std::numeric_limits<std::int32_t>::max()) {
      return MakeError(ErrorCode::kCorrupt, "GGUF metadata gemma3.", *keys.begin(), " is ",
                       number ? NumberText(*number) : "missing",
                       ", expected a positive whole number");
    }
    field = static_cast<std::int32_t>(*number);
    return {};
  };
  if (Status s = whole({"context_length"}, std::nullopt, config.context); !s) return s;
  if (Status s = whole({"attention.sliding_window"}, std::nullopt, config.window); !s) return s;
  config.window = std::min(config.window, config.context);
  config.query_pre_attn_scalar = config.head_dim;
  if (const auto scalar = QueryScale()) {
    if (!(*scalar >= 1 && *scalar <= 1 << 20) || *scalar != std::floor(*scalar)) {
      return MakeError(ErrorCode::kCorrupt, "the query scale of the GGUF metadata is ",
                       NumberText(*scalar), "^-1/2, expected a whole number from 1 to 2^20");
    }
    config.query_pre_attn_scalar = static_cast<std::int32_t>(*scalar);
  }
  const Config standard;
  config.rope_base_local =
      Number({"rope.freq_base_swa", "rope.local.freq_base"}).value_or(standard.rope_base_local);
  config.rope_base_global =
      Number({"rope.freq_base", "rope.global.freq_base"}).value_or(standard.rope_base_global);
  config.rope_factor_global = Number({"rope.scaling.factor"}).value_or(standard.rope_factor_global);
  config.norm_epsilon =
      Number({"attention.layer_norm_rms_epsilon"}).value_or(standard.norm_epsilon);
  if (const GgufValue* type = gguf_.Find("gemma3.rope.scaling.type")) {
    const std::string_view text = type->Text().value_or("not a string");
    if (text != "linear" && text != "none") {
      return MakeError(ErrorCode::kUnsupported, "GGUF metadata gemma3.rope.scaling.type is ",
                       Printable(text), ", expected linear or none");
    }
    if (text == "none") config.rope_factor_global = 1;
  }
  if (Status s = ReadLayerPattern(); !s) return s;
  return CheckConfig(config);
}

// A number n ("every n-th layer is global") or one bool per layer ("this one is local").
inline Status GgufImporter::ReadLayerPattern() {
  constexpr std::string_view kKey = "gemma3.attention.sliding_window_pattern";
  Config& config = import.config;
  const GgufValue* value = gguf_.Find(kKey);
  if (value == nullptr) return {};
  const auto bad = [&](const auto&... parts) {
    return MakeError(ErrorCode::kUnsupported, "GGUF metadata ", kKey, " ", parts...);
  };
  if (value->element_type() == GgufType::kString) return bad("has type ", value->TypeName());
  if (!value->is_array()) {
    const std::int64_t every = value->Integer().value_or(0);
    if (every < 1 || every > 1 << 20) return bad("is ", every, ", expected a positive number");
    config.global_every = static_cast<std::int32_t>(every);
    return {};
  }
  if (value->size() != static_cast<std::size_t>(config.layers)) {
    return bad("has ", value->size(), " entries, expected one for each of ", config.layers,
               " layers");
  }
  // Without a global layer the first one would come after the last.
  config.global_every = config.layers + 1;
  for (std::int32_t i = config.layers; i-- > 0;) {
    if (value->NumberAt(static_cast<std::size_t>(i)) == 0) config.global_every = i + 1;
  }
  for (std::int32_t i = 0; i < config.layers; ++i) {
    const bool local = value->NumberAt(static_cast<std::size_t>(i)) != 0;
    if (local != (KindOfLayer(config, i) == LayerKind::kLocal)) {
      return bad("is not regular: layer ", i, " is ", local ? "local" : "global", ", the first ",
                 config.global_every, " layers let expect the opposite");
    }
  }
  return {};
}

inline void GgufImporter::CompareMetadata() {
  const Config& config = import.config;
  const std::string_view model = known_ != nullptr ? known_->name : "the shape of the tensors";
  // f32 metadata: equal is what rounds to the same f32.
  const auto compare = [&](std::initializer_list<std::string_view> keys, double wanted,
                           std::optional<double> absent = std::nullopt) {
    const std::optional<double> found = Number(keys);
    if (!found && !absent) return;
    if (static_cast<float>(found.value_or(absent.value_or(0))) == static_cast<float>(wanted))
      return;
    Warn("gemma3.", *keys.begin(), " is ",
         found ? NumberText(*found) : StrCat("missing, which means ", NumberText(*absent)), ", ",
         model, " uses ", NumberText(wanted));
  };
  compare({"block_count"}, config.layers);
  compare({"embedding_length"}, config.width);
  compare({"feed_forward_length"}, config.ff_width);
  compare({"attention.head_count"}, config.heads);
  compare({"attention.head_count_kv"}, config.kv_heads);
  compare({"attention.key_length"}, config.head_dim);
  compare({"attention.value_length"}, config.head_dim);
  if (known_ != nullptr) {
    compare({"context_length"}, config.context);
    compare({"attention.sliding_window"}, config.window);
    compare({"attention.layer_norm_rms_epsilon"}, config.norm_epsilon);
    compare({"rope.freq_base", "rope.global.freq_base"}, config.rope_base_global);
    compare({"rope.freq_base_swa", "rope.local.freq_base"}, config.rope_base_local);
    compare({"rope.scaling.factor"}, config.rope_factor_global, 1);
    if (const auto scalar = QueryScale(); scalar && *scalar != config.query_pre_attn_scalar) {
      Warn("the query scale of the GGUF metadata is ", NumberText(*scalar), "^-1/2, ", model,
           " uses ", config.query_pre_attn_scalar, "^-1/2");
    }
  }
  // The library stops at 1 and 106 and begins with 2, whatever the file says.
  if (config.vocabulary < Gemma3_1B::kConfig.vocabulary) return;
  for (const auto& [key, first, second] : {std::tuple("tokenizer.ggml.bos_token_id", 2, 2),
                                           std::tuple("tokenizer.ggml.eos_token_id", 1, 106)}) {
    const GgufValue* value = gguf_.Find(key);
    const std::optional<std::int64_t> id = value != nullptr ? value->Integer() : std::nullopt;
    if (id && *id != first && *id != second) Warn(key, " is ", *id, ", Gemma 3 uses ", first);
  }
}

inline Status GgufImporter::Add(const std::string& source, std::string name, std::int32_t rows,
                                std::int32_t cols) {
  Result<const GgufTensor*> found = Tensor(source);
  if (!found) return found.error();
  const GgufTensor& tensor = **found;
  const QuantSpec* spec = FindSpec(tensor.type.number);
  const bool vector = rows == 0;
  if (spec == nullptr || (vector && !spec->is_float())) {
    std::string readable;
    for (const QuantSpec* known : kAllSpecs) {
      if (!vector || known->is_float())
        readable += StrCat(readable.empty() ? "" : ", ", known->name);
    }
    return MakeError(ErrorCode::kUnsupported, "GGUF tensor ", source, " has type ",
                     tensor.type.name, ", expected one of ", readable);
  }
  ImportTensor out;
  out.name = std::move(name);
  out.kind = vector ? SectionKind::kVector : SectionKind::kMatrix;
  out.format = spec->format;
  out.rows = vector ? 1 : static_cast<std::size_t>(rows);
  out.cols = static_cast<std::size_t>(cols);
  out.source_rows = static_cast<std::size_t>(tensor.rows());
  out.source = tensor.bytes;
  const bool padded = source == "token_embd.weight" && tensor.rows() == embedding_rows_;
  if (!tensor.is_matrix() || tensor.cols() != out.cols || (tensor.rows() != out.rows && !padded)) {
    return MakeError(ErrorCode::kCorrupt, "GGUF tensor ", source, ": expected the shape ",
                     vector ? StrCat("[", cols, "]") : StrCat("[", rows, ", ", cols, "]"),
                     ", found ", tensor.ShapeText());
  }
  import.tensors.push_back(std::move(out));
  return {};
}

inline Status GgufImporter::CollectTensors() {
  const Config& c = import.config;
  if (Status s = Add("token_embd.weight", "embedding", c.vocabulary, c.width); !s) return s;
  const Expected layer[] = {
      {"attn_norm", "attention_norm", 0, c.width},
      {"attn_q", "q", c.queries_width(), c.width},
      {"attn_k", "k", c.kv_width(), c.width},
      {"attn_v", "v", c.kv_width(), c.width},
      {"attn_q_norm", "q_norm", 0, c.head_dim},
      {"attn_k_norm", "k_norm", 0, c.head_dim},
      {"attn_output", "attention_out", c.width, c.queries_width()},
      {"post_attention_norm", "post_attention_norm", 0, c.width},
      {"ffn_norm", "ff_norm", 0, c.width},
      {"ffn_gate", "gate", c.ff_width, c.width},
      {"ffn_up", "up", c.ff_width, c.width},
      {"ffn_down", "down", c.width, c.ff_width},
      {"post_ffw_norm", "post_ff_norm", 0, c.width},
  };
  for (std::int32_t i = 0; i < c.layers; ++i) {
    for (const Expected& expected : layer) {
      if (Status s = Add(StrCat("blk.", i, ".", expected.source, ".weight"),
                         StrCat("layers.", i, ".", expected.name), expected.rows, expected.cols);
          !s) {
        return s;
      }
    }
  }
  return Add("output_norm.weight", "final_norm", 0, c.width);
}

// Gemma 3 has one matrix for embedding and output. Some tools write it twice.
inline Status GgufImporter::CheckOutputHead() {
  const GgufTensor* head = gguf_.FindTensor("output.weight");
  if (head == nullptr) return {};
  used_.insert(head->name);
  const GgufTensor& embedding = *gguf_.FindTensor("token_embd.weight");
  const bool same =
      head->type.number == embedding.type.number && head->dims == embedding.dims &&
      std::memcmp(head->bytes.data(), embedding.bytes.data(), head->bytes.size()) == 0;
  if (same) return {};
  return MakeError(ErrorCode::kUnsupported, "GGUF tensor output.weight (", head->type.name, " ",
                   head->ShapeText(), ") differs from token_embd.weight (", embedding.type.name,
                   " ", embedding.ShapeText(),
                   "), expected one matrix for both, as Gemma 3 has it");
}

inline Status GgufImporter::ReadVocabulary() {
  const auto corrupt = [](std::string_view key, const auto&... parts) {
    return MakeError(ErrorCode::kCorrupt, "GGUF metadata tokenizer.ggml.", key, " ", parts...);
  };
  const GgufValue* tokens = gguf_.Find("tokenizer.ggml.tokens");
  const GgufValue* scores = gguf_.Find("tokenizer.ggml.scores");
  const GgufValue* types = gguf_.Find("tokenizer.ggml.token_type");
  const GgufValue* model = gguf_.Find("tokenizer.ggml.model");
  if (tokens == nullptr) {
    Warn("the file has no tokenizer (tokenizer.ggml.tokens is missing)");
    return {};
  }
  if (model != nullptr && model->Text() != "llama") {
    Warn("the tokenizer is left out: tokenizer.ggml.model is ",
         Printable(model->Text().value_or("not a string")), ", expected llama (sentencepiece)");
    return {};
  }
  if (scores == nullptr) {
    Warn("the tokenizer is left out: tokenizer.ggml.scores is missing");
    return {};
  }
  if (!tokens->is_array() || tokens->element_type() != GgufType::kString) {
    return corrupt("tokens", "has type ", tokens->TypeName(), ", expected array of string");
  }
  // Some files hold the numbers in other types than the usual float32 and int32.
  for (const auto& [key, array] : {std::pair("scores", scores), std::pair("token_type", types)}) {
    if (array == nullptr) continue;
    if (!array->is_array() || array->element_type() == GgufType::kString) {
      return corrupt(key, "has type ", array->TypeName(), ", expected array of numbers");
    }
    if (array->size() != tokens->size()) {
      return corrupt(key, "has ", array->size(), " entries, tokenizer.ggml.tokens has ",
                     tokens->size());
    }
  }
  Vocabulary vocabulary;
  vocabulary.pieces = tokens->Strings();
  const auto rows = static_cast<std::size_t>(import.config.vocabulary);
  if (vocabulary.pieces.size() > rows) {
    Warn("the tokenizer has ", vocabulary.pieces.size(), " pieces, the embedding ", rows,
         " rows: pieces without a row are left out");
    vocabulary.pieces.resize(rows);
  }
  std::uint64_t text_bytes = 0;
  for (const std::string_view piece : vocabulary.pieces) text_bytes += piece.size();
  if (text_bytes > std::numeric_limits<std::uint32_t>::max()) {
    return corrupt("tokens", "has ", text_bytes, " bytes of text, more than any tokenizer");
  }
  const std::size_t count = vocabulary.pieces.size();
  vocabulary.scores.reserve(count);
  for (std::size_t i = 0; i < count; ++i) {
    const double score = scores->NumberAt(i);
    if (std::isnan(score)) return corrupt("scores", "is not a number at ", i);
    vocabulary.scores.push_back(static_cast<float>(score));
  }
  if (types == nullptr) Warn("tokenizer.ggml.token_type is missing: all pieces are taken as text");
  vocabulary.types.assign(count, PieceType::kNormal);
  for (std::size_t i = 0; types != nullptr && i < count; ++i) {
    const double type = types->NumberAt(i);
    if (!(type >= 1 && type <= 6) || type != std::floor(type)) {
      return corrupt("token_type", "is ", type, " at ", i, ", expected 1 to 6");
    }
    vocabulary.types[i] = static_cast<PieceType>(static_cast<int>(type));
  }
  import.vocabulary = std::move(vocabulary);
  return {};
}

inline void GgufImporter::ReadLicense() {
  constexpr std::string_view kGemmaNotice =
      "Gemma is provided under and subject to the Gemma Terms of Use found at "
      "ai.google.dev/gemma/terms";
  std::string_view license;
  if (const GgufValue* value = gguf_.Find("general.license")) license = value->Text().value_or("");
  // The terms ask to hand on this sentence with the weights (section 3.1).
  if (license == "gemma" || (license.empty() && known_ != nullptr)) license = kGemmaNotice;
  import.license = license.substr(0, 1000);
}

inline void GgufImporter::ReportUnknownTensors() {
  constexpr std::size_t kMostNames = 8;
  std::string names;
  std::size_t unknown = 0;
  for (const GgufTensor& tensor : gguf_.tensors()) {
    if (used_.contains(tensor.name)) continue;
    if (unknown++ < kMostNames) names += StrCat(names.empty() ? "" : ", ", Printable(tensor.name));
  }
  if (unknown == 0) return;
  Warn(unknown, " tensors are not part of a Gemma 3 decoder and left out: ", names,
       unknown > kMostNames ? ", ..." : "");
}

}  // namespace internal

inline Result<Import> ImportGguf(const Gguf& gguf) {
  internal::GgufImporter importer(gguf);
  if (Status status = importer.CheckArchitecture(); !status) return status.error();
  if (Status status = importer.ReadShapes(); !status) return status.error();
  if (Status status = importer.ChooseConfig(); !status) return status.error();
  importer.CompareMetadata();
  if (Status status = importer.CollectTensors(); !status) return status.error();
  if (Status status = importer.CheckOutputHead(); !status) return status.error();
  if (Status status = importer.ReadVocabulary(); !status) return status.error();
  importer.ReadLicense();
  importer.ReportUnknownTensors();
  return std::move(importer.import);
}

}  // namespace lapidary

#endif  // LAPIDARY_WEIGHTS_IMPORT_H_
