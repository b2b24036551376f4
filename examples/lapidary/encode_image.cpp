// lapidary encode-image: a picture as the image encoder reads it, or as the decoder sees it.
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "command.h"
#include "images.h"
#include "json_out.h"
#include "lapidary/base/file.h"
#include "lapidary/config/models.h"
#include "lapidary/generate/engine.h"
#include "lapidary/vision/pan_and_scan.h"
#include "lapidary/vision/resize-inl.h"
#include "model_flags.h"
#include "terminal.h"

namespace lapidary::cli {
namespace {

struct EncodeImageFlags {
  ModelFlags model;
  ImageFlags images;
  std::string output;
  bool pixels = false;
  bool json = false;
};

struct Encoded {
  std::vector<float> values;
  std::string target;  // the instruction set that made them
};

// A picture or a crop after another, [3, 896, 896] each.
Result<Encoded> EncoderInput(const Picture& picture, const EncodeImageFlags& flags) {
  std::vector<Box> boxes = {{0, 0, picture.width(), picture.height()}};
  if (flags.images.pan_and_scan) {
    const std::vector<Box> crops = PanAndScan(picture.width(), picture.height());
    boxes.insert(boxes.end(), crops.begin(), crops.end());
  }
  std::vector<float> all;
  for (const Box& box : boxes) {
    const Result<Picture> part = Crop(picture, box);
    if (!part) return part.error();
    const Result<std::vector<float>> pixels =
        HWY_STATIC_DISPATCH(PixelsOf)(*part, static_cast<std::size_t>(kSigLip.image));
    if (!pixels) return pixels.error();
    all.insert(all.end(), pixels->begin(), pixels->end());
  }
  return Encoded{std::move(all), hwy::TargetName(HWY_STATIC_TARGET)};
}

Result<Encoded> SoftTokens(const Picture& picture, const EncodeImageFlags& flags) {
  if (flags.model.path.empty()) {
    return MakeError(ErrorCode::kInvalidArgument, "without --pixels a model is needed: -m FILE");
  }
  const Result<OpenedModel> opened = OpenModelOf(flags.model, /*needs_text=*/false);
  if (!opened) return opened.error();
  const Result<ImageEmbedding> image = opened->model->EncodeImage(picture, flags.images.options());
  if (!image) return image.error();
  return Encoded{{image->values().begin(), image->values().end()},
                 std::string(opened->model->target())};
}

Status Run(const EncodeImageFlags& flags) {
  if (flags.images.paths.size() != 1) {
    return MakeError(ErrorCode::kInvalidArgument, "expected one --image, found ",
                     flags.images.paths.size());
  }
  const Result<std::vector<Picture>> pictures = ReadPictures(flags.images);
  if (!pictures) return pictures.error();
  const Stopwatch watch;
  const Result<Encoded> encoded =
      flags.pixels ? EncoderInput(pictures->front(), flags) : SoftTokens(pictures->front(), flags);
  if (!encoded) return encoded.error();
  const std::vector<float>& values = encoded->values;
  const double seconds = watch.seconds();

  const std::span bytes(reinterpret_cast<const std::uint8_t*>(values.data()),
                        values.size() * sizeof(float));
  if (Status status = WriteFile(flags.output, bytes); !status) return status;

  const std::string hash = HashOf(values);
  if (flags.json) {
    PrintJson({{"values", values.size()},
               {"output", flags.output},
               {"seconds", seconds},
               {"target", encoded->target},
               {"hash", hash}});
    return {};
  }
  WriteOut(StrCat(flags.output, ": ", values.size(), " float32 in ", Fixed(seconds, 2), " s, ",
                  encoded->target, ", ", hash, "\n"));
  return {};
}

}  // namespace

void AddEncodeImage(CLI::App& app, Command* chosen) {
  AddCommand<EncodeImageFlags>(
      app, chosen, "encode-image", "Write the soft tokens of a picture", Run,
      [](CLI::App& command, EncodeImageFlags& flags) {
        AddModelFlags(command, flags.model, Need::kOptional);
        AddImageFlags(command, flags.images);
        AddText(command,
                {"-o,--output", "FILE",
                 "Gets float32 values: [pictures and crops, 256, width of the model]"},
                flags.output, Need::kRequired);
        AddFlag(command, "--pixels",
                "Write the encoder's input instead, [pictures and crops, 3, 896, 896]; needs no "
                "model",
                flags.pixels);
        AddJsonFlag(command, flags.json);
        SetFooter(command,
                  "Example:\n"
                  "  lapidary encode-image -m gemma-3-4b.lap --image cat.jpg -o cat.f32");
      });
}

}  // namespace lapidary::cli
