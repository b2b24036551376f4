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
#include "lapidary/base/xxhash64.h"
#include "lapidary/config/models.h"
#include "lapidary/model/decoder-inl.h"
#include "lapidary/model/kv_cache.h"
#include "lapidary/model/options.h"
#include "lapidary/model/outlook-inl.h"
#include "lapidary/model/output_head-inl.h"
#include "lapidary/model/saved_session.h"
#include "lapidary/model/token_logit.h"
#include "lapidary/model/vision-inl.h"
#include "lapidary/model/vision_weights.h"
#include "lapidary/text/prompt.h"
#include "lapidary/text/tokenizer.h"
#include "lapidary/vision/image_embedding.h"
#include "lapidary/vision/picture.h"
#include "lapidary/vision/resize-inl.h"
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
  // Opens a blob or a GGUF file. Errors: those of WeightFile::Open and of the other Open.
  static Result<Model> Open(const std::filesystem::path& path, const ModelOptions& options = {}) {
    Result<WeightFile> file = WeightFile::Open(path, options.load);
    if (!file) return file.error();
    return Open(*std::move(file), options);
  }

  // The same for a file that is open already; options.load does not matter. Errors: those of
  // Tokenizer::Create; kMismatch if the file holds another model than M; kNotFound if a tensor is
  // missing; kInvalidArgument for a chunk of no tokens; kOutOfMemory.
  static Result<Model> Open(WeightFile file, const ModelOptions& options = {}) {
    if (options.chunk == 0) {
      return MakeError(ErrorCode::kInvalidArgument, "chunk: expected at least 1, found 0");
    }
    if (!(file.config() == M::kConfig)) {
      return MakeError(ErrorCode::kMismatch, file.path().string(), " is not ", M::kName, ": ",
                       DescribeDifference(M::kConfig, file.config()));
    }
    std::optional<Tokenizer> tokenizer;
    if (file.vocabulary() != nullptr) {
      Result<Tokenizer> created = Tokenizer::Create(*file.vocabulary());
      if (!created) return created.error();
      tokenizer = *std::move(created);
    }
    Result<DecoderWeights> weights = FindDecoderWeights(file, M::kConfig);
    if (!weights) return weights.error();
    std::optional<VisionWeights> vision;
    if constexpr (M::kConfig.vision.present()) {
      Result<std::optional<VisionWeights>> found = FindVisionWeights(file, M::kConfig);
      if (!found) return found.error();
      vision = *std::move(found);
    }
    auto pool = std::make_unique<ThreadPool>(options.threads);
    const size_t chunk = std::min(options.chunk, static_cast<size_t>(M::kConfig.context));
    Result<Decoder<M>> decoder = Decoder<M>::Create(*std::move(weights), *pool, chunk);
    if (!decoder) return decoder.error();
    Result<OutputHead> head = OutputHead::Create(decoder->weights().embedding, *pool);
    if (!head) return head.error();
    return Model(std::make_shared<State>(std::move(file), std::move(tokenizer), std::move(vision),
                                         std::move(pool), *std::move(decoder), *std::move(head),
                                         options.precision, options.kv));
  }

  static constexpr const Config& config() { return kConfig; }
  const WeightFile& file() const { return state_->file; }
  // Null if the file has no vocabulary; such a model works on ids alone.
  const Tokenizer* tokenizer() const { return state_->tokenizer ? &*state_->tokenizer : nullptr; }
  size_t threads() const { return state_->pool->size(); }
  // Most tokens that one step takes.
  size_t chunk() const { return state_->decoder.max_rows(); }
  Precision precision() const { return state_->precision; }
  KvFormat kv() const { return state_->kv; }
  // Whether the file holds an image encoder.
  bool has_vision() const { return state_->vision.has_value(); }

  // Appends a token to each of several sessions of this model in one step, which reads the weights
  // once for all of them: ids[i] to sessions[i], each of which then has the logits that its own
  // Decode would give, to the last bit; in kFast, more than four sessions (with AMX 16) get those
  // that the tokens of a prompt get. If `best` is not 0, it is Session::Best(best) that is computed
  // for all of them at once, and logits are when they are asked for. At most chunk() sessions, each
  // of them once. Errors: those of Session::Decode, naming the first session that they are about,
  // with nothing changed.
  Status DecodeTogether(std::span<Session<M>* const> sessions, std::span<const int32_t> ids,
                        size_t best = 0) const {
    if (sessions.size() != ids.size() || sessions.size() > chunk()) {
      return MakeError(ErrorCode::kInvalidArgument,
                       "expected as many tokens as sessions and at most ", chunk(), ", found ",
                       ids.size(), " for ", sessions.size(), " sessions");
    }
    std::vector<Session<M>*> sorted(sessions.begin(), sessions.end());
    std::sort(sorted.begin(), sorted.end());
    if (std::adjacent_find(sorted.begin(), sorted.end()) != sorted.end()) {
      return MakeError(ErrorCode::kInvalidArgument, "a session can take one token at a time");
    }
    for (size_t i = 0; i < sessions.size(); ++i) {
      if (sessions[i]->state_ != state_) {
        return MakeError(ErrorCode::kInvalidArgument, "session ", i, " belongs to another model");
      }
      if (const auto checked = sessions[i]->Check(ids.subspan(i, 1), sessions[i]->position());
          !checked) {
        return MakeError(checked.error().code, "session ", i, ": ", checked.error().message);
      }
    }
    return Session<M>::DecodeEach(sessions, ids, best);
  }

  // Shows a picture to the image encoder: seconds of work on all threads, during which steps of
  // sessions wait. The result may be used in any number of prompts of this model. Errors:
  // kUnsupported if the file has no encoder, those of Resize, kOutOfMemory.
  Result<ImageEmbedding> EncodeImage(const Picture& picture,
                                     const ImageOptions& options = {}) const {
    static_assert(kConfig.vision.present(),
                  "this model reads no pictures: its Config has no vision tower");
    if (!has_vision()) {
      return MakeError(ErrorCode::kUnsupported, state_->file.path().string(),
                       " holds no image encoder: it is for text only");
    }
    std::vector<Box> boxes = {{0, 0, picture.width(), picture.height()}};
    if (options.pan_and_scan) {
      const auto crops = PanAndScan(picture.width(), picture.height(), options.crops);
      boxes.insert(boxes.end(), crops.begin(), crops.end());
    }
    constexpr size_t kSoftTokens = kConfig.vision.soft_tokens, kWidth = kConfig.width;
    std::vector<float> values(boxes.size() * kSoftTokens * kWidth);
    for (size_t i = 0; i < boxes.size(); ++i) {
      const Result<Picture> part = Crop(picture, boxes[i]);
      if (!part) return part.error();
      const Result<std::vector<float>> pixels = PixelsOf(*part, kConfig.vision.image);
      if (!pixels) return pixels.error();
      const std::lock_guard<std::mutex> lock(state_->mutex);
      auto encoder = VisionEncoder<kConfig.vision>::Create(*state_->vision, *state_->pool);
      if (!encoder) return encoder.error();
      encoder->Encode(pixels->data(), values.data() + i * kSoftTokens * kWidth);
    }
    return ImageEmbedding(kSoftTokens, kWidth, std::move(values));
  }

 private:
  friend class Session<M>;
  static constexpr Config kConfig = M::kConfig;

  struct State {
    State(WeightFile f, std::optional<Tokenizer> t, std::optional<VisionWeights> v,
          std::unique_ptr<ThreadPool> p, Decoder<M> d, OutputHead h, Precision precision_of_steps,
          KvFormat kv_format)
        : file(std::move(f)),
          tokenizer(std::move(t)),
          vision(std::move(v)),
          pool(std::move(p)),
          decoder(std::move(d)),
          head(std::move(h)),
          precision(precision_of_steps),
          kv(kv_format) {}
    WeightFile file;
    std::optional<Tokenizer> tokenizer;
    std::optional<VisionWeights> vision;
    std::unique_ptr<ThreadPool> pool;
    std::mutex mutex;  // held during a step: guards pool, decoder and head
    Decoder<M> decoder;
    OutputHead head;
    Precision precision;
    KvFormat kv;
  };

  explicit Model(std::shared_ptr<State> state) : state_(std::move(state)) {}

  std::shared_ptr<State> state_;
};

