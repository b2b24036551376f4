// lapidary encode-image: a picture as the image encoder reads it, or as the decoder sees it.
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "any_model.h"
#include "command.h"
#include "images.h"
#include "json_out.h"
#include "lapidary/base/file.h"
#include "lapidary/config/models.h"
#include "lapidary/vision/pan_and_scan.h"
#include "lapidary/vision/resize-inl.h"
#include "machine.h"
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

// A picture or a crop after another, [3, 896, 896] each.
Result<std::vector<float>> EncoderInput(const Picture& picture, const EncodeImageFlags& flags) {
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
  return all;
}

Result<std::vector<float>> SoftTokens(const Picture& picture, const EncodeImageFlags& flags) {
  if (flags.model.path.empty()) {
    return MakeError(ErrorCode::kInvalidArgument, "without --pixels a model is needed: -m FILE");
  }
  const Result<OpenedModel> opened = OpenModelOf(flags.model, /*needs_text=*/false);
  if (!opened) return opened.error();
  const Result<ImageEmbedding> image = opened->model->EncodeImage(picture, flags.images.options());
  if (!image) return image.error();
  return std::vector<float>(image->values().begin(), image->values().end());
}

Status Run(const EncodeImageFlags& flags) {
  if (flags.images.paths.size() != 1) {
    return MakeError(ErrorCode::kInvalidArgument, "expected one --image, found ",
                     flags.images.paths.size());
  }
  const Result<std::vector<Picture>> pictures = ReadPictures(flags.images);
  if (!pictures) return pictures.error();
  const Stopwatch watch;
  const Result<std::vector<float>> values =
      flags.pixels ? EncoderInput(pictures->front(), flags) : SoftTokens(pictures->front(), flags);
  if (!values) return values.error();
  const double seconds = watch.seconds();

  Result<OutputFile> output = OutputFile::Create(flags.output);
  if (!output) return output.error();
  const std::span bytes(reinterpret_cast<const std::uint8_t*>(values->data()),
                        values->size() * sizeof(float));
  if (Status status = output->WriteAt(0, bytes); !status) return status;
  if (Status status = output->Commit(); !status) return status;

  const std::string hash = HashOf(*values);
  if (flags.json) {
    PrintJson({{"values", values->size()},
               {"output", flags.output},
               {"seconds", seconds},
               {"target", TargetName()},
               {"hash", hash}});
    return {};
  }
  WriteOut(StrCat(flags.output, ": ", values->size(), " float32 in ", Fixed(seconds, 2), " s, ",
                  TargetName(), ", ", hash, "\n"));
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
