// Pan & Scan: long pictures are shown to the model a second time, cut into pieces (Gemma 3 report,
// section 2.2).
#ifndef LAPIDARY_VISION_PAN_AND_SCAN_H_
#define LAPIDARY_VISION_PAN_AND_SCAN_H_

#include <algorithm>
#include <cstddef>
#include <vector>

#include "lapidary/vision/picture.h"

namespace lapidary {

// The defaults are those of the published preprocessor_config.json.
struct PanAndScanOptions {
  std::size_t min_crop = 256;  // pixels; a crop may not be smaller in either direction
  std::size_t max_crops = 4;
  double min_ratio = 1.2;  // of the longer to the shorter side
};

// The crops of a picture, from left to right or from top to bottom: the rule of Hugging Face's
// Gemma3ImageProcessor. None for a picture that is nearly square or too small. The last crop is a
// few pixels smaller if the longer side does not divide evenly. Precondition: min_crop > 0.
inline std::vector<Box> PanAndScan(std::size_t width, std::size_t height,
                                   const PanAndScanOptions& options = {}) {
  const std::size_t longer = std::max(width, height), shorter = std::min(width, height);
  if (shorter == 0) return {};
  const double ratio = static_cast<double>(longer) / static_cast<double>(shorter);
  if (ratio < options.min_ratio) return {};
  // The nearest whole number of squares, but no crop below the least size, and at least two.
  auto count = static_cast<std::size_t>(ratio + 0.5);
  count = std::min(longer / options.min_crop, count);
  count = std::min(options.max_crops, std::max<std::size_t>(2, count));
  if (count == 0) return {};
  const std::size_t length = (longer + count - 1) / count;
  if (std::min(length, shorter) < options.min_crop) return {};
  std::vector<Box> crops;
  for (std::size_t i = 0; i < count && i * length < longer; ++i) {
    const std::size_t begin = i * length;
    const std::size_t size = std::min(length, longer - begin);
    crops.push_back(width >= height ? Box{begin, 0, size, height} : Box{0, begin, width, size});
  }
  return crops;
}

}  // namespace lapidary

#endif  // LAPIDARY_VISION_PAN_AND_SCAN_H_
