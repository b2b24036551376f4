// Attention over the KV cache.
//
// Keys and values are bf16, or bytes with a scale for each position, and lie in blocks of 16
// positions, each in the panel order that PairTile reads:
//   keys    [head_dim / 2][16 positions][2]: a panel whose rows are positions and whose inputs are
//   dims, values  [8 pairs of positions][head_dim][2]: rows are dims and inputs are positions.
// So scores and weighted sums are the same register-tiled product as a matmul.
//
// A *page* is some blocks, in a cache kPageKeys positions. Every query row makes one softmax over
// the visible keys of a page, and the pages are merged in order. The results of a row do not
// depend on which rows are computed beside it, so prefill in chunks of any length equals decode,
// bit for bit.
#if defined(LAPIDARY_KERNELS_ATTENTION_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef LAPIDARY_KERNELS_ATTENTION_INL_H_
#undef LAPIDARY_KERNELS_ATTENTION_INL_H_
#else
#define LAPIDARY_KERNELS_ATTENTION_INL_H_
#endif

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <type_traits>

#include "lapidary/kernels/kv_layout.h"
#include "lapidary/kernels/pair_tile-inl.h"
#include "lapidary/kernels/simd-inl.h"
#include "lapidary/kernels/tile-inl.h"
#include "lapidary/kernels/visible_keys.h"