// One sequence of tokens and its keys and values. Belongs to one thread at a time; keeps the model
// alive. Movable; Fork copies.
template <ModelSpec M>
class Session {
 public:
  // `context` tokens at most; 0 means what the model was trained for. Memory is taken as the
  // sequence grows.
  explicit Session(const Model<M>& model, size_t context = 0)
      : state_(model.state_),
        context_(context == 0 ? kContext : std::min(context, kContext)),
        cache_(M::kConfig, context_, model.chunk(), model.kv()) {}
  Session(Session&&) noexcept = default;
  Session& operator=(Session&&) noexcept = default;

  // A session that goes on from here on its own, perhaps on another thread. Both share the keys and
  // values so far, so this copies little more than the ids and the logits.
  Session Fork() const { return *this; }

  // The session as bytes, from which a model with the same Config and the same weights makes it
  // again, in another process or on another CPU. The format is that of saved_session.h.
  std::vector<std::uint8_t> Save() const {
    const std::span<const float> last = logits();
    const SessionState state = {context_, ids_, pictures_, {last.begin(), last.end()}};
    const std::lock_guard<std::mutex> lock(state_->mutex);  // see KvCache
    return EncodeSession(M::kConfig, Fingerprint(state_->decoder.weights(), M::kConfig), state,
                         cache_);
  }

