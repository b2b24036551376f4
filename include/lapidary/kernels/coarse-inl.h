// Upper bounds of products with weights of which only the highest bits are read.
//
// A weight in planes is scale * (64 high + 16 middle + low - 128). With what is not read replaced
// by its mean, 31.5, or of a *fine* group, whose middle bits are read, 7.5, a product with the
// activations x is off by
//   sum over groups of scale * sum over inputs of (unread - mean) x.
// Low bits behave like random ones, so this is a sum of independent terms of mean 0 whose variance
// is known: that of 0 .. 63 or 0 .. 15 times the sum of (scale x)^2. The kernel computes both, and
// the bound of an output is its coarse product plus kCoarseDeviations standard deviations. Rows
// that are computed together take the largest sums of x^2 among them, group by group: then the
// variance costs no more for four rows than for one.
//
// Few groups hold most of the sum of x^2 of a hidden state (4 of 20 groups 52 %, 8 of 640 inputs
// 46 %; text, real 270M, tests/parity/head_bits.py): to read the middle bits of these few is worth
// nearly as much as a bit more of all weights.
//
// A sum of uniform terms exceeds m deviations with a probability of at most e^(-m^2 / 2), 3e-11
// for 7 and less for one that is nearly normal (1e-12). What is not quite random is that the
// largest weight of a group has the code 1 or 255, and therefore low bits that lengthen it: a row
// that fits the activations well is underestimated, by 0.65 to 0.85 deviations on average (ibid.).
//
// (A bound for the worst case, |low - 7.5| = 7.5 everywhere, is useless: it lets a tenth and more
// of all rows pass.)
#if defined(LAPIDARY_KERNELS_COARSE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef LAPIDARY_KERNELS_COARSE_INL_H_
#undef LAPIDARY_KERNELS_COARSE_INL_H_
#else
#define LAPIDARY_KERNELS_COARSE_INL_H_
#endif

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>

#include "lapidary/kernels/group_dot-inl.h"
#include "lapidary/kernels/panel-inl.h"
#include "lapidary/kernels/quantize-inl.h"
#include "lapidary/kernels/simd-inl.h"
#include "lapidary/kernels/tile-inl.h"
#include "lapidary/weights/quant.h"

