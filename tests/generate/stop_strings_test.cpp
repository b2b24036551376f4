// Stop strings in text that arrives in pieces.
#include "lapidary/generate/stop_strings.h"

#include <cstddef>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "tests/support/catch.h"

namespace lapidary {
namespace {

struct Shown {
  std::string text;
  bool stopped = false;
  friend bool operator==(const Shown&, const Shown&) = default;
};

Shown Feed(const std::vector<std::string>& stops, const std::vector<std::string>& pieces) {
  StopStrings filter(stops);
  Shown shown;
  for (const std::string& piece : pieces) shown.text += filter.Push(piece);
  shown.text += filter.Finish();
  shown.stopped = filter.stopped();
  return shown;
}

TEST_CASE("without stop strings text passes at once") {
  StopStrings none({});
  CHECK(none.Push("abc") == "abc");
  CHECK(none.Push("") == "");
  CHECK(none.Finish() == "");
  CHECK(!none.stopped());
}

TEST_CASE("empty stop strings are ignored") {
  CHECK(Feed({""}, {"abc"}) == Shown{"abc", false});
  CHECK(Feed({"", "c"}, {"abc"}) == Shown{"ab", true});
}

TEST_CASE("text ends before the stop string and stays ended") {
  StopStrings stop({"STOP"});
  CHECK(stop.Push("one STOP two") == "one ");
  CHECK(stop.stopped());
  CHECK(stop.Push("three") == "");
  CHECK(stop.Finish() == "");
  CHECK(Feed({"STOP"}, {"STOP"}) == Shown{"", true});
}

TEST_CASE("a stop string is found across pieces, and never shown in part") {
  StopStrings stop({"\nUser:"});
  CHECK(stop.Push("Hi") == "Hi");
  CHECK(stop.Push(" there\n") == " there");
  CHECK(stop.Push("Us") == "");
  CHECK(stop.Push("er") == "");
  CHECK(!stop.stopped());
  CHECK(stop.Push(": what") == "");
  CHECK(stop.stopped());
}

TEST_CASE("what was held back appears when it turns out not to be a stop string") {
  StopStrings stop({"\nUser:"});
  CHECK(stop.Push("a\nUse") == "a");
  CHECK(stop.Push("d") == "\nUsed");
  CHECK(stop.Push("\n") == "");
  CHECK(stop.Finish() == "\n");
  CHECK(stop.Finish() == "");
  CHECK(!stop.stopped());
}

TEST_CASE("a stop string that overlaps itself") {
  CHECK(Feed({"aab"}, {"a", "a", "a", "b"}) == Shown{"a", true});
  CHECK(Feed({"abab"}, {"ab", "a", "c", "aba", "b"}) == Shown{"abac", true});
  // Held back: only what may still become the stop string.
  StopStrings stop({"aab"});
  CHECK(stop.Push("aaaa") == "aa");
  CHECK(stop.Push("c") == "aac");
}

TEST_CASE("of several stop strings the first one in the text counts") {
  CHECK(Feed({"two", "one"}, {"zero one two"}) == Shown{"zero ", true});
  CHECK(Feed({"b", "abc"}, {"x", "abd"}) == Shown{"xa", true});
  // The longest possible beginning is held back, whichever string it begins.
  StopStrings stop({"cx", "bcdy"});
  CHECK(stop.Push("abc") == "a");
  CHECK(stop.Push("d") == "");
  CHECK(stop.Push("z") == "bcdz");
}

TEST_CASE("bytes of any kind, NUL included") {
  using namespace std::string_literals;
  CHECK(Feed({"\0x"s}, {"a\0"s, "y\0"s, "x"}) == Shown{"a\0y"s, true});
  CHECK(Feed({"\xC3\xA9"}, {"caf", "\xC3\xA9", "!"}) == Shown{"caf", true});
}

TEST_CASE("the result does not depend on where the text is cut") {
  // A small alphabet makes beginnings, overlaps and strings within strings frequent.
  std::mt19937 random(1);
  const auto word = [&](std::size_t most) {
    std::string text(random() % most + 1, 'a');
    for (char& c : text) c = static_cast<char>('a' + random() % 2);
    return text;
  };
  int different = 0, stopped = 0;
  std::string example;
  for (int round = 0; round < 5000; ++round) {
    std::vector<std::string> stops;
    for (std::size_t i = random() % 3 + 1; i > 0; --i) stops.push_back(word(4));
    const std::string text = word(16);
    const Shown expected = Feed(stops, {text});
    std::vector<std::string> pieces;
    for (std::size_t i = 0; i < text.size();) {
      pieces.push_back(text.substr(i, random() % 4));
      i += pieces.back().size();
    }
    const Shown found = Feed(stops, pieces);
    stopped += found.stopped;
    if (found == expected) continue;
    ++different;
    example = text + ", stop strings";
    for (const std::string& stop : stops) example += " " + stop;
  }
  CAPTURE(example);
  CHECK(different == 0);
  CHECK(stopped > 1000);
}

}  // namespace
}  // namespace lapidary
