// A model whose size is known at run time only, on the best instruction set of the CPU.
//
// Behind these classes are Model<M>, Session<M> and Chat<M>, compiled once per model and
// instruction set by the CMake function lapidary_add_engine; its files define OpenEngine. A program
// that uses only this header compiles no kernels itself. What the functions do is said where the
// templates are: model-inl.h, and the headers beside this one.
#ifndef LAPIDARY_GENERATE_ENGINE_H_
#define LAPIDARY_GENERATE_ENGINE_H_

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "lapidary/base/progress.h"
#include "lapidary/base/result.h"
#include "lapidary/config/config.h"
#include "lapidary/config/precision.h"
#include "lapidary/generate/options.h"
#include "lapidary/model/kv_cache.h"
#include "lapidary/model/options.h"
#include "lapidary/model/token_logit.h"
#include "lapidary/text/chat_template.h"
#include "lapidary/text/prompt.h"
#include "lapidary/text/tokenizer.h"
#include "lapidary/vision/image_embedding.h"
#include "lapidary/vision/picture.h"
#include "lapidary/weights/weight_file.h"

namespace lapidary {

// Session<M>. Belongs to one thread at a time; keeps its model alive, not the Engine.
class EngineSession {
 public:
  // Receives the row of each id; false cancels.
  using RowVisitor = std::function<bool(std::size_t index, std::span<const float> row)>;

  virtual ~EngineSession() = default;
  virtual std::size_t position() const = 0;
  virtual std::size_t context() const = 0;
  virtual std::span<const std::int32_t> ids() const = 0;
  virtual bool has_logits() const = 0;
  virtual std::span<const float> logits() const = 0;
  virtual std::span<const TokenLogit> Best(std::size_t count) const = 0;
  virtual const KvPlan& memory_plan() const = 0;

  virtual Status Prefill(const PromptView& prompt, const ProgressCallback& progress = {}) = 0;
  virtual Result<std::size_t> PrefillReusing(const PromptView& prompt,
                                             const ProgressCallback& progress = {}) = 0;
  virtual Status PrefillWithLogits(const PromptView& prompt, const RowVisitor& visit,
                                   std::size_t rows = 64) = 0;
  virtual Status PrefillWithHidden(const PromptView& prompt, const RowVisitor& visit) = 0;
  virtual Status Append(std::int32_t id, std::span<const std::int32_t> guesses = {}) = 0;
  virtual bool Guessed(std::int32_t id) const = 0;
  virtual Result<std::span<const float>> Decode(std::int32_t id) = 0;
  virtual std::size_t CommonPrefix(const PromptView& prompt) const = 0;
  virtual std::size_t Rewind(std::size_t position) = 0;

  virtual std::unique_ptr<EngineSession> Fork() const = 0;
  virtual std::vector<std::uint8_t> Save() const = 0;

  virtual Result<GenerateResult> Generate(const PromptView& prompt, const GenerateOptions& options,
                                          const TextCallback& on_text = {}) = 0;
  virtual Result<GenerateResult> Continue(const GenerateOptions& options,
                                          const TextCallback& on_text = {}) = 0;
  virtual Result<Likelihood> Score(std::span<const std::int32_t> continuation) = 0;

  // The same address for all sessions of one class, and for those only: what Engine casts by.
  virtual const void* class_id() const = 0;
};

// Chat<M>. Belongs to one thread at a time; keeps its model alive, not the Engine.
class EngineChat {
 public:
  virtual ~EngineChat() = default;
  virtual Result<GenerateResult> Send(std::string_view user, std::span<const ImageEmbedding> images,
                                      const TextCallback& on_text = {},
                                      const GenerateOptions& options = {}) = 0;
  Result<GenerateResult> Send(std::string_view user, const TextCallback& on_text = {},
                              const GenerateOptions& options = {}) {
    return Send(user, {}, on_text, options);
  }
  virtual void Reset() = 0;
  virtual const std::vector<ChatMessage>& messages() const = 0;
  virtual std::size_t position() const = 0;  // tokens in the session
  virtual std::size_t context() const = 0;
  virtual std::span<const float> logits() const = 0;
  virtual const KvPlan& memory_plan() const = 0;
  virtual std::vector<std::uint8_t> Save() const = 0;
};

// Model<M>. May be used by several threads at once.
class Engine {
 public:
  virtual ~Engine() = default;
  virtual std::string_view name() const = 0;    // of the model, such as "Gemma 3 1B"
  virtual std::string_view target() const = 0;  // the instruction set, such as "AVX3_ZEN4"
  virtual const WeightFile& file() const = 0;
  virtual const Tokenizer* tokenizer() const = 0;
  virtual std::size_t threads() const = 0;
  virtual std::size_t chunk() const = 0;
  virtual Precision precision() const = 0;
  virtual bool has_vision() const = 0;
  const Config& config() const { return file().config(); }

