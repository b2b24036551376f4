// A conversation on the terminal, with whichever model the file holds.
#include <lapidary/generate/engine.h>

#include <iostream>
#include <string>

int main(int argc, char** argv) {
  if (argc < 2) return std::cerr << "usage: chat MODEL [SYSTEM TEXT]\n", 2;
  auto engine = lapidary::OpenEngine(argv[1]);
  if (!engine) return std::cerr << engine.error().message << '\n', 1;
  auto chat = (*engine)->NewChat(argc > 2 ? argv[2] : "");
  const lapidary::GenerateOptions options = {
      .max_tokens = 512, .sampling = {.temperature = 1, .top_k = 64, .top_p = 0.95f}};
  const auto show = [](std::string_view text) {
    std::cout << text << std::flush;
    return true;
  };
  for (std::string line; std::cout << "> " && std::getline(std::cin, line);) {
    auto reply = chat->Send(line, show, options);
    if (!reply) return std::cerr << reply.error().message << '\n', 1;
    std::cout << '\n';
  }
}
