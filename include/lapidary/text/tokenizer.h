// Text to token ids and back, with the pieces of Gemma 3's vocabulary and sentencepiece's BPE.
//
// Three kinds of piece matter beside the ordinary ones (what they are called is taken from the
// published tokenizer.model of Gemma 3):
// - control pieces (<bos>, <start_of_turn>, <start_of_image>, <unused7> ...) are instructions to
// the
//   model. Text never turns into them; programs insert their ids.
// - user-defined pieces (runs of newlines, spaces and tabs, HTML tags) are cut out of the text
// before
//   anything is merged, the longest first.
// - byte pieces spell the characters that no piece covers.
// Files in circulation have the types of these pieces wrong, so the piece's text decides, and the
// file's type only counts where the text says nothing.
#ifndef LAPIDARY_TEXT_TOKENIZER_H_
#define LAPIDARY_TEXT_TOKENIZER_H_

#include <sentencepiece_processor.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "lapidary/base/result.h"
#include "lapidary/text/utf8_stream.h"
#include "lapidary/text/vocabulary.h"

namespace lapidary {

// Ids that every Gemma 3 has at the same place. kImageSoftToken is a row of the bigger models'
// embedding that pictures replace; the vocabulary of the smaller ones ends before it.
inline constexpr std::int32_t kPad = 0;
inline constexpr std::int32_t kEos = 1;
inline constexpr std::int32_t kBos = 2;
inline constexpr std::int32_t kUnk = 3;
inline constexpr std::int32_t kStartOfTurn = 105;
inline constexpr std::int32_t kEndOfTurn = 106;
inline constexpr std::int32_t kStartOfImage = 255999;
inline constexpr std::int32_t kEndOfImage = 256000;
inline constexpr std::int32_t kImageSoftToken = 262144;

namespace internal {

inline constexpr std::string_view kSpaceMark = "\xE2\x96\x81";  // U+2581: a space inside a piece

// True if piece is `unit` one or more times, and nothing else.
inline bool IsRunOf(std::string_view unit, std::string_view piece) {
  if (piece.empty() || piece.size() % unit.size() != 0) return false;
  for (std::size_t i = 0; i < piece.size(); i += unit.size()) {
    if (piece.substr(i, unit.size()) != unit) return false;
  }
  return true;
}

// <unused0>, <unused1>, ...
inline bool IsUnusedPiece(std::string_view piece) {
  constexpr std::string_view kPrefix = "<unused";
  if (piece.size() < kPrefix.size() + 2 || !piece.starts_with(kPrefix) || piece.back() != '>') {
    return false;
  }
  const std::string_view digits = piece.substr(kPrefix.size(), piece.size() - kPrefix.size() - 1);
  return digits.find_first_not_of("0123456789") == digits.npos;
}

inline bool IsControlPiece(std::string_view piece) {
  constexpr std::array<std::string_view, 10> kNames = {"<pad>",          "<eos>",
                                                       "<bos>",          "<mask>",
                                                       "[multimodal]",   "<start_of_turn>",
                                                       "<end_of_turn>",  "<start_of_image>",
                                                       "<end_of_image>", "<image_soft_token>"};
  return std::find(kNames.begin(), kNames.end(), piece) != kNames.end() || IsUnusedPiece(piece);
}

// The opening and closing tags that are ids 168 .. 237.
inline bool IsHtmlTag(std::string_view piece) {
  constexpr std::array<std::string_view, 35> kNames = {
      "table", "caption", "thead", "tbody", "tfoot", "tr",         "th",     "td",    "h1",
      "h2",    "h3",      "h4",    "h5",    "h6",    "blockquote", "strong", "em",    "b",
      "i",     "u",       "s",     "sub",   "sup",   "code",       "a",      "html",  "body",
      "img",   "span",    "bbox",  "ul",    "li",    "div",        "iframe", "footer"};
  if (piece.size() < 3 || piece.front() != '<' || piece.back() != '>') return false;
  std::string_view name = piece.substr(1, piece.size() - 2);
  if (name.front() == '/') name.remove_prefix(1);
  return std::find(kNames.begin(), kNames.end(), name) != kNames.end();
}

// The byte that "<0x0A>" stands for, -1 for any other piece. Only upper-case digits are
// sentencepiece's.
inline int ByteOfPiece(std::string_view piece) {
  if (piece.size() != 6 || !piece.starts_with("<0x") || piece[5] != '>') return -1;
  int value = 0;
  for (const char c : piece.substr(3, 2)) {
    if (c >= '0' && c <= '9') {
      value = value * 16 + (c - '0');
    } else if (c >= 'A' && c <= 'F') {
      value = value * 16 + (c - 'A' + 10);
    } else {
      return -1;
    }
  }
  return value;
}

// What a piece is, whatever the file declares.
inline PieceType TypeOfPiece(std::string_view piece, PieceType declared) {
  switch (piece.front()) {
    case '<':
      if (piece == "<unk>") return PieceType::kUnknown;
      if (IsControlPiece(piece)) return PieceType::kControl;
      if (IsHtmlTag(piece)) return PieceType::kUserDefined;
      if (ByteOfPiece(piece) >= 0) return PieceType::kByte;
      return declared;
    case '[':
      return IsControlPiece(piece) ? PieceType::kControl : declared;
    case '\n':
      return IsRunOf("\n", piece) ? PieceType::kUserDefined : declared;
    case '\t':
      return IsRunOf("\t", piece) ? PieceType::kUserDefined : declared;
    case ' ':
      return IsRunOf(" ", piece) && piece.size() > 1 ? PieceType::kUserDefined : declared;
    case kSpaceMark.front():
      return IsRunOf(kSpaceMark, piece) && piece.size() > kSpaceMark.size()
                 ? PieceType::kUserDefined
                 : declared;
    default:
      return declared;
  }
}

// Replaces every `from` by `to`.
inline std::string ReplaceAll(std::string_view text, std::string_view from, std::string_view to) {
  std::string out;
  out.reserve(text.size());
  std::size_t at = 0;
  for (std::size_t hit; (hit = text.find(from, at)) != text.npos; at = hit + from.size()) {
    out += text.substr(at, hit - at);
    out += to;
  }
  out += text.substr(at);
  return out;
}

// A piece for an error message: short and printable.
inline std::string Quoted(std::string_view piece) {
  std::string out = "\"";
  for (const char c : piece.substr(0, 40)) out += c >= ' ' && c <= '~' ? c : '?';
  return out + (piece.size() > 40 ? "...\"" : "\"");
}

// The three things that Protocol Buffers' wire format needs to write a ModelProto
// (sentencepiece_model.proto): numbers, floats, and bytes with their length in front.
inline void WireVarint(std::uint64_t value, std::string* out) {
  for (; value >= 0x80; value >>= 7) *out += static_cast<char>(value | 0x80);
  *out += static_cast<char>(value);
}
inline void WireNumber(std::uint32_t field, std::uint64_t value, std::string* out) {
  WireVarint(field << 3 | 0, out);
  WireVarint(value, out);
}
inline void WireBytes(std::uint32_t field, std::string_view bytes, std::string* out) {
  WireVarint(field << 3 | 2, out);
  WireVarint(bytes.size(), out);
  *out += bytes;
}
inline void WireFloat(std::uint32_t field, float value, std::string* out) {
  WireVarint(field << 3 | 5, out);
  char bytes[4];
  std::memcpy(bytes, &value, 4);
  out->append(bytes, 4);
}

// A checked vocabulary: what every function of the tokenizer reads.
struct Pieces {
  std::string text;                 // all pieces, one behind the other
  std::vector<std::uint32_t> ends;  // where piece i ends in it
  std::vector<float> scores;
  std::vector<PieceType> types;
  std::vector<std::int32_t> controls;  // control pieces and <unk>, in the order of their text
  std::string control_starts;          // the bytes that these begin with

