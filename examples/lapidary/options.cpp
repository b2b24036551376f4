#include "options.h"

#include <CLI/CLI.hpp>
#include <cstdlib>
#include <utility>

namespace lapidary::cli {

namespace {

template <class T>
CLI::Option& Add(CLI::App& command, const OptionText& text, T& value) {
  return *command.add_option(text.names, value, text.what)->type_name(text.type);
}

CLI::Validator InRange(double least, double most) {
  const auto check = [=](std::string& text) -> std::string {
    char* end = nullptr;
    const double value = std::strtod(text.c_str(), &end);
    // Written so that NaN is refused too.
    if (!text.empty() && *end == '\0' && value >= least && value <= most) return {};
    return StrCat("expected a number from ", least, " to ", most, ", found ", text);
  };
  return CLI::Validator(check, "", "range");
}

}  // namespace

void AddText(CLI::App& command, const OptionText& text, std::string& value, Need need) {
  Add(command, text, value).required(need == Need::kRequired);
}

void AddText(CLI::App& command, const OptionText& text, std::optional<std::string>& value) {
  command
      .add_option_function<std::string>(
          text.names, [&value](const std::string& given) { value = given; }, text.what)
      ->type_name(text.type);
}

void AddTexts(CLI::App& command, const OptionText& text, std::vector<std::string>& values) {
  Add(command, text, values).allow_extra_args(false);
}

void AddChoice(CLI::App& command, const OptionText& text, const std::vector<std::string>& choices,
               std::string& value) {
  Add(command, text, value).check(CLI::IsMember(choices));
}

void AddNumber(CLI::App& command, const OptionText& text, double least, double most,
               std::size_t& value) {
  Add(command, text, value).check(InRange(least, most));
}

void AddNumber(CLI::App& command, const OptionText& text, double least, double most, float& value) {
  Add(command, text, value).check(InRange(least, most));
}

void AddFlag(CLI::App& command, const char* names, const char* what, bool& value) {
  command.add_flag(names, value, what);
}

void AddJsonFlag(CLI::App& command, bool& json) {
  AddFlag(command, "--json", "Print one JSON object on standard output, and nothing else there",
          json);
}

CLI::App& AddOneOf(CLI::App& command, const char* title, const char* what) {
  CLI::App& group = *command.add_option_group(title, what);
  group.require_option(1);
  return group;
}

CLI::App& AddAtMostOneOf(CLI::App& command, const char* title, const char* what) {
  CLI::App& group = *command.add_option_group(title, what);
  group.require_option(0, 1);
  return group;
}

void SetFooter(CLI::App& command, const char* text) { command.footer(text); }

CLI::App& AddSubcommand(CLI::App& app, const char* name, const char* what, Command run,
                        Command* chosen) {
  CLI::App& command = *app.add_subcommand(name, what);
  command.callback([run = std::move(run), chosen] { *chosen = run; });
  return command;
}

}  // namespace lapidary::cli
