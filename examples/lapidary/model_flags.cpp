#include "model_flags.h"

#include <functional>
#include <string>
#include <vector>

#include "lapidary/config/models.h"
#include "terminal.h"

namespace lapidary::cli {

void AddModelFlags(CLI::App& command, ModelFlags& flags, Need need_model) {
  AddText(command, {"-m,--model", "FILE", "Weights: a blob (.lap) or a GGUF file"}, flags.path,
          need_model);
  AddNumber(command, {"-t,--threads", "N", "Threads [all processors]"}, 1, 1024, flags.threads);
  AddChoice(command,
            {"--precision", "P",
             StrCat("Activations of prefill and of many sessions: fast (8 bits) or exact (16) [",
                    PrecisionName(ModelOptions().precision), "]")},
            {"fast", "exact"}, flags.precision);
  AddNumber(command, {"--chunk", "N", StrCat("Tokens of a step of prefill [", flags.chunk, "]")}, 1,
            1 << 17, flags.chunk);
  AddKvFlag(command, flags.kv);
  const std::vector<std::string> targets = EngineTargets();
  AddChoice(command,
            {"--target", "NAME", StrCat("Instruction set [", targets.front(), ", the best here]")},
            targets, flags.target);
}

void AddKvFlag(CLI::App& command, std::string& kv) {
  AddChoice(command, {"--kv", "K", "Keys and values as bf16, or as int8 in half the memory [bf16]"},
            {"bf16", "int8"}, kv);
}

KvFormat KvFormatOf(std::string_view kv) {
  return kv == "int8" ? KvFormat::kInt8 : KvFormat::kBF16;
}

void AddContextFlag(CLI::App& command, ModelFlags& flags) {
  AddNumber(command,
            {"--context", "N", "Most tokens of a sequence [what the model was trained for]"}, 1,
            1 << 20, flags.context);
}

Status OpenedModel::CheckContext(const ModelFlags& flags) const {
  const auto most = static_cast<std::size_t>(model->config().context);
  if (flags.context > most) {
    return MakeError(ErrorCode::kInvalidArgument, "--context ", flags.context, ": ",
                     NameOf(model->config()), " has a context of at most ", most, " tokens");
  }
  return {};
}

Result<std::unique_ptr<EngineSession>> OpenedModel::NewSession(const ModelFlags& flags) const {
  if (Status status = CheckContext(flags); !status) return status.error();
  return model->NewSession(flags.context);
}

Result<OpenedModel> OpenModelOf(const ModelFlags& flags, bool needs_text) {
  EngineOptions options;
  options.target = flags.target;
  options.model.threads = flags.threads;
  options.model.chunk = flags.chunk;
  options.model.kv = KvFormatOf(flags.kv);
  if (!flags.precision.empty()) {
    options.model.precision = flags.precision == "fast" ? Precision::kFast : Precision::kExact;
  }
  ProgressMeter meter("loading", ProgressMeter::Unit::kBytes);
  options.model.load.progress = std::ref(meter);

  OpenedModel opened;
  const Stopwatch watch;
  Result<std::unique_ptr<Engine>> model = OpenEngine(flags.path, options);
  if (!model) return model.error();
  opened.model = *std::move(model);
  const Tokenizer* tokenizer = opened.model->tokenizer();
  if (needs_text && tokenizer == nullptr) {
    return MakeError(ErrorCode::kUnsupported, flags.path, " holds no vocabulary");
  }
  if (tokenizer != nullptr) {
    if (Status status = tokenizer->Prepare(); !status) return status.error();
  }
  opened.load_seconds = watch.seconds();
  PrintWarnings(opened.model->file().warnings());
  return opened;
}

const char* PrecisionName(Precision precision) {
  return precision == Precision::kFast ? "fast" : "exact";
}

}  // namespace lapidary::cli
