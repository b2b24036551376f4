// Resizing, the encoder's input and Pan & Scan, against Pillow and Hugging Face's processor
// (tests/golden/make_images.py).
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "lapidary/base/sha256.h"
#include "lapidary/vision/pan_and_scan.h"
#include "lapidary/vision/picture.h"
#include "lapidary/vision/resize-inl.h"
#include "tests/support/catch.h"
#include "tests/support/formula_picture.h"
#include "tests/support/golden.h"

namespace lapidary::testing {
namespace {

using HWY_STATIC_DISPATCH(PixelsOf);
using HWY_STATIC_DISPATCH(Resize);

TEST_CASE("pictures of all sizes become 896 x 896 as Pillow makes them, to the bit") {
  const nlohmann::json golden = ReadGoldenJson("images.json");
  CHECK(golden.at("resized").size() >= 35);
  for (const nlohmann::json& entry : golden.at("resized")) {
    const auto width = entry.at("width").get<std::size_t>();
    const auto height = entry.at("height").get<std::size_t>();
    const auto kind = entry.at("kind").get<std::string>();
    CAPTURE(width, height, kind);
    const Result<Picture> resized = Resize(FormulaPicture(kind, width, height), 896, 896);
    REQUIRE(resized.ok());
    REQUIRE(resized->width() == 896);
    REQUIRE(resized->height() == 896);
    Sha256 hash;
    hash.Update({resized->row(0), 896 * 896 * 3});
    CHECK(hash.FinishHex() == entry.at("sha256").get<std::string>());
  }
}

TEST_CASE("a checkerboard of single pixels becomes flat grey") {
  const Result<Picture> grey = Resize(FormulaPicture("checkers", 3584, 3584), 896, 896);
  REQUIRE(grey.ok());
  for (std::size_t i = 0; i < 896 * 896 * 3; ++i) {
    const int pixel = grey->row(0)[i];
    REQUIRE((pixel == 127 || pixel == 128));
  }
}

TEST_CASE("the encoder's input: planes of red, green and blue from -1 to +1") {
  Picture red = FormulaPicture("checkers", 4, 4);
  for (std::size_t i = 0; i < 16; ++i) {
    red.row(0)[i * 3] = 255;
    red.row(0)[i * 3 + 1] = red.row(0)[i * 3 + 2] = 0;
  }
  const Result<std::vector<float>> pixels = PixelsOf(red, 28);
  REQUIRE(pixels.ok());
  REQUIRE(pixels->size() == 3 * 28 * 28);
  for (std::size_t i = 0; i < pixels->size(); ++i) {
    CHECK((*pixels)[i] == (i < 28 * 28 ? 1.0f : -1.0f));
  }
}

TEST_CASE("Pan & Scan cuts as Hugging Face's processor does") {
  const nlohmann::json golden = ReadGoldenJson("images.json");
  CHECK(golden.at("crops").size() >= 25);
  for (const nlohmann::json& entry : golden.at("crops")) {
    const auto width = entry.at("width").get<std::size_t>();
    const auto height = entry.at("height").get<std::size_t>();
    CAPTURE(width, height);
    std::vector<Box> expected;
    for (const nlohmann::json& box : entry.at("boxes")) {
      expected.push_back({box[0], box[1], box[2], box[3]});
    }
    const bool same = PanAndScan(width, height) == expected;
    CHECK(same);
  }
  CHECK(PanAndScan(0, 0).empty());
  CHECK(PanAndScan(3000, 1000, {.max_crops = 0}).empty());
  CHECK(PanAndScan(3000, 1000, {.max_crops = 1}).size() == 1);
}

TEST_CASE("crops are copies of their box, which must lie inside") {
  const Picture picture = FormulaPicture("noise", 20, 10);
  const Result<Picture> crop = Crop(picture, {3, 4, 5, 6});
  REQUIRE(crop.ok());
  for (std::size_t y = 0; y < 6; ++y) {
    for (std::size_t i = 0; i < 15; ++i) CHECK(crop->row(y)[i] == picture.row(y + 4)[9 + i]);
  }
  CHECK(!Crop(picture, {3, 4, 18, 6}).ok());
  CHECK(!Crop(picture, {3, 4, 5, 7}).ok());
  CHECK(!Crop(picture, {21, 0, 0, 1}).ok());
  CHECK(!Crop(picture, {3, 4, 0, 6}).ok());
  CHECK(!Crop(picture, {SIZE_MAX, 4, 2, 6}).ok());
}

}  // namespace
}  // namespace lapidary::testing
