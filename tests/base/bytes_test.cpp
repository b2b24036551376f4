#include "lapidary/base/bytes.h"

#include <array>
#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <string_view>

#include "tests/support/catch.h"

namespace lapidary {
namespace {

constexpr std::uint64_t kMost = std::numeric_limits<std::uint64_t>::max();

TEST_CASE("checked arithmetic refuses what wraps") {
  CHECK(CheckedAdd(1, 2) == 3u);
  CHECK(CheckedAdd(kMost, 0) == kMost);
  CHECK_FALSE(CheckedAdd(kMost, 1));
  CHECK(CheckedMultiply(6, 7) == 42u);
  CHECK(CheckedMultiply(0, kMost) == 0u);
  CHECK(CheckedMultiply(kMost, 1) == kMost);
  CHECK_FALSE(CheckedMultiply(std::uint64_t{1} << 32, std::uint64_t{1} << 32));
  CHECK_FALSE(CheckedMultiply(3, kMost / 2));
  CHECK(CheckedAlignUp(0, 32) == 0u);
  CHECK(CheckedAlignUp(33, 32) == 64u);
  CHECK(CheckedAlignUp(64, 32) == 64u);
  CHECK_FALSE(CheckedAlignUp(kMost - 3, 32));
}

TEST_CASE("a range fits only if its end does too") {
  CHECK(RangeFits(0, 10, 10));
  CHECK(RangeFits(10, 0, 10));
  CHECK_FALSE(RangeFits(11, 0, 10));
  CHECK_FALSE(RangeFits(4, 7, 10));
  CHECK_FALSE(RangeFits(5, kMost, 10));
  CHECK_FALSE(RangeFits(kMost, 2, 10));
}

TEST_CASE("a reader stops at the end and stays where it was") {
  const std::array<std::uint8_t, 7> bytes = {0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07};
  ByteReader reader(bytes);
  std::uint32_t word = 0;
  REQUIRE(reader.Read(word));
  CHECK(word == 0x04030201u);
  CHECK_FALSE(reader.Read(word));
  CHECK(word == 0x04030201u);
  CHECK(reader.position() == 4);
  CHECK(reader.remaining() == 3);
  CHECK(reader.rest().front() == 5);
  std::span<const std::uint8_t> rest;
  CHECK_FALSE(reader.ReadBytes(4, rest));
  CHECK_FALSE(reader.ReadBytes(kMost, rest));
  REQUIRE(reader.ReadBytes(3, rest));
  CHECK(rest.back() == 7);
  CHECK(reader.remaining() == 0);
  CHECK(reader.ReadBytes(0, rest));
}

TEST_CASE("a text that is cut short moves nothing") {
  const std::array<std::uint8_t, 7> bytes = {3, 0, 0, 0, 'a', 'b', 'c'};
  std::string_view text;
  ByteReader whole(bytes);
  REQUIRE(whole.ReadText<std::uint32_t>(text));
  CHECK(text == "abc");
  ByteReader cut(std::span<const std::uint8_t>(bytes).first(6));
  CHECK_FALSE(cut.ReadText<std::uint32_t>(text));
  CHECK(cut.position() == 0);
}

TEST_CASE("names in messages are short and printable") {
  CHECK(Printable("blk.0.attn_q") == "blk.0.attn_q");
  CHECK(Printable("a\n\x1B[31m\x80") == "a??[31m?");
  CHECK(Printable(std::string(1000, 'x')).size() == 83);
}

}  // namespace
}  // namespace lapidary
