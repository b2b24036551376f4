// mmproj files of llama.cpp: old and new names of their tensors, merged into one blob with a
// decoder.
#include "lapidary/weights/import_vision.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "lapidary/weights/convert-inl.h"
#include "lapidary/weights/import_gguf.h"
#include "lapidary/weights/weight_file.h"
#include "tests/support/catch.h"
#include "tests/support/gguf_builder.h"
#include "tests/support/panel.h"
#include "tests/support/safetensors_builder.h"
#include "tests/support/says.h"
#include "tests/support/temp_folder.h"

namespace lapidary {
namespace {

using HWY_NAMESPACE::ConvertToBlob;
using testing::BuildGemma;
using testing::BuildHuggingFace;
using testing::Bytes;
using testing::GgufBuilder;
using testing::HuggingFaceBuilder;
using testing::kTinyConfig;
using testing::kTinyVisionConfig;
using testing::PanelValue;
using testing::SafetensorsBuilder;
using testing::Says;
using testing::TempFolder;
using testing::WriteFile;

void ReplaceAll(std::string& text, std::string_view from, std::string_view to) {
  if (const std::size_t at = text.find(from); at != text.npos) text.replace(at, from.size(), to);
}

// What llama.cpp's converters call a tensor of a checkpoint (Gemma3VisionModel of
// convert_hf_to_gguf.py and the MODEL_TENSOR table of its gguf package). `old`:
// gemma3_convert_encoder_to_gguf.py, which made Google's files.
std::string MmprojName(std::string name, bool old) {
  for (const auto& [from, to] : std::vector<std::pair<const char*, const char*>>{
           {"vision_tower.vision_model.encoder.layers.", "v.blk."},
           {"vision_tower.vision_model.", "v."},
           {"multi_modal_projector.mm_input_projection_weight", "mm.input_projection.weight"},
           {"multi_modal_projector.mm_", "mm."},
           {"embeddings.patch_embedding", "patch_embd"},
           {"embeddings.position_embedding", "position_embd"},
           {"post_layernorm", "post_ln"},
           {"self_attn.q_proj", "attn_q"},
           {"self_attn.k_proj", "attn_k"},
           {"self_attn.v_proj", "attn_v"},
           {"self_attn.out_proj", "attn_out"},
           {"layer_norm", "ln"},
           {"mlp.fc1", old ? "ffn_down" : "ffn_up"},
           {"mlp.fc2", old ? "ffn_up" : "ffn_down"}}) {
    ReplaceAll(name, from, to);
  }
  return name;
}

// The vision part of a checkpoint as an mmproj file: matrices in BF16, the rest in F32.
GgufBuilder Mmproj(const HuggingFaceBuilder& checkpoint, bool old = false) {
  GgufBuilder b;
  const VisionConfig& v = kTinyVisionConfig.vision;
  b.SetText("general.architecture", "clip");
  b.SetText("clip.projector_type", "gemma3");
  const auto set = [&](const char* key, std::int32_t value) {
    b.Set(StrCat("clip.vision.", key), static_cast<std::uint32_t>(value));
  };
  set("image_size", v.image);
  set("patch_size", v.patch);
  set("embedding_length", v.width);
  set("block_count", v.layers);
  set("attention.head_count", v.heads);
  set("feed_forward_length", v.ff_width);
  for (const SafetensorsBuilder::Tensor& source : checkpoint.weights.tensors) {
    if (source.name.starts_with("language_model.")) continue;
    GgufBuilder::Tensor tensor;
    tensor.name = MmprojName(source.name, old);
    tensor.dims.assign(source.shape.rbegin(), source.shape.rend());
    tensor.type = 30;
    tensor.data = source.data;
    if (source.shape.size() == 1 || source.name.find("position") != std::string::npos) {
      tensor.type = 0;
      tensor.data.clear();
      const bool gain = source.name.find("soft_emb_norm") != std::string::npos;
      for (std::size_t i = 0; i < source.data.size() / 2; ++i) {
        testing::Put(tensor.data, checkpoint.weights.At(source.name, i) + (gain ? 1.0f : 0.0f));
      }
    }
    b.tensors.push_back(std::move(tensor));
  }
  return b;
}

Result<Import> Merge(const GgufBuilder& decoder, const GgufBuilder& mmproj) {
  // Only names, shapes and flags are looked at, which do not view the files.
  const Bytes decoder_file = decoder.Build(), mmproj_file = mmproj.Build();
  const Result<Gguf> gguf = Gguf::Parse(decoder_file);
  REQUIRE(gguf);
  Result<Import> import = ImportGguf(*gguf);
  REQUIRE(import);
  const Result<Gguf> vision = Gguf::Parse(mmproj_file);
  REQUIRE(vision);
  if (Status status = ImportMmproj(*vision, *import); !status) return status.error();
  return import;
}

GgufBuilder Decoder() { return BuildGemma(kTinyConfig, Format::kQ8_0); }

// Converts a decoder and an mmproj file to one blob.
void Convert(const TempFolder& folder, const GgufBuilder& mmproj) {
  WriteFile(folder / "m.gguf", Decoder().Build());
  WriteFile(folder / "mmproj.gguf", mmproj.Build());
  const Result<ConvertReport> report =
      ConvertToBlob(folder / "m.gguf", folder / "m.lap", {.mmproj = folder / "mmproj.gguf"});
  if (!report) FAIL(report.error().message);
  CHECK(report->config == kTinyVisionConfig);
  CHECK(report->warnings.empty());
}

TEST_CASE("an mmproj file gives the tower that its checkpoint gives") {
  const HuggingFaceBuilder checkpoint = BuildHuggingFace(kTinyVisionConfig);
  const TempFolder folder;
  checkpoint.Write(folder / "checkpoint");
  REQUIRE(ConvertToBlob(folder / "checkpoint", folder / "expected.lap"));
  const Result<WeightFile> expected = WeightFile::Open(folder / "expected.lap");
  REQUIRE(expected);
  for (const char* kind : {"new names", "old names", "turned projection"}) {
    CAPTURE(kind);
    GgufBuilder mmproj = Mmproj(checkpoint, std::string_view(kind) == "old names");
    if (std::string_view(kind) == "turned projection") {
      GgufBuilder::Tensor& tensor = *mmproj.Find("mm.input_projection.weight");
      const Bytes before = tensor.data;
      for (std::size_t r = 0; r < 48; ++r) {
        for (std::size_t c = 0; c < 96; ++c) {
          std::memcpy(&tensor.data[2 * (c * 48 + r)], &before[2 * (r * 96 + c)], 2);
        }
      }
      tensor.dims = {48, 96};
    }
    Convert(folder, mmproj);
    const Result<WeightFile> file = WeightFile::Open(folder / "m.lap");
    REQUIRE(file);
    CHECK(file->provenance().source == "m.gguf + mmproj.gguf");
    std::size_t sections = 0;
    for (const Section& section : expected->sections()) {
      if (!section.name.starts_with("vision.")) continue;
      ++sections;
      CAPTURE(section.name);
      const auto rows = static_cast<std::size_t>(section.rows);
      const auto cols = static_cast<std::size_t>(section.cols);
      if (section.kind == SectionKind::kVector) {
        const auto found = file->Vector(section.name, cols);
        REQUIRE(found);
        const auto want = expected->Vector(section.name, cols);
        CHECK(std::equal(found->begin(), found->end(), want->begin()));
        continue;
      }
      const Result<PackedMatrix> found = file->Matrix(section.name, rows, cols);
      REQUIRE(found);
      const Result<PackedMatrix> want = expected->Matrix(section.name, rows, cols);
      CHECK(testing::UnpackMatrix(*found) == testing::UnpackMatrix(*want));
    }
    CHECK(sections == 7 + 16 * 2);
  }
}

TEST_CASE("an mmproj file that does not fit is refused") {
  const HuggingFaceBuilder checkpoint = BuildHuggingFace(kTinyVisionConfig);
  const auto with = [&](auto change) {
    GgufBuilder b = Mmproj(checkpoint);
    change(b);
    const Result<Import> import = Merge(Decoder(), b);
    REQUIRE_FALSE(import);
    return import.error();
  };
  Says(with([](GgufBuilder& b) { b.SetText("general.architecture", "gemma3"); }),
       ErrorCode::kUnsupported, "found architecture gemma3");
  Says(with([](GgufBuilder& b) { b.SetText("clip.projector_type", "mlp"); }),
       ErrorCode::kUnsupported, "projector mlp");
  Says(with([](GgufBuilder& b) { b.Remove("clip.vision.image_size"); }), ErrorCode::kCorrupt,
       "vision.image is 0");
  Says(with([](GgufBuilder& b) {
         for (const char* key : {"image_size", "patch_size", "embedding_length", "block_count",
                                 "attention.head_count", "feed_forward_length"}) {
           b.Remove(StrCat("clip.vision.", key));
         }
       }),
       ErrorCode::kCorrupt, "vision.image is 0");
  Says(with([](GgufBuilder& b) { b.Set<std::uint32_t>("clip.vision.block_count", 3); }),
       ErrorCode::kCorrupt, "v.blk.2.ln1.weight is missing");
  Says(with([](GgufBuilder& b) { b.Set<std::uint32_t>("clip.vision.patch_size", 2); }),
       ErrorCode::kCorrupt,
       "v.patch_embd.weight: expected the shape [48, 12], found [48, 3, 7, 7]");
  Says(with([](GgufBuilder& b) {
         b.Find("mm.input_projection.weight")->dims = {48, 95};
       }),
       ErrorCode::kCorrupt, "mm.input_projection.weight: expected the shape [48, 96]");
  // Blocks along the rows cannot be turned into columns.
  Says(with([](GgufBuilder& b) {
         std::mt19937 random(1);
         std::erase_if(b.tensors, [](const auto& tensor) {
           return tensor.name == "mm.input_projection.weight";
         });
         AddTensor(b, "mm.input_projection.weight", {96, 48}, Format::kQ8_0, random);
       }),
       ErrorCode::kUnsupported, "has type Q8_0, expected one of F32, F16, BF16");
  for (const auto& tensor : Mmproj(checkpoint).tensors) {
    CAPTURE(tensor.name);
    Says(with([&](GgufBuilder& b) {
           std::erase_if(b.tensors, [&](const auto& other) { return other.name == tensor.name; });
         }),
         ErrorCode::kCorrupt, "is missing");
  }
}

TEST_CASE("quantised weights can only be kept") {
  const TempFolder folder;
  GgufBuilder decoder = Decoder();
  WriteFile(folder / "m.gguf", decoder.Build());
  Says(ConvertToBlob(folder / "m.gguf", folder / "m.lap", {.type = WeightType::kQ4}).error(),
       ErrorCode::kUnsupported, "is quantised (Q8_0), expected F32, F16 or BF16");
  CHECK(folder.count() == 1);
  // The format that is wanted anyway is kept, to the bit.
  REQUIRE(ConvertToBlob(folder / "m.gguf", folder / "keep.lap"));
  REQUIRE(ConvertToBlob(folder / "m.gguf", folder / "q8.lap", {.type = WeightType::kQ8}));
  CHECK(testing::ReadFile(folder / "keep.lap") == testing::ReadFile(folder / "q8.lap"));
  // And float matrices of a GGUF file are quantised as those of a checkpoint.
  WriteFile(folder / "f.gguf", BuildGemma(kTinyConfig, Format::kF16).Build());
  REQUIRE(ConvertToBlob(folder / "f.gguf", folder / "q4.lap", {.type = WeightType::kQ4}));
  const Result<WeightFile> file = WeightFile::Open(folder / "q4.lap");
  REQUIRE(file);
  CHECK(file->Matrix("layers.0.q", 128, 96)->format == Format::kQ4_0);
  CHECK(file->Matrix("embedding", 37, 96)->format == Format::kQ8_0Planes);
}

}  // namespace
}  // namespace lapidary
