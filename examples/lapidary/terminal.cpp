#include "terminal.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <csignal>
#include <cstdio>
#include <memory>
#include <system_error>
#include <utility>

#include "lapidary/base/bytes.h"
#include "lapidary/base/xxhash64.h"

namespace lapidary::cli {

namespace {

int write_out_error = 0;
volatile std::sig_atomic_t interrupt_signal = 0;

void OnInterrupt(int signal) { interrupt_signal = signal; }

}  // namespace

bool WriteOut(std::string_view text) {
  if (write_out_error != 0) return false;
  if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size() || std::fflush(stdout) != 0) {
    write_out_error = errno != 0 ? errno : EIO;
    return false;
  }
  return true;
}

int WriteOutError() { return write_out_error; }

std::string Harmless(std::string_view text) {
  std::string result(text);
  for (char& c : result) {
    if ((static_cast<unsigned char>(c) < ' ' && c != '\n') || c == '\x7F') c = '?';
  }
  return result;
}

void PrintMessage(std::string_view message) {
  std::string line = "lapidary: " + Harmless(message);
  std::replace(line.begin(), line.end(), '\n', ' ');
  line += '\n';
  std::fwrite(line.data(), 1, line.size(), stderr);
}

void PrintWarnings(const std::vector<std::string>& warnings) {
  for (const std::string& warning : warnings) PrintMessage("warning: " + warning);
}

void CatchInterrupts() {
  struct sigaction action = {};
  action.sa_handler = OnInterrupt;
  action.sa_flags = static_cast<int>(SA_RESETHAND);
  sigemptyset(&action.sa_mask);
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
}

bool Interrupted() { return interrupt_signal != 0; }
int InterruptSignal() { return interrupt_signal; }

void ForgetInterrupt() {
  if (interrupt_signal != SIGINT) return;  // SIGTERM means the program
  interrupt_signal = 0;
  CatchInterrupts();
}

ProgressMeter::ProgressMeter(std::string what, Unit unit)
    : what_(std::move(what)),
      unit_(unit),
      terminal_(::isatty(STDERR_FILENO) != 0),
      start_(Clock::now()),
      drawn_(start_) {}

ProgressMeter::~ProgressMeter() {
  if (visible_) std::fputs("\r\x1b[K", stderr);
}

bool ProgressMeter::operator()(const Progress& progress) {
  const Clock::time_point now = Clock::now();
  // What is done within a fifth of a second needs no meter.
  if (terminal_ && progress.total > 0 && now - drawn_ > std::chrono::milliseconds(200)) {
    drawn_ = now;
    visible_ = true;
    const double done = static_cast<double>(progress.done);
    const double rate = done / std::chrono::duration<double>(now - start_).count();
    const std::string speed =
        unit_ == Unit::kBytes ? Bytes(rate) + "/s" : Fixed(rate, 0) + " tok/s";
    std::fprintf(stderr, "\r%s %3.0f %%  %s\x1b[K", what_.c_str(),
                 100 * done / static_cast<double>(progress.total), speed.c_str());
    std::fflush(stderr);
  }
  return !Interrupted();
}

Result<std::string> ReadText(const std::string& path) {
  const auto failed = [&](int number) {
    return MakeError(number == ENOENT ? ErrorCode::kNotFound : ErrorCode::kIo, "cannot read ",
                     path == "-" ? "standard input" : path, ": ",
                     std::generic_category().message(number));
  };
  const auto close = [](std::FILE* file) {
    if (file != stdin) std::fclose(file);
  };
  const std::unique_ptr<std::FILE, decltype(close)> file(
      path == "-" ? stdin : std::fopen(path.c_str(), "rb"), close);
  if (file == nullptr) return failed(errno);
  std::string text;
  char part[1 << 16];
  while (const std::size_t got = std::fread(part, 1, sizeof(part), file.get())) {
    text.append(part, got);
  }
  if (std::ferror(file.get())) return failed(errno);
  return text;
}

Result<std::vector<std::int32_t>> ReadIds(const std::string& path) {
  const Result<std::string> text = ReadText(path);
  if (!text) return text.error();
  constexpr std::string_view kSpace = " \t\r\n\v\f";
  std::vector<std::int32_t> ids;
  for (std::string_view rest = *text;;) {
    rest.remove_prefix(std::min(rest.find_first_not_of(kSpace), rest.size()));
    if (rest.empty()) break;
    const std::string_view word = rest.substr(0, rest.find_first_of(kSpace));
    std::int32_t id = 0;
    const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), id);
    if (error != std::errc() || end != word.data() + word.size()) {
      return MakeError(ErrorCode::kInvalidArgument, path, ": expected decimal ids, found \"",
                       word.substr(0, 40), "\" as word ", ids.size() + 1);
    }
    ids.push_back(id);
    rest.remove_prefix(word.size());
  }
  if (ids.empty()) return MakeError(ErrorCode::kInvalidArgument, path, " holds no ids");
  return ids;
}

std::string Fixed(double value, int digits) {
  char text[64];
  std::snprintf(text, sizeof(text), "%.*f", digits, value);
  return text;
}

std::string Bytes(double bytes) {
  constexpr const char* kUnits[] = {" B", " kB", " MB", " GB", " TB"};
  std::size_t unit = 0;
  while (bytes >= 999.95 && unit + 1 < std::size(kUnits)) {
    bytes /= 1000;
    ++unit;
  }
  return Fixed(bytes, unit == 0 ? 0 : 1) + kUnits[unit];
}

std::string HashOf(std::span<const float> logits) {
  const std::uint64_t hash =
      HashBytes({reinterpret_cast<const std::uint8_t*>(logits.data()), logits.size_bytes()});
  char text[17];
  std::snprintf(text, sizeof(text), "%016llx", static_cast<unsigned long long>(hash));
  return text;
}

}  // namespace lapidary::cli
