// The image encoder: pixels to soft tokens, the rows that stand for a picture in the decoder.
//
// A SigLIP vision transformer (Zhai et al. 2023; as in Hugging Face's modeling_siglip.py) and the
// projector of Gemma 3 (report, section 2.2): patches of 14 x 14 pixels become 4096 rows; after 27
// layers in which every row attends to every other, 4 x 4 rows are averaged into one, normalised
// and projected to the width of the decoder. One picture is one parallel region, in stages with
// barriers between them as in the decoder. Weights are read a panel at a time for 128 rows.
#if defined(LAPIDARY_MODEL_VISION_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef LAPIDARY_MODEL_VISION_INL_H_
#undef LAPIDARY_MODEL_VISION_INL_H_
#else
#define LAPIDARY_MODEL_VISION_INL_H_
#endif

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <type_traits>

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
#include "lapidary/model/vision_weights.h"

HWY_BEFORE_NAMESPACE();
namespace lapidary {
namespace HWY_NAMESPACE {

// Encodes one picture; made for that and thrown away, because the workspace (about 200 MB of
// touched memory for SigLIP) is worth nothing between pictures.
template <VisionConfig kConfig>
class VisionEncoder {
  static_assert(CheckedVision<kConfig>::kOk);
  static constexpr size_t kImage = kConfig.image;
  static constexpr size_t kPatch = kConfig.patch;
  static constexpr size_t kGrid = kConfig.grid();
  static constexpr size_t kPatches = kConfig.patches();
  static constexpr size_t kPatchInputs = 3 * kPatch * kPatch;
  static constexpr size_t kWidth = kConfig.width;
  static constexpr size_t kHeads = kConfig.heads;
  static constexpr size_t kHeadDim = kWidth / kHeads;
  // Values are filled up with zeros to whole vectors: 72 dims to 80 where a vector has 16.
  static constexpr size_t kValueDim = (kHeadDim + kLanes - 1) / kLanes * kLanes;
  static constexpr size_t kFfWidth = kConfig.ff_width;
  static constexpr size_t kSoftTokens = kConfig.soft_tokens;
  static constexpr size_t kSoftGrid = CheckedVision<kConfig>::kSoftGrid;
  static constexpr size_t kPool = kGrid / kSoftGrid;  // patches along a side of a soft token
  static constexpr float kEpsilon = 1e-6f;            // of every norm, `layer_norm_eps`
  static constexpr size_t kPages = (kPatches + kMostPageKeys - 1) / kMostPageKeys;
  // Queries that pass over a page of keys and values together: ten tiles, so that a page is read
  // from the second-level cache ten times and from beyond once.
  static constexpr size_t kQueryRows = 10 * kQueryTile;
  static constexpr size_t kQueryBlocks = (kPatches + kQueryRows - 1) / kQueryRows;

 public:
  static Result<VisionEncoder> Create(const VisionWeights& weights, ThreadPool& pool) {
    VisionEncoder encoder(weights, pool);
    if (Status status = encoder.Allocate(); !status) return status.error();
    return encoder;
  }

  // pixels [3, image, image], from -1 to 1; soft_tokens [kSoftTokens, width of the decoder].
  void Encode(const float* pixels, float* soft_tokens) {
    pool_->Run([=, this](size_t thread) HWY_ATTR {
      GatherPatches(thread, pixels);
      pool_->Barrier();
      EmbedPatches(thread);
      for (const VisionLayerWeights& w : weights_.layers) {
        pool_->Barrier();
        Norm(thread, w.norm1, FormsFor(w.q, w.k, w.v));
        pool_->Barrier();
        ProjectQkv(thread, w);
        pool_->Barrier();
        Attend(thread);
        pool_->Barrier();
        StoreAttended(thread, FormsFor(w.out));
        pool_->Barrier();
        AddProjected(thread, w.out, normed_);
        pool_->Barrier();
        Norm(thread, w.norm2, FormsFor(w.up));
        pool_->Barrier();
        Up(thread, w);
        pool_->Barrier();
        AddProjected(thread, w.down, hidden_);
      }
      pool_->Barrier();
      PoolPatches(thread);
      pool_->Barrier();
      ProjectSoftTokens(thread, soft_tokens);
    });
  }

 private:
  // What each thread has to itself.
  struct ThreadScratch {
    MatMulScratch matmul;
    AttentionScratch attention;
    HWY_ALIGN float block[kPairGroup * kRowBlock * kPairOutputs];
    HWY_ALIGN float page[kQueryTile * kValueDim];
    HWY_ALIGN float heads[kQueryRows * kValueDim];
    HWY_ALIGN float row[std::max(kWidth, kPatchInputs)];
    HWY_ALIGN float sum[kWidth];
  };