  std::string_view operator[](std::int32_t id) const {
    const auto i = static_cast<std::size_t>(id);
    const std::size_t begin = i == 0 ? 0 : ends[i - 1];
    return std::string_view(text).substr(begin, ends[i] - begin);
  }
  std::int32_t size() const { return static_cast<std::int32_t>(ends.size()); }

  void SortByText(std::vector<std::int32_t>& ids) const {
    std::sort(ids.begin(), ids.end(),
              [&](std::int32_t a, std::int32_t b) { return (*this)[a] < (*this)[b]; });
  }
};

// sentencepiece 0.2 refuses pieces of 8000 bytes, and its prefix matcher writes the matches at one
// position into an array of 64 without looking at its end. These bounds keep both out of reach;
// Gemma's longest piece has 93 bytes, and 31 newlines are the deepest nest of prefixes.
inline constexpr std::size_t kMaxPieceBytes = 1024;
inline constexpr std::size_t kMaxVocabularyBytes = std::size_t{1} << 28;
inline constexpr std::size_t kMaxUserDefined = 4096;
inline constexpr std::size_t kMaxNestedPrefixes = 48;

// Checks that no two pieces are equal, by open addressing over one table.
inline Status CheckDistinct(const Pieces& pieces) {
  // The upper half of the hash stands beside the id, so that a neighbour's text is hardly ever
  // read.
  struct Slot {
    std::uint32_t hash;
    std::int32_t id;
  };
  const std::size_t slots = std::bit_ceil(static_cast<std::size_t>(pieces.size()) * 2);
  std::vector<Slot> table(slots, Slot{0, -1});
  for (std::int32_t id = 0; id < pieces.size(); ++id) {
    const std::string_view piece = pieces[id];
    const std::uint64_t hash = std::hash<std::string_view>{}(piece);
    const auto upper = static_cast<std::uint32_t>(hash >> 32);
    std::size_t at = static_cast<std::size_t>(hash) & (slots - 1);
    for (; table[at].id >= 0; at = (at + 1) & (slots - 1)) {
      if (table[at].hash == upper && pieces[table[at].id] == piece) {
        return MakeError(ErrorCode::kCorrupt, "vocabulary: expected distinct pieces, found ",
                         Quoted(piece), " as piece ", table[at].id, " and as piece ", id);
      }
    }
    table[at] = {upper, id};
  }
  return {};
}

// Checks how many user-defined pieces are prefixes of one another.
inline Status CheckUserDefined(const Pieces& pieces) {
  std::vector<std::int32_t> sorted;
  for (std::int32_t id = 0; id < pieces.size(); ++id) {
    if (pieces.types[static_cast<std::size_t>(id)] == PieceType::kUserDefined) sorted.push_back(id);
  }
  if (sorted.size() > kMaxUserDefined) {
    return MakeError(ErrorCode::kCorrupt, "vocabulary: expected at most ", kMaxUserDefined,
                     " user-defined pieces, found ", sorted.size());
  }
  pieces.SortByText(sorted);
  std::vector<std::string_view> open;  // the prefixes of the piece at hand, each in the next
  for (const std::int32_t id : sorted) {
    const std::string_view piece = pieces[id];
    while (!open.empty() && !piece.starts_with(open.back())) open.pop_back();
    open.push_back(piece);
    if (open.size() > kMaxNestedPrefixes) {
      return MakeError(ErrorCode::kCorrupt, "vocabulary: expected at most ", kMaxNestedPrefixes,
                       " user-defined pieces that begin one another, found more at ",
                       Quoted(piece));
    }
  }
  return {};
}

// Checks the sizes of a vocabulary from an untrusted file; returns the most bytes that a copy of
// its pieces takes.
inline Result<std::size_t> CheckSizes(const Vocabulary& vocabulary) {
  const std::size_t count = vocabulary.pieces.size();
  if (vocabulary.scores.size() != count || vocabulary.types.size() != count) {
    return MakeError(ErrorCode::kCorrupt, "vocabulary: expected a score and a type for each of ",
                     count, " pieces, found ", vocabulary.scores.size(), " scores and ",
                     vocabulary.types.size(), " types");
  }
  std::size_t bytes = 0;
  for (const std::string_view piece : vocabulary.pieces) {
    // Room for the three bytes of U+2581 where a piece has a space.
    bytes += 3 * std::min(piece.size(), kMaxPieceBytes);
    if (bytes > kMaxVocabularyBytes) {
      return MakeError(ErrorCode::kCorrupt, "vocabulary: expected at most ", kMaxVocabularyBytes,
                       " bytes, found more");
    }
  }
  return bytes;
}

// Checks piece i by itself; returns what it is.
inline Result<PieceType> CheckPiece(const Vocabulary& vocabulary, std::size_t i) {
  const std::string_view piece = vocabulary.pieces[i];
  const auto bad = [&](const auto& expected, const auto& found) {
    return MakeError(ErrorCode::kCorrupt, "vocabulary: piece ", i, ": expected ", expected,
                     ", found ", found);
  };
  if (piece.empty() || piece.size() > kMaxPieceBytes) {
    return bad(StrCat("1 to ", kMaxPieceBytes, " bytes"), piece.size());
  }
  if (!IsValidUtf8(piece)) return bad("UTF-8", Quoted(piece));
  if (std::memchr(piece.data(), 0, piece.size()) != nullptr) return bad("text", "a NUL byte");
  if (!std::isfinite(vocabulary.scores[i])) return bad("a finite score", vocabulary.scores[i]);
  const int declared = static_cast<int>(vocabulary.types[i]);
  if (declared < static_cast<int>(PieceType::kNormal) ||
      declared > static_cast<int>(PieceType::kByte)) {
    return bad("a type from 1 to 6", declared);
  }
  const PieceType type = TypeOfPiece(piece, vocabulary.types[i]);
  const bool control = type == PieceType::kControl || type == PieceType::kUnknown;
  // sentencepiece looks a lone character up among all pieces, these included.
  if (control && NextUtf8(piece).length == piece.size()) {
    return bad("a control piece of several characters", Quoted(piece));
  }
  if (type == PieceType::kByte && ByteOfPiece(piece) < 0) {
    return bad("a byte piece like \"<0x0A>\"", Quoted(piece));
  }
  return type;
}

// Checks that the pieces which everything else relies on are there.
inline Status CheckNeededPieces(const Vocabulary& vocabulary, const Pieces& pieces) {
  constexpr std::array<std::string_view, 4> kFirst = {"<pad>", "<eos>", "<bos>", "<unk>"};
  for (std::size_t i = 0; i < kFirst.size(); ++i) {
    const std::string_view found =
        i < vocabulary.pieces.size() ? vocabulary.pieces[i] : std::string_view();
    if (found != kFirst[i]) {
      return MakeError(ErrorCode::kUnsupported, "vocabulary: piece ", i, ": expected Gemma's ",
                       kFirst[i], ", found ", Quoted(found));
    }
  }
  const auto unknown = std::count(pieces.types.begin(), pieces.types.end(), PieceType::kUnknown);
  if (unknown != 1) {
    return MakeError(ErrorCode::kCorrupt, "vocabulary: expected one unknown piece, found ",
                     unknown);
  }
  std::array<bool, 256> byte_found{};
  for (std::int32_t id = 0; id < pieces.size(); ++id) {
    if (pieces.types[static_cast<std::size_t>(id)] == PieceType::kByte) {
      byte_found[static_cast<std::size_t>(ByteOfPiece(pieces[id]))] = true;
    }
  }
  if (std::find(byte_found.begin(), byte_found.end(), false) != byte_found.end()) {
    return MakeError(ErrorCode::kCorrupt, "vocabulary: expected 256 byte pieces, found ",
                     std::count(pieces.types.begin(), pieces.types.end(), PieceType::kByte));
  }
  if (std::find(vocabulary.pieces.begin(), vocabulary.pieces.end(), kSpaceMark) ==
      vocabulary.pieces.end()) {
    // Without it a space would become the three byte pieces of U+2581 and come back as that.
    return MakeError(ErrorCode::kCorrupt,
                     "vocabulary: expected a piece for the space, U+2581, found none");
  }
  return {};
}

// Copies and checks a vocabulary from an untrusted file.
inline Result<Pieces> CheckVocabulary(const Vocabulary& vocabulary) {
  const Result<std::size_t> bytes = CheckSizes(vocabulary);
  if (!bytes) return bytes.error();
  const std::size_t count = vocabulary.pieces.size();
  Pieces pieces;
  pieces.text.reserve(*bytes / 3 + 4096);
  pieces.ends.reserve(count);
  pieces.types.reserve(count);
  pieces.scores = vocabulary.scores;
  for (std::size_t i = 0; i < count; ++i) {
    const Result<PieceType> type = CheckPiece(vocabulary, i);
    if (!type) return type.error();
    const std::string_view piece = vocabulary.pieces[i];
    if (*type == PieceType::kUserDefined && piece.find(' ') != piece.npos) {
      // User-defined pieces are matched where spaces are U+2581 already, but GGUF files store runs
      // of spaces as spaces.
      pieces.text += ReplaceAll(piece, " ", kSpaceMark);
    } else {
      pieces.text += piece;
    }
    if (*type == PieceType::kControl || *type == PieceType::kUnknown) {
      pieces.controls.push_back(static_cast<std::int32_t>(i));
    }
    pieces.types.push_back(*type);
    pieces.ends.push_back(static_cast<std::uint32_t>(pieces.text.size()));
  }
  if (Status status = CheckNeededPieces(vocabulary, pieces); !status) return status.error();
  if (Status status = CheckUserDefined(pieces); !status) return status.error();
  if (Status status = CheckDistinct(pieces); !status) return status.error();
  pieces.SortByText(pieces.controls);
  for (const std::int32_t id : pieces.controls) {
    const char start = pieces[id].front();
    if (pieces.control_starts.empty() || pieces.control_starts.back() != start) {
      pieces.control_starts += start;
    }
  }
  return pieces;
}

// The bytes of a sentencepiece ModelProto (field numbers: sentencepiece_model.proto of version
// 0.1.97) with a byte-pair model over the pieces, and a normalizer that only writes U+2581 for
// spaces. Nothing of a file's own bytes but checked pieces and scores goes into it: before 0.2.1,
// crafted models made sentencepiece write out of bounds.
inline std::string ModelProtoBytes(const Pieces& pieces) {
  std::string model, message;
  model.reserve(pieces.text.size() + static_cast<std::size_t>(pieces.size()) * 12);
  for (std::int32_t id = 0; id < pieces.size(); ++id) {
    const auto i = static_cast<std::size_t>(id);
    message.clear();
    WireBytes(1, pieces[id], &message);
    WireFloat(2, pieces.scores[i], &message);
    if (pieces.types[i] != PieceType::kNormal) {
      WireNumber(3, static_cast<std::uint64_t>(pieces.types[i]), &message);
    }
    WireBytes(1, message, &model);
  }
  message.clear();
  WireNumber(3, 2, &message);   // model_type = BPE
  WireNumber(35, 1, &message);  // byte_fallback
  WireBytes(2, message, &model);
  message.clear();
  WireBytes(1, "identity", &message);
  WireNumber(3, 0, &message);  // add_dummy_prefix
  WireNumber(4, 0, &message);  // remove_extra_whitespaces
  WireNumber(5, 1, &message);  // escape_whitespaces
  WireBytes(3, message, &model);
  return model;
}

// How much of a text one call of sentencepiece gets. It needs up to 100 bytes for each byte of text
// and counts in int, so longer texts are cut.
inline constexpr std::size_t kMaxEncodeBytes = std::size_t{1} << 24;

// Where to cut a text that is longer than kMaxEncodeBytes: behind a run of newlines, which no piece
// of Gemma's continues, so that the cut changes nothing; failing that, between two characters.
inline std::size_t CutText(std::string_view text) {
  for (std::size_t at = kMaxEncodeBytes; at > kMaxEncodeBytes / 2; --at) {
    if (text[at - 1] == '\n' && text[at] != '\n') return at;
  }
  std::size_t at = kMaxEncodeBytes;
  while ((static_cast<std::uint8_t>(text[at]) & 0xC0) == 0x80) --at;
  return at;
}

}  // namespace internal

// Immutable, cheap to copy (copies share everything), and safe to use from several threads at once.
class Tokenizer {
 public:
  // Checks the vocabulary and copies it; the file that it came from may be closed. Any number of
  // pieces will do, as long as ids 0 .. 3 are Gemma's and the space (U+2581) and all 256 bytes are
  // there. Errors: kCorrupt (lengths, types, scores, empty, overlong or repeated pieces, not UTF-8,
  // space or byte pieces missing, none or several unknown pieces), kUnsupported (not a Gemma
  // vocabulary).
  static Result<Tokenizer> Create(const Vocabulary& vocabulary) {
    Result<internal::Pieces> pieces = internal::CheckVocabulary(vocabulary);
    if (!pieces) return pieces.error();
    return Tokenizer(std::make_shared<State>(*std::move(pieces)));
  }

