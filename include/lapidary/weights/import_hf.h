// Recognises a Gemma 3 model in a Hugging Face folder: config.json, one or several safetensors
// files, and tokenizer.model or tokenizer.json.
#ifndef LAPIDARY_WEIGHTS_IMPORT_HF_H_
#define LAPIDARY_WEIGHTS_IMPORT_HF_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <initializer_list>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "lapidary/base/bytes.h"
#include "lapidary/base/file.h"
#include "lapidary/base/result.h"
#include "lapidary/config/config.h"
#include "lapidary/config/models.h"
#include "lapidary/weights/import.h"
#include "lapidary/weights/import_vision.h"
#include "lapidary/weights/json.h"
#include "lapidary/weights/safetensors.h"
#include "lapidary/weights/tensor_table.h"
#include "lapidary/weights/tokenizer_files.h"

namespace lapidary {

// A folder that was imported: `import` views the files and texts of this object. Movable.
struct HuggingFaceFolder {
  std::vector<InputFile> weights;  // sorted by name
  std::vector<Safetensors> headers;
  std::optional<InputFile> tokenizer;
  OwnedVocabulary vocabulary;  // of tokenizer.json
  Import import;
};

// Shapes decide which model it is, as in a GGUF file (see ImportGguf); config.json says what shapes
// do not tell of other models, and contradictions are reported. All spellings of names and of
// config.json are read that versions of transformers have written. The vision tower comes along
// where it is there.
//
// Errors name the file: kNotFound (no config.json, no weights, a missing shard), kUnsupported
// (another architecture, only an adapter, weights that bitsandbytes or another tool has quantised,
// an output head of its own, a soft cap), kCorrupt (missing tensors, shapes that contradict each
// other, broken files).
Result<HuggingFaceFolder> ImportHuggingFace(const std::filesystem::path& folder);

namespace internal {

inline constexpr DecoderNames kHuggingFaceNames = {
    .embedding = "embed_tokens.weight",
    .final_norm = "norm.weight",
    .output_head = "lm_head.weight",
    .layer = "layers.",
    .parts = {"input_layernorm.weight", "self_attn.q_proj.weight", "self_attn.k_proj.weight",
              "self_attn.v_proj.weight", "self_attn.q_norm.weight", "self_attn.k_norm.weight",
              "self_attn.o_proj.weight", "post_attention_layernorm.weight",
              "pre_feedforward_layernorm.weight", "mlp.gate_proj.weight", "mlp.up_proj.weight",
              "mlp.down_proj.weight", "post_feedforward_layernorm.weight"}};

// The name of a tensor without the modules around it, which versions of transformers nest
// differently: "model.", "language_model.model.", "model.language_model.",
// "vision_tower.vision_model.", "model.vision_tower.", "multi_modal_projector.", ... What is left
// is unambiguous: only the decoder has "layers.", only the tower "encoder.layers.", only the
// projector "mm_".
inline std::string_view BareName(std::string_view name) {
  constexpr std::string_view kModules[] = {
      "base_model.",   "model.",        "language_model.",        "vision_tower.",
      "vision_model.", "siglip_model.", "multi_modal_projector.", "multimodal_projector."};
  const auto around = [&name](std::string_view module) { return name.starts_with(module); };
  for (;;) {
    const auto module = std::find_if(std::begin(kModules), std::end(kModules), around);
    if (module == std::end(kModules)) return name;
    name.remove_prefix(module->size());
  }
}

// The kind of RoPE scaling in a dictionary of config.json, in the words of Claims.
inline std::string RopeType(const Json& rope) {
  std::string type = TextIn(rope, "rope_type").value_or(TextIn(rope, "type").value_or("default"));
  return type == "default" ? "none" : type;
}

class HuggingFaceImporter {
 public:
  explicit HuggingFaceImporter(const std::filesystem::path& folder) : path_(folder) {}

  Status ReadConfig();
  Status OpenWeights();
  Status ImportTensors();
  Status ReadTokenizer();

  HuggingFaceFolder result;