  VisionEncoder(const VisionWeights& weights, ThreadPool& pool) : weights_(weights), pool_(&pool) {}

  Status Allocate() {
    size_t bytes = 0;
    const auto take = [&](size_t count, size_t element) {
      const size_t at = bytes;
      bytes += (count * element + 63) / 64 * 64;
      return at;
    };
    const size_t residual = take(kPatches * kWidth, sizeof(float));
    const size_t queries = take(kPatches * kWidth, sizeof(PairInput));
    const size_t keys = take(kHeads * kPages * kMostPageKeys * kHeadDim, sizeof(hwy::bfloat16_t));
    const size_t values =
        take(kHeads * kPages * kMostPageKeys * kValueDim, sizeof(hwy::bfloat16_t));
    const size_t normed = take(ActivationBytes(kPatches, kWidth), 1);
    // The patches are used up before the first hidden row is made.
    const size_t hidden = take(
        std::max(ActivationBytes(kPatches, kFfWidth), ActivationBytes(kPatches, kPatchInputs)), 1);
    const size_t pooled = take(ActivationBytes(kSoftTokens, kWidth), 1);
    const size_t scratch = take(pool_->size() * sizeof(ThreadScratch), 1);
    Result<AlignedBuffer> memory =
        AlignedBuffer::Allocate(bytes, "the workspace of the image encoder");
    if (!memory) return memory.error();
    memory_ = *std::move(memory);
    std::uint8_t* const data = memory_.data();
    residual_ = reinterpret_cast<float*>(data + residual);
    queries_ = reinterpret_cast<PairInput*>(data + queries);
    keys_ = reinterpret_cast<hwy::bfloat16_t*>(data + keys);
    values_ = reinterpret_cast<hwy::bfloat16_t*>(data + values);
    normed_ = BindActivations(data + normed, kPatches, kWidth);
    patches_ = BindActivations(data + hidden, kPatches, kPatchInputs);
    hidden_ = BindActivations(data + hidden, kPatches, kFfWidth);
    pooled_ = BindActivations(data + pooled, kSoftTokens, kWidth);
    scratch_ = reinterpret_cast<ThreadScratch*>(data + scratch);
    // Keys of the last block that no patch fills are multiplied too, with weight 0: they must not
    // be NaN. The dims that fill values up must be 0.
    std::memset(data + keys, 0, normed - keys);
    return {};
  }

  // ---- Stages. Each writes its share of the rows or columns; `thread` says which. ----

  TeamMember Member(size_t thread) const { return {thread, pool_->size()}; }
  Range MyPart(size_t count, size_t thread) const { return Member(thread).PartOf(count); }

  // Products of bf16 take activations rounded to bf16 once, as the model was trained: the error is
  // 0.3 % at the output, see docs/numerics.md. Quantised weights get 16-bit activations.
  static Precision PrecisionFor(const PackedMatrix& w) {
    return SpecOf(w.format).is_float() ? Precision::kFast : Precision::kExact;
  }
  template <class... Layers>
  static unsigned FormsFor(const Layers&... w) {
    return (FormFor(w.matrix.format, PrecisionFor(w.matrix), kPatches) | ...);
  }

  // Rows of pixels as the first matrix reads them; the residual starts as the positions.
  void GatherPatches(size_t thread, const float* HWY_RESTRICT pixels) {
    const Range part = MyPart(kPatches, thread);
    float* row = scratch_[thread].row;
    for (size_t p = part.begin; p < part.end; ++p) {
      const float* corner = pixels + (p / kGrid * kImage + p % kGrid) * kPatch;
      for (size_t channel = 0; channel < 3; ++channel) {
        for (size_t y = 0; y < kPatch; ++y) {
          hwy::CopyBytes(corner + (channel * kImage + y) * kImage,
                         row + (channel * kPatch + y) * kPatch, kPatch * sizeof(float));
        }
      }
      StoreActivations(row, 0, kPatchInputs, FormsFor(weights_.patch),
                       PrecisionFor(weights_.patch.matrix), patches_, p);
      UnpackRow(weights_.positions, p, scratch_[thread].matmul, residual_ + p * kWidth);
    }
  }

  void EmbedPatches(size_t thread) { AddProjected(thread, weights_.patch, patches_); }

