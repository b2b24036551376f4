// The decoder's forward pass: token ids to hidden states, of which the output head makes logits.
//
// One step is one parallel region. Inside, the threads go through the layers together and meet at a
// barrier after each stage; every stage divides its work among them by rows, by heads or by
// outputs.
#if defined(LAPIDARY_MODEL_DECODER_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef LAPIDARY_MODEL_DECODER_INL_H_
#undef LAPIDARY_MODEL_DECODER_INL_H_
#else
#define LAPIDARY_MODEL_DECODER_INL_H_
#endif

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "lapidary/base/buffer.h"
#include "lapidary/base/result.h"
#include "lapidary/base/threads.h"
#include "lapidary/config/models.h"
#include "lapidary/config/precision.h"
#include "lapidary/kernels/attention-inl.h"
#include "lapidary/kernels/matmul-inl.h"
#include "lapidary/kernels/norm-inl.h"
#include "lapidary/kernels/quantize-inl.h"
#include "lapidary/kernels/team_matmul-inl.h"
#include "lapidary/kernels/visible_keys.h"
#include "lapidary/model/decoder_weights.h"
#include "lapidary/model/kv_cache.h"
#include "lapidary/model/rope-inl.h"
#include "lapidary/text/prompt.h"

HWY_BEFORE_NAMESPACE();
namespace lapidary {
namespace HWY_NAMESPACE {

// Consecutive tokens of one session, appended to its cache by a step.
struct Run {
  KvCache* cache = nullptr;  // holds positions below `position`; memory reserved for the new ones
  size_t position = 0;       // of ids[0]
  std::span<const int32_t> ids;            // valid rows of the embedding, except where pictures are
  std::span<const ImageSpan> images = {};  // within ids, in order; whole ones only
  size_t first_hidden = 0;  // hidden states are wanted for ids[first_hidden] and following
  float* hidden = nullptr;  // [ids.size() - first_hidden, width]: what the output head reads,
                            // behind the final norm; null if not wanted
};

// What rows of the embedding are multiplied by: the root of the width, rounded to bf16, with which
// the models were trained.
inline float EmbeddingFactor(size_t width) {
  return hwy::F32FromBF16(hwy::BF16FromF32(std::sqrt(static_cast<float>(width))));
}

template <ModelSpec M>
class Decoder {
  static_assert(CheckedModel<M>::kOk);
  static constexpr Config kConfig = M::kConfig;
  static constexpr size_t kLayers = kConfig.layers;
  static constexpr size_t kWidth = kConfig.width;
  static constexpr size_t kFfWidth = kConfig.ff_width;
  static constexpr size_t kHeads = kConfig.heads;
  static constexpr size_t kKvHeads = kConfig.kv_heads;
  static constexpr size_t kGroup = kHeads / kKvHeads;
  static constexpr size_t kHeadDim = kConfig.head_dim;
  static constexpr size_t kQkvWidth = (kHeads + 2 * kKvHeads) * kHeadDim;
  static constexpr float kEpsilon = static_cast<float>(kConfig.norm_epsilon);
  static_assert(kGroup <= kQueryTile, "at most kQueryTile query heads may share a key/value head");

  // Positions whose query heads fill one tile of attention.
  static constexpr size_t kTilePositions = kQueryTile / kGroup;

 public:
  // Steps take at most `max_rows` rows.
  static Result<Decoder> Create(DecoderWeights weights, ThreadPool& pool, size_t max_rows) {
    Decoder decoder(std::move(weights), pool, max_rows);
    if (Status status = decoder.Allocate(); !status) return status.error();
    return decoder;
  }

  size_t max_rows() const { return max_rows_; }
  const DecoderWeights& weights() const { return weights_; }

