// A Hugging Face folder in which one file is not as it should be. The first byte of the input says
// which one.
#include <array>
#include <filesystem>
#include <span>
#include <string_view>
#include <vector>

#include "lapidary/weights/import_hf.h"
#include "tests/fuzz/fuzz.h"
#include "tests/support/safetensors_builder.h"
#include "tests/support/temp_folder.h"

namespace {

using namespace lapidary;

// Small: one layer, a vision tower of one.
constexpr Config kConfig = [] {
  Config config = testing::kTinyVisionConfig;
  config.layers = config.vision.layers = 1;
  config.width = config.ff_width = 32;
  config.heads = config.kv_heads = 1;
  config.vision.width = config.vision.ff_width = 16;
  config.vision.heads = 1;
  return config;
}();

constexpr std::array<std::string_view, 5> kNames = {"config.json", "model.safetensors",
                                                    "tokenizer.model", "tokenizer.json",
                                                    "model.safetensors.index.json"};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const testing::HuggingFaceBuilder builder = testing::BuildHuggingFace(kConfig);
  static const testing::TempFolder folder;
  if (size < 2) return 0;
  const std::string_view name = kNames[data[0] % kNames.size()];
  builder.Write(folder.path());
  if (name == "tokenizer.json") std::filesystem::remove(folder / "tokenizer.model");
  testing::WriteFile(folder / name, std::span(data, size).subspan(1));
  const Result<HuggingFaceFolder> imported = ImportHuggingFace(folder.path());
  if (imported) {
    fuzz::Require(CheckConfig(imported->import.config).ok(), "an imported Config can be one");
  }
  std::filesystem::remove(folder / name);
  return 0;
}
