// A matmul divided among the threads of a team.
#if defined(LAPIDARY_KERNELS_TEAM_MATMUL_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef LAPIDARY_KERNELS_TEAM_MATMUL_INL_H_
#undef LAPIDARY_KERNELS_TEAM_MATMUL_INL_H_
#else
#define LAPIDARY_KERNELS_TEAM_MATMUL_INL_H_
#endif

#include <algorithm>
#include <cstddef>
#include <span>

#include "lapidary/base/threads.h"
#include "lapidary/kernels/matmul-inl.h"

HWY_BEFORE_NAMESPACE();
namespace lapidary {
namespace HWY_NAMESPACE {

// Rows of activations that a thread takes through a pair of panels at a time: many, because each
// block of rows unpacks all weights again, and so few that a stretch of kBlockInputs inputs of them
// stays in the second-level cache while all pairs pass over it. With AVX-512 that cache has a
// megabyte, and a chunk of prefill is one block (1 to 5 % faster in kFast than two, 270M Q4_K_M,
// two cores of Zen 5); with AMX, to unpack takes longer than the products of 100 rows. Whole
// register tiles of every kind.
inline constexpr size_t kRowBlock = kManyRegisters ? 528 : 260;
static_assert(kRowBlock % kTileRows == 0 && kRowBlock % kFloatTileRows == 0);

// One of the threads that work together.
struct TeamMember {
  size_t thread, threads;

  Range PartOf(size_t count) const { return lapidary::PartOf(count, thread, threads); }
};

// Rows of a block for a team that shares `count` items times `rows` rows. Half of kRowBlock if that
// takes more than a tenth off the largest share, as for 20 pairs among 8 threads, of which 3 are 20
// % more than 2.5: more than to unpack all weights twice costs.
constexpr size_t RowBlockFor(size_t count, size_t rows, size_t threads) {
  const auto largest_share = [&](size_t block) {  // in rows of an item
    const size_t blocks = (rows + block - 1) / block;
    return (count * blocks + threads - 1) / threads * rows / blocks;
  };
  constexpr size_t kHalf = kRowBlock / 2;
  if (rows <= kHalf) return kRowBlock;
  return 10 * largest_share(kHalf) < 9 * largest_share(kRowBlock) ? kHalf : kRowBlock;
}

// Calls f(first item, items, first row, rows) for this thread's share of `count` items times row
// blocks, at most `most` items at a time. Blocks are equal: one of several is never so small that
// its rows would be multiplied in place, which may want another form of activations.
template <class F>
HWY_INLINE void ForBlocks(TeamMember member, size_t count, size_t rows, size_t most, const F& f) {
  const size_t block = RowBlockFor(count, rows, member.threads);
  const size_t row_blocks = (rows + block - 1) / block;
  const Range part = member.PartOf(count * row_blocks);
  for (size_t i = part.begin; i < part.end;) {
    const Range mine = lapidary::PartOf(rows, i / count, row_blocks);
    const size_t items = std::min({most, part.end - i, count - i % count});
    f(i % count, items, mine.begin, mine.end - mine.begin);
    i += items;
  }
}

// The rows to which outputs go next are not in the nearest caches: asked for so many rows early,
// their lines have come when they are written (prefill of the 270M gains 1 to 2 %, two cores of Zen
// 5).
inline constexpr size_t kRowsAhead = 8;

// Stores `count` outputs of a row, at most kPanelRows, where rows are `stride` floats apart.
HWY_INLINE void StoreOutputs(const float* HWY_RESTRICT c, size_t count, float* HWY_RESTRICT to,
                             size_t stride) {
  Prefetch<1, /*kToWrite=*/true>(to + kRowsAhead * stride);
  if (count == kPanelRows) {
    hwy::CopyBytes<kPanelRows * sizeof(float)>(c, to);
  } else {
    hwy::CopyBytes(c, to, count * sizeof(float));
  }
}

// x[rows] times the transposes of several matrices side by side; store(row, column, values, count)
// receives up to kPanelRows outputs of a row. block: [kPairGroup, at most kRowBlock, kPairOutputs],
// like `scratch` this thread's own.
template <size_t kMatrices, class Store>
HWY_INLINE void TeamMatMul(TeamMember member, const PackedMatrix* const (&matrices)[kMatrices],
                           const Activations& x, size_t rows, Precision precision,
                           MatMulScratch& scratch, float* HWY_RESTRICT block, const Store& store) {
  struct Place {
    const PackedMatrix* matrix;
    size_t pair;    // of the matrix
    size_t column;  // of its first output
  };
  const auto place_of = [&](size_t pair) HWY_ATTR {
    size_t column = 0;
    const PackedMatrix* const* next = matrices;
    for (; pair >= CountPairs(**next); ++next) {
      pair -= CountPairs(**next);
      column += (*next)->rows;
    }
    return Place{*next, pair, column};
  };
  // The outputs c[n] of a pair, of rows r0 and following.
  const auto store_pair = [&](const Place& place, size_t r0, size_t n, const float* c) HWY_ATTR {
    const PackedMatrix& w = *place.matrix;
    size_t panel = place.pair;
    for (size_t p = 0; p < 2 && panel < w.panels(); ++p, panel += CountPairs(w)) {
      const size_t output = panel * kPanelRows;
      const size_t outputs = std::min(kPanelRows, w.rows - output);
      for (size_t r = 0; r < n; ++r) {
        store(r0 + r, place.column + output, c + r * kPairOutputs + p * kPanelRows, outputs);
      }
    }
  };
  size_t pairs = 0;
  for (const PackedMatrix* w : matrices) pairs += CountPairs(*w);
  ForBlocks(member, pairs, rows, kPairGroup,
            [&](size_t first, size_t count, size_t r0, size_t n) HWY_ATTR {
              Place places[kPairGroup];
              PanelPair group[kPairGroup];
              for (size_t i = 0; i < count; ++i) {
                places[i] = place_of(first + i);
                group[i] = PairOf(*places[i].matrix, places[i].pair);
              }
              MatMulGroup(std::span(group, count), x, r0, n, precision, scratch, block);
              for (size_t i = 0; i < count; ++i) {
                store_pair(places[i], r0, n, block + i * n * kPairOutputs);
              }
            });
}

}  // namespace HWY_NAMESPACE
}  // namespace lapidary
HWY_AFTER_NAMESPACE();

#endif  // include guard
