#include <lapidary/generate/engine.h>

#include <iostream>

int main() {
  // Opens nothing, so that the program needs no model, but links all that running a model needs.
  const auto engine = lapidary::OpenEngine("there is no such file");
  if (engine) return 1;
  std::cout << engine.error().message << "\ninstruction sets:";
  const auto targets = lapidary::EngineTargets();
  for (const std::string& target : targets) std::cout << ' ' << target;
  std::cout << '\n';
  return targets.empty() ? 1 : 0;
}
