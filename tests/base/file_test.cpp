#include "lapidary/base/file.h"

#include <sys/resource.h>
#include <sys/stat.h>

#include <csignal>
#include <cstdint>
#include <string>
#include <vector>

#include "tests/support/catch.h"
#include "tests/support/sanitizer.h"
#include "tests/support/temp_folder.h"

namespace lapidary {
namespace {

using testing::ReadFile;
using testing::TempFolder;
using testing::WriteFile;

std::vector<std::uint8_t> SomeBytes(std::size_t size) {
  std::vector<std::uint8_t> bytes(size);
  for (std::size_t i = 0; i < size; ++i) bytes[i] = static_cast<std::uint8_t>(i * i + i / 256);
  return bytes;
}

TEST_CASE("an input file shows its bytes, mapped or copied") {
  const TempFolder folder;
  const std::vector<std::uint8_t> bytes = SomeBytes(100'001);
  WriteFile(folder / "in", bytes);
  for (const LoadMode mode : {LoadMode::kMap, LoadMode::kCopy}) {
    Result<InputFile> file = InputFile::Open(folder / "in", mode);
    REQUIRE(file);
    const InputFile moved = *std::move(file);
    CHECK(std::vector(moved.bytes().begin(), moved.bytes().end()) == bytes);
    // Released bytes come back when they are read.
    for (std::size_t at = 0; at < bytes.size(); at += 12'345) {
      moved.Release(moved.bytes().subspan(at, std::min<std::size_t>(20'000, bytes.size() - at)));
    }
    moved.Release({});
    CHECK(std::vector(moved.bytes().begin(), moved.bytes().end()) == bytes);
  }
}

TEST_CASE("what is no file to read is an error that names it") {
  const TempFolder folder;
  WriteFile(folder / "empty", "");
  REQUIRE(::mkfifo((folder / "pipe").c_str(), 0600) == 0);
  const auto code = [](const std::filesystem::path& path, LoadMode mode, std::string& message) {
    const Result<InputFile> file = InputFile::Open(path, mode);
    REQUIRE_FALSE(file);
    message = file.error().message;
    CHECK(message.find(path.string()) != std::string::npos);
    CHECK(message.find('\n') == std::string::npos);
    return file.error().code;
  };
  std::string message;
  for (const LoadMode mode : {LoadMode::kMap, LoadMode::kCopy}) {
    CHECK(code(folder / "missing", mode, message) == ErrorCode::kNotFound);
    CHECK(code(folder / "empty" / "inside", mode, message) == ErrorCode::kNotFound);
    CHECK(code(folder / "empty", mode, message) == ErrorCode::kCorrupt);
    CHECK(message.find("is empty") != std::string::npos);
    CHECK(code(folder.path(), mode, message) == ErrorCode::kIo);
    CHECK(message.find("is a directory") != std::string::npos);
    CHECK(code(folder / "pipe", mode, message) == ErrorCode::kIo);
  }
}

TEST_CASE("an output file has its name only when it is complete") {
  const TempFolder folder;
  WriteFile(folder / "out", "old");
  {
    Result<OutputFile> file = OutputFile::Create(folder / "out");
    REQUIRE(file);
    REQUIRE(file->Reserve(10));
    REQUIRE(file->WriteAt(4, SomeBytes(3)));
    CHECK(folder.count() == 2);
    CHECK(ReadFile(folder / "out").size() == 3);
  }
  CHECK(folder.count() == 1);
  CHECK(ReadFile(folder / "out") == std::vector<std::uint8_t>{'o', 'l', 'd'});
  {
    Result<OutputFile> file = OutputFile::Create(folder / "out");
    REQUIRE(file);
    OutputFile moved = *std::move(file);
    REQUIRE(moved.Reserve(6));
    REQUIRE(moved.WriteAt(3, std::vector<std::uint8_t>{7, 8}));
    REQUIRE(moved.WriteAt(0, std::vector<std::uint8_t>{9}));
    REQUIRE(moved.Commit());
  }
  CHECK(folder.count() == 1);
  CHECK(ReadFile(folder / "out") == std::vector<std::uint8_t>{9, 0, 0, 7, 8, 0});
}

TEST_CASE("an output that cannot be written is an error and leaves nothing") {
  const TempFolder folder;
  CHECK(OutputFile::Create(folder / "no such folder" / "out").error().code == ErrorCode::kNotFound);
  CHECK(OutputFile::Create(folder.path()).error().code == ErrorCode::kIo);
  CHECK(OutputFile::Create("/dev/null").error().code == ErrorCode::kIo);

  // A limit on the size of files fails where a full disk would.
  rlimit old = {};
  REQUIRE(::getrlimit(RLIMIT_FSIZE, &old) == 0);
  const rlimit small = {.rlim_cur = 1000, .rlim_max = old.rlim_max};
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  {
    Result<OutputFile> file = OutputFile::Create(folder / "out");
    REQUIRE(file);
    REQUIRE(::setrlimit(RLIMIT_FSIZE, &small) == 0);
    const Status reserve = file->Reserve(2000);
    const Status write = file->WriteAt(900, SomeBytes(200));
    ::setrlimit(RLIMIT_FSIZE, &old);
    REQUIRE_FALSE(reserve);
    CHECK(reserve.error().code == ErrorCode::kIo);
    REQUIRE_FALSE(write);
    CHECK(write.error().message.find((folder / "out").string()) != std::string::npos);
  }
  std::signal(SIGXFSZ, handler);
  CHECK(folder.count() == 0);
}

TEST_CASE("buffers are aligned, and a size that cannot be had is an error") {
  for (const std::size_t size : {std::size_t{1}, std::size_t{100}, AlignedBuffer::kHugePage + 5}) {
    Result<AlignedBuffer> buffer = AlignedBuffer::Allocate(size, "a test");
    REQUIRE(buffer);
    CHECK(buffer->size() == size);
    CHECK(reinterpret_cast<std::uintptr_t>(buffer->data()) % AlignedBuffer::kAlignment == 0);
    std::uint8_t* const data = buffer->data();
    data[size - 1] = 42;
    AlignedBuffer moved = *std::move(buffer);
    CHECK(moved.data() == data);
    CHECK(moved.data()[size - 1] == 42);
    CHECK(moved.As<float>().size() == size / 4);
  }
  CHECK(AlignedBuffer::Allocate(0, "nothing")->size() == 0);
  if (testing::kAddressSanitizer) return;
  const Result<AlignedBuffer> huge = AlignedBuffer::Allocate(std::size_t{1} << 62, "a test");
  REQUIRE_FALSE(huge);
  CHECK(huge.error().code == ErrorCode::kOutOfMemory);
  CHECK(huge.error().message.find("for a test") != std::string::npos);
}

}  // namespace
}  // namespace lapidary
