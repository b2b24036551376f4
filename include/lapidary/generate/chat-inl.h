// A conversation: turns of a user and replies of the model.
#if defined(LAPIDARY_GENERATE_CHAT_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef LAPIDARY_GENERATE_CHAT_INL_H_
#undef LAPIDARY_GENERATE_CHAT_INL_H_
#else
#define LAPIDARY_GENERATE_CHAT_INL_H_
#endif

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "lapidary/base/result.h"
#include "lapidary/base/stopwatch.h"
#include "lapidary/generate/generate-inl.h"
#include "lapidary/generate/options.h"
#include "lapidary/generate/saved_chat.h"
#include "lapidary/model/model-inl.h"
#include "lapidary/text/chat_template.h"
#include "lapidary/text/prompt.h"
#include "lapidary/vision/image_embedding.h"

HWY_BEFORE_NAMESPACE();
namespace lapidary {
namespace HWY_NAMESPACE {

// Keeps a session with the chat template of Gemma 3. What the model sees at each turn is the
// template applied to the whole conversation, to the last id, also where a reply ended by length or
// has white space at its ends, which the template trims. Belongs to one thread at a time.
template <ModelSpec M>
class Chat {
 public:
  // `system` goes in front of the first user turn. `context` as for Session.
  explicit Chat(const Model<M>& model, std::string system = {}, size_t context = 0)
      : model_(model), session_(model, context) {
    if (!system.empty()) messages_.push_back({Role::kSystem, std::move(system)});
  }

  // One turn: the user's text in, the reply out, streamed to on_text. Errors: kUnsupported if the
  // model has no vocabulary or not Gemma's, and those of Session::PrefillReusing and Continue; the
  // conversation is then as it was before the call.
  Result<GenerateResult> Send(std::string_view user, const TextCallback& on_text = {},
                              const GenerateOptions& options = {}) {
    return Send(user, {}, on_text, options);
  }

  // The same with pictures (Model::EncodeImage), which come before the text.
  Result<GenerateResult> Send(std::string_view user, std::span<const ImageEmbedding> images,
                              const TextCallback& on_text = {},
                              const GenerateOptions& options = {}) {
    if (auto checked = StartGeneration(model_, options, {}); !checked) return checked.error();
    if (Status status = MakeTemplate(); !status) return status.error();
    messages_.push_back({Role::kUser, std::string(user), {images.begin(), images.end()}});
    Result<GenerateResult> reply = Reply(on_text, options);
    if (reply) {
      messages_.push_back({Role::kModel, reply->text});
    } else {
      messages_.pop_back();
    }
    return reply;
  }

  // Forgets the conversation; the system text stays.
  void Reset() {
    session_.Rewind(0);
    const bool has_system = !messages_.empty() && messages_[0].role == Role::kSystem;
    messages_.resize(has_system ? 1 : 0);
  }

  // The conversation as bytes, pictures and session included, from which a model with the same
  // Config and the same weights makes it again. The format is that of saved_chat.h.
  std::vector<std::uint8_t> Save() const { return EncodeChat(messages_, session_.Save()); }

  // What Save() wrote. Errors: those of DecodeChat, ChatTemplate::CheckTurns and Session::Restore;
  // kCorrupt for a question without a reply.
  static Result<Chat> Restore(const Model<M>& model, std::span<const std::uint8_t> bytes) {
    Result<SavedChat> saved = DecodeChat(bytes, M::kConfig);
    if (!saved) return saved.error();
    if (Status status = ChatTemplate::CheckTurns(saved->messages); !status) return status.error();
    if (!saved->messages.empty() && saved->messages.back().role == Role::kUser) {
      return MakeError(ErrorCode::kCorrupt, "saved chat: the last question has no reply");
    }
    Result<Session<M>> session = Session<M>::Restore(model, saved->session);
    if (!session) return session.error();
    Chat chat(model, *std::move(session));
    chat.messages_ = std::move(saved->messages);
    return chat;
  }

  // The conversation so far, the system text first if there is one.
  const std::vector<ChatMessage>& messages() const { return messages_; }
  const Session<M>& session() const { return session_; }

 private:
  Chat(const Model<M>& model, Session<M> session) : model_(model), session_(std::move(session)) {}

  Status MakeTemplate() {
    if (template_) return {};
    Result<ChatTemplate> created = ChatTemplate::Create(*model_.tokenizer());
    if (!created) return created.error();
    template_ = *std::move(created);
    return {};
  }

  // The session holds most of the ids already: all, where the last reply is tokenised as the model
  // wrote it.
  Result<GenerateResult> Reply(const TextCallback& on_text, const GenerateOptions& options) {
    Result<std::vector<int32_t>> ids = template_->Encode(messages_);
    if (!ids) return ids.error();
    Prompt prompt = {*std::move(ids), {}};
    for (const ChatMessage& message : messages_) {
      prompt.images.insert(prompt.images.end(), message.images.begin(), message.images.end());
    }
    const Stopwatch watch;
    const Result<size_t> kept = session_.PrefillReusing(prompt, CancellableProgress(options));
    if (!kept) return kept.error();
    if (auto generation = StartGeneration(model_, options, {})) generation->Prepare(session_);
    const double prefill_seconds = watch.seconds();
    Result<GenerateResult> reply = Continue(model_, session_, options, on_text);
    if (!reply) return reply;
    reply->prompt_tokens = prompt.ids.size() - *kept;
    reply->prefill_seconds = prefill_seconds;
    return reply;
  }

  Model<M> model_;
  Session<M> session_;
  std::vector<ChatMessage> messages_;
  std::optional<ChatTemplate> template_;
};

}  // namespace HWY_NAMESPACE
}  // namespace lapidary
HWY_AFTER_NAMESPACE();

#endif  // include guard
