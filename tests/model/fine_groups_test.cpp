// The choice of how many groups the output head reads closely at first.
#include <cmath>
#include <vector>

#include "lapidary/model/fine_groups-inl.h"
#include "tests/support/catch.h"

HWY_BEFORE_NAMESPACE();
namespace lapidary {
namespace HWY_NAMESPACE {
namespace {

constexpr size_t kGroups = 20, kPanels = 1000;

// Rows whose best logit is `gap` above the estimates of all panels, and whose squares are 1 in all
// groups but two, where they are `loud`: what is chosen after `rows` of them. Their typical margin
// is that of scales of 1.
size_t ChoiceAfter(size_t rows, float gap, float loud, FineGroups& groups) {
  for (size_t row = 0; row < rows; ++row) {
    std::vector<float> squares(kGroups, 1.0f);
    squares[3] = squares[11] = loud;
    float variance = 0;
    for (size_t g = 0; g < kGroups; ++g) {
      const bool is_loud = g == 3 || g == 11;
      const bool fine = groups.next() == kGroups || (groups.next() >= 2 && is_loud);
      variance += CoarseVariance(fine) * squares[g];
    }
    const std::vector<float> bounds(kPanels, kCoarseDeviations * std::sqrt(variance));
    groups.Learn(squares, 1.0f, bounds, gap);
  }
  return groups.next();
}

TEST_CASE(
    "a row that leaves nothing in doubt needs no fine groups, one that leaves all needs all") {
  FineGroups groups(kGroups);
  CHECK(groups.next() == kGroups);
  // 7 deviations of 20 groups without middle bits are 578, with them 144.
  CHECK(ChoiceAfter(1, 600, 1, groups) == 0);
  CHECK(ChoiceAfter(30, 100, 1, groups) == kGroups);
  CHECK(ChoiceAfter(30, 600, 1, groups) == 0);
}

TEST_CASE("where few groups are loud, these are read closely") {
  FineGroups groups(kGroups);
  // Without fine groups a margin of 1930, with the two 740.
  CHECK(ChoiceAfter(10, 1000, 100, groups) == 2);
}

TEST_CASE("rows that are not numbers change no choice") {
  FineGroups groups(kGroups);
  CHECK(ChoiceAfter(1, 100, 1, groups) == kGroups);
  // Taken for numbers they would leave no panel, and ask for no groups.
  std::vector<float> squares(kGroups, NAN);
  for (int i = 0; i < 30; ++i) groups.Learn(squares, 1.0f, std::vector<float>(kPanels, NAN), 0);
  CHECK(groups.next() == kGroups);
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace lapidary
HWY_AFTER_NAMESPACE();
