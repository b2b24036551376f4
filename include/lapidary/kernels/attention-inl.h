// Attention over the KV cache.
//
// Keys and values are bf16 and lie in blocks of 16 positions, each in the panel order that PairTile
// reads:
//   keys    [head_dim / 2][16 positions][2]: a panel whose rows are positions and whose inputs are
//   dims, values  [8 pairs of positions][head_dim][2]: rows are dims and inputs are positions.
// So scores and weighted sums are the same register-tiled product as a matmul.
//
// A *page* is 16 blocks, 256 positions from a multiple of 256 on. Every query row makes one softmax
// over the visible keys of a page, and the pages are merged in order. The results of a row do not
// depend on which rows are computed beside it, so prefill in chunks of any length equals decode,
// bit for bit.
#if defined(LAPIDARY_KERNELS_ATTENTION_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef LAPIDARY_KERNELS_ATTENTION_INL_H_
#undef LAPIDARY_KERNELS_ATTENTION_INL_H_
#else
#define LAPIDARY_KERNELS_ATTENTION_INL_H_
#endif

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>

#include "lapidary/kernels/kv_layout.h"
#include "lapidary/kernels/matmul-inl.h"
#include "lapidary/kernels/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace lapidary {
namespace HWY_NAMESPACE {

// Query rows (heads of a group times positions) that are computed together: whole tiles of
// PairTile.
inline constexpr size_t kQueryTile = kManyRegisters ? 24 : 20;

// Writes the key of one position into its place in a page of keys, [kPageBlocks][head_dim /
// 2][16][2].
HWY_NOINLINE inline void StoreKey(const float* HWY_RESTRICT key, size_t head_dim, size_t slot,
                                  hwy::bfloat16_t* HWY_RESTRICT page) {
  hwy::bfloat16_t* to = page + slot / kBlockKeys * BlockElements(head_dim) + slot % kBlockKeys * 2;
  for (size_t i = 0; i < head_dim; i += 2) {
    to[i / 2 * kBlockKeys * 2] = hwy::BF16FromF32(key[i]);
    to[i / 2 * kBlockKeys * 2 + 1] = hwy::BF16FromF32(key[i + 1]);
  }
}

// Writes the value of one position into its place in a page of values,
// [kPageBlocks][8][head_dim][2].
HWY_NOINLINE inline void StoreValue(const float* HWY_RESTRICT value, size_t head_dim, size_t slot,
                                    hwy::bfloat16_t* HWY_RESTRICT page) {
  hwy::bfloat16_t* to = page + slot / 2 * head_dim * 2 + slot % 2;
  for (size_t i = 0; i < head_dim; ++i) to[i * 2] = hwy::BF16FromF32(value[i]);
}

// The keys that a query row sees: positions first .. last, both included; none if first > last.
struct VisibleKeys {
  size_t first = 0;
  size_t last = 0;