  virtual std::unique_ptr<EngineSession> NewSession(std::size_t context = 0) const = 0;
  virtual Result<std::unique_ptr<EngineSession>> RestoreSession(
      std::span<const std::uint8_t> bytes) const = 0;
  virtual std::unique_ptr<EngineChat> NewChat(std::string system = {},
                                              std::size_t context = 0) const = 0;
  virtual Result<std::unique_ptr<EngineChat>> RestoreChat(
      std::span<const std::uint8_t> bytes) const = 0;
  virtual Status DecodeTogether(std::span<EngineSession* const> sessions,
                                std::span<const std::int32_t> ids, std::size_t best = 0) const = 0;
  virtual Status GenerateBatch(std::span<const Prompt> prompts, const BatchOptions& options,
                               const BatchCallback& on_result) const = 0;
  virtual Result<std::vector<float>> Embed(const PromptView& prompt,
                                           Pooling pooling = Pooling::kMean) const = 0;
  // kUnsupported also for a model without an image encoder.
  virtual Result<ImageEmbedding> EncodeImage(const Picture& picture,
                                             const ImageOptions& options = {}) const = 0;
};

struct EngineOptions {
  ModelOptions model = {};
  std::string target = {};  // one of EngineTargets(); empty: the best that this CPU has
};

// Opens whichever model the file holds. Defined in the program that lapidary_add_engine was called
// for. Errors: those of Model<M>::Open; kUnsupported if the program has no engine for the model;
// kInvalidArgument if it has none for options.target, or the CPU lacks it.
Result<std::unique_ptr<Engine>> OpenEngine(WeightFile file, const EngineOptions& options = {});
inline Result<std::unique_ptr<Engine>> OpenEngine(const std::filesystem::path& path,
                                                  const EngineOptions& options = {}) {
  Result<WeightFile> file = WeightFile::Open(path, options.model.load);
  if (!file) return file.error();
  return OpenEngine(*std::move(file), options);
}

// The instruction sets that the program has engines for and this CPU has, the best first.
std::vector<std::string> EngineTargets();

namespace internal {

// An instruction set that a model was compiled for.
struct EngineTarget {
  std::int64_t bit;  // Highway's: the lower, the better
  std::string name;
  Result<std::unique_ptr<Engine>> (*open)(WeightFile file, const ModelOptions& options);
};

struct EngineModel {
  const Config& config;
  std::string_view name;
  std::vector<EngineTarget> targets;  // the best first
};

inline std::vector<std::string> NamesOf(const EngineModel& model, std::int64_t supported) {
  std::vector<std::string> names;
  for (const EngineTarget& target : model.targets) {
    if ((target.bit & supported) != 0) names.push_back(target.name);
  }
  return names;
}

// What the generated files make OpenEngine of. `supported`: hwy::SupportedTargets().
inline Result<std::unique_ptr<Engine>> OpenEngineOf(std::span<const EngineModel> models,
                                                    std::int64_t supported, WeightFile file,
                                                    const EngineOptions& options) {
  const auto listed = [](const auto& names) {
    std::string list;
    for (const auto& name : names) list += StrCat(list.empty() ? "" : ", ", name);
    return list;
  };
  for (const EngineModel& model : models) {
    if (!(model.config == file.config())) continue;
    for (const EngineTarget& target : model.targets) {
      const bool wanted = options.target.empty() || options.target == target.name;
      if (wanted && (target.bit & supported) != 0) {
        return target.open(std::move(file), options.model);
      }
    }
    return MakeError(ErrorCode::kInvalidArgument, "instruction set: expected one of ",
                     listed(NamesOf(model, supported)), ", found ",
                     options.target.empty() ? "a CPU with none of them" : options.target);
  }
  std::vector<std::string_view> names;
  for (const EngineModel& model : models) names.push_back(model.name);
  return MakeError(ErrorCode::kUnsupported, file.path().string(), ": expected one of ",
                   listed(names), ", found ", Describe(file.config()));
}

}  // namespace internal

}  // namespace lapidary

#endif  // LAPIDARY_GENERATE_ENGINE_H_
