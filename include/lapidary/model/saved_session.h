// A session as bytes: what Session::Save writes and Session::Restore reads.
//
// Little-endian, without gaps:
//
//   8 bytes  kSessionMagic
//   u32      version, 3 (1: keys in other units, see BalanceGains; 2: pages of 256 positions)
//   u32      number of Config fields, then each as f64, in the order of the struct
//   u64      fingerprint of the weights (decoder_weights.h)
//   u32      format of keys and values: 0 bf16, 1 int8
//   u64      context of the session
//   u64      most tokens of a step, which sizes the rings of the local layers
//   u64      number of tokens, then each as i32
//   u64      number of pictures, then of each the u64 position of its first row and the u64 hash of
//            its rows
//   u64      number of logits, 0 or the vocabulary, then each as f32
//   u64      positions written: more than there are tokens if the session was rewound
//   pages    of each layer in turn all pages that have memory, as kv_cache.h keeps them
//   u64      XXH64 of everything in front of it
#ifndef LAPIDARY_MODEL_SAVED_SESSION_H_
#define LAPIDARY_MODEL_SAVED_SESSION_H_

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "lapidary/base/bytes.h"
#include "lapidary/base/result.h"
#include "lapidary/base/xxhash64.h"
#include "lapidary/config/config.h"
#include "lapidary/model/kv_cache.h"
#include "lapidary/text/tokenizer.h"

namespace lapidary {

inline constexpr std::array<std::uint8_t, 8> kSessionMagic = {0x8C, 'L',  'A',  'S',
                                                              '\r', '\n', 0x1A, '\n'};
inline constexpr std::uint32_t kSessionVersion = 3;

// A picture in a sequence: where it begins, and which one it is.
struct PictureMark {
  std::uint64_t begin = 0;  // position of its first row
  std::uint64_t hash = 0;   // XXH64 of its rows

  friend bool operator==(const PictureMark&, const PictureMark&) = default;
};

// A session without its keys and values.
struct SessionState {
  std::size_t context = 0;
  std::vector<std::int32_t> ids;
  std::vector<PictureMark> pictures;  // in order
  std::vector<float> logits;          // of the token behind the last, or empty
};

namespace internal {

// Calls visit(layer, page) for every page of the cache that has memory.
template <class Visitor>
void VisitPages(const Config& config, const KvCache& cache, const Visitor& visit) {
  for (std::size_t layer = 0; layer < static_cast<std::size_t>(config.layers); ++layer) {
    for (std::size_t page = 0; page < cache.CountPages(layer); ++page) visit(layer, page);
  }
}

class SessionWriter {
 public:
  void Bytes(const void* data, std::size_t count) {
    const auto* const bytes = static_cast<const std::uint8_t*>(data);
    bytes_.insert(bytes_.end(), bytes, bytes + count);
  }
  template <class T>
  void Number(T value) {
    static_assert(std::is_arithmetic_v<T>);
    Bytes(&value, sizeof(T));
  }
  // A vector, string or span, with its length in front.
  template <class Values>
  void Array(const Values& values) {
    Number(std::uint64_t{values.size()});
    Bytes(values.data(), values.size() * sizeof(*values.data()));
  }
  void Reserve(std::size_t more) { bytes_.reserve(bytes_.size() + more); }
  std::vector<std::uint8_t> Take() {
    Number(HashBytes(bytes_));
    return std::move(bytes_);
  }

