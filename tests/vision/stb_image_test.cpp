// A program's own stb_image, with external linkage and another format than the library's.
#define STB_IMAGE_IMPLEMENTATION
#define STBI_ONLY_GIF
#if __has_include(<stb/stb_image.h>)
#include <stb/stb_image.h>
#else
#include <stb_image.h>
#endif

#include "tests/support/catch.h"

namespace lapidary::testing {

TEST_CASE("a program may have a stb_image of its own") {
  // One black pixel.
  const unsigned char gif[] = {'G', 'I', 'F', '8', '9', 'a', 1,   0,    1, 0, 0x80, 0,
                               0,   0,   0,   0,   255, 255, 255, ',',  0, 0, 0,    0,
                               1,   0,   1,   0,   0,   2,   2,   0x44, 1, 0, ';'};
  int width = 0, height = 0, channels = 0;
  unsigned char* pixels = stbi_load_from_memory(gif, sizeof(gif), &width, &height, &channels, 3);
  REQUIRE(pixels != nullptr);
  CHECK(width == 1);
  stbi_image_free(pixels);
}

}  // namespace lapidary::testing
