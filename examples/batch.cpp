// Completes every line of a file, eight at a time, and prints a line of JSON for each as it is
// done.
#include <lapidary/generate/engine.h>

#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

int main(int argc, char** argv) {
  if (argc < 3) return std::cerr << "usage: batch MODEL FILE\n", 2;
  auto engine = lapidary::OpenEngine(argv[1]);
  if (!engine) return std::cerr << engine.error().message << '\n', 1;
  std::vector<lapidary::Prompt> prompts;
  std::ifstream file(argv[2]);
  for (std::string line; std::getline(file, line);) {
    prompts.push_back({(*engine)->tokenizer()->EncodePrompt(line), {}});
  }
  const auto print = [](std::size_t line,
                        const lapidary::Result<lapidary::GenerateResult>& result) {
    nlohmann::json json = {{"line", line}};
    if (result) {
      json["text"] = result->text;
    } else {
      json["error"] = result.error().message;
    }
    std::cout << json << std::endl;
    return true;
  };
  auto done =
      (*engine)->GenerateBatch(prompts, {.generate = {.max_tokens = 32}, .sessions = 8}, print);
  if (!done) return std::cerr << done.error().message << '\n', 1;
}
