// Writing a model of another format as a blob: everything but the arithmetic, which convert-inl.h
// adds.
//
// Needs nlohmann-json, for Hugging Face folders.
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
#include <string_view>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "lapidary/base/buffer.h"
#include "lapidary/base/file.h"
#include "lapidary/base/progress.h"
#include "lapidary/base/result.h"
#include "lapidary/base/sha256.h"
#include "lapidary/base/threads.h"
#include "lapidary/config/config.h"
#include "lapidary/weights/blob.h"
#include "lapidary/weights/gguf.h"
#include "lapidary/weights/import.h"
#include "lapidary/weights/import_gguf.h"
#include "lapidary/weights/import_hf.h"
#include "lapidary/weights/import_vision.h"
#include "lapidary/weights/pack_tensors.h"
#include "lapidary/weights/quant.h"

namespace lapidary {

// The format that matrices get. Vectors (norms, biases) are always f32.
enum class WeightType {
  kKeep,  // as they are
  kBF16,  // rounded to nearest even
  kQ8,    // Q8_0
  // Q4_0, and Q8_0 for the embedding, which is the output head too: files in circulation have that
  // in 6 bits or more.
  kQ4,
};
// A vision tower is not quantised, as in the mmproj files in circulation: under kQ8 and kQ4 it
// becomes BF16.

struct ConvertOptions {
  WeightType type = WeightType::kKeep;
  std::filesystem::path mmproj = {};  // a GGUF file with the vision tower; may be empty
  ProgressCallback progress = {};     // may be empty
};

struct ConvertReport {
  Config config;
  std::uint64_t source_bytes = 0;     // of all files of weights
  std::uint64_t bytes = 0;            // of the blob
  std::vector<std::string> warnings;  // see Import
};

namespace internal {

// Writes rows [first, first + count) of a tensor that NeedsEncoding in the blocks of its new
// format, row after row. False if there is a value that is not finite.
using EncodeRows = bool (*)(const ImportTensor& tensor, std::size_t first, std::size_t count,
                            std::uint8_t* out);

// A model that is being converted, with the files that it views.
struct ConvertSource {
  std::vector<InputFile> files;  // of weights
  HuggingFaceFolder folder;      // its own `weights` have moved to `files`
  Import import;
  std::filesystem::path path;
  std::string name;
};

inline Result<ConvertSource> OpenSource(const std::filesystem::path& path,
                                        const std::filesystem::path& mmproj) {
  ConvertSource source;
  source.path = path;
  std::error_code ignored;
  if (std::filesystem::is_directory(path, ignored)) {
    Result<HuggingFaceFolder> folder = ImportHuggingFace(path);
    if (!folder) return InFile(path, folder.error());
    source.folder = *std::move(folder);
    source.files = std::move(source.folder.weights);
    source.import = std::move(source.folder.import);
    // "model/" has no file name.
    source.name =
        path.has_filename() ? path.filename().string() : path.parent_path().filename().string();
  } else {
    Result<InputFile> file = InputFile::Open(path);
    if (!file) return file.error();
    Result<Gguf> gguf = Gguf::Parse(file->bytes());
    if (!gguf) return InFile(path, gguf.error());
    Result<Import> import = ImportGguf(*gguf);
    if (!import) return InFile(path, import.error());
    source.import = *std::move(import);
    source.files.push_back(*std::move(file));
    source.name = path.filename().string();
  }
  if (mmproj.empty()) return source;
  Result<InputFile> file = InputFile::Open(mmproj);
  if (!file) return file.error();
  const bool has_vision =
      std::any_of(source.import.tensors.begin(), source.import.tensors.end(),
                  [](const ImportTensor& tensor) { return tensor.name.starts_with("vision."); });
  if (has_vision) {
    return MakeError(ErrorCode::kInvalidArgument, path.string(),
                     " has a vision tower, expected none beside ", mmproj.string());
  }
  Result<Gguf> gguf = Gguf::Parse(file->bytes());
  if (!gguf) return InFile(mmproj, gguf.error());
  if (Status s = ImportMmproj(*gguf, source.import); !s) return InFile(mmproj, s.error());
  source.files.push_back(*std::move(file));
  source.name += " + " + mmproj.filename().string();
  return source;
}

// Sets the format of every tensor.
inline Status ChooseFormats(WeightType type, std::vector<ImportTensor>& tensors) {
  if (type == WeightType::kKeep) return {};
  for (ImportTensor& tensor : tensors) {
    if (tensor.kind != SectionKind::kMatrix) continue;
    const bool vision = tensor.name.starts_with("vision.");
    Format format = Format::kBF16;
    if (!vision && type == WeightType::kQ8) format = Format::kQ8_0;
    if (!vision && type == WeightType::kQ4) {
      format = tensor.name == "embedding" ? Format::kQ8_0 : Format::kQ4_0;
    }
    const QuantSpec& source = SpecOf(tensor.source_format);
    if (source.is_float()) {
      tensor.format = StoredFormat(tensor.name, format);
    } else if (!vision && tensor.source_format != format) {
      return MakeError(ErrorCode::kUnsupported, tensor.name, " is quantised (", source.name,
                       "), expected F32, F16 or BF16: quantised weights can only be kept");
    }
  }
  return {};
}

// Packs a slice, encoded first where that is needed.
inline Status EncodeSlice(const ImportTensor& tensor, const PackSlice& slice, EncodeRows encode,
                          std::uint8_t* out) {
  if (!NeedsEncoding(tensor)) {
    PackTensor(tensor, slice.first, slice.count, out, slice.plane);
    return {};
  }
  bool finite = true;
  if (tensor.kind == SectionKind::kVector) {
    finite = encode(tensor, 0, 1, out);
  } else {
    const std::size_t begin = std::min(slice.first * kPanelRows, tensor.source_rows);
    const std::size_t end = std::min((slice.first + slice.count) * kPanelRows, tensor.source_rows);
    const std::size_t bytes = (end - begin) * SourceRowBytes(SpecOf(tensor.format), tensor.cols);
    Result<AlignedBuffer> rows = AlignedBuffer::Allocate(bytes, "rows of weights");
    if (!rows) return rows.error();
    finite = encode(tensor, begin, end - begin, rows->data());
    PackPanels(tensor.format, {rows->data(), bytes}, end - begin, tensor.cols, 0, slice.count, out,
               slice.plane);
  }
  if (finite) return {};
  return MakeError(ErrorCode::kCorrupt, tensor.name, " holds a value that is not finite");
}

// Computes the SHA-256 of files, one behind the other, on a thread of its own while others read
// them too; at once if the system refuses a thread.
class FileHasher {
 public:
  explicit FileHasher(const std::vector<InputFile>& files) : files_(files) {
    if (!StartThread(thread_, [this] { Run(); })) Run();
  }
  FileHasher(const FileHasher&) = delete;
  FileHasher& operator=(const FileHasher&) = delete;
  ~FileHasher() {
    stop_ = true;
    if (thread_.joinable()) thread_.join();
  }

