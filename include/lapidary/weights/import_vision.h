// The vision tower and projector: from an mmproj GGUF file of llama.cpp, or from a Hugging Face
// checkpoint.
#ifndef LAPIDARY_WEIGHTS_IMPORT_VISION_H_
#define LAPIDARY_WEIGHTS_IMPORT_VISION_H_

#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "lapidary/base/bytes.h"
#include "lapidary/base/result.h"
#include "lapidary/config/config.h"
#include "lapidary/config/models.h"
#include "lapidary/weights/gguf.h"
#include "lapidary/weights/import.h"
#include "lapidary/weights/tensor_table.h"

namespace lapidary {

// Adds the vision tower of an mmproj file to a model imported from another file. For a published
// size its VisionConfig must hold; another model gets its own from the metadata. Errors:
// kUnsupported (no mmproj file of Gemma 3, a tensor type that is not read), kMismatch (the model
// reads no pictures), kCorrupt (missing tensors, shapes that contradict the Config).
Status ImportMmproj(const Gguf& mmproj, Import& import);

namespace internal {

// The two ways to name the tensors. What a layer has is called kLayerParts[i].source[style].
enum class VisionStyle { kGguf, kHuggingFace };

struct VisionPart {
  std::string_view name;  // here, behind "vision." or "vision.layers.N."
  std::string_view gguf;
  std::string_view hugging_face;

