// From the tensors of other formats to ours: which model a file holds, and what its tensors are
// called here. What is common to all kinds of file is in this header; import_gguf.h and import_hf.h
// read one kind each.
#ifndef LAPIDARY_WEIGHTS_IMPORT_H_
#define LAPIDARY_WEIGHTS_IMPORT_H_

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
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
#include "lapidary/weights/quant.h"
#include "lapidary/weights/tensor_table.h"

namespace lapidary {

// The format in which a matrix of a format is packed. The embedding is also the output head, of
// which most rows need their high bits only.
inline Format StoredFormat(std::string_view name, Format format) {
  return name == "embedding" && format == Format::kQ8_0 ? Format::kQ8_0Planes : format;
}

// A tensor of a source file under the name and in the shape that it gets here.
struct ImportTensor {
  std::string name;
  SectionKind kind = SectionKind::kMatrix;
  Format format = Format::kF32;         // here; that of the source unless a conversion changes it
  Format source_format = Format::kF32;  // of the source
  std::size_t rows = 0;                 // 1 for a vector
  std::size_t cols = 0;
  std::size_t source_rows = 0;  // rows that the source has; the others are zeros
  bool transposed = false;      // the source is [cols, rows]
  bool less_one = false;        // the source holds a gain minus 1
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

namespace internal {

// Whole numbers without an exponent, others with the fewest digits.
inline std::string NumberText(double number) {
  if (number == std::floor(number) && std::abs(number) < 1e15) {
    return std::to_string(static_cast<std::int64_t>(number));
  }
  return StrCat(number);
}

// The decoder's tensors in one kind of file.
struct DecoderNames {
  std::string_view embedding, final_norm;
  std::string_view output_head;            // where there is one
  std::string_view layer;                  // in front of the number of a layer
  std::array<std::string_view, 13> parts;  // behind it; in the order of DecoderParts
};

// A tensor that a model must have.
struct Wanted {
  std::string source;  // its name in the source
  std::string name;    // and here
  std::int32_t rows;   // 0: a vector
  std::int32_t cols;
  bool transposed = false;   // see ImportTensor
  bool less_one = false;     // see ImportTensor
  bool convolution = false;  // the source is [rows, ..., ...] of `cols` values in all
};

// What one entry of a file's metadata says, under its name there.
struct Claim {
  std::string key;
  std::optional<double> value;
};

// What metadata says about a model. Shapes decide most of it, a published size the rest.
struct Claims {
  Claim layers, width, ff_width, heads, kv_heads, head_dim, value_dim;
  Claim context, window, query_scalar, rope_base_local, rope_base_global, rope_factor, norm_epsilon;
  std::string rope_type = "linear";  // or "none"; anything else is not supported
  Claim global_every;
  std::vector<bool> local_layers;  // or, under the same key, one entry per layer
};

// Once, though several steps may look at the same value.
inline void AddWarning(Import& import, std::string text) {
  std::vector<std::string>& all = import.warnings;
  if (std::find(all.begin(), all.end(), text) == all.end()) all.push_back(std::move(text));
}

// Collects a Gemma 3 model from a table of tensors, step by step. Each kind of file adds how it
// reads its metadata.
class Importer {
 public:
  Importer(const TensorTable& tensors, const DecoderNames& names)
      : tensors_(tensors), names_(names) {}

  Status ReadShapes();
  Status ChooseConfig(const Claims& claims);
  void CompareClaims(const Claims& claims);
  Status CollectDecoder(bool norms_less_one);
  Status CheckOutputHead();
  Status Add(const Wanted& wanted);
  void ReportUnknownTensors();

  const KnownModel* known() const { return known_; }

  template <class... Parts>
  void Warn(const Parts&... parts) {
    AddWarning(import, StrCat(parts...));
  }

  Import import;

 private:
  Result<const SourceTensor*> Find(std::string_view name) {
    const SourceTensor* tensor = tensors_.Find(name);
    if (tensor == nullptr) {
      return MakeError(ErrorCode::kCorrupt, "tensor ", name, " is missing");
    }
    used_.insert(tensor->name);
    return tensor;
  }
  Result<std::uint64_t> CountLayers() const;
  Result<std::int32_t> ReadPattern(const Claims& claims) const;
  Status ReadCustomConfig(const Claims& claims);

