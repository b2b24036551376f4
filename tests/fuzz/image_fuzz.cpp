// Image files: what is known before decoding, EXIF data, and the decoder.
#include <vector>

#include "lapidary/vision/image.h"
#include "lapidary/vision/image_header.h"
#include "tests/fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace lapidary;
  const std::vector<std::uint8_t> file = fuzz::Copy({data, size});
  const int orientation = internal::ExifOrientation(file);
  fuzz::Require(orientation >= 1 && orientation <= 8, "an orientation is 1 to 8");
  const Result<ImageHeader> header = InspectImage(file);
  // Larger pictures are decoded by the same code and would only make this slow.
  if (!header || header->width > 512 || header->height > 512) return 0;
  const Result<Picture> picture = DecodePicture(file);
  if (picture) {
    const bool turned = header->orientation > 4;
    fuzz::Require(picture->width() == (turned ? header->height : header->width),
                  "a picture has the size that was announced");
  }
  return 0;
}
