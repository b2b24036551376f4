// Opening the tiny models and running them.
#ifndef LAPIDARY_TESTS_SUPPORT_TINY_MODEL_H_
#define LAPIDARY_TESTS_SUPPORT_TINY_MODEL_H_

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <vector>

#include "lapidary/lapidary.h"
#include "tests/support/catch.h"
#include "tests/support/synthetic_gguf.h"
#include "tests/support/temp_folder.h"

namespace lapidary::testing {

using Ids = std::vector<std::int32_t>;

template <class M>
Result<Model<M>> OpenBytes(std::span<const std::uint8_t> file, const ModelOptions& options = {}) {
  TempFolder folder;
  WriteFile(folder / "tiny.gguf", file);
  return Model<M>::Open(folder / "tiny.gguf", options);
}

// The tiny model of these formats; one that must open.
template <class M>
Model<M> OpenTiny(const TinyFormats& formats, const ModelOptions& options = {}) {
  Result<Model<M>> model = OpenBytes<M>(TinyGguf(M::kConfig, formats), options);
  INFO((model ? "" : model.error().message));
  REQUIRE(model.ok());
  return *std::move(model);
}

// Ids without a pattern, the same for the same seed.
inline Ids SomeIds(std::size_t count, std::size_t vocabulary, std::uint64_t seed = 1) {
  Ids ids;
  for (std::size_t i = 0; i < count; ++i) {
    ids.push_back(static_cast<std::int32_t>(StreamWord(seed, i) % vocabulary));
  }
  return ids;
}

inline std::vector<float> Copy(std::span<const float> values) {
  return {values.begin(), values.end()};
}

// Equal to the bit: NaN equals NaN, 0 does not equal -0.
inline bool SameBits(std::span<const float> a, std::span<const float> b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size_bytes()) == 0;
}

// Logits of the token behind the ids, prefilled in one call.
template <class M>
std::vector<float> Prefilled(Session<M>& session, std::span<const std::int32_t> ids) {
  const Status status = session.Prefill(ids);
  INFO((status ? "" : status.error().message));
  REQUIRE(status.ok());
  return Copy(session.logits());
}

// The same, one token after the other.
template <class M>
std::vector<float> Decoded(Session<M>& session, std::span<const std::int32_t> ids) {
  for (const std::int32_t id : ids) REQUIRE(session.Decode(id).ok());
  return Copy(session.logits());
}

// Logits behind every id, [ids, vocabulary].
template <class M>
std::vector<float> AllLogits(Session<M>& session, std::span<const std::int32_t> ids,
                             std::size_t rows = 64) {
  std::vector<float> all;
  const Status status = session.PrefillWithLogits(
      ids,
      [&](std::size_t index, std::span<const float> logits) {
        if (all.size() != index * logits.size()) return false;  // out of order
        all.insert(all.end(), logits.begin(), logits.end());
        return true;
      },
      rows);
  INFO((status ? "" : status.error().message));
  REQUIRE(status.ok());
  return all;
}

}  // namespace lapidary::testing

#endif  // LAPIDARY_TESTS_SUPPORT_TINY_MODEL_H_