  // Builds what encoding needs, unless it is there already; Encode calls it. Create leaves it out
  // because sentencepiece takes 0.1 to 0.2 s for Gemma's 262144 pieces (Zen 3), many times the rest
  // of opening a file, and a program that never encodes, or can do it beside other work on another
  // thread, should not wait. An error (kUnsupported) means that this version of sentencepiece
  // refuses a vocabulary that passed all checks.
  Status Prepare() const {
    State& state = *state_;
    std::call_once(state.once, [&state] {
      const auto loaded =
          state.processor.LoadFromSerializedProto(internal::ModelProtoBytes(state.pieces));
      if (!loaded.ok()) {
        state.prepared = MakeError(ErrorCode::kUnsupported,
                                   "vocabulary: sentencepiece refuses it: ", loaded.ToString());
      }
    });
    return state.prepared;
  }

  // The ids of a text; no <bos> in front. Control pieces in the text are plain text: "<bos>" gives
  // the ids of its characters. Bytes that are not UTF-8 count as U+FFFD (see utf8_stream.h), NUL is
  // a character like any other, and U+2581 is a space, as in the model's training. Empty if
  // Prepare() fails.
  std::vector<std::int32_t> Encode(std::string_view text) const {
    std::vector<std::int32_t> ids;
    AppendText(text, &ids);
    return ids;
  }

