// The other tiny model against transformers (see golden_test.cpp): shapes that fill no vector and
// no panel, one key/value head for three query heads, an embedding scale that bf16 rounds, a large
// epsilon.
#include "tests/model/measure.h"
#include "tests/support/catch.h"
#include "tests/support/synthetic_gguf.h"

namespace lapidary::testing {
namespace {

constexpr bool kBrain = HWY_STATIC_DISPATCH(kHasBF16Dot);

TEST_CASE("odd shapes, float weights") {
  // Measured: 0.058 and 0.014; 0.015 and 0.0023; 4e-6. With bf16 products: 0.071 and 0.015; 0.036
  // and 0.0065; 4e-6.
  const Measured most = {.f32 = {.max = kBrain ? 0.13 : 0.1, .rms = 0.025},
                         .kv = {.max = kBrain ? 0.07 : 0.03, .rms = kBrain ? 0.012 : 0.004},
                         .first = {.max = kBrain ? 0.02 : 2e-3, .rms = 0},
                         .best = 64};
  CheckMeasured(Measure<TinyOddModel>("odd_f32", Precision::kExact), most);
}

TEST_CASE("odd shapes, quantised weights") {
  // Measured: 0.121 and 0.023; 0.037 and 0.0072; 0.004. With bf16 products: 0.148 and 0.025; 0.043
  // and 0.0080.
  const Measured exact = {.f32 = {.max = kBrain ? 0.25 : 0.2, .rms = kBrain ? 0.04 : 0.035},
                          .kv = {.max = kBrain ? 0.08 : 0.06, .rms = kBrain ? 0.015 : 0.012},
                          .first = {.max = 0.02, .rms = 0},
                          .best = 64};
  CheckMeasured(Measure<TinyOddModel>("odd_q8_0", Precision::kExact), exact);
  // Measured: 0.83 and 0.13; 0.16; 58 of 70 best ids.
  const Measured fast = {.f32 = {.max = 1.3, .rms = 0.2},
                         .kv = {.max = 1.3, .rms = 0.2},
                         .first = {.max = 0.3, .rms = 0},
                         .best = 53};
  CheckMeasured(Measure<TinyOddModel>("odd_q8_0", Precision::kFast), fast);
}

TEST_CASE("a file of another model is refused, with all differences") {
  const Result<Model<TinyOddModel>> model =
      OpenBytes<TinyOddModel>(TinyGguf(TinyModel::kConfig, kTinyQ4K));
  REQUIRE(!model.ok());
  CHECK(model.error().code == ErrorCode::kMismatch);
  for (const char* part :
       {"tiny odd", "layers: expected 5, found 8", "vocabulary: expected 369, found 387"}) {
    CHECK(model.error().message.find(part) != std::string::npos);
  }
  CHECK(model.error().message.find('\n') == std::string::npos);
}

}  // namespace
}  // namespace lapidary::testing
