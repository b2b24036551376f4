// The options of subcommands that take pictures.
#ifndef LAPIDARY_EXAMPLES_IMAGES_H_
#define LAPIDARY_EXAMPLES_IMAGES_H_

#include <string>
#include <vector>

#include "lapidary/base/result.h"
#include "lapidary/generate/engine.h"
#include "lapidary/vision/image_embedding.h"
#include "lapidary/vision/picture.h"
#include "options.h"

namespace lapidary::cli {

struct ImageFlags {
  std::vector<std::string> paths;
  bool pan_and_scan = false;

  ImageOptions options() const { return {.pan_and_scan = pan_and_scan}; }
};

// --image and --pan-and-scan.
void AddImageFlags(CLI::App& command, ImageFlags& flags);
// --pan-and-scan
void AddPanAndScanFlag(CLI::App& command, bool& pan_and_scan);

// The pictures, in order. Errors: those of ReadPicture.
Result<std::vector<Picture>> ReadPictures(const ImageFlags& flags);

// The pictures as this model sees them. Errors: those of ReadPicture and Engine::EncodeImage.
Result<std::vector<ImageEmbedding>> EncodeImages(const Engine& model, const ImageFlags& flags);

}  // namespace lapidary::cli

#endif  // LAPIDARY_EXAMPLES_IMAGES_H_
