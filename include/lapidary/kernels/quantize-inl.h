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
#include "lapidary/weights/quant.h"

HWY_BEFORE_NAMESPACE();
namespace lapidary {
namespace HWY_NAMESPACE {

// Inputs that share one activation scale. Measured on the real 270M with 8-bit activations: mean KL
// to float32 is 0.0028 with 32, 0.0086 with 128, 0.040 with one scale per row.
inline constexpr size_t kActivationGroup = 32;
// Rows of activations are padded with zeros to this many inputs.
inline constexpr size_t kActivationPadding = 64;
inline constexpr size_t kSumGroup = 16;

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

// The form of activations that vectors want to multiply by weights of a format.
constexpr unsigned VectorFormFor(Format format, Precision precision) {
  const QuantSpec& spec = SpecOf(format);
  if (spec.is_float()) {
    const bool brain =
        format == Format::kBF16 || (format == Format::kF16 && precision == Precision::kFast);
    return kHasBF16Dot && brain ? kFormBF16 : kFormF32;
  }
  if (kHasByteDot) return precision == Precision::kFast ? kFormBytes : kFormPlanes;
  // Without a byte dot product, sums of products of bytes pass through 16 bits, which is too narrow
  // for 8-bit weights; products of 16-bit values pass through 32 and cost twice as much.
  return precision == Precision::kFast && spec.code_bits() < 8 ? kFormBytes : kFormWords;
}

// The form of activations that multiplying by weights of a format wants.
inline unsigned FormFor(Format format, Precision precision) {
  if (!SpecOf(format).is_float() && RoundsCodes(precision)) return kFormBF16;
  return VectorFormFor(format, precision);
}

// From one row to the next. Rows whose distance is a multiple of a page lie in the same few places
// of a first-level cache: tiles of 32 rows of bf16 made 1.05 TFLOP/s where others made 1.25 (2048
// and 10240 inputs, one core of Emerald Rapids).
constexpr size_t ActivationStride(size_t cols) {
  const size_t inputs = PadActivations(cols);
  return inputs % 512 == 0 ? inputs + kActivationPadding : inputs;
}

// Rows of activations [rows, cols] in one or more forms, padded with zeros to inputs().
struct Activations {
  size_t cols = 0;
  size_t stride = 0;                    // ActivationStride(cols)
  float* f32 = nullptr;                 // [rows, stride]
  hwy::bfloat16_t* bf16 = nullptr;      // [rows, stride]
  hwy::bfloat16_t* bf16_low = nullptr;  // [rows, stride]
  int8_t* bytes = nullptr;              // [rows, stride], also the high plane
  int8_t* low = nullptr;                // [rows, stride], the low plane
  int16_t* words = nullptr;             // [rows, stride]
  float* scales = nullptr;              // [rows, groups()]: activation = scale * integer
  int32_t* sums = nullptr;              // [rows, sum_groups()]: sums of 16 integers

  size_t inputs() const { return PadActivations(cols); }
  size_t groups() const { return inputs() / kActivationGroup; }
  size_t sum_groups() const { return inputs() / kSumGroup; }
};

// Bytes that Bind takes from a buffer for `rows` rows.
constexpr size_t ActivationBytes(size_t rows, size_t cols) {
  const size_t stride = ActivationStride(cols);
  return rows * stride * (4 + 2 + 2 + 1 + 1 + 2) + rows * stride / kActivationGroup * 4 +
         rows * stride / kSumGroup * 4;
}

// Lays the forms out in a buffer of ActivationBytes(rows, cols), 64-byte aligned.
inline Activations BindActivations(uint8_t* buffer, size_t rows, size_t cols) {
  Activations a;
  a.cols = cols;
  a.stride = ActivationStride(cols);
  const size_t n = rows * a.stride;  // a multiple of 64: all parts stay aligned
  a.f32 = reinterpret_cast<float*>(buffer);
  a.bf16 = reinterpret_cast<hwy::bfloat16_t*>(buffer + 4 * n);
  a.bf16_low = reinterpret_cast<hwy::bfloat16_t*>(buffer + 6 * n);
  a.bytes = reinterpret_cast<int8_t*>(buffer + 8 * n);
  a.low = reinterpret_cast<int8_t*>(buffer + 9 * n);
  a.words = reinterpret_cast<int16_t*>(buffer + 10 * n);
  a.scales = reinterpret_cast<float*>(buffer + 12 * n);
  a.sums = reinterpret_cast<int32_t*>(buffer + 12 * n + n / kActivationGroup * 4);
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

// One group of 32 inputs into integers of magnitude at most `limit`, which begin at `at` in the
// forms of `out`; its scale, and the sums of its halves.
HWY_INLINE void Group(const float* HWY_RESTRICT x, unsigned forms, float limit,
                      const Activations& out, size_t at, float* HWY_RESTRICT scale,
                      int32_t* HWY_RESTRICT sums) {
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
  *scale = max > 1e-30f ? max / limit : 0.0f;

  VI32 q[kVectors];
  HWY_UNROLL(8) for (size_t v = 0; v < kVectors; ++v) {
    q[v] = hn::NearestInt(hn::Mul(values[v], inverse));
  }
  static_assert(kVectors % 2 == 0);
  HWY_UNROLL(2) for (size_t half = 0; half < 2; ++half) {
    VI32 sum = hn::Zero(di);
    HWY_UNROLL(4) for (size_t v = 0; v < kVectors / 2; ++v) {
      sum = hn::Add(sum, q[half * (kVectors / 2) + v]);
    }
    sums[half] = hn::ReduceSum(di, sum);
  }

  const hn::Rebind<int8_t, DF> d8;
  const hn::Rebind<int16_t, DF> d16;
  HWY_UNROLL(8) for (size_t v = 0; v < kVectors; ++v) {
    const size_t to = at + v * kLanes;
    if (forms & kFormBytes) hn::StoreU(hn::DemoteTo(d8, q[v]), d8, out.bytes + to);
    if (forms & kFormPlanes) {
      // high = (q + 128) >> 8 leaves a low part in -128 .. 127.
      const VI32 high = hn::ShiftRight<8>(hn::Add(q[v], hn::Set(di, 128)));
      hn::StoreU(hn::DemoteTo(d8, high), d8, out.bytes + to);
      hn::StoreU(hn::DemoteTo(d8, hn::Sub(q[v], hn::ShiftLeft<8>(high))), d8, out.low + to);
    }
    if (forms & kFormWords) hn::StoreU(hn::DemoteTo(d16, q[v]), d16, out.words + to);
  }
  if (forms & kFormWords) {
    const DI16 dw;
    for (size_t i = 0; i < kActivationGroup; i += 2 * kLanes) {
      int16_t* p = out.words + at + i;
      hn::StoreU(SwapMiddle(hn::LoadU(dw, p)), dw, p);
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
  float* scales = out.scales + row * out.groups();
  int32_t* sums = out.sums + row * out.sum_groups();
  const auto store = [&](const float* group, size_t i) LAPIDARY_INLINE_LAMBDA {
    quantize::Group(group, forms, limit, out, at + i, scales + i / kActivationGroup,
                    sums + i / kSumGroup);
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
