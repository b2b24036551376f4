// One program for every CPU: runs a text on each instruction set that the program has and the CPU
// too.
#include <lapidary/generate/engine.h>

#include <iostream>

int main(int argc, char** argv) {
  if (argc < 3) return std::cerr << "usage: dynamic_dispatch MODEL TEXT\n", 2;
  for (const std::string& target : lapidary::EngineTargets()) {  // the best first
    lapidary::EngineOptions options;
    options.target = target;
    auto engine = lapidary::OpenEngine(argv[1], options);
    if (!engine) return std::cerr << engine.error().message << '\n', 1;
    auto session = (*engine)->NewSession();
    const auto prompt = (*engine)->tokenizer()->EncodePrompt(argv[2]);
    auto result = session->Generate(prompt, {.max_tokens = 16});
    if (!result) return std::cerr << result.error().message << '\n', 1;
    std::cout << (*engine)->target() << ":" << result->text << '\n';
  }
}
