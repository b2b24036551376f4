// The blob (`.lap`): one file that holds a model ready to be mapped, see docs/blob-format.md.
//
// Here are the header (parse and encode), the vocabulary section, and the streaming writer;
// weight_file.h opens files.
#ifndef LAPIDARY_WEIGHTS_BLOB_H_
#define LAPIDARY_WEIGHTS_BLOB_H_

#include <algorithm>
#include <array>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <limits>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "lapidary/base/bytes.h"
#include "lapidary/base/file.h"
#include "lapidary/base/overlap.h"
#include "lapidary/base/result.h"
#include "lapidary/base/xxhash64.h"
#include "lapidary/config/config.h"
#include "lapidary/text/vocabulary.h"
#include "lapidary/weights/quant.h"

namespace lapidary {

// The first bytes of a blob. As in PNG, a byte above 127 and both kinds of line end show a transfer
// that took the file for text.
inline constexpr std::array<std::uint8_t, 8> kBlobMagic = {0x8C, 'L',  'A',  'P',
                                                           '\r', '\n', 0x1A, '\n'};
inline constexpr std::uint32_t kBlobMajor = 1;
inline constexpr std::uint32_t kBlobMinor = 0;
// Sections begin at multiples of this, the page of most systems.
inline constexpr std::uint64_t kSectionAlignment = 4096;
inline constexpr std::string_view kVocabularySection = "vocabulary";

// What the bytes of a section are. Readers skip numbers that they do not know.
enum class SectionKind : std::uint32_t {
  kMatrix = 1,      // packed panels, see quant.h
  kVector = 2,      // f32 values
  kVocabulary = 3,  // pieces, scores and types of the tokenizer
};

// One line of the directory.
struct Section {
  std::string name;
  SectionKind kind = SectionKind::kMatrix;
  Format format = Format::kF32;  // of a matrix; kF32 otherwise
  std::uint64_t rows = 0;        // of a matrix; 1 otherwise
  std::uint64_t cols = 0;        // of a matrix; values of a vector; pieces of a vocabulary
  std::uint64_t offset = 0;      // from the start of the file
  std::uint64_t bytes = 0;
  std::uint64_t checksum = 0;  // XXH64 of the bytes
};

// Where the weights come from. Any of the texts may be empty.
struct Provenance {
  std::string source;   // name of the file or folder that was converted
  std::string sha256;   // of that file, in hexadecimal digits
  std::string license;  // what the weights' owner asks to pass on