  // Appends the tokens of every run to its cache and writes the hidden states that are wanted.
  // Preconditions: at most max_rows() tokens altogether, ids within the vocabulary, memory of the
  // caches reserved. Fails only for want of memory, and then before anything was changed.
  Status Step(std::span<const Run> runs, Precision precision) {
    rows_.clear();
    for (const Run& run : runs) {
      auto image = run.images.begin();
      for (size_t i = 0; i < run.ids.size(); ++i) {
        while (image != run.images.end() && image->end() <= i) ++image;
        const bool pictured = image != run.images.end() && image->begin <= i;
        rows_.push_back({run.cache, run.position + i,
                         run.position + (pictured ? image->end() - 1 : i), run.ids[i],
                         pictured ? image->embeddings + (i - image->begin) * kWidth : nullptr,
                         run.hidden != nullptr && i >= run.first_hidden
                             ? run.hidden + (i - run.first_hidden) * kWidth
                             : nullptr});
      }
    }
    PlanTasks();
    all_wanted_ = std::ranges::all_of(rows_, IsWanted);
    precision_ = rows_.size() <= RowsAlwaysExact() ? Precision::kExact : precision;
    if (Status status = PlanSplit(); !status) return status;

    pool_->Run([this](size_t thread) HWY_ATTR {
      Embed(thread);
      for (size_t layer = 0; layer < kLayers; ++layer) {
        pool_->Barrier();
        ProjectQkv(thread, weights_.layers[layer]);
        pool_->Barrier();
        NormRotateStore(thread, layer);
        pool_->Barrier();
        if (layer + 1 == kLayers && !all_wanted_) {
          if (thread == 0) KeepWantedRows();
          pool_->Barrier();
        }
        Attend(thread, layer);
        pool_->Barrier();
        Project(thread, weights_.layers[layer].attention_out, attended_);
        pool_->Barrier();
        MergeAttention(thread, weights_.layers[layer]);
        pool_->Barrier();
        GateUp(thread, weights_.layers[layer]);
        pool_->Barrier();
        Project(thread, weights_.layers[layer].down, gated_);
        pool_->Barrier();
        MergeFeedForward(thread, layer);
      }
    });
    return {};
  }

 private:
  struct Row {
    KvCache* cache;
    size_t position;
    size_t block_end;        // see KeysOfQuery
    int32_t id;              // of a text row
    const float* embedding;  // of a picture's row, [kWidth]; else null
    float* hidden;           // gets the row behind the final norm, [kWidth]; may be null
  };
  // The queries that share a key/value head, of consecutive positions of one session.
  struct AttentionTask {
    size_t kv_head;
    size_t first_row;
    size_t positions;  // at most kTilePositions
  };
  struct PageRange {
    size_t begin, end;
    size_t size() const { return end - begin; }
  };

  // What each thread has to itself.
  struct ThreadScratch {
    MatMulScratch matmul;
    AttentionScratch attention;
    HWY_ALIGN float block[kPairGroup * kRowBlock * kPairOutputs];
    HWY_ALIGN float page[kQueryTile * kHeadDim];
    HWY_ALIGN float heads[kQueryTile * kHeadDim];
    HWY_ALIGN float row[kWidth];
    float page_max[kQueryTile], page_sum[kQueryTile];
  };

  // The partial softmax of one page of a task of one position.
  struct Partial {
    HWY_ALIGN float out[kGroup * kHeadDim];
    float max[kGroup], sum[kGroup];
  };

  Decoder(DecoderWeights weights, ThreadPool& pool, size_t max_rows)
      : weights_(std::move(weights)),
        pool_(&pool),
        max_rows_(max_rows),
        local_rope_(kConfig.rope_base_local, 1.0, kHeadDim, kConfig.context),
        global_rope_(kConfig.rope_base_global, kConfig.rope_factor_global, kHeadDim,
                     kConfig.context) {}

