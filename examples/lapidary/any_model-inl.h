// OpenModel<M>, for the translation units that instantiate it.
#ifndef LAPIDARY_EXAMPLES_ANY_MODEL_INL_H_
#define LAPIDARY_EXAMPLES_ANY_MODEL_INL_H_

#include <lapidary/lapidary.h>

#include <utility>

#include "any_model.h"

namespace lapidary::cli {

template <ModelSpec M>
class SessionOf final : public AnySession {
 public:
  SessionOf(const Model<M>& model, std::size_t context) : model_(model), session_(model, context) {}

  std::size_t position() const override { return session_.position(); }
  std::size_t context() const override { return session_.context(); }
  std::span<const float> logits() const override { return session_.logits(); }
  Status Prefill(const PromptView& prompt, const ProgressCallback& progress) override {
    return session_.Prefill(prompt, progress);
  }
  Status PrefillWithLogits(const PromptView& prompt, const RowVisitor& visit,
                           std::size_t rows) override {
    return session_.PrefillWithLogits(prompt, visit, rows);
  }
  Result<std::span<const float>> Decode(std::int32_t id) override { return session_.Decode(id); }
  Result<GenerateResult> Generate(const PromptView& prompt, const GenerateOptions& options,
                                  const TextCallback& on_text) override {
    return lapidary::Generate(model_, session_, prompt, options, on_text);
  }

 private:
  Model<M> model_;
  Session<M> session_;
};

template <ModelSpec M>
class ModelOf final : public AnyModel {
 public:
  explicit ModelOf(Model<M> model) : model_(std::move(model)) {}

  const WeightFile& file() const override { return model_.file(); }
  const Tokenizer* tokenizer() const override { return model_.tokenizer(); }
  std::size_t threads() const override { return model_.threads(); }
  std::size_t chunk() const override { return model_.chunk(); }
  Precision precision() const override { return model_.precision(); }
  std::unique_ptr<AnySession> NewSession(std::size_t context) const override {
    return std::make_unique<SessionOf<M>>(model_, context);
  }
  Result<ImageEmbedding> EncodeImage(const Picture& picture,
                                     const ImageOptions& options) const override {
    if constexpr (M::kConfig.vision.present()) {
      return model_.EncodeImage(picture, options);
    } else {
      return MakeError(ErrorCode::kUnsupported, M::kName,
                       " reads no pictures; the 4B, 12B and 27B do");
    }
  }

 private:
  Model<M> model_;
};

template <ModelSpec M>
Result<std::unique_ptr<AnyModel>> OpenModel(const std::filesystem::path& path,
                                            const ModelOptions& options) {
  Result<Model<M>> model = Model<M>::Open(path, options);
  if (!model) return model.error();
  return std::unique_ptr<AnyModel>(std::make_unique<ModelOf<M>>(*std::move(model)));
}

}  // namespace lapidary::cli

#endif  // LAPIDARY_EXAMPLES_ANY_MODEL_INL_H_
