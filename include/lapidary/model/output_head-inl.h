// The output head: from what the decoder makes of a token to the logits of the next one.
//
// The head is the largest matrix of a small model (72 % of the bytes of a 270M step), and who wants
// the best tokens only need not read all of it. If the embedding is stored in planes, Best reads
// the high bits of every row, which bounds its logit from above (kernels/coarse-inl.h), and then
// computes exactly, panel by panel, what can still be among the best:
//   1. the largest bound of every panel: from 2 bits of most weights and 4 of some, or, of several
//      rows, from 4 of all;
//   2. exactly, some panels with the largest bounds: the least of the `count` best logits among
//   them
//      is one that the others must reach;
//   3. after 2 bits, closer bounds from 4 of the panels whose bound reaches it, and 2. again;
//   4. exactly, the panels whose bound reaches it still.
// Exact logits are those of Logits, to the last bit.
#if defined(LAPIDARY_MODEL_OUTPUT_HEAD_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef LAPIDARY_MODEL_OUTPUT_HEAD_INL_H_
#undef LAPIDARY_MODEL_OUTPUT_HEAD_INL_H_
#else
#define LAPIDARY_MODEL_OUTPUT_HEAD_INL_H_
#endif

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "lapidary/base/buffer.h"
#include "lapidary/base/result.h"
#include "lapidary/base/threads.h"
#include "lapidary/config/precision.h"
#include "lapidary/kernels/coarse-inl.h"
#include "lapidary/kernels/matmul-inl.h"
#include "lapidary/kernels/quantize-inl.h"
#include "lapidary/kernels/team_matmul-inl.h"
#include "lapidary/model/fine_groups-inl.h"
#include "lapidary/model/token_logit.h"
#include "lapidary/weights/quant.h"

HWY_BEFORE_NAMESPACE();
namespace lapidary {
namespace HWY_NAMESPACE {

// Calls f(i) for those of a range of values that are at least least(), which f may raise. Nearly
// all are below it, and passed over by vectors.
template <class Least, class F>
HWY_INLINE void ForEachAtLeast(std::span<const float> values, Range range, const Least& least,
                               const F& f) {
  const DF d;
  for (size_t i = range.begin; i < range.end; i += kLanes) {
    const size_t end = std::min(i + kLanes, range.end);
    if (end == i + kLanes) {
      const auto reach = hn::Ge(hn::LoadU(d, values.data() + i), hn::Set(d, least()));
      if (hn::AllFalse(d, reach)) continue;
    }
    for (size_t j = i; j < end; ++j) {
      if (values[j] >= least()) f(j);
    }
  }
}

// The `count` most likely of the tokens that are added. A logit that is NaN does not count.
class BestTokens {
 public:
  explicit BestTokens(size_t count) : count_(count) {}

  // What a token must reach to be added.
  float least() const { return best_.size() < count_ ? -HUGE_VALF : best_.front().logit; }

  void Add(TokenLogit token) {
    if (best_.size() == count_) {
      if (count_ == 0 || !MoreLikely(token, best_.front())) return;
      std::pop_heap(best_.begin(), best_.end(), MoreLikelyToken());
      best_.pop_back();
    }
    best_.push_back(token);
    std::push_heap(best_.begin(), best_.end(), MoreLikelyToken());
  }
  // Tokens first, first + 1, ...
  void Add(int32_t first, std::span<const float> logits) {
    ForEachAtLeast(
        logits, {0, logits.size()}, [&] { return least(); },
        [&](size_t i) {
          Add({first + static_cast<int32_t>(i), logits[i]});
        });
  }

  // The best first.
  std::vector<TokenLogit> Take() {
    std::sort_heap(best_.begin(), best_.end(), MoreLikelyToken());
    return std::move(best_);
  }

 private:
  struct MoreLikelyToken {
    bool operator()(const TokenLogit& a, const TokenLogit& b) const { return MoreLikely(a, b); }
  };

  size_t count_;
  std::vector<TokenLogit> best_;  // a heap, the least likely one in front
};

class OutputHead {
 public:
  // The format that Best is for.
  static constexpr Format kPlanes = Format::kQ8_0Planes;
  // Panels that Best computes after 2 bits for a better idea of what the others must reach: they
  // leave 0.4 (5 fine groups) to 0.8 (none) of the panels that one alone would (8 states of a text,
  // real 270M), and take as long as a second look at some 300 (40 us, Zen 5).
  static constexpr size_t kMoreSeeds = 63;
  // Rows that are computed together; more would only make the workspace larger.
  static constexpr size_t kRows = 120;
  // The most tokens that Best finds faster than Logits does: beyond, too many panels remain.
  static constexpr size_t kMostBest = 256;

