// Activations in the forms that the matmul kernels read.
#if defined(LAPIDARY_KERNELS_QUANTIZE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef LAPIDARY_KERNELS_QUANTIZE_INL_H_
#undef LAPIDARY_KERNELS_QUANTIZE_INL_H_
#else
#define LAPIDARY_KERNELS_QUANTIZE_INL_H_
#endif

#include <cmath>
#include <cstddef>
#include <cstdint>

#include "lapidary/config/precision.h"
#include "lapidary/kernels/amx-inl.h"
#include "lapidary/kernels/simd-inl.h"
#include "lapidary/kernels/tile-inl.h"
#include "lapidary/weights/quant.h"

HWY_BEFORE_NAMESPACE();
namespace lapidary {
namespace HWY_NAMESPACE {

// Inputs that share one activation scale. Measured on the real 270M with 8-bit activations: mean KL
// to float32 is 0.0028 with 32, 0.0086 with 128, 0.040 with one scale per row.
inline constexpr size_t kActivationGroup = 32;
// Rows of activations are padded with zeros to this many inputs.
inline constexpr size_t kActivationPadding = 64;

constexpr size_t PadActivations(size_t cols) {
  return (cols + kActivationPadding - 1) / kActivationPadding * kActivationPadding;
}

// The forms, as bits of a set: a producer of activations writes those that the consuming matrices
// read.
enum Form : unsigned {
  kFormF32 = 1,    // f32; for float weights
  kFormBF16 = 2,   // bf16 (nearest even) and, in kExact, what rounding lost as bf16 again; for bf16
                   // weights and, in kFast, those that are rounded to bf16
  kFormBytes = 4,  // 8-bit integers
  kFormPlanes = 8,  // 16-bit integers as two planes of bytes, value = 256 * high + low
  kFormWords = 16,  // integers in 16 bits; four inputs are stored in the order 0 2 1 3
};

// Largest magnitudes: 8 bits symmetric, and 127 * 256 + 127, the largest that two signed bytes
// hold.
inline constexpr float kMaxByte = 127.0f;
inline constexpr float kMaxWord = 32639.0f;

// Whether quantised weights are rounded to bf16 and multiplied by AMX: kFast where there is AMX.
// Sums of one group at a time, as integers need them, leave most of the unit idle (280 GOP/s a core
// of Emerald Rapids in kExact), sums over all inputs less of it (1040), and 8 bits of mantissa are
// closer than 8-bit activations.
inline bool RoundsCodes(Precision precision) {
  if constexpr (!kMayHaveAmx) return false;
  return precision == Precision::kFast && HasAmx();
}

// The form of activations that vectors want to multiply `rows` rows of them by weights of a format.
constexpr unsigned VectorFormFor(Format format, Precision precision, size_t rows) {
  const QuantSpec& spec = SpecOf(format);
  if (spec.is_float()) {
    const bool brain =
        format == Format::kBF16 || (format == Format::kF16 && precision == Precision::kFast);
    return kHasBF16Dot && brain ? kFormBF16 : kFormF32;
  }
  const bool exact = precision == Precision::kExact;
  if (kHasByteDot) return exact ? kFormPlanes : kFormBytes;
  // Without a byte dot product, sums of products of bytes pass through 16 bits, which is too narrow
  // for 8-bit weights; products of 16-bit values pass through 32 and cost twice as much. Those need
  // the codes of even inputs apart from those of odd ones, which takes longer than a second plane
  // where it serves one row, if sums of codes rarely have to leave the 16 bits: 32 inputs of 8
  // outputs take 34 instead of 48 instructions with codes of 4 bits, 36 with 5. With 6 they would
  // have to leave after every second step.
  if (exact) {
    const bool in_place = rows <= InPlaceRows(format, precision);
    return in_place && spec.code_bits() <= 5 ? kFormPlanes : kFormWords;
  }
  return spec.code_bits() < 8 ? kFormBytes : kFormWords;
}

// The form of activations that multiplying `rows` rows of them by weights of a format wants.
inline unsigned FormFor(Format format, Precision precision, size_t rows) {
  if (!SpecOf(format).is_float() && RoundsCodes(precision)) return kFormBF16;
  return VectorFormFor(format, precision, rows);
}

// From one row to the next. Rows whose distance is a multiple of a page lie in the same few places
// of a first-level cache: tiles of 32 rows of bf16 made 1.05 TFLOP/s where others made 1.25 (2048
// and 10240 inputs, one core of Emerald Rapids).
constexpr size_t ActivationStride(size_t cols) {
  const size_t inputs = PadActivations(cols);
  return inputs % 512 == 0 ? inputs + kActivationPadding : inputs;
}

// What the integers of a group share.
struct GroupFactors {
  float scale;         // activation = scale * integer
  float value_sum;     // of the activations: scale * sum
  int32_t sum;         // of the integers
  int32_t first_half;  // of the first 16 integers
};

// A group in each form of integers. They lie beside what they share, because a register tile reads
// both of six rows for every group of weights, and finds them with one pointer a row.
struct ByteGroup {
  GroupFactors factors;
  int8_t bytes[kActivationGroup];
};
struct PlaneGroup {
  GroupFactors factors;
  int8_t high[kActivationGroup];
  int8_t low[kActivationGroup];
};
struct WordGroup {
  GroupFactors factors;
  int16_t words[kActivationGroup];
};

// The same for rows of groups.
constexpr size_t GroupStride(size_t cols) {
  const size_t groups = PadActivations(cols) / kActivationGroup;
  return groups % 64 == 0 ? groups + 1 : groups;
}

// Rows of activations [rows, cols] in one or more forms, padded with zeros to inputs().
struct Activations {
  size_t cols = 0;
  size_t stride = 0;                    // ActivationStride(cols)
  float* f32 = nullptr;                 // [rows, stride]
  hwy::bfloat16_t* bf16 = nullptr;      // [rows, stride]
  hwy::bfloat16_t* bf16_low = nullptr;  // [rows, stride]
  size_t group_stride = 0;              // GroupStride(cols)
  ByteGroup* bytes = nullptr;           // [rows, group_stride]
  PlaneGroup* planes = nullptr;         // [rows, group_stride]
  WordGroup* words = nullptr;           // [rows, group_stride]

