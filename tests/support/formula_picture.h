// Pictures made by a formula: pixel() of tests/golden/make_images.py.
#ifndef LAPIDARY_TESTS_SUPPORT_FORMULA_PICTURE_H_
#define LAPIDARY_TESTS_SUPPORT_FORMULA_PICTURE_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <utility>

#include "lapidary/vision/picture.h"
#include "tests/support/catch.h"

namespace lapidary::testing {

inline std::uint8_t FormulaPixel(std::string_view kind, std::uint64_t width, std::uint64_t x,
                                 std::uint64_t y, std::uint64_t c) {
  std::uint64_t value = 0;
  if (kind == "waves") {
    const std::uint64_t last = std::max<std::uint64_t>(width, 2) - 1;
    value = (x * (c + 1) * 255 / last + y * (c + 3)) ^ (x * y >> 6);
  } else if (kind == "noise") {
    value = (x * 2654435761u + y * 40503 + c * 97) * 2246822519u >> 13;
  } else if (kind == "checkers") {
    value = (x + y) % 2 * 255;
  } else {
    value = (x / 7 + y / 5 + c) % 2 * 255;
  }
  return static_cast<std::uint8_t>(value);
}

inline Picture FormulaPicture(std::string_view kind, std::size_t width, std::size_t height) {
  Result<Picture> picture = Picture::Create(width, height);
  REQUIRE(picture.ok());
  for (std::size_t y = 0; y < height; ++y) {
    for (std::size_t x = 0; x < width; ++x) {
      for (std::size_t c = 0; c < 3; ++c) {
        picture->row(y)[x * 3 + c] = FormulaPixel(kind, width, x, y, c);
      }
    }
  }
  return *std::move(picture);
}

}  // namespace lapidary::testing

#endif  // LAPIDARY_TESTS_SUPPORT_FORMULA_PICTURE_H_
