// lapidary inspect: what is in a file of weights.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <system_error>
#include <vector>

#include "command.h"
#include "json_out.h"
#include "lapidary/config/config.h"
#include "lapidary/config/models.h"
#include "lapidary/model/kv_cache.h"
#include "lapidary/model/options.h"
#include "model_flags.h"
#include "terminal.h"
#include "weight_header.h"

namespace lapidary::cli {
namespace {

struct InspectFlags {
  std::string file;
  std::string kv;
  std::size_t context = 0;
  std::size_t chunk = ModelOptions().chunk;
  bool verify = false;
  bool json = false;
};

std::string FormatName(const Section& section) {
  const auto number = static_cast<std::uint32_t>(section.format);
  const QuantSpec* spec = FindSpec(number);
  return spec != nullptr ? std::string(spec->name) : StrCat("format ", number);
}

bool IsTensor(const Section& section) {
  return section.kind == SectionKind::kMatrix || section.kind == SectionKind::kVector;
}

struct FormatTotal {
  std::size_t tensors = 0;
  std::uint64_t weights = 0;
  std::uint64_t bytes = 0;
};

std::map<std::string, FormatTotal> TotalsByFormat(const std::vector<Section>& sections) {
  std::map<std::string, FormatTotal> totals;
  for (const Section& section : sections) {
    if (!IsTensor(section)) continue;
    FormatTotal& total = totals[FormatName(section)];
    total.tensors += 1;
    total.weights += section.rows * section.cols;
    total.bytes += section.bytes;
  }
  return totals;
}

// Everything that is printed, in either form.
struct Inspection {
  std::string file;
  std::uint64_t file_bytes = 0;
  bool blob = false;
  bool verified = false;
  Config config;
  Provenance provenance;
  std::size_t pieces = 0;
  double load_seconds = 0;
  std::vector<Section> sections;
  std::vector<std::string> warnings;
  std::size_t context = 0;
  KvPlan kv;
};

Json ToJson(const Inspection& inspection) {
  Json config, tensors = Json::array(), formats;
  const Config& c = inspection.config;
  internal::VisitFields(c, c, [&](const char* name, auto value, auto) { config[name] = value; });
  for (const Section& section : inspection.sections) {
    if (!IsTensor(section)) continue;
    Json shape = {section.cols};
    if (section.kind == SectionKind::kMatrix) shape = {section.rows, section.cols};
    tensors.push_back({{"name", section.name},
                       {"format", FormatName(section)},
                       {"shape", shape},
                       {"bytes", section.bytes}});
  }
  for (const auto& [name, total] : TotalsByFormat(inspection.sections)) {
    formats[name] = {
        {"tensors", total.tensors}, {"weights", total.weights}, {"bytes", total.bytes}};
  }
  Json json = {{"file", inspection.file},
               {"container", inspection.blob ? "blob" : "gguf"},
               {"bytes", inspection.file_bytes},
               {"model", NameOf(c)},
               {"config", config},
               {"provenance",
                {{"source", inspection.provenance.source},
                 {"sha256", inspection.provenance.sha256},
                 {"license", inspection.provenance.license}}},
               {"tokenizer_pieces", inspection.pieces},
               {"load_s", inspection.load_seconds},
               {"kv_cache",
                {{"context", inspection.context},
                 {"format", inspection.kv.format == KvFormat::kInt8 ? "int8" : "bf16"},
                 {"bytes", inspection.kv.bytes},
                 {"local_layer_bytes", inspection.kv.local_pages * inspection.kv.page_bytes},
                 {"global_layer_bytes", inspection.kv.global_pages * inspection.kv.page_bytes}}},
               {"formats", formats},
               {"tensors", tensors},
               {"warnings", inspection.warnings}};
  if (inspection.verified) json["verified"] = true;
  return json;
}

std::string Line(const char* format, auto... values) {
  char text[256];
  std::snprintf(text, sizeof(text), format, values...);
  return text;
}

std::string ToText(const Inspection& inspection) {
  const auto size = [](std::uint64_t bytes) { return Bytes(static_cast<double>(bytes)); };
  const Config& config = inspection.config;
  std::string text = StrCat(
      "file       ", inspection.file, ": ",
      inspection.blob ? "a blob, mapped when opened" : "GGUF, packed into memory when opened", ", ",
      size(inspection.file_bytes), "\n", "model      ", NameOf(config), "\n", "config     ",
      Describe(config), "\n");
  const Provenance& from = inspection.provenance;
  if (inspection.blob)
    text += StrCat("source     ", from.source, "\nsha256     ", from.sha256, "\n");
  if (!from.license.empty()) {
    text += StrCat("license    ", from.license.substr(0, from.license.find('\n')), "\n");
  }
  text += inspection.pieces == 0 ? "tokenizer  none\n"
                                 : StrCat("tokenizer  ", inspection.pieces, " pieces\n");
  text += StrCat(inspection.blob ? "opened in  " : "header in  ", Fixed(inspection.load_seconds, 3),
                 " s, tokenizer included\n");
  if (inspection.verified) text += "checksums  all sections are intact\n";
  text += StrCat("KV cache   ", size(inspection.kv.bytes), " for ", inspection.context,
                 " tokens: ", CountLayers(config, LayerKind::kLocal), " local layers of ",
                 size(inspection.kv.local_pages * inspection.kv.page_bytes), ", ",
                 CountLayers(config, LayerKind::kGlobal), " global layers of ",
                 size(inspection.kv.global_pages * inspection.kv.page_bytes), "\n\n");

  text +=
      Line("%-10s %8s %14s %12s %12s\n", "format", "tensors", "weights", "bytes", "bits/weight");
  FormatTotal all;
  const auto row = [&](const std::string& name, const FormatTotal& total) {
    text += Line("%-10s %8zu %14llu %12s %12.2f\n", name.c_str(), total.tensors,
                 static_cast<unsigned long long>(total.weights), size(total.bytes).c_str(),
                 8 * static_cast<double>(total.bytes) / static_cast<double>(total.weights));
    all.tensors += total.tensors;
    all.weights += total.weights;
    all.bytes += total.bytes;
  };
  const std::map<std::string, FormatTotal> totals = TotalsByFormat(inspection.sections);
  for (const auto& [name, total] : totals) row(name, total);
  if (totals.size() > 1) row("all", FormatTotal(all));

  text += Line("\n%-36s %-8s %-16s %12s\n", "tensor", "format", "shape", "bytes");
  for (const Section& section : inspection.sections) {
    if (!IsTensor(section)) continue;
    const std::string shape = section.kind == SectionKind::kMatrix
                                  ? StrCat(section.rows, " x ", section.cols)
                                  : StrCat(section.cols);
    text += Line("%-36s %-8s %-16s %12llu\n", section.name.c_str(), FormatName(section).c_str(),
                 shape.c_str(), static_cast<unsigned long long>(section.bytes));
  }
  return text;
}

Status Run(const InspectFlags& flags) {
  const Stopwatch watch;
  const Result<WeightHeader> header = WeightHeader::Read(flags.file);
  if (!header) return header.error();
  Inspection inspection;
  if (header->vocabulary() != nullptr) {
    const Result<Tokenizer> tokenizer = ReadTokenizer(*header, flags.file);
    if (!tokenizer) return tokenizer.error();
    inspection.pieces = static_cast<std::size_t>(tokenizer->size());
  }
  inspection.load_seconds = watch.seconds();

  std::error_code ignored;
  inspection.file = flags.file;
  inspection.file_bytes = std::filesystem::file_size(flags.file, ignored);
  inspection.blob = header->container() == Container::kBlob;
  inspection.config = header->config();
  inspection.provenance = header->provenance();
  inspection.sections = header->sections();
  inspection.warnings = header->warnings();
  const auto most = static_cast<std::size_t>(inspection.config.context);
  inspection.context = flags.context == 0 ? most : flags.context;
  if (inspection.context > most) {
    return MakeError(ErrorCode::kInvalidArgument, "--context ", flags.context,
                     ": the model has a context of at most ", most, " tokens");
  }
  inspection.kv = PlanKv(inspection.config, inspection.context, flags.chunk, KvFormatOf(flags.kv));

  if (flags.verify) {
    if (header->blob() == nullptr) {
      return MakeError(ErrorCode::kUnsupported, "--verify: ", flags.file,
                       " is a GGUF file, which has no checksums");
    }
    ProgressMeter meter("verifying", ProgressMeter::Unit::kBytes);
    if (Status status = header->blob()->Verify(std::ref(meter)); !status) return status;
    inspection.verified = true;
  }
  if (flags.json) {
    PrintJson(ToJson(inspection));
    return {};
  }
  PrintWarnings(inspection.warnings);
  WriteOut(Harmless(ToText(inspection)));  // names and notes are the file's
  return {};
}

}  // namespace

void AddInspect(CLI::App& app, Command* chosen) {
  AddCommand<InspectFlags>(
      app, chosen, "inspect", "Show what is in a file of weights", Run,
      [](CLI::App& command, InspectFlags& flags) {
        AddText(command, {"FILE", "", "A blob (.lap) or a GGUF file"}, flags.file, Need::kRequired);
        AddNumber(command,
                  {"--context", "N", "Tokens to plan memory for [what the model was trained for]"},
                  1, 1 << 20, flags.context);
        AddNumber(command,
                  {"--chunk", "N", StrCat("Tokens of a step of prefill [", flags.chunk, "]")}, 1,
                  1 << 17, flags.chunk);
        AddKvFlag(command, flags.kv);
        AddFlag(command, "--verify", "Read the whole blob and compare its checksums", flags.verify);
        AddJsonFlag(command, flags.json);
        SetFooter(command, "Example:\n  lapidary inspect gemma-3-270m.lap --context 8192");
      });
}

}  // namespace lapidary::cli
