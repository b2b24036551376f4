#include <lapidary/lapidary.h>
#include <lapidary/version.h>

#include <iostream>

std::string SecondFile();

int main() {
  // Opens nothing, so that the program needs no model, but links all that opening a model needs.
  const auto file = lapidary::WeightFile::Open("there is no such file");
  if (file) return 1;
  std::cout << "Lapidary " << lapidary::kVersion.major_version << '.'
            << lapidary::kVersion.minor_version << ", " << hwy::TargetName(HWY_STATIC_TARGET)
            << ": " << file.error().message << '\n'
            << SecondFile() << '\n';
  return 0;
}
