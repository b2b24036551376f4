// A matrix in packed panels beside the values that its source blocks stand for.
#ifndef LAPIDARY_TESTS_SUPPORT_PACKED_H_
#define LAPIDARY_TESTS_SUPPORT_PACKED_H_

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "lapidary/base/buffer.h"
#include "lapidary/weights/pack.h"
#include "lapidary/weights/quant.h"
#include "tests/support/dequantize.h"

namespace lapidary::testing {

class Packed {
 public:
  // From the blocks of a source file, [rows, cols].
  Packed(Format format, std::size_t rows, std::size_t cols, std::span<const std::uint8_t> source)
      : matrix{format, rows, cols, nullptr}, values_(Dequantize(format, source)) {
    memory_ = *AlignedBuffer::Allocate(matrix.bytes(), "a packed matrix");
    std::uint8_t* out = memory_.data();
    for (const Plane plane : kAllPlanes) {
      PackPanels(format, source, rows, cols, 0, matrix.panels(), out, plane);
      out += matrix.panels() * SpecOf(format).plane_bytes(plane, cols);
    }
    matrix.data = memory_.data();
  }

  template <class Engine>
  static Packed Random(Format format, std::size_t rows, std::size_t cols, Engine& random) {
    return Packed(format, rows, cols, RandomBlocks(format, rows * cols, random));
  }

  float value(std::size_t row, std::size_t col) const { return values_[row * matrix.cols + col]; }
  // The largest magnitude in a row.
  float largest(std::size_t row) const {
    float max = 0;
    for (std::size_t k = 0; k < matrix.cols; ++k) max = std::max(max, std::abs(value(row, k)));
    return max;
  }

  PackedMatrix matrix;

 private:
  std::vector<float> values_;
  AlignedBuffer memory_;
};

// Numbers of inputs that fill no unit, vector or block of the kernels, as far as the format's
// blocks let.
inline std::vector<std::size_t> AwkwardCols(const QuantSpec& spec) {
  if (spec.is_float()) return {1, 2, 7, 33, 514, 1031};
  if (spec.source_block == 32) return {32, 96, 160, 1120};
  return {256, 1280};
}

}  // namespace lapidary::testing

#endif  // LAPIDARY_TESTS_SUPPORT_PACKED_H_
