// Gemma 3's chat format (the chat_template of the published tokenizer_config.json):
//
//   <bos><start_of_turn>user
//   {system text}
//
//   {question}<end_of_turn>
//   <start_of_turn>model
//   {answer}<end_of_turn>
//   <start_of_turn>user
//   ...
//
// A picture stands in front of the question, as <start_of_image>, its soft tokens and
// <end_of_image> between blank lines.
//
// The words in angle brackets are ids that this header inserts. Everything that people or the
// model wrote is text, so nobody can begin or end a turn by typing these words.
#ifndef LAPIDARY_TEXT_CHAT_TEMPLATE_H_
#define LAPIDARY_TEXT_CHAT_TEMPLATE_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "lapidary/base/result.h"
#include "lapidary/text/tokenizer.h"
#include "lapidary/vision/image_embedding.h"

namespace lapidary {

enum class Role : std::uint8_t { kSystem, kUser, kModel };

struct ChatMessage {
  Role role = Role::kUser;
  std::string content;
  std::vector<ImageEmbedding> images = {};  // of a user; they come before the content
};

inline std::string_view RoleName(Role role) {
  switch (role) {
    case Role::kSystem:
      return "system";
    case Role::kUser:
      return "user";
    case Role::kModel:
      return "model";
  }
  return "unknown";
}

// Text without the white space at both ends. White space is what Python's str.strip() removes,
// because the published template is run by Python; bytes that are not UTF-8 are not white space.
inline std::string_view TrimWhitespace(std::string_view text) {
  constexpr std::string_view kAscii = "\t\n\v\f\r\x1c\x1d\x1e\x1f ";
  constexpr std::string_view kOther[] = {
      "\xC2\x85",      // U+0085
      "\xC2\xA0",      // U+00A0
      "\xE1\x9A\x80",  // U+1680
      "\xE2\x80\xA8",  // U+2028
      "\xE2\x80\xA9",  // U+2029
      "\xE2\x80\xAF",  // U+202F
      "\xE2\x81\x9F",  // U+205F
      "\xE3\x80\x80",  // U+3000
  };
  const auto is_space = [&](std::string_view character) {
    if (character.size() == 1) return kAscii.find(character[0]) != kAscii.npos;
    for (const std::string_view space : kOther) {
      if (character == space) return true;
    }
    // U+2000 .. U+200A
    return character.size() == 3 && character.starts_with("\xE2\x80") &&
           static_cast<std::uint8_t>(character[2]) <= 0x8A;
  };
  while (!text.empty()) {
    const std::size_t length = internal::NextUtf8(text).length;
    if (!is_space(text.substr(0, length))) break;
    text.remove_prefix(length);
  }
  while (!text.empty()) {
    std::size_t begin = text.size() - 1;
    while (begin > 0 && text.size() - begin < 4 &&
           (static_cast<std::uint8_t>(text[begin]) & 0xC0) == 0x80) {
      --begin;
    }
    if (!is_space(text.substr(begin))) break;
    text = text.substr(0, begin);
  }
  return text;
}

// Collects the ids of a prompt from text and from ids that no text may produce. Neighbouring texts
// are tokenised as one, because what meets at a seam may merge: two newlines that end one part and
// two that begin the next are one piece.
class PromptBuilder {
 public:
  // How text is read: Tokenizer::Encode, or for prompts that a program's user writes in full,
  // EncodeWithControl.
  enum class Text { kPlain, kWithControl };

  // The tokenizer must outlive the builder.
  explicit PromptBuilder(const Tokenizer& tokenizer, Text text = Text::kPlain)
      : tokenizer_(tokenizer), reading_(text) {}

  PromptBuilder& AddText(std::string_view text) {
    text_ += text;
    return *this;
  }

  PromptBuilder& AddId(std::int32_t id) {
    Flush();
    ids_.push_back(id);
    return *this;
  }

  // A picture: its soft tokens between markers and blank lines; with Pan & Scan, a sentence that
  // tells the model what the crops are. All of it as Hugging Face's Gemma3Processor writes it.
  PromptBuilder& AddImage(std::size_t soft_tokens, std::size_t parts = 1) {
    if (parts > 1) AddText("Here is the original image ");
    for (std::size_t i = 0; i < parts; ++i) {
      if (i == 1) AddText(" and here are some crops to help you see better ");
      if (i > 1) AddText(" ");
      AddText("\n\n").AddId(kStartOfImage);
      ids_.insert(ids_.end(), soft_tokens, kImageSoftToken);
      AddId(kEndOfImage).AddText("\n\n");
    }
    return *this;
  }
  PromptBuilder& AddImages(std::span<const ImageEmbedding> images) {
    for (const ImageEmbedding& image : images) AddImage(image.soft_tokens(), image.parts());
    return *this;
  }

  // Returns the ids and leaves the builder empty.
  std::vector<std::int32_t> Take() {
    Flush();
    return std::exchange(ids_, {});
  }

 private:
  void Flush() {
    if (text_.empty()) return;
    const std::vector<std::int32_t> ids =
        reading_ == Text::kPlain ? tokenizer_.Encode(text_) : tokenizer_.EncodeWithControl(text_);
    ids_.insert(ids_.end(), ids.begin(), ids.end());
    text_.clear();
  }

