// The real Gemma 3 270M, for the tests that need its vocabulary or weights.
#ifndef LAPIDARY_TESTS_SUPPORT_REAL_MODEL_H_
#define LAPIDARY_TESTS_SUPPORT_REAL_MODEL_H_

#include <cstdlib>
#include <filesystem>

#include "tests/support/catch.h"

namespace lapidary::testing {

// Where the GGUF is: environment variable LAPIDARY_TEST_MODEL, which ctest sets. Where it is not
// set, warns and returns an empty path, and the test does nothing:
//
//   const std::filesystem::path path = RealModelPath();
//   if (path.empty()) return;
inline std::filesystem::path RealModelPath() {
  const char* path = std::getenv("LAPIDARY_TEST_MODEL");
  if (path == nullptr || *path == '\0') {
    WARN("skipped: LAPIDARY_TEST_MODEL does not name the 270M");
    return {};
  }
  return path;
}

}  // namespace lapidary::testing

#endif  // LAPIDARY_TESTS_SUPPORT_REAL_MODEL_H_
