// Model: weights, tokenizer and threads, shared and immutable. Session: one conversation with it.
#if defined(LAPIDARY_MODEL_MODEL_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef LAPIDARY_MODEL_MODEL_INL_H_
#undef LAPIDARY_MODEL_MODEL_INL_H_
#else
#define LAPIDARY_MODEL_MODEL_INL_H_
#endif

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "lapidary/base/result.h"
#include "lapidary/base/threads.h"
#include "lapidary/config/models.h"
#include "lapidary/model/decoder-inl.h"
#include "lapidary/model/kv_cache.h"
#include "lapidary/model/options.h"
#include "lapidary/text/tokenizer.h"
#include "lapidary/weights/weight_file.h"

HWY_BEFORE_NAMESPACE();
namespace lapidary {
namespace HWY_NAMESPACE {

template <ModelSpec M>
class Session;

// A model that is ready to run. Copies are cheap and share everything; a Model may be used by
// several threads at once, each with sessions of its own: their steps then take turns on the
// model's threads.
template <ModelSpec M>
class Model {
 public:
  // Opens a blob or a GGUF file. Errors: those of WeightFile::Open and Tokenizer::Create; kMismatch
  // if the file holds another model than M; kNotFound if a tensor is missing; kOutOfMemory.
  static Result<Model> Open(const std::filesystem::path& path, const ModelOptions& options = {}) {
    if (options.chunk == 0) {
      return MakeError(ErrorCode::kInvalidArgument, "chunk: expected at least 1, found 0");
    }
    Result<WeightFile> file = WeightFile::Open(path, options.load);
    if (!file) return file.error();
    if (!(file->config() == M::kConfig)) {
      return MakeError(ErrorCode::kMismatch, path.string(), " is not ", M::kName, ": ",
                       DescribeDifference(M::kConfig, file->config()));
    }
    std::optional<Tokenizer> tokenizer;
    if (file->vocabulary() != nullptr) {
      Result<Tokenizer> created = Tokenizer::Create(*file->vocabulary());
      if (!created) return created.error();
      tokenizer = *std::move(created);
    }
    Result<DecoderWeights> weights = FindDecoderWeights(*file, M::kConfig);
    if (!weights) return weights.error();
    auto pool = std::make_unique<ThreadPool>(options.threads);
    const size_t chunk = std::min(options.chunk, static_cast<size_t>(M::kConfig.context));
    Result<Decoder<M>> decoder = Decoder<M>::Create(*std::move(weights), *pool, chunk);
    if (!decoder) return decoder.error();
    return Model(std::make_shared<State>(*std::move(file), std::move(tokenizer), std::move(pool),
                                         *std::move(decoder), options.precision));
  }

  static constexpr const Config& config() { return kConfig; }
  const WeightFile& file() const { return state_->file; }
  // Null if the file has no vocabulary; such a model works on ids alone.
  const Tokenizer* tokenizer() const { return state_->tokenizer ? &*state_->tokenizer : nullptr; }
  size_t threads() const { return state_->pool->size(); }
  // Most tokens that one step takes.
  size_t chunk() const { return state_->decoder.max_rows(); }
  Precision precision() const { return state_->precision; }

 private:
  friend class Session<M>;
  static constexpr Config kConfig = M::kConfig;

  struct State {
    State(WeightFile f, std::optional<Tokenizer> t, std::unique_ptr<ThreadPool> p, Decoder<M> d,
          Precision precision_of_prefill)
        : file(std::move(f)),
          tokenizer(std::move(t)),
          pool(std::move(p)),
          decoder(std::move(d)),
          precision(precision_of_prefill) {}
    WeightFile file;
    std::optional<Tokenizer> tokenizer;
    std::unique_ptr<ThreadPool> pool;
    std::mutex mutex;  // held during a step: guards pool and decoder
    Decoder<M> decoder;
    Precision precision;
  };

  explicit Model(std::shared_ptr<State> state) : state_(std::move(state)) {}

  std::shared_ptr<State> state_;
};

// One sequence of tokens and its keys and values. Belongs to one thread at a time; keeps the model
// alive.
template <ModelSpec M>
class Session {
 public:
  // `context` tokens at most; 0 means what the model was trained for. Memory is taken as the
  // sequence grows.
  explicit Session(const Model<M>& model, size_t context = 0)
      : state_(model.state_),
        context_(context == 0 ? kContext : std::min(context, kContext)),
        cache_(M::kConfig, context_, model.chunk()) {}

  size_t position() const { return ids_.size(); }
  size_t context() const { return context_; }
  // Every token so far.
  std::span<const int32_t> ids() const { return ids_; }
  // Of the token after the last one, [vocabulary]; empty before the first Prefill.
  std::span<const float> logits() const { return logits_; }
  const KvPlan& memory_plan() const { return cache_.plan(); }

  // Appends tokens, in chunks of the model's size, with the model's precision; logits() are then
  // those of the last one. Errors: kInvalidArgument (no tokens, or an id outside the vocabulary)
  // and kContextFull, with nothing changed; kOutOfMemory and kCancelled (progress returned false
  // between two chunks), with the earlier chunks kept.
  Status Prefill(std::span<const int32_t> ids, const ProgressCallback& progress = {}) {
    return Append(ids, state_->precision, progress);
  }

