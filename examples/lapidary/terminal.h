// What the subcommands share around their work: standard streams, signals, progress, small files of
// text and ids.
#ifndef LAPIDARY_EXAMPLES_TERMINAL_H_
#define LAPIDARY_EXAMPLES_TERMINAL_H_

#include <chrono>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "lapidary/base/progress.h"
#include "lapidary/base/result.h"
#include "lapidary/base/stopwatch.h"

namespace lapidary::cli {

// Writes to standard output at once. False if that failed now or before; main() then reports it, or
// ends quietly if the reader of a pipe has gone.
bool WriteOut(std::string_view text);
// errno of the first WriteOut that failed, 0 if none did.
int WriteOutError();

// The text with question marks for all control characters but line breaks: what comes from a file
// must not move the cursor or set the title of a terminal.
std::string Harmless(std::string_view text);

// One line on standard error, "lapidary: " in front, harmless; line breaks in the message become
// spaces.
void PrintMessage(std::string_view message);
void PrintWarnings(const std::vector<std::string>& warnings);

// From here on the first Ctrl-C or SIGTERM only makes Interrupted() true, so that work can end in
// an orderly way; the second ends the program.
void CatchInterrupts();
bool Interrupted();
// The signal that interrupted, 0 if none did.
int InterruptSignal();
// The work that was interrupted has ended; the next interrupt counts as the first.
void ForgetInterrupt();

// Replaces the progress callback of a long operation: draws a line on standard error if that is a
// terminal, removes it in the end, and cancels the operation after an interrupt. Pass it with
// std::ref.
class ProgressMeter {
 public:
  enum class Unit { kBytes, kTokens };

  ProgressMeter(std::string what, Unit unit);
  ProgressMeter(const ProgressMeter&) = delete;
  ProgressMeter& operator=(const ProgressMeter&) = delete;
  ~ProgressMeter();

  bool operator()(const Progress& progress);

 private:
  using Clock = std::chrono::steady_clock;

  std::string what_;
  Unit unit_;
  bool terminal_;
  Clock::time_point start_, drawn_;
  bool visible_ = false;
};

// The bytes of a file; "-" is standard input. Errors name the file.
Result<std::string> ReadText(const std::string& path);

// The ids of a file of whitespace-separated decimal numbers. Errors: those of ReadText;
// kInvalidArgument for a word that is no number of 32 bits, and for a file without ids.
Result<std::vector<std::int32_t>> ReadIds(const std::string& path);

// "12.30" for (12.3, 2).
std::string Fixed(double value, int digits);
// Decimal units: "253.1 MB".
std::string Bytes(double bytes);
// XXH64 of the values' bytes, 16 hexadecimal digits: equal hashes, equal logits.
std::string HashOf(std::span<const float> logits);

}  // namespace lapidary::cli

#endif  // LAPIDARY_EXAMPLES_TERMINAL_H_
