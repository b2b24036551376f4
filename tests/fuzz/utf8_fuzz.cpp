// The streaming decoder: wherever the bytes are cut, the text is the same, and UTF-8 at every
// moment.
#include <algorithm>
#include <string>
#include <string_view>

#include "lapidary/base/bytes.h"
#include "lapidary/text/utf8_stream.h"
#include "tests/fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace lapidary;
  // The first byte says how long the parts are: its low half, then its high half, in turns.
  const std::size_t lengths[2] = {size == 0 ? 1u : 1u + (data[0] & 15u),
                                  size == 0 ? 1u : 1u + (data[0] >> 4)};
  const std::string_view text = AsText({data, size});
  Utf8Stream stream;
  std::string streamed;
  std::size_t turn = 0;
  for (std::string_view rest = text; !rest.empty(); ++turn) {
    const std::string_view part = rest.substr(0, std::min(rest.size(), lengths[turn % 2]));
    const std::string out = stream.Push(part);
    fuzz::Require(IsValidUtf8(out), "what the stream hands out is UTF-8");
    streamed += out;
    rest.remove_prefix(part.size());
  }
  streamed += stream.Finish();
  fuzz::Require(streamed == ToValidUtf8(text), "the stream gives the text of the whole");
  return 0;
}