  size_t inputs() const { return PadActivations(cols); }
  size_t groups() const { return inputs() / kActivationGroup; }
};

// The group in which input k of a row lies; those of the next row are group_stride behind it.
template <unsigned kForm>
HWY_INLINE auto* GroupAt(const Activations& x, size_t row, size_t k) {
  const size_t at = row * x.group_stride + k / kActivationGroup;
  if constexpr (kForm == kFormBytes) return x.bytes + at;
  if constexpr (kForm == kFormPlanes) return x.planes + at;
  if constexpr (kForm == kFormWords) return x.words + at;
}

// Bytes of a part of the buffer that BindActivations divides; all parts are 64-byte aligned.
constexpr size_t AlignedBytes(size_t bytes) { return (bytes + 63) / 64 * 64; }

// Bytes that BindActivations takes from a buffer for `rows` rows.
constexpr size_t ActivationBytes(size_t rows, size_t cols) {
  const size_t n = rows * ActivationStride(cols);
  const size_t groups = rows * GroupStride(cols);
  return n * (4 + 2 + 2) + AlignedBytes(groups * sizeof(ByteGroup)) +
         AlignedBytes(groups * sizeof(PlaneGroup)) + AlignedBytes(groups * sizeof(WordGroup));
}

// Lays the forms out in a buffer of ActivationBytes(rows, cols), 64-byte aligned.
inline Activations BindActivations(uint8_t* buffer, size_t rows, size_t cols) {
  Activations a;
  a.cols = cols;
  a.stride = ActivationStride(cols);
  a.group_stride = GroupStride(cols);
  const size_t n = rows * a.stride;
  const size_t groups = rows * a.group_stride;
  a.f32 = reinterpret_cast<float*>(buffer);
  a.bf16 = reinterpret_cast<hwy::bfloat16_t*>(buffer + 4 * n);
  a.bf16_low = reinterpret_cast<hwy::bfloat16_t*>(buffer + 6 * n);
  buffer += 8 * n;
  a.bytes = reinterpret_cast<ByteGroup*>(buffer);
  buffer += AlignedBytes(groups * sizeof(ByteGroup));
  a.planes = reinterpret_cast<PlaneGroup*>(buffer);
  buffer += AlignedBytes(groups * sizeof(PlaneGroup));
  a.words = reinterpret_cast<WordGroup*>(buffer);
  return a;
}

namespace quantize {

// Stores 16-bit integers q (kLanes * 2 of them, in order) in the order 0 2 1 3 of every four.
HWY_INLINE VI16 SwapMiddle(VI16 q) {
  const hn::Repartition<uint64_t, DF> du64;
  // In every 64 bits: a b c d -> a c b d.
  const auto v = hn::BitCast(du64, q);
  const auto outer = hn::And(v, hn::Set(du64, 0xFFFF00000000FFFFull));
  const auto b = hn::ShiftLeft<16>(hn::And(v, hn::Set(du64, 0x00000000FFFF0000ull)));
  const auto c = hn::ShiftRight<16>(hn::And(v, hn::Set(du64, 0x0000FFFF00000000ull)));
  return hn::BitCast(DI16(), hn::Or(outer, hn::Or(b, c)));
}

// The sums of the lanes of two vectors, in the first lane of the lower and of the upper half: both
// together take half the steps.
HWY_INLINE VI32 SumsOfTwo(VI32 a, VI32 b) {
  const DI32 d;
  VI32 sums = hn::Add(hn::ConcatLowerLower(d, b, a), hn::ConcatUpperUpper(d, b, a));
  if constexpr (kLanes >= 16) sums = hn::Add(sums, hn::SwapAdjacentBlocks(sums));
  if constexpr (kLanes >= 8) sums = hn::Add(sums, hn::Shuffle1032(sums));
  return hn::Add(sums, hn::Shuffle2301(sums));
}

// Stores integers that fit into bytes, in order.
template <size_t kVectors>
HWY_INLINE void StoreBytes(const VI32 (&q)[kVectors], int8_t* HWY_RESTRICT to) {
  const hn::Rebind<int8_t, DI16> d8;
  HWY_UNROLL(4) for (size_t v = 0; v < kVectors; v += 2) {
    const VI16 words = hn::OrderedDemote2To(DI16(), q[v], q[v + 1]);
    hn::StoreU(hn::DemoteTo(d8, words), d8, to + v * kLanes);
  }
}

// One group of 32 inputs into integers of magnitude at most `limit`: group `at` in the forms of
// `out`.
HWY_INLINE void Group(const float* HWY_RESTRICT x, unsigned forms, float limit,
                      const Activations& out, size_t at) {
  constexpr size_t kVectors = kActivationGroup / kLanes;
  const DF d;
  const DI32 di;
  VF values[kVectors];
  VF largest = hn::Zero(d);
  HWY_UNROLL(8) for (size_t v = 0; v < kVectors; ++v) {
    values[v] = hn::LoadU(d, x + v * kLanes);
    largest = hn::Max(largest, hn::Abs(values[v]));
  }
  const float max = hn::ReduceMax(d, largest);
  // Below 1e-30 the inverse would overflow; such a group is zero to any accuracy that matters.
  const VF inverse = hn::Set(d, max > 1e-30f ? limit / max : 0.0f);
  GroupFactors factors;
  factors.scale = max > 1e-30f ? max / limit : 0.0f;

  VI32 q[kVectors];
  HWY_UNROLL(8) for (size_t v = 0; v < kVectors; ++v) {
    q[v] = hn::NearestInt(hn::Mul(values[v], inverse));
  }
  static_assert(kVectors % 2 == 0);
  VI32 halves[2] = {q[0], q[kVectors / 2]};
  HWY_UNROLL(4) for (size_t v = 1; v < kVectors / 2; ++v) {
    HWY_UNROLL(2) for (size_t h = 0; h < 2; ++h) {
      halves[h] = hn::Add(halves[h], q[h * (kVectors / 2) + v]);
    }
  }
  const VI32 sums = SumsOfTwo(halves[0], halves[1]);
  factors.first_half = hn::GetLane(sums);
  factors.sum = factors.first_half + hn::ExtractLane(sums, kLanes / 2);
  factors.value_sum = factors.scale * static_cast<float>(factors.sum);

  if (forms & kFormBytes) {
    out.bytes[at].factors = factors;
    StoreBytes(q, out.bytes[at].bytes);
  }
  if (forms & kFormPlanes) {
    out.planes[at].factors = factors;
    VI32 high[kVectors], low[kVectors];
    HWY_UNROLL(8) for (size_t v = 0; v < kVectors; ++v) {
      // high = (q + 128) >> 8 leaves a low part in -128 .. 127.
      high[v] = hn::ShiftRight<8>(hn::Add(q[v], hn::Set(di, 128)));
      low[v] = hn::Sub(q[v], hn::ShiftLeft<8>(high[v]));
    }
    StoreBytes(high, out.planes[at].high);
    StoreBytes(low, out.planes[at].low);
  }
  if (forms & kFormWords) {
    out.words[at].factors = factors;
    HWY_UNROLL(4) for (size_t v = 0; v < kVectors; v += 2) {
      const VI16 words = hn::OrderedDemote2To(DI16(), q[v], q[v + 1]);
      hn::StoreU(SwapMiddle(words), DI16(), out.words[at].words + v * kLanes);
    }
  }
}

}  // namespace quantize

// Writes `count` inputs of a row, from input `begin` on (a multiple of 32; so is count unless it
// ends the row), in all wanted forms; zeros the padding when it ends the row. x holds the count
// inputs and may be out.f32 itself.
HWY_NOINLINE inline void StoreActivations(const float* HWY_RESTRICT x, size_t begin, size_t count,
                                          unsigned forms, Precision precision,
                                          const Activations& out, size_t row) {
  const DF d;
  const size_t at = row * out.stride;
  const size_t end = begin + count == out.cols ? out.inputs() : begin + count;
  if (forms & kFormF32) {
    float* to = out.f32 + at;
    for (size_t i = begin; i < end; ++i) to[i] = i < begin + count ? x[i - begin] : 0.0f;
  }
  if (forms & kFormBF16) {
    const hn::Rebind<hwy::bfloat16_t, DF> dh;
    for (size_t i = begin; i < end; i += kLanes) {
      const VF v = i < begin + count ? hn::LoadN(d, x + i - begin, begin + count - i) : hn::Zero(d);
      const auto high = hn::DemoteTo(dh, v);
      hn::StoreU(high, dh, out.bf16 + at + i);
      if (precision == Precision::kFast) continue;
      hn::StoreU(hn::DemoteTo(dh, hn::Sub(v, hn::PromoteTo(d, high))), dh, out.bf16_low + at + i);
    }
  }
  if (!(forms & (kFormBytes | kFormPlanes | kFormWords))) return;
  const float limit = precision == Precision::kFast ? kMaxByte : kMaxWord;
  const auto store = [&](const float* group, size_t i) LAPIDARY_INLINE_LAMBDA {
    quantize::Group(group, forms, limit, out, row * out.group_stride + i / kActivationGroup);
  };
  size_t i = begin;
  for (; i + kActivationGroup <= begin + count; i += kActivationGroup) store(x + (i - begin), i);
  for (; i < end; i += kActivationGroup) {
    HWY_ALIGN float padded[kActivationGroup] = {};
    for (size_t j = i; j < begin + count; ++j) padded[j - i] = x[j - begin];
    store(padded, i);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace lapidary
HWY_AFTER_NAMESPACE();

#endif  // include guard