  std::uint64_t done() const { return done_; }

  // Waits for the end.
  std::string Hex() {
    if (thread_.joinable()) thread_.join();
    return hash_.FinishHex();
  }

 private:
  void Run() {
    constexpr std::size_t kStep = std::size_t{1} << 20;
    for (const InputFile& file : files_) {
      std::span<const std::uint8_t> rest = file.bytes();
      while (!rest.empty() && !stop_) {
        const std::span<const std::uint8_t> part = rest.first(std::min(kStep, rest.size()));
        hash_.Update(part);
        file.Release(part);
        rest = rest.subspan(part.size());
        done_ += part.size();
      }
    }
  }

  const std::vector<InputFile>& files_;
  Sha256 hash_;
  std::atomic<std::uint64_t> done_ = 0;
  std::atomic<bool> stop_ = false;
  std::thread thread_;
};

// Drops pages that have been read from memory, whichever file they belong to.
inline void Release(const std::vector<InputFile>& files, std::span<const std::uint8_t> part) {
  for (const InputFile& file : files) {
    const std::span<const std::uint8_t> all = file.bytes();
    if (part.data() >= all.data() && part.data() < all.data() + all.size()) file.Release(part);
  }
}

// Packs slices, as many at a time as there are processors, and appends them in order.
class SlicePacker {
 public:
  SlicePacker(const ConvertSource& source, EncodeRows encode)
      : source_(source), encode_(encode), slices_(CutIntoSlices(source.import.tensors)) {}

  std::uint64_t total() const {
    std::uint64_t bytes = 0;
    for (const PackSlice& slice : slices_) bytes += slice.bytes;
    return bytes;
  }