  // Appends one token and returns the logits of the next, [vocabulary], valid until the session
  // changes. Always in the kExact precision. Errors as for Prefill.
  Result<std::span<const float>> Decode(int32_t id) {
    if (Status status = Append({&id, 1}, Precision::kExact, {}); !status) return status.error();
    return logits();
  }

  // Appends tokens and hands out the logits of each: visit(index in ids, logits) -> bool, false
  // cancels. Takes `rows` tokens at a time (each needs a row of logits, about a megabyte).
  template <class Visitor>
  Status PrefillWithLogits(std::span<const int32_t> ids, const Visitor& visit, size_t rows = 64) {
    if (Status status = Check(ids); !status) return status;
    rows = std::min({std::max<size_t>(rows, 1), state_->decoder.max_rows(), ids.size()});
    std::vector<float> logits(rows * kVocabulary);
    for (size_t i = 0; i < ids.size(); i += rows) {
      const auto part = ids.subspan(i, std::min(rows, ids.size() - i));
      if (Status status = Step(part, 0, logits.data(), state_->precision); !status) return status;
      const std::span<const float> all(logits);
      const auto last = all.subspan((part.size() - 1) * kVocabulary, kVocabulary);
      logits_.assign(last.begin(), last.end());
      for (size_t j = 0; j < part.size(); ++j) {
        if (!visit(i + j, all.subspan(j * kVocabulary, kVocabulary))) {
          return MakeError(ErrorCode::kCancelled, "cancelled by the caller");
        }
      }
    }
    return {};
  }

  // Forgets the tokens from `position` on. The rings of the local layers hold a window only: if
  // what the token at `position` would see has been overwritten, everything is forgotten and the
  // caller starts over from position 0. Returns the position reached: `position`, or 0.
  size_t Rewind(size_t position) {
    if (position >= ids_.size()) return ids_.size();
    if (!cache_.CanRewindTo(position, written_)) position = 0;
    ids_.resize(position);
    logits_.clear();
    if (position == 0) written_ = 0;
    return position;
  }

 private:
  static constexpr size_t kContext = M::kConfig.context;
  static constexpr size_t kVocabulary = M::kConfig.vocabulary;

  Status Check(std::span<const int32_t> ids) const {
    if (ids.empty()) {
      return MakeError(ErrorCode::kInvalidArgument, "expected at least one token, found none");
    }
    if (ids.size() > context_ - ids_.size()) {
      return MakeError(ErrorCode::kContextFull, "the context of ", context_,
                       " tokens is full: ", ids.size(), " needed, ", context_ - ids_.size(),
                       " free");
    }
    for (size_t i = 0; i < ids.size(); ++i) {
      if (ids[i] < 0 || static_cast<size_t>(ids[i]) >= kVocabulary) {
        return MakeError(ErrorCode::kInvalidArgument, "token ", i, " has id ", ids[i],
                         ": expected 0 .. ", kVocabulary - 1);
      }
    }
    return {};
  }

  Status Append(std::span<const int32_t> ids, Precision precision,
                const ProgressCallback& progress) {
    if (Status status = Check(ids); !status) return status;
    const size_t chunk = state_->decoder.max_rows();
    if (ids.size() > chunk) logits_.clear();  // should a chunk fail, they belong to no token
    const bool had_logits = !logits_.empty();
    for (size_t i = 0; i < ids.size(); i += chunk) {
      const auto part = ids.subspan(i, std::min(chunk, ids.size() - i));
      const bool last = i + part.size() == ids.size();
      if (last) logits_.resize(kVocabulary);
      if (Status status = Step(part, part.size() - 1, last ? logits_.data() : nullptr, precision);
          !status) {
        if (!had_logits) logits_.clear();
        return status;
      }
      if (progress && !progress({i + part.size(), ids.size()}) && !last) {
        return MakeError(ErrorCode::kCancelled, "cancelled after ", i + part.size(), " of ",
                         ids.size(), " tokens");
      }
    }
    return {};
  }

  Status Step(std::span<const int32_t> ids, size_t first_logits, float* logits,
              Precision precision) {
    if (Status status = cache_.Reserve(ids_.size() + ids.size()); !status) return status;
    const Run run = {&cache_, ids_.size(), ids, first_logits, logits};
    {
      const std::lock_guard<std::mutex> lock(state_->mutex);
      if (Status status = state_->decoder.Step({&run, 1}, precision); !status) return status;
    }
    ids_.insert(ids_.end(), ids.begin(), ids.end());
    written_ = std::max(written_, ids_.size());
    return {};
  }

  std::shared_ptr<typename Model<M>::State> state_;
  size_t context_;
  KvCache cache_;
  std::vector<int32_t> ids_;
  size_t written_ = 0;  // positions below it have been written since the rings were empty
  std::vector<float> logits_;
};

}  // namespace HWY_NAMESPACE
}  // namespace lapidary
HWY_AFTER_NAMESPACE();

#endif  // include guard