  std::string_view source(VisionStyle style) const {
    return style == VisionStyle::kGguf ? gguf : hugging_face;
  }
};

// True if a table holds anything of a vision tower.
inline bool HasVision(const TensorTable& tensors, VisionStyle style) {
  const bool gguf = style == VisionStyle::kGguf;
  return tensors.Find(gguf ? "v.patch_embd.weight" : "embeddings.patch_embedding.weight") !=
             nullptr ||
         tensors.Find(gguf ? "mm.soft_emb_norm.weight" : "mm_soft_emb_norm.weight") != nullptr;
}

// Checks a VisionConfig together with the rest, before anything is computed from it.
inline Status CheckVision(const Config& config) {
  if (Status status = CheckConfig(config); !status) return status;
  const VisionConfig& v = config.vision;
  if (!v.present()) {
    return MakeError(ErrorCode::kCorrupt,
                     "config: vision.image is 0, expected the pixels along a side of a picture");
  }
  // Keeps the products of two fields within 31 bits.
  constexpr std::int32_t kMost = 1 << 14;
  if (v.image > kMost || v.patch > 1 << 8 || v.width > kMost || v.ff_width > 1 << 18) {
    return MakeError(ErrorCode::kCorrupt, "config: a field of vision is larger than any tower's");
  }
  return {};
}

inline Status CollectLayers(Importer& importer, const TensorTable& tensors, VisionStyle style) {
  const VisionConfig& v = importer.import.config.vision;
  constexpr VisionPart kNorms[] = {{"norm1", "ln1", "layer_norm1"},
                                   {"norm2", "ln2", "layer_norm2"}};
  constexpr VisionPart kSquare[] = {{"q", "attn_q", "self_attn.q_proj"},
                                    {"k", "attn_k", "self_attn.k_proj"},
                                    {"v", "attn_v", "self_attn.v_proj"},
                                    {"out", "attn_out", "self_attn.out_proj"}};
  VisionPart up = {"up", "ffn_up", "mlp.fc1"};
  VisionPart down = {"down", "ffn_down", "mlp.fc2"};
  // The first converters, and with them Google's own files, called the two matrices each other's
  // name.
  const SourceTensor* const called_up = tensors.Find("v.blk.0.ffn_up.weight");
  if (called_up != nullptr && v.width != v.ff_width &&
      called_up->cols() == static_cast<std::uint64_t>(v.ff_width)) {
    std::swap(up.gguf, down.gguf);
  }
  const std::string_view layer = style == VisionStyle::kGguf ? "v.blk." : "encoder.layers.";
  for (std::int32_t i = 0; i < v.layers; ++i) {
    const std::string from = StrCat(layer, i, ".");
    const std::string to = StrCat("vision.layers.", i, ".");
    const auto vector = [&](const VisionPart& part, const char* ending, const char* suffix,
                            std::int32_t size) {
      return importer.Add({.source = StrCat(from, part.source(style), ending),
                           .name = StrCat(to, part.name, suffix),
                           .rows = 0,
                           .cols = size});
    };
    const auto linear = [&](const VisionPart& part, std::int32_t rows,
                            std::int32_t cols) -> Status {
      if (Status s = importer.Add({.source = StrCat(from, part.source(style), ".weight"),
                                   .name = StrCat(to, part.name),
                                   .rows = rows,
                                   .cols = cols});
          !s) {
        return s;
      }
      return vector(part, ".bias", "_bias", rows);
    };
    for (const VisionPart& norm : kNorms) {
      if (Status s = vector(norm, ".weight", "", v.width); !s) return s;
      if (Status s = vector(norm, ".bias", "_bias", v.width); !s) return s;
    }
    for (const VisionPart& part : kSquare) {
      if (Status s = linear(part, v.width, v.width); !s) return s;
    }
    if (Status s = linear(up, v.ff_width, v.width); !s) return s;
    if (Status s = linear(down, v.width, v.ff_width); !s) return s;
  }
  return {};
}

// Adds the tensors of a tower with the VisionConfig of the importer, all of them or an error.
inline Status CollectVision(Importer& importer, const TensorTable& tensors, VisionStyle style) {
  if (Status status = CheckVision(importer.import.config); !status) return status;
  const VisionConfig& v = importer.import.config.vision;
  const bool gguf = style == VisionStyle::kGguf;
  const std::int32_t side = v.image / v.patch;
  const std::string patch = gguf ? "v.patch_embd" : "embeddings.patch_embedding";
  const std::string norm = gguf ? "v.post_ln" : "post_layernorm";
  const std::string projection = gguf ? "mm.input_projection.weight" : "mm_input_projection_weight";
  const Wanted front[] = {
      {.source = patch + ".weight",
       .name = "vision.patch",
       .rows = v.width,
       .cols = 3 * v.patch * v.patch,
       .convolution = true},
      {.source = patch + ".bias", .name = "vision.patch_bias", .rows = 0, .cols = v.width},
      {.source = gguf ? "v.position_embd.weight" : "embeddings.position_embedding.weight",
       .name = "vision.positions",
       .rows = side * side,
       .cols = v.width}};
  for (const Wanted& wanted : front) {
    if (Status s = importer.Add(wanted); !s) return s;
  }
  if (Status s = CollectLayers(importer, tensors, style); !s) return s;
  // The converters of llama.cpp add the 1 to the projector's norm, and leave the matrix as it is:
  // inputs in rows. Only a file of a tool that turned it has the model's width first.
  const std::int32_t width = importer.import.config.width;
  const SourceTensor* const matrix = tensors.Find(projection);
  const bool turned =
      matrix != nullptr && width != v.width && matrix->rows() == static_cast<std::uint64_t>(width);
  const Wanted back[] = {
      {.source = norm + ".weight", .name = "vision.final_norm", .rows = 0, .cols = v.width},
      {.source = norm + ".bias", .name = "vision.final_norm_bias", .rows = 0, .cols = v.width},
      {.source = gguf ? "mm.soft_emb_norm.weight" : "mm_soft_emb_norm.weight",
       .name = "vision.soft_norm",
       .rows = 0,
       .cols = v.width,
       .less_one = !gguf},
      {.source = projection,
       .name = "vision.projection",
       .rows = width,
       .cols = v.width,
       .transposed = !turned}};
  for (const Wanted& wanted : back) {
    if (Status s = importer.Add(wanted); !s) return s;
  }
  return {};
}

// Reads `clip.vision.*`. Only what is there is set.
inline VisionConfig ReadMmprojConfig(const Gguf& mmproj) {
  const auto number = [&](std::string_view key) {
    const GgufValue* value = mmproj.Find(key);
    const std::int64_t whole = value != nullptr ? value->Integer().value_or(0) : 0;
    return whole > 0 && whole <= 1 << 20 ? static_cast<std::int32_t>(whole) : 0;
  };
  VisionConfig v;
  v.image = number("clip.vision.image_size");
  v.patch = number("clip.vision.patch_size");
  v.width = number("clip.vision.embedding_length");
  v.layers = number("clip.vision.block_count");
  v.heads = number("clip.vision.attention.head_count");
  v.ff_width = number("clip.vision.feed_forward_length");
  // 4 x 4 patches become a row, unless the file says otherwise.
  const std::int32_t scale = number("clip.vision.projector.scale_factor");
  const std::int32_t pool = scale > 0 ? scale : 4;
  const std::int32_t side = v.patch > 0 ? v.image / v.patch / pool : 0;
  v.soft_tokens = side < 1 << 10 ? side * side : 0;
  return v;
}

}  // namespace internal

inline Status ImportMmproj(const Gguf& mmproj, Import& import) {
  const auto text = [&](std::string_view key) -> std::string_view {
    const GgufValue* value = mmproj.Find(key);
    return value != nullptr ? value->Text().value_or("not a string") : "missing";
  };
  const std::string_view architecture = text("general.architecture");
  std::string_view projector = text("clip.projector_type");
  if (projector == "missing") projector = text("clip.vision.projector_type");
  if (architecture != "clip" || projector != "gemma3") {
    return MakeError(ErrorCode::kUnsupported, "expected the vision part of Gemma 3 (architecture ",
                     "clip, projector gemma3), found architecture ", Printable(architecture),
                     ", projector ", Printable(projector));
  }
  internal::Importer importer(mmproj.tensors(), {});
  importer.import = std::move(import);
  Config& config = importer.import.config;
  const VisionConfig found = internal::ReadMmprojConfig(mmproj);
  const bool known = NameOf(config) != "custom";
  if (known && !config.vision.present()) {
    return MakeError(ErrorCode::kMismatch, NameOf(config),
                     " reads no pictures, expected one that does");
  }
  if (!config.vision.present()) config.vision = found;
  if (found != config.vision) {
    Config other = config;
    other.vision = found;
    importer.Warn("the metadata of the vision part differs: ", DescribeDifference(config, other));
  }
  if (Status status = CollectVision(importer, mmproj.tensors(), internal::VisionStyle::kGguf);
      !status) {
    return status;
  }
  importer.ReportUnknownTensors();
  import = std::move(importer.import);
  return {};
}

}  // namespace lapidary

#endif  // LAPIDARY_WEIGHTS_IMPORT_VISION_H_