  // What Save() wrote. Goes on as the saved session would have, token for token, with its context,
  // its steps of at most as many tokens, and its format of keys and values, whatever those of the
  // model are. Errors: those of DecodeSession.
  static Result<Session> Restore(const Model<M>& model, std::span<const std::uint8_t> bytes) {
    std::optional<Session> session;
    Result<SessionState> state =
        DecodeSession(bytes, M::kConfig, Fingerprint(model.state_->decoder.weights(), M::kConfig),
                      [&](size_t context, size_t chunk, KvFormat format) -> KvCache& {
                        session.emplace(model, context);
                        session->cache_ = KvCache(M::kConfig, context, chunk, format);
                        return session->cache_;
                      });
    if (!state) return state.error();
    session->ids_ = std::move(state->ids);
    session->pictures_ = std::move(state->pictures);
    session->outlook_ = Outlook(std::move(state->logits));
    return *std::move(session);
  }

  size_t position() const { return ids_.size(); }
  size_t context() const { return context_; }
  // Every token so far.
  std::span<const int32_t> ids() const { return ids_; }
  // Whether there are logits of the token after the last one: not before the first Prefill.
  bool has_logits() const { return !outlook_.empty(); }
  // These logits, [vocabulary], computed when they are first asked for; empty if there are none.
  // Valid, like what Best returns, until the session changes.
  std::span<const float> logits() const { return outlook_.Logits(state_->head, state_->mutex); }
  // The `count` most likely of these tokens and their logits, the best first, of equal ones the
  // lowest id; ids that stand for pictures, and logits that are NaN, are left out. Up to 256 of
  // them are found without reading the whole output head, if it was imported from Q8_0
  // (kernels/coarse-inl.h).
  std::span<const TokenLogit> Best(size_t count) const {
    return outlook_.Best(state_->head, state_->mutex, std::min(count, kChoices), kChoices);
  }
  const KvPlan& memory_plan() const { return cache_.plan(); }