  // `weights` is [vocabulary, width].
  static Result<OutputHead> Create(const PackedMatrix& weights, ThreadPool& pool) {
    OutputHead head(weights, pool);
    if (Status status = head.Allocate(); !status) return status.error();
    return head;
  }

  size_t width() const { return weights_.cols; }
  size_t vocabulary() const { return weights_.rows; }

  // out[i][vocabulary] = row i of hidden, [rows, width], times the transposed weights.
  void Logits(const float* HWY_RESTRICT hidden, size_t rows, float* const* HWY_RESTRICT out) {
    for (size_t first = 0; first < rows; first += kRows) {
      const size_t count = std::min(kRows, rows - first);
      pool_->Run([&](size_t thread) HWY_ATTR {
        const TeamMember member = {thread, pool_->size()};
        const Range mine = member.PartOf(count);
        for (size_t r = mine.begin; r < mine.end; ++r) {
          StoreExact(hidden + (first + r) * weights_.cols, r, count);
        }
        pool_->Barrier();
        ThreadScratch& scratch = scratch_[thread];
        const PackedMatrix* const matrices[] = {&weights_};
        TeamMatMul(member, matrices, exact_, count, Precision::kExact, scratch.matmul,
                   scratch.block,
                   [&](size_t r, size_t column, const float* HWY_RESTRICT c, size_t n)
                       HWY_ATTR { hwy::CopyBytes(c, out[first + r] + column, n * sizeof(float)); });
      });
    }
  }

  // Whether Best reads less than Logits.
  bool is_coarse() const { return SpecOf(weights_.format).is_in_planes(); }

  // For each row of hidden, the `count` most likely of the first `choices` tokens, the best first.
  // Precondition: is_coarse().
  std::vector<std::vector<TokenLogit>> Best(const float* HWY_RESTRICT hidden, size_t rows,
                                            size_t count, size_t choices) {
    std::vector<std::vector<TokenLogit>> best;
    for (size_t first = 0; first < rows; first += kRows) {
      const size_t n = std::min(kRows, rows - first);
      BestOfBlock(hidden + first * weights_.cols, n, count, choices, best);
    }
    return best;
  }

 private:
  struct ThreadScratch {
    MatMulScratch matmul;
    HWY_ALIGN float block[kPairGroup * kRows * kPairOutputs];
  };

  // Two panels whose logits are computed for a row. They may be the same one.
  struct PanelTask {
    size_t row;
    size_t panels[2];
  };

  OutputHead(const PackedMatrix& weights, ThreadPool& pool) : weights_(weights), pool_(&pool) {}

  Status Allocate() {
    const size_t exact = (ActivationBytes(kRows, weights_.cols) + 63) / 64 * 64;
    const size_t coarse = (CoarseActivationBytes(kRows, weights_.cols) + 63) / 64 * 64;
    const size_t variances =
        (pool_->size() * PadActivations(weights_.cols) / kActivationGroup * sizeof(float) + 63) /
        64 * 64;
    Result<AlignedBuffer> memory = AlignedBuffer::Allocate(
        exact + (is_coarse() ? coarse + variances : 0) + pool_->size() * sizeof(ThreadScratch),
        "the output head");
    if (!memory) return memory.error();
    memory_ = *std::move(memory);
    exact_ = BindActivations(memory_.data(), kRows, weights_.cols);
    uint8_t* next = memory_.data() + exact;
    if (is_coarse()) {
      coarse_ = BindCoarseActivations(next, kRows, weights_.cols);
      squares_.resize(coarse_.x.groups());
      refined_.resize(pool_->size());
      fine_groups_ = FineGroups(coarse_.x.groups());
      variances_ = reinterpret_cast<float*>(next + coarse);
      next += coarse + variances;
    }
    scratch_ = reinterpret_cast<ThreadScratch*>(next);
    return {};
  }

  // Row r of those that are multiplied exactly, `rows` at a time.
  void StoreExact(const float* HWY_RESTRICT hidden, size_t r, size_t rows) {
    StoreActivations(hidden, 0, weights_.cols, FormFor(weights_.format, Precision::kExact, rows),
                     Precision::kExact, exact_, r);
  }

