// How many groups of inputs the output head reads more closely at first (kernels/coarse-inl.h).
#if defined(LAPIDARY_MODEL_FINE_GROUPS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef LAPIDARY_MODEL_FINE_GROUPS_INL_H_
#undef LAPIDARY_MODEL_FINE_GROUPS_INL_H_
#else
#define LAPIDARY_MODEL_FINE_GROUPS_INL_H_
#endif

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>

#include "lapidary/kernels/coarse-inl.h"
#include "lapidary/kernels/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace lapidary {
namespace HWY_NAMESPACE {

// The choice for rows that are computed alone. More fine groups make a dearer first look, and
// closer bounds, that leave fewer panels to look at again. How many each choice would have left of
// a row is told well enough by the bounds that another choice gave: they move as the typical
// deviation does. The choice that would have been the cheapest for the rows so far, the last ones
// before all, is that for the next. It changes no result.
class FineGroups {
 public:
  FineGroups() = default;
  explicit FineGroups(size_t groups)
      : choices_{{0}, {groups / 10}, {groups / 5}, {groups}}, groups_(groups) {}

  // Groups of the next row.
  size_t next() const { return choices_[next_].fine; }

  // After a row: the squares of its groups (SquaresOfGroups; sorted here), the mean square of
  // the scales of the weights, the bounds that next() groups gave, and what they must reach.
  void Learn(std::span<float> squares, float scale_squares, std::span<const float> bounds,
             float least) {
    // Of weights that are not numbers nothing can be learnt, nor can they be sorted.
    if (!std::all_of(squares.begin(), squares.end(), [](float s) { return s < HUGE_VALF; })) return;
    std::sort(squares.begin(), squares.end(), std::greater<float>());
    const float used = TypicalMargin(squares, scale_squares, next());
    for (Choice& choice : choices_) {
      const float margin = TypicalMargin(squares, scale_squares, choice.fine);
      const size_t rest = CountAtLeast(bounds, least + used - margin);
      const float cost =
          choice.fine == groups_
              ? kAllFine
              : kSomeFine + static_cast<float>(choice.fine) / static_cast<float>(groups_) +
                    kSecondLook * static_cast<float>(rest) / static_cast<float>(bounds.size());
      choice.cost += (cost - choice.cost) * (has_learnt_ ? kMemory : 1.0f);
    }
    has_learnt_ = true;
    const auto cheaper = [](const Choice& a, const Choice& b) { return a.cost < b.cost; };
    next_ = static_cast<size_t>(std::min_element(choices_, std::end(choices_), cheaper) - choices_);
  }

 private:
  struct Choice {
    size_t fine;     // groups
    float cost = 0;  // mean, in first looks without fine groups
  };

  // A first look with the middle bits of all groups reads 1.8 times as much as one without, and
  // takes as much longer. One with those of a fifth takes 1.2 times as long, but with those of more
  // than a fourth as long as with all: memory gives no less where a third of its lines are left
  // out. A second look at all panels would take 3.4 times as long as the first look, because they
  // do not lie one behind the other; to find them takes a tenth. (270M, Zen 5)
  static constexpr float kAllFine = 1.8f;
  static constexpr float kSomeFine = 1.1f;
  static constexpr float kSecondLook = 3.4f;
  static constexpr float kMemory = 0.125f;  // weight of the last row

  // Of a typical output of a row: see kCoarseDeviations.
  static float TypicalMargin(std::span<const float> sorted_squares, float scale_squares,
                             size_t fine) {
    float variance = 0;
    for (size_t g = 0; g < sorted_squares.size(); ++g) {
      variance += CoarseVariance(g < fine) * sorted_squares[g];
    }
    return kCoarseDeviations * std::sqrt(scale_squares * variance);
  }

  static size_t CountAtLeast(std::span<const float> values, float least) {
    const DF d;
    size_t count = 0, i = 0;
    for (; i + kLanes <= values.size(); i += kLanes) {
      count += hn::CountTrue(d, hn::Ge(hn::LoadU(d, values.data() + i), hn::Set(d, least)));
    }
    for (; i < values.size(); ++i) count += values[i] >= least;
    return count;
  }

  Choice choices_[4] = {};
  size_t groups_ = 0;
  size_t next_ = 3;  // at first, all
  bool has_learnt_ = false;
};

}  // namespace HWY_NAMESPACE
}  // namespace lapidary
HWY_AFTER_NAMESPACE();

#endif  // include guard
