// lapidary convert: a model of another format becomes one blob.
#include "lapidary/weights/convert.h"

#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <system_error>

#include "command.h"
#include "json_out.h"
#include "terminal.h"

namespace lapidary::cli {
namespace {

struct ConvertFlags {
  std::string input;
  std::string output;
  std::string type = "keep";
  bool json = false;
};

Status Run(const ConvertFlags& flags) {
  std::error_code ignored;
  if (std::filesystem::is_directory(flags.input, ignored)) {
    return MakeError(ErrorCode::kUnsupported, flags.input,
                     " is a folder: expected a GGUF file, the one format that is converted");
  }
  CatchInterrupts();
  const Stopwatch watch;
  ConvertOptions options;
  Result<ConvertReport> report = [&] {
    ProgressMeter meter("converting", ProgressMeter::Unit::kBytes);
    options.progress = std::ref(meter);
    return ConvertGgufToBlob(flags.input, flags.output, options);
  }();
  if (!report) return report.error();
  const double seconds = watch.seconds();
  PrintWarnings(report->warnings);

  const auto source_bytes = std::filesystem::file_size(flags.input, ignored);
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
        AddText(command, {"IN", "", "A GGUF file"}, flags.input, Need::kRequired);
        AddText(command, {"-o,--output", "FILE", "The blob to write (.lap)"}, flags.output,
                Need::kRequired);
        AddChoice(command,
                  {"--type", "T", "Format of the weights: keep leaves all bits as they are [keep]"},
                  {"keep"}, flags.type);
        AddJsonFlag(command, flags.json);
        SetFooter(command, "Example:\n  lapidary convert gemma-3-270m.gguf -o gemma-3-270m.lap");
      });
}

}  // namespace lapidary::cli