  void BestOfBlock(const float* HWY_RESTRICT hidden, size_t rows, size_t count, size_t choices,
                   std::vector<std::vector<TokenLogit>>& result) {
    const size_t panels = CountPanels(std::min(choices, weights_.rows));
    const size_t stride = 2 * CountPairs(weights_);
    const size_t groups = coarse_.x.groups();
    const size_t fine = rows == 1 ? fine_groups_.next() : groups;
    bounds_.resize(rows * stride);
    if (rows == 1) SquaresOfGroups(hidden, weights_.cols, squares_);
    ChooseFineGroups(squares_, fine, coarse_);
    pool_->Run([&](size_t thread) HWY_ATTR { Coarse(thread, hidden, rows); });

    std::vector<BestTokens> best(rows, BestTokens(count));
    const auto bounds_of = [&](size_t r) { return std::span(bounds_).subspan(r * stride, panels); };
    std::vector<uint32_t> chosen;
    const auto compute_seeds = [&](size_t seeds) {
      for (size_t r = 0; r < rows; ++r) {
        BestTokens largest(seeds);  // here a "token" is a panel
        largest.Add(0, bounds_of(r));
        chosen.clear();
        for (const TokenLogit& panel : largest.Take()) {
          if (panel.logit >= best[r].least()) chosen.push_back(static_cast<uint32_t>(panel.id));
        }
        AddTasks(r, chosen, bounds_of(r));
      }
      RunTasks(choices, best);
    };
    compute_seeds(fine < groups ? count + kMoreSeeds : count);
    if (rows == 1) {
      if (scale_squares_ == 0) scale_squares_ = MeanSquaredScale();
      fine_groups_.Learn(squares_, scale_squares_, bounds_of(0), best[0].least());
    }
    if (fine < groups) {
      Refine(hidden, bounds_of(0), best[0].least());
      compute_seeds(count);
    }
    for (size_t r = 0; r < rows; ++r) {
      FindAtLeast(bounds_of(r), {0, panels}, best[r].least(), chosen);
      AddTasks(r, chosen, bounds_of(r));
    }
    RunTasks(choices, best);
    for (BestTokens& tokens : best) result.push_back(tokens.Take());
  }

  // The largest bound of every panel, for all rows.
  HWY_NOINLINE void Coarse(size_t thread, const float* HWY_RESTRICT hidden, size_t rows) {
    const TeamMember member = {thread, pool_->size()};
    const Range mine = member.PartOf(rows);
    for (size_t r = mine.begin; r < mine.end; ++r) {
      StoreExact(hidden + r * weights_.cols, r, 1);  // see RunTasks
      StoreCoarse(hidden + r * weights_.cols, coarse_, r);
    }
    pool_->Barrier();
    float* variances = variances_ + thread * coarse_.x.groups();
    FindLargestVariances(coarse_, rows, variances);
    const size_t pairs = CountPairs(weights_);
    const Range part = member.PartOf(pairs);
    for (size_t pair = part.begin; pair < part.end; ++pair) {
      const PanelPair both = CoarsePairOf(weights_, pair);
      ForRowTiles<kCoarseTileRows, 2, 1>(rows, [&](auto tile_rows, size_t r) HWY_ATTR {
        CoarsePair<kPlanes, tile_rows()>(both, coarse_, variances, r,
                                         bounds_.data() + 2 * r * pairs + pair, 2 * pairs, pairs);
      });
    }
  }

  // Calls f(pair_at(i), i) for a part of some pairs. Each asks for what the next reads.
  template <class PairAt, class F>
  static void ForPairs(Range part, const PairAt& pair_at, const F& f) {
    for (size_t i = part.begin; i < part.end; ++i) {
      PanelPair both = pair_at(i);
      both.SetNext(pair_at(std::min(i + 1, part.end - 1)));
      f(both, i);
    }
  }

  // The panels of a range whose bound is at least so large.
  static void FindAtLeast(std::span<const float> bounds, Range range, float least,
                          std::vector<uint32_t>& found) {
    found.clear();
    ForEachAtLeast(
        bounds, range, [&] { return least; },
        [&](size_t i) { found.push_back(static_cast<uint32_t>(i)); });
  }

