#include <lapidary/lapidary.h>

#include <iostream>
#include <string_view>

// This file is compiled for the CPU of this machine, main.cpp for any: what depends on that must
// not be merged by the linker.
int SecondFile() {
  const auto model = lapidary::Model<lapidary::Gemma3_270M>::Open("nor this one");
  if (model) return 1;
  std::cout << "second.cpp is compiled for " << lapidary::StaticTargetName() << '\n';
  return std::string_view(lapidary::StaticTargetName()) == hwy::TargetName(HWY_STATIC_TARGET) ? 0
                                                                                              : 1;
}
