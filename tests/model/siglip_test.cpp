// The image encoder at its real size, with generated weights. Hidden: takes 2 GB and a minute.
//
//     lapidary_model_test [siglip]           prints seconds and GFLOP/s
//     LAPIDARY_SIGLIP_OUTPUT=FILE ...        writes the soft tokens too, for
//                                            tests/golden/compare_siglip.py
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <optional>
#include <string>
#include <vector>

#include "lapidary/base/threads.h"
#include "lapidary/model/vision-inl.h"
#include "lapidary/vision/resize-inl.h"
#include "tests/support/catch.h"
#include "tests/support/formula_picture.h"
#include "tests/support/tiny_vision.h"

namespace lapidary::testing {
namespace {

using HWY_STATIC_DISPATCH(PixelsOf);

// A decoder is not needed here: a Config as wide as the 1B, with the real encoder.
constexpr Config kConfig = [] {
  Config config = Gemma3_1B::kConfig;
  config.vision = kSigLip;
  return config;
}();

// Multiplications and additions of all matrices, attention among them.
double Operations() {
  constexpr double kPatches = kSigLip.patches(), kWidth = kSigLip.width;
  const double layer = 4 * kWidth * kWidth + 2 * kWidth * kSigLip.ff_width + 2 * kPatches * kWidth;
  return 2 * kPatches * (kSigLip.layers * layer + 3 * kSigLip.patch * kSigLip.patch * kWidth) +
         2 * kSigLip.soft_tokens * kWidth * kConfig.width;
}

// Halves the generated weights, so that rows of 1152 inputs leave the size of activations alone.
BlobPart Halved(BlobPart part) {
  if (part.section.kind != SectionKind::kMatrix) return part;
  for (std::size_t i = 0; i < part.bytes.size(); i += 2) {
    std::uint16_t bits;
    std::memcpy(&bits, part.bytes.data() + i, 2);
    if (bits != 0) bits = static_cast<std::uint16_t>(bits - (1u << 7));  // 0: panels are filled up
    std::memcpy(part.bytes.data() + i, &bits, 2);
  }
  return part;
}

TEST_CASE("SigLIP at its real size", "[.][siglip]") {
  const TempFolder folder;
  {
    std::vector<BlobPart> parts;
    ForEachVisionPart(kConfig, Format::kBF16,
                      [&](BlobPart part) { parts.push_back(Halved(std::move(part))); });
    WriteBlob(folder / "siglip.lap", kConfig, parts);
  }
  const Result<WeightFile> file = WeightFile::Open(folder / "siglip.lap");
  REQUIRE(file.ok());
  const Result<std::optional<VisionWeights>> weights = FindVisionWeights(*file, kConfig);
  INFO((weights ? "" : weights.error().message));
  REQUIRE(weights.ok());
  REQUIRE(weights->has_value());

  ThreadPool pool;
  const Result<std::vector<float>> pixels = PixelsOf(FormulaPicture("waves", 896, 896), 896);
  REQUIRE(pixels.ok());
  std::vector<float> soft_tokens(static_cast<std::size_t>(kSigLip.soft_tokens * kConfig.width));
  const auto start = std::chrono::steady_clock::now();
  auto encoder = HWY_STATIC_DISPATCH(VisionEncoder)<kSigLip>::Create(**weights, pool);
  REQUIRE(encoder.ok());
  encoder->Encode(pixels->data(), soft_tokens.data());
  const double seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  std::printf("SigLIP: %.2f s, %.2f TFLOP, %.0f GFLOP/s, %zu threads\n", seconds,
              1e-12 * Operations(), 1e-9 * Operations() / seconds, pool.size());
  if (const char* output = std::getenv("LAPIDARY_SIGLIP_OUTPUT")) {
    std::ofstream(output, std::ios::binary)
        .write(reinterpret_cast<const char*>(soft_tokens.data()),
               static_cast<std::streamsize>(soft_tokens.size() * sizeof(float)));
  }
}

}  // namespace
}  // namespace lapidary::testing
