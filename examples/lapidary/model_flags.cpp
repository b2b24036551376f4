#include "model_flags.h"

#include <cstdlib>
#include <functional>
#include <string>

#include "lapidary/weights/import.h"
#include "terminal.h"

namespace lapidary::cli {

void AddModelFlags(CLI::App& app, ModelFlags& flags) {
  app.add_option("-m,--model", flags.path, "Weights: a blob (.lap) or a GGUF file")
      ->required()
      ->type_name("FILE");
  app.add_option("-t,--threads", flags.threads, "Threads [all processors]")
      ->check(InRange(1, 1024))
      ->type_name("N");
  app.add_option("--precision", flags.precision,
                 StrCat("Activations of prefill: fast (8 bits) or exact (16 bits) [",
                        PrecisionName(ModelOptions().precision), "]"))
      ->check(CLI::IsMember({"fast", "exact"}))
      ->type_name("P");
  app.add_option("--chunk", flags.chunk, StrCat("Tokens of a step of prefill [", flags.chunk, "]"))
      ->check(InRange(1, 1 << 17))
      ->type_name("N");
}

void AddContextFlag(CLI::App& app, ModelFlags& flags) {
  app.add_option("--context", flags.context,
                 "Most tokens of a sequence [what the model was trained for]")
      ->check(InRange(1, 1 << 20))
      ->type_name("N");
}

CLI::Validator InRange(double least, double most) {
  const auto check = [=](std::string& text) -> std::string {
    char* end = nullptr;
    const double value = std::strtod(text.c_str(), &end);
    // Written so that NaN is refused too.
    if (!text.empty() && *end == '\0' && value >= least && value <= most) return {};
    return StrCat("expected a number from ", internal::NumberText(least), " to ",
                  internal::NumberText(most), ", found ", text);
  };
  return CLI::Validator(check, "", "range");
}

Result<std::unique_ptr<AnySession>> OpenedModel::NewSession(const ModelFlags& flags) const {
  const auto most = static_cast<std::size_t>(model->config().context);
  if (flags.context > most) {
    return MakeError(ErrorCode::kInvalidArgument, "--context ", flags.context, ": ",
                     NameOf(model->config()), " has a context of at most ", most, " tokens");
  }
  return model->NewSession(flags.context);
}

Result<OpenedModel> OpenModelOf(const ModelFlags& flags, bool needs_text) {
  ModelOptions options;
  options.threads = flags.threads;
  options.chunk = flags.chunk;
  if (!flags.precision.empty()) {
    options.precision = flags.precision == "fast" ? Precision::kFast : Precision::kExact;
  }
  ProgressMeter meter("loading", ProgressMeter::Unit::kBytes);
  options.load.progress = std::ref(meter);

  OpenedModel opened;
  const Stopwatch watch;
  Result<std::unique_ptr<AnyModel>> model = OpenAnyModel(flags.path, options);
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
