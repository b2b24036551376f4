// GGUF files: header, metadata, what a decoder or a vision tower is made of, and the packing of
// every tensor.
#include <span>
#include <vector>

#include "lapidary/config/models.h"
#include "lapidary/weights/blob.h"
#include "lapidary/weights/gguf.h"
#include "lapidary/weights/import.h"
#include "lapidary/weights/import_gguf.h"
#include "lapidary/weights/import_vision.h"
#include "lapidary/weights/pack_tensors.h"
#include "tests/fuzz/fuzz.h"

namespace {

using namespace lapidary;

// What WeightFile::Open does with an import, without threads.
void Pack(const Import& import) {
  std::vector<std::uint8_t> vocabulary;
  if (import.vocabulary) vocabulary = EncodeVocabulary(*import.vocabulary);
  const Result<std::vector<Section>> sections = internal::SectionsOf(import, vocabulary);
  if (!sections) return;
  for (const internal::PackSlice& slice : internal::CutIntoSlices(import.tensors)) {
    const ImportTensor& tensor = import.tensors[slice.tensor];
    if (internal::NeedsEncoding(tensor)) continue;
    std::vector<std::uint8_t> packed(slice.bytes);
    internal::PackTensor(tensor, slice.first, slice.count, packed.data(), slice.plane);
  }
  if (import.vocabulary) {
    fuzz::Require(DecodeVocabulary(vocabulary).ok(), "an imported vocabulary can be read again");
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::vector<std::uint8_t> file = fuzz::Copy({data, size});
  const Result<Gguf> gguf = Gguf::Parse(file);
  if (!gguf) return 0;
  for (const auto& [key, value] : gguf->metadata()) {
    (void)value.Integer();
    (void)value.Number();
    (void)value.Text();
    (void)value.Strings();
    (void)value.TypeName();
  }
  for (const SourceTensor& tensor : gguf->tensors().all()) {
    fuzz::Require(tensor.bytes.data() >= file.data() &&
                      tensor.bytes.data() + tensor.bytes.size() <= file.data() + file.size(),
                  "tensors are in the file");
  }
  if (const Result<Import> import = ImportGguf(*gguf)) {
    fuzz::Require(CheckConfig(import->config).ok(), "an imported Config can be one");
    Pack(*import);
  }
  Import with_vision;
  with_vision.config = Gemma3_4B::kConfig;
  with_vision.config.vision = {};
  with_vision.config.width = 32;
  if (ImportMmproj(*gguf, with_vision)) Pack(with_vision);
  return 0;
}
