// Chats as bytes: what is restored goes on as the saved one would have, and bytes from anywhere are
// an error.
#include "lapidary/generate/saved_chat.h"

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "tests/support/catch.h"
#include "tests/support/tiny_model.h"

namespace lapidary::testing {
namespace {

using Bytes = std::vector<std::uint8_t>;

const Model<TinyModel>& TheModel() {
  static const Model<TinyModel> model = OpenTiny<TinyModel>(kTinyQ4K, {.threads = 1, .chunk = 32});
  return model;
}

constexpr std::size_t kTokens = 12;

Chat<TinyModel> TwoTurns() {
  Chat chat(TheModel(), "be brief");
  REQUIRE(chat.Send("the first thing", nullptr, {.max_tokens = kTokens}).ok());
  REQUIRE(chat.Send("why?", nullptr, {.max_tokens = kTokens}).ok());
  return chat;
}

void AppendChecksum(Bytes& bytes) {
  const std::uint64_t hash = HashBytes(bytes);
  const auto* data = reinterpret_cast<const std::uint8_t*>(&hash);
  bytes.insert(bytes.end(), data, data + sizeof(hash));
}

Error RestoreError(const Bytes& bytes) {
  const auto chat = Chat<TinyModel>::Restore(TheModel(), bytes);
  REQUIRE(!chat.ok());
  CHECK(chat.error().message.find('\n') == std::string::npos);
  return chat.error();
}

TEST_CASE("a restored chat goes on as the saved one, without reading its text again") {
  Chat<TinyModel> chat = TwoTurns();
  const Bytes bytes = chat.Save();
  const auto expected = chat.Send("and then?", nullptr, {.max_tokens = kTokens});
  REQUIRE(expected.ok());

  auto restored = Chat<TinyModel>::Restore(TheModel(), bytes);
  INFO((restored ? "" : restored.error().message));
  REQUIRE(restored.ok());
  REQUIRE(restored->messages().size() == 5);
  CHECK(restored->messages()[0].role == Role::kSystem);
  CHECK(restored->messages()[0].content == "be brief");
  CHECK(restored->messages()[3].content == "why?");
  const auto found = restored->Send("and then?", nullptr, {.max_tokens = kTokens});
  REQUIRE(found.ok());
  CHECK(found->ids == expected->ids);
  CHECK(found->prompt_tokens == expected->prompt_tokens);
  CHECK(restored->Save() == chat.Save());
}

TEST_CASE("a chat without turns is saved too") {
  const Chat<TinyModel> chat(TheModel());
  const auto restored = Chat<TinyModel>::Restore(TheModel(), chat.Save());
  REQUIRE(restored.ok());
  CHECK(restored->messages().empty());
  CHECK(restored->session().position() == 0);
}

TEST_CASE("a saved chat that is cut short or changed is an error") {
  const Bytes whole = TwoTurns().Save();
  for (std::size_t size = 0; size < 400; ++size) {
    CAPTURE(size);
    RestoreError(Bytes(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(size)));
  }
  for (std::size_t at = 0; at < 400; ++at) {
    CAPTURE(at);
    Bytes changed = whole;
    changed[at] ^= 0x55;
    RestoreError(changed);
  }
}

TEST_CASE("a saved chat with a right checksum is still checked") {
  const Bytes session = Session(TheModel()).Save();
  const auto error = [&](std::vector<ChatMessage> messages) {
    return RestoreError(EncodeChat(messages, session)).message;
  };
  CHECK(error({{Role::kModel, "m"}}).find("message 0") != std::string::npos);
  CHECK(error({{Role::kUser, "u"}}).find("no reply") != std::string::npos);
  const std::vector<ImageEmbedding> images = {ImageEmbedding(2, 2, std::vector<float>(4))};
  CHECK(error({{Role::kUser, "u", images}, {Role::kModel, "m"}}).find("picture") !=
        std::string::npos);

  Bytes bytes(kChatMagic.begin(), kChatMagic.end());
  bytes.insert(bytes.end(), {2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0});
  AppendChecksum(bytes);
  CHECK(RestoreError(bytes).code == ErrorCode::kUnsupported);
  // A count that no memory could hold ends where the bytes do.
  bytes.assign(kChatMagic.begin(), kChatMagic.end());
  bytes.insert(bytes.end(), {1, 0, 0, 0});
  bytes.insert(bytes.end(), 8, 0xFF);
  AppendChecksum(bytes);
  CHECK(RestoreError(bytes).code == ErrorCode::kCorrupt);
}

}  // namespace
}  // namespace lapidary::testing
