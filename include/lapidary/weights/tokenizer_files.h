// The vocabulary of a Hugging Face folder: from tokenizer.model (a sentencepiece model) or
// tokenizer.json (a file of the tokenizers library).
#ifndef LAPIDARY_WEIGHTS_TOKENIZER_FILES_H_
#define LAPIDARY_WEIGHTS_TOKENIZER_FILES_H_

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "lapidary/base/bytes.h"
#include "lapidary/base/result.h"
#include "lapidary/text/vocabulary.h"
#include "lapidary/weights/json.h"

namespace lapidary {

// Reads the pieces, scores and types of a serialised sentencepiece ModelProto. The pieces are views
// of `file`. Nothing of the file goes through sentencepiece, whose parser has had memory errors on
// crafted models before 0.2.1. Errors: kCorrupt, kUnsupported (a model that is not BPE).
Result<Vocabulary> ReadSentencepieceModel(std::span<const std::uint8_t> file);

// A vocabulary with the texts that its pieces are views of. Movable.
struct OwnedVocabulary {
  std::vector<std::string> texts;
  Vocabulary vocabulary;
};

// Reads a BPE model with byte fallback from tokenizer.json. There are no scores in it but a list of
// merges, best first: a piece gets minus the number of the first merge that makes it, which puts
// pieces into the order that the scores of the sentencepiece model had. Added tokens that are
// special become control pieces, other added tokens user-defined ones. Errors: kCorrupt,
// kUnsupported (a model that is not BPE with byte fallback).
Result<OwnedVocabulary> ReadTokenizerJson(std::span<const std::uint8_t> file);

namespace internal {

// Walks over the fields of one message of a protocol buffer.
class ProtoReader {
 public:
  explicit ProtoReader(std::span<const std::uint8_t> bytes) : reader_(bytes) {}

  // Advances to the next field. False at the end and if the message is broken; ok() tells which.
  bool Next() {
    if (!ok_ || reader_.remaining() == 0) return false;
    std::uint64_t tag = 0;
    ok_ = ReadVarint(tag) && tag >> 3 != 0;
    if (!ok_) return false;
    field_ = tag >> 3;
    wire_ = tag & 7;
    number_ = 0;
    bytes_ = {};
    switch (wire_) {
      case 0:
        ok_ = ReadVarint(number_);
        break;
      case 1:
        ok_ = reader_.ReadBytes(8, bytes_);
        break;
      case 2:
        ok_ = ReadVarint(number_) && reader_.ReadBytes(number_, bytes_);
        break;
      case 5:
        ok_ = reader_.ReadBytes(4, bytes_);
        break;
      default:
        ok_ = false;
    }
    return ok_;
  }
  bool ok() const { return ok_; }

  bool IsNumber(std::uint64_t field) const { return field_ == field && wire_ == 0; }
  bool IsBytes(std::uint64_t field) const { return field_ == field && wire_ == 2; }
  bool IsFloat(std::uint64_t field) const { return field_ == field && wire_ == 5; }
  std::uint64_t number() const { return number_; }
  std::span<const std::uint8_t> bytes() const { return bytes_; }

 private:
  bool ReadVarint(std::uint64_t& value) {
    value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      std::uint8_t byte = 0;
      if (!reader_.Read(byte)) return false;
      value |= static_cast<std::uint64_t>(byte & 127) << shift;
      if (byte < 128) return true;
    }
    return false;
  }

  ByteReader reader_;
  bool ok_ = true;
  std::uint64_t field_ = 0, wire_ = 0, number_ = 0;
  std::span<const std::uint8_t> bytes_;
};

// A merge of tokenizer.json as the piece that it makes: "a b", or ["a", "b"] in newer files.
inline std::optional<std::string> MergedPiece(const Json& merge) {
  if (merge.is_string()) {
    std::string text = merge.get<std::string>();
    const std::size_t space = text.find(' ');
    if (space == text.npos || text.find(' ', space + 1) != text.npos) return std::nullopt;
    return text.erase(space, 1);
  }
  if (!merge.is_array() || merge.size() != 2 || !merge[0].is_string() || !merge[1].is_string()) {
    return std::nullopt;
  }
  return merge[0].get<std::string>() + merge[1].get<std::string>();
}

// Reads tokenizer.json in one pass. The merges, most of the file, are dropped as soon as they are
// counted.
class TokenizerJsonReader {
 public:
  Result<OwnedVocabulary> Read(std::span<const std::uint8_t> file);

