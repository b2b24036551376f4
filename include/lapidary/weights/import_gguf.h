// Recognises a Gemma 3 model in a GGUF file.
#ifndef LAPIDARY_WEIGHTS_IMPORT_GGUF_H_
#define LAPIDARY_WEIGHTS_IMPORT_GGUF_H_

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string_view>
#include <utility>

#include "lapidary/base/bytes.h"
#include "lapidary/base/result.h"
#include "lapidary/config/config.h"
#include "lapidary/config/models.h"
#include "lapidary/text/vocabulary.h"
#include "lapidary/weights/gguf.h"
#include "lapidary/weights/import.h"

namespace lapidary {

// Recognises a Gemma 3 decoder in a GGUF file.
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

inline constexpr DecoderNames kGgufNames = {
    .embedding = "token_embd.weight",
    .final_norm = "output_norm.weight",
    .output_head = "output.weight",
    .layer = "blk.",
    .parts = {"attn_norm.weight", "attn_q.weight", "attn_k.weight", "attn_v.weight",
              "attn_q_norm.weight", "attn_k_norm.weight", "attn_output.weight",
              "post_attention_norm.weight", "ffn_norm.weight", "ffn_gate.weight", "ffn_up.weight",
              "ffn_down.weight", "post_ffw_norm.weight"}};

// ImportGguf at the end of this file is the table of contents.
class GgufImporter : public Importer {
 public:
  explicit GgufImporter(const Gguf& gguf) : Importer(gguf.tensors(), kGgufNames), gguf_(gguf) {}

  Status CheckArchitecture() const;
  Result<Claims> ReadClaims();
  void CheckSpecialIds();
  Status ReadVocabulary();
  void ReadLicense() {
    const GgufValue* value = gguf_.Find("general.license");
    AddLicense(import, value != nullptr ? value->Text().value_or("") : "");
  }

 private:
  // The first of these keys that holds a number. One that holds something else is reported.
  Claim Number(std::initializer_list<std::string_view> keys) {
    Claim claim{StrCat("gemma3.", *keys.begin()), std::nullopt};
    for (const std::string_view key : keys) {
      const GgufValue* value = gguf_.Find(StrCat("gemma3.", key));
      if (value == nullptr || claim.value) continue;
      claim.value = value->Number();
      if (!claim.value) {
        Warn("gemma3.", key, " has type ", value->TypeName(), ", expected a number");
      }
    }
    return claim;
  }

  const Gguf& gguf_;
};

inline Status GgufImporter::CheckArchitecture() const {
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

inline Result<Claims> GgufImporter::ReadClaims() {
  Claims claims;
  claims.layers = Number({"block_count"});
  claims.width = Number({"embedding_length"});
  claims.ff_width = Number({"feed_forward_length"});
  claims.heads = Number({"attention.head_count"});
  claims.kv_heads = Number({"attention.head_count_kv"});
  claims.head_dim = Number({"attention.key_length"});
  claims.value_dim = Number({"attention.value_length"});
  claims.context = Number({"context_length"});
  claims.window = Number({"attention.sliding_window"});
  claims.rope_base_local = Number({"rope.freq_base_swa", "rope.local.freq_base"});
  claims.rope_base_global = Number({"rope.freq_base", "rope.global.freq_base"});
  claims.rope_factor = Number({"rope.scaling.factor"});
  claims.norm_epsilon = Number({"attention.layer_norm_rms_epsilon"});
  claims.query_scalar = Number({"attention.query_pre_attn_scalar"});
  // llama.cpp writes the factor itself.
  if (const Claim scale = Number({"attention.scale"});
      !claims.query_scalar.value && scale.value && *scale.value > 0) {
    claims.query_scalar = {scale.key, std::round(1 / (*scale.value * *scale.value))};
  }
  if (const GgufValue* type = gguf_.Find("gemma3.rope.scaling.type")) {
    claims.rope_type = type->Text().value_or("not a string");
  }

  claims.global_every.key = "gemma3.attention.sliding_window_pattern";
  const GgufValue* pattern = gguf_.Find(claims.global_every.key);
  if (pattern == nullptr) return claims;
  if (pattern->element_type() == GgufType::kString) {
    return MakeError(ErrorCode::kUnsupported, claims.global_every.key, " has type ",
                     pattern->TypeName());
  }
  if (pattern->is_array()) {
    for (std::size_t i = 0; i < pattern->size(); ++i) {
      claims.local_layers.push_back(pattern->NumberAt(i) != 0);
    }
  } else {
    claims.global_every.value = static_cast<double>(pattern->Integer().value_or(0));
  }
  return claims;
}

// The library stops at 1 and 106 and begins with 2, whatever the file says.
inline void GgufImporter::CheckSpecialIds() {
  if (import.config.vocabulary < Gemma3_1B::kConfig.vocabulary) return;
  for (const auto& [key, first, second] : {std::tuple("tokenizer.ggml.bos_token_id", 2, 2),
                                           std::tuple("tokenizer.ggml.eos_token_id", 1, 106)}) {
    const GgufValue* value = gguf_.Find(key);
    const std::optional<std::int64_t> id = value != nullptr ? value->Integer() : std::nullopt;
    if (id && *id != first && *id != second) Warn(key, " is ", *id, ", Gemma 3 uses ", first);
  }
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
  return AddVocabulary(import, std::move(vocabulary));
}

}  // namespace internal

inline Result<Import> ImportGguf(const Gguf& gguf) {
  internal::GgufImporter importer(gguf);
  if (Status status = importer.CheckArchitecture(); !status) return status.error();
  if (Status status = importer.ReadShapes(); !status) return status.error();
  const Result<internal::Claims> claims = importer.ReadClaims();
  if (!claims) return claims.error();
  if (Status status = importer.ChooseConfig(*claims); !status) return status.error();
  importer.CompareClaims(*claims);
  importer.CheckSpecialIds();
  if (Status status = importer.CollectDecoder(false); !status) return status.error();
  if (Status status = importer.CheckOutputHead(); !status) return status.error();
  if (Status status = importer.ReadVocabulary(); !status) return status.error();
  importer.ReadLicense();
  importer.ReportUnknownTensors();
  return std::move(importer.import);
}

}  // namespace lapidary

#endif  // LAPIDARY_WEIGHTS_IMPORT_GGUF_H_
