// What the bytes of an image file say before anything is decoded: its kind, whether it is complete,
// and which way up it is. The decoder behind it (image.h) takes zeros for bytes that are missing,
// and knows nothing of EXIF.
#ifndef LAPIDARY_VISION_IMAGE_HEADER_H_
#define LAPIDARY_VISION_IMAGE_HEADER_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "lapidary/base/bytes.h"
#include "lapidary/base/result.h"

namespace lapidary {

enum class ImageKind { kJpeg, kPng, kBmp };

struct ImageHeader {
  ImageKind kind = ImageKind::kJpeg;
  std::uint64_t width = 0, height = 0;  // as stored
  int orientation = 1;                  // EXIF's, 1 to 8
};

inline const char* ImageKindName(ImageKind kind) {
  switch (kind) {
    case ImageKind::kJpeg:
      return "JPEG";
    case ImageKind::kPng:
      return "PNG";
    case ImageKind::kBmp:
      return "BMP";
  }
  return "";
}

namespace internal {

inline std::uint32_t BigEndian(std::span<const std::uint8_t> bytes) {
  std::uint32_t value = 0;
  for (const std::uint8_t byte : bytes) value = value << 8 | byte;
  return value;
}

// The orientation in a block of EXIF data, which is a TIFF file (TIFF 6.0, section 2): byte order,
// 42, offset of the first directory; a directory is a count and entries of tag, type, count, value.
// 1 if there is none, or anything is wrong: a picture is worth showing without its EXIF data.
inline int ExifOrientation(std::span<const std::uint8_t> tiff) {
  if (tiff.size() < 8) return 1;
  const bool little = tiff[0] == 'I' && tiff[1] == 'I';
  if (!little && !(tiff[0] == 'M' && tiff[1] == 'M')) return 1;
  const auto number = [&](std::size_t at, std::size_t bytes) -> std::uint32_t {
    if (!RangeFits(at, bytes, tiff.size())) return 0;
    std::uint32_t value = 0;
    for (std::size_t i = 0; i < bytes; ++i) {
      value |= std::uint32_t{tiff[at + i]} << 8 * (little ? i : bytes - 1 - i);
    }
    return value;
  };
  constexpr std::uint32_t kOrientation = 0x0112, kShort = 3, kLong = 4;
  constexpr std::size_t kEntry = 12;
  if (number(2, 2) != 42) return 1;
  const std::size_t directory = number(4, 4);
  const std::size_t entries = number(directory, 2);
  for (std::size_t i = 0; i < entries; ++i) {
    const std::size_t entry = directory + 2 + i * kEntry;
    if (!RangeFits(entry, kEntry, tiff.size())) return 1;
    if (number(entry, 2) != kOrientation) continue;
    const std::uint32_t type = number(entry + 2, 2);
    if (type != kShort && type != kLong) return 1;
    const std::uint32_t value = number(entry + 8, type == kShort ? 2 : 4);
    return value >= 1 && value <= 8 ? static_cast<int>(value) : 1;
  }
  return 1;
}

inline Error CutShort(const char* kind, std::size_t bytes, std::string_view missing) {
  return MakeError(ErrorCode::kCorrupt, "a ", kind, " picture that is cut short: its ", bytes,
                   " bytes end before ", missing);
}

// What a JPEG file has defined so far. A decoder that meets a scan whose Huffman tables are missing
// would use memory that nobody has written; the stb_image of Debian 12 does.
class JpegTables {
 public:
  // The tables of a DHT segment (ITU T.81, B.2.4.2): a byte with class and number, the numbers of
  // codes of 1 to 16 bits, a byte per code. There are 256 codes at most; the stb_image of Debian 12
  // writes beyond an array if there are more.
  Status Define(std::span<const std::uint8_t> body) {
    constexpr std::size_t kLengths = 16, kMostCodes = 256;
    while (!body.empty()) {
      std::size_t codes = 0;
      for (std::size_t i = 1; i <= kLengths && i < body.size(); ++i) codes += body[i];
      if (codes > kMostCodes || body.size() < 1 + kLengths + codes) {
        return MakeError(ErrorCode::kCorrupt, "a JPEG picture with a Huffman table of ", codes,
                         " codes: expected at most ", kMostCodes, ", all in its segment");
      }
      defined_[body[0]] = true;
      body = body.subspan(1 + kLengths + codes);
    }
    return {};
  }

