#include "any_model.h"

#include "weight_header.h"

namespace lapidary::cli {

namespace {

struct Entry {
  const Config& config;
  Result<std::unique_ptr<AnyModel>> (*open)(const std::filesystem::path&, const ModelOptions&);
};

constexpr Entry kModels[] = {{Gemma3_270M::kConfig, OpenModel<Gemma3_270M>},
                             {Gemma3_1B::kConfig, OpenModel<Gemma3_1B>},
                             {Gemma3_4B::kConfig, OpenModel<Gemma3_4B>},
                             {Gemma3_12B::kConfig, OpenModel<Gemma3_12B>},
                             {Gemma3_27B::kConfig, OpenModel<Gemma3_27B>}};

}  // namespace

Result<std::unique_ptr<AnyModel>> OpenAnyModel(const std::filesystem::path& path,
                                               const ModelOptions& options) {
  const Result<WeightHeader> header = WeightHeader::Read(path);
  if (!header) return header.error();
  for (const auto& [config, open] : kModels) {
    if (config == header->config()) return open(path, options);
  }
  return MakeError(ErrorCode::kUnsupported, path.string(),
                   ": expected one of the five published models, found ",
                   Describe(header->config()));
}

}  // namespace lapidary::cli