  // Of one row, closer bounds for the panels whose bound is at least so large, from the middle bits
  // of all groups.
  void Refine(const float* HWY_RESTRICT hidden, std::span<float> bounds, float least) {
    std::fill_n(coarse_.fine, coarse_.x.groups(), true);
    StoreCoarse(hidden, coarse_, 0);
    pool_->Run([&](size_t thread) HWY_ATTR {
      std::vector<uint32_t>& panels = refined_[thread];
      FindAtLeast(bounds, PartOf(bounds.size(), thread, pool_->size()), least, panels);
      if (panels.size() % 2 != 0) panels.push_back(panels.back());
      const auto pair_at = [&](size_t i) HWY_ATTR {
        return PanelPair({weights_, panels[2 * i]}, {weights_, panels[2 * i + 1]});
      };
      ForPairs({0, panels.size() / 2}, pair_at, [&](const PanelPair& both, size_t i) HWY_ATTR {
        float closer[2];
        CoarsePair<kPlanes, 1>(both, coarse_, coarse_.variances, 0, closer, 0, 1);
        for (size_t p = 0; p < 2; ++p) bounds[panels[2 * i + p]] = closer[p];
      });
    });
  }

  // The mean square of the scales, of some panels.
  float MeanSquaredScale() const {
    constexpr size_t kSome = 64;
    const DF d;
    VF sum = hn::Zero(d);
    const size_t units = SpecOf(kPlanes).units(weights_.cols);
    for (size_t i = 0; i < kSome; ++i) {
      const uint8_t* unit = weights_.panel(i * (weights_.panels() - 1) / (kSome - 1));
      for (size_t u = 0; u < units; ++u, unit += SpecOf(kPlanes).unit_bytes()) {
        for (size_t v = 0; v < kPanelVectors; ++v) {
          const VF scale = LoadScales<kPlanes>(unit, 0, v);
          sum = hn::MulAdd(scale, scale, sum);
        }
      }
    }
    return hn::ReduceSum(d, sum) / static_cast<float>(kSome * units * kPanelRows);
  }

  // Tasks for panels of a row, none of which becomes a task again.
  void AddTasks(size_t row, std::span<const uint32_t> panels, std::span<float> bounds) {
    for (size_t i = 0; i < panels.size(); i += 2) {
      const size_t first = panels[i], second = panels[std::min(i + 1, panels.size() - 1)];
      tasks_.push_back({row, {first, second}});
      bounds[first] = bounds[second] = NAN;  // which is never large enough
    }
  }

  // Computes the tasks and adds their logits to the best of their rows. None is left.
  void RunTasks(size_t choices, std::vector<BestTokens>& best) {
    if (tasks_.empty()) return;
    logits_.resize(tasks_.size() * kPairOutputs);
    pool_->Run([&](size_t thread) HWY_ATTR {
      const auto pair_at = [&](size_t i) HWY_ATTR {
        const auto& panels = tasks_[i].panels;
        return PanelPair({weights_, panels[0]}, {weights_, panels[1]});
      };
      ForPairs(PartOf(tasks_.size(), thread, pool_->size()), pair_at,
               [&](const PanelPair& both, size_t i) HWY_ATTR {
                 HWY_ALIGN float c[kPairOutputs];
                 matmul::QuantRows<kPlanes, 1>(both, weights_.cols, exact_, tasks_[i].row, c);
                 hwy::CopyBytes(c, logits_.data() + i * kPairOutputs, sizeof(c));
               });
    });
    for (size_t i = 0; i < tasks_.size(); ++i) {
      const PanelTask& task = tasks_[i];
      for (size_t p = 0; p < (task.panels[0] == task.panels[1] ? 1 : 2); ++p) {
        const size_t first = task.panels[p] * kPanelRows;
        const std::span<const float> logits(logits_.data() + i * kPairOutputs + p * kPanelRows,
                                            std::min(kPanelRows, choices - first));
        best[task.row].Add(static_cast<int32_t>(first), logits);
      }
    }
    tasks_.clear();
  }

  PackedMatrix weights_;
  ThreadPool* pool_;
  AlignedBuffer memory_;
  Activations exact_;           // [kRows, width]
  CoarseActivations coarse_;    // [kRows, width]
  std::vector<float> squares_;  // [groups], of a row alone
  FineGroups fine_groups_;
  std::vector<std::vector<uint32_t>> refined_;  // [threads]: panels
  float scale_squares_ = 0;                     // see MeanSquaredScale; 0 before it is needed
  float* variances_ = nullptr;                  // [threads, groups]: see FindLargestVariances
  ThreadScratch* scratch_ = nullptr;            // [threads]
  std::vector<float> bounds_;                   // [rows, panels, rounded up to whole pairs]
  std::vector<PanelTask> tasks_;
  std::vector<float> logits_;  // [tasks, kPairOutputs]
};

}  // namespace HWY_NAMESPACE
}  // namespace lapidary
HWY_AFTER_NAMESPACE();

#endif  // include guard
