// Declaring options: a thin cover of CLI11, whose templates take long to compile, so that only
// options.cpp and main.cpp include it.
#ifndef LAPIDARY_EXAMPLES_OPTIONS_H_
#define LAPIDARY_EXAMPLES_OPTIONS_H_

#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "lapidary/base/result.h"

namespace CLI {
class App;
}

namespace lapidary::cli {

// Runs once the whole command line has been read and found right.
using Command = std::function<Status()>;

enum class Need { kOptional, kRequired };

// How an option is written and explained. `names`: "-m,--model", or "FILE" for an argument without
// a dash. `type` stands for the value in the help text.
struct OptionText {
  const char* names;
  const char* type;
  const std::string what;
};

// The values must live until the command line has been read.
void AddText(CLI::App& command, const OptionText& text, std::string& value, Need need);
void AddText(CLI::App& command, const OptionText& text, std::optional<std::string>& value);
// May be given several times.
void AddTexts(CLI::App& command, const OptionText& text, std::vector<std::string>& values);
void AddChoice(CLI::App& command, const OptionText& text, const std::vector<std::string>& choices,
               std::string& value);
// Anything but a number from `least` to `most` is wrong usage.
void AddNumber(CLI::App& command, const OptionText& text, double least, double most,
               std::size_t& value);
void AddNumber(CLI::App& command, const OptionText& text, double least, double most, float& value);
void AddFlag(CLI::App& command, const char* names, const char* what, bool& value);
void AddJsonFlag(CLI::App& command, bool& json);
// Of the options that are added to the result, exactly one must be given.
CLI::App& AddOneOf(CLI::App& command, const char* title, const char* what);
CLI::App& AddAtMostOneOf(CLI::App& command, const char* title, const char* what);
// Ends the help text.
void SetFooter(CLI::App& command, const char* text);

// If the user names this subcommand, *chosen becomes run.
CLI::App& AddSubcommand(CLI::App& app, const char* name, const char* what, Command run,
                        Command* chosen);

// Adds the subcommand `name` that fills in an `Options` and runs it: describe(subcommand, options)
// declares the options, run(options) does the work.
template <class Options, class Describe>
void AddCommand(CLI::App& app, Command* chosen, const char* name, const char* what,
                Status (*run)(const Options&), const Describe& describe) {
  const auto options = std::make_shared<Options>();
  describe(AddSubcommand(
               app, name, what, [=] { return run(*options); }, chosen),
           *options);
}

}  // namespace lapidary::cli

#endif  // LAPIDARY_EXAMPLES_OPTIONS_H_
