#include "lapidary/base/overlap.h"

#include <utility>
#include <vector>

#include "tests/support/catch.h"

namespace lapidary::internal {
namespace {

using Parts = std::vector<FilePart>;
using Pair = std::pair<std::size_t, std::size_t>;

TEST_CASE("parts that only touch do not overlap, in whatever order they come") {
  CHECK(!FindOverlap({}));
  CHECK(!FindOverlap(Parts{{0, 10}}));
  CHECK(!FindOverlap(Parts{{20, 5}, {0, 10}, {10, 10}}));
}

TEST_CASE("the two parts that share a byte are named, the first in the file in front") {
  CHECK(FindOverlap(Parts{{19, 5}, {0, 10}, {10, 10}}) == Pair(2, 0));
  CHECK(FindOverlap(Parts{{0, 100}, {10, 1}, {50, 1}}) == Pair(0, 1));  // inside another
  CHECK(FindOverlap(Parts{{8, 4}, {0, 8}, {8, 2}}) == Pair(0, 2));      // from the same byte on
}

TEST_CASE("an empty part shares no byte, wherever it lies, and hides no other") {
  CHECK(!FindOverlap(Parts{{0, 10}, {5, 0}, {0, 0}, {10, 0}}));
  CHECK(FindOverlap(Parts{{0, 10}, {9, 0}, {9, 1}}) == Pair(0, 2));
}

}  // namespace
}  // namespace lapidary::internal
