// Comparing a tiny model with its goldens; see golden_test.cpp.
#ifndef LAPIDARY_TESTS_MODEL_MEASURE_H_
#define LAPIDARY_TESTS_MODEL_MEASURE_H_

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <span>
#include <string_view>
#include <vector>

#include "tests/support/catch.h"
#include "tests/support/golden.h"
#include "tests/support/synthetic_gguf.h"
#include "tests/support/tiny_model.h"

namespace lapidary::testing {

struct Errors {
  double max = 0;
  double rms = 0;
};

inline Errors Compare(std::span<const float> found, std::span<const float> expected) {
  REQUIRE(found.size() == expected.size());
  Errors errors;
  for (std::size_t i = 0; i < found.size(); ++i) {
    const double error = std::abs(static_cast<double>(found[i]) - static_cast<double>(expected[i]));
    errors.max = std::isnan(error) ? INFINITY : std::max(errors.max, error);
    errors.rms += error * error;
  }
  errors.rms = std::sqrt(errors.rms / static_cast<double>(found.size()));
  return errors;
}

struct Measured {
  Errors f32;            // of logits, against float32 throughout
  Errors kv;             // against float32 with keys and values in bf16
  Errors first;          // the same, of the first token only
  std::size_t best = 0;  // positions where float32 says the same best id
};

template <class M>
Measured Measure(std::string_view variant, Precision precision) {
  const TinyGolden golden = LoadTinyGolden(variant);
  REQUIRE(golden.config == M::kConfig);
  const GgufBuilder file = TinyGgufBuilder(golden);
  REQUIRE(DataHash(file) == golden.data_hash);  // the weights that transformers had
  Result<Model<M>> model =
      OpenBytes<M>(file.Build(), {.threads = 2, .precision = precision, .chunk = 64});
  INFO((model ? "" : model.error().message));
  REQUIRE(model.ok());
  Session session(*model);
  const std::vector<float> logits = AllLogits(session, golden.ids);
  const auto vocabulary = static_cast<std::size_t>(golden.config.vocabulary);

  Measured measured;
  std::vector<float> kept;
  for (const std::size_t row : golden.rows) {
    const auto from = logits.begin() + static_cast<std::ptrdiff_t>(row * vocabulary);
    kept.insert(kept.end(), from, from + static_cast<std::ptrdiff_t>(vocabulary));
  }
  const std::vector<float> kv = ReadGoldenFloats(StrCat("tiny_", variant, "_kv.f32"));
  measured.f32 = Compare(kept, golden.logits);
  measured.kv = Compare(kept, kv);
  REQUIRE(golden.rows[0] == 0);
  measured.first = Compare(std::span(kept).first(vocabulary), std::span(kv).first(vocabulary));
  for (std::size_t i = 0; i < golden.ids.size(); ++i) {
    const float* row = logits.data() + i * vocabulary;
    measured.best += std::max_element(row, row + vocabulary) - row == golden.best[i];
  }
  return measured;
}

// The most that errors may be; `best` the least, of 70.
inline void CheckMeasured(const Measured& measured, const Measured& most) {
  CAPTURE(measured.f32.max, measured.f32.rms, measured.kv.max, measured.kv.rms, measured.first.max,
          measured.best);
  CHECK(measured.f32.max < most.f32.max);
  CHECK(measured.f32.rms < most.f32.rms);
  CHECK(measured.kv.max < most.kv.max);
  CHECK(measured.kv.rms < most.kv.rms);
  CHECK(measured.first.max < most.first.max);
  CHECK(measured.best >= most.best);
}

}  // namespace lapidary::testing

#endif  // LAPIDARY_TESTS_MODEL_MEASURE_H_
