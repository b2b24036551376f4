// lapidary convert: a model of another format becomes one blob.
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "command.h"
#include "json_out.h"
#include "lapidary/weights/convert-inl.h"
#include "terminal.h"

namespace lapidary::cli {
namespace {

struct ConvertFlags {
  std::string input;
  std::string output;
  std::string mmproj;
  std::string type = "keep";
  bool json = false;
};

WeightType TypeFromName(std::string_view name) {
  if (name == "bf16") return WeightType::kBF16;
  if (name == "q8") return WeightType::kQ8;
  if (name == "q4") return WeightType::kQ4;
  return WeightType::kKeep;
}

Status Run(const ConvertFlags& flags) {
  CatchInterrupts();
  const Stopwatch watch;
  ConvertOptions options = {
      .type = TypeFromName(flags.type), .mmproj = flags.mmproj, .progress = {}};
  Result<ConvertReport> report = [&] {
    ProgressMeter meter("converting", ProgressMeter::Unit::kBytes);
    options.progress = std::ref(meter);
    return HWY_NAMESPACE::ConvertToBlob(flags.input, flags.output, options);
  }();
  if (!report) return report.error();
  const double seconds = watch.seconds();
  PrintWarnings(report->warnings);

  const std::uint64_t source_bytes = report->source_bytes;
  const double ratio = static_cast<double>(report->bytes) / static_cast<double>(source_bytes);
  if (flags.json) {
    PrintJson({{"model", NameOf(report->config)},
               {"input", flags.input},
               {"output", flags.output},
               {"input_bytes", source_bytes},
               {"output_bytes", report->bytes},
               {"ratio", ratio},
               {"seconds", seconds},
               {"warnings", report->warnings}});
    return {};
  }
  WriteOut(StrCat(flags.output, ": ", NameOf(report->config), ", ",
                  Bytes(static_cast<double>(report->bytes)), " (", Fixed(ratio, 3), " x ",
                  Bytes(static_cast<double>(source_bytes)), ") in ", Fixed(seconds, 1), " s, ",
                  Bytes(static_cast<double>(source_bytes) / seconds), "/s\n"));
  return {};
}

}  // namespace

void AddConvert(CLI::App& app, Command* chosen) {
  AddCommand<ConvertFlags>(
      app, chosen, "convert", "Make a blob, the file that is mapped instead of loaded", Run,
      [](CLI::App& command, ConvertFlags& flags) {
        AddText(command, {"IN", "", "A GGUF file, or a folder with a Hugging Face checkpoint"},
                flags.input, Need::kRequired);
        AddText(command, {"-o,--output", "FILE", "The blob to write (.lap)"}, flags.output,
                Need::kRequired);
        AddText(command, {"--mmproj", "FILE", "A GGUF file with the vision tower, to be added"},
                flags.mmproj, Need::kOptional);
        AddChoice(
            command,
            {"--type", "T",
             "Format of the weights: keep leaves all bits as they are; bf16; q8 is Q8_0; q4 is "
             "Q4_0, the embedding Q8_0; a vision tower is bf16 in all but keep [keep]"},
            {"keep", "bf16", "q8", "q4"}, flags.type);
        AddJsonFlag(command, flags.json);
        SetFooter(command,
                  "Examples:\n  lapidary convert gemma-3-270m.gguf -o gemma-3-270m.lap\n"
                  "  lapidary convert gemma-3-4b-it/ --type q4 -o gemma-3-4b-it.lap");
      });
}

}  // namespace lapidary::cli
