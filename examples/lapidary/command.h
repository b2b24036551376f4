// The subcommands. Each has a file of its own that declares its options and runs it.
#ifndef LAPIDARY_EXAMPLES_COMMAND_H_
#define LAPIDARY_EXAMPLES_COMMAND_H_

#include <CLI/CLI.hpp>
#include <functional>
#include <memory>

#include "lapidary/base/result.h"

namespace lapidary::cli {

// Runs once the whole command line has been read and found right.
using Command = std::function<Status()>;

// Each adds one subcommand to `app`. If it is the one that the user named, parsing sets *chosen.
void AddBench(CLI::App& app, Command* chosen);
void AddConvert(CLI::App& app, Command* chosen);
void AddGenerate(CLI::App& app, Command* chosen);
void AddInspect(CLI::App& app, Command* chosen);
void AddLogits(CLI::App& app, Command* chosen);
void AddPerplexity(CLI::App& app, Command* chosen);
void AddTokenize(CLI::App& app, Command* chosen);

// Adds the subcommand `name` that fills in an `Options` and runs it: describe(subcommand, options)
// declares the options, run(options) does the work.
template <class Options, class Describe>
void AddCommand(CLI::App& app, Command* chosen, const char* name, const char* what,
                Status (*run)(const Options&), const Describe& describe) {
  CLI::App* command = app.add_subcommand(name, what);
  auto options = std::make_shared<Options>();
  describe(*command, *options);
  command->callback([=] { *chosen = [=] { return run(*options); }; });
}

}  // namespace lapidary::cli

#endif  // LAPIDARY_EXAMPLES_COMMAND_H_
