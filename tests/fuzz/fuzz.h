// What the fuzz targets share. Each target is one function, LLVMFuzzerTestOneInput, that gives
// bytes to a parser; libFuzzer calls it with bytes of its own making, replay.cpp with those of
// files.
//
// A parser may refuse any bytes. It must not crash, hang or take memory without measure, which
// libFuzzer and the sanitizers see; what a target knows beyond that, it says with Require.
#ifndef LAPIDARY_TESTS_FUZZ_FUZZ_H_
#define LAPIDARY_TESTS_FUZZ_FUZZ_H_

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <span>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace lapidary::fuzz {

// Ends the program with a message if a property does not hold.
inline void Require(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "fuzz: this does not hold: %s\n", what);
  std::abort();
}

// A copy on the heap of exactly this size, so that AddressSanitizer sees a read beyond it.
inline std::vector<std::uint8_t> Copy(std::span<const std::uint8_t> bytes) {
  return {bytes.begin(), bytes.end()};
}

}  // namespace lapidary::fuzz

#endif  // LAPIDARY_TESTS_FUZZ_FUZZ_H_
