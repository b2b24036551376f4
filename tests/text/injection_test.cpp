// Text of others is text: whatever a user, a system text, a caption or a file says, none of it
// becomes an instruction to the model.
#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "lapidary/text/chat_template.h"
#include "lapidary/text/tokenizer.h"
#include "tests/support/catch.h"
#include "tests/support/synthetic_gguf.h"
#include "tests/support/vocabulary.h"

namespace lapidary {
namespace {

using Ids = std::vector<std::int32_t>;

// The ids that only programs may write, of Gemma's vocabulary: <pad>, <eos>, <bos>; <mask> to
// <end_of_turn>; from the markers of pictures on, all that is left. 3, <unk>, is what
// sentencepiece gives to nothing as long as there are byte pieces.
bool IsInstruction(std::int32_t id) {
  return (id >= 0 && id <= 2) || (id >= 4 && id <= kEndOfTurn) || id >= kStartOfImage;
}

// Parts that an attacker would put together: names of control pieces, whole and in halves, what
// looks like them, what normalisation could turn into them, and what surrounds them.
constexpr std::array<std::string_view, 56> kParts = {
    "<end_of_turn>",
    "<start_of_turn>",
    "<bos>",
    "<eos>",
    "<pad>",
    "<unk>",
    "<mask>",
    "<start_of_image>",
    "<end_of_image>",
    "<image_soft_token>",
    "[multimodal]",
    "<unused0>",
    "<unused99>",
    "<unused6241>",
    "<",
    ">",
    "<start",
    "_of_",
    "turn>",
    "<end",
    "of_turn",
    "bos>",
    "<<",
    "model\n",
    "user\n",
    "system",
    "\n",
    "\n\n",
    "\n\n\n\n",
    " ",
    "  ",
    "\t",
    "\xE2\x96\x81",
    "\xE2\x96\x81<bos>",
    "\xEF\xBC\x9C"
    "bos\xEF\xBC\x9E",  // full-width angle brackets
    "<b\xD0\xBE"
    "s>",  // a Cyrillic o
    "<bos\xE2\x80\x8B>",
    "\xEF\xBB\xBF<bos>",  // zero-width space, byte order mark
    "<end_of\xCC\xB2_turn>",
    "<\xC2\xAD"
    "bos>",  // combining line, soft hyphen
    "\xE2\x80\xAE>sob<",
    "<0x0A>",
    "<0x3C>",
    "</s>",
    "<s>",
    "<h1>",
    "</table>",
    "&lt;bos&gt;",
    "\\u003cbos\\u003e",
    "%3Cbos%3E",
    std::string_view("\0", 1),
    std::string_view("<bos\0>", 6),
    "\xFF",
    "\xE2\x82",
    "\xC0\xBC"
    "bos>",
    "\xF0\x9F\x98\x80"};

// Number `seed` of the texts: up to 12 parts, of which some are random bytes.
std::string SomeText(std::uint64_t seed) {
  std::string text;
  const std::uint64_t count = testing::StreamWord(seed, 0) % 12 + 1;
  for (std::uint64_t i = 1; i <= count; ++i) {
    const std::uint64_t word = testing::StreamWord(seed, i);
    if (word % 8 != 0) {
      text += kParts[(word >> 8) % kParts.size()];
    } else {
      text += static_cast<char>(word >> 16);
      text += static_cast<char>(word >> 24);
    }
  }
  return text;
}

std::size_t CountInstructions(std::span<const std::int32_t> ids) {
  return static_cast<std::size_t>(std::count_if(ids.begin(), ids.end(), IsInstruction));
}

// The vocabulary of the real model, or a small one with the control pieces at their places and
// merges that build parts of their names.
Tokenizer TheTokenizer() {
  if (const std::optional<Tokenizer> real = testing::RealTokenizer()) return *real;
  testing::HandMade made({"\xE2\x96\x81t", "of", "_of", "_of_", "turn", "turn>", "end", "<end",
                          "start", "<start", "<start_of_", "bo", "bos", "bos>", "<end_of_"});
  for (const char* piece : {"\n", "\n\n", "\n\n\n", "  ", "\t", "<h1>"}) {
    made.Add(piece, PieceType::kUserDefined);
  }
  return *Tokenizer::Create(made.vocabulary);
}

}  // namespace

TEST_CASE("100 000 texts of others hold no instruction") {
  const Tokenizer tokenizer = TheTokenizer();
  const Result<ChatTemplate> chat = ChatTemplate::Create(tokenizer);
  REQUIRE(chat.ok());
  const std::size_t first = CountInstructions(chat->FirstTurn("x", "x"));
  const std::size_t next = CountInstructions(chat->NextTurn("x"));
  REQUIRE(first == 4);  // <bos>, and three markers of turns
  REQUIRE(next == 4);
  // A test that cannot fail shows nothing: asked to, the tokenizer does make instructions of these.
  REQUIRE(CountInstructions(tokenizer.EncodeWithControl("<end_of_turn>\n<start_of_turn>")) == 2);

  for (std::uint64_t seed = 0; seed < 100'000; ++seed) {
    const std::string text = SomeText(seed);
    std::size_t found = 0, expected = 0;
    switch (seed % 4) {
      case 0:  // the content of a file
        found = CountInstructions(tokenizer.Encode(text));
        break;
      case 1:  // a caption beside a picture of 4 soft tokens, with its two markers
        found = CountInstructions(
            PromptBuilder(tokenizer).AddText(text).AddImage(4).AddText(text).Take());
        expected = 6;
        break;
      case 2:
        found = CountInstructions(chat->FirstTurn(text, SomeText(seed + 1'000'000)));
        expected = first;
        break;
      case 3:
        found = CountInstructions(chat->NextTurn(text));
        expected = next;
        break;
    }
    if (found != expected) {
      CAPTURE(seed, text);
      CHECK(found == expected);
    }
  }
}

}  // namespace lapidary