  void Norm(size_t thread, const LayerNormWeights& w, unsigned forms) {
    const Range part = MyPart(kPatches, thread);
    float* row = scratch_[thread].row;
    for (size_t p = part.begin; p < part.end; ++p) {
      LayerNorm(residual_ + p * kWidth, w.gain, w.bias, kWidth, kEpsilon, row);
      StoreActivations(row, 0, kWidth, forms, Precision::kExact, normed_, p);
    }
  }

  void ProjectQkv(size_t thread, const VisionLayerWeights& w) {
    MatMul(thread, w.q, normed_,
           [&](size_t p, size_t column, const float* HWY_RESTRICT c, size_t count)
               HWY_ATTR { StoreQueries(p, column, c, w.q.bias + column, count); });
    MatMul(thread, w.k, normed_,
           [&](size_t p, size_t column, const float* HWY_RESTRICT c, size_t count)
               HWY_ATTR { StoreKeys(p, column, c, w.k.bias + column, count); });
    MatMul(thread, w.v, normed_,
           [&](size_t p, size_t column, const float* HWY_RESTRICT c, size_t count)
               HWY_ATTR { StoreValues(p, column, c, w.v.bias + column, count); });
  }

  // attended[kPatches, kWidth] as f32, in the memory of normed_. A task is a head and a block of
  // queries.
  void Attend(size_t thread) {
    ThreadScratch& scratch = scratch_[thread];
    VisibleKeys visible[kQueryTile];
    std::fill_n(visible, kQueryTile, VisibleKeys{0, kPatches - 1});
    float page_max[kQueryTile], page_sum[kQueryTile];
    float max[kQueryRows], sum[kQueryRows];
    const Range part = MyPart(kHeads * kQueryBlocks, thread);
    for (size_t task = part.begin; task < part.end; ++task) {
      const size_t head = task / kQueryBlocks;
      const size_t first = task % kQueryBlocks * kQueryRows;
      const size_t rows = std::min(kQueryRows, kPatches - first);
      std::fill_n(sum, rows, 0.0f);
      for (size_t page = 0; page < kPages; ++page) {
        for (size_t r = 0; r < rows; r += kQueryTile) {
          const size_t count = std::min(kQueryTile, rows - r);
          AttendPage({Queries(head, first + r)}, count, kHeadDim,
                     std::integral_constant<size_t, kValueDim>(), Page(head, page),
                     page * kMostPageKeys, visible, scratch.attention, scratch.page, page_max,
                     page_sum);
          for (size_t q = 0; q < count; ++q) {
            MergePage(scratch.page + q * kValueDim, page_max[q], page_sum[q], kValueDim,
                      scratch.heads + (r + q) * kValueDim, max[r + q], sum[r + q]);
          }
        }
      }
      for (size_t r = 0; r < rows; ++r) {
        float* head_out = scratch.heads + r * kValueDim;
        Scale(head_out, kValueDim, 1.0f / sum[r]);
        hwy::CopyBytes(head_out, normed_.f32 + (first + r) * normed_.stride + head * kHeadDim,
                       kHeadDim * sizeof(float));
      }
    }
  }

  // What Attend left, in the forms that the next matrix wants.
  void StoreAttended(size_t thread, unsigned forms) {
    const Range part = MyPart(kPatches, thread);
    float* row = scratch_[thread].row;
    for (size_t p = part.begin; p < part.end; ++p) {
      hwy::CopyBytes(normed_.f32 + p * normed_.stride, row, kWidth * sizeof(float));
      StoreActivations(row, 0, kWidth, forms, Precision::kExact, normed_, p);
    }
  }

  // residual += x w^T + bias.
  void AddProjected(size_t thread, const Affine& w, const Activations& x) {
    MatMul(thread, w, x,
           [&](size_t p, size_t column, const float* HWY_RESTRICT c, size_t count) HWY_ATTR {
             const DF d;
             float* HWY_RESTRICT to = residual_ + p * kWidth + column;
             Prefetch<1, /*kToWrite=*/true>(to + kRowsAhead * kWidth);
             for (size_t i = 0; i < count; i += kLanes) {
               const VF bias = hn::LoadN(d, w.bias + column + i, count - i);
               const VF sum =
                   hn::Add(hn::Add(hn::LoadU(d, c + i), bias), hn::LoadN(d, to + i, count - i));
               hn::StoreN(sum, d, to + i, count - i);
             }
           });
  }

