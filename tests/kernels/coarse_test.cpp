// Bounds from the high bits of weights, against sums in double over the codes of the source.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <random>
#include <vector>

#include "lapidary/base/buffer.h"
#include "lapidary/kernels/coarse-inl.h"
#include "tests/support/catch.h"
#include "tests/support/dequantize.h"
#include "tests/support/packed.h"
#include "tests/support/scalar.h"

HWY_BEFORE_NAMESPACE();
namespace lapidary {
namespace HWY_NAMESPACE {
namespace {

using lapidary::testing::HalfToFloat;
using lapidary::testing::Packed;
using lapidary::testing::RandomBlocks;
using lapidary::testing::UniformVector;

struct Expected {
  double bound;
  double rounding;  // most that the rounding of starts to integers changes it
};

// Step of the 32 inputs from x on, and the variance of their product if the scale is 1 and `unread`
// bits of each weight are not read.
struct Group {
  Group(const float* x, int unread) {
    double largest = 0, squares = 0;
    for (size_t i = 0; i < 32; ++i) {
      const double value = static_cast<double>(x[i]);
      squares += value * value;
      largest = std::max(largest, std::abs(value));
    }
    step = largest / 127;
    // Of the numbers 0 .. n - 1: (n^2 - 1) / 12.
    const double n = 1 << unread;
    variance = (n * n - 1) / 12 * squares + 32 * 128.0 * 128 / 12 * step * step;
  }
  double step, variance;
};

// Of an output, in double: `blocks` are those of its row, 34 bytes for 32 inputs; the product is
// made of the integers of row `row` of `seen`, the variance of the largest of all `inputs`.
Expected Bound(const uint8_t* blocks, const std::vector<std::vector<float>>& inputs,
               const CoarseActivations& seen, size_t row) {
  double product = 0, variance = 0, rounding = 0;
  for (size_t k = 0; k < inputs[row].size(); k += 32, blocks += 34) {
    const int unread = seen.fine[k / 32] ? 4 : 6;
    const int n = 1 << unread;
    const double scale = static_cast<double>(HalfToFloat(blocks));
    double sum = 0, largest = 0;
    for (size_t i = 0; i < 32; ++i) {
      const int code = static_cast<int8_t>(blocks[2 + i]) + 128;
      sum += GroupAt<kFormBytes>(seen.x, row, k)->bytes[i] * (code / n * n + (n - 1) / 2.0 - 128);
    }
    for (const std::vector<float>& x : inputs) {
      largest = std::max(largest, Group(&x[k], unread).variance);
    }
    const double step = Group(&inputs[row][k], unread).step;
    product += scale * step * sum;
    rounding += 0.5 * n * std::abs(scale) * step;
    variance += scale * scale * largest;
  }
  return {product + 7 * std::sqrt(variance), rounding};
}

// Q8_0 in planes and rows of activations, of which CoarsePair makes bounds.
class Case {
 public:
  static constexpr size_t kRows = 80, kPanels = kRows / 16;

  Case(size_t inputs, size_t cols, std::mt19937& random)
      : source_(RandomBlocks(Format::kQ8_0, kRows * cols, random)),
        packed_(Format::kQ8_0Planes, kRows, cols, source_),
        memory_(*AlignedBuffer::Allocate(CoarseActivationBytes(inputs, cols), "activations")),
        x_(BindCoarseActivations(const_cast<uint8_t*>(memory_.data()), inputs, cols)),
        largest_(x_.x.groups()) {
    // Whatever was in the memory before counts for nothing.
    std::memset(const_cast<uint8_t*>(memory_.data()), 0x5A, memory_.size());
    for (size_t r = 0; r < inputs; ++r) {
      inputs_.push_back(UniformVector(random, cols, 10));
      inputs_.back()[7] = 300;  // one that makes the others small beside the step of their group
    }
  }

  const CoarseActivations& x() const { return x_; }
  const std::vector<float>& input(size_t r) const { return inputs_[r]; }

