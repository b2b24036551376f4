// A model of a shape of one's own. Every kernel is cut to it, and a file of another shape is an
// error that names the difference. (This shape is the 270M's, so that there are weights to run it
// with.)
#include <lapidary/lapidary.h>

#include <iostream>

struct MyModel {
  static constexpr std::string_view kName = "my model";
  static constexpr lapidary::Config kConfig = {.layers = 18,
                                               .width = 640,
                                               .ff_width = 2048,
                                               .heads = 4,
                                               .kv_heads = 1,
                                               .head_dim = 256,
                                               .query_pre_attn_scalar = 256,
                                               .window = 512,
                                               .context = 32'768,
                                               .vocabulary = 262'144};
};

int main(int argc, char** argv) {
  if (argc < 3) return std::cerr << "usage: custom_model MODEL TEXT\n", 2;
  auto model = lapidary::Model<MyModel>::Open(argv[1]);
  if (!model) return std::cerr << model.error().message << '\n', 1;
  lapidary::Session session(*model);
  const auto prompt = model->tokenizer()->EncodePrompt(argv[2]);
  auto result = lapidary::Generate(*model, session, prompt, {.max_tokens = 16});
  if (!result) return std::cerr << result.error().message << '\n', 1;
  std::cout << result->text << '\n';
}