  // hidden = gelu(x w^T + bias), in the forms that the next matrix wants: outputs 32 pair and
  // following at a time, as groups of activations are.
  void Up(size_t thread, const VisionLayerWeights& w) {
    const unsigned forms = FormsFor(w.down);
    ThreadScratch& scratch = scratch_[thread];
    const PackedMatrix& up = w.up.matrix;
    const size_t last = up.panels() - 1;
    const auto store = [&](size_t item, size_t r0, size_t rows, float* HWY_RESTRICT c) HWY_ATTR {
      const DF d;
      const size_t column = item * kPairOutputs;
      const size_t count = std::min(kPairOutputs, up.rows - column);
      for (size_t r = 0; r < rows; ++r, c += kPairOutputs) {
        for (size_t i = 0; i < count; i += kLanes) {
          const VF bias = hn::LoadN(d, w.up.bias + column + i, count - i);
          hn::Store(Gelu(hn::Add(hn::Load(d, c + i), bias)), d, c + i);
        }
        StoreActivations(c, column, count, forms, PrecisionFor(w.down.matrix), hidden_, r0 + r);
      }
    };
    ForBlocks(Member(thread), (last + 2) / 2, kPatches, kPairGroup,
              [&](size_t first, size_t items, size_t r0, size_t rows) HWY_ATTR {
                PanelPair group[kPairGroup];
                for (size_t i = 0; i < items; ++i) {
                  const size_t panel = 2 * (first + i);
                  group[i] = {{up, panel}, {up, std::min(panel + 1, last)}};
                }
                MatMulGroup(std::span(group, items), normed_, r0, rows, PrecisionFor(up),
                            scratch.matmul, scratch.block);
                for (size_t i = 0; i < items; ++i) {
                  store(first + i, r0, rows, scratch.block + i * rows * kPairOutputs);
                }
              });
  }

  // The mean of kPool x kPool rows behind the final norm, normalised again.
  void PoolPatches(size_t thread) {
    const Range part = MyPart(kSoftTokens, thread);
    float* row = scratch_[thread].row;
    float* sum = scratch_[thread].sum;
    const LayerNormWeights& w = weights_.final_norm;
    const Precision precision = PrecisionFor(weights_.projection);
    for (size_t token = part.begin; token < part.end; ++token) {
      std::fill_n(sum, kWidth, 0.0f);
      const size_t corner = token / kSoftGrid * kPool * kGrid + token % kSoftGrid * kPool;
      for (size_t i = 0; i < kPool * kPool; ++i) {
        const size_t p = corner + i / kPool * kGrid + i % kPool;
        LayerNorm(residual_ + p * kWidth, w.gain, w.bias, kWidth, kEpsilon, row);
        for (size_t j = 0; j < kWidth; ++j) sum[j] += row[j];
      }
      Scale(sum, kWidth, 1.0f / static_cast<float>(kPool * kPool));
      RmsNorm(sum, weights_.soft_norm, kWidth, kEpsilon, row);
      StoreActivations(row, 0, kWidth, FormFor(weights_.projection.format, precision, kSoftTokens),
                       precision, pooled_, token);
    }
  }

  void ProjectSoftTokens(size_t thread, float* HWY_RESTRICT out) {
    const PackedMatrix& w = weights_.projection;
    MatMul(thread, w, pooled_, kSoftTokens,
           [&](size_t token, size_t column, const float* HWY_RESTRICT c, size_t count) HWY_ATTR {
             hwy::CopyBytes(c, out + token * w.rows + column, count * sizeof(float));
           });
  }

  // ---- Helpers ----

  // x[rows] w^T; see TeamMatMul.
  template <class Store>
  void MatMul(size_t thread, const PackedMatrix& w, const Activations& x, size_t rows,
              const Store& store) {
    const PackedMatrix* const matrices[] = {&w};
    ThreadScratch& scratch = scratch_[thread];
    TeamMatMul(Member(thread), matrices, x, rows, PrecisionFor(w), scratch.matmul, scratch.block,
               store);
  }
  template <class Store>
  void MatMul(size_t thread, const Affine& w, const Activations& x, const Store& store) {
    MatMul(thread, w.matrix, x, kPatches, store);
  }

  PairInput* Queries(size_t head, size_t p) { return queries_ + (head * kPatches + p) * kHeadDim; }
  hwy::bfloat16_t* Keys(size_t head, size_t page) {
    return keys_ + (head * kPages + page) * kMostPageKeys * kHeadDim;
  }
  hwy::bfloat16_t* Values(size_t head, size_t page) {
    return values_ + (head * kPages + page) * kMostPageKeys * kValueDim;
  }
  KvPage Page(size_t head, size_t page) {
    return {KvFormat::kBF16,
            kMostPageKeys,
            {reinterpret_cast<uint8_t*>(Keys(head, page)), nullptr},
            {reinterpret_cast<uint8_t*>(Values(head, page)), nullptr}};
  }