  Status Allocate() {
    size_t bytes = 0;
    const auto take = [&](size_t count, size_t element) {
      const size_t at = bytes;
      bytes += (count * element + 63) / 64 * 64;
      return at;
    };
    const size_t n = max_rows_;
    const size_t residual = take(n * kWidth, sizeof(float));
    const size_t qkv = take(n * kQkvWidth, sizeof(float));
    const size_t queries = take((kHasBF16Dot ? 2 : 1) * n * kHeads * kHeadDim, sizeof(PairInput));
    const size_t projected = take(n * kWidth, sizeof(float));
    const size_t angles = take(n * 2 * kHeadDim, sizeof(float));
    const size_t normed = take(ActivationBytes(n, kWidth), 1);
    const size_t attended = take(ActivationBytes(n, kHeads * kHeadDim), 1);
    const size_t gated = take(ActivationBytes(n, kFfWidth), 1);
    const size_t scratch = take(pool_->size() * sizeof(ThreadScratch), 1);
    Result<AlignedBuffer> memory = AlignedBuffer::Allocate(bytes, "the workspace of the decoder");
    if (!memory) return memory.error();
    memory_ = *std::move(memory);
    const auto floats = [&](size_t at) { return reinterpret_cast<float*>(memory_.data() + at); };
    residual_ = floats(residual);
    qkv_ = floats(qkv);
    queries_ = reinterpret_cast<PairInput*>(memory_.data() + queries);
    projected_ = floats(projected);
    angles_ = floats(angles);
    normed_ = BindActivations(memory_.data() + normed, n, kWidth);
    attended_ = BindActivations(memory_.data() + attended, n, kHeads * kHeadDim);
    gated_ = BindActivations(memory_.data() + gated, n, kFfWidth);
    scratch_ = reinterpret_cast<ThreadScratch*>(memory_.data() + scratch);

    rows_.reserve(n);
    tasks_.reserve(n * kKvHeads);
    first_items_.reserve(n * kKvHeads + 1);
    return {};
  }

  static bool IsWanted(const Row& row) { return row.hidden != nullptr; }

  // Tiles of attention: consecutive positions of one session, for each key/value head.
  void PlanTasks() {
    const auto follows = [this](size_t r) {
      return rows_[r].cache == rows_[r - 1].cache && rows_[r].position == rows_[r - 1].position + 1;
    };
    tasks_.clear();
    for (size_t r = 0, positions = 1; r < rows_.size(); r += positions, positions = 1) {
      while (positions < kTilePositions && r + positions < rows_.size() && follows(r + positions)) {
        ++positions;
      }
      for (size_t kv_head = 0; kv_head < kKvHeads; ++kv_head) {
        tasks_.push_back({kv_head, r, positions});
      }
    }
  }

  // Leaves the step to the rows whose hidden states are wanted: once the last layer has stored its
  // keys and values, nothing depends on the others. For a prompt that is one row of all, and saves
  // most of a layer: 5 % of the 18 layers of the 270M.
  void KeepWantedRows() {
    size_t kept = 0;
    for (size_t r = 0; r < rows_.size(); ++r) {
      if (!IsWanted(rows_[r])) continue;
      if (kept != r) {
        rows_[kept] = rows_[r];
        hwy::CopyBytes(residual_ + r * kWidth, residual_ + kept * kWidth, kWidth * sizeof(float));
        MoveQueries(r, kept);
      }
      ++kept;
    }
    rows_.resize(kept);
    PlanTasks();
  }

  // Decode has too few tasks to keep all threads busy: then the pages of a task are divided too.
  // (Not where the last layer has other tasks than the rest.)
  Status PlanSplit() {
    split_ = all_wanted_ && tasks_.size() < pool_->size();
    for (const AttentionTask& task : tasks_) split_ = split_ && task.positions == 1;
    if (!split_) return {};
    first_items_.clear();
    size_t items = 0;
    for (const AttentionTask& task : tasks_) {
      first_items_.push_back(items);
      items += Pages(task, LayerKind::kGlobal).size();
    }
    first_items_.push_back(items);
    if (items * sizeof(Partial) <= partials_.size()) return {};
    // Twice what is needed: a growing conversation allocates rarely.
    Result<AlignedBuffer> grown = AlignedBuffer::Allocate(2 * items * sizeof(Partial), "attention");
    if (!grown) return grown.error();
    partials_ = *std::move(grown);
    return {};
  }

  // ---- Stages. Each writes its share of the rows or columns; `thread` says which. ----

  Range MyPart(size_t count, size_t thread) const { return PartOf(count, thread, pool_->size()); }

  // What the matrices that read an activation want, as a set of forms.
  template <class... Matrices>
  unsigned FormsFor(const Matrices&... w) const {
    return (FormFor(w.format, precision_, rows_.size()) | ...);
  }

