// Asks a model about a picture.
#include <lapidary/lapidary.h>
#include <lapidary/vision/image.h>

#include <iostream>

int main(int argc, char** argv) {
  if (argc < 3) return std::cerr << "usage: describe_image MODEL PICTURE [QUESTION]\n", 2;
  const auto fail = [](const lapidary::Error& error) {
    return std::cerr << error.message << '\n', 1;
  };

  auto model = lapidary::Model<lapidary::Gemma3_4B>::Open(argv[1]);
  if (!model) return fail(model.error());
  auto picture = lapidary::ReadPicture(argv[2]);
  if (!picture) return fail(picture.error());
  auto image = model->EncodeImage(*picture);
  if (!image) return fail(image.error());

  lapidary::Chat chat(*model);
  auto reply = chat.Send(argc > 3 ? argv[3] : "What is in this picture?", {{*image}},
                         [](std::string_view text) {
                           std::cout << text << std::flush;
                           return true;
                         });
  if (!reply) return fail(reply.error());
  std::cout << '\n';
}
