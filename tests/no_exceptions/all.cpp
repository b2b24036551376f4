// Everything that a program may include, compiled without exceptions and without run-time types.
#include <lapidary/generate/engine.h>
#include <lapidary/lapidary.h>
#include <lapidary/vision/image.h>
#include <lapidary/weights/convert.h>

int main(int argc, char** argv) {
  auto model = lapidary::Model<lapidary::Gemma3_270M>::Open(argv[argc - 1]);
  if (!model) return 1;
  lapidary::Chat chat(*model);
  auto reply = chat.Send("hello");
  const lapidary::Session session(*model);
  auto restored = lapidary::Session<lapidary::Gemma3_270M>::Restore(*model, session.Save());
  return reply && restored ? 0 : 1;
}
