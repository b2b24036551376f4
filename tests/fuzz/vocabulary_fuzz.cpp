// Vocabularies: bytes of a blob's section, and pieces added to a vocabulary that is right, up to
// the point where sentencepiece has them and encodes a text.
#include <deque>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "lapidary/base/bytes.h"
#include "lapidary/text/tokenizer.h"
#include "lapidary/text/utf8_stream.h"
#include "lapidary/weights/blob.h"
#include "tests/fuzz/fuzz.h"
#include "tests/support/hand_made.h"

namespace {

using namespace lapidary;

void Use(const Vocabulary& vocabulary, std::string_view text) {
  const Result<Tokenizer> tokenizer = Tokenizer::Create(vocabulary);
  if (!tokenizer || !tokenizer->Prepare()) return;
  const std::vector<std::int32_t> ids = tokenizer->Encode(text);
  for (const std::int32_t id : ids) {
    fuzz::Require(tokenizer->Contains(id), "ids are those of pieces");
    fuzz::Require(tokenizer->Type(id) != PieceType::kControl, "text holds no control piece");
  }
  fuzz::Require(IsValidUtf8(tokenizer->Decode(ids)), "what comes back is UTF-8");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::vector<std::uint8_t> copy = fuzz::Copy({data, size});
  const Result<Vocabulary> decoded = DecodeVocabulary(copy);
  if (decoded) {
    fuzz::Require(EncodeVocabulary(*decoded) == copy, "a vocabulary has one encoding");
    Use(*decoded, "some <text>\n\n");
  }
  // The rest reads the bytes as: type and length of a piece, the piece, again and again.
  testing::HandMade made({"ab", "abc"});
  ByteReader reader(copy);
  std::uint8_t head = 0;
  float score = -10;
  while (reader.Read(head)) {
    std::span<const std::uint8_t> piece;
    const std::uint64_t length = std::uint64_t{head} >> 3;
    if (!reader.ReadBytes(length, piece)) break;
    made.Add(AsText(piece), static_cast<PieceType>(head & 7), score -= 1);
  }
  Use(made.vocabulary, AsText(copy));
  return 0;
}