  // Appends tokens and pictures, in chunks of the model's size, with the model's precision; a
  // picture is never divided between two chunks. logits() are then those of the last token. Errors:
  // kContextFull, kInvalidArgument (no tokens, an id outside the vocabulary, a picture larger than
  // a chunk) and those of PlaceImages, with nothing changed; kOutOfMemory and kCancelled (progress
  // returned false between two chunks), with the earlier chunks kept.
  Status Prefill(const PromptView& prompt, const ProgressCallback& progress = {}) {
    Result<std::vector<ImageSpan>> images = Check(prompt, position());
    if (!images) return images.error();
    return AppendAll(prompt.ids, *std::move(images), progress);
  }

  // Makes the session one of exactly this prompt, as Rewind(0) and Prefill would, but keeps what it
  // holds of it already; tokens kept count as done in the progress. Returns how many were kept: at
  // most all but the last, whose logits are wanted. Errors as for Prefill.
  Result<size_t> PrefillReusing(const PromptView& prompt, const ProgressCallback& progress = {}) {
    Result<std::vector<ImageSpan>> images = Check(prompt, 0);
    if (!images) return images.error();
    const size_t kept = Rewind(std::min(CommonPrefix(prompt.ids, *images), prompt.ids.size() - 1));
    std::erase_if(*images, [&](const ImageSpan& image) { return image.begin < kept; });
    for (ImageSpan& image : *images) image.begin -= kept;
    const auto progress_of_all = [&](const Progress& p) {
      return progress({p.done + kept, p.total + kept});
    };
    if (Status status = AppendAll(prompt.ids.subspan(kept), *std::move(images),
                                  progress ? ProgressCallback(progress_of_all) : nullptr);
        !status) {
      return status.error();
    }
    return kept;
  }

  // How many tokens at the beginning of a prompt the session holds already, pictures compared by
  // their content. 0 for a prompt that Prefill would refuse.
  size_t CommonPrefix(const PromptView& prompt) const {
    const Result<std::vector<ImageSpan>> images = PlaceImages(prompt, M::kConfig);
    return images ? CommonPrefix(prompt.ids, *images) : 0;
  }

  // Appends one token of text, always in the kExact precision. `guesses` are tokens that may come
  // next: they are computed in the same step, which costs little while the step waits for memory,
  // and as long as the tokens appended from here on are those guessed, there is nothing left to
  // compute. What a session holds and says does not depend on guesses. Errors as for Prefill.
  Status Append(int32_t id, std::span<const int32_t> guesses = {}) {
    if (Guessed(id)) {
      guesses_.erase(guesses_.begin());
      ids_.push_back(id);
      outlook_.Advance();
      return {};
    }
    std::vector<int32_t> ids = {id};
    if (const auto checked = Check(ids, position()); !checked) return checked.error();
    const size_t most = std::min(MostRows(), context_ - position());
    for (const int32_t guess : guesses) {
      if (ids.size() == most || guess < 0 || static_cast<size_t>(guess) >= kChoices) break;
      ids.push_back(guess);
    }
    std::vector<float> hidden(ids.size() * kWidth);
    Run run = RunOf(ids, {});
    run.hidden = hidden.data();
    if (Status status = StepTogether({&run, 1}, Precision::kExact); !status) return status;
    run.ids = run.ids.first(1);
    Record(run, Outlook(std::move(hidden), kWidth));
    guesses_.assign(ids.begin() + 1, ids.end());
    return {};
  }

  // Whether this is what was guessed to come next.
  bool Guessed(int32_t id) const { return !guesses_.empty() && guesses_.front() == id; }

  // Append and logits().
  Result<std::span<const float>> Decode(int32_t id) {
    if (Status status = Append(id); !status) return status.error();
    return logits();
  }

