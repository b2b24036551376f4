// A conversation as bytes: what Chat::Save writes and Chat::Restore reads.
//
// Little-endian, without gaps:
//
//   8 bytes  kChatMagic
//   u32      version, 1
//   u64      number of messages, then of each:
//              u8   role: 0 system, 1 user, 2 model
//              u64  length of the text, then its bytes
//              u64  number of pictures, then of each the u64 number of its values and these as f32:
//                   [parts, soft tokens of a part, width of the model]
//   u64      length of the session, then the session (saved_session.h)
//   u64      XXH64 of everything in front of it
#ifndef LAPIDARY_GENERATE_SAVED_CHAT_H_
#define LAPIDARY_GENERATE_SAVED_CHAT_H_

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "lapidary/base/bytes.h"
#include "lapidary/base/result.h"
#include "lapidary/base/xxhash64.h"
#include "lapidary/config/config.h"
#include "lapidary/model/saved_session.h"
#include "lapidary/text/chat_template.h"
#include "lapidary/vision/image_embedding.h"

namespace lapidary {

inline constexpr std::array<std::uint8_t, 8> kChatMagic = {0x8C, 'L',  'A',  'C',
                                                           '\r', '\n', 0x1A, '\n'};
inline constexpr std::uint32_t kChatVersion = 1;

// A conversation without its session.
struct SavedChat {
  std::vector<ChatMessage> messages;
  std::span<const std::uint8_t> session;  // part of the bytes that were read
};

inline std::vector<std::uint8_t> EncodeChat(std::span<const ChatMessage> messages,
                                            const std::vector<std::uint8_t>& session) {
  internal::SessionWriter writer;
  writer.Bytes(kChatMagic.data(), kChatMagic.size());
  writer.Number(kChatVersion);
  writer.Number(std::uint64_t{messages.size()});
  for (const ChatMessage& message : messages) {
    writer.Number(static_cast<std::uint8_t>(message.role));
    writer.Array(message.content);
    writer.Number(std::uint64_t{message.images.size()});
    for (const ImageEmbedding& image : message.images) writer.Array(image.values());
  }
  writer.Array(session);
  return writer.Take();
}

namespace internal {

inline Result<ChatMessage> ReadMessage(ByteReader& reader, const Config& config) {
  ChatMessage message;
  std::uint8_t role = 0;
  std::uint64_t images = 0;
  if (!reader.Read(role) || !ReadArray(reader, message.content) || !reader.Read(images)) {
    return MakeError(ErrorCode::kCorrupt, "saved chat: it ends inside a message");
  }
  if (role > static_cast<std::uint8_t>(Role::kModel)) {
    return MakeError(ErrorCode::kCorrupt, "saved chat: expected a role of 0 .. 2, found ",
                     int{role});
  }
  message.role = static_cast<Role>(role);
  const auto soft_tokens = static_cast<std::size_t>(config.vision.soft_tokens);
  const auto width = static_cast<std::size_t>(config.width);
  const std::size_t part = soft_tokens * width;
  for (; images > 0; --images) {
    std::vector<float> values;
    if (!ReadArray(reader, values)) {
      return MakeError(ErrorCode::kCorrupt, "saved chat: it ends inside a picture");
    }
    if (message.role != Role::kUser || part == 0 || values.empty() || values.size() % part != 0) {
      return MakeError(ErrorCode::kCorrupt, "saved chat: expected pictures of users, of ", part,
                       " values a part, found one of ", values.size(), " in a message of the ",
                       RoleName(message.role));
    }
    message.images.emplace_back(soft_tokens, width, std::move(values));
  }
  return message;
}

}  // namespace internal

// Reads a conversation with the model of this Config; bytes may come from anywhere. Who speaks when
// is not checked here: ChatTemplate does, and the session is DecodeSession's. Errors: kCorrupt,
// kUnsupported for another version.
inline Result<SavedChat> DecodeChat(std::span<const std::uint8_t> bytes, const Config& config) {
  ByteReader reader(bytes);
  std::span<const std::uint8_t> magic;
  std::uint32_t version = 0;
  std::uint64_t count = 0;
  if (!reader.ReadBytes(kChatMagic.size(), magic) ||
      !std::equal(magic.begin(), magic.end(), kChatMagic.begin())) {
    return MakeError(ErrorCode::kCorrupt, "expected a saved chat, found other bytes");
  }
  if (!reader.Read(version) || !reader.Read(count)) {
    return MakeError(ErrorCode::kCorrupt, "saved chat: it ends inside its header");
  }
  if (version != kChatVersion) {
    return MakeError(ErrorCode::kUnsupported, "saved chat: expected version ", kChatVersion,
                     ", found ", version);
  }
  SavedChat chat;
  for (; count > 0; --count) {  // a false count ends where the bytes do
    Result<ChatMessage> message = internal::ReadMessage(reader, config);
    if (!message) return message.error();
    chat.messages.push_back(*std::move(message));
  }
  std::uint64_t session = 0;
  if (!reader.Read(session) || session > reader.remaining() ||
      !reader.ReadBytes(session, chat.session) || reader.remaining() != sizeof(std::uint64_t)) {
    return MakeError(ErrorCode::kCorrupt, "saved chat: expected a session of ", session,
                     " bytes and a checksum at its end, found ", reader.remaining(), " bytes");
  }
  const std::size_t checked = bytes.size() - sizeof(std::uint64_t);
  if (HashBytes(bytes.first(checked)) != LoadLittleEndian<std::uint64_t>(bytes.data() + checked)) {
    return MakeError(ErrorCode::kCorrupt, "the saved chat is damaged (its checksum differs)");
  }
  return chat;
}

}  // namespace lapidary

#endif  // LAPIDARY_GENERATE_SAVED_CHAT_H_