 private:
  bool Keep(int depth, JsonFilterEvent event, Json& value);
  Status AddPiece(const std::string& text, const Json& id, PieceType type);

  std::string outer_, inner_;  // the keys of depths 1 and 2 that are being read
  std::map<std::string, std::size_t> ranks_;
  std::size_t merges_ = 0;
  bool bad_merge_ = false;
  OwnedVocabulary result_;
};

inline bool TokenizerJsonReader::Keep(int depth, JsonFilterEvent event, Json& value) {
  if (event == JsonFilterEvent::key) {
    if (depth == 1) outer_ = value.get_ref<const std::string&>();
    if (depth == 2) inner_ = value.get_ref<const std::string&>();
    return true;
  }
  // Depth 3 are the elements of what is at depth 2.
  if (outer_ != "model" || inner_ != "merges" || depth != 3) return true;
  if (event == JsonFilterEvent::array_start || event == JsonFilterEvent::object_start) return true;
  std::optional<std::string> piece = MergedPiece(value);
  bad_merge_ = bad_merge_ || !piece;
  if (piece) ranks_.emplace(*std::move(piece), merges_);
  ++merges_;
  return false;
}

inline Status TokenizerJsonReader::AddPiece(const std::string& text, const Json& id,
                                            PieceType type) {
  if (!id.is_number_unsigned() || id.get<std::uint64_t>() >= result_.texts.size()) {
    return MakeError(ErrorCode::kCorrupt, "tokenizer.json: the id of ", Printable(text), " is ",
                     id.is_number_unsigned() ? StrCat(id.get<std::uint64_t>()) : "no whole number",
                     ", expected less than the number of pieces, ", result_.texts.size());
  }
  const auto i = id.get<std::size_t>();
  result_.texts[i] = text;
  result_.vocabulary.types[i] = type;
  // Characters, bytes and added tokens are no result of a merge. Their scores come last and decide
  // nothing.
  const auto rank = ranks_.find(text);
  result_.vocabulary.scores[i] = -static_cast<float>(rank == ranks_.end() ? merges_ : rank->second);
  return {};
}

inline Result<OwnedVocabulary> TokenizerJsonReader::Read(std::span<const std::uint8_t> file) {
  const auto filter = [this](int depth, JsonFilterEvent event, Json& value) {
    return Keep(depth, event, value);
  };
  const Result<Json> json = ParseJsonObject(file, "tokenizer.json", filter);
  if (!json) return json.error();
  const Json* const model = Member(*json, "model");
  const Json* const pieces = model != nullptr ? Member(*model, "vocab") : nullptr;
  if (pieces == nullptr) {
    return MakeError(ErrorCode::kCorrupt, "tokenizer.json: model.vocab is missing");
  }
  const Json* const fallback = Member(*model, "byte_fallback");
  if (TextIn(*model, "type").value_or("BPE") != "BPE" || !pieces->is_object() ||
      fallback == nullptr || *fallback != true) {
    return MakeError(ErrorCode::kUnsupported,
                     "tokenizer.json: expected a BPE model with byte fallback, as Gemma 3 has it");
  }
  if (bad_merge_) return MakeError(ErrorCode::kCorrupt, "tokenizer.json: a merge is no pair");

  // Ids are dense but for added tokens, which may repeat a piece or follow the last one.
  const Json* const added = Member(*json, "added_tokens");
  const std::size_t most = pieces->size() + (added != nullptr ? added->size() : 0);
  result_.texts.resize(most);
  result_.vocabulary.scores.resize(most);
  result_.vocabulary.types.assign(most, PieceType::kUnused);
  const std::string unknown = TextIn(*model, "unk_token").value_or("<unk>");
  for (const auto& [text, id] : pieces->items()) {
    const bool byte = text.size() == 6 && text.starts_with("<0x") && text.back() == '>';
    const PieceType type = text == unknown ? PieceType::kUnknown
                           : byte          ? PieceType::kByte
                                           : PieceType::kNormal;
    if (Status status = AddPiece(text, id, type); !status) return status.error();
  }
  for (std::size_t i = 0; added != nullptr && added->is_array() && i < added->size(); ++i) {
    const Json& token = (*added)[i];
    const std::optional<std::string> text = TextIn(token, "content");
    const Json* const id = Member(token, "id");
    const Json* const special = Member(token, "special");
    if (!text || id == nullptr) {
      return MakeError(ErrorCode::kCorrupt, "tokenizer.json: added token ", i,
                       " has no content or no id");
    }
    const PieceType type = *text == unknown                         ? PieceType::kUnknown
                           : special != nullptr && *special == true ? PieceType::kControl
                                                                    : PieceType::kUserDefined;
    if (Status status = AddPiece(*text, *id, type); !status) return status.error();
  }
  while (!result_.texts.empty() && result_.texts.back().empty()) result_.texts.pop_back();
  const std::size_t count = result_.texts.size();
  result_.vocabulary.scores.resize(count);
  result_.vocabulary.types.resize(count);
  result_.vocabulary.pieces.assign(result_.texts.begin(), result_.texts.end());
  return std::move(result_);
}

}  // namespace internal

