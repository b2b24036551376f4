// lapidary: converts, inspects and runs Gemma 3 from the command line.
//
// Results go to standard output, everything else to standard error. Exit status: 0; 1 and one line
// "lapidary: ..." for an error; 2 and one line for wrong usage.
#include <fcntl.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cerrno>
#include <csignal>
#include <exception>
#include <string>
#include <system_error>

#include "command.h"
#include "lapidary/generate/engine.h"
#include "lapidary/version.h"
#include "terminal.h"

namespace lapidary::cli {
namespace {

std::string VersionText() {
  return StrCat("lapidary ", kVersion.major_version, ".", kVersion.minor_version, ".",
                kVersion.patch_version, ", ",
#if defined(__clang__)
                "clang ", __clang_major__, ".", __clang_minor__, ".", __clang_patchlevel__,
#else
                "g++ ", __GNUC__, ".", __GNUC_MINOR__, ".", __GNUC_PATCHLEVEL__,
#endif
                ", ", EngineTargets().front());
}

// A standard stream that was closed would lend its number to the next file that is opened, and our
// messages would end up in that file.
void OpenStandardStreams() {
  for (int number = 0; number <= 2; ++number) {
    if (::fcntl(number, F_GETFD) == -1 && errno == EBADF) {
      [[maybe_unused]] const int opened = ::open("/dev/null", number == 0 ? O_RDONLY : O_WRONLY);
    }
  }
}

// Ends the program as the signal would have done, so that a shell sees why.
[[noreturn]] void EndBy(int signal) {
  std::signal(signal, SIG_DFL);
  std::raise(signal);
  std::_Exit(128 + signal);
}

int WrongUsage(const CLI::App& app, const CLI::ParseError& error) {
  std::string help = "lapidary";
  for (const CLI::App* command : app.get_subcommands()) help += " " + command->get_name();
  PrintMessage(StrCat(error.what(), " (see ", help, " --help)"));
  return 2;
}

int Main(int argc, char** argv) {
  CLI::App app("Gemma 3 on the CPU.", "lapidary");
  app.set_version_flag("--version", VersionText(), "Print version, compiler and instruction set");
  app.set_help_all_flag("--help-all", "Print this help and that of all subcommands");
  app.require_subcommand(1);
  app.footer(
      "Example:\n"
      "  lapidary convert gemma-3-270m.gguf -o gemma-3-270m.lap\n"
      "  lapidary generate -m gemma-3-270m.lap -p \"The capital of France is\"");

  Command chosen;
  AddConvert(app, &chosen);
  AddInspect(app, &chosen);
  AddGenerate(app, &chosen);
  AddChat(app, &chosen);
  AddTokenize(app, &chosen);
  AddLogits(app, &chosen);
  AddPerplexity(app, &chosen);
  AddEncodeImage(app, &chosen);
  AddMask(app, &chosen);
  AddBench(app, &chosen);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    const bool asked = error.get_exit_code() == 0;  // --help, --version
    return asked ? app.exit(error) : WrongUsage(app, error);
  }

  const Status status = chosen();
  if (Interrupted()) EndBy(InterruptSignal());
  if (WriteOutError() == EPIPE) EndBy(SIGPIPE);  // a reader that has seen enough is no error
  if (!status) {
    PrintMessage(status.error().message);
    return 1;
  }
  if (WriteOutError() != 0) {
    PrintMessage("cannot write to standard output: " +
                 std::generic_category().message(WriteOutError()));
    return 1;
  }
  return 0;
}

}  // namespace
}  // namespace lapidary::cli

int main(int argc, char** argv) {
  using namespace lapidary::cli;
  OpenStandardStreams();
  // Writing to a pipe without a reader becomes an error that WriteOut sees, so that files under
  // construction are removed first.
  std::signal(SIGPIPE, SIG_IGN);
  try {
    return Main(argc, argv);
  } catch (const std::exception& error) {
    PrintMessage(error.what());  // only std::bad_alloc is left
    return 1;
  }
}
