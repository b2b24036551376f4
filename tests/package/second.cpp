#include <lapidary/lapidary.h>

#include <string>

std::string SecondFile() {
  const auto file = lapidary::WeightFile::Open("nor this one");
  return std::string(hwy::TargetName(HWY_STATIC_TARGET)) + ": " +
         (file ? "opened" : file.error().message);
}
