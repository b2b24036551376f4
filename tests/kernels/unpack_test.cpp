// Unpacked rows, against a dequantiser that works on the blocks of the source file. What UnpackPair
// makes for the tiles is tested with them.
#include <memory>
#include <random>
#include <vector>

#include "lapidary/kernels/unpack-inl.h"
#include "tests/support/catch.h"
#include "tests/support/packed.h"

HWY_BEFORE_NAMESPACE();
namespace lapidary {
namespace HWY_NAMESPACE {
namespace {

using lapidary::testing::AwkwardCols;
using lapidary::testing::Packed;

TEST_CASE("a row of a packed matrix is unpacked as its source says") {
  std::mt19937 random(1);
  const auto scratch = std::make_unique<MatMulScratch>();
  for (const QuantSpec* spec : kAllSpecs) {
    for (const size_t cols : AwkwardCols(*spec)) {
      for (const size_t rows : {1, 15, 16, 17, 35}) {
        const Packed packed = Packed::Random(spec->format, rows, cols, random);
        std::vector<float> row(cols + 1);
        size_t wrong = 0;
        for (size_t r = 0; r < rows; ++r) {
          row[cols] = 123.0f;
          UnpackRow(packed.matrix, r, *scratch, row.data());
          wrong += row[cols] != 123.0f;  // nothing behind the row is touched
          for (size_t k = 0; k < cols; ++k) {
            // Equal to the bit: scale * code is exact, 11 bits of an f16 times at most 8 of a scale
            // times at most 5 of a code, so that there is a single rounding whether or not the CPU
            // fuses.
            wrong += row[k] != packed.value(r, k);
          }
        }
        CAPTURE(spec->name, rows, cols);
        CHECK(wrong == 0);
      }
    }
  }
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace lapidary
HWY_AFTER_NAMESPACE();