HWY_BEFORE_NAMESPACE();
namespace lapidary {
namespace HWY_NAMESPACE {

// Query rows (heads of a group times positions) that are computed together: whole tiles of
// MultiplyPairs.
inline constexpr size_t kQueryTile = kMayHaveAmx ? 32 : kManyRegisters ? 24 : 20;

namespace attention {

// Writes one key or value, whole vectors wide, element i to place(i), as bf16 or as bytes of at
// most 127 and their scale.
template <class Place>
HWY_INLINE void StoreElements(const float* HWY_RESTRICT x, size_t head_dim, size_t slot,
                              KvFormat format, const KvHalfPage& page, const Place& place) {
  if (format == KvFormat::kBF16) {
    auto* to = reinterpret_cast<hwy::bfloat16_t*>(page.elements);
    hwy::bfloat16_t rounded[kLanes];
    for (size_t i = 0; i < head_dim; i += kLanes) {
      StoreInputs(hn::LoadU(DF(), x + i), rounded);
      for (size_t j = 0; j < kLanes; ++j) to[place(i + j)] = rounded[j];
    }
    return;
  }
  float max = 0;
  for (size_t i = 0; i < head_dim; ++i) max = std::max(max, std::abs(x[i]));
  // Below 1e-30 the inverse would overflow; such a vector is zero to any accuracy that matters.
  const float inverse = max > 1e-30f ? 127.0f / max : 0.0f;
  page.scales[slot] = max > 1e-30f ? max / 127.0f : 0.0f;
  auto* to = reinterpret_cast<int8_t*>(page.elements);
  for (size_t i = 0; i < head_dim; ++i) {
    to[place(i)] = static_cast<int8_t>(std::lrintf(x[i] * inverse));
  }
}

}  // namespace attention

// Writes the key of one position into its place in a page, [blocks][head_dim / 2][16][2].
HWY_NOINLINE inline void StoreKey(const float* HWY_RESTRICT key, size_t head_dim, size_t slot,
                                  KvFormat format, const KvHalfPage& page) {
  const size_t first = slot / kBlockKeys * kBlockKeys * head_dim + slot % kBlockKeys * 2;
  attention::StoreElements(key, head_dim, slot, format, page,
                           [=](size_t i) { return first + i / 2 * kBlockKeys * 2 + i % 2; });
}

// Writes the value of one position into its place in a page, [blocks][8][head_dim][2].
HWY_NOINLINE inline void StoreValue(const float* HWY_RESTRICT value, size_t head_dim, size_t slot,
                                    KvFormat format, const KvHalfPage& page) {
  const size_t first = slot / 2 * head_dim * 2 + slot % 2;
  attention::StoreElements(value, head_dim, slot, format, page,
                           [=](size_t i) { return first + i * 2; });
}

// Queries [rows, key_dim], already scaled. Where PairInput is bf16, `lost` may hold what rounding
// took from them, as bf16 again: of the four numbers that attention rounds, it is the one that
// counts (1B with random weights, mean KL: keys and values alone 1.19e-4, with weights 1.27e-4,
// with queries 1.99e-4).
struct QueryRows {
  const PairInput* rounded;
  const PairInput* lost = nullptr;
};

// What AttendPage needs besides its results; one per thread.
struct AttentionScratch {
  HWY_ALIGN float scores[kQueryTile * kMostPageKeys];
  HWY_ALIGN PairInput weights[kQueryTile * kMostPageKeys];
};

namespace attention {

// The elements of a KvFormat, as PairTile reads them.
template <KvFormat kFormat>
using KvPairs =
    std::conditional_t<kFormat == KvFormat::kBF16, WeightPairs<Format::kBF16>, BytePairs>;

// Few rows have few sums, each of which waits for its last product: then twice as many vectors are
// multiplied at a time. (Bytes wait to be unpacked, and AMX sums in another way.)
template <KvFormat kFormat>
inline constexpr size_t kFewQueries =
    kManyRegisters && !kMayHaveAmx && kFormat == KvFormat::kBF16 ? 4 : 0;

// Scores of `rows` queries with blocks [begin, end) of a page of keys: scores[rows][kMostPageKeys].
template <KvFormat kFormat, class KeyDim>
HWY_INLINE void Scores(amx::Unit& unit, const QueryRows& queries, size_t rows, KeyDim key_dim,
                       const KvHalfPage& keys, size_t begin, size_t end,
                       float* HWY_RESTRICT scores) {
  constexpr size_t kPairBytes = 2 * KvElementBytes(kFormat);
  const size_t block_bytes = kBlockKeys * key_dim / 2 * kPairBytes;
  static_assert(2 * kBlockKeys % kTileOutputs == 0);
  // The scores of kVecs vectors of keys, from `key` on.
  const auto score = [&]<size_t kVecs>(size_t key) HWY_ATTR {
    constexpr size_t kMostRows = kVecs == 2 ? kFloatTileRows : kFewQueries<kFormat>;
    const uint8_t* w[kVecs];
    for (size_t v = 0; v < kVecs; ++v) {
      const size_t at = key + v * kLanes;
      w[v] = keys.elements + at / kBlockKeys * block_bytes + at % kBlockKeys * kPairBytes;
    }
    const auto multiply = [&](const PairInput* x, bool add) HWY_ATTR {
      MultiplyPairs<KvPairs<kFormat>, kMostRows>(unit, w, kBlockKeys * kPairBytes, key_dim / 2, x,
                                                 key_dim, rows, add, scores + key, kMostPageKeys);
    };
    multiply(queries.rounded, /*add=*/false);
    if constexpr (kHasBF16Dot) {
      if (queries.lost != nullptr) multiply(queries.lost, /*add=*/true);
    }
  };
  size_t key = begin * kBlockKeys;
  const size_t end_key = end * kBlockKeys;
  if constexpr (kFewQueries<kFormat> != 0) {
    if (rows <= kFewQueries<kFormat>) {
      for (; key + 2 * kTileOutputs <= end_key; key += 2 * kTileOutputs) {
        score.template operator()<4>(key);
      }
    }
  }
  for (; key < end_key; key += kTileOutputs) {
    score.template operator()<2>(key);
  }
}

// x[i] *= scales[i] for the keys [begin, end) of a page.
HWY_INLINE void MultiplyByScales(const float* HWY_RESTRICT scales, size_t begin, size_t end,
                                 float* HWY_RESTRICT x) {
  const DF d;
  for (size_t i = begin; i < end; i += kLanes) {
    hn::StoreU(hn::Mul(hn::LoadU(d, x + i), hn::LoadU(d, scales + i)), d, x + i);
  }
}

// The largest of the scores [begin, end) of a page that are of visible keys, [first, last]; gives
// the others -infinity.
HWY_NOINLINE inline float LargestScore(float* HWY_RESTRICT scores, size_t begin, size_t end,
                                       size_t first, size_t last) {
  const DF d;
  const DI32 di;
  const VF lowest = hn::Set(d, -std::numeric_limits<float>::infinity());
  VF max = lowest;
  if (first <= begin && end <= last + 1) {  // as within most pages
    // Two chains, because one would wait for itself.
    VF max2 = lowest;
    for (size_t i = begin; i < end; i += 2 * kLanes) {
      max = hn::Max(max, hn::LoadU(d, scores + i));
      max2 = hn::Max(max2, hn::LoadU(d, scores + i + kLanes));
    }
    max = hn::Max(max, max2);
  } else {
    const VI32 lanes = hn::Iota(di, 0);
    const VI32 from = hn::Set(di, static_cast<int32_t>(first));
    const VI32 to = hn::Set(di, static_cast<int32_t>(last));
    for (size_t i = begin; i < end; i += kLanes) {
      const VI32 at = hn::Add(lanes, hn::Set(di, static_cast<int32_t>(i)));
      const auto visible = hn::And(hn::Ge(at, from), hn::Le(at, to));
      const VF s = hn::IfThenElse(hn::RebindMask(d, visible), hn::LoadU(d, scores + i), lowest);
      hn::StoreU(s, d, scores + i);
      max = hn::Max(max, s);
    }
  }
  return hn::ReduceMax(d, max);
}

// Turns the scores [begin, end) of a page into weights e^(score - max); returns their sum. If the
// values have scales (not null), the weights that are stored, but not their sum, are multiplied by
// those.
HWY_NOINLINE inline float StoreWeights(const float* HWY_RESTRICT scores, size_t begin, size_t end,
                                       float max, const float* HWY_RESTRICT value_scales,
                                       PairInput* HWY_RESTRICT weights) {
  const DF d;
  PartialSums sums;
  for (size_t i = begin; i < end; i += 16) {
    HWY_UNROLL(4) for (size_t v = 0; v < kSumVectors; ++v) {
      const size_t at = i + v * kLanes;
      const VF x = hn::Sub(hn::LoadU(d, scores + at), hn::Set(d, max));
      const VF e = kHasBF16Dot ? ExpForBF16(x) : Exp(x);
      sums[v] = hn::Add(sums[v], e);
      StoreInputs(value_scales ? hn::Mul(e, hn::LoadU(d, value_scales + at)) : e, weights + at);
    }
  }
  return sums.Total();
}

// out[rows][value_dim] = weights[rows][kMostPageKeys] times blocks [begin, end) of a page of
// values.
template <KvFormat kFormat, class ValueDim>
HWY_INLINE void WeightedValues(amx::Unit& unit, const PairInput* HWY_RESTRICT weights, size_t rows,
                               ValueDim value_dim, const KvHalfPage& values, size_t begin,
                               size_t end, float* HWY_RESTRICT out) {
  constexpr size_t kPairBytes = 2 * KvElementBytes(kFormat);
  const size_t step = value_dim * kPairBytes;
  const size_t pairs = (end - begin) * kBlockKeys / 2;
  const uint8_t* first = values.elements + begin * kBlockKeys / 2 * step;
  // All rows times one or two vectors of values, at w, in tiles of at most `most` rows.
  const auto multiply = [&](auto most, size_t dim, const auto& w) HWY_ATTR {
    MultiplyPairs<KvPairs<kFormat>, most()>(unit, w, step, pairs, weights + begin * kBlockKeys,
                                            kMostPageKeys, rows, /*add=*/false, out + dim,
                                            value_dim);
  };
  size_t dim = 0;
  if constexpr (kFewQueries<kFormat> != 0) {
    for (; rows <= kFewQueries<kFormat> && dim + 2 * kTileOutputs <= value_dim;
         dim += 2 * kTileOutputs) {
      const uint8_t* w = first + dim * kPairBytes;
      constexpr size_t kStep = kLanes * kPairBytes;
      const uint8_t* const four[] = {w, w + kStep, w + 2 * kStep, w + 3 * kStep};
      multiply(std::integral_constant<size_t, kFewQueries<kFormat>>(), dim, four);
    }
  }
  for (; dim + kTileOutputs <= value_dim; dim += kTileOutputs) {
    const uint8_t* w = first + dim * kPairBytes;
    const uint8_t* const both[] = {w, w + kLanes * kPairBytes};
    multiply(std::integral_constant<size_t, kFloatTileRows>(), dim, both);
  }
  if constexpr (!std::is_integral_v<ValueDim>) {
    if constexpr (ValueDim::value % kTileOutputs != 0) {
      const uint8_t* const last[] = {first + dim * kPairBytes};
      multiply(std::integral_constant<size_t, 2 * kFloatTileRows>(), dim, last);
    }
  }
}

template <KvFormat kFormat, class KeyDim, class ValueDim>
HWY_NOINLINE void AttendPage(const QueryRows& queries, size_t rows, KeyDim key_dim,
                             ValueDim value_dim, const KvPage& page, size_t page_start,
                             const VisibleKeys* HWY_RESTRICT visible, AttentionScratch& scratch,
                             float* HWY_RESTRICT out, float* HWY_RESTRICT max,
                             float* HWY_RESTRICT sum) {
  const size_t page_end = page_start + page.positions;
  size_t first = page.positions, last = 0;  // keys of the page that any row sees
  for (size_t r = 0; r < rows; ++r) {
    if (!visible[r].Meets(page_start, page_end)) continue;
    first = std::min(first, std::max(visible[r].first, page_start) - page_start);
    last = std::max(last, std::min(visible[r].last, page_end - 1) - page_start);
  }
  if (first > last) {
    std::fill_n(sum, rows, 0.0f);
    return;
  }
  constexpr bool kScaled = kFormat == KvFormat::kInt8;
  // Whole pairs of blocks, because AMX sums 32 positions at a time: where its steps begin must not
  // depend on the rows beside a row. Keys that no row sees get weights of 0.
  const size_t begin = first / (2 * kBlockKeys) * 2;
  const size_t end = last / (2 * kBlockKeys) * 2 + 2;
  [[maybe_unused]] amx::Unit unit;
  Scores<kFormat>(unit, queries, rows, key_dim, page.keys, begin, end, scratch.scores);
  const size_t first_key = begin * kBlockKeys, end_key = end * kBlockKeys;
  // All maxima before all weights: a row's weights wait for its maximum, the next row's do not.
  for (size_t r = 0; r < rows; ++r) {
    if (!visible[r].Meets(page_start, page_end)) continue;
    float* scores = scratch.scores + r * kMostPageKeys;
    if (kScaled) MultiplyByScales(page.keys.scales, first_key, end_key, scores);
    max[r] = LargestScore(scores, first_key, end_key,
                          std::max(visible[r].first, page_start) - page_start,
                          std::min(visible[r].last, page_end - 1) - page_start);
  }
  for (size_t r = 0; r < rows; ++r) {
    PairInput* weights = scratch.weights + r * kMostPageKeys;
    if (!visible[r].Meets(page_start, page_end)) {
      std::fill(weights + first_key, weights + end_key, PairInput{});
      sum[r] = 0.0f;
      continue;
    }
    sum[r] = StoreWeights(scratch.scores + r * kMostPageKeys, first_key, end_key, max[r],
                          kScaled ? page.values.scales : nullptr, weights);
  }
  WeightedValues<kFormat>(unit, scratch.weights, rows, value_dim, page.values, begin, end, out);
}

}  // namespace attention

// The softmax of one page, unnormalised, for `rows` <= kQueryTile queries:
// out[rows][value_dim] = sum of e^(score - max) value, with max[rows] and sum[rows]. `page`
// holds positions page_start ...; visible[rows] are absolute positions. key_dim is even; value_dim
// is whole vectors wide (where heads are not, zeros fill them up), and as a number whole tiles.
// Both may be numbers or constants.
template <class KeyDim, class ValueDim>
HWY_INLINE void AttendPage(const QueryRows& queries, size_t rows, KeyDim key_dim,
                           ValueDim value_dim, const KvPage& page, size_t page_start,
                           const VisibleKeys* HWY_RESTRICT visible, AttentionScratch& scratch,
                           float* HWY_RESTRICT out, float* HWY_RESTRICT max,
                           float* HWY_RESTRICT sum) {
  if (page.format == KvFormat::kBF16) {
    attention::AttendPage<KvFormat::kBF16>(queries, rows, key_dim, value_dim, page, page_start,
                                           visible, scratch, out, max, sum);
  } else {
    attention::AttendPage<KvFormat::kInt8>(queries, rows, key_dim, value_dim, page, page_start,
                                           visible, scratch, out, max, sum);
  }
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
