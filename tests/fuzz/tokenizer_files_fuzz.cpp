// tokenizer.model and tokenizer.json.
#include <vector>

#include "lapidary/text/tokenizer.h"
#include "lapidary/weights/tokenizer_files.h"
#include "tests/fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace lapidary;
  const std::vector<std::uint8_t> file = fuzz::Copy({data, size});
  if (const Result<Vocabulary> read = ReadSentencepieceModel(file)) {
    (void)Tokenizer::Create(*read);
  }
  if (const Result<OwnedVocabulary> read = ReadTokenizerJson(file)) {
    (void)Tokenizer::Create(read->vocabulary);
  }
  return 0;
}