 private:
  bool Has(const char* name) const {
    std::error_code ignored;
    return std::filesystem::exists(path_ / name, ignored);
  }
  // Adds what a file is called to an error about it.
  static Error In(const std::string& name, const Error& error) {
    return Error{error.code, name + ": " + error.message};
  }
  Result<Json> ReadJson(const char* name) const {
    const Result<InputFile> file = InputFile::Open(path_ / name);
    if (!file) return file.error();
    return ParseJsonObject(file->bytes(), name);
  }
  Result<std::vector<std::string>> ListShards() const;
  Claims ReadClaims(bool custom) const;
  void ReadRope(Claims& claims) const;
  VisionConfig ReadVisionConfig() const;

  std::filesystem::path path_;
  Json config_;
  Json text_;  // the part of it about the decoder
  TensorTable tensors_;
};

inline Status HuggingFaceImporter::ReadConfig() {
  Result<Json> config = ReadJson("config.json");
  if (!config) {
    if (config.error().code == ErrorCode::kNotFound && Has("adapter_config.json")) {
      return MakeError(ErrorCode::kUnsupported,
                       "the folder holds only an adapter (adapter_config.json), expected a whole "
                       "model: merge the adapter into its base model first");
    }
    if (config.error().code == ErrorCode::kNotFound) {
      return MakeError(ErrorCode::kNotFound,
                       "expected a Hugging Face checkpoint, found a folder without config.json");
    }
    return config.error();
  }
  config_ = *std::move(config);
  const Json* const nested = Member(config_, "text_config");
  text_ = nested != nullptr ? *nested : config_;
  const auto unsupported = [](const auto&... parts) {
    return MakeError(ErrorCode::kUnsupported, "config.json: ", parts...);
  };
  const std::string type = TextIn(config_, "model_type").value_or("missing");
  if (type != "gemma3" && type != "gemma3_text") {
    return unsupported("model_type is ", Printable(type), ", expected gemma3 or gemma3_text");
  }
  for (const Json* json : {&config_, &text_}) {
    if (const Json* quantised = Member(*json, "quantization_config")) {
      return unsupported("the weights are quantised by ",
                         Printable(TextIn(*quantised, "quant_method").value_or("an unknown tool")),
                         ", expected BF16, F16 or F32");
    }
  }
  for (const char* cap : {"final_logit_softcapping", "attn_logit_softcapping"}) {
    if (Member(text_, cap) != nullptr) return unsupported(cap, " is set, Gemma 3 has none");
  }
  if (const Json* both = Member(text_, "use_bidirectional_attention"); both && *both == true) {
    return unsupported("use_bidirectional_attention is true, expected a decoder");
  }
  const std::string activation = TextIn(text_, "hidden_activation").value_or("gelu_pytorch_tanh");
  if (activation != "gelu_pytorch_tanh") {
    return unsupported("hidden_activation is ", Printable(activation),
                       ", expected gelu_pytorch_tanh");
  }
  return {};
}

// Names of the files that hold the weights, sorted.
inline Result<std::vector<std::string>> HuggingFaceImporter::ListShards() const {
  std::set<std::string> names;
  if (Has("model.safetensors.index.json")) {
    const Result<Json> index = ReadJson("model.safetensors.index.json");
    if (!index) return index.error();
    const Json* const map = Member(*index, "weight_map");
    if (map == nullptr || !map->is_object()) {
      return MakeError(ErrorCode::kCorrupt,
                       "model.safetensors.index.json: weight_map is missing or no object");
    }
    for (const auto& [tensor, shard] : map->items()) {
      const std::string name = shard.is_string() ? shard.get<std::string>() : "";
      // A name, not a path: a file must not send us elsewhere.
      if (name.empty() || name.find_first_of(std::string_view("/\\\0", 3)) != name.npos) {
        return MakeError(ErrorCode::kCorrupt, "model.safetensors.index.json: the file of ",
                         Printable(tensor), " is ", Printable(name), ", expected a name");
      }
      names.insert(name);
    }
  } else {
    std::error_code error;
    for (std::filesystem::directory_iterator i(path_, error), end; !error && i != end;
         i.increment(error)) {
      const std::string name = i->path().filename().string();
      if (name.starts_with("model") && name.ends_with(".safetensors")) names.insert(name);
    }
  }
  return std::vector<std::string>(names.begin(), names.end());
}

inline Status HuggingFaceImporter::OpenWeights() {
  const Result<std::vector<std::string>> names = ListShards();
  if (!names) return names.error();
  if (names->empty()) {
    const bool adapter = Has("adapter_config.json");
    return MakeError(
        adapter ? ErrorCode::kUnsupported : ErrorCode::kNotFound, "the folder holds ",
        adapter ? "only an adapter (adapter_config.json): merge it into its base model first"
                : "no model.safetensors and no shards of one");
  }
  for (const std::string& name : *names) {
    Result<InputFile> file = InputFile::Open(path_ / name);
    if (!file) return file.error();
    Result<Safetensors> header = Safetensors::Parse(file->bytes());
    if (!header) return In(name, header.error());
    result.weights.push_back(*std::move(file));
    result.headers.push_back(*std::move(header));
    for (SourceTensor tensor : result.headers.back().tensors()) {
      if (tensor.name.find(".lora_") != tensor.name.npos) {
        return MakeError(ErrorCode::kUnsupported, name, ": tensor ", Printable(tensor.name),
                         " belongs to an adapter, expected a merged model");
      }
      if (tensor.name.find(".quant_state.") != tensor.name.npos ||
          tensor.name.ends_with(".absmax") || tensor.name.ends_with(".SCB")) {
        return MakeError(ErrorCode::kUnsupported, name, ": tensor ", Printable(tensor.name),
                         " shows weights quantised by bitsandbytes, expected BF16, F16 or F32");
      }
      const std::string_view full = tensor.name;
      tensor.name = BareName(full);
      if (!tensors_.Add(tensor)) {
        return MakeError(ErrorCode::kCorrupt, name, ": tensor ", Printable(full),
                         " is there twice, under this or a similar name");
      }
    }
  }
  return {};
}

// RoPE is told in three ways: rope_theta, rope_local_base_freq and rope_scaling (the published
// files); rope_parameters for each kind of layer (transformers 5); or a mixture.
inline void HuggingFaceImporter::ReadRope(Claims& claims) const {
  claims.rope_base_global = {"rope_theta", NumberIn(text_, "rope_theta")};
  claims.rope_base_local = {"rope_local_base_freq", NumberIn(text_, "rope_local_base_freq")};
  claims.rope_factor = {"rope_scaling.factor", std::nullopt};
  claims.rope_type = "none";
  for (const char* key : {"rope_scaling", "rope_parameters"}) {
    const Json* const rope = Member(text_, key);
    if (rope == nullptr) continue;
    const Json* const full = Member(*rope, "full_attention");
    const Json* const local = Member(*rope, "sliding_attention");
    const Json& global = full != nullptr ? *full : *rope;
    if (full == nullptr && local != nullptr) continue;
    claims.rope_type = RopeType(global);
    const std::string path = StrCat(key, full != nullptr ? ".full_attention." : ".");
    if (const auto factor = NumberIn(global, "factor")) {
      claims.rope_factor = {path + "factor", factor};
    }
    if (const auto base = NumberIn(global, "rope_theta")) {
      claims.rope_base_global = {path + "rope_theta", base};
    }
    const std::optional<double> base =
        local != nullptr ? NumberIn(*local, "rope_theta") : std::nullopt;
    if (base) claims.rope_base_local = {StrCat(key, ".sliding_attention.rope_theta"), base};
  }
}

inline Claims HuggingFaceImporter::ReadClaims(bool custom) const {
  // Files leave out what is the default of transformers' Gemma3TextConfig.
  const auto number = [&](const char* key, std::optional<double> otherwise = {}) {
    std::optional<double> value = NumberIn(text_, key);
    if (!value && custom) value = otherwise;
    return Claim{key, value};
  };
  Claims claims;
  claims.layers = number("num_hidden_layers");
  claims.width = number("hidden_size");
  claims.ff_width = number("intermediate_size");
  claims.heads = number("num_attention_heads");
  claims.kv_heads = number("num_key_value_heads");
  claims.head_dim = number("head_dim");
  claims.context = number("max_position_embeddings", 131'072);
  claims.window = number("sliding_window", 4096);
  claims.query_scalar = number("query_pre_attn_scalar", 256);
  claims.norm_epsilon = number("rms_norm_eps", 1e-6);
  ReadRope(claims);

  for (const char* key : {"sliding_window_pattern", "_sliding_window_pattern"}) {
    const Claim claim = {key, NumberIn(text_, key)};
    if (claim.value || claims.global_every.key.empty()) claims.global_every = claim;
  }
  if (const Json* types = Member(text_, "layer_types"); types != nullptr && types->is_array()) {
    claims.global_every.key = "layer_types";
    for (const Json& type : *types) claims.local_layers.push_back(type != "full_attention");
  }
  return claims;
}

inline VisionConfig HuggingFaceImporter::ReadVisionConfig() const {
  VisionConfig v;
  const Json* const json = Member(config_, "vision_config");
  if (json == nullptr) return v;
  const auto number = [](const Json& from, const char* key) {
    const double value = NumberIn(from, key).value_or(0);
    return value >= 1 && value <= 1 << 20 ? static_cast<std::int32_t>(value) : 0;
  };
  v.image = number(*json, "image_size");
  v.patch = number(*json, "patch_size");
  v.width = number(*json, "hidden_size");
  v.layers = number(*json, "num_hidden_layers");
  v.heads = number(*json, "num_attention_heads");
  v.ff_width = number(*json, "intermediate_size");
  v.soft_tokens = number(config_, "mm_tokens_per_image");
  if (v.soft_tokens == 0) v.soft_tokens = kSigLip.soft_tokens;
  return v;
}

inline Status HuggingFaceImporter::ImportTensors() {
  Importer importer(tensors_, kHuggingFaceNames);
  if (Status s = importer.ReadShapes(); !s) return s;
  const Claims claims = ReadClaims(importer.known() == nullptr);
  if (Status s = importer.ChooseConfig(claims); !s) return s;
  importer.CompareClaims(claims);
  if (Status s = importer.CollectDecoder(/*norms_less_one=*/true); !s) return s;
  if (Status s = importer.CheckOutputHead(); !s) return s;
  if (HasVision(tensors_, VisionStyle::kHuggingFace)) {
    Config& config = importer.import.config;
    if (importer.known() == nullptr) config.vision = ReadVisionConfig();
    if (!config.vision.present()) {
      return MakeError(ErrorCode::kCorrupt,
                       "there are tensors of a vision tower, but the model reads no pictures");
    }
    if (Status s = CollectVision(importer, tensors_, VisionStyle::kHuggingFace); !s) return s;
  }
  AddLicense(importer.import, "");
  importer.ReportUnknownTensors();
  result.import = std::move(importer.import);
  return {};
}

inline Status HuggingFaceImporter::ReadTokenizer() {
  const char* const name = Has("tokenizer.model") ? "tokenizer.model" : "tokenizer.json";
  if (!Has(name)) {
    AddWarning(result.import,
               "the folder has no tokenizer (neither tokenizer.model nor tokenizer.json)");
    return {};
  }
  Result<InputFile> file = InputFile::Open(path_ / name);
  if (!file) return file.error();
  Vocabulary vocabulary;
  if (Has("tokenizer.model")) {
    Result<Vocabulary> read = ReadSentencepieceModel(file->bytes());
    if (!read) return read.error();
    vocabulary = *std::move(read);
    result.tokenizer = *std::move(file);
  } else {
    Result<OwnedVocabulary> read = ReadTokenizerJson(file->bytes());
    if (!read) return read.error();
    result.vocabulary = *std::move(read);
    vocabulary = std::move(result.vocabulary.vocabulary);
  }
  return AddVocabulary(result.import, std::move(vocabulary));
}

}  // namespace internal

inline Result<HuggingFaceFolder> ImportHuggingFace(const std::filesystem::path& folder) {
  internal::HuggingFaceImporter importer(folder);
  if (Status status = importer.ReadConfig(); !status) return status.error();
  if (Status status = importer.OpenWeights(); !status) return status.error();
  if (Status status = importer.ImportTensors(); !status) return status.error();
  if (Status status = importer.ReadTokenizer(); !status) return status.error();
  return std::move(importer.result);
}

}  // namespace lapidary

#endif  // LAPIDARY_WEIGHTS_IMPORT_HF_H_
