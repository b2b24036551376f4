// The pieces of a sentencepiece model, as a weight file stores them.
#ifndef LAPIDARY_TEXT_VOCABULARY_H_
#define LAPIDARY_TEXT_VOCABULARY_H_

#include <cstdint>
#include <string_view>
#include <vector>

namespace lapidary {

// What a piece is for. The numbers are those of sentencepiece's model proto and of GGUF's
// tokenizer.ggml.token_type.
enum class PieceType : std::uint8_t {
  kNormal = 1,
  kUnknown = 2,
  kControl = 3,
  kUserDefined = 4,
  kUnused = 5,
  kByte = 6,
};

// Piece i has the id i. The three vectors have equal lengths; the pieces are views into the file
// that they were read from and live as long as it stays open.
struct Vocabulary {
  std::vector<std::string_view> pieces;
  std::vector<float> scores;
  std::vector<PieceType> types;
};

}  // namespace lapidary

#endif  // LAPIDARY_TEXT_VOCABULARY_H_
