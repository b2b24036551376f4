// Saved sessions, of a model without weights. As in blob_fuzz.cpp, a second copy gets the right
// checksum.
#include <algorithm>
#include <cstddef>
#include <optional>
#include <span>
#include <vector>

#include "lapidary/base/bytes.h"
#include "lapidary/base/xxhash64.h"
#include "lapidary/model/kv_cache.h"
#include "lapidary/model/saved_session.h"
#include "tests/fuzz/fuzz.h"

namespace {

using namespace lapidary;

constexpr std::uint64_t kFingerprint = 0x1234;
// Two layers, whose pages are small.
constexpr Config kConfig = {.layers = 2,
                            .width = 32,
                            .ff_width = 32,
                            .heads = 1,
                            .kv_heads = 1,
                            .head_dim = 32,
                            .query_pre_attn_scalar = 32,
                            .window = 16,
                            .global_every = 2,
                            .context = 1024,
                            .vocabulary = 16};

void Restore(std::span<const std::uint8_t> bytes) {
  std::optional<KvCache> cache;
  const Result<SessionState> state =
      DecodeSession(bytes, kConfig, kFingerprint,
                    [&](std::size_t context, std::size_t chunk, KvFormat format) -> KvCache& {
                      return cache.emplace(kConfig, context, chunk, format);
                    });
  if (!state) return;
  const std::vector<std::uint8_t> again = EncodeSession(kConfig, kFingerprint, *state, *cache);
  // Magic, version, and the Config, in which -0 equals 0; behind it all bytes must be the same.
  constexpr std::size_t kHead = 8 + 4 + 4 + 22 * sizeof(double);
  const std::size_t body = again.size() - sizeof(std::uint64_t);  // without the checksum
  fuzz::Require(
      again.size() == bytes.size() &&
          std::equal(again.begin() + kHead, again.begin() + static_cast<std::ptrdiff_t>(body),
                     bytes.begin() + kHead),
      "a session that was restored is saved as the same bytes");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::vector<std::uint8_t> bytes = fuzz::Copy({data, size});
  Restore(bytes);
  if (bytes.size() < sizeof(std::uint64_t)) return 0;
  const std::span<const std::uint8_t> body(bytes.data(), bytes.size() - sizeof(std::uint64_t));
  StoreLittleEndian(HashBytes(body), bytes.data() + body.size());
  Restore(bytes);
  return 0;
}
