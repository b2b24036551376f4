// Scalar twins of the kernels: what they compute, written once more from the definitions, in double
// and in the most obvious way.
#ifndef LAPIDARY_TESTS_SUPPORT_SCALAR_H_
#define LAPIDARY_TESTS_SUPPORT_SCALAR_H_

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <random>
#include <span>
#include <vector>

namespace lapidary::testing {

// Uniform in [-limit, limit), the same on every machine.
inline float Uniform(std::mt19937& random, float limit = 1.0f) {
  return limit * (static_cast<float>(random() >> 8) * 0x1p-23f - 1.0f);
}

inline std::vector<float> UniformVector(std::mt19937& random, std::size_t size,
                                        float limit = 1.0f) {
  std::vector<float> values(size);
  for (float& value : values) value = Uniform(random, limit);
  return values;
}

// Bits of the bf16 nearest to a finite value; of two equally near ones that with the even last bit.
inline std::uint16_t BrainBits(float value) {
  std::uint32_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  const std::uint32_t rest = bits & 0xFFFF;
  std::uint32_t high = bits >> 16;
  if (rest > 0x8000 || (rest == 0x8000 && high % 2 == 1)) ++high;
  return static_cast<std::uint16_t>(high);
}

inline float FromBrainBits(std::uint16_t bits) {
  const std::uint32_t wide = static_cast<std::uint32_t>(bits) << 16;
  float value;
  std::memcpy(&value, &wide, sizeof(value));
  return value;
}

inline float RoundToBrain(float value) { return FromBrainBits(BrainBits(value)); }

// Activations as integers of magnitude at most `limit` with one scale per 32: the largest magnitude
// of a group becomes the limit.
struct QuantizedRow {
  std::vector<int> integers;   // [cols, filled up with zeros to a multiple of 32]
  std::vector<double> scales;  // one per 32

  double value(std::size_t i) const { return scales[i / 32] * integers[i]; }
};

inline QuantizedRow QuantizeRow(std::span<const float> x, float limit) {
  QuantizedRow row;
  row.integers.resize((x.size() + 31) / 32 * 32);
  row.scales.resize(row.integers.size() / 32);
  for (std::size_t g = 0; g < row.scales.size(); ++g) {
    const std::size_t end = std::min(x.size(), 32 * g + 32);
    float max = 0;
    for (std::size_t i = 32 * g; i < end; ++i) max = std::max(max, std::abs(x[i]));
    if (max <= 1e-30f) continue;
    row.scales[g] = static_cast<double>(max) / static_cast<double>(limit);
    // The product in f32 as in the kernel, so that both round the same number.
    const float inverse = limit / max;
    for (std::size_t i = 32 * g; i < end; ++i) {
      const float product = x[i] * inverse;
      row.integers[i] = static_cast<int>(std::nearbyint(product));
    }
  }
  return row;
}

// A product with its natural yardstick: rounding errors are proportional to the sum of the
// magnitudes.
struct Sum {
  double value = 0;
  double magnitude = 0;

  void Add(double term) {
    value += term;
    magnitude += std::abs(term);
  }
};

// GELU in its tanh form.
inline double Gelu(double x) {
  const double pi = std::acos(-1.0);
  return x / 2 * (1 + std::tanh(std::sqrt(2 / pi) * (x + 0.044715 * x * x * x)));
}

inline double RootMeanSquare(std::span<const float> x, double epsilon) {
  double sum = 0;
  for (const float value : x) sum += static_cast<double>(value) * static_cast<double>(value);
  return std::sqrt(sum / static_cast<double>(x.size()) + epsilon);
}

// softmax(query . keys) values over keys first .. last; keys and values are [positions, head_dim].
inline std::vector<double> Attention(std::span<const float> query, std::span<const float> keys,
                                     std::span<const float> values, std::size_t first,
                                     std::size_t last) {
  const std::size_t head_dim = query.size();
  std::vector<double> scores;
  for (std::size_t k = first; k <= last; ++k) {
    double score = 0;
    for (std::size_t i = 0; i < head_dim; ++i) {
      score += static_cast<double>(query[i]) * static_cast<double>(keys[k * head_dim + i]);
    }
    scores.push_back(score);
  }
  const double max = *std::max_element(scores.begin(), scores.end());
  double total = 0;
  for (double& score : scores) total += score = std::exp(score - max);
  std::vector<double> out(head_dim);
  for (std::size_t k = first; k <= last; ++k) {
    for (std::size_t i = 0; i < head_dim; ++i) {
      out[i] += scores[k - first] / total * static_cast<double>(values[k * head_dim + i]);
    }
  }
  return out;
}

}  // namespace lapidary::testing

#endif  // LAPIDARY_TESTS_SUPPORT_SCALAR_H_
