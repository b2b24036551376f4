// What a weight file says about itself, read without its weights: a GGUF file is not packed.
#ifndef LAPIDARY_EXAMPLES_WEIGHT_HEADER_H_
#define LAPIDARY_EXAMPLES_WEIGHT_HEADER_H_

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "lapidary/base/file.h"
#include "lapidary/base/result.h"
#include "lapidary/config/config.h"
#include "lapidary/text/tokenizer.h"
#include "lapidary/text/vocabulary.h"
#include "lapidary/weights/weight_file.h"

namespace lapidary::cli {

// Movable; keeps the file open.
class WeightHeader {
 public:
  // Errors: those of WeightFile::Open.
  static Result<WeightHeader> Read(const std::filesystem::path& path);

  Container container() const { return gguf_ ? Container::kGguf : Container::kBlob; }
  const Config& config() const { return gguf_ ? gguf_->import.config : blob_->config(); }
  // Null if the file has none.
  const Vocabulary* vocabulary() const;
  std::vector<std::string> warnings() const;
  Provenance provenance() const;
  // Of a GGUF file: what the sections of its blob would be, without offsets and checksums.
  std::vector<Section> sections() const;
  // Null for a GGUF file.
  const WeightFile* blob() const { return blob_ ? &*blob_ : nullptr; }

 private:
  struct GgufHeader {
    InputFile file;
    Import import;
  };

  WeightHeader() = default;

  std::optional<WeightFile> blob_;  // either this
  std::optional<GgufHeader> gguf_;  // or that
};

// The tokenizer of a file, ready to encode. kUnsupported if the file has no vocabulary.
Result<Tokenizer> ReadTokenizer(const WeightHeader& header, const std::filesystem::path& path);

}  // namespace lapidary::cli

#endif  // LAPIDARY_EXAMPLES_WEIGHT_HEADER_H_