  friend bool operator==(const Provenance&, const Provenance&) = default;
};

// The bytes that a section of this kind, format and shape has; nothing if that overflows, or if
// kind or format are not known here.
constexpr std::optional<std::uint64_t> SectionBytes(const Section& section) {
  // Keeps every intermediate product below 2^62.
  constexpr std::uint64_t kLargest = std::uint64_t{1} << 40;
  if (section.rows > kLargest || section.cols > kLargest) return std::nullopt;
  if (section.kind == SectionKind::kVector) return CheckedMultiply(section.cols, sizeof(float));
  const QuantSpec* spec = FindSpec(static_cast<std::uint32_t>(section.format));
  if (section.kind != SectionKind::kMatrix || spec == nullptr) return std::nullopt;
  return CheckedMultiply(CountPanels(section.rows), spec->panel_bytes(section.cols));
}

// Refuses a Config that no model can have: the run-time twin of CheckedModel in config/models.h,
// for values that come from a file.
inline Status CheckConfig(const Config& config) {
  const auto bad = [](const char* what, auto value, const char* expected) {
    return MakeError(ErrorCode::kCorrupt, "config: ", what, " is ", value, ", expected ", expected);
  };
  // Below 2^20 no product of two fields overflows a 64-bit number; these fields are all far below.
  constexpr std::int32_t kMost = 1 << 20;
  const auto in_range = [](std::int32_t value) { return value > 0 && value <= kMost; };
  const char* const kRange = "1 to 2^20";
  const char* const kBlocks = "a multiple of 32 from 32 to 2^20";
  if (!in_range(config.layers)) return bad("layers", config.layers, kRange);
  if (!in_range(config.heads)) return bad("heads", config.heads, kRange);
  if (!in_range(config.kv_heads) || config.heads % config.kv_heads != 0) {
    return bad("kv_heads", config.kv_heads, "a divisor of heads");
  }
  for (const auto& [name, value] :
       {std::pair("width", config.width), std::pair("ff_width", config.ff_width),
        std::pair("head_dim", config.head_dim)}) {
    if (!in_range(value) || value % 32 != 0) return bad(name, value, kBlocks);
  }
  if (std::int64_t{config.heads} * config.head_dim > kMost) {
    return bad("heads * head_dim", std::int64_t{config.heads} * config.head_dim, kRange);
  }
  if (!in_range(config.query_pre_attn_scalar)) {
    return bad("query_pre_attn_scalar", config.query_pre_attn_scalar, kRange);
  }
  if (!in_range(config.global_every)) return bad("global_every", config.global_every, kRange);
  if (config.context <= 0) return bad("context", config.context, "a positive number");
  if (config.window <= 0 || config.window > config.context) {
    return bad("window", config.window, "1 to context");
  }
  if (config.vocabulary <= 0) return bad("vocabulary", config.vocabulary, "a positive number");
  // Written so that NaN is refused too.
  for (const auto& [name, value] : {std::pair("rope_base_local", config.rope_base_local),
                                    std::pair("rope_base_global", config.rope_base_global)}) {
    if (!(value > 1 && std::isfinite(value))) return bad(name, value, "more than 1");
  }
  if (!(config.rope_factor_global > 0 && std::isfinite(config.rope_factor_global))) {
    return bad("rope_factor_global", config.rope_factor_global, "a positive number");
  }
  if (!(config.norm_epsilon >= 0 && config.norm_epsilon < 1)) {
    return bad("norm_epsilon", config.norm_epsilon, "0 to 1");
  }
  const VisionConfig& vision = config.vision;
  if (vision == VisionConfig{}) return {};
  for (const auto& [name, value] :
       {std::pair("vision.image", vision.image), std::pair("vision.patch", vision.patch),
        std::pair("vision.width", vision.width), std::pair("vision.layers", vision.layers),
        std::pair("vision.heads", vision.heads), std::pair("vision.ff_width", vision.ff_width),
        std::pair("vision.soft_tokens", vision.soft_tokens)}) {
    if (!in_range(value)) return bad(name, value, kRange);
  }
  if (vision.image % vision.patch != 0 || vision.width % vision.heads != 0) {
    return MakeError(
        ErrorCode::kCorrupt,
        "config: vision.patch must divide vision.image, and vision.heads vision.width");
  }
  return {};
}

// The header of a blob as data.
struct BlobHeader {
  std::uint32_t minor = kBlobMinor;
  Config config;
  Provenance provenance;
  std::vector<Section> sections;

  // Reads and checks everything in front of the sections. `file` is the whole file. A header that
  // parses has an intact checksum, a plausible Config, and sections that lie inside the file,
  // aligned, without overlap, with unique names and, where kind and format are known, with the
  // length of their shape. Errors: kCorrupt; kUnsupported for a newer major version or a Config
  // field that is not known.
  static Result<BlobHeader> Parse(std::span<const std::uint8_t> file);

  // The bytes that Parse reads. `file_bytes` is the size of the complete file.
  std::vector<std::uint8_t> Encode(std::uint64_t file_bytes) const;
};

namespace internal {

// The fixed part in front: the same in every version, so that any reader can tell a damaged file
// from a newer one.
struct BlobPrefix {
  static constexpr std::size_t kBytes = 64;
  static constexpr std::size_t kMajor = 8;
  static constexpr std::size_t kMinor = 12;
  static constexpr std::size_t kFileBytes = 16;
  static constexpr std::size_t kHeaderBytes = 24;
  static constexpr std::size_t kHeaderChecksum = 32;
  static constexpr std::size_t kPrefixChecksum = 56;
};

class ByteWriter {
 public:
  template <class T>
  void Write(T value) {
    const std::size_t end = bytes_.size();
    bytes_.resize(end + sizeof(T));
    StoreLittleEndian(value, bytes_.data() + end);
  }
  void WriteText(std::string_view text) {
    Write(static_cast<std::uint32_t>(text.size()));
    const std::span<const std::uint8_t> bytes = AsBytes(text);
    bytes_.insert(bytes_.end(), bytes.begin(), bytes.end());
  }
  std::vector<std::uint8_t>& bytes() { return bytes_; }

