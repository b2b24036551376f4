// Converting a model of another format to a blob, with the arithmetic that rounds and quantises
// weights.
#if defined(LAPIDARY_WEIGHTS_CONVERT_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef LAPIDARY_WEIGHTS_CONVERT_INL_H_
#undef LAPIDARY_WEIGHTS_CONVERT_INL_H_
#else
#define LAPIDARY_WEIGHTS_CONVERT_INL_H_
#endif

#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <vector>

#include "lapidary/base/bytes.h"
#include "lapidary/base/highway-inl.h"
#include "lapidary/base/result.h"
#include "lapidary/weights/convert.h"
#include "lapidary/weights/import.h"
#include "lapidary/weights/pack.h"
#include "lapidary/weights/quant.h"

HWY_BEFORE_NAMESPACE();
namespace lapidary {
namespace HWY_NAMESPACE {
namespace encode {

namespace hn = hwy::HWY_NAMESPACE;

inline constexpr size_t kBlock = 32;  // inputs of a block of Q8_0 and Q4_0
using DBlock = hn::CappedTag<float, kBlock>;
using VBlock = hn::Vec<DBlock>;

// The f16 nearest to a finite value, of two equally near ones that with the even last bit.
inline uint16_t RoundToHalf(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  const uint32_t sign = bits >> 16 & 0x8000;
  uint32_t magnitude = bits & 0x7FFFFFFF;
  if (magnitude >= 0x47800000) return static_cast<uint16_t>(sign | 0x7C00);  // 2^16 and more
  if (magnitude < 0x38800000) {
    // Below 2^-14 the last bit is worth 2^-24, as that of an f32 between 0.5 and 1 is.
    const float shifted = std::bit_cast<float>(magnitude) + 0.5f;
    return static_cast<uint16_t>(sign | (std::bit_cast<uint32_t>(shifted) - 0x3F000000));
  }
  const uint32_t odd = magnitude >> 13 & 1;
  magnitude += 0xFFF + odd;                                                 // round
  return static_cast<uint16_t>(sign | ((magnitude >> 13) - (112u << 10)));  // another bias
}

// The bf16 nearest to a value, likewise.
inline uint16_t RoundToBrain(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  if (std::isnan(value)) return static_cast<uint16_t>(bits >> 16 | 0x40);
  return static_cast<uint16_t>((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}

inline float HalfToFloat(uint16_t half) {
  uint8_t bytes[2];
  StoreLittleEndian(half, bytes);
  return WidenToFloat(Format::kF16, bytes);
}

// One block of Q8_0: f16 scale, 32 signed bytes.
HWY_INLINE void Q8Block(const float* HWY_RESTRICT x, uint8_t* HWY_RESTRICT out) {
  const DBlock d;
  const hn::Rebind<int8_t, DBlock> d8;
  VBlock largest = hn::Zero(d);
  for (size_t i = 0; i < kBlock; i += hn::Lanes(d)) {
    largest = hn::Max(largest, hn::Abs(hn::LoadU(d, x + i)));
  }
  const uint16_t half = RoundToHalf(hn::ReduceMax(d, largest) / 127);
  const float scale = HalfToFloat(half);
  const VBlock inverse = hn::Set(d, scale > 0 ? 1 / scale : 0.0f);
  StoreLittleEndian(half, out);
  for (size_t i = 0; i < kBlock; i += hn::Lanes(d)) {
    // A scale that was rounded down may ask for 128.
    const VBlock code = hn::Min(hn::Mul(hn::LoadU(d, x + i), inverse), hn::Set(d, 127.0f));
    hn::StoreU(hn::DemoteTo(d8, hn::NearestInt(code)), d8, reinterpret_cast<int8_t*>(out + 2 + i));
  }
}

// Codes -8 .. 7 of values, as floats.
HWY_INLINE VBlock Q4Codes(VBlock x, VBlock inverse) {
  const DBlock d;
  const VBlock code = hn::Round(hn::Mul(x, inverse));
  return hn::Max(hn::Min(code, hn::Set(d, 7.0f)), hn::Set(d, -8.0f));
}

// The f16 scale with the smallest sum of squared errors that the search finds.
//
// A value of largest magnitude stands for some code k times the scale: each k is tried, and the
// scale that suits the resulting codes best (least squares) is what counts. Weights that lie
// exactly on a lattice with an f16 scale are found exactly, whatever the largest code that a block
// happens to use. Other blocks gain from the fractions and from the k beyond the codes, which clip
// the largest value: on blocks of nearly normal values the squared error is 0.89 of what the
// largest value alone gives.
HWY_INLINE uint16_t Q4Scale(const float* HWY_RESTRICT x) {
  constexpr float kCodes[] = {8, 7, 6, 5, 4, 3, 2, 1, 7.5f, 8.5f, 9, 6.5f};
  const DBlock d;
  float largest = 0;
  for (size_t i = 0; i < kBlock; ++i) {
    if (std::abs(x[i]) > std::abs(largest)) largest = x[i];
  }
  uint16_t best = 0;
  float least = HUGE_VALF;
  for (const float code : kCodes) {
    for (const float scale : {-largest / code, largest / code}) {
      if (!(std::abs(scale) > 0)) continue;
      VBlock products = hn::Zero(d), squares = hn::Zero(d), errors = hn::Zero(d);
      for (size_t i = 0; i < kBlock; i += hn::Lanes(d)) {
        const VBlock v = hn::LoadU(d, x + i);
        const VBlock c = Q4Codes(v, hn::Set(d, 1 / scale));
        products = hn::MulAdd(v, c, products);
        squares = hn::MulAdd(c, c, squares);
      }
      const uint16_t half = RoundToHalf(hn::ReduceSum(d, products) / hn::ReduceSum(d, squares));
      const float rounded = HalfToFloat(half);
      if (!(std::abs(rounded) > 0) || !std::isfinite(rounded)) continue;
      for (size_t i = 0; i < kBlock; i += hn::Lanes(d)) {
        const VBlock v = hn::LoadU(d, x + i);
        const VBlock c = Q4Codes(v, hn::Set(d, 1 / rounded));
        const VBlock error = hn::NegMulAdd(c, hn::Set(d, rounded), v);
        errors = hn::MulAdd(error, error, errors);
      }
      const float error = hn::ReduceSum(d, errors);
      if (error < least) {
        least = error;
        best = half;
      }
    }
    if (least == 0) break;
  }
  return best;
}

// One block of Q4_0: f16 scale, 16 bytes with inputs j and j + 16 in their halves.
HWY_INLINE void Q4Block(const float* HWY_RESTRICT x, uint8_t* HWY_RESTRICT out) {
  const DBlock d;
  const hn::RebindToSigned<DBlock> di;
  const uint16_t half = Q4Scale(x);
  const float scale = HalfToFloat(half);
  const VBlock inverse = hn::Set(d, scale != 0 ? 1 / scale : 0.0f);
  HWY_ALIGN int32_t codes[kBlock];
  for (size_t i = 0; i < kBlock; i += hn::Lanes(d)) {
    hn::Store(hn::NearestInt(Q4Codes(hn::LoadU(d, x + i), inverse)), di, codes + i);
  }
  StoreLittleEndian(half, out);
  for (size_t i = 0; i < kBlock / 2; ++i) {
    out[2 + i] = static_cast<uint8_t>((codes[i] + 8) | (codes[i + kBlock / 2] + 8) << 4);
  }
}

// One row, [cols], in the blocks of a format.
HWY_INLINE void Row(const float* HWY_RESTRICT x, size_t cols, Format format, uint8_t* out) {
  const QuantSpec& spec = SpecOf(format);
  if (!spec.is_float()) {
    for (size_t i = 0; i + kBlock <= cols; i += kBlock) {
      format == Format::kQ4_0 ? Q4Block(x + i, out) : Q8Block(x + i, out);
      out += spec.source_bytes;
    }
    return;
  }
  for (size_t i = 0; i < cols; ++i) {
    if (format == Format::kF32) StoreLittleEndian(x[i], out + 4 * i);
    if (format == Format::kF16) StoreLittleEndian(RoundToHalf(x[i]), out + 2 * i);
    if (format == Format::kBF16) StoreLittleEndian(RoundToBrain(x[i]), out + 2 * i);
  }
}

// See internal::EncodeRows.
HWY_NOINLINE inline bool Rows(const ImportTensor& tensor, size_t first, size_t count,
                              uint8_t* out) {
  const QuantSpec& source = SpecOf(tensor.source_format);
  const auto size = static_cast<size_t>(source.source_bytes);
  const size_t row_bytes = SourceRowBytes(SpecOf(tensor.format), tensor.cols);
  std::vector<float> row(tensor.cols);
  float check = 0;
  for (size_t r = first; r < first + count; ++r) {
    // Neighbours in a row are neighbours in the source, or a row of the source apart.
    const size_t begin = tensor.transposed ? r : r * tensor.cols;
    const size_t step = tensor.transposed ? tensor.rows : 1;
    const uint8_t* at = tensor.source.data() + begin * size;
    for (size_t i = 0; i < tensor.cols; ++i) {
      row[i] = WidenToFloat(tensor.source_format, at + i * step * size);
      check += row[i] * 0.0f;  // 0, or not a number
      if (tensor.less_one) row[i] += 1;
    }
    Row(row.data(), tensor.cols, tensor.format, out + (r - first) * row_bytes);
  }
  return check == 0;
}

}  // namespace encode

// Writes the model of a GGUF file or a Hugging Face folder as a blob, slice by slice: memory does
// not depend on the model's size. The blob appears under its name only when it is complete; after
// an error or a cancelled conversion, `target` is what it was before. Errors: those of ImportGguf,
// ImportHuggingFace and ImportMmproj; kUnsupported (quantised weights that are to get another
// format), kCorrupt (a value that is not finite), kIo, kCancelled.
inline Result<ConvertReport> ConvertToBlob(const std::filesystem::path& source,
                                           const std::filesystem::path& target,
                                           const ConvertOptions& options = {}) {
  return internal::ConvertToBlob(source, target, options, encode::Rows);
}

}  // namespace HWY_NAMESPACE
}  // namespace lapidary
HWY_AFTER_NAMESPACE();

#endif  // include guard
