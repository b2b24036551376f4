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
#include "lapidary/generate/generate-inl.h"
#include "lapidary/generate/options.h"
#include "lapidary/model/model-inl.h"
#include "lapidary/text/chat_template.h"
#include "lapidary/text/prompt.h"
#include "lapidary/vision/image_embedding.h"

HWY_BEFORE_NAMESPACE();
namespace lapidary {
namespace HWY_NAMESPACE {

// Keeps a session with the chat template of Gemma 3. Belongs to one thread at a time.
template <ModelSpec M>
class Chat {
 public:
  // `system` goes in front of the first user turn. `context` as for Session.
  explicit Chat(const Model<M>& model, std::string system = {}, size_t context = 0)
      : model_(model), session_(model, context), system_(std::move(system)) {}

  // One turn: the user's text in, the reply out, streamed to on_text. Errors: kUnsupported if the
  // model has no vocabulary or not Gemma's, and those of Generate; the conversation is then as it
  // was before the call, unless a reply was already under way.
  Result<GenerateResult> Send(std::string_view user, const TextCallback& on_text = {},
                              const GenerateOptions& options = {}) {
    return Send(user, {}, on_text, options);
  }

  // The same with pictures (Model::EncodeImage), which come before the text.
  Result<GenerateResult> Send(std::string_view user, std::span<const ImageEmbedding> images,
                              const TextCallback& on_text = {},
                              const GenerateOptions& options = {}) {
    if (!template_) {
      if (model_.tokenizer() == nullptr) {
        return MakeError(ErrorCode::kUnsupported,
                         "the model's file holds no vocabulary to chat with");
      }
      Result<ChatTemplate> created = ChatTemplate::Create(*model_.tokenizer());
      if (!created) return created.error();
      template_ = *std::move(created);
    }
    Prompt prompt = {pending_, {images.begin(), images.end()}};
    const std::vector<int32_t> turn = session_.position() == 0
                                          ? template_->FirstTurn(system_, user, images)
                                          : template_->NextTurn(user, false, images);
    prompt.ids.insert(prompt.ids.end(), turn.begin(), turn.end());
    Result<GenerateResult> reply = Generate(model_, session_, prompt, options, on_text);
    if (!reply) return reply;
    // The last token of the reply is not in the session yet. An end token is replaced by the
    // template's.
    pending_.clear();
    if (!reply->ids.empty() && reply->reason != StopReason::kEnd) pending_ = {reply->ids.back()};
    return reply;
  }

  // Forgets the conversation; the system text stays.
  void Reset() {
    session_.Rewind(0);
    pending_.clear();
  }

  const Session<M>& session() const { return session_; }

 private:
  Model<M> model_;
  Session<M> session_;
  std::string system_;
  std::optional<ChatTemplate> template_;
  std::vector<int32_t> pending_;  // of the last reply, not yet in the session
};

}  // namespace HWY_NAMESPACE
}  // namespace lapidary
HWY_AFTER_NAMESPACE();

#endif  // include guard
