#include <lapidary/lapidary.h>

#include <iostream>
#include <string_view>

int SecondFile();

int main() {
  // Opens nothing, so that the program needs no model, but links all that running a model needs.
  const auto model = lapidary::Model<lapidary::Gemma3_270M>::Open("there is no such file");
  if (model) return 1;
  std::cout << "Lapidary " << lapidary::kVersion.major_version << '.'
            << lapidary::kVersion.minor_version << ": " << model.error().message << '\n'
            << "main.cpp is compiled for " << lapidary::StaticTargetName() << '\n';
  if (std::string_view(lapidary::StaticTargetName()) != hwy::TargetName(HWY_STATIC_TARGET))
    return 1;
  return SecondFile();
}
