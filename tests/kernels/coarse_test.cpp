// Bounds from the high bits of weights, against sums in double over the codes of the source.
#include <algorithm>
#include <cmath>
#include <cstdint>
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

// Step of the 32 inputs from x on, and the variance of their product if the scale is 1.
struct Group {
  explicit Group(const float* x) {
    double largest = 0, squares = 0;
    for (size_t i = 0; i < 32; ++i) {
      const double value = static_cast<double>(x[i]);
      squares += value * value;
      largest = std::max(largest, std::abs(value));
    }
    step = largest / 127;
    variance = 21.25 * squares + 32 * 128.0 * 128 / 12 * step * step;
  }
  double step, variance;
};

// Of an output, in double: `blocks` are those of its row, 34 bytes for 32 inputs; the product is
// made of the integers of row `row` of `seen`, the variance of the largest of all `inputs`.
Expected Bound(const uint8_t* blocks, const std::vector<std::vector<float>>& inputs,
               const CoarseActivations& seen, size_t row) {
  double product = 0, variance = 0, rounding = 0;
  for (size_t k = 0; k < inputs[row].size(); k += 32, blocks += 34) {
    const double scale = static_cast<double>(HalfToFloat(blocks));
    double sum = 0, largest = 0;
    for (size_t i = 0; i < 32; ++i) {
      const int code = static_cast<int8_t>(blocks[2 + i]) + 128;
      sum += GroupAt<kFormBytes>(seen.x, row, k)->bytes[i] * (code / 16 * 16 + 7.5 - 128);
    }
    for (const std::vector<float>& x : inputs) largest = std::max(largest, Group(&x[k]).variance);
    const double step = Group(&inputs[row][k]).step;
    product += scale * step * sum;
    rounding += 0.5 * 16 * std::abs(scale) * step;
    variance += scale * scale * largest;
  }
  return {product + 7 * std::sqrt(variance), rounding};
}

TEST_CASE("the bound of a panel is the coarse product of a row plus seven deviations") {
  std::mt19937 random(1);
  for (const size_t cols : {32, 96, 640}) {
    constexpr size_t kRows = 80, kInputs = 7;
    const std::vector<uint8_t> source = RandomBlocks(Format::kQ8_0, kRows * cols, random);
    const Packed packed(Format::kQ8_0Planes, kRows, cols, source);
    const AlignedBuffer memory =
        *AlignedBuffer::Allocate(CoarseActivationBytes(kInputs, cols), "activations");
    const CoarseActivations x =
        BindCoarseActivations(const_cast<uint8_t*>(memory.data()), kInputs, cols);
    std::vector<std::vector<float>> inputs;
    for (size_t r = 0; r < kInputs; ++r) {
      inputs.push_back(UniformVector(random, cols, 10));
      inputs.back()[7] = 300;  // one that makes the others small beside the step of their group
      StoreCoarse(inputs.back().data(), x, r);
    }
    std::vector<float> largest(x.x.groups());
    FindLargestVariances(x, kInputs, largest.data());
    float bounds[kInputs][2];
    size_t wrong = 0;
    for (size_t panel = 0; panel < kRows / 16; ++panel) {
      const size_t other = (panel + 3) % (kRows / 16);
      const PanelPair pair({packed.matrix, panel}, {packed.matrix, other});
      CoarsePair<Format::kQ8_0Planes, 1>(pair, x, largest.data(), 0, bounds[0], 2, 1);
      CoarsePair<Format::kQ8_0Planes, 2>(pair, x, largest.data(), 1, bounds[1], 2, 1);
      CoarsePair<Format::kQ8_0Planes, 4>(pair, x, largest.data(), 3, bounds[3], 2, 1);
      for (size_t r = 0; r < kInputs; ++r) {
        for (size_t p = 0; p < 2; ++p) {
          double expected = -HUGE_VAL, rounding = 0;
          for (size_t row = 0; row < 16; ++row) {
            const size_t first = ((p == 0 ? panel : other) * 16 + row) * (cols / 32) * 34;
            const Expected one = Bound(source.data() + first, inputs, x, r);
            expected = std::max(expected, one.bound);
            rounding = std::max(rounding, one.rounding);
          }
          // What is left is the arithmetic of floats.
          const double allowed = rounding + 1e-5 * std::abs(expected);
          wrong += !(std::abs(static_cast<double>(bounds[r][p]) - expected) < allowed);
          float alone[2];
          CoarsePair<Format::kQ8_0Planes, 1>(pair, x, largest.data(), r, alone, 2, 1);
          wrong += alone[p] != bounds[r][p];  // rows of a tile are summed as one row is
        }
      }
    }
    CAPTURE(cols);
    CHECK(wrong == 0);
  }
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace lapidary
HWY_AFTER_NAMESPACE();