HWY_BEFORE_NAMESPACE();
namespace lapidary {
namespace HWY_NAMESPACE {

inline constexpr float kCoarseDeviations = 7.0f;

// Rows of activations of a register tile.
inline constexpr size_t kCoarseTileRows = 4;

// Pair i of a matrix in planes, as PairOf finds it, for those who pass over the highest bits of all
// pairs: units are asked for so many bytes ahead (`bounds/1/units/270M` of lapidary_bench: 0.79 ms;
// 0.85 with 4 KB, 0.83 with 12 KB; one core of Zen 5), middle slabs, of which few may be wanted,
// when the panel before is read.
inline constexpr ptrdiff_t kCoarsePrefetchBytes = 8192;
HWY_INLINE PanelPair CoarsePairOf(const PackedMatrix& w, size_t i) {
  PanelPair pair = PairOf(w, i);
  const auto middle = static_cast<ptrdiff_t>(kQ8_0PlanesSpec.plane_bytes(Plane::kMiddle, w.cols));
  for (size_t p = 0; p < 2; ++p) {
    pair.units_ahead[p] = kCoarsePrefetchBytes;
    pair.middles_ahead[p] = middle;
  }
  return pair;
}

// Activations [rows, cols] for CoarsePair. All rows are x.groups() groups apart.
struct CoarseActivations {
  Activations x;     // in the form kFormBytes; of the factors, see StoreCoarse
  float* variances;  // [rows, groups]: of the error of a group whose scale is 1
  bool* fine;        // [groups]: whether all rows read the middle bits too
};

// Bytes that BindCoarse takes from a buffer.
constexpr size_t CoarseActivationBytes(size_t rows, size_t cols) {
  return ActivationBytes(rows, cols) +
         (sizeof(float) * rows + sizeof(bool)) * (PadActivations(cols) / kActivationGroup);
}

inline CoarseActivations BindCoarseActivations(uint8_t* buffer, size_t rows, size_t cols) {
  CoarseActivations coarse;
  coarse.x = BindActivations(buffer, rows, cols);
  coarse.variances = reinterpret_cast<float*>(buffer + ActivationBytes(rows, cols));
  coarse.fine = reinterpret_cast<bool*>(coarse.variances + rows * coarse.x.groups());
  return coarse;
}

// The variance of the bits of a weight that are not read, if its scale is 1: that of the numbers 0
// .. 15 or 0 .. 63.
constexpr float CoarseVariance(bool fine) { return fine ? 255 / 12.0f : 4095 / 12.0f; }

// The sums of the squares of each group of x, [cols], whole groups: squares [groups], zeros behind
// the last input.
inline void SquaresOfGroups(const float* HWY_RESTRICT x, size_t cols, std::span<float> squares) {
  const DF d;
  for (size_t g = 0; g < squares.size(); ++g) {
    VF sum = hn::Zero(d);
    for (size_t i = g * kActivationGroup; i < std::min((g + 1) * kActivationGroup, cols);
         i += kLanes) {
      const VF value = hn::LoadU(d, x + i);
      sum = hn::MulAdd(value, value, sum);
    }
    squares[g] = hn::ReduceSum(d, sum);
  }
}

// Makes `count` groups fine: those with the largest squares.
inline void ChooseFineGroups(std::span<const float> squares, size_t count,
                             const CoarseActivations& to) {
  std::fill_n(to.fine, to.x.groups(), count >= squares.size());
  for (size_t n = 0; n < count && count < squares.size(); ++n) {
    size_t largest = squares.size();
    for (size_t g = 0; g < squares.size(); ++g) {
      const bool larger = largest == squares.size() || squares[g] > squares[largest];
      if (!to.fine[g] && larger) largest = g;
    }
    to.fine[largest] = true;
  }
}

// Writes row `row` of `to` from x, [cols]. The factors of a group become what CoarsePair needs of
// them: `scale` that of products with the bits that are read, `sum` what their sums begin with.
inline void StoreCoarse(const float* HWY_RESTRICT x, const CoarseActivations& to, size_t row) {
  StoreActivations(x, 0, to.x.cols, kFormBytes, Precision::kFast, to.x, row);
  const size_t groups = to.x.groups();
  const std::span<float> variances(to.variances + row * groups, groups);
  SquaresOfGroups(x, to.x.cols, variances);
  for (size_t g = 0; g < groups; ++g) {
    // weight = step scale (read - zero)
    const float step = to.fine[g] ? 16.0f : 64.0f;
    const float zero = 128.5f / step - 0.5f;
    GroupFactors& factors = GroupAt<kFormBytes>(to.x, row, g * kActivationGroup)->factors;
    // Rounding to an integer moves a product by less than a hundredth of its deviation.
    factors.sum = static_cast<int32_t>(std::lrint(-zero * static_cast<float>(factors.sum)));
    // The activations are rounded too: by errors of a twelfth of a squared step each, times weights
    // of at most 128.
    constexpr float kRounding = kActivationGroup * 128.0f * 128.0f / 12;
    variances[g] =
        CoarseVariance(to.fine[g]) * variances[g] + kRounding * factors.scale * factors.scale;
    factors.scale *= step;
  }
}

// The largest variance of every group among the first `rows` rows of x, at least one: largest
// [groups].
inline void FindLargestVariances(const CoarseActivations& x, size_t rows,
                                 float* HWY_RESTRICT largest) {
  const size_t groups = x.x.groups();
  std::copy_n(x.variances, groups, largest);
  for (size_t r = 1; r < rows; ++r) {
    for (size_t g = 0; g < groups; ++g) {
      largest[g] = std::max(largest[g], x.variances[r * groups + g]);
    }
  }
}

// Of groups of 32 codes of so many bits.
constexpr matmul::GroupTraits CoarseTraits(int bits) {
  return {kFormBytes, kActivationGroup, false,
          kHasByteDot ? 0 : matmul::QuadsIn16Bits(bits, kActivationGroup)};
}

// Where a slab's weights come from, as for a matmul: the 2 bits of its units, or with the middle
// bits 4.
struct UnitWeights {
  Slab slabs[2];  // of the two panels of a pair
  HWY_INLINE VU8 Codes(int q, size_t v) const {
    return LoadCodes<Format::kQ2_K>(slabs[v / kPanelVectors], q, v % kPanelVectors);
  }
};
struct FineWeights {
  Slab slabs[2];
  HWY_INLINE VU8 Codes(int q, size_t v) const {
    return hn::And(LoadNibbles<true>(slabs[v / kPanelVectors], q, v % kPanelVectors),
                   hn::Set(DU8(), 0x0F));
  }
};

// CoarsePair for kPanels panels of the pair, from panel `first` on.
template <Format kFormat, size_t kRows, size_t kPanels>
HWY_INLINE void CoarsePanels(const PanelPair& panels, size_t first, const CoarseActivations& x,
                             const float* HWY_RESTRICT variances, size_t row,
                             float* HWY_RESTRICT bounds, size_t stride, size_t offset) {
  constexpr QuantSpec kSpec = SpecOf(kFormat);
  static_assert(kSpec.plane_bits(Plane::kUnits) == 2 && kSpec.middle_bits == 2 &&
                kSpec.low_bits == 4 && kSpec.group == 32 && kSpec.scale == ScaleKind::kF16 &&
                !kSpec.has_min);
  constexpr size_t kVectors = kPanels * kPanelVectors;
  constexpr size_t kGroups = kSpec.unit_groups();
  constexpr size_t kMiddleBytes = kSpec.slab_bytes(Plane::kMiddle);
  // Several rows take so long with what is there that the first level would lose what comes.
  constexpr int kLevel = kRows == 1 ? 1 : 2;
  const DF d;
  VF product[kRows][kVectors], variance[kVectors];
  SetZero(product);
  HWY_UNROLL(8) for (size_t v = 0; v < kVectors; ++v) variance[v] = hn::Zero(d);
  // Of one panel, both are the same.
  const uint8_t* units[2] = {panels.units[first], panels.units[first + kPanels - 1]};
  const uint8_t* middles[2] = {panels.middles[first], panels.middles[first + kPanels - 1]};
  const size_t groups = x.x.groups();
  for (size_t group = 0; group < groups; group += kGroups) {
    if constexpr (kManyRegisters || kRows > 1) {
      HWY_UNROLL(2) for (size_t p = 0; p < kPanels; ++p) {
        PrefetchBytes<kSpec.unit_bytes(), kLevel>(units[p] + panels.units_ahead[first + p]);
      }
    }
    HWY_UNROLL(2) for (size_t g = 0; g < kGroups; ++g) {
      const size_t slab = kSpec.slabs_offset() + g * kSpec.slab_bytes();
      const ByteGroup* HWY_RESTRICT x_group =
          GroupAt<kFormBytes>(x.x, row, (group + g) * kActivationGroup);
      VI32 sum[kRows][kVectors];
      HWY_UNROLL(4) for (size_t r = 0; r < kRows; ++r) {
        const VI32 start = hn::Set(DI32(), x_group[r * x.x.group_stride].factors.sum);
        HWY_UNROLL(8) for (size_t v = 0; v < kVectors; ++v) sum[r][v] = start;
      }
      const Slab slabs[2] = {{units[0] + slab, middles[0]}, {units[1] + slab, middles[1]}};
      if (kRows > 1 || x.fine[group + g]) {
        HWY_UNROLL(2) for (size_t p = 0; p < kPanels; ++p) {
          PrefetchBytes<kMiddleBytes, kLevel>(middles[p] + panels.middles_ahead[first + p]);
        }
        matmul::DotGroup<CoarseTraits(4)>(FineWeights{{slabs[0], slabs[1]}}, x_group,
                                          x.x.group_stride, 0, sum);
      } else {
        matmul::DotGroup<CoarseTraits(2)>(UnitWeights{{slabs[0], slabs[1]}}, x_group,
                                          x.x.group_stride, 0, sum);
      }
      HWY_UNROLL(8) for (size_t v = 0; v < kVectors; ++v) {
        const VF scale = LoadScales<kFormat>(units[v / kPanelVectors], g, v % kPanelVectors);
        variance[v] =
            hn::MulAdd(hn::Mul(scale, scale), hn::Set(d, variances[group + g]), variance[v]);
        HWY_UNROLL(4) for (size_t r = 0; r < kRows; ++r) {
          matmul::AddScaled(sum[r][v], scale, x_group[r * x.x.group_stride].factors.scale,
                            product[r][v]);
        }
      }
      middles[0] += kMiddleBytes;
      middles[1] += kMiddleBytes;
    }
    units[0] += kSpec.unit_bytes();
    units[1] += kSpec.unit_bytes();
  }
  VF margin[kVectors];
  HWY_UNROLL(8) for (size_t v = 0; v < kVectors; ++v) {
    margin[v] = hn::Mul(hn::Sqrt(variance[v]), hn::Set(d, kCoarseDeviations));
  }
  // Unrolled like all loops over sums: else these are kept in memory, not in registers (a step of 8
  // sessions of the 270M takes 1.08 times as long).
  HWY_UNROLL(4) for (size_t r = 0; r < kRows; ++r) {
    HWY_UNROLL(2) for (size_t p = 0; p < kPanels; ++p) {
      VF largest = hn::Set(d, -HUGE_VALF);
      HWY_UNROLL(4) for (size_t v = p * kPanelVectors; v < (p + 1) * kPanelVectors; ++v) {
        largest = hn::Max(largest, hn::Add(product[r][v], margin[v]));
      }
      bounds[r * stride + (first + p) * offset] = hn::ReduceMax(d, largest);
    }
  }
}

// For rows [row, row + kRows) of x and each panel p of the pair, the largest bound of its 16
// outputs: bounds[r * stride + p * offset]. variances [groups] are at least those of these rows.
// Reads the units of the panels (which should know what comes next), and of fine groups
// the middle bits. Precondition: of several rows, all groups are fine (their time is that of
// arithmetic, which is no less without).
template <Format kFormat, size_t kRows>
HWY_NOINLINE void CoarsePair(const PanelPair& panels, const CoarseActivations& x,
                             const float* HWY_RESTRICT variances, size_t row,
                             float* HWY_RESTRICT bounds, size_t stride, size_t offset) {
  if constexpr (kManyRegisters && kRows * kPanelVectors <= 4) {
    // Both panels at once, as a row of a matmul does.
    CoarsePanels<kFormat, kRows, 2>(panels, 0, x, variances, row, bounds, stride, offset);
  } else {
    // The sums of more rows fill the registers for one panel (8 rows of the 270M's head: 14 ms, in
    // tiles of two rows 16 ms, two cores of Zen 3), and with AVX2 those of one row and nibbles that
    // wait for their quads do (middle bits of all groups: 2.0 instead of 2.6 ms per 128 MB of
    // planes, Zen 5 with AVX2).
    CoarsePanels<kFormat, kRows, 1>(panels, 0, x, variances, row, bounds, stride, offset);
    CoarsePanels<kFormat, kRows, 1>(panels, 1, x, variances, row, bounds, stride, offset);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace lapidary
HWY_AFTER_NAMESPACE();

#endif  // include guard