  // The header of a scan (B.2.3): a count of components, two bytes for each, of which the second
  // names its tables, first and last coefficient, a byte whose upper half says whether the scan
  // refines an earlier one. A decoder refuses headers of other lengths.
  Status CheckScan(std::span<const std::uint8_t> body, bool progressive) const {
    const std::size_t components = body.empty() ? 0 : body[0];
    if (body.size() < 1 + 2 * components + 3) return {};
    const bool first_is_dc = body[1 + 2 * components] == 0;
    const bool refines = body[1 + 2 * components + 2] >> 4 != 0;
    const bool needs_dc = !progressive || (first_is_dc && !refines);
    const bool needs_ac = !progressive || !first_is_dc;
    for (std::size_t i = 0; i < components; ++i) {
      const std::uint8_t tables = body[2 + 2 * i];
      if ((needs_dc && !defined_[tables >> 4]) || (needs_ac && !defined_[0x10 | (tables & 15)])) {
        return MakeError(ErrorCode::kCorrupt,
                         "a JPEG picture with a scan whose Huffman tables are not in the file "
                         "before it");
      }
    }
    return {};
  }

 private:
  bool defined_[256] = {};  // by class (upper half) and number
};

// Walks over the segments of a JPEG file (ITU T.81, annex B) to its end-of-image marker.
inline Result<ImageHeader> InspectJpeg(std::span<const std::uint8_t> bytes) {
  constexpr std::string_view kExif("Exif\0\0", 6);
  ImageHeader header = {.kind = ImageKind::kJpeg};
  // Encoders write up to about 20 scans. Each takes few bytes and sends the decoder over the whole
  // picture, so that a small file of thousands would keep it busy for minutes.
  constexpr int kMostScans = 100;
  constexpr std::uint8_t kHuffmanTables = 0xC4, kScan = 0xDA, kProgressive = 0xC2;
  JpegTables tables;
  std::uint8_t frame_type = 0;  // marker of the first frame header
  int scans = 0;
  bool adobe = false, seen_exif = false;
  const Error cut = CutShort("JPEG", bytes.size(), "the end-of-image marker");
  std::size_t at = 2;
  while (true) {
    // To the next marker: over fill bytes, and over the entropy-coded data of a scan, in which FF
    // is followed by 00 or is one of the restart markers D0 to D7.
    while (at + 1 < bytes.size() &&
           (bytes[at] != 0xFF || bytes[at + 1] == 0xFF || bytes[at + 1] == 0 ||
            (bytes[at + 1] >= 0xD0 && bytes[at + 1] <= 0xD7))) {
      ++at;
    }
    if (at + 1 >= bytes.size()) return cut;
    const std::uint8_t marker = bytes[at + 1];
    at += 2;
    if (marker == 0xD9) return header;
    if (marker == 0xD8 || marker == 0x01) continue;  // no length follows
    if (bytes.size() - at < 2) return cut;
    const std::size_t length = BigEndian(bytes.subspan(at, 2));
    if (length < 2 || length > bytes.size() - at) return cut;
    const std::span<const std::uint8_t> body = bytes.subspan(at + 2, length - 2);
    at += length;
    if (marker == 0xE1 && !seen_exif && AsText(body).starts_with(kExif)) {
      header.orientation = ExifOrientation(body.subspan(kExif.size()));
      seen_exif = true;
    }
    if (marker == kHuffmanTables) {
      if (Status status = tables.Define(body); !status) return status.error();
    }
    if (marker == kScan) {
      if (++scans > kMostScans) {
        return MakeError(ErrorCode::kUnsupported, "a JPEG picture of more than ", kMostScans,
                         " scans");
      }
      if (Status status = tables.CheckScan(body, frame_type == kProgressive); !status)
        return status.error();
    }
    if (marker == 0xEE && AsText(body).starts_with("Adobe")) adobe = true;
    const bool frame =
        marker >= 0xC0 && marker <= 0xCF && marker != 0xC4 && marker != 0xC8 && marker != 0xCC;
    if (frame && frame_type == 0) frame_type = marker;
    if (frame && body.size() >= 6) {
      header.height = BigEndian(body.subspan(1, 2));
      header.width = BigEndian(body.subspan(3, 2));
    }
    // Four inks without Adobe's segment: whether they are inverted, and whether they are inks at
    // all, nothing says.
    if (frame && body.size() >= 6 && body[5] == 4 && !adobe) {
      return MakeError(ErrorCode::kUnsupported,
                       "a JPEG picture of four components without an Adobe segment that says which "
                       "colours they are");
    }
  }
}

// Walks over the chunks of a PNG file (PNG specification, section 5) to the last, IEND.
inline Result<ImageHeader> InspectPng(std::span<const std::uint8_t> bytes) {
  ImageHeader header = {.kind = ImageKind::kPng};
  for (std::size_t at = 8; bytes.size() - at >= 12;) {
    const std::uint64_t length = BigEndian(bytes.subspan(at, 4));
    const std::string_view type = AsText(bytes.subspan(at + 4, 4));
    if (length > bytes.size() - at - 12) break;
    if (type == "IEND") return header;
    if (type == "IHDR" && length >= 8) {
      header.width = BigEndian(bytes.subspan(at + 8, 4));
      header.height = BigEndian(bytes.subspan(at + 12, 4));
    }
    if (type == "eXIf") {
      header.orientation = ExifOrientation(bytes.subspan(at + 8, static_cast<std::size_t>(length)));
    }
    at += static_cast<std::size_t>(length) + 12;
  }
  return CutShort("PNG", bytes.size(), "the IEND chunk");
}

// Compares the size of a BMP file with what its header announces.
inline Result<ImageHeader> InspectBmp(std::span<const std::uint8_t> bytes) {
  const auto number = [&](std::size_t at, auto value) {
    if (RangeFits(at, sizeof(value), bytes.size())) {
      value = LoadLittleEndian<decltype(value)>(bytes.data() + at);
    }
    return value;
  };
  const bool core = number(14, std::uint32_t{0}) == 12;  // the short header of OS/2
  const std::int64_t width =
      core ? number(18, std::uint16_t{0}) : std::int64_t{number(18, std::int32_t{0})};
  const std::int64_t height =
      core ? number(20, std::uint16_t{0}) : std::int64_t{number(22, std::int32_t{0})};
  const std::uint64_t bits = number(core ? 24 : 28, std::uint16_t{0});
  const std::uint32_t compression = core ? 0 : number(30, std::uint32_t{0});
  if (compression == 1 || compression == 2) {
    return MakeError(ErrorCode::kUnsupported, "a BMP picture with run-length compression");
  }
  if (width < 0) return MakeError(ErrorCode::kCorrupt, "a BMP picture ", width, " pixels wide");
  // Rows are filled up to multiples of 4 bytes; a negative height means from top to bottom. No
  // product wraps: width and height have 32 bits, bits 16.
  const auto row = (static_cast<std::uint64_t>(width) * bits + 31) / 32 * 4;
  const auto rows = static_cast<std::uint64_t>(height < 0 ? -height : height);
  const auto needed = CheckedMultiply(row, rows);
  if (!needed || !RangeFits(number(10, std::uint32_t{0}), *needed, bytes.size())) {
    return CutShort("BMP", bytes.size(), "the last row");
  }
  return ImageHeader{
      .kind = ImageKind::kBmp, .width = static_cast<std::uint64_t>(width), .height = rows};
}

// What a file that is none of the three seems to be, for the message.
inline std::string DescribeImage(std::span<const std::uint8_t> bytes) {
  constexpr std::pair<std::string_view, const char*> kKnown[] = {
      {"GIF8", "a GIF picture"},       {"II*", "a TIFF picture"}, {"MM\0*", "a TIFF picture"},
      {"8BPS", "a Photoshop picture"}, {"<svg", "an SVG file"},   {"<?xml", "an XML file"},
      {"%PDF", "a PDF file"}};
  const std::string_view text = AsText(bytes);
  for (const auto& [start, what] : kKnown) {
    if (text.starts_with(start)) return what;
  }
  if (text.starts_with("RIFF") && text.size() >= 12 && text.substr(8, 4) == "WEBP") {
    return "a WebP picture";
  }
  if (text.size() >= 12 && text.substr(4, 4) == "ftyp") return "a HEIF or AVIF picture, or a film";
  return text.empty() ? "an empty file"
                      : StrCat("a file that begins with \"", Printable(text.substr(0, 16)), "\"");
}

}  // namespace internal

// Errors: kUnsupported (another kind of file, or a variant that the decoder does not read),
// kCorrupt (cut short).
inline Result<ImageHeader> InspectImage(std::span<const std::uint8_t> bytes) {
  const std::string_view text = AsText(bytes);
  if (text.starts_with("\xFF\xD8\xFF")) return internal::InspectJpeg(bytes);
  if (text.starts_with("\x89PNG\r\n\x1A\n")) return internal::InspectPng(bytes);
  if (text.starts_with("BM") && bytes.size() >= 26) return internal::InspectBmp(bytes);
  return MakeError(ErrorCode::kUnsupported, "expected a JPEG, PNG or BMP picture, found ",
                   internal::DescribeImage(bytes));
}

}  // namespace lapidary

#endif  // LAPIDARY_VISION_IMAGE_HEADER_H_
