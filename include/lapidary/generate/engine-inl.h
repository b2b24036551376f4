// What is behind engine.h, for one model and one instruction set.
#if defined(LAPIDARY_GENERATE_ENGINE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef LAPIDARY_GENERATE_ENGINE_INL_H_
#undef LAPIDARY_GENERATE_ENGINE_INL_H_
#else
#define LAPIDARY_GENERATE_ENGINE_INL_H_
#endif

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "lapidary/base/result.h"
#include "lapidary/generate/batch-inl.h"
#include "lapidary/generate/chat-inl.h"
#include "lapidary/generate/embed-inl.h"
#include "lapidary/generate/engine.h"
#include "lapidary/generate/generate-inl.h"
#include "lapidary/generate/likelihood-inl.h"
#include "lapidary/model/model-inl.h"

HWY_BEFORE_NAMESPACE();
namespace lapidary {
namespace HWY_NAMESPACE {

template <ModelSpec M>
class EngineSessionOf final : public EngineSession {
 public:
  EngineSessionOf(const Model<M>& model, Session<M> session)
      : model_(model), session_(std::move(session)) {}

  size_t position() const override { return session_.position(); }
  size_t context() const override { return session_.context(); }
  std::span<const int32_t> ids() const override { return session_.ids(); }
  bool has_logits() const override { return session_.has_logits(); }
  std::span<const float> logits() const override { return session_.logits(); }
  std::span<const TokenLogit> Best(size_t count) const override { return session_.Best(count); }
  const KvPlan& memory_plan() const override { return session_.memory_plan(); }

  Status Prefill(const PromptView& prompt, const ProgressCallback& progress) override {
    return session_.Prefill(prompt, progress);
  }
  Result<size_t> PrefillReusing(const PromptView& prompt,
                                const ProgressCallback& progress) override {
    return session_.PrefillReusing(prompt, progress);
  }
  Status PrefillWithLogits(const PromptView& prompt, const RowVisitor& visit,
                           size_t rows) override {
    return session_.PrefillWithLogits(prompt, visit, rows);
  }
  Status PrefillWithHidden(const PromptView& prompt, const RowVisitor& visit) override {
    return session_.PrefillWithHidden(prompt, visit);
  }
  Status Append(int32_t id, std::span<const int32_t> guesses) override {
    return session_.Append(id, guesses);
  }
  bool Guessed(int32_t id) const override { return session_.Guessed(id); }
  Result<std::span<const float>> Decode(int32_t id) override { return session_.Decode(id); }
  size_t CommonPrefix(const PromptView& prompt) const override {
    return session_.CommonPrefix(prompt);
  }
  size_t Rewind(size_t position) override { return session_.Rewind(position); }

  std::unique_ptr<EngineSession> Fork() const override {
    return std::make_unique<EngineSessionOf>(model_, session_.Fork());
  }
  std::vector<std::uint8_t> Save() const override { return session_.Save(); }

  Result<GenerateResult> Generate(const PromptView& prompt, const GenerateOptions& options,
                                  const TextCallback& on_text) override {
    return HWY_NAMESPACE::Generate(model_, session_, prompt, options, on_text);
  }
  Result<GenerateResult> Continue(const GenerateOptions& options,
                                  const TextCallback& on_text) override {
    return HWY_NAMESPACE::Continue(model_, session_, options, on_text);
  }
  Result<Likelihood> Score(std::span<const int32_t> continuation) override {
    return HWY_NAMESPACE::Score(session_, continuation);
  }

  const void* class_id() const override { return &kClassId; }
  Session<M>& session() { return session_; }

  static constexpr char kClassId = 0;

 private:
  Model<M> model_;
  Session<M> session_;
};

template <ModelSpec M>
class EngineChatOf final : public EngineChat {
 public:
  EngineChatOf(const Model<M>& model, std::string system, size_t context)
      : chat_(model, std::move(system), context) {}
  explicit EngineChatOf(Chat<M> chat) : chat_(std::move(chat)) {}

