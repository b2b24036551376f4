// What a test expects of an error.
#ifndef LAPIDARY_TESTS_SUPPORT_SAYS_H_
#define LAPIDARY_TESTS_SUPPORT_SAYS_H_

#include <string>
#include <string_view>

#include "lapidary/base/result.h"
#include "tests/support/catch.h"

namespace lapidary::testing {

// The error has this code, and its message, one line, contains the text.
inline void Says(const Error& error, ErrorCode code, std::string_view text) {
  INFO(error.message);
  CHECK(error.code == code);
  CHECK(error.message.find(text) != std::string::npos);
  CHECK(error.message.find('\n') == std::string::npos);
}

}  // namespace lapidary::testing

#endif  // LAPIDARY_TESTS_SUPPORT_SAYS_H_
