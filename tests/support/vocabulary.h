// Vocabularies for tests of text: a small one made by hand (hand_made.h), and that of the real
// model.
#ifndef LAPIDARY_TESTS_SUPPORT_VOCABULARY_H_
#define LAPIDARY_TESTS_SUPPORT_VOCABULARY_H_

#include <filesystem>
#include <optional>

#include "lapidary/text/tokenizer.h"
#include "lapidary/weights/weight_file.h"
#include "tests/support/catch.h"
#include "tests/support/hand_made.h"
#include "tests/support/real_model.h"

namespace lapidary::testing {

// The tokenizer of the real model, read once; nothing where there is no real model.
inline std::optional<Tokenizer> RealTokenizer() {
  const std::filesystem::path path = RealModelPath();
  if (path.empty()) return std::nullopt;
  static const Tokenizer tokenizer = [&] {
    Result<WeightFile> file = WeightFile::Open(path);
    INFO((file ? "" : file.error().message));
    REQUIRE(file.ok());
    REQUIRE(file->vocabulary() != nullptr);
    Result<Tokenizer> made = Tokenizer::Create(*file->vocabulary());
    INFO((made ? "" : made.error().message));
    REQUIRE(made.ok());
    return *std::move(made);
  }();
  return tokenizer;
}

}  // namespace lapidary::testing

#endif  // LAPIDARY_TESTS_SUPPORT_VOCABULARY_H_
