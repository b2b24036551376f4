// A Hugging Face folder in which one file is not as it should be. The first byte of the input says
// which one.
#include <array>
#include <cstddef>
#include <cstdint>
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

// A folder that is right. Its files are made once, since that takes longer than to read them.
class Folder {
 public:
  Folder() {
    testing::BuildHuggingFace(kConfig).Write(folder_.path());
    for (const std::string_view name : kNames) good_.push_back(testing::ReadFile(folder_ / name));
  }
  const std::filesystem::path& path() const { return folder_.path(); }

  void Spoil(std::size_t i, std::span<const std::uint8_t> bytes) const {
    testing::WriteFile(folder_ / kNames[i], bytes);
  }
  void Remove(std::size_t i) const { std::filesystem::remove(folder_ / kNames[i]); }
  // A file that is not in the folder has no bytes here.
  void Restore(std::size_t i) const { good_[i].empty() ? Remove(i) : Spoil(i, good_[i]); }

 private:
  testing::TempFolder folder_;
  std::vector<std::vector<std::uint8_t>> good_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const Folder folder;
  if (size < 2) return 0;
  constexpr std::size_t kModel = 2, kJson = 3;  // tokenizer.json counts only without the other
  const std::size_t spoilt = data[0] % kNames.size();
  if (spoilt == kJson) folder.Remove(kModel);
  folder.Spoil(spoilt, std::span(data, size).subspan(1));
  const Result<HuggingFaceFolder> imported = ImportHuggingFace(folder.path());
  if (imported) {
    fuzz::Require(CheckConfig(imported->import.config).ok(), "an imported Config can be one");
  }
  folder.Restore(spoilt);
  if (spoilt == kJson) folder.Restore(kModel);
  return 0;
}
