// What the blocks of a source file mean, in plain scalar code written from the definitions of the
// formats (ggml-common.h and ggml-quants.c of ggml), independent of the library: the tests' truth.
#ifndef LAPIDARY_TESTS_SUPPORT_DEQUANTIZE_H_
#define LAPIDARY_TESTS_SUPPORT_DEQUANTIZE_H_

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <span>
#include <vector>

#include "lapidary/weights/quant.h"

namespace lapidary::testing {

inline float HalfToFloat(const std::uint8_t* bytes) {
  const auto bits = static_cast<unsigned>(bytes[0] | bytes[1] << 8);
  const int exponent = bits >> 10 & 31;
  const float mantissa = static_cast<float>(bits & 1023);
  float magnitude =
      exponent == 0 ? std::ldexp(mantissa, -24) : std::ldexp(mantissa + 1024, exponent - 25);
  if (exponent == 31) {
    magnitude = mantissa == 0 ? std::numeric_limits<float>::infinity()
                              : std::numeric_limits<float>::quiet_NaN();
  }
  return bits >> 15 ? -magnitude : magnitude;
}

inline float BrainToFloat(const std::uint8_t* bytes) {
  const std::uint32_t bits = static_cast<std::uint32_t>(bytes[0] | bytes[1] << 8) << 16;
  float value;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}

// The values of the non-linear 4-bit formats.
inline constexpr int kNonLinear[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                       1,    13,   25,  38,  53,  69,  89,  113};

// Where a block keeps its f16 numbers: the scale, then the minimum; -1 for none.
struct HalvesOfBlock {
  int scale = -1;
  int min = -1;
};
constexpr HalvesOfBlock HalvesOf(Format format) {
  switch (format) {
    case Format::kF32:
    case Format::kF16:
    case Format::kBF16:
      return {};
    case Format::kQ4_0:
    case Format::kQ5_0:
    case Format::kQ8_0:
    case Format::kQ8_0Planes:
    case Format::kIQ4_NL:
    case Format::kIQ4_XS:
      return {0, -1};
    case Format::kQ4_1:
    case Format::kQ5_1:
    case Format::kQ4_K:
    case Format::kQ5_K:
      return {0, 2};
    case Format::kQ2_K:
      return {80, 82};
    case Format::kQ3_K:
      return {108, -1};
    case Format::kQ6_K:
      return {208, -1};
  }
  return {};
}

// One block into spec.source_block values.
inline void DequantizeBlock(Format format, const std::uint8_t* b, float* y) {
  switch (format) {
    case Format::kF32:
      std::memcpy(y, b, 4);
      break;
    case Format::kF16:
      *y = HalfToFloat(b);
      break;
    case Format::kBF16:
      *y = BrainToFloat(b);
      break;
    case Format::kQ8_0:
    case Format::kQ8_0Planes:
      for (int i = 0; i < 32; ++i)
        y[i] = HalfToFloat(b) * static_cast<float>(static_cast<std::int8_t>(b[2 + i]));
      break;
    case Format::kQ4_0:
      for (int i = 0; i < 32; ++i) {
        const int code = i < 16 ? b[2 + i] & 15 : b[2 + i - 16] >> 4;
        y[i] = HalfToFloat(b) * static_cast<float>(code - 8);
      }
      break;
    case Format::kQ5_0:
      for (int i = 0; i < 32; ++i) {
        const int low = i < 16 ? b[6 + i] & 15 : b[6 + i - 16] >> 4;
        const int high = b[2 + i / 8] >> (i % 8) & 1;
        y[i] = HalfToFloat(b) * static_cast<float>((low | high << 4) - 16);
      }
      break;
    case Format::kQ4_1:
      for (int i = 0; i < 32; ++i) {
        const int code = i < 16 ? b[4 + i] & 15 : b[4 + i - 16] >> 4;
        y[i] = HalfToFloat(b) * static_cast<float>(code) + HalfToFloat(b + 2);
      }
      break;
    case Format::kQ5_1:
      for (int i = 0; i < 32; ++i) {
        const int low = i < 16 ? b[8 + i] & 15 : b[8 + i - 16] >> 4;
        const int high = b[4 + i / 8] >> (i % 8) & 1;
        y[i] = HalfToFloat(b) * static_cast<float>(low | high << 4) + HalfToFloat(b + 2);
      }
      break;
    case Format::kIQ4_NL:
      for (int i = 0; i < 32; ++i) {
        const int code = i < 16 ? b[2 + i] & 15 : b[2 + i - 16] >> 4;
        y[i] = HalfToFloat(b) * static_cast<float>(kNonLinear[code]);
      }
      break;
    case Format::kIQ4_XS:
      for (int i = 0; i < 256; ++i) {
        const int g = i / 32, j = i % 32;
        const int scale = (b[4 + g / 2] >> (4 * (g % 2)) & 15) | ((b[2] | b[3] << 8) >> (2 * g) & 3)
                                                                     << 4;
        const int byte = b[8 + 16 * g + j % 16];
        y[i] = HalfToFloat(b) * static_cast<float>(scale - 32) *
               static_cast<float>(kNonLinear[j < 16 ? byte & 15 : byte >> 4]);
      }
      break;
    case Format::kQ2_K:
      for (int i = 0; i < 256; ++i) {
        const int s = b[i / 16];
        const int code = b[16 + 32 * (i / 128) + i % 32] >> (i % 128 / 32 * 2) & 3;
        y[i] = HalfToFloat(b + 80) * static_cast<float>(s & 15) * static_cast<float>(code) -
               HalfToFloat(b + 82) * static_cast<float>(s >> 4);
      }
      break;
    case Format::kQ3_K:
      for (int i = 0; i < 256; ++i) {
        const int g = i / 16;
        const int low = g < 8 ? b[96 + g] & 15 : b[96 + g - 8] >> 4;
        const int scale = (low | (b[104 + g % 4] >> (g / 4 * 2) & 3) << 4) - 32;
        const int code = b[32 + 32 * (i / 128) + i % 32] >> (i % 128 / 32 * 2) & 3;
        const int high = b[i % 32] >> (i / 32) & 1;  // clear: 4 less
        y[i] = HalfToFloat(b + 108) * static_cast<float>(scale) *
               static_cast<float>(code - (high ? 0 : 4));
      }
      break;
    case Format::kQ5_K:
      for (int i = 0; i < 256; ++i) {
        const int g = i / 32;
        const std::uint8_t* s = b + 4;
        const int scale = g < 4 ? s[g] & 63 : (s[g + 4] & 15) | (s[g - 4] >> 6 << 4);
        const int min = g < 4 ? s[g + 4] & 63 : s[g + 4] >> 4 | (s[g] >> 6 << 4);
        const int byte = b[48 + i / 64 * 32 + i % 32];
        const int high = b[16 + i % 32] >> g & 1;
        const int code = (g % 2 == 0 ? byte & 15 : byte >> 4) | high << 4;
        y[i] = HalfToFloat(b) * static_cast<float>(scale) * static_cast<float>(code) -
               HalfToFloat(b + 2) * static_cast<float>(min);
      }
      break;
    case Format::kQ4_K:
      for (int i = 0; i < 256; ++i) {
        const int g = i / 32;
        const std::uint8_t* s = b + 4;
        const int scale = g < 4 ? s[g] & 63 : (s[g + 4] & 15) | (s[g - 4] >> 6 << 4);
        const int min = g < 4 ? s[g + 4] & 63 : s[g + 4] >> 4 | (s[g] >> 6 << 4);
        const int byte = b[16 + i / 64 * 32 + i % 32];
        const int code = g % 2 == 0 ? byte & 15 : byte >> 4;
        y[i] = HalfToFloat(b) * static_cast<float>(scale) * static_cast<float>(code) -
               HalfToFloat(b + 2) * static_cast<float>(min);
      }
      break;
    case Format::kQ6_K:
      for (int i = 0; i < 256; ++i) {
        const int half = i / 128, quarter = i % 128 / 32, l = i % 32;
        const int byte = b[64 * half + 32 * (quarter % 2) + l];
        const int low = quarter < 2 ? byte & 15 : byte >> 4;
        const int high = b[128 + 32 * half + l] >> (2 * quarter) & 3;
        const int scale = static_cast<std::int8_t>(b[192 + i / 16]);
        y[i] = HalfToFloat(b + 208) * static_cast<float>(scale) *
               static_cast<float>((low | high << 4) - 32);
      }
      break;
  }
}

// Blocks one behind the other; `source` holds whole blocks.
inline std::vector<float> Dequantize(Format format, std::span<const std::uint8_t> source) {
  const QuantSpec& spec = SpecOf(format);
  const std::size_t blocks = source.size() / static_cast<std::size_t>(spec.source_bytes);
  std::vector<float> values(blocks * static_cast<std::size_t>(spec.source_block));
  for (std::size_t i = 0; i < blocks; ++i) {
    DequantizeBlock(format, source.data() + i * static_cast<std::size_t>(spec.source_bytes),
                    values.data() + i * static_cast<std::size_t>(spec.source_block));
  }
  return values;
}

// Random blocks for rows * cols values; f16 scales are finite and of plausible size.
template <class Random>
std::vector<std::uint8_t> RandomBlocks(Format format, std::size_t values, Random& random) {
  const QuantSpec& spec = SpecOf(format);
  const auto size = static_cast<std::size_t>(spec.source_bytes);
  std::vector<std::uint8_t> blocks(values / static_cast<std::size_t>(spec.source_block) * size);
  for (std::uint8_t& byte : blocks) byte = static_cast<std::uint8_t>(random());
  // An exponent of -13 to 2 of an f16; one around 1 for the other float formats.
  const auto tame_half = [&](std::size_t at) {
    blocks[at + 1] = static_cast<std::uint8_t>((blocks[at + 1] & 0xBF) | 8);
  };
  for (std::size_t at = 0; at < blocks.size(); at += size) {
    const HalvesOfBlock halves = HalvesOf(format);
    if (halves.scale >= 0) tame_half(at + static_cast<std::size_t>(halves.scale));
    if (halves.min >= 0) tame_half(at + static_cast<std::size_t>(halves.min));
    if (format == Format::kF16) tame_half(at);
    if (format == Format::kF32 || format == Format::kBF16) {
      std::uint8_t& top = blocks[at + size - 1];
      top = static_cast<std::uint8_t>((top & 0x80) | 0x3F);
    }
  }
  return blocks;
}

}  // namespace lapidary::testing

#endif  // LAPIDARY_TESTS_SUPPORT_DEQUANTIZE_H_
