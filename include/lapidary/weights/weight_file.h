// A model's weights, opened: the one interface behind which blobs and GGUF files look alike.
#ifndef LAPIDARY_WEIGHTS_WEIGHT_FILE_H_
#define LAPIDARY_WEIGHTS_WEIGHT_FILE_H_

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "lapidary/base/buffer.h"
#include "lapidary/base/bytes.h"
#include "lapidary/base/file.h"
#include "lapidary/base/progress.h"
#include "lapidary/base/result.h"
#include "lapidary/base/threads.h"
#include "lapidary/base/xxhash64.h"
#include "lapidary/config/config.h"
#include "lapidary/text/vocabulary.h"
#include "lapidary/weights/blob.h"
#include "lapidary/weights/gguf.h"
#include "lapidary/weights/import.h"
#include "lapidary/weights/import_gguf.h"
#include "lapidary/weights/pack_tensors.h"
#include "lapidary/weights/quant.h"

namespace lapidary {

struct LoadOptions {
  LoadMode mode = LoadMode::kMap;  // of a blob; a GGUF is packed into memory in any case
  ProgressCallback progress;       // while a GGUF is packed; may be empty
};

// Kinds of file that WeightFile reads.
enum class Container { kBlob, kGguf };

// An open model. Movable, not copyable; views into it live as long as it does and survive a move.
// All functions but Open are const and may be called by several threads.
class WeightFile {
 public:
  // Opens a blob (reads its header only; the weights are mapped) or a GGUF file (packs all weights
  // into memory on several threads and closes the file). Which one it is, the first bytes say, not
  // the name. Errors name the path: those of InputFile::Open, Gguf::Parse, ImportGguf and
  // BlobHeader::Parse, kCorrupt for anything else that is no weight file, kCancelled.
  static Result<WeightFile> Open(const std::filesystem::path& path,
                                 const LoadOptions& options = {});

  const std::filesystem::path& path() const { return path_; }
  Container container() const { return container_; }
  const Config& config() const { return header_.config; }
  const Provenance& provenance() const { return header_.provenance; }
  // Contradictions between metadata and shapes, and what was left out. Always empty for a blob:
  // they were reported when it was made.
  const std::vector<std::string>& warnings() const { return warnings_; }

  // Null if the file has none.
  const Vocabulary* vocabulary() const { return vocabulary_ ? &*vocabulary_ : nullptr; }

  // The directory. Offsets and checksums mean something in a blob only.
  const std::vector<Section>& sections() const { return header_.sections; }
  bool has_checksums() const { return container_ == Container::kBlob; }

  // The matrix or vector called `name`, if it has this shape. Errors: kNotFound, kMismatch (another
  // shape), kUnsupported (a format that this version does not read).
  Result<PackedMatrix> Matrix(std::string_view name, std::size_t rows, std::size_t cols) const;
  Result<std::span<const float>> Vector(std::string_view name, std::size_t size) const;

  // Reads every byte of a blob and compares the checksums. kCorrupt names the first section that is
  // damaged. A GGUF file has no checksums, and succeeds.
  Status Verify(const ProgressCallback& progress = {}) const;

 private:
  WeightFile() = default;

  static Result<WeightFile> OpenBlob(InputFile file);
  static Result<WeightFile> LoadGguf(const InputFile& file, const LoadOptions& options);

  Result<const Section*> Find(std::string_view name, SectionKind kind, std::size_t rows,
                              std::size_t cols) const;
  std::span<const std::uint8_t> Bytes(const Section& section) const {
    return bytes_.subspan(static_cast<std::size_t>(section.offset),
                          static_cast<std::size_t>(section.bytes));
  }
  Status ReadVocabulary(const Section& section);
  void BuildIndex() {
    for (std::size_t i = 0; i < sections().size(); ++i) index_.emplace(sections()[i].name, i);
  }