  void Store(size_t fine_groups) {
    std::vector<float> squares(x_.x.groups());
    SquaresOfGroups(inputs_[0].data(), x_.x.cols, squares);
    ChooseFineGroups(squares, fine_groups, x_);
    for (size_t r = 0; r < inputs_.size(); ++r) StoreCoarse(inputs_[r].data(), x_, r);
    FindLargestVariances(x_, inputs_.size(), largest_.data());
  }
  // Of rows [r, r + kTile): [kTile][2].
  template <size_t kTile>
  void Bounds(size_t panel, size_t r, float* bounds) const {
    const PanelPair pair({packed_.matrix, panel}, {packed_.matrix, other(panel)});
    CoarsePair<Format::kQ8_0Planes, kTile>(pair, x_, largest_.data(), r, bounds, 2, 1);
  }
  // Whether a bound is that of panel p of such a pair.
  bool IsBound(float bound, size_t panel, size_t p, size_t r) const {
    double expected = -HUGE_VAL, rounding = 0;
    for (size_t row = 0; row < 16; ++row) {
      const size_t first =
          ((p == 0 ? panel : other(panel)) * 16 + row) * (packed_.matrix.cols / 32) * 34;
      const Expected one = Bound(source_.data() + first, inputs_, x_, r);
      expected = std::max(expected, one.bound);
      rounding = std::max(rounding, one.rounding);
    }
    // What is left is the arithmetic of floats.
    const double allowed = rounding + 1e-5 * std::abs(expected);
    return std::abs(static_cast<double>(bound) - expected) < allowed;
  }

 private:
  static size_t other(size_t panel) { return (panel + 3) % kPanels; }

  std::vector<uint8_t> source_;
  Packed packed_;
  AlignedBuffer memory_;
  CoarseActivations x_;
  std::vector<float> largest_;
  std::vector<std::vector<float>> inputs_;
};

TEST_CASE("the bound of a panel is the coarse product of a row plus seven deviations") {
  std::mt19937 random(1);
  for (const size_t cols : {32, 96, 640}) {
    constexpr size_t kInputs = 7;
    Case all(kInputs, cols, random);
    all.Store(cols / 16);
    float bounds[kInputs][2];
    size_t wrong = 0;
    for (size_t panel = 0; panel < Case::kPanels; ++panel) {
      all.Bounds<1>(panel, 0, bounds[0]);
      all.Bounds<2>(panel, 1, bounds[1]);
      all.Bounds<4>(panel, 3, bounds[3]);
      for (size_t r = 0; r < kInputs; ++r) {
        for (size_t p = 0; p < 2; ++p) {
          wrong += !all.IsBound(bounds[r][p], panel, p, r);
          float alone[2];
          all.Bounds<1>(panel, r, alone);
          wrong += alone[p] != bounds[r][p];  // rows of a tile are summed as one row is
        }
      }
    }
    CAPTURE(cols);
    CHECK(wrong == 0);
  }
}

TEST_CASE("the bounds of one row take the middle bits of the groups that are fine") {
  std::mt19937 random(2);
  for (const size_t cols : {32, 96, 640}) {
    Case one(1, cols, random);
    for (const size_t fine : {size_t{0}, size_t{1}, cols / 64, cols / 32}) {
      one.Store(fine);
      size_t wrong = 0;
      for (size_t panel = 0; panel < Case::kPanels; ++panel) {
        float bounds[2];
        one.Bounds<1>(panel, 0, bounds);
        for (size_t p = 0; p < 2; ++p) wrong += !one.IsBound(bounds[p], panel, p, 0);
      }
      CAPTURE(cols, fine);
      CHECK(wrong == 0);
    }
  }
}

TEST_CASE("the groups with the largest squares are fine") {
  constexpr size_t kGroups = 20;
  std::mt19937 random(3);
  Case one(1, 32 * kGroups, random);
  for (size_t count = 0; count <= kGroups + 1; ++count) {
    one.Store(count);
    double least_fine = HUGE_VAL, most_other = -1;
    size_t fine = 0;
    for (size_t g = 0; g < kGroups; ++g) {
      double squares = 0;
      for (size_t i = 0; i < 32; ++i) squares += std::pow(one.input(0)[32 * g + i], 2.0);
      fine += one.x().fine[g];
      if (one.x().fine[g]) least_fine = std::min(least_fine, squares);
      if (!one.x().fine[g]) most_other = std::max(most_other, squares);
    }
    CAPTURE(count);
    CHECK(fine == std::min(count, kGroups));
    CHECK(least_fine > most_other);
  }
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace lapidary
HWY_AFTER_NAMESPACE();