  // residual = embedding * sqrt(width), for pictures what the encoder made, unscaled; and the input
  // of the first layer.
  void Embed(size_t thread) {
    const float factor = EmbeddingFactor(kWidth);
    const Range part = MyPart(rows_.size(), thread);
    for (size_t r = part.begin; r < part.end; ++r) {
      float* residual = residual_ + r * kWidth;
      if (rows_[r].embedding != nullptr) {
        hwy::CopyBytes(rows_[r].embedding, residual, kWidth * sizeof(float));
      } else {
        UnpackRow(weights_.embedding, static_cast<size_t>(rows_[r].id), scratch_[thread].matmul,
                  residual);
        Scale(residual, kWidth, factor);
      }
      NormForAttention(thread, r, 0);
      local_rope_.Row(rows_[r].position, Cosines(r, LayerKind::kLocal),
                      Sines(r, LayerKind::kLocal));
      global_rope_.Row(rows_[r].position, Cosines(r, LayerKind::kGlobal),
                       Sines(r, LayerKind::kGlobal));
    }
  }

  void NormForAttention(size_t thread, size_t r, size_t layer) {
    const LayerWeights& w = weights_.layers[layer];
    float* normed = scratch_[thread].row;
    RmsNorm(residual_ + r * kWidth, w.attention_norm, kWidth, kEpsilon, normed);
    StoreActivations(normed, 0, kWidth, FormsFor(w.q, w.k, w.v), precision_, normed_, r);
  }

  void ProjectQkv(size_t thread, const LayerWeights& w) {
    const PackedMatrix* const matrices[] = {&w.q, &w.k, &w.v};
    MatMul(thread, matrices, normed_, rows_.size(), precision_,
           [this](size_t r, size_t column, const float* HWY_RESTRICT c, size_t count)
               HWY_ATTR { StoreOutputs(c, count, qkv_ + r * kQkvWidth + column, kQkvWidth); });
  }

  // Normalises and rotates queries and keys; keys and values go to the cache.
  void NormRotateStore(size_t thread, size_t layer) {
    const LayerWeights& w = weights_.layers[layer];
    const LayerKind kind = KindOfLayer(kConfig, static_cast<int32_t>(layer));
    const float query_scale = 1.0f / std::sqrt(static_cast<float>(kConfig.query_pre_attn_scalar));
    constexpr size_t kVectors = kHeads + 2 * kKvHeads;
    const Range part = MyPart(rows_.size() * kVectors, thread);
    for (size_t i = part.begin; i < part.end; ++i) {
      const size_t r = i / kVectors;
      const size_t vector = i % kVectors;  // queries, keys, values
      const float* x = qkv_ + r * kQkvWidth + vector * kHeadDim;
      float* const rotated = scratch_[thread].heads;
      if (vector < kHeads) {
        RmsNorm(x, w.q_norm, kHeadDim, kEpsilon, rotated);
        RotateHalves(Cosines(r, kind), Sines(r, kind), kHeadDim, query_scale, rotated);
        StoreQuery(rotated, r, vector);
        continue;
      }
      const size_t position = rows_[r].position;
      const size_t page = position / kPageKeys;
      const size_t slot = position % kPageKeys;
      if (vector < kHeads + kKvHeads) {
        RmsNorm(x, w.k_norm, kHeadDim, kEpsilon, rotated);
        RotateHalves(Cosines(r, kind), Sines(r, kind), kHeadDim, 1.0f, rotated);
        const KvPage kv = Page(r, layer, vector - kHeads, page);
        StoreKey(rotated, kHeadDim, slot, kv.format, kv.keys);
      } else {
        const KvPage kv = Page(r, layer, vector - kHeads - kKvHeads, page);
        StoreValue(x, kHeadDim, slot, kv.format, kv.values);
      }
    }
  }

