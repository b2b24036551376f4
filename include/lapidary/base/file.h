// Files as the library needs them: a read-only view of a whole file, and an output that appears
// under its name only when it is complete.
#ifndef LAPIDARY_BASE_FILE_H_
#define LAPIDARY_BASE_FILE_H_

#if !defined(__unix__) && !defined(__APPLE__)
#error "lapidary/base/file.h needs a POSIX system (mmap, pwrite, rename)"
#endif

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <span>
#include <string>
#include <system_error>
#include <utility>

#include "lapidary/base/buffer.h"
#include "lapidary/base/bytes.h"
#include "lapidary/base/result.h"

namespace lapidary {

// How the bytes of a file become readable.
enum class LoadMode {
  // The file is mapped: opening costs nothing, programs that open the same file share its memory,
  // and pages are read when they are first touched. The price: if somebody cuts the file short or
  // its disk disappears while it is in use, touching a lost page ends the program with SIGBUS.
  // Files should be replaced by renaming a new one over them, never rewritten in place.
  kMap,
  // The file is read into memory of this program, on huge pages where the system has them.
  kCopy,
};

namespace internal {

inline Error SystemError(const char* action, const std::filesystem::path& path, int number) {
  ErrorCode code = ErrorCode::kIo;
  if (number == ENOENT || number == ENOTDIR) code = ErrorCode::kNotFound;
  if (number == ENOMEM) code = ErrorCode::kOutOfMemory;
  return MakeError(code, "cannot ", action, " ", path.string(), ": ",
                   std::generic_category().message(number));
}

// Closes a file descriptor at the end of its scope.
class Descriptor {
 public:
  explicit Descriptor(int number = -1) : number_(number) {}
  Descriptor(Descriptor&& other) noexcept : number_(std::exchange(other.number_, -1)) {}
  Descriptor& operator=(Descriptor&& other) noexcept {
    std::swap(number_, other.number_);
    return *this;
  }
  ~Descriptor() {
    if (number_ >= 0) ::close(number_);
  }
  int get() const { return number_; }

 private:
  int number_;
};

}  // namespace internal

// A regular file, readable as one span of bytes for as long as this object lives. Movable; the span
// stays where it is.
class InputFile {
 public:
  InputFile(InputFile&& other) noexcept { *this = std::move(other); }
  InputFile& operator=(InputFile&& other) noexcept {
    std::swap(path_, other.path_);
    std::swap(copy_, other.copy_);
    std::swap(mapping_, other.mapping_);
    std::swap(size_, other.size_);
    return *this;
  }
  ~InputFile() {
    if (mapping_ != nullptr) ::munmap(mapping_, size_);
  }

  // Errors name the path: kNotFound, kIo (a directory, a device, no permission), kCorrupt (empty,
  // or cut short while it was read), kOutOfMemory.
  static Result<InputFile> Open(const std::filesystem::path& path, LoadMode mode = LoadMode::kMap) {
    // Without O_NONBLOCK, opening a named pipe would wait for a writer.
    internal::Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
    if (file.get() < 0) return internal::SystemError("open", path, errno);
    struct stat status = {};
    if (::fstat(file.get(), &status) != 0) return internal::SystemError("inspect", path, errno);
    if (S_ISDIR(status.st_mode)) {
      return MakeError(ErrorCode::kIo, path.string(), " is a directory, expected a file");
    }
    if (!S_ISREG(status.st_mode)) {
      return MakeError(ErrorCode::kIo, path.string(), " is not a regular file");
    }
    if (status.st_size <= 0) return MakeError(ErrorCode::kCorrupt, path.string(), " is empty");
    InputFile input;
    input.path_ = path;
    input.size_ = static_cast<std::size_t>(status.st_size);
    if (mode == LoadMode::kMap) {
      void* mapping = ::mmap(nullptr, input.size_, PROT_READ, MAP_PRIVATE, file.get(), 0);
      if (mapping == MAP_FAILED) return internal::SystemError("map", path, errno);
      input.mapping_ = mapping;
#if defined(__linux__)
      // Where the file system keeps large folios, weights are then read through pages of 2 MB: one
      // entry of the TLB instead of 512. Elsewhere this does nothing.
      ::madvise(mapping, input.size_, MADV_HUGEPAGE);
#endif
      return input;
    }
    Result<AlignedBuffer> copy = AlignedBuffer::Allocate(input.size_, "a copy of the file");
    if (!copy) return copy.error();
    input.copy_ = *std::move(copy);
    for (std::size_t done = 0; done < input.size_;) {
      // Linux moves at most 2 GiB in one call.
      const std::size_t want = std::min<std::size_t>(input.size_ - done, std::size_t{1} << 30);
      const ssize_t got = ::read(file.get(), input.copy_.data() + done, want);
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) return internal::SystemError("read", path, errno);
      if (got == 0) {
        return MakeError(ErrorCode::kCorrupt, path.string(),
                         " was cut short while it was read: expected ", input.size_,
                         " bytes, found ", done);
      }
      done += static_cast<std::size_t>(got);
    }
    return input;
  }

  const std::filesystem::path& path() const { return path_; }

  std::span<const std::uint8_t> bytes() const {
    if (mapping_ != nullptr) return {static_cast<const std::uint8_t*>(mapping_), size_};
    return {copy_.data(), copy_.size()};
  }

