// A matmul divided among the threads of a team.
#if defined(LAPIDARY_KERNELS_TEAM_MATMUL_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef LAPIDARY_KERNELS_TEAM_MATMUL_INL_H_
#undef LAPIDARY_KERNELS_TEAM_MATMUL_INL_H_
#else
#define LAPIDARY_KERNELS_TEAM_MATMUL_INL_H_
#endif

#include <algorithm>
#include <cstddef>

#include "lapidary/base/threads.h"
#include "lapidary/kernels/matmul-inl.h"

HWY_BEFORE_NAMESPACE();
namespace lapidary {
namespace HWY_NAMESPACE {

// Rows of activations that a thread takes through a pair of panels at a time: many, because each
// block of rows unpacks all weights again, and so few that a stretch of kBlockInputs inputs of them
// stays in the second-level cache while all pairs pass over it. Two blocks are a chunk of prefill;
// blocks of 120 rows, of which five are, make 1860 instead of 2260 tokens/s (270M Q4_K_M, two cores
// of Zen 4). Whole register tiles of every kind.
inline constexpr size_t kRowBlock = kManyRegisters ? 264 : 260;
static_assert(kRowBlock % kTileRows == 0 && kRowBlock % kFloatTileRows == 0);

// One of the threads that work together.
struct TeamMember {
  size_t thread, threads;

  Range PartOf(size_t count) const { return lapidary::PartOf(count, thread, threads); }
};

// Calls f(pair, first row, rows) for this thread's share of `pairs` pairs of panels times row
// blocks.
template <class F>
HWY_INLINE void ForBlocks(TeamMember member, size_t pairs, size_t rows, const F& f) {
  const size_t row_blocks = (rows + kRowBlock - 1) / kRowBlock;
  const Range part = member.PartOf(pairs * row_blocks);
  for (size_t i = part.begin; i < part.end; ++i) {
    const size_t r0 = i / pairs * kRowBlock;
    f(i % pairs, r0, std::min(kRowBlock, rows - r0));
  }
}

// x[rows] times the transposes of several matrices side by side; store(row, column, values, count)
// receives up to kPanelRows outputs of a row. block: [at most kRowBlock, kPairOutputs], like
// `scratch` this thread's own.
template <size_t kMatrices, class Store>
HWY_INLINE void TeamMatMul(TeamMember member, const PackedMatrix* const (&matrices)[kMatrices],
                           const Activations& x, size_t rows, Precision precision,
                           MatMulScratch& scratch, float* HWY_RESTRICT block, const Store& store) {
  size_t pairs = 0;
  for (const PackedMatrix* w : matrices) pairs += CountPairs(*w);
  ForBlocks(member, pairs, rows, [&](size_t pair, size_t r0, size_t count) HWY_ATTR {
    size_t column = 0;
    const PackedMatrix* const* next = matrices;
    for (; pair >= CountPairs(**next); ++next) {
      pair -= CountPairs(**next);
      column += (*next)->rows;
    }
    const PackedMatrix& w = **next;
    MatMulPair(PairOf(w, pair), x, r0, count, precision, scratch, block);
    size_t panel = pair;
    for (size_t p = 0; p < 2 && panel < w.panels(); ++p, panel += CountPairs(w)) {
      const size_t first = panel * kPanelRows;
      const size_t outputs = std::min(kPanelRows, w.rows - first);
      for (size_t r = 0; r < count; ++r) {
        store(r0 + r, column + first, block + r * kPairOutputs + p * kPanelRows, outputs);
      }
    }
  });
}

}  // namespace HWY_NAMESPACE
}  // namespace lapidary
HWY_AFTER_NAMESPACE();

#endif  // include guard