inline Result<Vocabulary> ReadSentencepieceModel(std::span<const std::uint8_t> file) {
  // Fields of sentencepiece_model.proto.
  constexpr std::uint64_t kPieces = 1, kTrainerSpec = 2;           // of ModelProto
  constexpr std::uint64_t kPiece = 1, kScore = 2, kType = 3;       // of SentencePiece
  constexpr std::uint64_t kModelType = 3, kUnigram = 1, kBpe = 2;  // of TrainerSpec
  const auto corrupt = [](const auto&... parts) {
    return MakeError(ErrorCode::kCorrupt, "tokenizer.model: ", parts...);
  };
  Vocabulary vocabulary;
  std::uint64_t model_type = kUnigram;
  internal::ProtoReader model(file);
  while (model.Next()) {
    internal::ProtoReader inner(model.bytes());
    if (model.IsBytes(kTrainerSpec)) {
      while (inner.Next()) {
        if (inner.IsNumber(kModelType)) model_type = inner.number();
      }
    }
    if (model.IsBytes(kPieces)) {
      std::string_view piece;
      float score = 0;
      std::uint64_t type = static_cast<std::uint64_t>(PieceType::kNormal);
      while (inner.Next()) {
        if (inner.IsBytes(kPiece)) piece = AsText(inner.bytes());
        if (inner.IsFloat(kScore)) score = LoadLittleEndian<float>(inner.bytes().data());
        if (inner.IsNumber(kType)) type = inner.number();
      }
      const std::size_t number = vocabulary.pieces.size();
      if (type < 1 || type > 6) return corrupt("piece ", number, " has type ", type);
      if (std::isnan(score)) return corrupt("the score of piece ", number, " is not a number");
      vocabulary.pieces.push_back(piece);
      vocabulary.scores.push_back(score);
      vocabulary.types.push_back(static_cast<PieceType>(type));
    }
    if (!inner.ok() && (model.IsBytes(kTrainerSpec) || model.IsBytes(kPieces))) {
      return corrupt("a field reaches past its end, behind piece ", vocabulary.pieces.size());
    }
  }
  if (!model.ok() || vocabulary.pieces.empty()) {
    return corrupt("no sentencepiece model, or cut short behind piece ", vocabulary.pieces.size());
  }
  if (model_type != kBpe) {
    return MakeError(ErrorCode::kUnsupported, "tokenizer.model: its type is ", model_type,
                     ", expected ", kBpe, " (BPE), as Gemma 3 has it");
  }
  return vocabulary;
}

inline Result<OwnedVocabulary> ReadTokenizerJson(std::span<const std::uint8_t> file) {
  return internal::TokenizerJsonReader().Read(file);
}

}  // namespace lapidary

#endif  // LAPIDARY_WEIGHTS_TOKENIZER_FILES_H_