  // Appends tokens and hands out the logits of each: visit(index in ids, logits) -> bool, false
  // cancels. Takes `rows` tokens at a time, or a whole picture (each row needs a row of logits,
  // about a megabyte).
  template <class Visitor>
  Status PrefillWithLogits(const PromptView& prompt, const Visitor& visit, size_t rows = 64) {
    std::vector<float> logits;
    std::vector<float*> out;
    return PrefillInPieces(prompt, rows, [&](size_t first, std::span<const float> hidden) {
      const size_t count = hidden.size() / kWidth;
      logits.resize(count * kVocabulary);
      out.clear();
      for (size_t i = 0; i < count; ++i) out.push_back(logits.data() + i * kVocabulary);
      {
        const std::lock_guard<std::mutex> lock(state_->mutex);
        state_->head.Logits(hidden.data(), count, out.data());
      }
      for (size_t i = 0; i < count; ++i) {
        if (!visit(first + i, std::span<const float>(out[i], kVocabulary))) return false;
      }
      return true;
    });
  }

  // The same with what the output head reads: visit(index in ids, row [width] of the residual
  // stream behind the final norm) -> bool. The head itself is left out.
  template <class Visitor>
  Status PrefillWithHidden(const PromptView& prompt, const Visitor& visit) {
    return PrefillInPieces(prompt, MostRows(), [&](size_t first, std::span<const float> hidden) {
      for (size_t i = 0; i * kWidth < hidden.size(); ++i) {
        if (!visit(first + i, hidden.subspan(i * kWidth, kWidth))) return false;
      }
      return true;
    });
  }

  // Forgets the tokens from `position` on; a position inside a picture means its first row, since
  // the rows of a picture were computed together. The rings of the local layers hold a window only:
  // if what the token at `position` would see has been overwritten, everything is forgotten and the
  // caller starts over from position 0. Returns the position reached.
  size_t Rewind(size_t position) {
    if (position >= ids_.size()) return ids_.size();
    position = StartOfBlock(position);
    if (!cache_.CanRewindTo(position)) position = 0;
    ids_.resize(position);
    std::erase_if(pictures_, [&](const PictureMark& p) { return p.begin >= position; });
    guesses_.clear();
    outlook_ = Outlook();
    if (position == 0) cache_.Clear();
    return position;
  }

 private:
  friend class Model<M>;
  static constexpr size_t kContext = M::kConfig.context;
  static constexpr size_t kWidth = M::kConfig.width;
  static constexpr size_t kVocabulary = M::kConfig.vocabulary;
  static constexpr size_t kSoftTokens = M::kConfig.vision.soft_tokens;
  // Rows behind these stand for pictures.
  static constexpr size_t kChoices = std::min<size_t>(kVocabulary, kImageSoftToken);

  Session(const Session&) = default;

  // Cuts a prompt into pieces of at most `most` tokens, and never through a picture. Precondition:
  // every picture fits into a piece.
  struct Chunk {
    Chunk(std::span<const int32_t> all_ids, std::vector<ImageSpan> all_images, size_t most_tokens)
        : all(all_ids), pending(std::move(all_images)), most(most_tokens) {}

    // The next piece; false at the end.
    bool Next() {
      begin += ids.size();
      if (begin == all.size()) return false;
      size_t end = std::min(begin + most, all.size());
      images.clear();
      for (; first_pending < pending.size(); ++first_pending) {
        ImageSpan image = pending[first_pending];
        if (image.begin >= end) break;
        if (image.end() > end) {
          end = image.begin;
          break;
        }
        image.begin -= begin;
        images.push_back(image);
      }
      ids = all.subspan(begin, end - begin);
      return true;
    }
    bool last() const { return begin + ids.size() == all.size(); }

    std::span<const int32_t> all;
    std::vector<ImageSpan> pending;
    size_t most;
    size_t first_pending = 0;
    size_t begin = 0;               // of the piece
    std::span<const int32_t> ids;   // of the piece
    std::vector<ImageSpan> images;  // of the piece, counted from its begin
  };

  // Tokens of a step: what the model's workspace and the rings of this session take.
  size_t MostRows() const { return std::min(state_->decoder.max_rows(), cache_.chunk()); }

