// Writing the model of a GGUF file as a blob.
#ifndef LAPIDARY_WEIGHTS_CONVERT_H_
#define LAPIDARY_WEIGHTS_CONVERT_H_

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "lapidary/base/buffer.h"
#include "lapidary/base/file.h"
#include "lapidary/base/progress.h"
#include "lapidary/base/result.h"
#include "lapidary/base/sha256.h"
#include "lapidary/config/config.h"
#include "lapidary/weights/blob.h"
#include "lapidary/weights/gguf.h"
#include "lapidary/weights/import.h"
#include "lapidary/weights/import_gguf.h"
#include "lapidary/weights/pack_tensors.h"

namespace lapidary {

struct ConvertOptions {
  ProgressCallback progress;  // may be empty
};

struct ConvertReport {
  Config config;
  std::uint64_t bytes = 0;            // size of the blob
  std::vector<std::string> warnings;  // see Import
};

// Writes the model of a GGUF file as a blob, in a few megabytes of memory whatever the model's
// size. The blob appears under its name only when it is complete; after an error or a cancelled
// conversion, `target` is what it was before.
Result<ConvertReport> ConvertGgufToBlob(const std::filesystem::path& source,
                                        const std::filesystem::path& target,
                                        const ConvertOptions& options = {});

namespace internal {

// Computes the SHA-256 of a file on a thread of its own while others read it too.
class FileHasher {
 public:
  explicit FileHasher(const InputFile& file) : file_(file), thread_([this] { Run(); }) {}
  FileHasher(const FileHasher&) = delete;
  FileHasher& operator=(const FileHasher&) = delete;
  ~FileHasher() {
    stop_ = true;
    if (thread_.joinable()) thread_.join();
  }

  std::uint64_t done() const { return done_; }

  // Waits for the end.
  std::string Hex() {
    thread_.join();
    return hash_.FinishHex();
  }

 private:
  void Run() {
    constexpr std::size_t kStep = std::size_t{1} << 20;
    std::span<const std::uint8_t> rest = file_.bytes();
    while (!rest.empty() && !stop_) {
      const std::span<const std::uint8_t> part = rest.first(std::min(kStep, rest.size()));
      hash_.Update(part);
      file_.Release(part);
      rest = rest.subspan(part.size());
      done_ += part.size();
    }
  }

  const InputFile& file_;
  Sha256 hash_;
  std::atomic<std::uint64_t> done_ = 0;
  std::atomic<bool> stop_ = false;
  std::thread thread_;
};

}  // namespace internal

inline Result<ConvertReport> ConvertGgufToBlob(const std::filesystem::path& source,
                                               const std::filesystem::path& target,
                                               const ConvertOptions& options) {
  std::error_code ignored;
  if (std::filesystem::equivalent(source, target, ignored)) {
    return MakeError(ErrorCode::kInvalidArgument, source.string(),
                     " would be replaced by its own blob");
  }
  Result<InputFile> file = InputFile::Open(source);
  if (!file) return file.error();
  Result<Gguf> gguf = Gguf::Parse(file->bytes());
  if (!gguf) return internal::InFile(source, gguf.error());
  Result<Import> import = ImportGguf(*gguf);
  if (!import) return internal::InFile(source, import.error());

  std::vector<std::uint8_t> vocabulary;
  if (import->vocabulary) vocabulary = EncodeVocabulary(*import->vocabulary);
  Result<std::vector<Section>> sections = internal::SectionsOf(*import, vocabulary);
  if (!sections) return internal::InFile(source, sections.error());
  BlobHeader header;
  header.config = import->config;
  header.provenance = {.source = source.filename().string(),
                       .sha256 = std::string(64, '0'),
                       .license = import->license};
  header.sections = *std::move(sections);
  Result<BlobWriter> writer = BlobWriter::Create(target, std::move(header));
  if (!writer) return writer.error();

  const std::vector<internal::PackSlice> slices = internal::CutIntoSlices(import->tensors);
  std::size_t largest = 0;
  std::uint64_t packed_total = 0, packed = 0;
  for (const internal::PackSlice& slice : slices) {
    largest = std::max(largest, slice.bytes);
    packed_total += slice.bytes;
  }
  Result<AlignedBuffer> buffer = AlignedBuffer::Allocate(largest, "a slice of packed weights");
  if (!buffer) return buffer.error();

  internal::FileHasher hasher(*file);
  const std::uint64_t total = packed_total + file->bytes().size();
  const auto cancelled = [&] {
    return options.progress && !options.progress({.done = packed + hasher.done(), .total = total});
  };
  const Error cancel =
      MakeError(ErrorCode::kCancelled, "the conversion of ", source.string(), " was cancelled");
  for (const internal::PackSlice& slice : slices) {
    internal::PackTensor(import->tensors[slice.tensor], slice.first, slice.count, buffer->data());
    if (Status status = writer->Append(slice.tensor, {buffer->data(), slice.bytes}); !status) {
      return status.error();
    }
    file->Release(slice.source);
    packed += slice.bytes;
    if (cancelled()) return cancel;
  }
  if (!vocabulary.empty()) {
    if (Status status = writer->Append(import->tensors.size(), vocabulary); !status) {
      return status.error();
    }
  }
  while (hasher.done() < file->bytes().size()) {
    if (cancelled()) return cancel;
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  if (cancelled()) return cancel;
  writer->provenance().sha256 = hasher.Hex();
  if (Status status = writer->Commit(); !status) return status.error();
  ConvertReport report;
  report.config = import->config;
  report.bytes = writer->file_bytes();
  report.warnings = std::move(import->warnings);
  return report;
}

}  // namespace lapidary

#endif  // LAPIDARY_WEIGHTS_CONVERT_H_
