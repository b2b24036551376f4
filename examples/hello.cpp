// The smallest chat: opens a model and streams one reply.
#include <lapidary/lapidary.h>

#include <iostream>

int main(int argc, char** argv) {
  if (argc < 2) return std::cerr << "usage: hello MODEL [QUESTION]\n", 2;
  auto model = lapidary::Model<lapidary::Gemma3_270M>::Open(argv[1]);
  if (!model) return std::cerr << model.error().message << '\n', 1;
  lapidary::Chat chat(*model);
  auto reply = chat.Send(argc > 2 ? argv[2] : "Why is the sky blue?", [](std::string_view text) {
    std::cout << text << std::flush;
    return true;  // false stops the generation
  });
  if (!reply) return std::cerr << reply.error().message << '\n', 1;
  std::cout << '\n';
}
