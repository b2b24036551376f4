// Faults from outside, injected: memory and disk that end, files that change under a model. Each is
// an error value, and the same process answers the next request as if nothing had been.
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <optional>
#include <utility>
#include <vector>

#include "lapidary/weights/convert-inl.h"
#include "tests/support/catch.h"
#include "tests/support/ring_model.h"
#include "tests/support/sanitizer.h"
#include "tests/support/synthetic_gguf.h"
#include "tests/support/temp_folder.h"
#include "tests/support/tiny_model.h"

namespace lapidary::testing {
namespace {

using HWY_NAMESPACE::ConvertToBlob;

// Lowers a limit of this process (RLIMIT_AS, ...) for as long as the object lives.
template <auto kResource>
class Limit {
 public:
  explicit Limit(rlim_t value) {
    REQUIRE(::getrlimit(kResource, &before_) == 0);
    const rlimit limit = {std::min(value, before_.rlim_max), before_.rlim_max};
    REQUIRE(::setrlimit(kResource, &limit) == 0);
  }
  Limit(const Limit&) = delete;
  Limit& operator=(const Limit&) = delete;
  ~Limit() { ::setrlimit(kResource, &before_); }

 private:
  rlimit before_ = {};
};

// Bytes of address space that this process has.
std::size_t MappedBytes() {
  std::size_t pages = 0;
  std::FILE* const file = std::fopen("/proc/self/statm", "r");
  REQUIRE(file != nullptr);
  const int read = std::fscanf(file, "%zu", &pages);
  std::fclose(file);
  REQUIRE(read == 1);
  return pages * static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
}

// The blob of the ring model.
void WriteBlob(const TempFolder& folder) {
  WriteFile(folder / "ring.gguf", TinyGguf(RingModel::kConfig, kRingFormats));
  REQUIRE(ConvertToBlob(folder / "ring.gguf", folder / "ring.lap").ok());
}

Model<RingModel> OpenBlob(const TempFolder& folder, LoadMode mode) {
  Result<Model<RingModel>> model = Model<RingModel>::Open(
      folder / "ring.lap", {.threads = 1, .load = {.mode = mode, .progress = {}}});
  REQUIRE(model.ok());
  return *std::move(model);
}

}  // namespace

TEST_CASE("no memory for keys and values is an error; the model and other sessions go on") {
  if (kAddressSanitizer || kThreadSanitizer) return;  // they take address space without measure
  const Model<RingModel> model = OpenTiny<RingModel>(kRingFormats, {.threads = 1, .chunk = 256});
  const Ids ids = RingIds(1500), more = RingIds(20, 2);
  Session<RingModel> first(model);
  const std::vector<float> expected = Prefilled(first, ids);
  const std::vector<float> expected_more = Decoded(first, more);

  Session<RingModel> kept(model), other(model);
  Prefilled(kept, ids);
  Prefilled(other, First(ids, 100));
  std::vector<Session<RingModel>> sessions;
  sessions.reserve(20'000);
  {
    // What the heap has left over is used up too, in sessions of 100 kB.
    const Limit<RLIMIT_AS> limit(MappedBytes() + (std::size_t{4} << 20));
    std::optional<Error> error;
    while (sessions.size() < sessions.capacity() && !error) {
      sessions.emplace_back(model);
      if (const Status status = sessions.back().Prefill(First(ids, 1)); !status) {
        error = status.error();
      }
    }
    REQUIRE(error);
    CHECK(error->code == ErrorCode::kOutOfMemory);
    CHECK(error->message.find("keys and values") != std::string::npos);
    CHECK(sessions.back().position() == 0);
    // What has its memory goes on while there is no more.
    CHECK(SameBits(Decoded(kept, more), expected_more));
  }
  CHECK(SameBits(Prefilled(sessions.back(), ids), expected));
  CHECK(SameBits(Prefilled(other, From(ids, 100)), expected));
  Session<RingModel> fresh(model);
  CHECK(SameBits(Prefilled(fresh, ids), expected));
}

TEST_CASE("no room on the disk is an error that leaves nothing; the next conversion succeeds") {
  const TempFolder folder;
  WriteBlob(folder);
  const std::vector<std::uint8_t> expected = ReadFile(folder / "ring.lap");
  const std::size_t files = folder.count();
  void (*const before)(int) = std::signal(SIGXFSZ, SIG_IGN);
  for (const std::size_t room : {std::size_t{0}, std::size_t{4096}, expected.size() - 1}) {
    const Limit<RLIMIT_FSIZE> limit(room);
    const auto report = ConvertToBlob(folder / "ring.gguf", folder / "ring.lap");
    REQUIRE_FALSE(report);
    CHECK(report.error().code == ErrorCode::kIo);
    CHECK(report.error().message.find("ring.lap") != std::string::npos);
    CHECK(folder.count() == files);
    CHECK(ReadFile(folder / "ring.lap") == expected);  // what was there before
  }
  std::signal(SIGXFSZ, before);
  REQUIRE(ConvertToBlob(folder / "ring.gguf", folder / "ring.lap").ok());
  CHECK(ReadFile(folder / "ring.lap") == expected);
}

TEST_CASE("a blob may be removed or replaced while it is open, a copied one also cut short") {
  const Ids ids = RingIds(50);
  for (const LoadMode mode : {LoadMode::kMap, LoadMode::kCopy}) {
    CAPTURE(mode == LoadMode::kMap);
    const TempFolder folder;
    WriteBlob(folder);
    const Model<RingModel> model = OpenBlob(folder, mode);
    Session<RingModel> session(model);
    const std::vector<float> expected = Prefilled(session, ids);
    if (mode == LoadMode::kCopy) std::filesystem::resize_file(folder / "ring.lap", 100);
    WriteFile(folder / "other", std::string_view("something else"));
    std::filesystem::rename(folder / "other", folder / "ring.lap");
    Session<RingModel> second(model);
    CHECK(SameBits(Prefilled(second, ids), expected));
    std::filesystem::remove(folder / "ring.lap");
    Session<RingModel> third(model);
    CHECK(SameBits(Prefilled(third, ids), expected));
  }
}

// What docs/security.md warns of: nothing in a program can turn this into an error value.
TEST_CASE("a mapped file that is cut short ends the process with SIGBUS, a copy does not") {
  if (kAddressSanitizer || kThreadSanitizer) return;  // they handle the signal
  for (const LoadMode mode : {LoadMode::kMap, LoadMode::kCopy}) {
    const TempFolder folder;
    WriteFile(folder / "file", std::vector<std::uint8_t>(1 << 20, 1));
    const Result<InputFile> file = InputFile::Open(folder / "file", mode);
    REQUIRE(file.ok());
    std::filesystem::resize_file(folder / "file", 1);
    const pid_t child = ::fork();
    REQUIRE(child >= 0);
    if (child == 0) {
      std::signal(SIGBUS, SIG_DFL);  // Catch2's handler would report a failure
      const rlimit none = {0, 0};
      ::setrlimit(RLIMIT_CORE, &none);
      const volatile std::uint8_t* const bytes = file->bytes().data();
      ::_exit(bytes[(1 << 20) - 1] == 1 ? 0 : 1);
    }
    int status = 0;
    REQUIRE(::waitpid(child, &status, 0) == child);
    if (mode == LoadMode::kMap) {
      CHECK((WIFSIGNALED(status) && WTERMSIG(status) == SIGBUS));
    } else {
      CHECK((WIFEXITED(status) && WEXITSTATUS(status) == 0));
    }
  }
}

TEST_CASE("cancelled anywhere, a session and its model answer the next request") {
  const Model<RingModel> model = OpenTiny<RingModel>(kRingFormats, {.threads = 2, .chunk = 64});
  const Ids ids = RingIds(600);
  Session<RingModel> reference(model);
  const std::vector<float> expected = Prefilled(reference, ids);
  for (const int calls : {1, 2, 5, 9}) {
    Session<RingModel> session(model);
    int left = calls;
    const Status status = session.Prefill(ids, [&](const Progress&) { return --left > 0; });
    REQUIRE_FALSE(status);
    CHECK(status.error().code == ErrorCode::kCancelled);
    CHECK(SameBits(Prefilled(session, From(ids, session.position())), expected));
  }
}

}  // namespace lapidary::testing
