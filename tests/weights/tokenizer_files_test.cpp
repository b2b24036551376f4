#include "lapidary/weights/tokenizer_files.h"

#include <cstdint>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "lapidary/text/tokenizer.h"
#include "tests/support/catch.h"
#include "tests/support/safetensors_builder.h"
#include "tests/support/says.h"

namespace lapidary {
namespace {

using testing::Bytes;
using testing::Json;
using testing::PutField;
using testing::PutVarint;
using testing::Says;
using testing::SentencepieceModel;

TEST_CASE("a sentencepiece model is read field by field") {
  const Bytes file = SentencepieceModel({"<pad>", "<eos>", "<bos>", "<unk>", "a", "", "ab"});
  const Result<Vocabulary> vocabulary = ReadSentencepieceModel(file);
  REQUIRE(vocabulary);
  REQUIRE(vocabulary->pieces.size() == 7);
  CHECK(vocabulary->pieces[2] == "<bos>");
  CHECK(vocabulary->pieces[5].empty());
  CHECK(vocabulary->scores[6] == -3.0f);
  CHECK(vocabulary->types[0] == PieceType::kControl);
  CHECK(vocabulary->types[3] == PieceType::kUnknown);
  CHECK(vocabulary->types[6] == PieceType::kNormal);
}

TEST_CASE("a broken sentencepiece model is refused") {
  const Bytes file = SentencepieceModel({"<pad>", "<eos>", "<bos>", "<unk>", "abc"});
  for (std::size_t size = 0; size < file.size(); ++size) {
    const Result<Vocabulary> vocabulary = ReadSentencepieceModel(std::span(file).first(size));
    if (vocabulary) FAIL(size);  // without its last fields it is no BPE model
  }
  Says(ReadSentencepieceModel(SentencepieceModel({"a"}, 1)).error(), ErrorCode::kUnsupported,
       "its type is 1");
  Bytes long_piece;
  PutVarint(long_piece, 1 << 3 | 2);
  PutVarint(long_piece, ~std::uint64_t{0});
  Says(ReadSentencepieceModel(long_piece).error(), ErrorCode::kCorrupt, "cut short");
  Bytes endless(20, 0xFF);
  Says(ReadSentencepieceModel(endless).error(), ErrorCode::kCorrupt, "no sentencepiece model");
  Bytes piece, wrong_type;
  PutField(piece, 3, 9);
  PutField(wrong_type, 1, piece);
  Says(ReadSentencepieceModel(wrong_type).error(), ErrorCode::kCorrupt, "piece 0 has type 9");

  std::mt19937 random(2);
  for (int round = 0; round < 5000; ++round) {
    Bytes bytes = file;
    bytes[random() % bytes.size()] = static_cast<std::uint8_t>(random());
    const Result<Vocabulary> vocabulary = ReadSentencepieceModel(bytes);
    std::size_t length = 0;
    if (vocabulary) {
      for (const std::string_view text : vocabulary->pieces) length += text.size();
    }
    CHECK(length <= bytes.size());
  }
}

// A tokenizer of a few letters, as the tokenizers library writes it. "abc" is made by two merges.
Json SomeTokenizer() {
  Json json;
  Json& vocab = json["model"]["vocab"];
  std::vector<std::string> pieces = {"<pad>", "<eos>", "<bos>", "<unk>", "<mask>"};
  for (int byte = 0; byte < 256; ++byte) {
    char text[8];
    std::snprintf(text, sizeof(text), "<0x%02X>", byte);
    pieces.push_back(text);
  }
  for (const char* piece : {"ab", "bc", "abc", "cab", "a", "b", "c", "\xE2\x96\x81"}) {
    pieces.push_back(piece);
  }
  for (std::size_t i = 0; i < pieces.size(); ++i) vocab[pieces[i]] = i;
  json["model"]["type"] = "BPE";
  json["model"]["byte_fallback"] = true;
  json["model"]["unk_token"] = "<unk>";
  for (const auto& [left, right] : std::vector<std::pair<const char*, const char*>>{
           {"a", "b"}, {"b", "c"}, {"ab", "c"}, {"a", "bc"}, {"c", "ab"}}) {
    json["model"]["merges"].push_back(Json::array({left, right}));
  }
  const std::size_t next = pieces.size();
  const auto added = [&](std::size_t id, const char* content, bool special) {
    json["added_tokens"].push_back({{"id", id}, {"content", content}, {"special", special}});
  };
  for (std::size_t i = 0; i < 5; ++i) added(i, pieces[i].c_str(), true);
  added(next, "\n\n", false);
  added(next + 1, "<image_soft_token>", true);
  return json;
}

Result<OwnedVocabulary> Read(const Json& json) {
  const std::string text = json.dump();
  return ReadTokenizerJson(AsBytes(text));
}

TEST_CASE("tokenizer.json becomes pieces whose scores keep the order of the merges") {
  for (const bool pairs : {true, false}) {
    Json json = SomeTokenizer();
    if (!pairs) json["model"]["merges"] = {"a b", "b c", "ab c", "a bc", "c ab"};
    Result<OwnedVocabulary> read = Read(json);
    REQUIRE(read);
    const OwnedVocabulary moved = *std::move(read);
    const Vocabulary& v = moved.vocabulary;
    REQUIRE(v.pieces.size() == 5 + 256 + 8 + 2);
    CHECK(v.pieces[2] == "<bos>");
    CHECK(v.pieces[261] == "ab");
    CHECK(v.scores[261] == 0);
    CHECK(v.scores[262] == -1);
    CHECK(v.scores[263] == -2);  // of the first merge that makes it
    CHECK(v.scores[264] == -4);
    CHECK(v.scores[265] == -5);  // a letter
    CHECK(v.types[0] == PieceType::kControl);
    CHECK(v.types[3] == PieceType::kUnknown);
    CHECK(v.types[5] == PieceType::kByte);
    CHECK(v.types[261] == PieceType::kNormal);
    CHECK(v.pieces[269] == "\n\n");
    CHECK(v.types[269] == PieceType::kUserDefined);
    CHECK(v.types[270] == PieceType::kControl);
  }
}

TEST_CASE("a broken tokenizer.json is refused") {
  const auto with = [](auto change) {
    Json json = SomeTokenizer();
    change(json);
    const Result<OwnedVocabulary> read = Read(json);
    REQUIRE_FALSE(read);
    return read.error();
  };
  Says(with([](Json& j) { j["model"]["type"] = "Unigram"; }), ErrorCode::kUnsupported, "BPE");
  Says(with([](Json& j) { j["model"]["byte_fallback"] = false; }), ErrorCode::kUnsupported, "byte");
  Says(with([](Json& j) { j["model"].erase("vocab"); }), ErrorCode::kCorrupt, "vocab is missing");
  Says(with([](Json& j) { j["model"]["vocab"]["a"] = 1 << 30; }), ErrorCode::kCorrupt,
       "the id of a is 1073741824");
  Says(with([](Json& j) { j["model"]["vocab"]["a"] = -1; }), ErrorCode::kCorrupt,
       "no whole number");
  Says(with([](Json& j) { j["model"]["merges"].push_back("abc"); }), ErrorCode::kCorrupt, "merge");
  Says(with([](Json& j) {
         j["model"]["merges"].push_back(Json::array({"a", "b", "c"}));
       }),
       ErrorCode::kCorrupt, "merge");
  Says(with([](Json& j) { j["model"]["merges"].push_back(7); }), ErrorCode::kCorrupt, "merge");
  Says(with([](Json& j) { j["added_tokens"].push_back("x"); }), ErrorCode::kCorrupt, "added token");
  Says(ReadTokenizerJson(AsBytes("{\"model\": {")).error(), ErrorCode::kCorrupt, "no JSON object");
}

}  // namespace
}  // namespace lapidary
