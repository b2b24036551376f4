// The 4B, 12B and 27B with the layers of one pattern and one more: every other shape is real.
// Writes logits for random_models.py, which see.
#include <lapidary/lapidary.h>

#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <iterator>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace {

template <class M>
struct Cut {
  static constexpr std::string_view kName = M::kName;
  static constexpr lapidary::Config kConfig = [] {
    lapidary::Config config = M::kConfig;
    config.layers = 7;
    config.vision = {};
    return config;
  }();
};

// The logits of every `every`-th id, and of the last one.
template <class M>
lapidary::Status WriteLogits(lapidary::WeightFile file, const std::vector<std::int32_t>& ids,
                             std::size_t every, const char* out) {
  auto model = lapidary::Model<M>::Open(std::move(file));
  if (!model) return model.error();
  std::ofstream stream(out, std::ios::binary);
  lapidary::Session<M> session(*model);
  const auto write = [&](std::size_t i, std::span<const float> row) {
    if (i % every == 0 || i + 1 == ids.size()) {
      stream.write(reinterpret_cast<const char*>(row.data()),
                   static_cast<std::streamsize>(row.size_bytes()));
    }
    return stream.good();
  };
  return session.PrefillWithLogits(ids, write);
}

lapidary::Status Run(const char* path, const std::vector<std::int32_t>& ids, std::size_t every,
                     const char* out) {
  lapidary::Result<lapidary::WeightFile> file = lapidary::WeightFile::Open(path);
  if (!file) return file.error();
  const lapidary::Config config = file->config();
  if (config == Cut<lapidary::Gemma3_4B>::kConfig) {
    return WriteLogits<Cut<lapidary::Gemma3_4B>>(*std::move(file), ids, every, out);
  }
  if (config == Cut<lapidary::Gemma3_12B>::kConfig) {
    return WriteLogits<Cut<lapidary::Gemma3_12B>>(*std::move(file), ids, every, out);
  }
  return WriteLogits<Cut<lapidary::Gemma3_27B>>(*std::move(file), ids, every, out);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 5) return std::cerr << "usage: cut_models MODEL IDS EVERY OUT\n", 2;
  std::ifstream text(argv[2]);
  const std::vector<std::int32_t> ids{std::istream_iterator<std::int32_t>(text), {}};
  const auto every = std::strtoul(argv[3], nullptr, 10);
  if (every == 0) return std::cerr << "EVERY: expected a positive number\n", 2;
  const lapidary::Status status = Run(argv[1], ids, every, argv[4]);
  if (!status) return std::cerr << status.error().message << '\n', 1;
}
