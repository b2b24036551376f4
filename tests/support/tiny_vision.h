// The tiny model with an image encoder: a blob whose weights are generated, as in synthetic_gguf.h.
// tests/golden/make_tiny_vision.py generates the same and runs it through transformers.
#ifndef LAPIDARY_TESTS_SUPPORT_TINY_VISION_H_
#define LAPIDARY_TESTS_SUPPORT_TINY_VISION_H_

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "lapidary/base/buffer.h"
#include "lapidary/vision/picture.h"
#include "lapidary/weights/blob.h"
#include "lapidary/weights/pack.h"
#include "lapidary/weights/weight_file.h"
#include "tests/support/catch.h"
#include "tests/support/synthetic_gguf.h"
#include "tests/support/temp_folder.h"
#include "tests/support/tiny_model.h"

namespace lapidary::testing {

struct TinyVisionModel {
  static constexpr std::string_view kName = "tiny vision";
  static constexpr Config kConfig = [] {
    Config config = TinyModel::kConfig;
    config.layers = 6;
    config.window = 12;
    config.vision = {.image = 140,
                     .patch = 7,
                     .width = 96,
                     .layers = 3,
                     .heads = 4,
                     .ff_width = 176,
                     .soft_tokens = 16};
    return config;
  }();
};

// A section of a blob and its bytes.
struct BlobPart {
  Section section;
  std::vector<std::uint8_t> bytes;
};

inline std::vector<std::uint8_t> BytesOf(std::span<const float> values) {
  const auto* data = reinterpret_cast<const std::uint8_t*>(values.data());
  return {data, data + values.size_bytes()};
}

inline BlobPart VectorPart(std::string name, const std::vector<float>& values) {
  Section section = {
      .name = std::move(name), .kind = SectionKind::kVector, .rows = 1, .cols = values.size()};
  section.bytes = values.size() * sizeof(float);
  return {std::move(section), BytesOf(values)};
}

// From the bytes of a GGUF tensor, [rows, cols].
inline BlobPart MatrixPart(std::string name, Format format, std::size_t rows, std::size_t cols,
                           std::span<const std::uint8_t> source) {
  const PackedMatrix matrix = {format, rows, cols, nullptr};
  Section section = {.name = std::move(name),
                     .kind = SectionKind::kMatrix,
                     .format = format,
                     .rows = rows,
                     .cols = cols};
  section.bytes = matrix.bytes();
  std::vector<std::uint8_t> packed(matrix.bytes());
  PackPanels(format, source, rows, cols, 0, matrix.panels(), packed.data());
  return {std::move(section), std::move(packed)};
}

// Calls add(part) for every section of an image encoder: vision_tensors() of make_tiny_vision.py.
inline void ForEachVisionPart(const Config& config, Format format,
                              const std::function<void(BlobPart)>& add) {
  const VisionConfig& v = config.vision;
  const auto matrix = [&](const std::string& name, std::int32_t rows, std::int32_t cols) {
    const auto r = static_cast<std::size_t>(rows), c = static_cast<std::size_t>(cols);
    add(MatrixPart(name, format, r, c, GenerateMatrix(name, r, c, format)));
  };
  const auto vector = [&](const std::string& name, std::int32_t size, std::int32_t smallest,
                          std::int32_t range) {
    add(VectorPart(name, GenerateGains(name, static_cast<std::size_t>(size), smallest, range)));
  };
  const auto affine = [&](const std::string& name, std::int32_t rows, std::int32_t cols) {
    matrix(name, rows, cols);
    vector(name + "_bias", rows, -2, 4);
  };
  const auto norm = [&](const std::string& name) {
    vector(name, v.width, 4, 16);
    vector(name + "_bias", v.width, -4, 8);
  };
  affine("vision.patch", v.width, 3 * v.patch * v.patch);
  matrix("vision.positions", v.patches(), v.width);
  for (std::int32_t i = 0; i < v.layers; ++i) {
    const std::string layer = StrCat("vision.layers.", i, ".");
    norm(layer + "norm1");
    for (const char* part : {"q", "k", "v", "out"}) affine(layer + part, v.width, v.width);
    norm(layer + "norm2");
    affine(layer + "up", v.ff_width, v.width);
    affine(layer + "down", v.width, v.ff_width);
  }
  norm("vision.final_norm");
  vector("vision.soft_norm", v.width, 4, 16);
  matrix("vision.projection", config.width, v.width);
}

// The sections of a tiny model's decoder, as its GGUF file is imported.
inline std::vector<BlobPart> DecoderParts(const Config& config, const TinyFormats& formats) {
  const TempFolder folder;
  Config text = config;
  text.vision = {};
  WriteFile(folder / "text.gguf", TinyGguf(text, formats));
  const Result<WeightFile> file = WeightFile::Open(folder / "text.gguf");
  INFO((file ? "" : file.error().message));
  REQUIRE(file.ok());
  std::vector<BlobPart> parts;
  for (const Section& section : file->sections()) {
    const auto rows = static_cast<std::size_t>(section.rows);
    const auto cols = static_cast<std::size_t>(section.cols);
    if (section.kind == SectionKind::kMatrix) {
      const std::uint8_t* data = file->Matrix(section.name, rows, cols)->data;
      parts.push_back({section, {data, data + section.bytes}});
    } else if (section.kind == SectionKind::kVector) {
      parts.push_back({section, BytesOf(*file->Vector(section.name, cols))});
    } else {
      parts.push_back({section, EncodeVocabulary(*file->vocabulary())});
    }
  }
  return parts;
}

inline void WriteBlob(const std::filesystem::path& path, const Config& config,
                      const std::vector<BlobPart>& parts) {
  BlobHeader header;
  header.config = config;
  for (const BlobPart& part : parts) header.sections.push_back(part.section);
  Result<BlobWriter> writer = BlobWriter::Create(path, std::move(header));
  REQUIRE(writer.ok());
  for (std::size_t i = 0; i < parts.size(); ++i) REQUIRE(writer->Append(i, parts[i].bytes).ok());
  REQUIRE(writer->Commit().ok());
}

inline std::vector<BlobPart> TinyVisionParts(Format vision = Format::kF32,
                                             const TinyFormats& formats = {}) {
  std::vector<BlobPart> parts = DecoderParts(TinyVisionModel::kConfig, formats);
  ForEachVisionPart(TinyVisionModel::kConfig, vision,
                    [&](BlobPart part) { parts.push_back(std::move(part)); });
  return parts;
}

inline Result<Model<TinyVisionModel>> OpenParts(const std::vector<BlobPart>& parts,
                                                const ModelOptions& options = {}) {
  const TempFolder folder;
  WriteBlob(folder / "tiny.lap", TinyVisionModel::kConfig, parts);
  return Model<TinyVisionModel>::Open(folder / "tiny.lap", options);
}

inline Model<TinyVisionModel> OpenTinyVision(const ModelOptions& options = {},
                                             Format vision = Format::kF32,
                                             const TinyFormats& formats = {}) {
  Result<Model<TinyVisionModel>> model = OpenParts(TinyVisionParts(vision, formats), options);
  INFO((model ? "" : model.error().message));
  REQUIRE(model.ok());
  return *std::move(model);
}

}  // namespace lapidary::testing

#endif  // LAPIDARY_TESTS_SUPPORT_TINY_VISION_H_