  const Tokenizer& tokenizer_;
  Text reading_;
  std::string text_;  // not tokenised yet
  std::vector<std::int32_t> ids_;
};

// Two ways to the same ids. Encode() writes a whole conversation; FirstTurn() and NextTurn() write
// what a session, which holds all earlier ids and the model's reply, has to be given next:
//
//   FirstTurn(system, question 1) + ids of reply 1 + NextTurn(question 2)
//       == Encode({system, question 1, reply 1, question 2})
//
// Equality holds for every reply that Encode() would tokenise as the model wrote it. That can fail
// when a reply has white space at its ends, which the template trims, or was not spelled with the
// ids that its text gets. A chat that wants the template's ids for certain compares what its
// session holds with Encode() of all messages, rewinds to where they part, and goes on from there.
class ChatTemplate {
 public:
  // Calls tokenizer.Prepare(), since a question is about to come. kUnsupported if that fails or
  // <bos>, <start_of_turn> and <end_of_turn> are not pieces 2, 105 and 106.
  static Result<ChatTemplate> Create(const Tokenizer& tokenizer) {
    constexpr std::pair<std::int32_t, std::string_view> kNeeded[] = {
        {kBos, "<bos>"}, {kStartOfTurn, "<start_of_turn>"}, {kEndOfTurn, "<end_of_turn>"}};
    for (const auto& [id, piece] : kNeeded) {
      if (tokenizer.Piece(id) != piece) {
        return MakeError(ErrorCode::kUnsupported, "chat template: expected ", piece, " as piece ",
                         id, ", found ",
                         tokenizer.Contains(id) ? internal::Quoted(tokenizer.Piece(id)) : "none");
      }
    }
    if (Status status = tokenizer.Prepare(); !status) return status.error();
    return ChatTemplate(tokenizer);
  }

  // Whether the messages alternate, the user first, after at most one system text.
  // kInvalidArgument says which one breaks this.
  static Status CheckTurns(std::span<const ChatMessage> messages) {
    const std::size_t first = FirstOfUser(messages);
    for (std::size_t i = first; i < messages.size(); ++i) {
      const Role expected = (i - first) % 2 == 0 ? Role::kUser : Role::kModel;
      if (messages[i].role != expected) {
        return MakeError(ErrorCode::kInvalidArgument, "chat: message ", i,
                         ": turns must alternate between user and model, the user first, after at "
                         "most one system text: expected ",
                         RoleName(expected), ", found ", RoleName(messages[i].role));
      }
    }
    return {};
  }

  // A conversation from its <bos> on. If the user has the last word the ids end with an open turn
  // of the model, ready for its reply; otherwise with the model's closed turn. System text is only
  // allowed as the first message; it goes in front of the first user turn, as it is, and an empty
  // one leaves no trace. The other messages are trimmed. Errors: those of CheckTurns;
  // kInvalidArgument without a message of the user.
  Result<std::vector<std::int32_t>> Encode(std::span<const ChatMessage> messages) const {
    if (Status status = CheckTurns(messages); !status) return status.error();
    const std::size_t first = FirstOfUser(messages);
    if (first == messages.size()) {
      return MakeError(ErrorCode::kInvalidArgument,
                       "chat: expected a message of the user, found none");
    }
    PromptBuilder prompt(tokenizer_);
    prompt.AddId(kBos);
    for (std::size_t i = first; i < messages.size(); ++i) {
      const ChatMessage& message = messages[i];
      OpenTurn(message.role, &prompt);
      if (i == first && i > 0) AddSystem(messages[0].content, &prompt);
      prompt.AddImages(message.images).AddText(TrimWhitespace(message.content));
      CloseTurn(&prompt);
    }
    if (messages.back().role == Role::kUser) OpenTurn(Role::kModel, &prompt);
    return prompt.Take();
  }

  // What a new session begins with, up to the open turn of the model.
  std::vector<std::int32_t> FirstTurn(std::string_view system, std::string_view user,
                                      std::span<const ImageEmbedding> images = {}) const {
    PromptBuilder prompt(tokenizer_);
    prompt.AddId(kBos);
    OpenTurn(Role::kUser, &prompt);
    AddSystem(system, &prompt);
    prompt.AddImages(images).AddText(TrimWhitespace(user));
    CloseTurn(&prompt);
    OpenTurn(Role::kModel, &prompt);
    return prompt.Take();
  }

  // What follows the ids of a reply. A reply's own ids do not include the id that ended it
  // (kEndOfTurn, kEos, or none where the length ran out), so the first id here is <end_of_turn>,
  // which closes the reply's turn. If the session has been fed an <end_of_turn> already, say
  // reply_closed.
  std::vector<std::int32_t> NextTurn(std::string_view user, bool reply_closed = false,
                                     std::span<const ImageEmbedding> images = {}) const {
    PromptBuilder prompt(tokenizer_);
    if (reply_closed) {
      prompt.AddText("\n");
    } else {
      CloseTurn(&prompt);
    }
    OpenTurn(Role::kUser, &prompt);
    prompt.AddImages(images).AddText(TrimWhitespace(user));
    CloseTurn(&prompt);
    OpenTurn(Role::kModel, &prompt);
    return prompt.Take();
  }

 private:
  explicit ChatTemplate(const Tokenizer& tokenizer) : tokenizer_(tokenizer) {}

  // The index of the first message behind a system text.
  static std::size_t FirstOfUser(std::span<const ChatMessage> messages) {
    return !messages.empty() && messages[0].role == Role::kSystem ? 1 : 0;
  }
  static void OpenTurn(Role role, PromptBuilder* prompt) {
    prompt->AddId(kStartOfTurn).AddText(RoleName(role)).AddText("\n");
  }
  static void CloseTurn(PromptBuilder* prompt) { prompt->AddId(kEndOfTurn).AddText("\n"); }
  static void AddSystem(std::string_view system, PromptBuilder* prompt) {
    if (!system.empty()) prompt->AddText(system).AddText("\n\n");
  }

  Tokenizer tokenizer_;
};

}  // namespace lapidary

#endif  // LAPIDARY_TEXT_CHAT_TEMPLATE_H_