  using EngineChat::Send;
  Result<GenerateResult> Send(std::string_view user, std::span<const ImageEmbedding> images,
                              const TextCallback& on_text,
                              const GenerateOptions& options) override {
    return chat_.Send(user, images, on_text, options);
  }
  void Reset() override { chat_.Reset(); }
  const std::vector<ChatMessage>& messages() const override { return chat_.messages(); }
  size_t position() const override { return chat_.session().position(); }
  size_t context() const override { return chat_.session().context(); }
  std::span<const float> logits() const override { return chat_.session().logits(); }
  const KvPlan& memory_plan() const override { return chat_.session().memory_plan(); }
  std::vector<std::uint8_t> Save() const override { return chat_.Save(); }

 private:
  Chat<M> chat_;
};

template <ModelSpec M>
class EngineOf final : public Engine {
 public:
  explicit EngineOf(Model<M> model) : model_(std::move(model)) {}

  std::string_view name() const override { return M::kName; }
  std::string_view target() const override { return hwy::TargetName(HWY_TARGET); }
  const WeightFile& file() const override { return model_.file(); }
  const Tokenizer* tokenizer() const override { return model_.tokenizer(); }
  size_t threads() const override { return model_.threads(); }
  size_t chunk() const override { return model_.chunk(); }
  Precision precision() const override { return model_.precision(); }
  bool has_vision() const override { return model_.has_vision(); }

  std::unique_ptr<EngineSession> NewSession(size_t context) const override {
    return std::make_unique<EngineSessionOf<M>>(model_, Session<M>(model_, context));
  }
  Result<std::unique_ptr<EngineSession>> RestoreSession(
      std::span<const std::uint8_t> bytes) const override {
    Result<Session<M>> session = Session<M>::Restore(model_, bytes);
    if (!session) return session.error();
    return std::unique_ptr<EngineSession>(
        std::make_unique<EngineSessionOf<M>>(model_, *std::move(session)));
  }
  std::unique_ptr<EngineChat> NewChat(std::string system, size_t context) const override {
    return std::make_unique<EngineChatOf<M>>(model_, std::move(system), context);
  }
  Result<std::unique_ptr<EngineChat>> RestoreChat(
      std::span<const std::uint8_t> bytes) const override {
    Result<Chat<M>> chat = Chat<M>::Restore(model_, bytes);
    if (!chat) return chat.error();
    return std::unique_ptr<EngineChat>(std::make_unique<EngineChatOf<M>>(*std::move(chat)));
  }

  Status DecodeTogether(std::span<EngineSession* const> sessions, std::span<const int32_t> ids,
                        size_t best) const override {
    std::vector<Session<M>*> all;
    for (size_t i = 0; i < sessions.size(); ++i) {
      if (sessions[i]->class_id() != &EngineSessionOf<M>::kClassId) {
        return MakeError(ErrorCode::kInvalidArgument, "session ", i, " belongs to another engine");
      }
      all.push_back(&static_cast<EngineSessionOf<M>*>(sessions[i])->session());
    }
    return model_.DecodeTogether(all, ids, best);
  }
  Status GenerateBatch(std::span<const Prompt> prompts, const BatchOptions& options,
                       const BatchCallback& on_result) const override {
    return HWY_NAMESPACE::GenerateBatch(model_, prompts, options, on_result);
  }
  Result<std::vector<float>> Embed(const PromptView& prompt, Pooling pooling) const override {
    return HWY_NAMESPACE::Embed(model_, prompt, pooling);
  }
  Result<ImageEmbedding> EncodeImage(const Picture& picture,
                                     const ImageOptions& options) const override {
    if constexpr (M::kConfig.vision.present()) {
      return model_.EncodeImage(picture, options);
    } else {
      return MakeError(ErrorCode::kUnsupported, M::kName, " reads no pictures");
    }
  }

 private:
  Model<M> model_;
};

// Opens a file that holds M. Errors: those of Model<M>::Open.
template <ModelSpec M>
Result<std::unique_ptr<Engine>> OpenEngineOf(WeightFile file, const ModelOptions& options) {
  Result<Model<M>> model = Model<M>::Open(std::move(file), options);
  if (!model) return model.error();
  return std::unique_ptr<Engine>(std::make_unique<EngineOf<M>>(*std::move(model)));
}

}  // namespace HWY_NAMESPACE
}  // namespace lapidary
HWY_AFTER_NAMESPACE();

#endif  // include guard
