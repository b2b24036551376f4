// Products of activations and packed weights against sums in double.
//
// The reference multiplies the weights that the source blocks stand for by the *quantised*
// activations of the scalar twin, so the kernel has nothing to lose but f32 roundings: one for each
// of at most 80 groups when they are summed, and two in each term. 80 * 2^-24 = 5e-6 of the sum of
// magnitudes is the worst case; the roundings point in all directions, and 2e-6 is never reached.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>
#include <random>
#include <span>
#include <vector>

#include "lapidary/base/buffer.h"
#include "lapidary/kernels/matmul-inl.h"
#include "lapidary/kernels/quantize-inl.h"
#include "lapidary/kernels/team_matmul-inl.h"
#include "tests/support/catch.h"
#include "tests/support/dequantize.h"
#include "tests/support/packed.h"
#include "tests/support/scalar.h"

HWY_BEFORE_NAMESPACE();
namespace lapidary {
namespace HWY_NAMESPACE {
namespace {

using lapidary::testing::AwkwardCols;
using lapidary::testing::FromBrainBits;
using lapidary::testing::Packed;
using lapidary::testing::QuantizedRow;
using lapidary::testing::QuantizeRow;
using lapidary::testing::RandomBlocks;
using lapidary::testing::RoundToBrain;
using lapidary::testing::Sum;
using lapidary::testing::Uniform;
using lapidary::testing::UniformVector;

constexpr Precision kPrecisions[] = {Precision::kFast, Precision::kExact};

float LimitOf(Precision precision) { return precision == Precision::kFast ? 127.0f : 32639.0f; }

// What multiplies: the best that this CPU has, or its vectors where that is AMX.
enum class Unit { kBest, kVectors };

// The forms that one row and many rows want.
unsigned FormsOf(Format format, Precision precision, Unit unit) {
  const auto form_for = unit == Unit::kBest ? &FormFor : &VectorFormFor;
  return form_for(format, precision, 1) | form_for(format, precision, kRowBlock);
}

// Rows of activations, as floats and in some forms: by default those that a format wants.
struct Input {
  Input(std::vector<std::vector<float>> rows, unsigned forms, Precision precision)
      : values(std::move(rows)),
        memory(*AlignedBuffer::Allocate(ActivationBytes(values.size(), values[0].size()),
                                        "activations")),
        x(BindActivations(memory.data(), values.size(), values[0].size())) {
    std::memset(memory.data(), 0x5A, memory.size());
    for (size_t r = 0; r < values.size(); ++r) {
      StoreActivations(values[r].data(), 0, values[r].size(), forms, precision, x, r);
    }
  }
  Input(std::vector<std::vector<float>> rows, Format format, Precision precision,
        Unit unit = Unit::kBest)
      : Input(std::move(rows), FormsOf(format, precision, unit), precision) {}
  std::vector<std::vector<float>> values;
  AlignedBuffer memory;
  Activations x;
};

// Outputs [count, w.rows] of rows row0 ...
std::vector<float> Multiply(const PackedMatrix& w, const Activations& x, size_t row0, size_t count,
                            Precision precision, Unit unit = Unit::kBest) {
  static const auto scratch = std::make_unique<MatMulScratch>();
  const AlignedBuffer block =
      *AlignedBuffer::Allocate(count * kPairOutputs * sizeof(float), "a block");
  auto* c = reinterpret_cast<float*>(const_cast<uint8_t*>(block.data()));
  std::vector<float> out(count * w.rows);
  for (size_t pair = 0; pair < CountPairs(w); ++pair) {
    std::fill_n(c, count * kPairOutputs, 1e30f);  // what is not overwritten shows
    const PanelPair panels = PairOf(w, pair);
    if (unit == Unit::kBest) {
      MatMulGroup(std::span(&panels, 1), x, row0, count, precision, *scratch, c);
    } else {
      matmul::MatMulAlike<false>(std::span(&panels, 1), x, row0, count, precision, *scratch, c);
    }
    for (size_t i = 0; i < kPairOutputs; ++i) {
      const size_t panel = pair + i / kPanelRows * CountPairs(w);
      const size_t output = panel * kPanelRows + i % kPanelRows;
      if (output >= w.rows) continue;
      for (size_t r = 0; r < count; ++r) out[r * w.rows + output] = c[r * kPairOutputs + i];
    }
  }
  return out;
}

// What the arithmetic of a format sees of an activation.
std::vector<double> Seen(std::span<const float> x, Format format, Precision precision, Unit unit) {
  std::vector<double> seen;
  const unsigned form = FormsOf(format, precision, unit);
  if (form == kFormF32 || form == kFormBF16) {
    for (const float value : x) {
      if (form == kFormF32) {
        seen.push_back(static_cast<double>(value));
      } else {
        const float high = RoundToBrain(value);
        const float low = precision == Precision::kExact ? RoundToBrain(value - high) : 0.0f;
        seen.push_back(static_cast<double>(high) + static_cast<double>(low));
      }
    }
  } else {
    const QuantizedRow row = QuantizeRow(x, LimitOf(precision));
    for (size_t i = 0; i < x.size(); ++i) seen.push_back(row.value(i));
  }
  return seen;
}

// Largest error of outputs [rows, w.rows], as a share of the sum of magnitudes.
double WorstError(const Packed& w, const Input& input, std::span<const float> out,
                  Precision precision, Unit unit) {
  const PackedMatrix& m = w.matrix;
  const bool rounds = FormsOf(m.format, precision, unit) == kFormBF16 && m.format != Format::kBF16;
  double worst = 0;
  for (size_t r = 0; r < input.values.size(); ++r) {
    const std::vector<double> x = Seen(input.values[r], m.format, precision, unit);
    for (size_t o = 0; o < m.rows; ++o) {
      Sum sum;
      // A format with minima subtracts two larger terms: codes of 0 show how large a minimum is.
      double magnitude = 0;
      for (size_t k = 0; k < m.cols; ++k) {
        const float weight = rounds ? RoundToBrain(w.value(o, k)) : w.value(o, k);
        sum.Add(static_cast<double>(weight) * x[k]);
        magnitude += std::abs(x[k]);
      }
      const bool has_min = SpecOf(m.format).has_min;
      const double yardstick =
          has_min ? magnitude * static_cast<double>(w.largest(o)) : sum.magnitude;
      const double error = std::abs(static_cast<double>(out[r * m.rows + o]) - sum.value);
      if (!(error == 0)) worst = std::max(worst, error / yardstick);
      if (std::isnan(error)) return INFINITY;
    }
  }
  return worst;
}

std::vector<std::vector<float>> RandomRows(size_t rows, size_t cols, std::mt19937& random) {
  std::vector<std::vector<float>> values;
  for (size_t r = 0; r < rows; ++r) values.push_back(UniformVector(random, cols, 5));
  return values;
}

void CheckProducts(Unit unit) {
  std::mt19937 random(1);
  double worst = 0;
  for (const QuantSpec* spec : kAllSpecs) {
    for (const size_t cols : AwkwardCols(*spec)) {
      // Outputs that fill no panel, an odd number of panels, whole pairs.
      for (const size_t outputs :
           cols > 600 ? std::vector<size_t>{37} : std::vector<size_t>{1, 16, 32, 37, 50}) {
        const Packed w = Packed::Random(spec->format, outputs, cols, random);
        for (const Precision precision : kPrecisions) {
          const Input all(RandomRows(130, cols, random), spec->format, precision, unit);
          const std::vector<float> expected = Multiply(w.matrix, all.x, 0, 130, precision, unit);
          const double error = WorstError(w, all, expected, precision, unit);
          CAPTURE(spec->name, cols, outputs, precision == Precision::kFast, error);
          CHECK(error < 2e-6);
          worst = std::max(worst, error);
          // Whatever the tile: 1 row alone, 2, a tile and a rest; from any row on.
          size_t wrong = 0;
          for (const size_t count : {1, 2, 3, 5, 8, 17}) {
            for (const size_t row0 : {size_t{0}, size_t{1}, size_t{7}, 130 - count}) {
              const std::vector<float> some =
                  Multiply(w.matrix, all.x, row0, count, precision, unit);
              wrong += std::memcmp(some.data(), expected.data() + row0 * outputs,
                                   some.size() * sizeof(float)) != 0;
            }
          }
          CHECK(wrong == 0);
        }
      }
    }
  }
  INFO("largest error of all: " << worst);
  CHECK(worst > 0);
}

TEST_CASE("products equal the scalar twin's, and do not depend on the number of rows") {
  CheckProducts(Unit::kBest);
  if (kMayHaveAmx && HasAmx()) CheckProducts(Unit::kVectors);
}

// In kExact, quantised weights give the same sums in AMX registers as in vectors.
TEST_CASE("AMX and vectors agree to the bit in kExact") {
  if (!kMayHaveAmx || !HasAmx()) return;
  std::mt19937 random(9);
  size_t compared = 0;
  for (const QuantSpec* spec : kAllSpecs) {
    if (spec->is_float()) continue;
    for (const size_t cols : AwkwardCols(*spec)) {
      const Packed w = Packed::Random(spec->format, 37, cols, random);
      const Input all(RandomRows(50, cols, random), spec->format, Precision::kExact);
      for (const size_t rows : {16, 17, 31, 32, 50}) {
        const auto best = Multiply(w.matrix, all.x, 0, rows, Precision::kExact);
        const auto vectors = Multiply(w.matrix, all.x, 0, rows, Precision::kExact, Unit::kVectors);
        CAPTURE(spec->name, cols, rows);
        CHECK(std::memcmp(best.data(), vectors.data(), best.size() * sizeof(float)) == 0);
        ++compared;
      }
    }
  }
  CHECK(compared > 0);
}

TEST_CASE("blocks of rows are halved where that evens out the work of many threads") {
  constexpr size_t kHalf = kRowBlock / 2;
  for (const size_t threads : {1, 2, 4, 5, 10, 20}) {
    CHECK(RowBlockFor(20, kRowBlock, threads) == kRowBlock);  // even as it is
  }
  CHECK(RowBlockFor(20, kRowBlock, 8) == kHalf);      // 2.5 instead of 3
  CHECK(RowBlockFor(20, kRowBlock, 16) == kHalf);     // 1.5 instead of 2
  CHECK(RowBlockFor(21, kRowBlock, 2) == kRowBlock);  // 10.5 instead of 11 is too little
  CHECK(RowBlockFor(20, kHalf, 8) == kRowBlock);      // nothing to halve
  CHECK(RowBlockFor(20, 1, 8) == kRowBlock);
  CHECK(RowBlockFor(20, kRowBlock + 9, 1) == kRowBlock);  // the last block may be short
  CHECK(RowBlockFor(1000, 8 * kRowBlock, 64) == kRowBlock);
}

// One after the other, the members of a team do what its threads do side by side.
// The formats differ, so that their neighbours in a group want other forms of the activations.
TEST_CASE("a team computes every output of several matrices once, in all blocks of rows") {
  std::mt19937 random(8);
  // More than a stretch of inputs, of either kind. A block of the one row too many would be read in
  // place.
  constexpr size_t kCols = kBlockInputs + 32, kRows = kRowBlock + 1, kTeam = 3, kMatrices = 4;
  const Packed packed[kMatrices] = {
      Packed::Random(Format::kQ4_0, 37, kCols, random),
      Packed::Random(Format::kF32, 50, kCols, random),
      Packed::Random(Format::kQ8_0, 80, kCols, random),
      Packed::Random(Format::kBF16, 33, kCols, random),
  };
  for (const Precision precision : kPrecisions) {
    const PackedMatrix* matrices[kMatrices];
    unsigned forms = 0;
    size_t outputs = 0;
    for (size_t m = 0; m < kMatrices; ++m) {
      matrices[m] = &packed[m].matrix;
      forms |= FormFor(matrices[m]->format, precision, kRows);
      outputs += matrices[m]->rows;
    }
    const Input all(RandomRows(kRows, kCols, random), forms, precision);
    std::vector<float> found(kRows * outputs);
    std::vector<int> times(found.size());
    const auto scratch = std::make_unique<MatMulScratch>();
    const AlignedBuffer block =
        *AlignedBuffer::Allocate(kPairGroup * kRowBlock * kPairOutputs * sizeof(float), "a block");
    auto* c = reinterpret_cast<float*>(const_cast<uint8_t*>(block.data()));
    const PackedMatrix* const(&side_by_side)[kMatrices] = matrices;
    for (size_t thread = 0; thread < kTeam; ++thread) {
      TeamMatMul({thread, kTeam}, side_by_side, all.x, kRows, precision, *scratch, c,
                 [&](size_t row, size_t column, const float* values, size_t count) {
                   for (size_t i = 0; i < count; ++i) {
                     found[row * outputs + column + i] = values[i];
                     ++times[row * outputs + column + i];
                   }
                 });
    }
    CHECK(std::all_of(times.begin(), times.end(), [](int n) { return n == 1; }));
    size_t wrong = 0;
    for (size_t m = 0, column = 0; m < kMatrices; column += matrices[m++]->rows) {
      const PackedMatrix& w = *matrices[m];
      const std::vector<float> expected = Multiply(w, all.x, 0, kRows, precision);
      for (size_t r = 0; r < kRows; ++r) {
        wrong += std::memcmp(found.data() + r * outputs + column, expected.data() + r * w.rows,
                             w.rows * sizeof(float)) != 0;
      }
    }
    CAPTURE(precision == Precision::kFast);
    CHECK(wrong == 0);
  }
}

// The first scale of activations in a form of integers.
float FirstScale(const Activations& x, unsigned form) {
  if (form == kFormBytes) return x.bytes->factors.scale;
  return form == kFormPlanes ? x.planes->factors.scale : x.words->factors.scale;
}

// Blocks with every code and every scale byte at one end of its range, f16 scales 1 (minima 0.5).
std::vector<uint8_t> ExtremeBlocks(const QuantSpec& spec, size_t blocks, uint8_t fill) {
  std::vector<uint8_t> bytes(blocks * static_cast<size_t>(spec.source_bytes), fill);
  const auto put = [&](size_t block, size_t at, uint16_t half) {
    std::memcpy(bytes.data() + block * static_cast<size_t>(spec.source_bytes) + at, &half, 2);
  };
  for (size_t i = 0; i < blocks; ++i) {
    const auto [scale, min] = lapidary::testing::HalvesOf(spec.format);
    put(i, static_cast<size_t>(scale), 0x3C00);
    if (min >= 0) put(i, static_cast<size_t>(min), 0x3800);
  }
  return bytes;
}

TEST_CASE("codes and activations at the ends of their ranges overflow nothing") {
  for (const QuantSpec* spec : kAllSpecs) {
    if (spec->is_float()) continue;
    const size_t cols = 256, outputs = 18;
    const size_t blocks = outputs * cols / static_cast<size_t>(spec->source_block);
    // Q8_0 and the scales of Q6_K are signed: 0x7F and 0x80 are their ends, 0x00 and 0xFF those of
    // others.
    for (const int fill : {0xFF, 0x00, 0x7F, 0x80}) {
      const Packed w(spec->format, outputs, cols,
                     ExtremeBlocks(*spec, blocks, static_cast<uint8_t>(fill)));
      for (const Precision precision : kPrecisions) {
        constexpr size_t kRows = 8;
        std::vector<std::vector<float>> rows(kRows, std::vector<float>(cols, 1.0f));
        for (size_t k = 0; k < cols; ++k) {
          rows[1][k] = -1;
          rows[2][k] = k % 2 == 0 ? 1.0f : -1.0f;
          rows[3][k] = k % 4 < 2 ? 1.0f : -1.0f;
          rows[4][k] = k % 8 < 4 ? 1.0f : -1.0f;
          rows[5][k] = k % 32 < 16 ? 1.0f : -1.0f;
          rows[6][k] = k % 3 == 0 ? 1.0f : -1.0f;
          // In 16 bits 127 * 256 - 128: of their two planes, the lower one is at its end.
          const float second =
              precision == Precision::kFast ? 126.0f / 127.0f : 32384.0f / 32639.0f;
          rows[7][k] = k % 32 == 0 ? 1.0f : second;
        }
        const Input input(rows, spec->format, precision);
        const unsigned form = FormsOf(spec->format, precision, Unit::kBest);
        const bool rounds = form == kFormBF16;
        if (!rounds) CHECK(std::abs(FirstScale(input.x, form) * LimitOf(precision) - 1) < 1e-6f);
        const std::vector<float> out = Multiply(w.matrix, input.x, 0, kRows, precision);
        // Codes are equal, so signs that alternate cancel: an error of the size of one product
        // would show.
        double worst = 0;
        size_t different_alone = 0;
        for (size_t r = 0; r < kRows; ++r) {
          const std::vector<float> alone = Multiply(w.matrix, input.x, r, 1, precision);
          different_alone += !std::equal(alone.begin(), alone.end(), out.begin() + r * outputs);
          for (size_t o = 0; o < outputs; ++o) {
            Sum sum;
            for (size_t k = 0; k < cols; ++k) {
              const float weight = rounds ? RoundToBrain(w.value(o, k)) : w.value(o, k);
              sum.Add(static_cast<double>(weight) * static_cast<double>(rows[r][k]));
            }
            // 256 f32 products of about `largest`, summed in groups: 256 * 2^-23. Where activations
            // are not a power of two times their scale, 2^-24 more for each product and for each
            // of up to 16 sums; 16 bits that overflow would be off by a tenth.
            const double bound = r == 7 ? 3e-4 : 4e-5;
            const double largest = static_cast<double>(std::max(w.largest(o), 1.0f));
            const double error = static_cast<double>(out[r * outputs + o]) - sum.value;
            worst = std::max(worst, std::abs(error) / (bound * largest));
          }
        }
        CAPTURE(spec->name, fill, precision == Precision::kFast, worst);
        CHECK(worst < 1);
        CHECK(different_alone == 0);
      }
    }
  }
}

TEST_CASE("an activation of 3e5 in one channel costs less than 1 %") {
  std::mt19937 random(2);
  for (const QuantSpec* spec : kAllSpecs) {
    const size_t cols = 512, outputs = 32;
    const Packed w = Packed::Random(spec->format, outputs, cols, random);
    for (const Precision precision : kPrecisions) {
      std::vector<std::vector<float>> rows = RandomRows(6, cols, random);
      for (std::vector<float>& row : rows) row[100] = 3e5f;
      const Input input(rows, spec->format, precision);
      const std::vector<float> out = Multiply(w.matrix, input.x, 0, 6, precision);
      CAPTURE(spec->name, precision == Precision::kFast);
      size_t wrong = 0;
      for (size_t r = 0; r < 6; ++r) {
        for (size_t o = 0; o < outputs; ++o) {
          Sum sum;
          for (size_t k = 0; k < cols; ++k) {
            sum.Add(static_cast<double>(w.value(o, k)) * static_cast<double>(rows[r][k]));
          }
          // Compared with the output of a channel with the largest weight of the row.
          const double yardstick = 3e5 * static_cast<double>(w.largest(o));
          const double error = std::abs(static_cast<double>(out[r * outputs + o]) - sum.value);
          wrong += !(error < 0.01 * yardstick);
        }
      }
      CHECK(wrong == 0);
    }
  }
}

TEST_CASE("kExact costs 16 bits of accuracy at most") {
  std::mt19937 random(3);
  for (const QuantSpec* spec : kAllSpecs) {
    const size_t cols = 768, outputs = 24;
    const Packed w = Packed::Random(spec->format, outputs, cols, random);
    const Input input(RandomRows(5, cols, random), spec->format, Precision::kExact);
    const std::vector<float> out = Multiply(w.matrix, input.x, 0, 5, Precision::kExact);
    CAPTURE(spec->name);
    size_t wrong = 0;
    for (size_t r = 0; r < 5; ++r) {
      for (size_t o = 0; o < outputs; ++o) {
        double exact = 0, weights = 0;
        for (size_t k = 0; k < cols; ++k) {
          exact += static_cast<double>(w.value(o, k)) * static_cast<double>(input.values[r][k]);
          weights += std::abs(static_cast<double>(w.value(o, k)));
        }
        // Activations reach 5: each is off by half a step of 5 / 32639, or by 2^-17 of itself as
        // bf16 pair.
        const double tolerance = weights * (5 * 0.5 / 32639 + 5e-6);
        wrong += !(std::abs(static_cast<double>(out[r * outputs + o]) - exact) <= tolerance);
      }
    }
    CHECK(wrong == 0);
  }
}

TEST_CASE("stretches of inputs cover a row in whole units and fit the scratch") {
  for (size_t cols = 64; cols <= 22'000; cols += 64) {
    const size_t length = matmul::BlockLength(cols, kBlockInputs);
    REQUIRE(length % 256 == 0);
    REQUIRE(length > 0);
    REQUIRE(length <= kBlockInputs);
  }
}

TEST_CASE("sums of products of bytes stay within 16 bits") {
  for (const QuantSpec* spec : kAllSpecs) {
    if (spec->is_float() || spec->code_bits() >= 8) continue;
    const int quads = matmul::QuadsIn16Bits(spec->code_bits(), spec->group);
    CAPTURE(spec->name, quads);
    CHECK(quads >= 1);
    CHECK(spec->group / 4 % quads == 0);
    CHECK(quads * 2 * 128 * ((1 << spec->code_bits()) - 1) <= 32767);
  }
}

template <size_t... kSizes>
void CheckRowTiles() {
  constexpr size_t kMost = std::max({kSizes...});
  for (size_t rows = 0; rows < 40; ++rows) {
    size_t next = 0;
    bool in_order = true;
    ForRowTiles<kSizes...>(rows, [&](auto tile_rows, size_t r) {
      in_order = in_order && r == next && tile_rows() <= kMost;
      next += tile_rows();
    });
    CHECK(in_order);
    CHECK(next == rows);
  }
}

TEST_CASE("row tiles cover every row once") {
  CheckRowTiles<1>();
  CheckRowTiles<2, 1>();
  CheckRowTiles<4, 4, 1>();
  CheckRowTiles<kTileRows, kRestTileRows, 1>();
  CheckRowTiles<kFloatTileRows, 4, 2, 1>();
}

template <size_t kRows, size_t kVecs>
void CheckPairTile(bool add) {
  std::mt19937 random(4);
  // Vectors of pairs at places of their own, a stride between pairs, rows further apart than
  // needed.
  constexpr size_t kPairs = 9, kStep = 3 * kVectorBytes, kStride = 2 * kPairs + 3,
                   kOut = kVecs * kLanes + 5;
  std::vector<uint8_t> memory(kPairs * kStep);
  for (size_t i = 0; i < memory.size(); i += 2) {
    const uint16_t bits = lapidary::testing::BrainBits(Uniform(random));
    std::memcpy(memory.data() + i, &bits, 2);
  }
  const uint8_t* w[kVecs];
  for (size_t v = 0; v < kVecs; ++v) w[v] = memory.data() + v * 2 * kVectorBytes;
  std::vector<PairInput> x(kRows * kStride + kLanes);
  for (size_t i = 0; i < kRows * kStride; ++i) {
    HWY_ALIGN PairInput stored[kLanes];
    StoreInputs(hn::Set(DF(), RoundToBrain(Uniform(random))), stored);
    x[i] = stored[0];
  }
  std::vector<float> c = UniformVector(random, kRows * kOut);
  const std::vector<float> before = c;
  PairTile<WeightPairs<Format::kBF16>, kRows>(w, kStep, kPairs, x.data(), kStride, add, c.data(),
                                              kOut);
  size_t wrong = 0;
  for (size_t r = 0; r < kRows; ++r) {
    for (size_t i = 0; i < kOut; ++i) {
      const bool computed = i < kVecs * kLanes;
      double expected = computed && !add ? 0.0 : static_cast<double>(before[r * kOut + i]);
      if (computed) {
        for (size_t k = 0; k < 2 * kPairs; ++k) {
          uint16_t bits;
          std::memcpy(&bits, w[i / kLanes] + i % kLanes * 4 + k / 2 * kStep + k % 2 * 2, 2);
          expected += static_cast<double>(FromBrainBits(bits)) *
                      static_cast<double>(hwy::ConvertScalarTo<float>(x[r * kStride + k]));
        }
      }
      wrong += !(std::abs(static_cast<double>(c[r * kOut + i]) - expected) <= 2e-6);
    }
  }
  CAPTURE(kRows, kVecs, add);
  CHECK(wrong == 0);
}

TEST_CASE("a tile of pairs is stored or added to what is there, and touches nothing else") {
  for (const bool add : {false, true}) {
    CheckPairTile<1, 2>(add);
    CheckPairTile<2, 2>(add);
    CheckPairTile<kFloatTileRows, 2>(add);
    CheckPairTile<1, 1>(add);
    CheckPairTile<2 * kFloatTileRows, 1>(add);
  }
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace lapidary
HWY_AFTER_NAMESPACE();