  void Attend(size_t thread, size_t layer) {
    const LayerKind kind = KindOfLayer(kConfig, static_cast<int32_t>(layer));
    if (split_) return AttendSplit(thread, layer, kind);
    // Later positions see more keys: dealing the tasks out in turn evens that out.
    for (size_t i = thread; i < tasks_.size(); i += pool_->size()) {
      const AttentionTask& task = tasks_[i];
      ThreadScratch& scratch = scratch_[thread];
      const size_t queries = task.positions * kGroup;
      float max[kQueryTile];
      float sum[kQueryTile] = {};
      const PageRange pages = Pages(task, kind);
      for (size_t page = pages.begin; page < pages.end; ++page) {
        AttendTask(task, layer, kind, page, scratch.attention, scratch.page, scratch.page_max,
                   scratch.page_sum);
        for (size_t q = 0; q < queries; ++q) {
          MergePage(scratch.page + q * kHeadDim, scratch.page_max[q], scratch.page_sum[q], kHeadDim,
                    scratch.heads + q * kHeadDim, max[q], sum[q]);
        }
      }
      for (size_t q = 0; q < queries; ++q) {
        StoreHead(scratch.heads + q * kHeadDim, sum[q], layer, task.first_row + q / kGroup,
                  task.kv_head * kGroup + q % kGroup);
      }
    }
  }

  // Attend for few queries: the threads divide the pages, meet, and divide the heads.
  void AttendSplit(size_t thread, size_t layer, LayerKind kind) {
    auto* partials = reinterpret_cast<Partial*>(partials_.data());
    ThreadScratch& scratch = scratch_[thread];
    size_t items = 0;
    for (const AttentionTask& task : tasks_) items += Pages(task, kind).size();
    const Range part = MyPart(items, thread);
    size_t first = 0;  // item of the first page of the task
    for (size_t t = 0; t < tasks_.size(); ++t) {
      const PageRange pages = Pages(tasks_[t], kind);
      for (size_t i = std::max(part.begin, first); i < std::min(part.end, first + pages.size());
           ++i) {
        Partial& partial = partials[first_items_[t] + (i - first)];
        AttendTask(tasks_[t], layer, kind, pages.begin + (i - first), scratch.attention,
                   partial.out, partial.max, partial.sum);
      }
      first += pages.size();
    }
    pool_->Barrier();
    const Range heads = MyPart(tasks_.size() * kGroup, thread);
    for (size_t i = heads.begin; i < heads.end; ++i) {
      const AttentionTask& task = tasks_[i / kGroup];
      const size_t g = i % kGroup;
      float max = 0, sum = 0;
      const size_t pages = Pages(task, kind).size();
      for (size_t page = 0; page < pages; ++page) {
        const Partial& partial = partials[first_items_[i / kGroup] + page];
        MergePage(partial.out + g * kHeadDim, partial.max[g], partial.sum[g], kHeadDim,
                  scratch.heads, max, sum);
      }
      StoreHead(scratch.heads, sum, layer, task.first_row, task.kv_head * kGroup + g);
    }
  }

  void AttendTask(const AttentionTask& task, size_t layer, LayerKind kind, size_t page,
                  AttentionScratch& scratch, float* HWY_RESTRICT out, float* HWY_RESTRICT max,
                  float* HWY_RESTRICT sum) {
    VisibleKeys visible[kQueryTile];
    for (size_t p = 0; p < task.positions; ++p) {
      for (size_t g = 0; g < kGroup; ++g)
        visible[p * kGroup + g] = Visible(task.first_row + p, kind);
    }
    AttendPage(Queries(task.kv_head, task.first_row), task.positions * kGroup, kHeadDim, kHeadDim,
               Page(task.first_row, layer, task.kv_head, page), page * kPageKeys, visible, scratch,
               out, max, sum);
  }

  // Divides the weighted sum of a head by the sum of its weights.
  void StoreHead(float* HWY_RESTRICT head_out, float sum, size_t layer, size_t r, size_t head) {
    if (sum == 0.0f) {
      std::fill_n(head_out, kHeadDim, 0.0f);  // no visible key
    } else {
      Scale(head_out, kHeadDim, 1.0f / sum);
    }
    StoreActivations(head_out, head * kHeadDim, kHeadDim,
                     FormsFor(weights_.layers[layer].attention_out), precision_, attended_, r);
  }

  // projected = x w^T, back to the width of the residual stream.
  void Project(size_t thread, const PackedMatrix& w, const Activations& x) {
    const PackedMatrix* const matrices[] = {&w};
    MatMul(thread, matrices, x, rows_.size(), precision_,
           [this](size_t r, size_t column, const float* HWY_RESTRICT c, size_t count)
               HWY_ATTR { StoreOutputs(c, count, projected_ + r * kWidth + column, kWidth); });
  }

