// From a picture of any size to the encoder's input.
#if defined(LAPIDARY_VISION_RESIZE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef LAPIDARY_VISION_RESIZE_INL_H_
#undef LAPIDARY_VISION_RESIZE_INL_H_
#else
#define LAPIDARY_VISION_RESIZE_INL_H_
#endif

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "lapidary/base/highway-inl.h"
#include "lapidary/base/result.h"
#include "lapidary/vision/picture.h"

HWY_BEFORE_NAMESPACE();
namespace lapidary {
namespace HWY_NAMESPACE {

// The weights with which pixels of a line make up the pixels of a longer or shorter one.
//
// Numbers are those of Pillow's Image.resize with BILINEAR (libImaging/Resample.c): a triangle that
// is as wide as two pixels of the coarser line, so that nothing is skipped when a picture shrinks;
// weights in fixed point, and each pass rounded to 8 bits. Equal weights give equal pixels.
class LineFilter {
 public:
  // 8 bits for the pixels, 2 for sums that overshoot.
  static constexpr int kFractionBits = 32 - 8 - 2;

  struct Output {
    size_t first;  // the first pixel that counts
    size_t count;
    const int32_t* weights;  // [count], their sum is about 2^kFractionBits
  };

  LineFilter(size_t from, size_t to) {
    const double scale = static_cast<double>(from) / static_cast<double>(to);
    const double support = std::max(scale, 1.0);
    std::vector<double> raw;
    for (size_t i = 0; i < to; ++i) {
      const double center = (static_cast<double>(i) + 0.5) * scale;
      const auto first = static_cast<size_t>(std::max(center - support + 0.5, 0.0));
      const auto end = std::min(static_cast<size_t>(center + support + 0.5), from);
      raw.clear();
      double sum = 0;
      for (size_t x = first; x < end; ++x) {
        const double distance = (static_cast<double>(x) - center + 0.5) * (1.0 / support);
        raw.push_back(std::max(0.0, 1.0 - (distance < 0 ? -distance : distance)));
        sum += raw.back();
      }
      places_.push_back({first, end - first, weights_.size()});
      for (const double weight : raw) {
        weights_.push_back(static_cast<int32_t>(0.5 + weight / sum * (1 << kFractionBits)));
      }
    }
  }

  Output operator[](size_t i) const {
    return {places_[i].first, places_[i].count, weights_.data() + places_[i].weights};
  }

 private:
  struct Place {
    size_t first, count, weights;
  };
  std::vector<Place> places_;
  std::vector<int32_t> weights_;
};

// Half, for rounding: where the sum of a LineFilter's products starts.
inline constexpr int32_t kResizeStart = 1 << (LineFilter::kFractionBits - 1);

HWY_INLINE uint8_t ResizedPixel(int32_t sum) {
  return static_cast<uint8_t>(std::clamp(sum >> LineFilter::kFractionBits, 0, 255));
}

inline Result<Picture> ResizeColumns(const Picture& picture, size_t width) {
  Result<Picture> resized = Picture::Create(width, picture.height());
  if (!resized) return resized;
  const LineFilter filter(picture.width(), width);
  for (size_t y = 0; y < picture.height(); ++y) {
    uint8_t* to = resized->row(y);
    for (size_t x = 0; x < width; ++x, to += Picture::kChannels) {
      const LineFilter::Output f = filter[x];
      const uint8_t* from = picture.row(y) + f.first * Picture::kChannels;
      int32_t red = kResizeStart, green = kResizeStart, blue = kResizeStart;
      for (size_t i = 0; i < f.count; ++i, from += Picture::kChannels) {
        red += f.weights[i] * from[0];
        green += f.weights[i] * from[1];
        blue += f.weights[i] * from[2];
      }
      to[0] = ResizedPixel(red);
      to[1] = ResizedPixel(green);
      to[2] = ResizedPixel(blue);
    }
  }
  return resized;
}

inline Result<Picture> ResizeRows(const Picture& picture, size_t height) {
  Result<Picture> resized = Picture::Create(picture.width(), height);
  if (!resized) return resized;
  const LineFilter filter(picture.height(), height);
  const size_t bytes = picture.row_bytes();
  std::vector<int32_t> sums(bytes);
  for (size_t y = 0; y < height; ++y) {
    const LineFilter::Output f = filter[y];
    std::fill(sums.begin(), sums.end(), kResizeStart);
    for (size_t i = 0; i < f.count; ++i) {
      const uint8_t* HWY_RESTRICT from = picture.row(f.first + i);
      int32_t* HWY_RESTRICT sum = sums.data();
      for (size_t x = 0; x < bytes; ++x) sum[x] += f.weights[i] * from[x];
    }
    uint8_t* to = resized->row(y);
    for (size_t x = 0; x < bytes; ++x) to[x] = ResizedPixel(sums[x]);
  }
  return resized;
}

// The picture at another size, bilinear with antialiasing. A direction that keeps its size is left
// alone. As in Pillow 13, columns come first unless they grow and rows shrink. Errors: those of
// Picture::Create.
inline Result<Picture> Resize(const Picture& picture, size_t width, size_t height) {
  const bool columns = width != picture.width(), rows = height != picture.height();
  if (!columns && !rows) return Crop(picture, {0, 0, width, height});
  if (!rows) return ResizeColumns(picture, width);
  if (!columns) return ResizeRows(picture, height);
  const bool rows_first = width > picture.width() && height < picture.height();
  Result<Picture> half = rows_first ? ResizeRows(picture, height) : ResizeColumns(picture, width);
  if (!half) return half;
  return rows_first ? ResizeColumns(*half, width) : ResizeRows(*half, height);
}

// The encoder's input, [3, side, side]: the picture squeezed or stretched into a square, red, green
// and blue as planes, 0 as -1 and 255 as +1 (mean and standard deviation of the published
// preprocessor_config.json are 0.5). Errors: those of Picture::Create.
inline Result<std::vector<float>> PixelsOf(const Picture& picture, size_t side) {
  const Result<Picture> square = Resize(picture, side, side);
  if (!square) return square.error();
  std::vector<float> pixels(Picture::kChannels * side * side);
  for (size_t channel = 0; channel < Picture::kChannels; ++channel) {
    float* plane = pixels.data() + channel * side * side;
    for (size_t i = 0; i < side * side; ++i) {
      const int pixel = square->row(0)[i * Picture::kChannels + channel];
      plane[i] = static_cast<float>(2 * pixel - 255) / 255.0f;  // exact at both ends
    }
  }
  return pixels;
}

}  // namespace HWY_NAMESPACE
}  // namespace lapidary
HWY_AFTER_NAMESPACE();

#endif  // include guard
