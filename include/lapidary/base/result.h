// Errors as values.
//
// Every function that can fail because of something outside the program (a file, a prompt, memory)
// returns Result<T>. Headers of this library never abort, exit or print.
#ifndef LAPIDARY_BASE_RESULT_H_
#define LAPIDARY_BASE_RESULT_H_

#include <cassert>
#include <concepts>
#include <cstdint>
#include <cstdio>
#include <initializer_list>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
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

// A part of a message: a text, seen but not owned, or a number.
class MessagePart {
 public:
  MessagePart(std::string_view text) : text_(text) {}          // NOLINT: implicit on purpose
  MessagePart(const std::string& text) : text_(text) {}        // NOLINT
  MessagePart(const char* text) : text_(text) {}               // NOLINT
  MessagePart(const char& letter) : text_(&letter, 1) {}       // NOLINT
  MessagePart(double number) : kind_(kReal), real_(number) {}  // NOLINT
  template <std::signed_integral T>
  MessagePart(T number) : kind_(kSigned), signed_(number) {}  // NOLINT
  template <std::unsigned_integral T>
  MessagePart(T number) : kind_(kUnsigned), unsigned_(number) {}  // NOLINT

  void AppendTo(std::string& message) const;

 private:
  enum { kText, kSigned, kUnsigned, kReal } kind_ = kText;
  union {
    std::string_view text_;
    std::int64_t signed_;
    std::uint64_t unsigned_;
    double real_;
  };
};

// Real numbers with at most six digits, as std::ostream writes them.
inline void MessagePart::AppendTo(std::string& message) const {
  switch (kind_) {
    case kText:
      message += text_;
      return;
    case kSigned:
      message += std::to_string(signed_);
      return;
    case kUnsigned:
      message += std::to_string(unsigned_);
      return;
    case kReal: {
      char digits[32];
      std::snprintf(digits, sizeof(digits), "%g", real_);
      message += digits;
    }
  }
}

namespace internal {

[[gnu::noinline, gnu::cold]] inline std::string Join(std::initializer_list<MessagePart> parts) {
  std::string message;
  for (const MessagePart& part : parts) part.AppendTo(message);
  return message;
}

}  // namespace internal

// Puts values one behind the other as text: StrCat("layer ", 3, " has ", 2.5). A caller holds
// nothing but the list of parts: with a stream in every one of 130 kinds of message, they were 29
// of the 498 KB of code that the compiler made of the first program.
template <class... Parts>
std::string StrCat(const Parts&... parts) {
  return internal::Join({MessagePart(parts)...});
}

template <class... Parts>
[[gnu::cold]] Error MakeError(ErrorCode code, const Parts&... parts) {
  return Error{code, internal::Join({MessagePart(parts)...})};
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