 private:
  std::vector<std::uint8_t> bytes_;
};

// Reads a vector or string with its length in front; memory is taken only for what is there.
template <class Values>
[[nodiscard]] bool ReadArray(ByteReader& reader, Values& values) {
  using T = typename Values::value_type;
  static_assert(std::is_trivially_copyable_v<T>);
  std::uint64_t count = 0;
  std::span<const std::uint8_t> bytes;
  if (!reader.Read(count) || count > reader.remaining() / sizeof(T) ||
      !reader.ReadBytes(count * sizeof(T), bytes)) {
    return false;
  }
  values.resize(static_cast<std::size_t>(count));
  if (count != 0) std::memcpy(values.data(), bytes.data(), bytes.size());
  return true;
}

inline Error CutShort(const char* where) {
  return MakeError(ErrorCode::kCorrupt, "saved session: it ends inside its ", where);
}

// Magic, version, Config and weights: whether the session is one of this model.
inline Status ReadSessionModel(ByteReader& reader, const Config& config,
                               std::uint64_t fingerprint) {
  std::span<const std::uint8_t> magic;
  if (!reader.ReadBytes(kSessionMagic.size(), magic) ||
      !std::equal(magic.begin(), magic.end(), kSessionMagic.begin())) {
    return MakeError(ErrorCode::kCorrupt, "expected a saved session, found other bytes");
  }
  std::uint32_t version = 0, fields = 0;
  if (!reader.Read(version) || !reader.Read(fields)) return CutShort("header");
  if (version != kSessionVersion) {
    return MakeError(ErrorCode::kUnsupported, "saved session: expected version ", kSessionVersion,
                     ", found ", version);
  }
  std::uint32_t expected_fields = 0;
  VisitFields(config, config, [&](const char*, auto, auto) { ++expected_fields; });
  if (fields != expected_fields) {
    return MakeError(ErrorCode::kCorrupt, "saved session: expected a Config of ", expected_fields,
                     " fields, found ", fields);
  }
  Status status;
  VisitFields(config, config, [&](const char* name, auto expected, auto) {
    double found = 0;
    if (!status) return;
    if (!reader.Read(found)) {
      status = CutShort("Config");
    } else if (!(found == static_cast<double>(expected))) {
      status = MakeError(ErrorCode::kMismatch, "the saved session is of another model: ", name,
                         ": expected ", expected, ", found ", found);
    }
  });
  if (!status) return status;
  std::uint64_t weights = 0;
  if (!reader.Read(weights)) return CutShort("header");
  if (weights != fingerprint) {
    return MakeError(ErrorCode::kMismatch,
                     "the saved session was computed with other weights of the same shape");
  }
  return {};
}

// Whether a session of this model could be in this state.
inline Status CheckSessionState(const SessionState& state, const Config& config) {
  const auto corrupt = [](const auto&... parts) {
    return MakeError(ErrorCode::kCorrupt, "saved session: ", parts...);
  };
  if (state.ids.size() > state.context) {
    return corrupt("it holds ", state.ids.size(), " tokens in a context of ", state.context);
  }
  for (std::size_t i = 0; i < state.ids.size(); ++i) {
    const std::int32_t id = state.ids[i];
    if (id == kImageSoftToken && config.vision.present()) continue;
    if (id < 0 || id >= config.vocabulary) {
      return corrupt("token ", i, " has id ", id, ": expected 0 .. ", config.vocabulary - 1);
    }
  }
  std::uint64_t next = 0;
  for (const PictureMark& picture : state.pictures) {
    if (picture.begin < next || picture.begin >= state.ids.size()) {
      return corrupt("a picture at position ", picture.begin, " of ", state.ids.size());
    }
    next = picture.begin + 1;
  }
  if (!state.logits.empty() && state.logits.size() != static_cast<std::size_t>(config.vocabulary)) {
    return corrupt("expected no logits or ", config.vocabulary, ", found ", state.logits.size());
  }
  return {};
}

}  // namespace internal

inline std::vector<std::uint8_t> EncodeSession(const Config& config, std::uint64_t fingerprint,
                                               const SessionState& state, const KvCache& cache) {
  internal::SessionWriter writer;
  writer.Bytes(kSessionMagic.data(), kSessionMagic.size());
  writer.Number(kSessionVersion);
  std::uint32_t fields = 0;
  internal::VisitFields(config, config, [&](const char*, auto, auto) { ++fields; });
  writer.Number(fields);
  internal::VisitFields(config, config, [&](const char*, auto value, auto) {
    writer.Number(static_cast<double>(value));
  });
  writer.Number(fingerprint);
  writer.Number(static_cast<std::uint32_t>(cache.plan().format));
  writer.Number(std::uint64_t{state.context});
  writer.Number(std::uint64_t{cache.chunk()});
  writer.Array(state.ids);
  writer.Array(state.pictures);
  writer.Array(state.logits);
  writer.Number(std::uint64_t{cache.written()});
  const std::size_t page_bytes = cache.plan().page_bytes;
  std::size_t pages = 0;
  internal::VisitPages(config, cache, [&](std::size_t, std::size_t) { ++pages; });
  writer.Reserve(pages * page_bytes + sizeof(std::uint64_t));
  internal::VisitPages(config, cache, [&](std::size_t layer, std::size_t page) {
    writer.Bytes(cache.PageBytes(layer, page), page_bytes);
  });
  return writer.Take();
}

// Reads a session of the model with this Config and these weights. Its keys and values go to the
// cache that make_cache(context, chunk, format) -> KvCache& provides once these are known. Bytes
// may come from anywhere. Errors: kCorrupt, kUnsupported for another version, kMismatch for another
// model, kOutOfMemory.
template <class MakeCache>
Result<SessionState> DecodeSession(std::span<const std::uint8_t> bytes, const Config& config,
                                   std::uint64_t fingerprint, const MakeCache& make_cache) {
  ByteReader reader(bytes);
  if (Status status = internal::ReadSessionModel(reader, config, fingerprint); !status) {
    return status.error();
  }
  SessionState state;
  std::uint32_t format = 0;
  std::uint64_t context = 0, chunk = 0, written = 0;
  if (!reader.Read(format) || !reader.Read(context) || !reader.Read(chunk) ||
      !internal::ReadArray(reader, state.ids) || !internal::ReadArray(reader, state.pictures) ||
      !internal::ReadArray(reader, state.logits) || !reader.Read(written)) {
    return internal::CutShort("tokens");
  }
  const auto most = static_cast<std::uint64_t>(config.context);
  if (format > 1 || context < 1 || context > most || chunk < 1 || chunk > most ||
      written > context || written < state.ids.size()) {
    return MakeError(ErrorCode::kCorrupt, "saved session: format ", format, ", context ", context,
                     ", chunk ", chunk, ", ", written, " positions written, ", state.ids.size(),
                     " tokens: expected format 0 or 1, and context and chunk in 1 .. ", most);
  }
  state.context = static_cast<std::size_t>(context);
  if (Status status = internal::CheckSessionState(state, config); !status) return status.error();

  KvCache& cache = make_cache(state.context, static_cast<std::size_t>(chunk),
                              format == 0 ? KvFormat::kBF16 : KvFormat::kInt8);
  const std::size_t page_bytes = cache.plan().page_bytes;
  const std::uint64_t pages_below = (written + kPageKeys - 1) / kPageKeys;
  const std::uint64_t locals = CountLayers(config, LayerKind::kLocal);
  const std::uint64_t globals = CountLayers(config, LayerKind::kGlobal);
  // The positions fit into the context, so these products are small.
  const std::uint64_t expected =
      page_bytes * (locals * std::min<std::uint64_t>(pages_below, cache.plan().local_pages) +
                    globals * pages_below) +
      sizeof(std::uint64_t);
  if (reader.remaining() != expected) {
    return MakeError(ErrorCode::kCorrupt, "saved session: expected ", expected,
                     " bytes of keys and values, found ", reader.remaining());
  }
  const std::size_t checked = bytes.size() - sizeof(std::uint64_t);
  if (HashBytes(bytes.first(checked)) != LoadLittleEndian<std::uint64_t>(bytes.data() + checked)) {
    return MakeError(ErrorCode::kCorrupt, "the saved session is damaged (its checksum differs)");
  }
  if (Status status = cache.Reserve(0, static_cast<std::size_t>(written)); !status) {
    return status.error();
  }
  internal::VisitPages(config, cache, [&](std::size_t layer, std::size_t page) {
    std::span<const std::uint8_t> page_data;
    if (!reader.ReadBytes(page_bytes, page_data)) return;  // measured above
    std::memcpy(cache.PageBytes(layer, page), page_data.data(), page_bytes);
  });
  if (!cache.CanRewindTo(state.ids.size())) {
    return MakeError(ErrorCode::kCorrupt,
                     "saved session: its local layers no longer hold what token ", state.ids.size(),
                     " sees");
  }
  return state;
}

}  // namespace lapidary

#endif  // LAPIDARY_MODEL_SAVED_SESSION_H_