  // The places of the prompt's pictures, or why it can not be appended to the first `held` tokens.
  Result<std::vector<ImageSpan>> Check(const PromptView& prompt, size_t held) const {
    const std::span<const int32_t> ids = prompt.ids;
    if (ids.empty()) {
      return MakeError(ErrorCode::kInvalidArgument, "expected at least one token, found none");
    }
    if (ids.size() > context_ - held) {
      return MakeError(ErrorCode::kContextFull, "the context of ", context_,
                       " tokens is full: ", ids.size(), " needed, ", context_ - held, " free");
    }
    Result<std::vector<ImageSpan>> images = PlaceImages(prompt, M::kConfig);
    if (!images) return images;
    const size_t chunk = MostRows();
    if (!images->empty() && chunk < kSoftTokens) {
      return MakeError(ErrorCode::kInvalidArgument,
                       "ModelOptions::chunk: a picture needs steps of ", kSoftTokens,
                       " tokens, found ", chunk);
    }
    for (size_t i = 0; i < ids.size(); ++i) {
      const bool pictured = kSoftTokens != 0 && ids[i] == kImageSoftToken;
      if (!pictured && (ids[i] < 0 || static_cast<size_t>(ids[i]) >= kVocabulary)) {
        return MakeError(ErrorCode::kInvalidArgument, "token ", i, " has id ", ids[i],
                         ": expected 0 .. ", kVocabulary - 1);
      }
    }
    return images;
  }

  // Preconditions from here on: Check() accepted the ids, and these are its images.
  Status AppendAll(std::span<const int32_t> ids, std::vector<ImageSpan> images,
                   const ProgressCallback& progress) {
    for (Chunk chunk(ids, std::move(images), MostRows()); chunk.Next();) {
      const bool last = chunk.last();
      std::vector<float> hidden(last ? kWidth : 0);
      Run run = RunOf(chunk.ids, chunk.images);
      run.first_hidden = chunk.ids.size() - 1;
      run.hidden = last ? hidden.data() : nullptr;
      if (Status status = StepTogether({&run, 1}, state_->precision); !status) return status;
      Record(run, Outlook(std::move(hidden), kWidth));
      const size_t done = chunk.begin + chunk.ids.size();
      if (progress && !progress({done, ids.size()}) && !last) {
        return MakeError(ErrorCode::kCancelled, "cancelled after ", done, " of ", ids.size(),
                         " tokens");
      }
    }
    return {};
  }

  // Appends `rows` tokens at a time, or a whole picture: visit(index of the first, hidden states
  // [tokens, kWidth]) -> bool, false cancels.
  template <class Visitor>
  Status PrefillInPieces(const PromptView& prompt, size_t rows, const Visitor& visit) {
    const Result<std::vector<ImageSpan>> images = Check(prompt, position());
    if (!images) return images.error();
    if (!images->empty()) rows = std::max(rows, kSoftTokens);
    rows = std::min({std::max<size_t>(rows, 1), MostRows(), prompt.ids.size()});
    std::vector<float> values(rows * kWidth);
    for (Chunk chunk(prompt.ids, *images, rows); chunk.Next();) {
      Run run = RunOf(chunk.ids, chunk.images);
      run.hidden = values.data();
      const std::span<const float> hidden(values.data(), chunk.ids.size() * kWidth);
      if (Status status = StepTogether({&run, 1}, state_->precision); !status) return status;
      const auto last = hidden.last(kWidth);
      Record(run, Outlook({last.begin(), last.end()}, kWidth));
      if (!visit(chunk.begin, hidden)) {
        return MakeError(ErrorCode::kCancelled, "cancelled by the caller");
      }
    }
    return {};
  }