  void MergeAttention(size_t thread, const LayerWeights& w) {
    const Range part = MyPart(rows_.size(), thread);
    for (size_t r = part.begin; r < part.end; ++r) {
      float* normed = scratch_[thread].row;
      AddRmsNorm(projected_ + r * kWidth, w.post_attention_norm, kWidth, kEpsilon,
                 residual_ + r * kWidth);
      RmsNorm(residual_ + r * kWidth, w.ff_norm, kWidth, kEpsilon, normed);
      StoreActivations(normed, 0, kWidth, FormsFor(w.gate, w.up), precision_, normed_, r);
    }
  }

  // gated = gelu(gate) * up, quantised where it is made: outputs 32 pair and following at a time,
  // which are two panels of either matrix.
  void GateUp(size_t thread, const LayerWeights& w) {
    ThreadScratch& scratch = scratch_[thread];
    const unsigned forms = FormsFor(w.down);
    // Panels of the two matrices lie far from each other, as the pairs of a matmul should; matrices
    // of different formats cannot be paired.
    const bool alike = w.gate.format == w.up.format;
    // What the two pairs of outputs 32 item and following give, [2][rows][kPairOutputs].
    const auto store = [&](size_t item, size_t r0, size_t rows, const float* c) HWY_ATTR {
      for (size_t r = 0; r < rows; ++r) {
        HWY_ALIGN float gated[kPairOutputs];
        const float* const blocks[] = {c + r * kPairOutputs, c + (rows + r) * kPairOutputs};
        for (size_t p = 0; p < 2; ++p) {
          const float* gate = alike ? blocks[p] : blocks[0] + p * kPanelRows;
          const float* up = alike ? blocks[p] + kPanelRows : blocks[1] + p * kPanelRows;
          for (size_t i = 0; i < kPanelRows; i += kLanes) {
            hn::Store(GeluTimes(hn::Load(DF(), gate + i), hn::Load(DF(), up + i)), DF(),
                      gated + p * kPanelRows + i);
          }
        }
        StoreActivations(gated, item * kPairOutputs, kPairOutputs, forms, precision_, gated_,
                         r0 + r);
      }
    };
    ForBlocks(Member(thread), w.gate.panels() / 2, rows_.size(), kPairGroup / 2,
              [&](size_t first, size_t count, size_t r0, size_t rows) HWY_ATTR {
                PanelPair group[kPairGroup];
                for (size_t i = 0; i < count; ++i) {
                  const size_t panel = 2 * (first + i);
                  const PanelRef gates[] = {{w.gate, panel}, {w.gate, panel + 1}};
                  const PanelRef ups[] = {{w.up, panel}, {w.up, panel + 1}};
                  group[2 * i] = {gates[0], alike ? ups[0] : gates[1]};
                  group[2 * i + 1] = {alike ? gates[1] : ups[0], ups[1]};
                }
                MatMulGroup(std::span(group, 2 * count), normed_, r0, rows, precision_,
                            scratch.matmul, scratch.block);
                for (size_t i = 0; i < count; ++i) {
                  store(first + i, r0, rows, scratch.block + 2 * i * rows * kPairOutputs);
                }
              });
  }

  void MergeFeedForward(size_t thread, size_t layer) {
    const Range part = MyPart(rows_.size(), thread);
    for (size_t r = part.begin; r < part.end; ++r) {
      AddRmsNorm(projected_ + r * kWidth, weights_.layers[layer].post_ff_norm, kWidth, kEpsilon,
                 residual_ + r * kWidth);
      if (layer + 1 < kLayers) {
        NormForAttention(thread, r, layer + 1);
      } else if (rows_[r].hidden != nullptr) {
        RmsNorm(residual_ + r * kWidth, weights_.final_norm, kWidth, kEpsilon, rows_[r].hidden);
      }
    }
  }

  // ---- Helpers ----

  TeamMember Member(size_t thread) const { return {thread, pool_->size()}; }

