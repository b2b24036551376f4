// Errors as values.
//
// Every function that can fail because of something outside the program (a file, a prompt, memory)
// returns Result<T>. Headers of this library never abort, exit or print.
#ifndef LAPIDARY_BASE_RESULT_H_
#define LAPIDARY_BASE_RESULT_H_

#include <cassert>
#include <optional>
#include <sstream>
#include <stdexcept>
#include <string>
#include <utility>

namespace lapidary {

enum class ErrorCode {
  kInvalidArgument,  // the caller's values are out of range
  kNotFound,         // no such file, no such tensor
  kIo,               // the operating system refused to read or write
  kCorrupt,          // a file contradicts itself or its format
  kUnsupported,      // well-formed, but not something this library reads
  kMismatch,         // a file holds another model than the program names
  kOutOfMemory,
  kContextFull,  // the tokens do not fit into the context
  kCancelled,    // a callback asked to stop
};

// What went wrong, in one line: what was expected, what was found, and where.
struct Error {
  ErrorCode code = ErrorCode::kInvalidArgument;
  std::string message;
};

// Puts values one behind the other as text: StrCat("layer ", 3, " has ", 2.5). Messages are rare:
// kept out of line, they cost neither the speed of the code around them nor the time to compile it.
template <class... Parts>
[[gnu::noinline, gnu::cold]] std::string StrCat(const Parts&... parts) {
  std::ostringstream out;
  (out << ... << parts);
  return std::move(out).str();
}

template <class... Parts>
[[gnu::noinline, gnu::cold]] Error MakeError(ErrorCode code, const Parts&... parts) {
  return Error{code, StrCat(parts...)};
}

// A value or an Error. `if (!result) return result.error();` is the usual way to pass one on.
template <class T>
class [[nodiscard]] Result {
 public:
  Result(T value) : value_(std::move(value)) {}      // NOLINT: implicit on purpose
  Result(Error error) : error_(std::move(error)) {}  // NOLINT: implicit on purpose

  bool ok() const { return value_.has_value(); }
  explicit operator bool() const { return ok(); }

  const Error& error() const { return error_; }

  // Precondition of the operators: ok().
  T& operator*() & { return (assert(ok()), *value_); }
  const T& operator*() const& { return (assert(ok()), *value_); }
  T&& operator*() && { return (assert(ok()), *std::move(value_)); }
  T* operator->() { return (assert(ok()), &*value_); }
  const T* operator->() const { return (assert(ok()), &*value_); }

#if defined(__cpp_exceptions)
  // For programs that prefer exceptions: throws std::runtime_error with the error's message.
  T& value() & {
    if (!ok()) throw std::runtime_error(error_.message);
    return *value_;
  }
  T&& value() && {
    if (!ok()) throw std::runtime_error(error_.message);
    return *std::move(value_);
  }
#endif

 private:
  std::optional<T> value_;
  Error error_;
};

// Success or an Error: `return {};` says success.
template <>
class [[nodiscard]] Result<void> {
 public:
  Result() = default;
  Result(Error error) : error_(std::move(error)) {}  // NOLINT: implicit on purpose

  bool ok() const { return !error_.has_value(); }
  explicit operator bool() const { return ok(); }
  const Error& error() const { return (assert(!ok()), *error_); }

 private:
  std::optional<Error> error_;
};

using Status = Result<void>;

}  // namespace lapidary

#endif  // LAPIDARY_BASE_RESULT_H_
