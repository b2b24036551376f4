#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "lapidary/base/sha256.h"
#include "lapidary/base/xxhash64.h"
#include "tests/support/catch.h"

namespace lapidary {
namespace {

std::string Sha256Of(std::string_view text) {
  Sha256 hash;
  hash.Update(AsBytes(text));
  return hash.FinishHex();
}

// The same bytes as the numbers below were computed from.
std::vector<std::uint8_t> Ramp(std::size_t size) {
  std::vector<std::uint8_t> bytes(size);
  for (std::size_t i = 0; i < size; ++i) bytes[i] = static_cast<std::uint8_t>(7 * i + 3);
  return bytes;
}

// FIPS 180-4's examples (and the million times "a" of its predecessor).
TEST_CASE("SHA-256 of the standard's examples") {
  CHECK(Sha256Of("") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  CHECK(Sha256Of("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  CHECK(Sha256Of("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq") ==
        "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  CHECK(Sha256Of(std::string(1'000'000, 'a')) ==
        "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

// Numbers of the reference implementation (libxxhash 0.8).
TEST_CASE("XXH64 equals the reference implementation") {
  const std::pair<std::size_t, std::uint64_t> expected[] = {
      {0, 0xef46db3751d8e999},   {1, 0x1f25c8d0bc1f4bb6},  {3, 0x31d2363f52e564c9},
      {4, 0x9bb64b7d66ee9fda},   {7, 0x9a7b149959ce60d8},  {8, 0xdab99d95c6f90092},
      {31, 0xa2aa5f33cc4a6119},  {32, 0x23c3c17ef790fd97}, {33, 0x50a7cfc7ba588784},
      {63, 0x5e3e54b431c7493c},  {64, 0x0eb64b3ef6eeb01f}, {100, 0xa61f8d4c170fe531},
      {1000, 0x5f235fa033f1a3fb}};
  for (const auto& [size, hash] : expected) {
    CAPTURE(size);
    CHECK(HashBytes(Ramp(size)) == hash);
  }
}

TEST_CASE("hashes do not depend on how the bytes are cut") {
  const std::vector<std::uint8_t> bytes = Ramp(300);
  const std::span<const std::uint8_t> all = bytes;
  Sha256 whole;
  whole.Update(all);
  const std::string sha = whole.FinishHex();
  for (std::size_t step = 1; step <= 150; ++step) {
    CAPTURE(step);
    Sha256 sha_parts;
    XxHash64 xx_parts;
    for (std::size_t at = 0; at < all.size(); at += step) {
      const std::span<const std::uint8_t> part = all.subspan(at, std::min(step, all.size() - at));
      sha_parts.Update(part);
      xx_parts.Update(part);
    }
    CHECK(xx_parts.digest() == HashBytes(all));
    CHECK(sha_parts.FinishHex() == sha);
  }
}

}  // namespace
}  // namespace lapidary