  Status Allocate() {
    std::size_t largest = 0;
    for (const PackSlice& slice : slices_) largest = std::max(largest, slice.bytes);
    while (buffers_.size() < pool_.size()) {
      Result<AlignedBuffer> buffer = AlignedBuffer::Allocate(largest, "a slice of packed weights");
      if (!buffer) return buffer.error();
      buffers_.push_back(*std::move(buffer));
    }
    return {};
  }

  bool finished() const { return next_ == slices_.size(); }

  // Returns the number of bytes that were packed.
  Result<std::uint64_t> Step(BlobWriter& writer) {
    const std::size_t count = std::min(buffers_.size(), slices_.size() - next_);
    std::vector<Status> status(count);
    pool_.Run([&](std::size_t i) {
      if (i >= count) return;
      const PackSlice& slice = slices_[next_ + i];
      status[i] =
          EncodeSlice(source_.import.tensors[slice.tensor], slice, encode_, buffers_[i].data());
    });
    std::uint64_t bytes = 0;
    for (std::size_t i = 0; i < count; ++i) {
      if (!status[i]) return InFile(source_.path, status[i].error());
      const PackSlice& slice = slices_[next_ + i];
      if (Status s = writer.Append(slice.tensor, {buffers_[i].data(), slice.bytes}); !s) {
        return s.error();
      }
      Release(source_.files, slice.source);
      bytes += slice.bytes;
    }
    next_ += count;
    return bytes;
  }

 private:
  const ConvertSource& source_;
  EncodeRows encode_;
  std::vector<PackSlice> slices_;
  ThreadPool pool_{std::min<std::size_t>(DefaultThreads(), 16)};
  std::vector<AlignedBuffer> buffers_;  // one for each thread
  std::size_t next_ = 0;
};

inline Result<ConvertReport> ConvertToBlob(const std::filesystem::path& path,
                                           const std::filesystem::path& target,
                                           const ConvertOptions& options, EncodeRows encode) {
  std::error_code ignored;
  if (std::filesystem::equivalent(path, target, ignored)) {
    return MakeError(ErrorCode::kInvalidArgument, path.string(),
                     " would be replaced by its own blob");
  }
  Result<ConvertSource> source = OpenSource(path, options.mmproj);
  if (!source) return source.error();
  Import& import = source->import;
  if (Status s = ChooseFormats(options.type, import.tensors); !s) return InFile(path, s.error());

  std::vector<std::uint8_t> vocabulary;
  if (import.vocabulary) vocabulary = EncodeVocabulary(*import.vocabulary);
  Result<std::vector<Section>> sections = SectionsOf(import, vocabulary);
  if (!sections) return InFile(path, sections.error());
  BlobHeader header;
  header.config = import.config;
  header.provenance = {
      .source = source->name, .sha256 = std::string(64, '0'), .license = import.license};
  header.sections = *std::move(sections);
  Result<BlobWriter> writer = BlobWriter::Create(target, std::move(header));
  if (!writer) return writer.error();

  SlicePacker packer(*source, encode);
  if (Status s = packer.Allocate(); !s) return s.error();
  ConvertReport report;
  report.config = import.config;
  for (const InputFile& file : source->files) report.source_bytes += file.bytes().size();
  FileHasher hasher(source->files);
  std::uint64_t packed = 0;
  const std::uint64_t total = packer.total() + report.source_bytes;
  const auto cancelled = [&] {
    return options.progress && !options.progress({.done = packed + hasher.done(), .total = total});
  };
  const Error cancel =
      MakeError(ErrorCode::kCancelled, "the conversion of ", path.string(), " was cancelled");
  while (!packer.finished()) {
    const Result<std::uint64_t> bytes = packer.Step(*writer);
    if (!bytes) return bytes.error();
    packed += *bytes;
    if (cancelled()) return cancel;
  }
  if (!vocabulary.empty()) {
    if (Status s = writer->Append(import.tensors.size(), vocabulary); !s) return s.error();
  }
  while (hasher.done() < report.source_bytes) {
    if (cancelled()) return cancel;
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  if (cancelled()) return cancel;
  writer->provenance().sha256 = hasher.Hex();
  if (Status status = writer->Commit(); !status) return status.error();
  report.bytes = writer->file_bytes();
  report.warnings = std::move(import.warnings);
  return report;
}

}  // namespace internal
}  // namespace lapidary

#endif  // LAPIDARY_WEIGHTS_CONVERT_H_
