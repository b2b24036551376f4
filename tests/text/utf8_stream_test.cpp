#include "lapidary/text/utf8_stream.h"

#include <cstddef>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tests/support/catch.h"

namespace lapidary {
namespace {

const std::string kBad(kReplacementCharacter);

// Well-formed and ill-formed texts, and what they become.
std::vector<std::pair<std::string, std::string>> Cases() {
  using namespace std::string_literals;
  return {
      {"", ""},
      {"plain text, longer than eight bytes", "plain text, longer than eight bytes"},
      {"na\xC3\xAFve \xE2\x82\xAC \xF0\x9F\x98\x80!",
       "na\xC3\xAFve \xE2\x82\xAC \xF0\x9F\x98\x80!"},
      {"a\0b"s, "a\0b"s},
      {"\x7F\xC2\x80\xDF\xBF\xE0\xA0\x80\xEF\xBF\xBF\xF0\x90\x80\x80\xF4\x8F\xBF\xBF",
       "\x7F\xC2\x80\xDF\xBF\xE0\xA0\x80\xEF\xBF\xBF\xF0\x90\x80\x80\xF4\x8F\xBF\xBF"},
      {"\xFF", kBad},
      {"a\x80z", "a" + kBad + "z"},
      // One for each maximal subpart: the beginning of a character counts as one.
      {"\xE2\x82"
       "A",
       kBad + "A"},
      {"\xF0\x9F\x98"
       "A",
       kBad + "A"},
      {"\xE2\x28\xA1", kBad + "(" + kBad},
      // Overlong, surrogate, beyond U+10FFFF: no byte of these begins anything.
      {"\xC0\xAF", kBad + kBad},
      {"\xE0\x80\xAF", kBad + kBad + kBad},
      {"\xED\xA0\x80", kBad + kBad + kBad},
      {"\xF4\x90\x80\x80", kBad + kBad + kBad + kBad},
      {"\xF8\x88\x80\x80\x80", kBad + kBad + kBad + kBad + kBad},
      // Cut at the end.
      {"ok\xC3", "ok" + kBad},
      {"ok\xE2\x82", "ok" + kBad},
      {"ok\xF0\x9F\x98", "ok" + kBad},
      {"\xC3\xC3\xA9", kBad + "\xC3\xA9"},
      {"\xF0\x9F\xE2\x82\xAC\xF0", kBad + "\xE2\x82\xAC" + kBad},
  };
}

}  // namespace

TEST_CASE("ToValidUtf8 writes U+FFFD for every maximal subpart that is not UTF-8") {
  for (const auto& [bytes, text] : Cases()) {
    CAPTURE(bytes, text);
    CHECK(ToValidUtf8(bytes) == text);
    CHECK(IsValidUtf8(bytes) == (bytes == text));
    CHECK(IsValidUtf8(text));
  }
}

TEST_CASE("Utf8Stream gives the same text wherever the bytes are cut") {
  for (const auto& [bytes, text] : Cases()) {
    CAPTURE(bytes, text);
    for (std::size_t first = 0; first <= bytes.size(); ++first) {
      for (std::size_t second = first; second <= bytes.size(); ++second) {
        const std::string_view all = bytes;
        Utf8Stream stream;
        std::string streamed;
        for (const std::string_view part :
             {all.substr(0, first), all.substr(first, second - first), all.substr(second)}) {
          const std::string shown = stream.Push(part);
          CHECK(IsValidUtf8(shown));
          streamed += shown;
        }
        streamed += stream.Finish();
        CHECK(streamed == text);
      }
    }
    Utf8Stream stream;
    std::string streamed;
    for (const char byte : bytes) streamed += stream.Push(std::string_view(&byte, 1));
    CHECK(streamed + stream.Finish() == text);
  }
}

TEST_CASE("Utf8Stream holds back only what may still become a character") {
  Utf8Stream stream;
  CHECK(stream.Push("a\xF0") == "a");
  CHECK(stream.Push("\x9F\x98") == "");
  CHECK(stream.Push("\x80"
                    "b") ==
        "\xF0\x9F\x98\x80"
        "b");
  CHECK(stream.Push("\xE2\x82") == "");
  CHECK(stream.Push("c") == kBad + "c");
  // F8 can begin nothing: there is nothing to wait for.
  CHECK(stream.Push("\xF8") == kBad);
  CHECK(stream.Push("\xC3") == "");
  CHECK(stream.Finish() == kBad);
  CHECK(stream.Finish() == "");
  CHECK(stream.Push("new") == "new");
}

}  // namespace lapidary
