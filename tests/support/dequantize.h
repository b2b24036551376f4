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
    switch (format) {
      case Format::kF32:
        blocks[at + 3] = static_cast<std::uint8_t>((blocks[at + 3] & 0x80) | 0x3F);
        break;
      case Format::kBF16:
        blocks[at + 1] = static_cast<std::uint8_t>((blocks[at + 1] & 0x80) | 0x3F);
        break;
      case Format::kF16:
      case Format::kQ8_0:
      case Format::kQ4_0:
      case Format::kQ5_0:
        tame_half(at);
        break;
      case Format::kQ4_K:
        tame_half(at), tame_half(at + 2);
        break;
      case Format::kQ6_K:
        tame_half(at + 208);
        break;
    }
  }
  return blocks;
}

}  // namespace lapidary::testing

#endif  // LAPIDARY_TESTS_SUPPORT_DEQUANTIZE_H_
