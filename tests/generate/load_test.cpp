// Many chats one after the other, many sessions at once: the thousandth is as the first, in what it
// says and in what it takes.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#if defined(__GLIBC__)
#include <malloc.h>
#endif

#include "tests/support/catch.h"
#include "tests/support/real_model.h"
#include "tests/support/sanitizer.h"
#include "tests/support/synthetic_gguf.h"
#include "tests/support/tiny_model.h"

namespace lapidary::testing {
namespace {

// Bytes that this process holds from malloc. The resident memory would not do: it grows by
// megabytes whenever the kernel has large pages to give.
std::size_t HeldBytes() {
#if defined(__GLIBC__)
  const struct mallinfo2 info = ::mallinfo2();
  return info.uordblks + info.hblkhd;
#else
  return 0;  // then the test is one of answers only
#endif
}

// What does not grow, but for what the heap keeps in its caches (seen: 384 bytes after 1000 chats,
// 12 KB after ten rounds of 64 sessions). Sanitizers bring a heap of their own, and
// AddressSanitizer shows leaks itself.
void CheckFlat(std::size_t before) {
  if (!kAddressSanitizer && !kThreadSanitizer) {
    CHECK(HeldBytes() <= before + (std::size_t{64} << 10));
  }
}

constexpr std::string_view kQuestions[] = {"the thing", "a  b", "\n\nwhat", "e"};

// Two turns of one chat.
template <class M>
std::string Converse(const Model<M>& model, std::size_t number, std::size_t tokens) {
  Chat<M> chat(model, number % 2 == 0 ? "" : "system");
  std::string said;
  for (std::size_t turn = 0; turn < 2; ++turn) {
    const std::string_view question = kQuestions[(number + turn) % std::size(kQuestions)];
    const Result<GenerateResult> reply = chat.Send(question, nullptr, {.max_tokens = tokens});
    INFO((reply ? "" : reply.error().message));
    REQUIRE(reply.ok());
    said += reply->text + "|";
  }
  return said;
}

template <class M>
void ChatsInTurn(const Model<M>& model, std::size_t chats, std::size_t tokens) {
  constexpr std::size_t kKinds = std::size(kQuestions);  // chats that differ
  std::vector<std::string> first;
  for (std::size_t i = 0; i < kKinds; ++i) first.push_back(Converse(model, i, tokens));
  const std::size_t before = HeldBytes();
  std::size_t different = 0;
  for (std::size_t i = 0; i < chats; ++i) {
    if (Converse(model, i, tokens) != first[i % kKinds]) ++different;
  }
  CHECK(different == 0);
  CheckFlat(before);
}

// 64 sessions step together, several times over.
template <class M>
void SessionsAtOnce(const Model<M>& model, std::size_t rounds, std::size_t tokens) {
  constexpr std::size_t kSessions = 64;
  std::vector<lapidary::Prompt> prompts;
  for (std::size_t i = 0; i < kSessions; ++i) {
    prompts.push_back({SomeIds(3 + i % 29, 250, i), {}});
  }
  const auto run = [&] {
    std::vector<Ids> texts(kSessions);
    const Status status = GenerateBatch(
        model, prompts, {.generate = {.max_tokens = tokens}, .sessions = kSessions, .context = 64},
        [&](std::size_t prompt, Result<GenerateResult> result) {
          REQUIRE(result.ok());
          texts[prompt] = result->ids;
          return true;
        });
    INFO((status ? "" : status.error().message));
    REQUIRE(status.ok());
    return texts;
  };
  const std::vector<Ids> first = run();
  // In kExact each says what it says alone.
  for (const std::size_t i : {0, 31, 63}) {
    Session session(model, 64);
    const Result<GenerateResult> alone =
        Generate(model, session, prompts[i], {.max_tokens = tokens}, {});
    REQUIRE(alone.ok());
    CHECK(alone->ids == first[i]);
  }
  const std::size_t before = HeldBytes();
  for (std::size_t i = 0; i < rounds; ++i) CHECK(run() == first);
  CheckFlat(before);
}

}  // namespace

TEST_CASE("1000 chats in turn, and 64 sessions at once") {
  const Model<TinyModel> model = OpenTiny<TinyModel>(kTinyQ4K, {.threads = 2, .chunk = 64});
  SECTION("chats") { ChatsInTurn(model, 1000, 4); }
  SECTION("sessions") { SessionsAtOnce(model, 10, 8); }
}

// Minutes; run it by its tag.
TEST_CASE("the same on the real 270M", "[.][load]") {
  const std::filesystem::path path = RealModelPath();
  if (path.empty()) return;
  Result<Model<Gemma3_270M>> model =
      Model<Gemma3_270M>::Open(path, {.precision = Precision::kExact});
  REQUIRE(model.ok());
  SECTION("chats") { ChatsInTurn(*model, 1000, 3); }
  SECTION("sessions") { SessionsAtOnce(*model, 3, 8); }
}

}  // namespace lapidary::testing
