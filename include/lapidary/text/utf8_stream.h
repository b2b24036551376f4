// UTF-8 in pieces: a token may end in the middle of a character, a reader must never see half of
// one.
//
// Bytes that are not UTF-8 become U+FFFD, one for each maximal subpart of an ill-formed sequence
// (The Unicode Standard, section 3.9, "Substitution of Maximal Subparts"; Python's errors="replace"
// and browsers do the same). So "e2 82" followed by "A" is one U+FFFD and an A.
#ifndef LAPIDARY_TEXT_UTF8_STREAM_H_
#define LAPIDARY_TEXT_UTF8_STREAM_H_

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

namespace lapidary {

inline constexpr std::string_view kReplacementCharacter = "\xEF\xBF\xBD";  // U+FFFD

namespace internal {

enum class Utf8Kind { kCharacter, kInvalid, kIncomplete };

struct Utf8Step {
  std::size_t length;  // bytes of the character, or of the part that one U+FFFD replaces
  Utf8Kind kind;       // kIncomplete: the text ends where the character might still go on
};

// Looks at the character that begins a text, which must not be empty. The ranges are table 3-7 of
// the standard: no overlong forms, no surrogates, nothing above U+10FFFF.
inline Utf8Step NextUtf8(std::string_view text) {
  const auto byte = [text](std::size_t i) { return static_cast<std::uint8_t>(text[i]); };
  const std::uint8_t lead = byte(0);
  if (lead < 0x80) return {1, Utf8Kind::kCharacter};
  if (lead < 0xC2 || lead > 0xF4) return {1, Utf8Kind::kInvalid};
  const std::size_t length = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  // Only the second byte's range depends on the first.
  std::uint8_t low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
  std::uint8_t high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
  for (std::size_t i = 1; i < length; ++i) {
    if (i == text.size()) return {i, Utf8Kind::kIncomplete};
    if (byte(i) < low || byte(i) > high) return {i, Utf8Kind::kInvalid};
    low = 0x80;
    high = 0xBF;
  }
  return {length, Utf8Kind::kCharacter};
}

// How many bytes at the beginning of the text are whole, well-formed characters.
inline std::size_t ValidUtf8Prefix(std::string_view text) {
  std::size_t at = 0;
  while (at < text.size()) {
    if (text.size() - at >= 8) {
      std::uint64_t eight;
      std::memcpy(&eight, text.data() + at, 8);
      if ((eight & 0x8080808080808080u) == 0) {
        at += 8;
        continue;
      }
    }
    const Utf8Step step = NextUtf8(text.substr(at));
    if (step.kind != Utf8Kind::kCharacter) break;
    at += step.length;
  }
  return at;
}

// Appends text to *out with U+FFFD for what is not UTF-8. Stops at a character that the text's end
// cuts and returns where it begins, or text.size().
inline std::size_t AppendUtf8(std::string_view text, std::string* out) {
  std::size_t at = 0;
  while (true) {
    const std::size_t valid = ValidUtf8Prefix(text.substr(at));
    out->append(text, at, valid);
    at += valid;
    if (at == text.size()) return at;
    const Utf8Step step = NextUtf8(text.substr(at));
    if (step.kind == Utf8Kind::kIncomplete) return at;
    *out += kReplacementCharacter;
    at += step.length;
  }
}

}  // namespace internal

inline bool IsValidUtf8(std::string_view text) {
  return internal::ValidUtf8Prefix(text) == text.size();
}

// The text with U+FFFD for everything in it that is not UTF-8.
inline std::string ToValidUtf8(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  if (internal::AppendUtf8(text, &out) < text.size()) out += kReplacementCharacter;
  return out;
}

// Turns the bytes of one token after the other into text that is UTF-8 at every moment:
//
//   for (id : ids) text += stream.Push(tokenizer.TokenText(id));
//   text += stream.Finish();
//
// The text is that of ToValidUtf8 over all the bytes, wherever they were cut.
class Utf8Stream {
 public:
  // Returns the characters that the bytes complete and keeps at most three bytes for the next call.
  std::string Push(std::string_view bytes) {
    pending_ += bytes;
    std::string out;
    const std::size_t rest = internal::AppendUtf8(pending_, &out);
    pending_.erase(0, rest);
    return out;
  }

  // Ends the text: a character that was never completed becomes one U+FFFD. The stream is then as
  // new.
  std::string Finish() {
    std::string out(pending_.empty() ? std::string_view() : kReplacementCharacter);
    pending_.clear();
    return out;
  }

 private:
  std::string pending_;  // between calls: the beginning of one character
};

}  // namespace lapidary

#endif  // LAPIDARY_TEXT_UTF8_STREAM_H_