  std::filesystem::path path_;
  Container container_ = Container::kBlob;
  std::optional<InputFile> file_;        // of a blob
  AlignedBuffer packed_;                 // of a GGUF file
  std::span<const std::uint8_t> bytes_;  // of whichever it is; offsets of sections count from here
  BlobHeader header_;
  std::map<std::string_view, std::size_t> index_;  // name -> sections(), whose names these are
  std::optional<Vocabulary> vocabulary_;
  std::vector<std::string> warnings_;
};

namespace internal {

// What a file that is no weight file seems to be, for the message.
inline std::string DescribeStart(std::span<const std::uint8_t> bytes) {
  constexpr std::pair<std::string_view, std::string_view> kKnown[] = {
      {"\x89PNG", "a PNG picture"},
      {"\xFF\xD8\xFF", "a JPEG picture"},
      {"PK\x03\x04", "a ZIP archive"},
      {"\x1F\x8B", "a gzip archive"},
      {"version https://git-lfs", "a Git LFS pointer: the file itself was not downloaded"},
      {"<", "a web page"},
      {"{", "JSON text"},
  };
  const std::string_view text = AsText(bytes);
  for (const auto& [start, what] : kKnown) {
    if (text.starts_with(start)) return std::string(what);
  }
  std::string hex;
  for (const std::uint8_t byte : bytes.first(std::min<std::size_t>(bytes.size(), 8))) {
    hex += hex.empty() ? "" : " ";
    hex += "0123456789ABCDEF"[byte >> 4];
    hex += "0123456789ABCDEF"[byte & 15];
  }
  return StrCat("a file that begins with the bytes ", hex);
}

}  // namespace internal

inline Result<WeightFile> WeightFile::Open(const std::filesystem::path& path,
                                           const LoadOptions& options) {
  Result<InputFile> file = InputFile::Open(path);
  if (!file) return file.error();
  const std::span<const std::uint8_t> bytes = file->bytes();
  const bool gguf = AsText(bytes).starts_with(Gguf::kMagic);
  const bool blob = bytes.size() >= kBlobMagic.size() &&
                    std::equal(kBlobMagic.begin(), kBlobMagic.end(), bytes.begin());
  if (!gguf && !blob) {
    return MakeError(ErrorCode::kCorrupt, path.string(),
                     ": expected a Lapidary blob or a GGUF file, found ",
                     internal::DescribeStart(bytes));
  }
  if (blob && options.mode == LoadMode::kCopy) {
    file = InputFile::Open(path, LoadMode::kCopy);
    if (!file) return file.error();
  }
  Result<WeightFile> weights = gguf ? LoadGguf(*file, options) : OpenBlob(*std::move(file));
  if (!weights) return internal::InFile(path, weights.error());
  weights->path_ = path;
  return weights;
}

inline Result<WeightFile> WeightFile::OpenBlob(InputFile file) {
  WeightFile weights;
  weights.container_ = Container::kBlob;
  weights.file_ = std::move(file);
  weights.bytes_ = weights.file_->bytes();
  Result<BlobHeader> header = BlobHeader::Parse(weights.bytes_);
  if (!header) return header.error();
  weights.header_ = *std::move(header);
  weights.BuildIndex();
  for (const Section& section : weights.sections()) {
    if (section.kind != SectionKind::kVocabulary) continue;
    // Read in whole now, so it may as well be checked.
    if (HashBytes(weights.Bytes(section)) != section.checksum) {
      return MakeError(ErrorCode::kCorrupt, "section ", Printable(section.name),
                       " is damaged (its checksum differs)");
    }
    if (Status status = weights.ReadVocabulary(section); !status) return status.error();
  }
  return weights;
}

inline Status WeightFile::ReadVocabulary(const Section& section) {
  Result<Vocabulary> vocabulary = DecodeVocabulary(Bytes(section));
  if (!vocabulary) return vocabulary.error();
  if (vocabulary->pieces.size() > static_cast<std::size_t>(config().vocabulary)) {
    return MakeError(ErrorCode::kCorrupt, "the tokenizer has ", vocabulary->pieces.size(),
                     " pieces, the embedding only ", config().vocabulary, " rows");
  }
  vocabulary_ = *std::move(vocabulary);
  return {};
}

inline Result<WeightFile> WeightFile::LoadGguf(const InputFile& file, const LoadOptions& options) {
  Result<Gguf> gguf = Gguf::Parse(file.bytes());
  if (!gguf) return gguf.error();
  Result<Import> import = ImportGguf(*gguf);
  if (!import) return import.error();

  // The same layout as in a blob, without its header.
  std::vector<std::uint8_t> vocabulary;
  if (import->vocabulary) vocabulary = EncodeVocabulary(*import->vocabulary);
  Result<std::vector<Section>> sections = internal::SectionsOf(*import, vocabulary);
  if (!sections) return sections.error();
  std::optional<std::uint64_t> end = 0;
  for (Section& section : *sections) {
    if (end) end = CheckedAlignUp(*end, kSectionAlignment);
    section.offset = end.value_or(0);
    if (end) end = CheckedAdd(*end, section.bytes);
  }
  if (!end || *end > std::size_t(-1)) {
    return MakeError(ErrorCode::kOutOfMemory,
                     "the packed weights do not fit into the address space");
  }
  WeightFile weights;
  weights.container_ = Container::kGguf;
  Result<AlignedBuffer> packed =
      AlignedBuffer::Allocate(static_cast<std::size_t>(*end), "the packed weights");
  if (!packed) return packed.error();
  weights.packed_ = *std::move(packed);
  std::uint8_t* const memory = weights.packed_.data();

  const std::vector<internal::PackSlice> slices = internal::CutIntoSlices(import->tensors);
  std::uint64_t total = 0;
  for (const internal::PackSlice& slice : slices) total += slice.bytes;
  std::atomic<std::size_t> next = 0;
  std::atomic<std::uint64_t> done = 0;
  std::atomic<bool> stop = false;
  const auto report = [&] {
    if (options.progress && !options.progress({.done = done, .total = total})) stop = true;
  };
  // More than a few threads only wait for memory.
  ThreadPool pool(std::min<std::size_t>(DefaultThreads(), 8));
  pool.Run([&](std::size_t thread) {
    for (std::size_t i = next++; i < slices.size() && !stop; i = next++) {
      const internal::PackSlice& slice = slices[i];
      internal::PackTensor(import->tensors[slice.tensor], slice.first, slice.count,
                           memory + (*sections)[slice.tensor].offset + slice.offset, slice.plane);
      file.Release(slice.source);
      done += slice.bytes;
      if (thread == 0) report();
    }
  });
  if (!stop) report();
  if (stop) return MakeError(ErrorCode::kCancelled, "loading was cancelled");

  weights.bytes_ = {memory, weights.packed_.size()};
  weights.header_.config = import->config;
  weights.header_.provenance = {.source = file.path().filename().string(),
                                .sha256 = "",
                                .license = std::move(import->license)};
  weights.header_.sections = *std::move(sections);
  weights.warnings_ = std::move(import->warnings);
  weights.BuildIndex();
  if (!vocabulary.empty()) {
    const Section& section = weights.sections().back();
    std::copy(vocabulary.begin(), vocabulary.end(), memory + section.offset);
    if (Status status = weights.ReadVocabulary(section); !status) return status.error();
  }
  return weights;
}

inline Result<const Section*> WeightFile::Find(std::string_view name, SectionKind kind,
                                               std::size_t rows, std::size_t cols) const {
  const char* const what = kind == SectionKind::kMatrix ? "matrix " : "vector ";
  const auto found = index_.find(name);
  if (found == index_.end() || sections()[found->second].kind != kind) {
    return MakeError(ErrorCode::kNotFound, path_.string(), ": ", what, name, " [", rows, ", ", cols,
                     "] is missing");
  }
  const Section& section = sections()[found->second];
  if (section.rows != rows || section.cols != cols) {
    return MakeError(ErrorCode::kMismatch, path_.string(), ": ", what, name,
                     ": expected the shape [", rows, ", ", cols, "], found [", section.rows, ", ",
                     section.cols, "]");
  }
  return &section;
}

inline Result<PackedMatrix> WeightFile::Matrix(std::string_view name, std::size_t rows,
                                               std::size_t cols) const {
  const Result<const Section*> section = Find(name, SectionKind::kMatrix, rows, cols);
  if (!section) return section.error();
  const auto format = static_cast<std::uint32_t>((*section)->format);
  if (FindSpec(format) == nullptr) {
    return MakeError(ErrorCode::kUnsupported, path_.string(), ": matrix ", name, " has format ",
                     format, ", which this version does not read: convert its source again");
  }
  return PackedMatrix{
      .format = (*section)->format, .rows = rows, .cols = cols, .data = Bytes(**section).data()};
}

inline Result<std::span<const float>> WeightFile::Vector(std::string_view name,
                                                         std::size_t size) const {
  const Result<const Section*> section = Find(name, SectionKind::kVector, 1, size);
  if (!section) return section.error();
  return std::span<const float>(reinterpret_cast<const float*>(Bytes(**section).data()), size);
}

inline Status WeightFile::Verify(const ProgressCallback& progress) const {
  if (!has_checksums()) return {};
  constexpr std::size_t kStep = std::size_t{4} << 20;
  std::uint64_t total = 0, done = 0;
  for (const Section& section : sections()) total += section.bytes;
  for (const Section& section : sections()) {
    XxHash64 hash;
    for (std::span<const std::uint8_t> rest = Bytes(section); !rest.empty();) {
      const std::span<const std::uint8_t> part = rest.first(std::min(kStep, rest.size()));
      hash.Update(part);
      rest = rest.subspan(part.size());
      done += part.size();
      if (progress && !progress({.done = done, .total = total})) {
        return MakeError(ErrorCode::kCancelled, "the verification of ", path_.string(),
                         " was cancelled");
      }
    }
    if (hash.digest() != section.checksum) {
      return MakeError(ErrorCode::kCorrupt, path_.string(), ": section ", Printable(section.name),
                       " is damaged (its checksum differs)");
    }
  }
  return {};
}

}  // namespace lapidary

#endif  // LAPIDARY_WEIGHTS_WEIGHT_FILE_H_
