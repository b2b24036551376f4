// Hugging Face folders in all the spellings that tools have written, and the ones that must be
// refused.
#include "lapidary/weights/import_hf.h"

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <vector>

#include "lapidary/weights/convert-inl.h"
#include "lapidary/weights/weight_file.h"
#include "tests/support/catch.h"
#include "tests/support/panel.h"
#include "tests/support/safetensors_builder.h"
#include "tests/support/says.h"
#include "tests/support/scalar.h"
#include "tests/support/temp_folder.h"

namespace lapidary {
namespace {

using HWY_NAMESPACE::ConvertToBlob;
using testing::BuildHuggingFace;
using testing::Bytes;
using testing::HuggingFaceBuilder;
using testing::Json;
using testing::kTinyConfig;
using testing::kTinyVisionConfig;
using testing::PanelValue;
using testing::SafetensorsBuilder;
using testing::Says;
using testing::TempFolder;
using testing::WriteFile;

bool Warns(const Import& import, std::string_view text) {
  return std::any_of(
      import.warnings.begin(), import.warnings.end(),
      [&](const std::string& warning) { return warning.find(text) != std::string::npos; });
}

HuggingFaceFolder Accepted(const HuggingFaceBuilder& builder) {
  const TempFolder folder;
  builder.Write(folder.path());
  Result<HuggingFaceFolder> imported = ImportHuggingFace(folder.path());
  if (!imported) FAIL(imported.error().message);
  return *std::move(imported);
}

Error Refused(const HuggingFaceBuilder& builder) {
  const TempFolder folder;
  builder.Write(folder.path());
  const Result<HuggingFaceFolder> imported = ImportHuggingFace(folder.path());
  REQUIRE_FALSE(imported);
  return imported.error();
}

// Where a builder has a tensor that the import found.
std::string SourceOf(const HuggingFaceBuilder& builder, const ImportTensor& tensor) {
  for (const auto& source : builder.weights.tensors) {
    if (source.data.size() == tensor.source.size() &&
        std::equal(source.data.begin(), source.data.end(), tensor.source.begin())) {
      return source.name;
    }
  }
  return "";
}

std::map<std::string, std::string> SourcesOf(const HuggingFaceBuilder& builder,
                                             const Import& import) {
  std::map<std::string, std::string> sources;
  for (const ImportTensor& tensor : import.tensors) {
    sources[tensor.name] = SourceOf(builder, tensor);
  }
  return sources;
}

std::string Replaced(std::string text, std::string_view from, std::string_view to) {
  if (text.starts_with(from)) text = std::string(to) + text.substr(from.size());
  return text;
}

TEST_CASE("every tensor of a published checkpoint finds its place") {
  const HuggingFaceBuilder b = BuildHuggingFace(kTinyVisionConfig);
  const HuggingFaceFolder folder = Accepted(b);
  const Import& import = folder.import;
  CHECK(DescribeDifference(kTinyVisionConfig, import.config) == "");
  CHECK(import.warnings.empty());
  std::map<std::string, std::string> sources = SourcesOf(b, import);
  CHECK(sources.size() == b.weights.tensors.size());
  const std::string text = "language_model.model.", tower = "vision_tower.vision_model.";
  const std::pair<const char*, std::string> expected[] = {
      {"embedding", text + "embed_tokens.weight"},
      {"final_norm", text + "norm.weight"},
      {"layers.1.attention_norm", text + "layers.1.input_layernorm.weight"},
      {"layers.2.post_attention_norm", text + "layers.2.post_attention_layernorm.weight"},
      {"layers.0.ff_norm", text + "layers.0.pre_feedforward_layernorm.weight"},
      {"layers.1.post_ff_norm", text + "layers.1.post_feedforward_layernorm.weight"},
      {"layers.0.q", text + "layers.0.self_attn.q_proj.weight"},
      {"layers.1.k", text + "layers.1.self_attn.k_proj.weight"},
      {"layers.2.v", text + "layers.2.self_attn.v_proj.weight"},
      {"layers.0.attention_out", text + "layers.0.self_attn.o_proj.weight"},
      {"layers.2.q_norm", text + "layers.2.self_attn.q_norm.weight"},
      {"layers.2.k_norm", text + "layers.2.self_attn.k_norm.weight"},
      {"layers.1.gate", text + "layers.1.mlp.gate_proj.weight"},
      {"layers.1.up", text + "layers.1.mlp.up_proj.weight"},
      {"layers.1.down", text + "layers.1.mlp.down_proj.weight"},
      {"vision.patch", tower + "embeddings.patch_embedding.weight"},
      {"vision.patch_bias", tower + "embeddings.patch_embedding.bias"},
      {"vision.positions", tower + "embeddings.position_embedding.weight"},
      {"vision.layers.1.norm1", tower + "encoder.layers.1.layer_norm1.weight"},
      {"vision.layers.1.norm2_bias", tower + "encoder.layers.1.layer_norm2.bias"},
      {"vision.layers.0.q", tower + "encoder.layers.0.self_attn.q_proj.weight"},
      {"vision.layers.0.out_bias", tower + "encoder.layers.0.self_attn.out_proj.bias"},
      {"vision.layers.1.up", tower + "encoder.layers.1.mlp.fc1.weight"},
      {"vision.layers.1.up_bias", tower + "encoder.layers.1.mlp.fc1.bias"},
      {"vision.layers.1.down", tower + "encoder.layers.1.mlp.fc2.weight"},
      {"vision.final_norm", tower + "post_layernorm.weight"},
      {"vision.final_norm_bias", tower + "post_layernorm.bias"},
      {"vision.soft_norm", "multi_modal_projector.mm_soft_emb_norm.weight"},
      {"vision.projection", "multi_modal_projector.mm_input_projection_weight"}};
  for (const auto& [name, source] : expected) {
    CAPTURE(name);
    CHECK(sources[name] == source);
  }
  // Only Gemma's own norms are stored without their 1; only the projector's matrix is turned.
  for (const ImportTensor& tensor : import.tensors) {
    CAPTURE(tensor.name);
    const bool gemma = !tensor.name.starts_with("vision.") || tensor.name == "vision.soft_norm";
    CHECK(tensor.less_one == (tensor.kind == SectionKind::kVector && gemma));
    CHECK(tensor.transposed == (tensor.name == "vision.projection"));
  }
  REQUIRE(import.vocabulary);
  CHECK(import.vocabulary->pieces.size() == 37);
}

TEST_CASE("names are read however the modules are nested") {
  const HuggingFaceBuilder published = BuildHuggingFace(kTinyVisionConfig);
  const std::map<std::string, std::string> expected =
      SourcesOf(published, Accepted(published).import);
  struct Spelling {
    const char *text, *tower, *projector;
  };
  for (const Spelling& spelling :
       {Spelling{"model.language_model.", "model.vision_tower.vision_model.",
                 "model.multi_modal_projector."},
        Spelling{"model.", "vision_tower.vision_model.", "multi_modal_projector."},
        Spelling{"language_model.model.", "vision_tower.", "multi_modal_projector."},
        Spelling{"model.language_model.", "model.vision_tower.", "model.multi_modal_projector."},
        Spelling{"language_model.model.", "vision_model.vision_model.", "multimodal_projector."},
        Spelling{"base_model.model.model.language_model.",
                 "base_model.model.model.vision_tower.vision_model.",
                 "base_model.model.model.multi_modal_projector."},
        Spelling{"", "vision_model.", "multi_modal_projector."}}) {
    CAPTURE(spelling.text, spelling.tower);
    HuggingFaceBuilder b = published;
    std::map<std::string, std::string> published_name;
    b.Rename([&](const std::string& name) {
      std::string changed = Replaced(name, "language_model.model.", spelling.text);
      if (changed == name) changed = Replaced(name, "vision_tower.vision_model.", spelling.tower);
      if (changed == name) changed = Replaced(name, "multi_modal_projector.", spelling.projector);
      published_name[changed] = name;
      return changed;
    });
    std::map<std::string, std::string> sources = SourcesOf(b, Accepted(b).import);
    for (auto& [name, source] : sources) source = published_name[source];
    CHECK(sources == expected);
  }
}

TEST_CASE("config.json is read in all its spellings") {
  const HuggingFaceBuilder published = BuildHuggingFace(kTinyConfig);
  const auto config_of = [&](auto change) {
    HuggingFaceBuilder b = published;
    change(b.json);
    return Accepted(b).import.config;
  };
  const auto same = [&](auto change) {
    const std::string difference = DescribeDifference(kTinyConfig, config_of(change));
    INFO(difference);
    CHECK(difference.empty());
  };
  same([](Json&) {});  // flat
  same([](Json& j) { j = {{"model_type", "gemma3"}, {"text_config", j}}; });
  // transformers 5.
  const auto by_layer = [](Json& j) {
    j["rope_parameters"] = {
        {"full_attention", {{"rope_type", "linear"}, {"rope_theta", 70'000}, {"factor", 2.5}}},
        {"sliding_attention", {{"rope_type", "default"}, {"rope_theta", 5'000}}}};
    for (const char* key : {"rope_scaling", "rope_theta", "rope_local_base_freq"}) j.erase(key);
  };
  same(by_layer);
  // Scaling keyed by layer type, bases as ever.
  same([](Json& j) {
    j["rope_scaling"] = {{"full_attention", {{"rope_type", "linear"}, {"factor", 2.5}}},
                         {"sliding_attention", {{"rope_type", "default"}}}};
  });
  same([](Json& j) { j["rope_scaling"] = {{"factor", 2.5}, {"type", "linear"}}; });
  same([](Json& j) {
    j.erase("sliding_window_pattern");
    j["_sliding_window_pattern"] = 2;
  });
  same([](Json& j) {
    j.erase("sliding_window_pattern");
    j["layer_types"] = {"sliding_attention", "full_attention", "sliding_attention"};
  });
  // Both, as transformers writes it: the list counts.
  same([](Json& j) {
    j["sliding_window_pattern"] = 6;
    j["layer_types"] = {"sliding_attention", "full_attention", "sliding_attention"};
  });
  CHECK(config_of([](Json& j) { j.erase("sliding_window_pattern"); }).global_every == 6);
  CHECK(config_of([](Json& j) { j["rope_scaling"] = nullptr; }).rope_factor_global == 1);
  CHECK(config_of([](Json& j) { j["rope_scaling"]["rope_type"] = "default"; }).rope_factor_global ==
        1);

  // The defaults of transformers' Gemma3TextConfig.
  Config expected = kTinyConfig;
  expected.query_pre_attn_scalar = 256;
  expected.window = 4096;
  expected.global_every = 6;
  expected.context = 131'072;
  expected.rope_base_local = 10'000;
  expected.rope_base_global = 1'000'000;
  expected.rope_factor_global = 1;
  expected.norm_epsilon = 1e-6;
  const Config bare = config_of([](Json& j) { j = {{"model_type", "gemma3_text"}}; });
  CHECK(DescribeDifference(expected, bare) == "");
}

TEST_CASE("what config.json says against the shapes is reported or refused") {
  HuggingFaceBuilder b = BuildHuggingFace(kTinyConfig);
  b.json["hidden_size"] = 64;
  const HuggingFaceFolder folder = Accepted(b);
  CHECK(Warns(folder.import, "hidden_size is 64, the shape of the tensors uses 96"));
  const auto with = [&](auto change) {
    HuggingFaceBuilder other = BuildHuggingFace(kTinyConfig);
    change(other);
    return Refused(other);
  };
  Says(with([](auto& h) { h.json["model_type"] = "llama"; }), ErrorCode::kUnsupported,
       "model_type is llama, expected gemma3");
  Says(with([](auto& h) { h.json.erase("model_type"); }), ErrorCode::kUnsupported, "is missing");
  Says(with([](auto& h) { h.json["num_hidden_layers"] = 4; }), ErrorCode::kCorrupt,
       "num_hidden_layers is 4, but the file has tensors of only 3 layers");
  Says(with([](auto& h) { h.json["final_logit_softcapping"] = 30; }), ErrorCode::kUnsupported,
       "final_logit_softcapping");
  Says(with([](auto& h) { h.json["use_bidirectional_attention"] = true; }), ErrorCode::kUnsupported,
       "use_bidirectional_attention");
  Says(with([](auto& h) { h.json["hidden_activation"] = "silu"; }), ErrorCode::kUnsupported,
       "silu");
  Says(with([](auto& h) { h.json["rope_scaling"]["rope_type"] = "yarn"; }), ErrorCode::kUnsupported,
       "yarn");
  Says(with([](auto& h) {
         h.json["layer_types"] = {"full_attention", "sliding_attention", "sliding_attention"};
       }),
       ErrorCode::kUnsupported, "layer_types is not regular");
  Says(with([](auto& h) {
         h.json["max_position_embeddings"] = "many";
         h.json["sliding_window"] = 0;
       }),
       ErrorCode::kCorrupt, "sliding_window is 0");
  Says(with([](auto& h) { h.weights.tensors.erase(h.weights.tensors.begin() + 5); }),
       ErrorCode::kCorrupt, "is missing");
  Says(with([](auto& h) { h.weights.tensors[0].dtype = "I16"; }), ErrorCode::kUnsupported,
       "embed_tokens.weight has type I16, expected one of F32, F16, BF16");
  HuggingFaceBuilder half_tower = BuildHuggingFace(kTinyVisionConfig);
  std::erase_if(half_tower.weights.tensors, [](const auto& tensor) {
    return tensor.name == "vision_tower.vision_model.encoder.layers.1.mlp.fc2.bias";
  });
  Says(Refused(half_tower), ErrorCode::kCorrupt, "encoder.layers.1.mlp.fc2.bias is missing");
}

TEST_CASE("a vision-capable checkpoint without its tower is a text model") {
  HuggingFaceBuilder b = BuildHuggingFace(kTinyVisionConfig);
  std::erase_if(b.weights.tensors,
                [](const auto& tensor) { return !tensor.name.starts_with("language_model."); });
  const HuggingFaceFolder folder = Accepted(b);
  CHECK(folder.import.tensors.size() == 13 * 3 + 2);
  CHECK_FALSE(folder.import.config.vision.present());
}

TEST_CASE("an explicit lm_head is accepted only as a copy of the embedding") {
  HuggingFaceBuilder b = BuildHuggingFace(kTinyVisionConfig);
  SafetensorsBuilder::Tensor head = b.weights.tensors[0];
  for (const char* name : {"lm_head.weight", "language_model.lm_head.weight"}) {
    head.name = name;
    b.weights.tensors.push_back(head);
    CHECK(Accepted(b).import.warnings.empty());
    b.weights.tensors.back().data[100] ^= 1;
    Says(Refused(b), ErrorCode::kUnsupported, "lm_head.weight");
    b.weights.tensors.pop_back();
  }
}

// The tensors of a builder in two files and an index.
void WriteShards(const HuggingFaceBuilder& b, const TempFolder& folder) {
  b.Write(folder.path());
  std::filesystem::remove(folder / "model.safetensors");
  SafetensorsBuilder shards[2];
  Json index;
  for (std::size_t i = 0; i < b.weights.tensors.size(); ++i) {
    shards[i % 2].tensors.push_back(b.weights.tensors[i]);
    index["weight_map"][b.weights.tensors[i].name] =
        i % 2 == 0 ? "model-00001-of-00002.safetensors" : "model-00002-of-00002.safetensors";
  }
  WriteFile(folder / "model-00001-of-00002.safetensors", shards[0].Build());
  WriteFile(folder / "model-00002-of-00002.safetensors", shards[1].Build());
  WriteFile(folder / "model.safetensors.index.json", index.dump());
}

TEST_CASE("shards are read with and without their index") {
  const TempFolder folder;
  const HuggingFaceBuilder b = BuildHuggingFace(kTinyVisionConfig);
  WriteShards(b, folder);
  const auto check = [&] {
    const Result<HuggingFaceFolder> imported = ImportHuggingFace(folder.path());
    REQUIRE(imported);
    CHECK(imported->weights.size() == 2);
    CHECK(imported->import.tensors.size() == b.weights.tensors.size());
  };
  check();
  std::filesystem::remove(folder / "model.safetensors.index.json");
  check();
}

TEST_CASE("shards that are missing, broken or elsewhere are refused by name") {
  const TempFolder folder;
  const HuggingFaceBuilder b = BuildHuggingFace(kTinyVisionConfig);
  WriteShards(b, folder);
  const auto refused = [&] {
    const Result<HuggingFaceFolder> imported = ImportHuggingFace(folder.path());
    REQUIRE_FALSE(imported);
    return imported.error();
  };
  const Bytes second = testing::ReadFile(folder / "model-00002-of-00002.safetensors");
  WriteFile(folder / "model-00002-of-00002.safetensors",
            std::span(second).first(second.size() / 2));
  Says(refused(), ErrorCode::kCorrupt, "model-00002-of-00002.safetensors: safetensors entry");
  std::filesystem::remove(folder / "model-00002-of-00002.safetensors");
  Says(refused(), ErrorCode::kNotFound, "model-00002-of-00002.safetensors");
  std::filesystem::copy(folder / "model-00001-of-00002.safetensors",
                        folder / "model-00002-of-00002.safetensors");
  Says(refused(), ErrorCode::kCorrupt, "is there twice");
  for (const char* name : {"../model-00001-of-00002.safetensors", "/etc/passwd", ""}) {
    WriteFile(folder / "model.safetensors.index.json", Json{{"weight_map", {{"x", name}}}}.dump());
    Says(refused(), ErrorCode::kCorrupt, "expected a name");
  }
  WriteFile(folder / "model.safetensors.index.json", std::string_view("{}"));
  Says(refused(), ErrorCode::kCorrupt, "weight_map is missing");
}

TEST_CASE("adapters and quantised checkpoints are refused by name") {
  const HuggingFaceBuilder b = BuildHuggingFace(kTinyVisionConfig);
  const auto refused = [](const TempFolder& folder) {
    const Result<HuggingFaceFolder> imported = ImportHuggingFace(folder.path());
    REQUIRE_FALSE(imported);
    return imported.error();
  };
  {
    const TempFolder folder;
    Says(refused(folder), ErrorCode::kNotFound, "config.json");
    WriteFile(folder / "adapter_config.json", std::string_view("{}"));
    Says(refused(folder), ErrorCode::kUnsupported, "only an adapter");
    WriteFile(folder / "config.json", b.json.dump());
    Says(refused(folder), ErrorCode::kUnsupported, "only an adapter");
    std::filesystem::remove(folder / "adapter_config.json");
    Says(refused(folder), ErrorCode::kNotFound, "no model.safetensors");
    WriteFile(folder / "config.json", std::string_view("{\"model_type\": "));
    Says(refused(folder), ErrorCode::kCorrupt, "config.json is no JSON object");
  }
  HuggingFaceBuilder quantised = b;
  quantised.json["quantization_config"] = {{"quant_method", "bitsandbytes"},
                                           {"load_in_4bit", true}};
  Says(Refused(quantised), ErrorCode::kUnsupported, "quantised by bitsandbytes");
  for (const char* name : {"model.layers.0.mlp.up_proj.weight.absmax",
                           "model.layers.0.mlp.up_proj.weight.quant_state.bitsandbytes__nf4",
                           "model.layers.0.mlp.up_proj.SCB"}) {
    HuggingFaceBuilder other = b;
    other.weights.tensors.push_back({name, "U8", {4}, Bytes(4)});
    Says(Refused(other), ErrorCode::kUnsupported, "bitsandbytes");
  }
  HuggingFaceBuilder lora = b;
  lora.weights.tensors.push_back(
      {"base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight", "F32", {1}, Bytes(4)});
  Says(Refused(lora), ErrorCode::kUnsupported, "adapter");
}

TEST_CASE("a converted folder holds gains, turned projections and the same values") {
  const TempFolder folder;
  const HuggingFaceBuilder b = BuildHuggingFace(kTinyVisionConfig);
  WriteShards(b, folder);
  const SafetensorsBuilder& w = b.weights;
  for (const WeightType type :
       {WeightType::kKeep, WeightType::kBF16, WeightType::kQ8, WeightType::kQ4}) {
    CAPTURE(static_cast<int>(type));
    const Result<ConvertReport> report =
        ConvertToBlob(folder.path(), folder / "m.lap", {.type = type});
    if (!report) FAIL(report.error().message);
    CHECK(report->config == kTinyVisionConfig);
    const Result<WeightFile> file = WeightFile::Open(folder / "m.lap");
    REQUIRE(file);
    CHECK(file->Verify());
    CHECK(file->vocabulary()->pieces.size() == 37);
    CHECK(file->provenance().source == folder.path().filename());
    const std::string text = "language_model.model.";
    const auto norm = file->Vector("layers.1.q_norm", 32);
    REQUIRE(norm);
    const auto soft = file->Vector("vision.soft_norm", 48);
    REQUIRE(soft);
    const auto layer_norm = file->Vector("vision.layers.0.norm1", 48);
    REQUIRE(layer_norm);
    for (std::size_t i = 0; i < 32; ++i) {
      CHECK((*norm)[i] == 1 + w.At(text + "layers.1.self_attn.q_norm.weight", i));
      CHECK((*soft)[i] == 1 + w.At("multi_modal_projector.mm_soft_emb_norm.weight", i));
      CHECK((*layer_norm)[i] ==
            w.At("vision_tower.vision_model.encoder.layers.0.layer_norm1.weight", i));
    }
    const Result<PackedMatrix> projection = file->Matrix("vision.projection", 96, 48);
    const Result<PackedMatrix> patch = file->Matrix("vision.patch", 48, 3 * 7 * 7);
    const Result<PackedMatrix> embedding = file->Matrix("embedding", 37, 96);
    const Result<PackedMatrix> down = file->Matrix("layers.2.down", 96, 160);
    REQUIRE((projection && patch && embedding && down));
    CHECK(projection->format == Format::kBF16);
    const Format expected[] = {Format::kBF16, Format::kBF16, Format::kQ8_0, Format::kQ4_0};
    CHECK(down->format == expected[static_cast<int>(type)]);
    CHECK(embedding->format == (type >= WeightType::kQ8 ? Format::kQ8_0Planes : Format::kBF16));
    std::size_t wrong = 0;
    for (std::size_t r = 0; r < 96; ++r) {
      for (std::size_t c = 0; c < 48; ++c) {
        wrong += PanelValue(*projection, r, c) !=
                 w.At("multi_modal_projector.mm_input_projection_weight", c * 96 + r);
      }
    }
    for (std::size_t i = 0; i < 48 * 147; ++i) {
      wrong += PanelValue(*patch, i / 147, i % 147) !=
               w.At("vision_tower.vision_model.embeddings.patch_embedding.weight", i);
    }
    CHECK(wrong == 0);
    // Values reach 0.25: half a step of 1/127 of that, and a little for the f16 scale. 4 bits may
    // clip the largest value by two steps.
    const float embedding_error = type >= WeightType::kQ8 ? 0.25f * 0.51f / 127 : 0.0f;
    const float steps[] = {0, 0, 0.51f / 127, 2.0f / 8};
    for (std::size_t i = 0; i < 37 * 96; ++i) {
      wrong += !(std::abs(PanelValue(*embedding, i / 96, i % 96) -
                          w.At(text + "embed_tokens.weight", i)) <= embedding_error);
    }
    for (std::size_t i = 0; i < 96 * 160; ++i) {
      wrong += !(std::abs(PanelValue(*down, i / 160, i % 160) -
                          w.At(text + "layers.2.mlp.down_proj.weight", i)) <=
                 0.25f * steps[static_cast<int>(type)]);
    }
    CHECK(wrong == 0);
  }
}

TEST_CASE("a folder with a value that is not finite is not converted") {
  const TempFolder folder;
  HuggingFaceBuilder b = BuildHuggingFace(kTinyConfig);
  b.weights.tensors[10].data[1] = 0x7F;
  b.weights.tensors[10].data[0] = 0xC0;  // a NaN
  b.Write(folder / "model");
  Says(ConvertToBlob(folder / "model", folder / "m.lap", {.type = WeightType::kQ4}).error(),
       ErrorCode::kCorrupt, "holds a value that is not finite");
  CHECK(folder.count() == 1);
}

}  // namespace
}  // namespace lapidary
