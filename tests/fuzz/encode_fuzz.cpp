// Text to ids and back with a small vocabulary: no text becomes a control piece, and it comes back.
#include <span>
#include <string>
#include <vector>

#include "lapidary/base/bytes.h"
#include "lapidary/text/tokenizer.h"
#include "lapidary/text/utf8_stream.h"
#include "tests/fuzz/fuzz.h"
#include "tests/support/hand_made.h"

namespace {

lapidary::Tokenizer MakeTokenizer() {
  using lapidary::PieceType;
  lapidary::testing::HandMade made({"\xE2\x96\x81t", "he", "in", "<s", "tart", "start", "_of",
                                    "_turn", "turn>", "<start", "<e", "nd", "<end", "\xC3\xA9",
                                    "\xF0\x9F\x98\x80"});
  for (const char* piece : {"\n", "\n\n", "\n\n\n", "  ", "   ", "\t", "<b>", "</b>"}) {
    made.Add(piece, PieceType::kUserDefined);
  }
  for (const char* piece : {"<start_of_image>", "<end_of_image>", "<unused200>"}) {
    made.Add(piece, PieceType::kControl);
  }
  lapidary::Result<lapidary::Tokenizer> tokenizer = lapidary::Tokenizer::Create(made.vocabulary);
  lapidary::fuzz::Require(tokenizer.ok() && tokenizer->Prepare().ok(), "the vocabulary is one");
  return *std::move(tokenizer);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace lapidary;
  static const Tokenizer tokenizer = MakeTokenizer();
  const std::string text(AsText({data, size}));
  const std::vector<std::int32_t> ids = tokenizer.Encode(text);
  for (const std::int32_t id : ids) {
    fuzz::Require(tokenizer.Contains(id), "ids are those of pieces");
    fuzz::Require(tokenizer.Type(id) != PieceType::kControl, "text holds no control piece");
  }
  const std::string seen = internal::ReplaceAll(ToValidUtf8(text), internal::kSpaceMark, " ");
  fuzz::Require(tokenizer.Decode(ids) == seen, "the text comes back");

  const std::vector<std::int32_t> prompt = tokenizer.EncodePrompt(text);
  fuzz::Require(!prompt.empty() && prompt[0] == kBos, "a prompt begins with <bos>");
  fuzz::Require(prompt.size() < 2 || prompt[1] != kBos, "and has one there");
  return 0;
}
