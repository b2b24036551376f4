// Upper bounds of products with weights of which only the high bits are read.
//
// A weight in two planes is scale * (16 high + low - 128). With low replaced by its mean, 7.5, a
// product with the activations x is off by
//   sum over groups of scale * sum over inputs of (low - 7.5) x.
// Low bits behave like random ones, so this is a sum of independent terms of mean 0 whose variance
// is known: 21.25 (that of 0 .. 15) times the sum of (scale x)^2. The kernel computes both, and the
// bound of an output is its coarse product plus kCoarseDeviations standard deviations. Rows that
// are computed together take the largest sums of x^2 among them, group by group: then the variance
// costs no more for four rows than for one.
//
// A sum of uniform terms exceeds m deviations with a probability of at most e^(-m^2 / 2), 3e-11
// for 7 and less for one that is nearly normal (1e-12). What is not quite random is that the
// largest weight of a group has the code 1 or 255, and therefore low bits that lengthen it: a row
// that fits the activations well is underestimated by up to one deviation.
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

// Activations [rows, cols] for CoarsePair. All rows are x.groups() groups apart.
struct CoarseActivations {
  Activations x;     // in the form kFormBytes; of the factors, see StoreCoarse
  float* variances;  // [rows, groups]: of the error of a group whose scale is 1
};

// Bytes that BindCoarse takes from a buffer.
constexpr size_t CoarseActivationBytes(size_t rows, size_t cols) {
  return ActivationBytes(rows, cols) +
         sizeof(float) * rows * (PadActivations(cols) / kActivationGroup);
}

inline CoarseActivations BindCoarseActivations(uint8_t* buffer, size_t rows, size_t cols) {
  CoarseActivations coarse;
  coarse.x = BindActivations(buffer, rows, cols);
  coarse.variances = reinterpret_cast<float*>(buffer + ActivationBytes(rows, cols));
  return coarse;
}