  static Status DecodeEach(std::span<Session* const> sessions, std::span<const int32_t> ids,
                           size_t best) {
    if (sessions.empty()) return {};
    auto& model = *sessions[0]->state_;
    const size_t count = sessions.size();
    std::vector<float> hidden(count * kWidth);
    std::vector<Run> runs;
    for (size_t i = 0; i < count; ++i) {
      runs.push_back(sessions[i]->RunOf(ids.subspan(i, 1), {}));
      runs.back().hidden = hidden.data() + i * kWidth;
    }
    if (Status status = sessions[0]->StepTogether(runs, model.precision); !status) return status;
    for (size_t i = 0; i < count; ++i) {
      const float* const row = runs[i].hidden;
      sessions[i]->Record(runs[i], Outlook({row, row + kWidth}, kWidth));
    }
    const std::lock_guard<std::mutex> lock(model.mutex);
    best = std::min(best, kChoices);
    if (best != 0 && best <= OutputHead::kMostBest && model.head.is_coarse()) {
      auto tokens = model.head.Best(hidden.data(), count, best, kChoices);
      for (size_t i = 0; i < count; ++i) {
        sessions[i]->outlook_.KnowBest(best, std::move(tokens[i]));
      }
      return {};
    }
    std::vector<float*> logits;
    for (Session* session : sessions) {
      logits.push_back(session->outlook_.LogitsRoom(kVocabulary));
    }
    model.head.Logits(hidden.data(), count, logits.data());
    return {};
  }

  Run RunOf(std::span<const int32_t> ids, std::span<const ImageSpan> images) {
    return {.cache = &cache_, .position = ids_.size(), .ids = ids, .images = images};
  }

  // One step of sessions of this model.
  Status StepTogether(std::span<const Run> runs, Precision precision) {
    const std::lock_guard<std::mutex> lock(state_->mutex);
    for (const Run& run : runs) {
      const size_t end = run.position + run.ids.size();
      if (Status status = run.cache->Reserve(run.position, end); !status) return status;
    }
    return state_->decoder.Step(runs, precision);
  }

  // Of a picture in ids that begin at `position`.
  static PictureMark MarkOf(const ImageSpan& image, size_t position) {
    const std::span rows(reinterpret_cast<const std::uint8_t*>(image.embeddings),
                         image.rows * kWidth * sizeof(float));
    return {position + image.begin, HashBytes(rows)};
  }

  // The run has become part of the session.
  void Record(const Run& run, Outlook outlook) {
    guesses_.clear();
    outlook_ = std::move(outlook);
    for (const ImageSpan& image : run.images) {
      pictures_.push_back(MarkOf(image, run.position));
    }
    ids_.insert(ids_.end(), run.ids.begin(), run.ids.end());
  }

  size_t CommonPrefix(std::span<const int32_t> ids, std::span<const ImageSpan> images) const {
    const auto parting = std::mismatch(ids.begin(), ids.end(), ids_.begin(), ids_.end()).first;
    const auto common = static_cast<size_t>(parting - ids.begin());
    for (const ImageSpan& image : images) {
      if (image.begin >= common) break;
      const PictureMark mark = MarkOf(image, 0);
      if (std::find(pictures_.begin(), pictures_.end(), mark) == pictures_.end()) {
        return image.begin;
      }
    }
    return common;
  }

  // The first row of the picture at `position`; `position` itself where text is.
  size_t StartOfBlock(size_t position) const {
    if constexpr (kSoftTokens != 0) {
      size_t begin = position;
      while (ids_[position] == kImageSoftToken && begin > 0 && ids_[begin - 1] == kImageSoftToken) {
        --begin;
      }
      return position - (position - begin) % kSoftTokens;
    }
    return position;
  }

  std::shared_ptr<typename Model<M>::State> state_;
  size_t context_;
  KvCache cache_;
  std::vector<int32_t> ids_;
  std::vector<PictureMark> pictures_;  // parts of pictures among them
  std::vector<int32_t> guesses_;       // behind ids_, with states in outlook_, keys and values
  mutable Outlook outlook_;
};

}  // namespace HWY_NAMESPACE
}  // namespace lapidary
HWY_AFTER_NAMESPACE();

#endif  // include guard
