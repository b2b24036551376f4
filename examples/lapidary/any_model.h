// The five models behind one interface. Which of them a file holds is known only when it is opened;
// each is compiled in a translation unit of its own (models/*.cpp), and the rest of the program
// compiles no kernels.
#ifndef LAPIDARY_EXAMPLES_ANY_MODEL_H_
#define LAPIDARY_EXAMPLES_ANY_MODEL_H_

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <span>

#include "lapidary/base/progress.h"
#include "lapidary/base/result.h"
#include "lapidary/config/config.h"
#include "lapidary/config/models.h"
#include "lapidary/config/precision.h"
#include "lapidary/generate/options.h"
#include "lapidary/model/options.h"
#include "lapidary/text/prompt.h"
#include "lapidary/text/tokenizer.h"
#include "lapidary/vision/image_embedding.h"
#include "lapidary/vision/picture.h"
#include "lapidary/weights/weight_file.h"

namespace lapidary::cli {

// Session<M> and Generate() of some model: model-inl.h and generate-inl.h say what the functions
// do.
class AnySession {
 public:
  // Receives the row of logits of each id; false cancels.
  using RowVisitor = std::function<bool(std::size_t index, std::span<const float> logits)>;

  virtual ~AnySession() = default;
  virtual std::size_t position() const = 0;
  virtual std::size_t context() const = 0;
  virtual std::span<const float> logits() const = 0;
  virtual Status Prefill(const PromptView& prompt, const ProgressCallback& progress) = 0;
  virtual Status PrefillWithLogits(const PromptView& prompt, const RowVisitor& visit,
                                   std::size_t rows) = 0;
  virtual Result<std::span<const float>> Decode(std::int32_t id) = 0;
  virtual Result<GenerateResult> Generate(const PromptView& prompt, const GenerateOptions& options,
                                          const TextCallback& on_text) = 0;
};

// Model<M> of some model.
class AnyModel {
 public:
  virtual ~AnyModel() = default;
  virtual const WeightFile& file() const = 0;
  virtual const Tokenizer* tokenizer() const = 0;
  virtual std::size_t threads() const = 0;
  virtual std::size_t chunk() const = 0;
  virtual Precision precision() const = 0;
  virtual std::unique_ptr<AnySession> NewSession(std::size_t context) const = 0;
  // kUnsupported for a model that reads no pictures.
  virtual Result<ImageEmbedding> EncodeImage(const Picture& picture,
                                             const ImageOptions& options) const = 0;

  const Config& config() const { return file().config(); }
};

// Opens a file that holds M. Defined in any_model-inl.h, instantiated in models/*.cpp.
template <ModelSpec M>
Result<std::unique_ptr<AnyModel>> OpenModel(const std::filesystem::path& path,
                                            const ModelOptions& options);

// Opens whichever model the file holds. Errors: those of Model<M>::Open; kUnsupported for a Config
// that is none of the five.
Result<std::unique_ptr<AnyModel>> OpenAnyModel(const std::filesystem::path& path,
                                               const ModelOptions& options);

}  // namespace lapidary::cli

#endif  // LAPIDARY_EXAMPLES_ANY_MODEL_H_
