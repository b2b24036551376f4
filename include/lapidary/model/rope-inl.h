// Tables of the angles of rotary position embedding.
#if defined(LAPIDARY_MODEL_ROPE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef LAPIDARY_MODEL_ROPE_INL_H_
#undef LAPIDARY_MODEL_ROPE_INL_H_
#else
#define LAPIDARY_MODEL_ROPE_INL_H_
#endif

#include <cmath>
#include <cstddef>
#include <vector>

#include "lapidary/kernels/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace lapidary {
namespace HWY_NAMESPACE {

// Pair i of a head turns by position / factor * base^(-2i / head_dim) (the RoPE paper,
// section 3.2.2; the factor is linear position interpolation). All in double: at position 131071 an
// f32 angle would be off by 0.004 rad. A position is split into 256 a + b, and the angle sum
// formulas combine a table of a with a table of b: a few hundred kilobytes instead of an entry for
// every position.
class RopeTable {
 public:
  RopeTable(double base, double factor, size_t head_dim, size_t context)
      : half_(head_dim / 2), coarse_(Angles(context / kFine + 1)), fine_(Angles(kFine)) {
    for (size_t i = 0; i < half_; ++i) {
      const double frequency =
          std::pow(base, -2.0 * static_cast<double>(i) / static_cast<double>(head_dim)) / factor;
      Fill(coarse_, i, frequency * kFine);
      Fill(fine_, i, frequency);
    }
  }

  // Cosines and sines of a position, [head_dim / 2] each.
  void Row(size_t position, float* HWY_RESTRICT cosine, float* HWY_RESTRICT sine) const {
    const double* HWY_RESTRICT a = coarse_.data() + position / kFine * 2 * half_;
    const double* HWY_RESTRICT b = fine_.data() + position % kFine * 2 * half_;
    for (size_t i = 0; i < half_; ++i) {
      cosine[i] = static_cast<float>(a[i] * b[i] - a[half_ + i] * b[half_ + i]);
      sine[i] = static_cast<float>(a[half_ + i] * b[i] + a[i] * b[half_ + i]);
    }
  }

 private:
  static constexpr size_t kFine = 256;

  std::vector<double> Angles(size_t positions) const {
    return std::vector<double>(positions * 2 * half_);
  }
  // Column i of a table [positions][cosines, sines][half_].
  void Fill(std::vector<double>& table, size_t i, double step) const {
    for (size_t p = 0; p < table.size() / (2 * half_); ++p) {
      table[p * 2 * half_ + i] = std::cos(static_cast<double>(p) * step);
      table[p * 2 * half_ + half_ + i] = std::sin(static_cast<double>(p) * step);
    }
  }

  size_t half_;
  std::vector<double> coarse_, fine_;
};

}  // namespace HWY_NAMESPACE
}  // namespace lapidary
HWY_AFTER_NAMESPACE();

#endif  // include guard
