// The subcommands. Each has a file of its own that declares its options and runs it.
#ifndef LAPIDARY_EXAMPLES_COMMAND_H_
#define LAPIDARY_EXAMPLES_COMMAND_H_

#include "options.h"

namespace lapidary::cli {

// Each adds one subcommand to `app`. If it is the one that the user named, parsing sets *chosen.
void AddBench(CLI::App& app, Command* chosen);
void AddChat(CLI::App& app, Command* chosen);
void AddConvert(CLI::App& app, Command* chosen);
void AddEncodeImage(CLI::App& app, Command* chosen);
void AddGenerate(CLI::App& app, Command* chosen);
void AddInspect(CLI::App& app, Command* chosen);
void AddLogits(CLI::App& app, Command* chosen);
void AddMask(CLI::App& app, Command* chosen);
void AddPerplexity(CLI::App& app, Command* chosen);
void AddTokenize(CLI::App& app, Command* chosen);

}  // namespace lapidary::cli

#endif  // LAPIDARY_EXAMPLES_COMMAND_H_