  const TensorTable& tensors_;
  const DecoderNames names_;
  const KnownModel* known_ = nullptr;
  std::uint64_t embedding_rows_ = 0;
  std::set<std::string_view> used_;
};

// One more than the largest number of a layer among the tensors' names.
inline Result<std::uint64_t> Importer::CountLayers() const {
  constexpr std::uint64_t kMost = 1 << 24;  // above any dimension of any model
  std::uint64_t layers = 0;
  for (const SourceTensor& tensor : tensors_.all()) {
    if (tensor.dims[0] > kMost || tensor.dims[1] > kMost) {
      return MakeError(ErrorCode::kCorrupt, "tensor ", Printable(tensor.name), ": the shape ",
                       tensor.ShapeText(), " is larger than that of any model");
    }
    // "blk.17.attn_q.weight": a number of more than four digits is no layer of any model.
    std::string_view name = tensor.name;
    if (!name.starts_with(names_.layer)) continue;
    name.remove_prefix(names_.layer.size());
    std::uint64_t layer = 0;
    std::size_t digits = 0;
    while (digits < std::min<std::size_t>(name.size(), 4) && name[digits] >= '0' &&
           name[digits] <= '9') {
      layer = layer * 10 + static_cast<std::uint64_t>(name[digits++] - '0');
    }
    const bool number = digits > 0 && digits < name.size() && name[digits] == '.';
    if (number) layers = std::max(layers, layer + 1);
  }
  return layers;
}

// Fills the fields of the Config that shapes decide, and finds the published size that has them.
inline Status Importer::ReadShapes() {
  const Result<std::uint64_t> layers = CountLayers();
  if (!layers) return layers.error();
  const auto in_layer = [&](std::size_t part) {
    return StrCat(names_.layer, 0, ".", names_.parts[part]);
  };
  // See DecoderParts: q, k, q_norm, gate.
  const std::string sources[] = {std::string(names_.embedding), in_layer(1), in_layer(2),
                                 in_layer(4), in_layer(9)};
  const SourceTensor* tensors[std::size(sources)];
  for (std::size_t i = 0; i < std::size(sources); ++i) {
    const Result<const SourceTensor*> found = Find(sources[i]);
    if (!found) return found.error();
    tensors[i] = *found;
  }
  const auto& [embedding, q, k, q_norm, gate] = tensors;
  embedding_rows_ = embedding->rows();
  const std::uint64_t head_dim = q_norm->cols();
  if (head_dim == 0 || q->rows() % head_dim != 0 || k->rows() % head_dim != 0) {
    return MakeError(ErrorCode::kCorrupt, "the tensors of layer 0: ", q->rows(), " query and ",
                     k->rows(), " key outputs are no whole heads of ", head_dim, " (", sources[3],
                     ")");
  }
  Config& config = import.config;
  config.layers = static_cast<std::int32_t>(*layers);
  config.width = static_cast<std::int32_t>(embedding->cols());
  config.ff_width = static_cast<std::int32_t>(gate->rows());
  config.heads = static_cast<std::int32_t>(q->rows() / head_dim);
  config.kv_heads = static_cast<std::int32_t>(k->rows() / head_dim);
  config.head_dim = static_cast<std::int32_t>(head_dim);
  config.vocabulary = static_cast<std::int32_t>(embedding_rows_);
  for (const KnownModel& model : kKnownModels) {
    const Config& other = model.config;
    if (config.layers == other.layers && config.width == other.width &&
        config.ff_width == other.ff_width && config.heads == other.heads &&
        config.kv_heads == other.kv_heads && config.head_dim == other.head_dim) {
      known_ = &model;
    }
  }
  return {};
}

inline Status Importer::ChooseConfig(const Claims& claims) {
  Config& config = import.config;
  if (claims.layers.value && *claims.layers.value > config.layers) {
    return MakeError(ErrorCode::kCorrupt, claims.layers.key, " is ",
                     NumberText(*claims.layers.value), ", but the file has tensors of only ",
                     config.layers, " layers");
  }
  if (known_ == nullptr) return ReadCustomConfig(claims);
  const std::int32_t rows = config.vocabulary;
  config = known_->config;
  if (rows == config.vocabulary) return {};
  // Rows behind the pieces of text, ids 262144 and up, belong to no text: nothing ever samples or
  // reads them. Some converters drop those of the larger sizes, some tools fill the smaller ones up
  // to a multiple of 64.
  const std::int32_t text = Gemma3_1B::kConfig.vocabulary;
  const std::int32_t most = Gemma3_4B::kConfig.vocabulary;
  const char* what = ": taken as a model with another vocabulary";
  if (rows >= text && rows <= most) {
    what = rows < config.vocabulary ? ": the rest is filled with zeros" : ": the rest is left out";
  } else {
    config.vocabulary = rows;
  }
  Warn("the embedding has ", rows, " rows, ", known_->name, " has ", known_->config.vocabulary,
       what);
  return CheckConfig(config);
}

// What shapes do not tell, for a model that is none of the published sizes.
inline Status Importer::ReadCustomConfig(const Claims& claims) {
  Config& config = import.config;
  const auto whole = [&](const Claim& claim, std::int32_t& field) -> Status {
    const std::optional<double>& number = claim.value;
    if (!number || *number != std::floor(*number) || *number < 1 ||
        *number > std::numeric_limits<std::int32_t>::max()) {
      return MakeError(ErrorCode::kCorrupt, claim.key, " is ",
                       number ? NumberText(*number) : "missing",
                       ", expected a positive whole number");
    }
    field = static_cast<std::int32_t>(*number);
    return {};
  };
  if (Status s = whole(claims.context, config.context); !s) return s;
  if (Status s = whole(claims.window, config.window); !s) return s;
  config.window = std::min(config.window, config.context);
  config.query_pre_attn_scalar = config.head_dim;
  if (const std::optional<double>& scalar = claims.query_scalar.value) {
    if (!(*scalar >= 1 && *scalar <= 1 << 20) || *scalar != std::floor(*scalar)) {
      return MakeError(ErrorCode::kCorrupt, "the query scale of ", claims.query_scalar.key, " is ",
                       NumberText(*scalar), "^-1/2, expected a whole number from 1 to 2^20");
    }
    config.query_pre_attn_scalar = static_cast<std::int32_t>(*scalar);
  }
  config.rope_base_local = claims.rope_base_local.value.value_or(config.rope_base_local);
  config.rope_base_global = claims.rope_base_global.value.value_or(config.rope_base_global);
  config.rope_factor_global = claims.rope_factor.value.value_or(config.rope_factor_global);
  config.norm_epsilon = claims.norm_epsilon.value.value_or(config.norm_epsilon);
  if (claims.rope_type != "linear" && claims.rope_type != "none") {
    return MakeError(ErrorCode::kUnsupported, "the type of RoPE scaling is ",
                     Printable(claims.rope_type), ", expected linear or none");
  }
  if (claims.rope_type == "none") config.rope_factor_global = 1;
  const Result<std::int32_t> every = ReadPattern(claims);
  if (!every) return every.error();
  config.global_every = *every;
  return CheckConfig(config);
}

// A number n ("every n-th layer is global") or one entry per layer ("this one is local").
inline Result<std::int32_t> Importer::ReadPattern(const Claims& claims) const {
  const auto bad = [&](const auto&... parts) {
    return MakeError(ErrorCode::kUnsupported, claims.global_every.key, " ", parts...);
  };
  Config config = import.config;
  const std::vector<bool>& local = claims.local_layers;
  if (local.empty()) {
    const double every = claims.global_every.value.value_or(Config().global_every);
    if (!(every >= 1 && every <= 1 << 20)) {
      return bad("is ", NumberText(every), ", expected a positive number");
    }
    return static_cast<std::int32_t>(every);
  }
  if (local.size() != static_cast<std::size_t>(config.layers)) {
    return bad("has ", local.size(), " entries, expected one for each of ", config.layers,
               " layers");
  }
  // Without a global layer the first one would come after the last.
  const auto first = std::find(local.begin(), local.end(), false) - local.begin();
  config.global_every = static_cast<std::int32_t>(first) + 1;
  for (std::int32_t i = 0; i < config.layers; ++i) {
    const bool is_local = local[static_cast<std::size_t>(i)];
    if (is_local != (KindOfLayer(config, i) == LayerKind::kLocal)) {
      return bad("is not regular: layer ", i, " is ", is_local ? "local" : "global", ", the first ",
                 config.global_every, " layers let expect the opposite");
    }
  }
  return config.global_every;
}

inline void Importer::CompareClaims(const Claims& claims) {
  const Config& config = import.config;
  const std::string_view model = known_ != nullptr ? known_->name : "the shape of the tensors";
  // Metadata of a GGUF file is f32: equal is what rounds to the same f32.
  const auto compare = [&](const Claim& claim, double wanted) {
    if (!claim.value || static_cast<float>(*claim.value) == static_cast<float>(wanted)) return;
    Warn(claim.key, " is ", NumberText(*claim.value), ", ", model, " uses ", NumberText(wanted));
  };
  compare(claims.layers, config.layers);
  compare(claims.width, config.width);
  compare(claims.ff_width, config.ff_width);
  compare(claims.heads, config.heads);
  compare(claims.kv_heads, config.kv_heads);
  compare(claims.head_dim, config.head_dim);
  compare(claims.value_dim, config.head_dim);
  if (known_ == nullptr) return;
  compare(claims.context, config.context);
  compare(claims.window, config.window);
  compare(claims.norm_epsilon, config.norm_epsilon);
  compare(claims.rope_base_global, config.rope_base_global);
  compare(claims.rope_base_local, config.rope_base_local);
  compare(claims.rope_factor, config.rope_factor_global);
  if (!claims.rope_factor.value && config.rope_factor_global != 1) {
    Warn(claims.rope_factor.key, " is missing, which means 1, ", model, " uses ",
         NumberText(config.rope_factor_global));
  }
  if (const std::optional<double>& scalar = claims.query_scalar.value;
      scalar && *scalar != config.query_pre_attn_scalar) {
    Warn("the query scale of ", claims.query_scalar.key, " is ", NumberText(*scalar), "^-1/2, ",
         model, " uses ", config.query_pre_attn_scalar, "^-1/2");
  }
  const Result<std::int32_t> every = ReadPattern(claims);
  if (!every) Warn(every.error().message);
  if (every && *every != config.global_every) {
    Warn(claims.global_every.key, " makes every layer ", *every, " global, ", model, " has one in ",
         config.global_every);
  }
}

inline Status Importer::Add(const Wanted& wanted) {
  const Result<const SourceTensor*> found = Find(wanted.source);
  if (!found) return found.error();
  const SourceTensor& tensor = **found;
  const QuantSpec* spec = FindSourceSpec(tensor.type.number);
  const bool vector = wanted.rows == 0;
  // Rows of blocks can neither be turned into columns nor changed one by one.
  const bool floats_only = vector || wanted.transposed;
  if (spec == nullptr || (floats_only && !spec->is_float())) {
    std::string readable;
    for (const QuantSpec* known : kAllSpecs) {
      if (known->is_in_planes() || (floats_only && !known->is_float())) continue;
      if (!readable.empty()) readable += ", ";
      readable += known->name;
    }
    return MakeError(ErrorCode::kUnsupported, "tensor ", wanted.source, " has type ",
                     tensor.type.name, ", expected one of ", readable);
  }
  ImportTensor out;
  out.name = wanted.name;
  out.kind = vector ? SectionKind::kVector : SectionKind::kMatrix;
  out.format = vector ? Format::kF32 : StoredFormat(wanted.name, spec->format);
  out.source_format = spec->format;
  out.rows = vector ? 1 : static_cast<std::size_t>(wanted.rows);
  out.cols = static_cast<std::size_t>(wanted.cols);
  out.transposed = wanted.transposed;
  out.less_one = wanted.less_one;
  out.source = tensor.bytes;
  std::uint64_t rows = tensor.rows(), cols = tensor.cols();
  bool matrix = tensor.is_matrix();
  if (wanted.convolution && tensor.dimensions == 4) {
    // Larger numbers than CountLayers lets pass cannot be right.
    rows = tensor.dims[3];
    cols = tensor.dims[0] * tensor.dims[1] * std::min<std::uint64_t>(tensor.dims[2], 1 << 12);
    matrix = true;
  }
  const bool padded = wanted.source == names_.embedding && rows == embedding_rows_;
  const std::uint64_t want_rows = out.transposed ? out.cols : out.rows;
  const std::uint64_t want_cols = out.transposed ? out.rows : out.cols;
  if (!matrix || cols != want_cols || (rows != want_rows && !padded)) {
    return MakeError(
        ErrorCode::kCorrupt, "tensor ", wanted.source, ": expected the shape ",
        vector ? StrCat("[", want_cols, "]") : StrCat("[", want_rows, ", ", want_cols, "]"),
        ", found ", tensor.ShapeText());
  }
  out.source_rows = out.transposed ? out.rows : static_cast<std::size_t>(rows);
  if (padded && out.source_rows > out.rows) {
    out.source = out.source.first(out.source.size() / out.source_rows * out.rows);
    out.source_rows = out.rows;
  }
  import.tensors.push_back(std::move(out));
  return {};
}

inline Status Importer::CollectDecoder(bool norms_less_one) {
  const Config& c = import.config;
  struct Part {
    std::string_view name;
    std::int32_t rows, cols;
  };
  // DecoderNames::parts has the same order.
  const Part parts[] = {
      {"attention_norm", 0, c.width},
      {"q", c.queries_width(), c.width},
      {"k", c.kv_width(), c.width},
      {"v", c.kv_width(), c.width},
      {"q_norm", 0, c.head_dim},
      {"k_norm", 0, c.head_dim},
      {"attention_out", c.width, c.queries_width()},
      {"post_attention_norm", 0, c.width},
      {"ff_norm", 0, c.width},
      {"gate", c.ff_width, c.width},
      {"up", c.ff_width, c.width},
      {"down", c.width, c.ff_width},
      {"post_ff_norm", 0, c.width},
  };
  const auto add = [&](std::string source, std::string name, std::int32_t rows,
                       std::int32_t cols) -> Status {
    return Add({.source = std::move(source),
                .name = std::move(name),
                .rows = rows,
                .cols = cols,
                .less_one = rows == 0 && norms_less_one});
  };
  const std::string embedding(names_.embedding);
  if (Status s = add(embedding, "embedding", c.vocabulary, c.width); !s) return s;
  for (std::int32_t i = 0; i < c.layers; ++i) {
    const std::string from = StrCat(names_.layer, i, ".");
    const std::string to = StrCat("layers.", i, ".");
    for (std::size_t p = 0; p < std::size(parts); ++p) {
      const auto& [name, rows, cols] = parts[p];
      std::string source = from + std::string(names_.parts[p]);
      if (Status s = add(std::move(source), to + std::string(name), rows, cols); !s) return s;
    }
  }
  return add(std::string(names_.final_norm), "final_norm", 0, c.width);
}

// Gemma 3 has one matrix for embedding and output. Some tools write it twice.
inline Status Importer::CheckOutputHead() {
  const SourceTensor* head = tensors_.Find(names_.output_head);
  if (head == nullptr) return {};
  used_.insert(head->name);
  const SourceTensor& embedding = *tensors_.Find(names_.embedding);
  const bool same =
      head->type.number == embedding.type.number && head->dims == embedding.dims &&
      std::memcmp(head->bytes.data(), embedding.bytes.data(), head->bytes.size()) == 0;
  if (same) return {};
  return MakeError(ErrorCode::kUnsupported, "tensor ", head->name, " (", head->type.name, " ",
                   head->ShapeText(), ") differs from ", embedding.name, " (", embedding.type.name,
                   " ", embedding.ShapeText(),
                   "), expected one matrix for both, as Gemma 3 has it");
}

// Takes a vocabulary as far as the embedding has rows.
inline Status AddVocabulary(Import& import, Vocabulary vocabulary) {
  const auto rows = static_cast<std::size_t>(import.config.vocabulary);
  if (vocabulary.pieces.size() > rows) {
    AddWarning(import,
               StrCat("the tokenizer has ", vocabulary.pieces.size(), " pieces, the embedding ",
                      rows, " rows: pieces without a row are left out"));
    vocabulary.pieces.resize(rows);
    vocabulary.scores.resize(rows);
    vocabulary.types.resize(rows);
  }
  std::uint64_t text_bytes = 0;
  for (const std::string_view piece : vocabulary.pieces) text_bytes += piece.size();
  if (text_bytes > std::numeric_limits<std::uint32_t>::max()) {
    return MakeError(ErrorCode::kCorrupt, "the tokenizer has ", text_bytes,
                     " bytes of text, more than any tokenizer");
  }
  import.vocabulary = std::move(vocabulary);
  return {};
}

// `license` is what the file says, or empty.
inline void AddLicense(Import& import, std::string_view license) {
  // The terms ask to hand on this sentence with the weights (section 3.1).
  constexpr std::string_view kGemmaNotice =
      "Gemma is provided under and subject to the Gemma Terms of Use found at "
      "ai.google.dev/gemma/terms";
  if (license == "gemma" || (license.empty() && NameOf(import.config) != "custom"))
    license = kGemmaNotice;
  import.license = license.substr(0, 1000);
}

inline void Importer::ReportUnknownTensors() {
  constexpr std::size_t kMostNames = 8;
  std::string names;
  std::size_t unknown = 0;
  for (const SourceTensor& tensor : tensors_.all()) {
    if (used_.contains(tensor.name)) continue;
    if (unknown++ >= kMostNames) continue;
    if (!names.empty()) names += ", ";
    names += Printable(tensor.name);
  }
  if (unknown == 0) return;
  Warn(unknown, " tensors are not part of a Gemma 3 model and left out: ", names,
       unknown > kMostNames ? ", ..." : "");
}

}  // namespace internal
}  // namespace lapidary

#endif  // LAPIDARY_WEIGHTS_IMPORT_H_
