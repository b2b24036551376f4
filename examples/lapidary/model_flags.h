// The options of all subcommands that run a model.
#ifndef LAPIDARY_EXAMPLES_MODEL_FLAGS_H_
#define LAPIDARY_EXAMPLES_MODEL_FLAGS_H_

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

#include "lapidary/base/result.h"
#include "lapidary/generate/engine.h"
#include "options.h"

namespace lapidary::cli {

struct ModelFlags {
  std::string path;
  std::size_t threads = 0;
  std::string precision;  // empty: the library's default
  std::size_t chunk = ModelOptions().chunk;
  std::string kv;  // empty: bf16
  std::size_t context = 0;
  std::string target;  // empty: the best that the CPU has
};

// -m, -t, --precision, --chunk, --kv and --target.
void AddModelFlags(CLI::App& command, ModelFlags& flags, Need need_model = Need::kRequired);
// --kv
void AddKvFlag(CLI::App& command, std::string& kv);
KvFormat KvFormatOf(std::string_view kv);
// --context
void AddContextFlag(CLI::App& command, ModelFlags& flags);

struct OpenedModel {
  std::unique_ptr<Engine> model;
  double load_seconds = 0;  // opening, the tokenizer made ready for text included

  // kInvalidArgument if the model has not as much as --context says.
  Status CheckContext(const ModelFlags& flags) const;
  // The session of --context. Errors: those of CheckContext.
  Result<std::unique_ptr<EngineSession>> NewSession(const ModelFlags& flags) const;
};

// Opens the file, with a progress line if that takes long, and prints its warnings. Errors: those
// of OpenEngine and Tokenizer::Prepare; kUnsupported if needs_text and the file has no
// vocabulary.
Result<OpenedModel> OpenModelOf(const ModelFlags& flags, bool needs_text = true);

// "fast" or "exact".
const char* PrecisionName(Precision precision);

}  // namespace lapidary::cli

#endif  // LAPIDARY_EXAMPLES_MODEL_FLAGS_H_
