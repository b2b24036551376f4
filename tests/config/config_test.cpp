// The shapes of the five models, as data.
#include "lapidary/config/config.h"

#include <cstdint>
#include <string>
#include <vector>

#include "lapidary/config/models.h"
#include "tests/support/catch.h"

namespace lapidary {
namespace {

TEST_CASE("every sixth layer is global") {
  const Config& config = Gemma3_270M::kConfig;
  std::vector<std::int32_t> global;
  for (std::int32_t i = 0; i < config.layers; ++i) {
    if (KindOfLayer(config, i) == LayerKind::kGlobal) global.push_back(i);
  }
  CHECK(global == std::vector<std::int32_t>{5, 11, 17});
  CHECK(CountLayers(config, LayerKind::kGlobal) == 3);
  CHECK(CountLayers(config, LayerKind::kLocal) == 15);
  // The pattern does not have to end with a global layer: 26 = 4 * 6 + 2, 34 = 5 * 6 + 4, 62 = 10 *
  // 6 + 2.
  CHECK(CountLayers(Gemma3_1B::kConfig, LayerKind::kGlobal) == 4);
  CHECK(CountLayers(Gemma3_4B::kConfig, LayerKind::kGlobal) == 5);
  CHECK(CountLayers(Gemma3_12B::kConfig, LayerKind::kGlobal) == 8);
  CHECK(CountLayers(Gemma3_27B::kConfig, LayerKind::kGlobal) == 10);
}

TEST_CASE("the pattern follows global_every") {
  Config config = {.layers = 5};
  config.global_every = 1;
  CHECK(CountLayers(config, LayerKind::kGlobal) == 5);
  config.global_every = 2;
  CHECK(KindOfLayer(config, 0) == LayerKind::kLocal);
  CHECK(KindOfLayer(config, 1) == LayerKind::kGlobal);
  CHECK(CountLayers(config, LayerKind::kGlobal) == 2);
  config.global_every = 6;
  CHECK(CountLayers(config, LayerKind::kGlobal) == 0);
}

struct Published {
  const Config* config;
  std::int32_t layers, width, ff_width, heads, kv_heads, head_dim, scalar, window, context,
      vocabulary;
  double factor;
  bool vision;
};

TEST_CASE("the five published shapes") {
  const Published all[] = {
      {&Gemma3_270M::kConfig, 18, 640, 2048, 4, 1, 256, 256, 512, 32768, 262144, 1, false},
      {&Gemma3_1B::kConfig, 26, 1152, 6912, 4, 1, 256, 256, 512, 32768, 262144, 1, false},
      {&Gemma3_4B::kConfig, 34, 2560, 10240, 8, 4, 256, 256, 1024, 131072, 262208, 8, true},
      {&Gemma3_12B::kConfig, 48, 3840, 15360, 16, 8, 256, 256, 1024, 131072, 262208, 8, true},
      {&Gemma3_27B::kConfig, 62, 5376, 21504, 32, 16, 128, 168, 1024, 131072, 262208, 8, true},
  };
  for (const Published& p : all) {
    const Config& c = *p.config;
    CAPTURE(Describe(c));
    CHECK(c.layers == p.layers);
    CHECK(c.width == p.width);
    CHECK(c.ff_width == p.ff_width);
    CHECK(c.heads == p.heads);
    CHECK(c.kv_heads == p.kv_heads);
    CHECK(c.head_dim == p.head_dim);
    CHECK(c.query_pre_attn_scalar == p.scalar);
    CHECK(c.window == p.window);
    CHECK(c.context == p.context);
    CHECK(c.vocabulary == p.vocabulary);
    CHECK(c.rope_factor_global == p.factor);
    CHECK(c.rope_base_local == 10'000);
    CHECK(c.rope_base_global == 1'000'000);
    CHECK(c.norm_epsilon == 1e-6);
    CHECK(c.global_every == 6);
    CHECK(c.vision.present() == p.vision);
    CHECK(c.queries_width() == p.heads * p.head_dim);
    CHECK(c.kv_width() == p.kv_heads * p.head_dim);
  }
}

TEST_CASE("the vision tower is the same for three sizes") {
  CHECK(Gemma3_4B::kConfig.vision == Gemma3_12B::kConfig.vision);
  CHECK(Gemma3_4B::kConfig.vision == Gemma3_27B::kConfig.vision);
  const VisionConfig& v = Gemma3_4B::kConfig.vision;
  CHECK(v == VisionConfig{896, 14, 1152, 27, 16, 4304, 256});
  CHECK(v.width % v.heads == 0);
  CHECK(v.width / v.heads == 72);
  // 64 x 64 patches, of which a 4 x 4 average makes one soft token.
  CHECK((v.image / v.patch) * (v.image / v.patch) / 16 == v.soft_tokens);
}

// The sentences themselves are tested by the programs in tests/must_not_compile.
static_assert(CheckedModel<Gemma3_270M>::kOk);
static_assert(CheckedModel<Gemma3_1B>::kOk);
static_assert(CheckedModel<Gemma3_4B>::kOk);
static_assert(CheckedModel<Gemma3_12B>::kOk);
static_assert(CheckedModel<Gemma3_27B>::kOk);

struct NoName {
  static constexpr Config kConfig = Gemma3_1B::kConfig;
};
struct NoConfig {
  static constexpr std::string_view kName = "nothing";
};
static_assert(ModelSpec<Gemma3_1B>);
static_assert(!ModelSpec<NoName>);
static_assert(!ModelSpec<NoConfig>);
static_assert(!ModelSpec<int>);

TEST_CASE("a difference names every field, what was expected and what was found") {
  const Config expected = Gemma3_1B::kConfig;
  CHECK(DescribeDifference(expected, expected).empty());
  Config found = expected;
  found.layers = 27;
  CHECK(DescribeDifference(expected, found) == "layers: expected 26, found 27");
  found.rope_base_global = 10'000;
  found.vision.image = 896;
  const std::string text = DescribeDifference(expected, found);
  CHECK(text ==
        "layers: expected 26, found 27; rope_base_global: expected 1e+06, found 10000; "
        "vision.image: expected 0, found 896");
}

TEST_CASE("every field takes part in the comparison and in the difference") {
  const Config base = Gemma3_4B::kConfig;
  int fields = 0;
  internal::VisitFields(base, base, [&](const char*, auto, auto) { ++fields; });
  // 15 of the decoder and 7 of the tower. Fields are 4 or 8 bytes: none was forgotten.
  CHECK(fields == 15 + 7);
  STATIC_REQUIRE(sizeof(VisionConfig) == 7 * 4);
  STATIC_REQUIRE(sizeof(Config) ==
                 11 * 4 + 4 + 4 * 8 + 7 * 4 + 4);  // with 4 bytes of padding twice
  for (int i = 0; i < fields; ++i) {
    Config other = base;
    std::string changed;
    int at = 0;
    internal::VisitFields(other, other, [&](const char* name, const auto& field, const auto&) {
      if (at++ != i) return;
      changed = name;
      const_cast<std::remove_cvref_t<decltype(field)>&>(field) += 1;
    });
    CAPTURE(changed);
    CHECK(!(other == base));
    CHECK(DescribeDifference(base, other).starts_with(changed + ": expected "));
    CHECK(DescribeDifference(base, other).find(';') == std::string::npos);
  }
}

TEST_CASE("a description has the fields, and those of a tower only where there is one") {
  CHECK(Describe(Gemma3_1B::kConfig).starts_with("layers=26 width=1152 ff_width=6912 heads=4"));
  CHECK(Describe(Gemma3_1B::kConfig).find("vision") == std::string::npos);
  CHECK(Describe(Gemma3_4B::kConfig).find("vision.patch=14") != std::string::npos);
}

}  // namespace
}  // namespace lapidary
