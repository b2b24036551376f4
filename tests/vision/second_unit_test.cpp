// A second translation unit with the decoder, in a program that has a stb_image of its own
// (stb_image_test.cpp).
#include <cstddef>
#include <cstdint>
#include <span>

#include "lapidary/vision/image.h"

namespace lapidary::testing {

std::size_t WidthOfPicture(std::span<const std::uint8_t> bytes) {
  const Result<Picture> picture = DecodePicture(bytes);
  return picture ? picture->width() : 0;
}

}  // namespace lapidary::testing
