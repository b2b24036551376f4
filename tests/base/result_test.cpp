// Messages are put together as a stream would do it.
#include "lapidary/base/result.h"

#include <cstdint>
#include <limits>
#include <string>
#include <string_view>

#include "tests/support/catch.h"

namespace lapidary {
namespace {

TEST_CASE("texts and numbers become one message") {
  const std::string name = "norm";
  CHECK(StrCat("tensor ", name, std::string_view(".weight"), ':', ' ', -3, " of ", 7u) ==
        "tensor norm.weight: -3 of 7");
  CHECK(StrCat(std::numeric_limits<std::uint64_t>::max(), " ",
               std::numeric_limits<std::int64_t>::min()) ==
        "18446744073709551615 -9223372036854775808");
  CHECK(StrCat(std::uint8_t{65}, ' ', std::int16_t{-1}) == "65 -1");
  CHECK(StrCat(1e6, " ", 2.5f, " ", 1.0 / 3, " ", 1e-6, " ", 1e7) ==
        "1e+06 2.5 0.333333 1e-06 1e+07");
  CHECK(StrCat("", std::string()) == "");
}

TEST_CASE("an error carries its message") {
  const Result<int> failed = MakeError(ErrorCode::kCorrupt, "expected ", 1, ", found ", 2);
  REQUIRE(!failed);
  CHECK(failed.error().code == ErrorCode::kCorrupt);
  CHECK(failed.error().message == "expected 1, found 2");
}

}  // namespace
}  // namespace lapidary