  // The same, but where the text spells a control piece ("<start_of_turn>", the longest that fits),
  // that piece's id. For prompts that a program or its user writes in full, never for text of
  // others.
  std::vector<std::int32_t> EncodeWithControl(std::string_view text) const {
    std::vector<std::int32_t> ids;
    std::size_t plain = 0;  // where the text since the last control piece begins
    std::size_t at = 0;
    while ((at = text.find_first_of(state_->pieces.control_starts, at)) != text.npos) {
      const std::int32_t id = ControlAt(text.substr(at));
      if (id < 0) {
        ++at;
        continue;
      }
      AppendText(text.substr(plain, at - plain), &ids);
      ids.push_back(id);
      at += state_->pieces[id].size();
      plain = at;
    }
    AppendText(text.substr(plain), &ids);
    return ids;
  }

  // EncodeWithControl with exactly one <bos> in front, whether or not the text begins with it.
  std::vector<std::int32_t> EncodePrompt(std::string_view text) const {
    std::vector<std::int32_t> ids = EncodeWithControl(text);
    const auto first = std::find_if(ids.begin(), ids.end(), [](auto id) { return id != kBos; });
    ids.erase(ids.begin(), first);
    ids.insert(ids.begin(), kBos);
    return ids;
  }

  // The text of ids: U+FFFD for bytes that are not UTF-8, nothing for control pieces and ids
  // outside the vocabulary. Decode(Encode(text)) == text for all UTF-8 without U+2581.
  std::string Decode(std::span<const std::int32_t> ids) const {
    std::string bytes;
    for (const std::int32_t id : ids) bytes += TokenText(id);
    return ToValidUtf8(bytes);
  }

