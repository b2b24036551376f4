// From imported tensors to the sections of a blob: in slices, so that memory stays small.
#ifndef LAPIDARY_WEIGHTS_PACK_TENSORS_H_
#define LAPIDARY_WEIGHTS_PACK_TENSORS_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "lapidary/base/bytes.h"
#include "lapidary/base/result.h"
#include "lapidary/weights/blob.h"
#include "lapidary/weights/import.h"
#include "lapidary/weights/pack.h"
#include "lapidary/weights/quant.h"

namespace lapidary {
namespace internal {

inline Error InFile(const std::filesystem::path& path, const Error& error) {
  return Error{error.code, StrCat(path.string(), ": ", error.message)};
}

// Whether the values of a tensor change on their way, beyond being widened to the f32 of a vector.
inline bool NeedsEncoding(const ImportTensor& tensor) {
  const bool other_format = tensor.kind == SectionKind::kMatrix &&
                            tensor.format != StoredFormat(tensor.name, tensor.source_format);
  return other_format || tensor.transposed || tensor.less_one;
}

// Packs a plane of `count` panels of a matrix from panel `first` on; of a vector, all of it. The
// tensor must not need encoding.
inline void PackTensor(const ImportTensor& tensor, std::size_t first, std::size_t count,
                       std::uint8_t* out, Plane plane = Plane::kUnits) {
  if (tensor.kind == SectionKind::kMatrix) {
    PackPanels(tensor.format, tensor.source, tensor.source_rows, tensor.cols, first, count, out,
               plane);
    return;
  }
  const Format format = tensor.source_format;
  const std::size_t bytes = static_cast<std::size_t>(SpecOf(format).source_bytes);
  for (std::size_t i = 0; i < tensor.cols; ++i) {
    StoreLittleEndian(WidenToFloat(format, tensor.source.data() + i * bytes),
                      out + i * sizeof(float));
  }
}

// A run of panels that is packed in one go.
struct PackSlice {
  std::size_t tensor = 0;
  std::size_t first = 0;   // panel
  std::size_t count = 0;   // panels
  std::size_t offset = 0;  // of the result in the section
  std::size_t bytes = 0;   // of the result
  Plane plane = Plane::kUnits;
  std::span<const std::uint8_t> source;
};

// Cuts tensors into slices of about 4 MiB: small beside any model, large beside the cost of a call.
inline std::vector<PackSlice> CutIntoSlices(std::span<const ImportTensor> tensors) {
  constexpr std::size_t kSliceBytes = std::size_t{4} << 20;
  std::vector<PackSlice> slices;
  for (std::size_t t = 0; t < tensors.size(); ++t) {
    const ImportTensor& tensor = tensors[t];
    if (tensor.kind == SectionKind::kVector) {
      slices.push_back({t, 0, 1, 0, tensor.cols * sizeof(float), Plane::kUnits, tensor.source});
      continue;
    }
    const QuantSpec& spec = SpecOf(tensor.format);
    const std::size_t row_bytes = SourceRowBytes(SpecOf(tensor.source_format), tensor.cols);
    const std::size_t panels = CountPanels(tensor.rows);
    std::size_t offset = 0;
    for (const Plane plane : kAllPlanes) {
      const std::size_t panel_bytes = spec.plane_bytes(plane, tensor.cols);
      if (panel_bytes == 0) continue;
      const std::size_t step = std::max<std::size_t>(1, kSliceBytes / panel_bytes);
      for (std::size_t first = 0; first < panels; first += step) {
        const std::size_t count = std::min(step, panels - first);
        const std::size_t begin = std::min(first * kPanelRows, tensor.source_rows);
        const std::size_t end = std::min((first + count) * kPanelRows, tensor.source_rows);
        const std::span<const std::uint8_t> source =
            tensor.transposed ? tensor.source
                              : tensor.source.subspan(begin * row_bytes, (end - begin) * row_bytes);
        slices.push_back({t, first, count, offset, count * panel_bytes, plane, source});
        offset += count * panel_bytes;
      }
    }
  }
  return slices;
}

// The directory of an import: one section per tensor, in their order, then the vocabulary if there
// is one. Offsets and checksums are not set. `vocabulary` is the encoded one, or empty.
inline Result<std::vector<Section>> SectionsOf(const Import& import,
                                               std::span<const std::uint8_t> vocabulary) {
  std::vector<Section> sections;
  for (const ImportTensor& tensor : import.tensors) {
    Section section;
    section.name = tensor.name;
    section.kind = tensor.kind;
    section.format = tensor.format;
    section.rows = tensor.rows;
    section.cols = tensor.cols;
    const std::optional<std::uint64_t> bytes = SectionBytes(section);
    if (!bytes) return MakeError(ErrorCode::kCorrupt, tensor.name, " is too large");
    section.bytes = *bytes;
    sections.push_back(std::move(section));
  }
  if (!vocabulary.empty()) {
    Section section;
    section.name = kVocabularySection;
    section.kind = SectionKind::kVocabulary;
    section.rows = 1;
    section.cols = import.vocabulary->pieces.size();
    section.bytes = vocabulary.size();
    sections.push_back(std::move(section));
  }
  return sections;
}

}  // namespace internal
}  // namespace lapidary

#endif  // LAPIDARY_WEIGHTS_PACK_TENSORS_H_
