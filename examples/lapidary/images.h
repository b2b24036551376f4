// The options of subcommands that take pictures.
#ifndef LAPIDARY_EXAMPLES_IMAGES_H_
#define LAPIDARY_EXAMPLES_IMAGES_H_

#include <string>
#include <vector>

#include "any_model.h"
#include "lapidary/base/result.h"
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

// The pictures, in order. Errors: those of ReadPicture.
Result<std::vector<Picture>> ReadPictures(const ImageFlags& flags);

// The pictures as this model sees them. Errors: those of ReadPicture and AnyModel::EncodeImage.
Result<std::vector<ImageEmbedding>> EncodeImages(const AnyModel& model, const ImageFlags& flags);

}  // namespace lapidary::cli

#endif  // LAPIDARY_EXAMPLES_IMAGES_H_
