// How alike texts are: the cosine of their embeddings.
#include <lapidary/generate/engine.h>

#include <cmath>
#include <iostream>
#include <numeric>
#include <vector>

int main(int argc, char** argv) {
  if (argc < 4) return std::cerr << "usage: embed MODEL TEXT OTHER_TEXT...\n", 2;
  auto engine = lapidary::OpenEngine(argv[1]);
  if (!engine) return std::cerr << engine.error().message << '\n', 1;
  const auto dot = [](const std::vector<float>& a, const std::vector<float>& b) {
    return std::inner_product(a.begin(), a.end(), b.begin(), 0.0);
  };
  std::vector<float> first;
  for (int i = 2; i < argc; ++i) {
    auto vector = (*engine)->Embed((*engine)->tokenizer()->EncodePrompt(argv[i]));
    if (!vector) return std::cerr << vector.error().message << '\n', 1;
    if (i == 2) first = *vector;
    const double cosine =
        dot(first, *vector) / std::sqrt(dot(first, first) * dot(*vector, *vector));
    std::cout << cosine << '\t' << argv[i] << '\n';
  }
}