// Writes row `row` of `to` from x, [cols]. The factors of a group become what CoarsePair needs of
// them: `scale` that of products with the high bits, `sum` what their sums begin with.
inline void StoreCoarse(const float* HWY_RESTRICT x, const CoarseActivations& to, size_t row) {
  StoreActivations(x, 0, to.x.cols, kFormBytes, Precision::kFast, to.x, row);
  const size_t groups = to.x.groups();
  for (size_t g = 0; g < groups; ++g) {
    GroupFactors& factors = GroupAt<kFormBytes>(to.x, row, g * kActivationGroup)->factors;
    // weight = 16 scale (high + 7.5 / 16 - 8). Rounding to an integer moves a product by less than
    // a hundredth of its deviation.
    factors.sum = static_cast<int32_t>(std::lrint(-7.53125f * static_cast<float>(factors.sum)));
    float squares = 0;
    const size_t begin = g * kActivationGroup;
    for (size_t i = begin; i < std::min(begin + kActivationGroup, to.x.cols); ++i) {
      squares += x[i] * x[i];
    }
    // The activations are rounded too: by errors of a twelfth of a squared step each, times weights
    // of at most 128.
    constexpr float kRounding = kActivationGroup * 128.0f * 128.0f / 12;
    to.variances[row * groups + g] = 21.25f * squares + kRounding * factors.scale * factors.scale;
    factors.scale *= 16;
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

// CoarsePair for kPanels panels of the pair, from panel `first` on.
template <Format kFormat, size_t kRows, size_t kPanels>
HWY_INLINE void CoarsePanels(const PanelPair& panels, size_t first, const CoarseActivations& x,
                             const float* HWY_RESTRICT variances, size_t row,
                             float* HWY_RESTRICT bounds, size_t stride, size_t offset) {
  constexpr QuantSpec kSpec = SpecOf(kFormat);
  static_assert(kSpec.bits == 8 && kSpec.low_bits == 4 && kSpec.group == 32 &&
                kSpec.scale == ScaleKind::kF16 && !kSpec.has_min);
  // The units have the layout of Q4_0.
  constexpr matmul::GroupTraits kTraits = {kFormBytes, kSpec.group, false,
                                           kHasByteDot ? 0 : matmul::QuadsIn16Bits(4, kSpec.group)};
  constexpr size_t kVectors = kPanels * kPanelVectors;
  constexpr size_t kGroups = kSpec.unit_groups();
  const DF d;
  VF product[kRows][kVectors], variance[kVectors];
  SetZero(product);
  HWY_UNROLL(8) for (size_t v = 0; v < kVectors; ++v) variance[v] = hn::Zero(d);
  // Of one panel, both are the same.
  const uint8_t* units[2] = {panels.units[first], panels.units[first + kPanels - 1]};
  const size_t groups = x.x.groups();
  const size_t panel_bytes = groups / kGroups * kSpec.unit_bytes();
  for (size_t group = 0; group < groups; group += kGroups) {
    if constexpr (kRows > 1) {  // between which memory would wait for arithmetic
      HWY_UNROLL(2) for (size_t p = 0; p < kPanels; ++p) {
        PrefetchBytes<kSpec.unit_bytes(), 2>(units[p] + panel_bytes);
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
      matmul::DotGroup<kTraits>(
          matmul::PanelWeights<Format::kQ4_0>{{}, {units[0] + slab, units[1] + slab}, {}, g, 0},
          x_group, x.x.group_stride, 0, sum);
      HWY_UNROLL(8) for (size_t v = 0; v < kVectors; ++v) {
        const VF scale = LoadScales<kFormat>(units[v / kPanelVectors], g, v % kPanelVectors);
        variance[v] =
            hn::MulAdd(hn::Mul(scale, scale), hn::Set(d, variances[group + g]), variance[v]);
        HWY_UNROLL(4) for (size_t r = 0; r < kRows; ++r) {
          matmul::AddScaled(sum[r][v], scale, x_group[r * x.x.group_stride].factors.scale,
                            product[r][v]);
        }
      }
    }
    units[0] += kSpec.unit_bytes();
    units[1] += kSpec.unit_bytes();
  }
  VF margin[kVectors];
  HWY_UNROLL(8) for (size_t v = 0; v < kVectors; ++v) {
    margin[v] = hn::Mul(hn::Sqrt(variance[v]), hn::Set(d, kCoarseDeviations));
  }
  for (size_t r = 0; r < kRows; ++r) {
    for (size_t p = 0; p < kPanels; ++p) {
      VF largest = hn::Set(d, -HUGE_VALF);
      for (size_t v = p * kPanelVectors; v < (p + 1) * kPanelVectors; ++v) {
        largest = hn::Max(largest, hn::Add(product[r][v], margin[v]));
      }
      bounds[r * stride + (first + p) * offset] = hn::ReduceMax(d, largest);
    }
  }
}

// For rows [row, row + kRows) of x and each panel p of the pair, the largest bound of its 16
// outputs: bounds[r * stride + p * offset]. variances [groups] are at least those of these rows.
// Reads the units of the panels, not their low slabs.
template <Format kFormat, size_t kRows>
HWY_NOINLINE void CoarsePair(const PanelPair& panels, const CoarseActivations& x,
                             const float* HWY_RESTRICT variances, size_t row,
                             float* HWY_RESTRICT bounds, size_t stride, size_t offset) {
  if constexpr (kRows * kPanelVectors <= 4) {
    // Both panels at once, as a row of a matmul does.
    CoarsePanels<kFormat, kRows, 2>(panels, 0, x, variances, row, bounds, stride, offset);
  } else {
    // The sums of more rows fill the registers for one panel (8 rows of the 270M's head: 14 ms, in
    // tiles of two rows 16 ms, two cores of Zen 3).
    CoarsePanels<kFormat, kRows, 1>(panels, 0, x, variances, row, bounds, stride, offset);
    CoarsePanels<kFormat, kRows, 1>(panels, 1, x, variances, row, bounds, stride, offset);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace lapidary
HWY_AFTER_NAMESPACE();

#endif  // include guard
