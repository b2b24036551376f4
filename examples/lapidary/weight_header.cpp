#include "weight_header.h"

#include <utility>

#include "lapidary/base/bytes.h"
#include "lapidary/weights/gguf.h"
#include "lapidary/weights/import_gguf.h"

namespace lapidary::cli {

Result<WeightHeader> WeightHeader::Read(const std::filesystem::path& path) {
  Result<InputFile> file = InputFile::Open(path);
  if (!file) return file.error();
  WeightHeader header;
  if (!AsText(file->bytes()).starts_with(Gguf::kMagic)) {
    Result<WeightFile> blob = WeightFile::Open(path);
    if (!blob) return blob.error();
    header.blob_ = *std::move(blob);
    return header;
  }
  const auto in_file = [&](const Error& error) {
    return MakeError(error.code, path.string(), ": ", error.message);
  };
  Result<Gguf> gguf = Gguf::Parse(file->bytes());
  if (!gguf) return in_file(gguf.error());
  Result<Import> import = ImportGguf(*gguf);
  if (!import) return in_file(import.error());
  header.gguf_ = GgufHeader{*std::move(file), *std::move(import)};
  return header;
}

const Vocabulary* WeightHeader::vocabulary() const {
  if (!gguf_) return blob_->vocabulary();
  return gguf_->import.vocabulary ? &*gguf_->import.vocabulary : nullptr;
}

std::vector<std::string> WeightHeader::warnings() const {
  return gguf_ ? gguf_->import.warnings : blob_->warnings();
}

Provenance WeightHeader::provenance() const {
  if (!gguf_) return blob_->provenance();
  return {.source = gguf_->file.path().filename().string(),
          .sha256 = "",
          .license = gguf_->import.license};
}

std::vector<Section> WeightHeader::sections() const {
  if (!gguf_) return blob_->sections();
  std::vector<Section> sections;
  for (const ImportTensor& tensor : gguf_->import.tensors) {
    Section section = {.name = tensor.name,
                       .kind = tensor.kind,
                       .format = tensor.format,
                       .rows = tensor.rows,
                       .cols = tensor.cols};
    section.bytes = SectionBytes(section).value_or(0);
    sections.push_back(std::move(section));
  }
  return sections;
}

Result<Tokenizer> ReadTokenizer(const WeightHeader& header, const std::filesystem::path& path) {
  if (header.vocabulary() == nullptr) {
    return MakeError(ErrorCode::kUnsupported, path.string(), " holds no vocabulary");
  }
  Result<Tokenizer> tokenizer = Tokenizer::Create(*header.vocabulary());
  const Status status = tokenizer ? tokenizer->Prepare() : Status(tokenizer.error());
  if (!status) {
    return MakeError(status.error().code, path.string(), ": ", status.error().message);
  }
  return tokenizer;
}

}  // namespace lapidary::cli