  // See TeamMatMul.
  template <size_t kMatrices, class Store>
  void MatMul(size_t thread, const PackedMatrix* const (&matrices)[kMatrices], const Activations& x,
              size_t rows, Precision precision, const Store& store) {
    ThreadScratch& scratch = scratch_[thread];
    TeamMatMul(Member(thread), matrices, x, rows, precision, scratch.matmul, scratch.block, store);
  }

  VisibleKeys Visible(size_t r, LayerKind kind) const {
    return KeysOfQuery(rows_[r].position, rows_[r].block_end,
                       kind == LayerKind::kLocal ? kConfig.window : 0);
  }

  // The pages that any position of a task sees.
  PageRange Pages(const AttentionTask& task, LayerKind kind) const {
    const size_t last_row = task.first_row + task.positions - 1;
    return {Visible(task.first_row, kind).first / kPageKeys,
            Visible(last_row, kind).last / kPageKeys + 1};
  }

  KvPage Page(size_t r, size_t layer, size_t kv_head, size_t page) {
    return rows_[r].cache->Page(layer, kv_head, page);
  }

  // Queries of a key/value head, from a row on: [rows, kGroup, kHeadDim]. In kExact what rounding
  // lost of them stands behind all queries.
  QueryRows Queries(size_t kv_head, size_t r) const {
    const PairInput* rounded = queries_ + (kv_head * max_rows_ + r) * kGroup * kHeadDim;
    return {rounded, KeepsLost() ? rounded + max_rows_ * kHeads * kHeadDim : nullptr};
  }
  void StoreQuery(const float* HWY_RESTRICT x, size_t r, size_t head) {
    PairInput* to =
        queries_ + ((head / kGroup * max_rows_ + r) * kGroup + head % kGroup) * kHeadDim;
    const bool both = KeepsLost();
    for (size_t i = 0; i < kHeadDim; i += kLanes) {
      const VF v = hn::LoadU(DF(), x + i);
      if (both) {
        StoreInputs(v, to + i, to + max_rows_ * kHeads * kHeadDim + i);
      } else {
        StoreInputs(v, to + i);
      }
    }
  }
  void MoveQueries(size_t from, size_t to) {
    constexpr size_t kRow = kGroup * kHeadDim;
    for (size_t head = 0; head < (KeepsLost() ? 2 : 1) * kKvHeads; ++head) {
      PairInput* const queries = queries_ + head * max_rows_ * kRow;
      hwy::CopyBytes(queries + from * kRow, queries + to * kRow, kRow * sizeof(PairInput));
    }
  }
  // Whether this step keeps what rounding lost of queries.
  bool KeepsLost() const { return kHasBF16Dot && precision_ == Precision::kExact; }

  float* Cosines(size_t r, LayerKind kind) const {
    return angles_ + (r * 2 + (kind == LayerKind::kGlobal)) * kHeadDim;
  }
  float* Sines(size_t r, LayerKind kind) const { return Cosines(r, kind) + kHeadDim / 2; }

  DecoderWeights weights_;
  ThreadPool* pool_;
  size_t max_rows_;
  RopeTable local_rope_, global_rope_;

  // The current step.
  Precision precision_ = Precision::kExact;
  std::vector<Row> rows_;
  std::vector<AttentionTask> tasks_;
  bool all_wanted_ = true;  // no row is without a hidden state that is wanted
  bool split_ = false;
  std::vector<size_t> first_items_;  // of the partials of each task

  AlignedBuffer memory_;
  float* residual_ = nullptr;         // [rows, kWidth]
  float* qkv_ = nullptr;              // [rows, kQkvWidth]: queries, keys, values
  PairInput* queries_ = nullptr;      // [1 or 2, kKvHeads, max_rows, kGroup, kHeadDim]: see Queries
  float* projected_ = nullptr;        // [rows, kWidth]
  float* angles_ = nullptr;           // [rows, 2 kinds of layer, cosines and sines, kHeadDim / 2]
  Activations normed_;                // [rows, kWidth]
  Activations attended_;              // [rows, kHeads * kHeadDim]
  Activations gated_;                 // [rows, kFfWidth]
  ThreadScratch* scratch_ = nullptr;  // [threads]
  AlignedBuffer partials_;
};

}  // namespace HWY_NAMESPACE
}  // namespace lapidary
HWY_AFTER_NAMESPACE();

#endif  // include guard
