// The 4B with six layers, one pattern of attention, and its whole image encoder: every shape is
// real. Writes logits for mixed_prompts.py, which see.
#include <lapidary/lapidary.h>
#include <lapidary/vision/image.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <iterator>
#include <span>
#include <string_view>
#include <utility>

namespace {

struct Cut {
  static constexpr std::string_view kName = "Gemma 3 4B, six layers";
  static constexpr lapidary::Config kConfig = [] {
    lapidary::Config config = lapidary::Gemma3_4B::kConfig;
    config.layers = 6;
    return config;
  }();
};

// The logits of every `every`-th token of a prompt with these pictures, and of the last one.
lapidary::Status WriteLogits(const char* path, const char* ids, std::size_t every, const char* out,
                             std::span<const char* const> pictures) {
  const auto model = lapidary::Model<Cut>::Open(path);
  if (!model) return model.error();
  std::ifstream text(ids);
  lapidary::Prompt prompt = {{std::istream_iterator<std::int32_t>(text), {}}, {}};
  for (const char* file : pictures) {
    const auto picture = lapidary::ReadPicture(file);
    if (!picture) return picture.error();
    auto image = model->EncodeImage(*picture);
    if (!image) return image.error();
    prompt.images.push_back(*std::move(image));
  }
  std::ofstream stream(out, std::ios::binary);
  const auto write = [&](std::size_t i, std::span<const float> row) {
    if (i % every == 0 || i + 1 == prompt.ids.size()) {
      stream.write(reinterpret_cast<const char*>(row.data()),
                   static_cast<std::streamsize>(row.size_bytes()));
    }
    return stream.good();
  };
  return lapidary::Session<Cut>(*model).PrefillWithLogits(prompt, write);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 5) return std::cerr << "usage: mixed_prompts MODEL IDS EVERY OUT PICTURE...\n", 2;
  const auto every = std::strtoul(argv[3], nullptr, 10);
  if (every == 0) return std::cerr << "EVERY: expected a positive number\n", 2;
  const std::span<const char* const> pictures(argv + 5, argv + argc);
  const lapidary::Status status = WriteLogits(argv[1], argv[2], every, argv[4], pictures);
  if (!status) return std::cerr << status.error().message << '\n', 1;
}