  // The piece as the vocabulary spells it, a space as U+2581. Empty for an id outside the
  // vocabulary.
  std::string_view Piece(std::int32_t id) const {
    return Contains(id) ? state_->pieces[id] : std::string_view();
  }

  // The bytes that one id adds to a text: perhaps a part of a character (Utf8Stream puts them
  // together), nothing for control pieces and ids outside the vocabulary.
  std::string TokenText(std::int32_t id) const {
    if (!Contains(id)) return {};
    switch (Type(id)) {
      case PieceType::kControl:
      case PieceType::kUnknown:
        return {};
      case PieceType::kByte:
        return std::string(1, static_cast<char>(internal::ByteOfPiece(Piece(id))));
      default:
        return internal::ReplaceAll(Piece(id), internal::kSpaceMark, " ");
    }
  }

  // What the tokenizer takes the piece for, which may differ from the file. Precondition:
  // Contains(id).
  PieceType Type(std::int32_t id) const {
    return state_->pieces.types[static_cast<std::size_t>(id)];
  }

  bool Contains(std::int32_t id) const { return id >= 0 && id < size(); }

  // Number of pieces. The embedding of the bigger models has more rows.
  std::int32_t size() const { return state_->pieces.size(); }

 private:
  struct State {
    explicit State(internal::Pieces checked) : pieces(std::move(checked)) {}