 private:
  std::vector<std::uint8_t> bytes_;
};

// Sets the field of `config` called `name`. False if there is no such field, or if the value is not
// one that it can hold.
inline bool SetConfigField(Config& config, std::string_view name, double value) {
  bool set = false;
  VisitFields(config, config, [&](const char* field, const auto& target, const auto&) {
    using T = std::remove_cvref_t<decltype(target)>;
    if (name != field || !std::isfinite(value)) return;
    if constexpr (std::same_as<T, std::int32_t>) {
      if (std::abs(value) > std::numeric_limits<T>::max() || value != std::floor(value)) return;
    }
    // VisitFields shows its fields as constant, but `config` is not.
    const_cast<T&>(target) = static_cast<T>(value);
    set = true;
  });
  return set;
}

}  // namespace internal

inline std::vector<std::uint8_t> BlobHeader::Encode(std::uint64_t file_bytes) const {
  using Prefix = internal::BlobPrefix;
  internal::ByteWriter writer;
  writer.bytes().resize(Prefix::kBytes);

  std::uint32_t fields = 0;
  internal::VisitFields(config, config, [&](const char*, auto, auto) { ++fields; });
  writer.Write(fields);
  internal::VisitFields(config, config, [&](const char* name, auto value, auto) {
    writer.WriteText(name);
    writer.Write(static_cast<double>(value));
  });

  const std::pair<const char*, const std::string*> notes[] = {{"source", &provenance.source},
                                                              {"sha256", &provenance.sha256},
                                                              {"license", &provenance.license}};
  writer.Write(static_cast<std::uint32_t>(std::size(notes)));
  for (const auto& [key, text] : notes) {
    writer.WriteText(key);
    writer.WriteText(*text);
  }

  writer.Write(static_cast<std::uint32_t>(sections.size()));
  for (const Section& section : sections) {
    writer.WriteText(section.name);
    writer.Write(static_cast<std::uint32_t>(section.kind));
    writer.Write(static_cast<std::uint32_t>(section.format));
    for (const std::uint64_t number :
         {section.rows, section.cols, section.offset, section.bytes, section.checksum}) {
      writer.Write(number);
    }
  }

  std::vector<std::uint8_t> bytes = std::move(writer.bytes());
  std::copy(kBlobMagic.begin(), kBlobMagic.end(), bytes.begin());
  StoreLittleEndian(kBlobMajor, bytes.data() + Prefix::kMajor);
  StoreLittleEndian(minor, bytes.data() + Prefix::kMinor);
  StoreLittleEndian(file_bytes, bytes.data() + Prefix::kFileBytes);
  StoreLittleEndian(std::uint64_t{bytes.size()}, bytes.data() + Prefix::kHeaderBytes);
  const std::span<const std::uint8_t> all = bytes;
  StoreLittleEndian(HashBytes(all.subspan(Prefix::kBytes)), bytes.data() + Prefix::kHeaderChecksum);
  StoreLittleEndian(HashBytes(all.first(Prefix::kPrefixChecksum)),
                    bytes.data() + Prefix::kPrefixChecksum);
  return bytes;
}

namespace internal {

template <class... Parts>
Error CorruptHeader(const Parts&... parts) {
  return MakeError(ErrorCode::kCorrupt, "blob header: ", parts...);
}

// The header behind the prefix of a whole file, once that and both checksums are as they should be.
inline Result<std::span<const std::uint8_t>> CheckedHeaderBody(std::span<const std::uint8_t> file) {
  using Prefix = BlobPrefix;
  if (file.size() < kBlobMagic.size() ||
      !std::equal(kBlobMagic.begin(), kBlobMagic.end(), file.begin())) {
    return CorruptHeader("the file does not begin as a blob does");
  }
  if (file.size() < Prefix::kBytes) {
    return CorruptHeader("the file is cut short: expected at least ", Prefix::kBytes,
                         " bytes, found ", file.size());
  }
  if (HashBytes(file.first(Prefix::kPrefixChecksum)) !=
      LoadLittleEndian<std::uint64_t>(file.data() + Prefix::kPrefixChecksum)) {
    return CorruptHeader("the first ", Prefix::kBytes,
                         " bytes are damaged (their checksum differs)");
  }
  const auto major = LoadLittleEndian<std::uint32_t>(file.data() + Prefix::kMajor);
  if (major != kBlobMajor) {
    return MakeError(ErrorCode::kUnsupported, "blob version ", major,
                     ".x, this library reads version ", kBlobMajor, ".x");
  }
  const auto file_bytes = LoadLittleEndian<std::uint64_t>(file.data() + Prefix::kFileBytes);
  if (file_bytes != file.size()) {
    return CorruptHeader("the file should have ", file_bytes, " bytes, found ", file.size(),
                         file.size() < file_bytes ? " (cut short?)" : "");
  }
  const auto header_bytes = LoadLittleEndian<std::uint64_t>(file.data() + Prefix::kHeaderBytes);
  if (header_bytes < Prefix::kBytes || header_bytes > file.size()) {
    return CorruptHeader("its length ", header_bytes, " does not fit the file of ", file.size(),
                         " bytes");
  }
  const std::span<const std::uint8_t> body =
      file.subspan(Prefix::kBytes, static_cast<std::size_t>(header_bytes) - Prefix::kBytes);
  if (HashBytes(body) != LoadLittleEndian<std::uint64_t>(file.data() + Prefix::kHeaderChecksum)) {
    return CorruptHeader("it is damaged (its checksum differs)");
  }
  return body;
}

// Bytes of an entry of the directory without its name: length of that, kind, format, five numbers.
inline constexpr std::size_t kLeastEntryBytes =
    3 * sizeof(std::uint32_t) + 5 * sizeof(std::uint64_t);

// One entry of the directory. False if the header ends before it does.
inline bool ReadEntry(ByteReader& reader, Section& section) {
  std::string_view name;
  std::uint32_t kind = 0, format = 0;
  if (!reader.ReadText<std::uint32_t>(name) || !reader.Read(kind) || !reader.Read(format) ||
      !reader.Read(section.rows) || !reader.Read(section.cols) || !reader.Read(section.offset) ||
      !reader.Read(section.bytes) || !reader.Read(section.checksum)) {
    return false;
  }
  section.name = name;
  section.kind = static_cast<SectionKind>(kind);
  section.format = static_cast<Format>(format);
  return true;
}

// Checks that the bytes of a section lie behind the header, inside the file, and are as many as its
// shape needs.
inline Status CheckSection(const Section& section, std::size_t header_bytes,
                           std::size_t file_bytes) {
  const auto in_section = [&](const auto&... parts) {
    return CorruptHeader("section ", Printable(section.name), ": ", parts...);
  };
  if (section.offset % kSectionAlignment != 0 || section.offset < header_bytes) {
    return in_section("its offset ", section.offset, " is no multiple of ", kSectionAlignment,
                      " behind the header");
  }
  if (!RangeFits(section.offset, section.bytes, file_bytes)) {
    return in_section("its ", section.bytes, " bytes at ", section.offset,
                      " do not lie inside the file of ", file_bytes, " bytes");
  }
  const bool known = section.kind == SectionKind::kVector ||
                     (section.kind == SectionKind::kMatrix &&
                      FindSpec(static_cast<std::uint32_t>(section.format)) != nullptr);
  if (known && SectionBytes(section) != section.bytes) {
    return in_section("its ", section.bytes, " bytes do not match its shape [", section.rows, ", ",
                      section.cols, "]");
  }
  return {};
}

// Checks that no two sections share a byte.
inline Status CheckOverlaps(std::span<const Section> sections) {
  std::vector<FilePart> parts;
  for (const Section& section : sections) parts.push_back({section.offset, section.bytes});
  const auto overlap = FindOverlap(parts);
  if (!overlap) return {};
  return CorruptHeader("sections ", Printable(sections[overlap->first].name), " and ",
                       Printable(sections[overlap->second].name), " overlap");
}

}  // namespace internal

inline Result<BlobHeader> BlobHeader::Parse(std::span<const std::uint8_t> file) {
  const Result<std::span<const std::uint8_t>> body = internal::CheckedHeaderBody(file);
  if (!body) return body.error();
  const std::size_t header_bytes = internal::BlobPrefix::kBytes + body->size();
  const Error cut = internal::CorruptHeader("it ends too early, after ", header_bytes, " bytes");

  BlobHeader header;
  header.minor = LoadLittleEndian<std::uint32_t>(file.data() + internal::BlobPrefix::kMinor);
  ByteReader reader(*body);
  std::uint32_t count = 0;

  if (!reader.Read(count)) return cut;
  for (std::uint32_t i = 0; i < count; ++i) {
    std::string_view name;
    double value = 0;
    if (!reader.ReadText<std::uint32_t>(name) || !reader.Read(value)) return cut;
    if (!internal::SetConfigField(header.config, name, value)) {
      return MakeError(ErrorCode::kUnsupported, "blob header: config field ", Printable(name),
                       " = ", value,
                       " is not one that this library can follow (made by a newer version?)");
    }
  }
  if (Status status = CheckConfig(header.config); !status) return status.error();

  if (!reader.Read(count)) return cut;
  for (std::uint32_t i = 0; i < count; ++i) {
    std::string_view key, text;
    if (!reader.ReadText<std::uint32_t>(key) || !reader.ReadText<std::uint32_t>(text)) return cut;
    if (key == "source") header.provenance.source = text;
    if (key == "sha256") header.provenance.sha256 = text;
    if (key == "license") header.provenance.license = text;
  }

  if (!reader.Read(count) || count > reader.remaining() / internal::kLeastEntryBytes) return cut;
  header.sections.resize(count);
  std::set<std::string_view> names;
  for (Section& section : header.sections) {
    if (!internal::ReadEntry(reader, section)) return cut;
    if (!names.insert(section.name).second) {
      return internal::CorruptHeader("section ", Printable(section.name), ": appears twice");
    }
    Status status = internal::CheckSection(section, header_bytes, file.size());
    if (!status) return status.error();
  }
  Status status = internal::CheckOverlaps(header.sections);
  if (!status) return status.error();
  return header;
}

// The vocabulary section: u32 count, u32 bytes of text, f32 score[count], u8 type[count],
// u32 end[count] (piece i is text[end[i - 1] .. end[i])), text.
inline std::vector<std::uint8_t> EncodeVocabulary(const Vocabulary& vocabulary) {
  internal::ByteWriter writer;
  std::size_t text_bytes = 0;
  for (const std::string_view piece : vocabulary.pieces) text_bytes += piece.size();
  writer.bytes().reserve(8 + 9 * vocabulary.pieces.size() + text_bytes);
  writer.Write(static_cast<std::uint32_t>(vocabulary.pieces.size()));
  writer.Write(static_cast<std::uint32_t>(text_bytes));
  for (const float score : vocabulary.scores) writer.Write(score);
  for (const PieceType type : vocabulary.types) writer.Write(static_cast<std::uint8_t>(type));
  std::uint32_t end = 0;
  for (const std::string_view piece : vocabulary.pieces) {
    writer.Write(end += static_cast<std::uint32_t>(piece.size()));
  }
  for (const std::string_view piece : vocabulary.pieces) {
    const std::span<const std::uint8_t> bytes = AsBytes(piece);
    writer.bytes().insert(writer.bytes().end(), bytes.begin(), bytes.end());
  }
  return std::move(writer.bytes());
}

// The inverse. The pieces are views of `bytes`. Checks lengths, piece types (1 to 6) and that no
// score is NaN; what the pieces say is the tokenizer's to judge.
inline Result<Vocabulary> DecodeVocabulary(std::span<const std::uint8_t> bytes) {
  const auto corrupt = [](const auto&... parts) {
    return MakeError(ErrorCode::kCorrupt, "vocabulary section: ", parts...);
  };
  ByteReader reader(bytes);
  std::uint32_t count = 0, text_bytes = 0;
  std::span<const std::uint8_t> scores, types, ends, text;
  if (!reader.Read(count) || !reader.Read(text_bytes) ||
      !reader.ReadBytes(std::uint64_t{count} * 4, scores) || !reader.ReadBytes(count, types) ||
      !reader.ReadBytes(std::uint64_t{count} * 4, ends) || !reader.ReadBytes(text_bytes, text) ||
      reader.remaining() != 0) {
    return corrupt(count, " pieces with ", text_bytes, " bytes of text do not fill its ",
                   bytes.size(), " bytes");
  }
  Vocabulary vocabulary;
  vocabulary.pieces.reserve(count);
  vocabulary.scores.reserve(count);
  vocabulary.types.reserve(count);
  std::uint32_t begin = 0;
  for (std::size_t i = 0; i < count; ++i) {
    const auto end = LoadLittleEndian<std::uint32_t>(ends.data() + 4 * i);
    if (end < begin || end > text_bytes) return corrupt("piece ", i, " lies outside the text");
    vocabulary.pieces.push_back(AsText(text.subspan(begin, end - begin)));
    begin = end;
    const auto score = LoadLittleEndian<float>(scores.data() + 4 * i);
    if (std::isnan(score)) return corrupt("the score of piece ", i, " is not a number");
    vocabulary.scores.push_back(score);
    if (types[i] < 1 || types[i] > 6) {
      return corrupt("piece ", i, " has type ", int{types[i]}, ", expected 1 to 6");
    }
    vocabulary.types.push_back(static_cast<PieceType>(types[i]));
  }
  return vocabulary;
}

// Writes a blob piece by piece, in memory that does not depend on the model's size. The target
// appears under its name in Commit; destroying the writer before that leaves nothing.
class BlobWriter {
 public:
  // Plans the file: of each section name, kind, format, rows, cols and bytes must be set, offsets
  // and checksums are filled in here. The texts of header.provenance may still change before
  // Commit, but must not become longer.
  static Result<BlobWriter> Create(const std::filesystem::path& target, BlobHeader header) {
    // Offsets have a fixed width, so the length of the header is known before they are.
    std::uint64_t end = header.Encode(0).size();
    const std::uint64_t room = end;
    for (Section& section : header.sections) {
      const std::optional<std::uint64_t> begin = CheckedAlignUp(end, kSectionAlignment);
      const std::optional<std::uint64_t> next =
          begin ? CheckedAdd(*begin, section.bytes) : std::nullopt;
      if (!next || *next > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max())) {
        return MakeError(ErrorCode::kInvalidArgument, "the sections of the blob are too large");
      }
      section.offset = *begin;
      end = *next;
    }
    Result<OutputFile> file = OutputFile::Create(target);
    if (!file) return file.error();
    if (Status status = file->Reserve(end); !status) return status.error();
    return BlobWriter(*std::move(file), std::move(header), room, end);
  }

