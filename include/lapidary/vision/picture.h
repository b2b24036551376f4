// A picture in memory, and what can be done to one without arithmetic on its pixels.
#ifndef LAPIDARY_VISION_PICTURE_H_
#define LAPIDARY_VISION_PICTURE_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <utility>

#include "lapidary/base/buffer.h"
#include "lapidary/base/bytes.h"
#include "lapidary/base/result.h"

namespace lapidary {

// Largest pictures that this library touches. A picture of 134 million pixels, more than the
// largest phone camera of 2022 takes, is 400 MB in memory.
inline constexpr std::size_t kMaxPictureSide = 32'768;
inline constexpr std::size_t kMaxPicturePixels = std::size_t{1} << 27;

// A rectangle of pixels.
struct Box {
  std::size_t x = 0, y = 0;  // of the upper left corner
  std::size_t width = 0, height = 0;

  friend constexpr bool operator==(const Box&, const Box&) = default;
};

// Red, green and blue of 8 bits, rows from top to bottom: [height, width, 3]. Movable, not
// copyable: pictures are large.
class Picture {
 public:
  static constexpr std::size_t kChannels = 3;

  // Pixels are not initialised. kUnsupported for a picture without pixels or beyond the limits
  // above; kOutOfMemory.
  static Result<Picture> Create(std::size_t width, std::size_t height) {
    if (Status status = CheckSize(width, height); !status) return status.error();
    Result<AlignedBuffer> memory =
        AlignedBuffer::Allocate(width * height * kChannels, "the pixels of a picture");
    if (!memory) return memory.error();
    return Picture(width, height, *std::move(memory));
  }

  static Status CheckSize(std::uint64_t width, std::uint64_t height) {
    if (width == 0 || height == 0 || width > kMaxPictureSide || height > kMaxPictureSide ||
        width * height > kMaxPicturePixels) {
      return MakeError(ErrorCode::kUnsupported, "a picture of ", width, " x ", height,
                       " pixels: expected sides from 1 to ", kMaxPictureSide, " and at most ",
                       kMaxPicturePixels, " pixels");
    }
    return {};
  }

  std::size_t width() const { return width_; }
  std::size_t height() const { return height_; }
  std::size_t row_bytes() const { return width_ * kChannels; }
  std::uint8_t* row(std::size_t y) { return memory_.data() + y * row_bytes(); }
  const std::uint8_t* row(std::size_t y) const { return memory_.data() + y * row_bytes(); }

 private:
  Picture(std::size_t width, std::size_t height, AlignedBuffer memory)
      : width_(width), height_(height), memory_(std::move(memory)) {}

  std::size_t width_, height_;
  AlignedBuffer memory_;
};

// A copy of a part; kInvalidArgument if the box does not lie inside the picture.
inline Result<Picture> Crop(const Picture& picture, const Box& box) {
  if (!RangeFits(box.x, box.width, picture.width()) ||
      !RangeFits(box.y, box.height, picture.height())) {
    return MakeError(ErrorCode::kInvalidArgument, "a box of ", box.width, " x ", box.height,
                     " pixels at ", box.x, ", ", box.y, " does not lie inside a picture of ",
                     picture.width(), " x ", picture.height());
  }
  Result<Picture> part = Picture::Create(box.width, box.height);
  if (!part) return part;
  for (std::size_t y = 0; y < box.height; ++y) {
    const std::uint8_t* from = picture.row(box.y + y) + box.x * Picture::kChannels;
    std::copy_n(from, part->row_bytes(), part->row(y));
  }
  return part;
}

// The picture as it should be looked at. `orientation` is EXIF's (Exif 2.32, tag 0x0112): 1 as
// stored; 2 mirrored left to right; 3 turned by 180 degrees; 4 mirrored top to bottom; 5 to 8 with
// rows and columns exchanged, 6 and 8 being a camera held upright.
inline Result<Picture> Upright(Picture picture, int orientation) {
  if (orientation <= 1 || orientation > 8) return picture;
  const bool swap = orientation >= 5;
  const bool mirror_x =
      orientation == 2 || orientation == 3 || orientation == 7 || orientation == 8;
  const bool mirror_y =
      orientation == 3 || orientation == 4 || orientation == 6 || orientation == 7;
  const std::size_t width = picture.width(), height = picture.height();
  Result<Picture> upright = Picture::Create(swap ? height : width, swap ? width : height);
  if (!upright) return upright;
  for (std::size_t y = 0; y < upright->height(); ++y) {
    std::uint8_t* to = upright->row(y);
    for (std::size_t x = 0; x < upright->width(); ++x, to += Picture::kChannels) {
      const std::size_t column = swap ? y : x;
      const std::size_t row = swap ? x : y;
      const std::uint8_t* from = picture.row(mirror_y ? height - 1 - row : row) +
                                 (mirror_x ? width - 1 - column : column) * Picture::kChannels;
      std::copy_n(from, Picture::kChannels, to);
    }
  }
  return upright;
}

}  // namespace lapidary

#endif  // LAPIDARY_VISION_PICTURE_H_