  bool Meets(size_t page_start) const {
    return first <= last && last >= page_start && first < page_start + kPageKeys;
  }
};

// What AttendPage needs besides its results; one per thread.
struct AttentionScratch {
  HWY_ALIGN float scores[kQueryTile * kPageKeys];
  HWY_ALIGN PairInput weights[kQueryTile * kPageKeys];
};

namespace attention {

// Scores of `rows` queries with blocks [begin, end) of a page of keys: scores[rows][kPageKeys].
template <class HeadDim>
HWY_INLINE void Scores(const PairInput* HWY_RESTRICT queries, size_t rows, HeadDim head_dim,
                       const hwy::bfloat16_t* HWY_RESTRICT keys, size_t begin, size_t end,
                       float* HWY_RESTRICT scores) {
  const auto* base = reinterpret_cast<const uint8_t*>(keys);
  const size_t block_bytes = BlockElements(head_dim) * 2;
  // From a whole tile on, so that the last one ends within the page.
  for (size_t key = begin * kBlockKeys / kTileOutputs * kTileOutputs; key < end * kBlockKeys;
       key += kTileOutputs) {
    const uint8_t* w[2];
    for (size_t v = 0; v < 2; ++v) {
      // The second vector of a tile may lie beyond the last block: compute the first again, unused.
      const size_t at = std::min(key + v * kLanes, end * kBlockKeys - kLanes);
      w[v] = base + at / kBlockKeys * block_bytes + at % kBlockKeys * 4;
    }
    matmul::ForRowTiles<kFloatTileRows>(rows, [&](auto tile_rows, size_t r) HWY_ATTR {
      float* to = scores + r * kPageKeys + key;
      for (size_t i = 0; i < tile_rows(); ++i) {
        std::fill_n(to + i * kPageKeys, kTileOutputs, 0.0f);
      }
      PairTile<Format::kBF16, tile_rows()>(w[0], w[1], kPanelRows * 4, head_dim / 2,
                                           queries + r * head_dim, head_dim, to, kPageKeys);
    });
  }
}

// Turns the scores of the visible keys [first, last] of a page into weights e^(score - max), zero
// elsewhere in [begin, end); returns their sum. Both ranges count keys of the page.
HWY_NOINLINE inline float Softmax(float* HWY_RESTRICT scores, size_t begin, size_t end,
                                  size_t first, size_t last, PairInput* HWY_RESTRICT weights,
                                  float* max_out) {
  const DF d;
  const DI32 di;
  const VF lowest = hn::Set(d, -std::numeric_limits<float>::infinity());
  const VI32 lanes = hn::Iota(di, 0);
  const VI32 from = hn::Set(di, static_cast<int32_t>(first));
  const VI32 to = hn::Set(di, static_cast<int32_t>(last));
  VF max = lowest;
  for (size_t i = begin; i < end; i += kLanes) {
    const VI32 at = hn::Add(lanes, hn::Set(di, static_cast<int32_t>(i)));
    const auto visible = hn::And(hn::Ge(at, from), hn::Le(at, to));
    const VF s = hn::IfThenElse(hn::RebindMask(d, visible), hn::LoadU(d, scores + i), lowest);
    hn::StoreU(s, d, scores + i);
    max = hn::Max(max, s);
  }
  const float m = hn::ReduceMax(d, max);
  *max_out = m;
  // 16 partial sums in a fixed order, as in SumOfSquares.
  constexpr size_t kSums = 16 / kLanes;
  VF sums[kSums];
  HWY_UNROLL(4) for (size_t v = 0; v < kSums; ++v) sums[v] = hn::Zero(d);
  for (size_t i = begin; i < end; i += 16) {
    HWY_UNROLL(4) for (size_t v = 0; v < kSums; ++v) {
      const VF e = Exp(hn::Sub(hn::LoadU(d, scores + i + v * kLanes), hn::Set(d, m)));
      sums[v] = hn::Add(sums[v], e);
      StoreInputs(e, weights + i + v * kLanes);
    }
  }
  HWY_ALIGN float lane[16];
  HWY_UNROLL(4) for (size_t v = 0; v < kSums; ++v) hn::Store(sums[v], d, lane + v * kLanes);
  for (size_t half = 8; half != 0; half /= 2) {
    for (size_t j = 0; j < half; ++j) lane[j] += lane[j + half];
  }
  return lane[0];
}

// out[rows][head_dim] = weights[rows][kPageKeys] times blocks [begin, end) of a page of values.
template <class HeadDim>
HWY_INLINE void WeightedValues(const PairInput* HWY_RESTRICT weights, size_t rows, HeadDim head_dim,
                               const hwy::bfloat16_t* HWY_RESTRICT values, size_t begin, size_t end,
                               float* HWY_RESTRICT out) {
  const auto* base = reinterpret_cast<const uint8_t*>(values + begin * BlockElements(head_dim));
  const size_t pairs = (end - begin) * kBlockKeys / 2;
  for (size_t i = 0; i < rows * head_dim; i += kLanes) hn::StoreU(hn::Zero(DF()), DF(), out + i);
  for (size_t dim = 0; dim < head_dim; dim += kTileOutputs) {
    const uint8_t* w = base + dim * 4;
    matmul::ForRowTiles<kFloatTileRows>(rows, [&](auto tile_rows, size_t r) HWY_ATTR {
      PairTile<Format::kBF16, tile_rows()>(w, w + kVectorBytes, head_dim * 4, pairs,
                                           weights + r * kPageKeys + begin * kBlockKeys, kPageKeys,
                                           out + r * head_dim + dim, head_dim);
    });
  }
}

}  // namespace attention

// The softmax of one page, unnormalised, for `rows` <= kQueryTile queries [rows][head_dim], already
// scaled: out[rows][head_dim] = sum of e^(score - max) value, with max[rows] and sum[rows]. `keys`
// and `values` are the page that holds positions page_start ...; visible[rows] are absolute
// positions. head_dim, a multiple of 32, may be a number or a constant.
template <class HeadDim>
HWY_NOINLINE void AttendPage(const PairInput* HWY_RESTRICT queries, size_t rows, HeadDim head_dim,
                             const hwy::bfloat16_t* HWY_RESTRICT keys,
                             const hwy::bfloat16_t* HWY_RESTRICT values, size_t page_start,
                             const VisibleKeys* HWY_RESTRICT visible, AttentionScratch& scratch,
                             float* HWY_RESTRICT out, float* HWY_RESTRICT max,
                             float* HWY_RESTRICT sum) {
  size_t first = kPageKeys, last = 0;  // keys of the page that any row sees
  for (size_t r = 0; r < rows; ++r) {
    if (!visible[r].Meets(page_start)) continue;
    first = std::min(first, std::max(visible[r].first, page_start) - page_start);
    last = std::max(last, std::min(visible[r].last - page_start, kPageKeys - 1));
  }
  if (first > last) {
    std::fill_n(sum, rows, 0.0f);
    return;
  }
  const size_t begin = first / kBlockKeys;
  const size_t end = last / kBlockKeys + 1;
  attention::Scores(queries, rows, head_dim, keys, begin, end, scratch.scores);
  for (size_t r = 0; r < rows; ++r) {
    float* scores = scratch.scores + r * kPageKeys;
    PairInput* weights = scratch.weights + r * kPageKeys;
    if (!visible[r].Meets(page_start)) {
      for (size_t i = begin * kBlockKeys; i < end * kBlockKeys; ++i) weights[i] = PairInput{};
      sum[r] = 0.0f;
      continue;
    }
    const size_t row_first = std::max(visible[r].first, page_start) - page_start;
    const size_t row_last = std::min(visible[r].last - page_start, kPageKeys - 1);
    sum[r] = attention::Softmax(scores, begin * kBlockKeys, end * kBlockKeys, row_first, row_last,
                                weights, max + r);
  }
  attention::WeightedValues(scratch.weights, rows, head_dim, values, begin, end, out);
}

// Merges a page into what the earlier pages of a row gave: acc[head_dim], its max and sum. Start
// with sum 0. Skips a page of which the row sees nothing.
HWY_NOINLINE inline void MergePage(const float* HWY_RESTRICT page, float page_max, float page_sum,
                                   size_t head_dim, float* HWY_RESTRICT acc, float& max,
                                   float& sum) {
  if (page_sum == 0.0f) return;
  const DF d;
  if (sum == 0.0f) {
    for (size_t i = 0; i < head_dim; i += kLanes) hn::StoreU(hn::LoadU(d, page + i), d, acc + i);
    max = page_max;
    sum = page_sum;
    return;
  }
  const float joint = std::max(max, page_max);
  const VF keep = Exp(hn::Set(d, max - joint));
  const VF take = Exp(hn::Set(d, page_max - joint));
  for (size_t i = 0; i < head_dim; i += kLanes) {
    const VF v = hn::Mul(hn::LoadU(d, page + i), take);
    hn::StoreU(hn::MulAdd(hn::LoadU(d, acc + i), keep, v), d, acc + i);
  }
  sum = sum * hn::GetLane(keep) + page_sum * hn::GetLane(take);
  max = joint;
}

}  // namespace HWY_NAMESPACE
}  // namespace lapidary
HWY_AFTER_NAMESPACE();

#endif  // include guard
