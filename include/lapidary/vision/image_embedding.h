// What the decoder sees of a picture.
#ifndef LAPIDARY_VISION_IMAGE_EMBEDDING_H_
#define LAPIDARY_VISION_IMAGE_EMBEDDING_H_

#include <cstddef>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "lapidary/vision/pan_and_scan.h"

namespace lapidary {

// How a picture is shown to a model.
struct ImageOptions {
  bool pan_and_scan = false;  // add crops of long pictures
  PanAndScanOptions crops = {};
};

// Soft tokens of one picture: immutable and cheap to copy, so that a picture that is asked about
// again need not be encoded again. Part 0 is the whole picture, the others are its crops.
class ImageEmbedding {
 public:
  // values: [parts, soft_tokens, width].
  ImageEmbedding(std::size_t soft_tokens, std::size_t width, std::vector<float> values)
      : soft_tokens_(soft_tokens),
        width_(width),
        values_(std::make_shared<const std::vector<float>>(std::move(values))) {}

  std::size_t parts() const { return values_->size() / (soft_tokens_ * width_); }
  std::size_t soft_tokens() const { return soft_tokens_; }  // of a part
  std::size_t width() const { return width_; }              // of the decoder
  std::span<const float> values() const { return *values_; }
  // [soft_tokens, width]
  std::span<const float> part(std::size_t i) const {
    return values().subspan(i * soft_tokens_ * width_, soft_tokens_ * width_);
  }

 private:
  std::size_t soft_tokens_, width_;
  std::shared_ptr<const std::vector<float>> values_;
};

}  // namespace lapidary

#endif  // LAPIDARY_VISION_IMAGE_EMBEDDING_H_