  // Tells the system that a part of a mapped file has been used up: its pages leave the resident
  // memory of this program (they stay in the system's cache, and touching them again is correct,
  // only slower). `part` must lie inside bytes(). Several threads may call it. Does nothing for a
  // copy.
  void Release(std::span<const std::uint8_t> part) const {
    if (mapping_ == nullptr || part.empty()) return;
    const std::size_t page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
    const std::size_t begin =
        static_cast<std::size_t>(part.data() - static_cast<const std::uint8_t*>(mapping_));
    // Page by page down and up: the neighbours on a shared page only pay one more fault.
    const std::size_t first = begin / page * page;
    const std::size_t last = std::min(size_, (begin + part.size() + page - 1) / page * page);
    ::madvise(static_cast<std::uint8_t*>(mapping_) + first, last - first, MADV_DONTNEED);
  }

 private:
  InputFile() = default;

  std::filesystem::path path_;
  AlignedBuffer copy_;
  void* mapping_ = nullptr;
  std::size_t size_ = 0;
};

// A file under construction. The bytes go to `name.partial-XXXXXXXX` beside the target; Commit
// renames it, so that the target holds either what it held before or the complete new file.
// Destroying an output that was not committed removes the partial file.
class OutputFile {
 public:
  OutputFile(OutputFile&& other) noexcept { *this = std::move(other); }
  OutputFile& operator=(OutputFile&& other) noexcept {
    std::swap(target_, other.target_);
    std::swap(partial_, other.partial_);
    std::swap(file_, other.file_);
    return *this;
  }
  ~OutputFile() {
    if (!partial_.empty()) ::unlink(partial_.c_str());
  }

  static Result<OutputFile> Create(const std::filesystem::path& target) {
    std::error_code ignored;
    const std::filesystem::file_status status = std::filesystem::status(target, ignored);
    if (std::filesystem::exists(status) && !std::filesystem::is_regular_file(status)) {
      return MakeError(ErrorCode::kIo, "cannot write ", target.string(),
                       ": it exists and is not a regular file");
    }
    // Others may choose the same name: O_EXCL tells.
    const auto now = std::chrono::steady_clock::now().time_since_epoch().count();
    auto name = static_cast<unsigned>(now) ^ (static_cast<unsigned>(::getpid()) << 16);
    OutputFile output;
    output.target_ = target;
    for (int attempt = 0; attempt < 16; ++attempt) {
      char suffix[32];
      std::snprintf(suffix, sizeof(suffix), ".partial-%08x", name++);
      std::filesystem::path partial = target;
      partial += suffix;
      internal::Descriptor file(
          ::open(partial.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666));
      if (file.get() >= 0) {
        output.file_ = std::move(file);
        output.partial_ = std::move(partial);
        return output;
      }
      if (errno != EEXIST) return internal::SystemError("create", partial, errno);
    }
    return MakeError(ErrorCode::kIo, "cannot create a temporary file beside ", target.string());
  }

  // Sets the size and takes the space for it now where the file system can, so that a full disk is
  // reported at the start of a long job. The bytes are zero until written.
  Status Reserve(std::uint64_t bytes) {
#if defined(__linux__)
    if (bytes > 0 && ::fallocate(file_.get(), 0, 0, static_cast<off_t>(bytes)) != 0 &&
        (errno == ENOSPC || errno == EDQUOT || errno == EFBIG)) {
      return WriteError(errno, bytes);
    }
#endif
    if (::ftruncate(file_.get(), static_cast<off_t>(bytes)) != 0) return WriteError(errno, bytes);
    return {};
  }

  Status WriteAt(std::uint64_t offset, std::span<const std::uint8_t> bytes) {
    while (!bytes.empty()) {
      const std::size_t want = std::min<std::size_t>(bytes.size(), std::size_t{1} << 30);
      const ssize_t put = ::pwrite(file_.get(), bytes.data(), want, static_cast<off_t>(offset));
      if (put < 0 && errno == EINTR) continue;
      if (put <= 0) return WriteError(put < 0 ? errno : ENOSPC, bytes.size());
      bytes = bytes.subspan(static_cast<std::size_t>(put));
      offset += static_cast<std::uint64_t>(put);
    }
    return {};
  }

  // Writes through to the disk and gives the file its name. Nothing may be written afterwards.
  Status Commit() {
    // A disk that fills up or fails may say so only here.
    if (::fsync(file_.get()) != 0 && errno != EINVAL) return WriteError(errno, 0);
#if defined(__linux__)
    // What was written in slices of some megabytes is cached in small pages, and half of a mapping
    // of it then too (4B, ext4, Linux 6.18). Read again it comes in pages of 2 MB: decode is 3 %
    // faster.
    ::posix_fadvise(file_.get(), 0, 0, POSIX_FADV_DONTNEED);
#endif
    if (::rename(partial_.c_str(), target_.c_str()) != 0) {
      return internal::SystemError("give its name to", target_, errno);
    }
    partial_.clear();
    file_ = internal::Descriptor();
    return {};
  }

 private:
  OutputFile() = default;

  Error WriteError(int number, std::uint64_t bytes) const {
    if (number != ENOSPC && number != EDQUOT)
      return internal::SystemError("write", target_, number);
    std::error_code ignored;
    const std::filesystem::space_info space =
        std::filesystem::space(target_.has_parent_path() ? target_.parent_path() : ".", ignored);
    return MakeError(ErrorCode::kIo, "cannot write ", target_.string(), ": the disk is full (",
                     bytes, " more bytes needed, ", space.available, " available)");
  }

  std::filesystem::path target_;
  std::filesystem::path partial_;
  internal::Descriptor file_;
};

// A file of exactly these bytes, complete or not there. Errors: those of OutputFile.
inline Status WriteFile(const std::filesystem::path& path, std::span<const std::uint8_t> bytes) {
  Result<OutputFile> output = OutputFile::Create(path);
  if (!output) return output.error();
  if (Status status = output->WriteAt(0, bytes); !status) return status;
  return output->Commit();
}

}  // namespace lapidary

#endif  // LAPIDARY_BASE_FILE_H_