  Provenance& provenance() { return header_.provenance; }
  std::uint64_t file_bytes() const { return file_bytes_; }

  // Adds bytes to a section: in order inside it, sections in any order.
  Status Append(std::size_t section, std::span<const std::uint8_t> bytes) {
    const Section& place = header_.sections[section];
    Written& written = written_[section];
    if (bytes.size() > place.bytes - written.bytes) {
      return MakeError(ErrorCode::kInvalidArgument, "section ", place.name, " has ", place.bytes,
                       " bytes, ", written.bytes + bytes.size(), " were written");
    }
    if (Status status = file_.WriteAt(place.offset + written.bytes, bytes); !status) return status;
    written.hash.Update(bytes);
    written.bytes += bytes.size();
    return {};
  }

  // Writes the header and gives the file its name. Every section must be complete.
  Status Commit() {
    for (std::size_t i = 0; i < written_.size(); ++i) {
      Section& section = header_.sections[i];
      if (written_[i].bytes != section.bytes) {
        return MakeError(ErrorCode::kInvalidArgument, "section ", section.name, " has ",
                         section.bytes, " bytes, only ", written_[i].bytes, " were written");
      }
      section.checksum = written_[i].hash.digest();
    }
    const std::vector<std::uint8_t> bytes = header_.Encode(file_bytes_);
    if (bytes.size() > header_room_) {
      return MakeError(ErrorCode::kInvalidArgument, "the provenance became longer after Create");
    }
    if (Status status = file_.WriteAt(0, bytes); !status) return status;
    return file_.Commit();
  }

 private:
  struct Written {
    XxHash64 hash;
    std::uint64_t bytes = 0;
  };

  BlobWriter(OutputFile file, BlobHeader header, std::uint64_t header_room,
             std::uint64_t file_bytes)
      : file_(std::move(file)),
        header_(std::move(header)),
        header_room_(header_room),
        file_bytes_(file_bytes),
        written_(header_.sections.size()) {}

  OutputFile file_;
  BlobHeader header_;
  std::uint64_t header_room_;
  std::uint64_t file_bytes_;
  std::vector<Written> written_;
};

}  // namespace lapidary

#endif  // LAPIDARY_WEIGHTS_BLOB_H_