    const internal::Pieces pieces;
    std::once_flag once;  // guards the two below, which are constant afterwards
    sentencepiece::SentencePieceProcessor processor;
    Status prepared;
  };

  explicit Tokenizer(std::shared_ptr<State> state) : state_(std::move(state)) {}

  void AppendText(std::string_view text, std::vector<std::int32_t>* ids) const {
    if (text.empty() || !Prepare()) return;
    if (!IsValidUtf8(text)) return AppendText(ToValidUtf8(text), ids);
    std::vector<int> part;
    while (!text.empty()) {
      const std::size_t length =
          text.size() > internal::kMaxEncodeBytes ? internal::CutText(text) : text.size();
      // Fails only where loading failed, which Prepare() told.
      state_->processor.Encode(text.substr(0, length), &part).IgnoreError();
      ids->insert(ids->end(), part.begin(), part.end());
      text.remove_prefix(length);
    }
  }

  // The longest control piece (or <unk>) that the text begins with, -1 for none.
  std::int32_t ControlAt(std::string_view text) const {
    const internal::Pieces& pieces = state_->pieces;
    // The pieces that are prefixes of the text are among those that sort before it. Going down from
    // the text, each miss shortens the text to what it shares with the piece found.
    text = text.substr(0, internal::kMaxPieceBytes);
    while (!text.empty()) {
      const auto after = std::upper_bound(
          pieces.controls.begin(), pieces.controls.end(), text,
          [&](std::string_view value, std::int32_t id) { return value < pieces[id]; });
      if (after == pieces.controls.begin()) return -1;
      const std::string_view piece = pieces[*(after - 1)];
      if (text.starts_with(piece)) return *(after - 1);
      const auto shared = std::mismatch(text.begin(), text.end(), piece.begin(), piece.end()).first;
      text = text.substr(0, static_cast<std::size_t>(shared - text.begin()));
    }
    return -1;
  }

  std::shared_ptr<State> state_;
};

}  // namespace lapidary

#endif  // LAPIDARY_TEXT_TOKENIZER_H_