  // Outputs of row p, `count` of them from a column on, in their places. Queries are scaled here.
  void StoreQueries(size_t p, size_t column, const float* HWY_RESTRICT c,
                    const float* HWY_RESTRICT bias, size_t count) {
    const float scale = 1.0f / std::sqrt(static_cast<float>(kHeadDim));
    PairInput rounded[kPanelRows];
    Round(c, bias, count, scale, rounded);
    ForPairs(column, count, [&](size_t head, size_t dim, size_t i) HWY_ATTR {
      hwy::CopyBytes<2 * sizeof(PairInput)>(rounded + i, Queries(head, p) + dim);
    });
  }
  void StoreKeys(size_t p, size_t column, const float* HWY_RESTRICT c,
                 const float* HWY_RESTRICT bias, size_t count) {
    const size_t slot = p % kMostPageKeys;
    const size_t at = slot / kBlockKeys * kBlockKeys * kHeadDim + slot % kBlockKeys * 2;
    hwy::bfloat16_t rounded[kPanelRows];
    Round(c, bias, count, 1.0f, rounded);
    ForPairs(column, count, [&](size_t head, size_t dim, size_t i) HWY_ATTR {
      hwy::bfloat16_t* const to = Keys(head, p / kMostPageKeys) + at + dim * kBlockKeys;
      hwy::CopyBytes<2 * sizeof(hwy::bfloat16_t)>(rounded + i, to);
    });
  }
  void StoreValues(size_t p, size_t column, const float* HWY_RESTRICT c,
                   const float* HWY_RESTRICT bias, size_t count) {
    const size_t slot = p % kMostPageKeys;
    const size_t at = slot / 2 * kValueDim * 2 + slot % 2;
    hwy::bfloat16_t rounded[kPanelRows];
    Round(c, bias, count, 1.0f, rounded);
    ForPairs(column, count, [&](size_t head, size_t dim, size_t i) HWY_ATTR {
      hwy::bfloat16_t* const to = Values(head, p / kMostPageKeys) + at + dim * 2;
      to[0] = rounded[i];
      to[2] = rounded[i + 1];
    });
  }

  // to[i] = (c[i] + bias[i]) * scale; c has kPanelRows elements, bias `count`.
  template <class To>
  static HWY_INLINE void Round(const float* HWY_RESTRICT c, const float* HWY_RESTRICT bias,
                               size_t count, float scale, To* HWY_RESTRICT to) {
    const DF d;
    for (size_t i = 0; i < count; i += kLanes) {
      const VF sum = hn::Add(hn::LoadU(d, c + i), hn::LoadN(d, bias + i, count - i));
      StoreInputs(hn::Mul(sum, hn::Set(d, scale)), to + i);
    }
  }

  // Calls f(head, dim, i) for every second one of columns column + i: no pair belongs to two heads.
  template <class F>
  static HWY_INLINE void ForPairs(size_t column, size_t count, const F& f) {
    size_t head = column / kHeadDim, dim = column % kHeadDim;
    for (size_t i = 0; i < count; i += 2) {
      f(head, dim, i);
      dim += 2;
      if (dim == kHeadDim) {
        dim = 0;
        ++head;
      }
    }
  }

  const VisionWeights& weights_;
  ThreadPool* pool_;

  AlignedBuffer memory_;
  float* residual_ = nullptr;          // [kPatches, kWidth]
  PairInput* queries_ = nullptr;       // [kHeads, kPatches, kHeadDim]
  hwy::bfloat16_t* keys_ = nullptr;    // [kHeads, kPages], as attention-inl.h lays pages out
  hwy::bfloat16_t* values_ = nullptr;  // [kHeads, kPages], kValueDim wide
  Activations patches_;                // [kPatches, kPatchInputs]
  Activations normed_;                 // [kPatches, kWidth]
  Activations hidden_;                 // [kPatches, kFfWidth]
  Activations pooled_;                 // [kSoftTokens, kWidth]
  ThreadScratch* scratch_ = nullptr;   // [threads]
};

}  // namespace HWY_NAMESPACE
}  // namespace lapidary
HWY_AFTER_NAMESPACE();

#endif  // include guard
