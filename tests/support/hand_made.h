// A vocabulary made by hand.
#ifndef LAPIDARY_TESTS_SUPPORT_HAND_MADE_H_
#define LAPIDARY_TESTS_SUPPORT_HAND_MADE_H_

#include <cstdint>
#include <cstdio>
#include <deque>
#include <initializer_list>
#include <string>
#include <string_view>

#include "lapidary/text/vocabulary.h"

namespace lapidary::testing {

// A vocabulary that a test builds piece by piece and may then spoil.
class HandMade {
 public:
  // Gemma's first four pieces, the two turn markers at their places, the bytes from kFirstByte on,
  // the space, and from kFirst on these ordinary pieces, the earlier the sooner they are merged.
  static constexpr std::int32_t kFirstByte = 107;
  static constexpr std::int32_t kSpace = kFirstByte + 256;
  static constexpr std::int32_t kFirst = kSpace + 1;

  explicit HandMade(std::initializer_list<std::string_view> ordinary) {
    for (const char* piece : {"<pad>", "<eos>", "<bos>"}) Add(piece, PieceType::kControl);
    Add("<unk>", PieceType::kUnknown);
    for (int i = 4; i < 105; ++i) Add("<unused" + std::to_string(i - 4) + ">", PieceType::kControl);
    Add("<start_of_turn>", PieceType::kControl);
    Add("<end_of_turn>", PieceType::kControl);
    for (int byte = 0; byte < 256; ++byte) {
      char piece[8];
      std::snprintf(piece, sizeof(piece), "<0x%02X>", byte);
      Add(piece, PieceType::kByte);
    }
    Add("\xE2\x96\x81", PieceType::kNormal, -900);
    float score = 0;
    for (const std::string_view piece : ordinary) Add(piece, PieceType::kNormal, score -= 1);
  }

  // Returns the id of the new piece.
  std::int32_t Add(std::string_view piece, PieceType type, float score = -1000) {
    texts_.emplace_back(piece);
    vocabulary.pieces.push_back(texts_.back());
    vocabulary.scores.push_back(score);
    vocabulary.types.push_back(type);
    return static_cast<std::int32_t>(vocabulary.pieces.size()) - 1;
  }

  Vocabulary vocabulary;

 private:
  std::deque<std::string> texts_;  // a deque does not move what it holds
};

}  // namespace lapidary::testing

#endif  // LAPIDARY_TESTS_SUPPORT_HAND_MADE_H_
