// Checked arithmetic and a bounded reader: what every parser of untrusted bytes needs.
#ifndef LAPIDARY_BASE_BYTES_H_
#define LAPIDARY_BASE_BYTES_H_

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>

namespace lapidary {

// Weight files are little-endian and used in place, without a pass that could swap their bytes.
static_assert(std::endian::native == std::endian::little,
              "Lapidary maps little-endian files and needs a little-endian machine");

// a + b, a * b and "the next multiple of alignment" of unsigned numbers; nothing where the true
// result does not fit. Alignment must be positive.
constexpr std::optional<std::uint64_t> CheckedAdd(std::uint64_t a, std::uint64_t b) {
  if (b > std::numeric_limits<std::uint64_t>::max() - a) return std::nullopt;
  return a + b;
}

constexpr std::optional<std::uint64_t> CheckedMultiply(std::uint64_t a, std::uint64_t b) {
  if (a != 0 && b > std::numeric_limits<std::uint64_t>::max() / a) return std::nullopt;
  return a * b;
}

constexpr std::optional<std::uint64_t> CheckedAlignUp(std::uint64_t value,
                                                      std::uint64_t alignment) {
  const std::uint64_t rest = value % alignment;
  return rest == 0 ? std::optional(value) : CheckedAdd(value, alignment - rest);
}

// True if [offset, offset + length) lies inside [0, size); an empty range may begin at size.
constexpr bool RangeFits(std::uint64_t offset, std::uint64_t length, std::uint64_t size) {
  return offset <= size && length <= size - offset;
}

// Reads a number from any address, aligned or not.
template <class T>
T LoadLittleEndian(const std::uint8_t* bytes) {
  static_assert(std::is_trivially_copyable_v<T>);
  T value;
  std::memcpy(&value, bytes, sizeof(T));
  return value;
}

template <class T>
void StoreLittleEndian(T value, std::uint8_t* bytes) {
  static_assert(std::is_trivially_copyable_v<T>);
  std::memcpy(bytes, &value, sizeof(T));
}

inline std::string_view AsText(std::span<const std::uint8_t> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

inline std::span<const std::uint8_t> AsBytes(std::string_view text) {
  return {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()};
}

// A name from a file, fit for one line of a message: short, and nothing that moves a terminal.
inline std::string Printable(std::string_view text) {
  constexpr std::size_t kLongest = 80;
  std::string result;
  for (const char c : text.substr(0, kLongest)) result += c < ' ' || c > '~' ? '?' : c;
  return text.size() > kLongest ? result + "..." : result;
}

// Walks forward over bytes that it does not own. Every step checks what remains; a step that does
// not fit returns false and moves nothing.
class ByteReader {
 public:
  explicit ByteReader(std::span<const std::uint8_t> bytes) : bytes_(bytes) {}

  std::size_t position() const { return position_; }
  std::size_t remaining() const { return bytes_.size() - position_; }
  std::span<const std::uint8_t> rest() const { return bytes_.subspan(position_); }

  template <class T>
  [[nodiscard]] bool Read(T& value) {
    static_assert(std::is_arithmetic_v<T>);
    if (remaining() < sizeof(T)) return false;
    value = LoadLittleEndian<T>(bytes_.data() + position_);
    position_ += sizeof(T);
    return true;
  }

  [[nodiscard]] bool ReadBytes(std::uint64_t length, std::span<const std::uint8_t>& bytes) {
    if (length > remaining()) return false;
    bytes = bytes_.subspan(position_, static_cast<std::size_t>(length));
    position_ += static_cast<std::size_t>(length);
    return true;
  }

  // A string with its length in front: 64 bits in a GGUF file, 32 in a blob.
  template <class Length>
  [[nodiscard]] bool ReadText(std::string_view& text) {
    const std::size_t begin = position_;
    Length length = 0;
    std::span<const std::uint8_t> bytes;
    if (!Read(length) || !ReadBytes(length, bytes)) {
      position_ = begin;
      return false;
    }
    text = AsText(bytes);
    return true;
  }

 private:
  std::span<const std::uint8_t> bytes_;
  std::size_t position_ = 0;
};

}  // namespace lapidary

#endif  // LAPIDARY_BASE_BYTES_H_
