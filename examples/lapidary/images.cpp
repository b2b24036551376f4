#include "images.h"

#include <utility>

#include "lapidary/vision/image.h"

namespace lapidary::cli {

void AddImageFlags(CLI::App& command, ImageFlags& flags) {
  AddTexts(command, {"--image", "FILE", "A picture (JPEG, PNG, BMP); may be given several times"},
           flags.paths);
  AddPanAndScanFlag(command, flags.pan_and_scan);
}

void AddPanAndScanFlag(CLI::App& command, bool& pan_and_scan) {
  AddFlag(command, "--pan-and-scan", "Show long pictures a second time, cut into pieces",
          pan_and_scan);
}

Result<std::vector<Picture>> ReadPictures(const ImageFlags& flags) {
  std::vector<Picture> pictures;
  for (const std::string& path : flags.paths) {
    Result<Picture> picture = ReadPicture(path);
    if (!picture) return picture.error();
    pictures.push_back(*std::move(picture));
  }
  return pictures;
}

Result<std::vector<ImageEmbedding>> EncodeImages(const Engine& model, const ImageFlags& flags) {
  const Result<std::vector<Picture>> pictures = ReadPictures(flags);
  if (!pictures) return pictures.error();
  std::vector<ImageEmbedding> images;
  for (const Picture& picture : *pictures) {
    Result<ImageEmbedding> image = model.EncodeImage(picture, flags.options());
    if (!image) return image.error();
    images.push_back(*std::move(image));
  }
  return images;
}

}  // namespace lapidary::cli
