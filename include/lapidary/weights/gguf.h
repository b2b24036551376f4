// Reads the header of a GGUF file, versions 2 and 3 (docs/gguf.md of the ggml repository).
//
// Everything in such a file is untrusted. Parse checks each length against the bytes that remain
// before it uses or allocates anything, so that a Gguf that exists is consistent: every string,
// array and tensor lies inside the file.
#ifndef LAPIDARY_WEIGHTS_GGUF_H_
#define LAPIDARY_WEIGHTS_GGUF_H_

#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "lapidary/base/bytes.h"
#include "lapidary/base/overlap.h"
#include "lapidary/base/result.h"
#include "lapidary/weights/tensor_table.h"

namespace lapidary {

// Types of metadata values, with the numbers of the specification.
enum class GgufType : std::uint32_t {
  kUint8 = 0,
  kInt8 = 1,
  kUint16 = 2,
  kInt16 = 3,
  kUint32 = 4,
  kInt32 = 5,
  kFloat32 = 6,
  kBool = 7,
  kString = 8,
  kArray = 9,
  kUint64 = 10,
  kInt64 = 11,
  kFloat64 = 12,
};

// The types that files in circulation hold (enum ggml_type and its block structs). Numbers that are
// missing were withdrawn from the format or never written to model files.
inline constexpr TensorType kGgufTensorTypes[] = {
    {0, "F32", 1, 4},         {1, "F16", 1, 2},         {2, "Q4_0", 32, 18},
    {3, "Q4_1", 32, 20},      {6, "Q5_0", 32, 22},      {7, "Q5_1", 32, 24},
    {8, "Q8_0", 32, 34},      {9, "Q8_1", 32, 36},      {10, "Q2_K", 256, 84},
    {11, "Q3_K", 256, 110},   {12, "Q4_K", 256, 144},   {13, "Q5_K", 256, 176},
    {14, "Q6_K", 256, 210},   {15, "Q8_K", 256, 292},   {16, "IQ2_XXS", 256, 66},
    {17, "IQ2_XS", 256, 74},  {18, "IQ3_XXS", 256, 98}, {19, "IQ1_S", 256, 50},
    {20, "IQ4_NL", 32, 18},   {21, "IQ3_S", 256, 110},  {22, "IQ2_S", 256, 82},
    {23, "IQ4_XS", 256, 136}, {24, "I8", 1, 1},         {25, "I16", 1, 2},
    {26, "I32", 1, 4},        {27, "I64", 1, 8},        {28, "F64", 1, 8},
    {29, "IQ1_M", 256, 56},   {30, "BF16", 1, 2},       {34, "TQ1_0", 256, 54},
    {35, "TQ2_0", 256, 66},   {39, "MXFP4", 32, 17},
};

constexpr const TensorType* FindGgufTensorType(std::uint32_t number) {
  for (const TensorType& type : kGgufTensorTypes) {
    if (type.number == number) return &type;
  }
  return nullptr;
}

// One metadata value, still in the file's bytes.
class GgufValue {
 public:
  GgufType type() const { return type_; }
  // Of an array: the type of its elements and their number. Of a scalar: its own type, and 1.
  GgufType element_type() const { return element_; }
  std::size_t size() const { return size_; }
  bool is_array() const { return type_ == GgufType::kArray; }

  // A scalar of any number type (bool counts as 0 or 1), where it is a whole number that fits.
  std::optional<std::int64_t> Integer() const {
    if (is_array() || element_ == GgufType::kString) return std::nullopt;
    return IntegerAt(0);
  }
  // A scalar of any number type. An f32 comes back as the shortest decimal number that rounds to it
  // would in f64: 1e-6 stored as f32 compares equal to 1e-6.
  std::optional<double> Number() const;
  std::optional<std::string_view> Text() const {
    if (type_ != GgufType::kString) return std::nullopt;
    return Strings().front();
  }

  // Elements of an array, or the one scalar, converted. Empty if the type does not allow it: a
  // string is no number, and a whole number is asked of IntegerAt.
  std::vector<std::string_view> Strings() const {
    std::vector<std::string_view> strings;
    if (element_ != GgufType::kString) return strings;
    strings.reserve(size_);
    ByteReader reader(bytes_);
    std::string_view text;
    while (reader.ReadText<std::uint64_t>(text)) strings.push_back(text);
    return strings;
  }
  // Preconditions: element_type() is not kString, i < size().
  double NumberAt(std::size_t i) const;
  std::optional<std::int64_t> IntegerAt(std::size_t i) const;

  // For messages: "string", "array of float32".
  std::string TypeName() const;

 private:
  friend class Gguf;

  GgufType type_ = GgufType::kUint8;
  GgufType element_ = GgufType::kUint8;
  std::size_t size_ = 0;
  std::span<const std::uint8_t>
      bytes_;  // elements one behind the other; strings with their lengths
};

class Gguf {
 public:
  static constexpr std::string_view kMagic = "GGUF";

  // `file` is the whole file and must outlive the result: names, strings and tensors are views of
  // it. Errors: kCorrupt, kUnsupported (a version or tensor type that is not read).
  static Result<Gguf> Parse(std::span<const std::uint8_t> file);

  std::uint32_t version() const { return version_; }
  const std::map<std::string_view, GgufValue>& metadata() const { return metadata_; }
  // In the order of the file's directory.
  const TensorTable& tensors() const { return tensors_; }

  // Null if there is none.
  const GgufValue* Find(std::string_view key) const {
    const auto found = metadata_.find(key);
    return found == metadata_.end() ? nullptr : &found->second;
  }

 private:
  Status ParseMetadata(ByteReader& reader, std::uint64_t count);
  // Of the data of tensors, as the metadata say.
  Result<std::uint64_t> Alignment() const;
  Status ParseTensors(ByteReader& reader, std::uint64_t count, std::span<const std::uint8_t> file);

  std::uint32_t version_ = 0;
  std::map<std::string_view, GgufValue> metadata_;
  TensorTable tensors_;
};

namespace internal {

// Bytes of a scalar; 0 for strings, arrays and numbers that are no type.
constexpr std::size_t GgufScalarBytes(GgufType type) {
  switch (type) {
    case GgufType::kUint8:
    case GgufType::kInt8:
    case GgufType::kBool:
      return 1;
    case GgufType::kUint16:
    case GgufType::kInt16:
      return 2;
    case GgufType::kUint32:
    case GgufType::kInt32:
    case GgufType::kFloat32:
      return 4;
    case GgufType::kUint64:
    case GgufType::kInt64:
    case GgufType::kFloat64:
      return 8;
    case GgufType::kString:
    case GgufType::kArray:
      return 0;
  }
  return 0;
}

constexpr std::string_view GgufTypeName(GgufType type) {
  constexpr std::string_view kNames[] = {"uint8",  "int8",    "uint16", "int16",  "uint32",
                                         "int32",  "float32", "bool",   "string", "array",
                                         "uint64", "int64",   "float64"};
  const auto number = static_cast<std::size_t>(type);
  return number < std::size(kNames) ? kNames[number] : "unknown";
}

}  // namespace internal

inline double GgufValue::NumberAt(std::size_t i) const {
  const std::uint8_t* at = bytes_.data() + i * internal::GgufScalarBytes(element_);
  switch (element_) {
    case GgufType::kUint8:
    case GgufType::kBool:
      return *at;
    case GgufType::kInt8:
      return LoadLittleEndian<std::int8_t>(at);
    case GgufType::kUint16:
      return LoadLittleEndian<std::uint16_t>(at);
    case GgufType::kInt16:
      return LoadLittleEndian<std::int16_t>(at);
    case GgufType::kUint32:
      return LoadLittleEndian<std::uint32_t>(at);
    case GgufType::kInt32:
      return LoadLittleEndian<std::int32_t>(at);
    case GgufType::kUint64:
      return static_cast<double>(LoadLittleEndian<std::uint64_t>(at));
    case GgufType::kInt64:
      return static_cast<double>(LoadLittleEndian<std::int64_t>(at));
    case GgufType::kFloat32:
      return LoadLittleEndian<float>(at);
    case GgufType::kFloat64:
      return LoadLittleEndian<double>(at);
    case GgufType::kString:
    case GgufType::kArray:
      break;
  }
  return 0;
}

inline std::optional<std::int64_t> GgufValue::IntegerAt(std::size_t i) const {
  // 2^53: up to here every whole number of an f64 is exact, and no count in a model file is larger.
  constexpr double kLargest = 9007199254740992.0;
  const double number = NumberAt(i);
  if (!(std::abs(number) <= kLargest) || number != std::floor(number)) return std::nullopt;
  return static_cast<std::int64_t>(number);
}

inline std::optional<double> GgufValue::Number() const {
  if (is_array() || element_ == GgufType::kString) return std::nullopt;
  const double number = NumberAt(0);
  if (element_ != GgufType::kFloat32 || !std::isfinite(number)) return number;
  // Nine significant digits always identify an f32; fewer often do.
  for (int digits = 6; digits < 9; ++digits) {
    char text[40];
    std::snprintf(text, sizeof(text), "%.*e", digits - 1, number);
    const double candidate = std::strtod(text, nullptr);
    if (static_cast<float>(candidate) == static_cast<float>(number)) return candidate;
  }
  return number;
}

inline std::string GgufValue::TypeName() const {
  if (!is_array()) return std::string(internal::GgufTypeName(type_));
  return StrCat("array of ", internal::GgufTypeName(element_));
}

inline Status Gguf::ParseMetadata(ByteReader& reader, std::uint64_t count) {
  // A key, its type and one byte of value take at least 13 bytes.
  if (count > reader.remaining() / 13) {
    return MakeError(ErrorCode::kCorrupt, "GGUF header says ", count,
                     " metadata entries, more than the file can hold (cut short?)");
  }
  for (std::uint64_t i = 0; i < count; ++i) {
    std::string_view key;
    std::uint32_t type = 0;
    if (!reader.ReadText<std::uint64_t>(key) || !reader.Read(type)) {
      return MakeError(ErrorCode::kCorrupt, "GGUF metadata entry ", i, " of ", count,
                       " reaches past the end of the file (cut short?)");
    }
    const auto in_key = [&](ErrorCode code, const auto&... parts) {
      return MakeError(code, "GGUF metadata ", Printable(key), ": ", parts...);
    };
    GgufValue value;
    value.type_ = value.element_ = static_cast<GgufType>(type);
    std::uint64_t elements = 1;
    if (value.is_array()) {
      std::uint32_t element = 0;
      if (!reader.Read(element) || !reader.Read(elements)) {
        return in_key(ErrorCode::kCorrupt,
                      "the array reaches past the end of the file (cut short?)");
      }
      value.element_ = static_cast<GgufType>(element);
    }
    const std::span<const std::uint8_t> rest = reader.rest();
    const std::size_t scalar = internal::GgufScalarBytes(value.element_);
    if (value.element_ == GgufType::kString) {
      if (elements > reader.remaining() / 8) {
        return in_key(ErrorCode::kCorrupt, "says ", elements,
                      " strings, more than the file can hold (cut short?)");
      }
      std::string_view text;
      for (std::uint64_t k = 0; k < elements; ++k) {
        if (!reader.ReadText<std::uint64_t>(text)) {
          return in_key(ErrorCode::kCorrupt, "string ", k,
                        " reaches past the end of the file (cut short?)");
        }
      }
    } else if (scalar == 0) {
      return in_key(
          value.element_ == GgufType::kArray ? ErrorCode::kUnsupported : ErrorCode::kCorrupt,
          "holds values of type ", static_cast<std::uint32_t>(value.element_),
          ", expected numbers, strings or an array of them");
    } else {
      const std::optional<std::uint64_t> bytes = CheckedMultiply(elements, scalar);
      std::span<const std::uint8_t> skipped;
      if (!bytes || !reader.ReadBytes(*bytes, skipped)) {
        return in_key(ErrorCode::kCorrupt, "needs ", elements, " values of ", scalar,
                      " bytes, the file holds ", reader.remaining(), " more bytes (cut short?)");
      }
    }
    value.size_ = static_cast<std::size_t>(elements);
    value.bytes_ = rest.first(rest.size() - reader.remaining());
    if (!metadata_.emplace(key, value).second) return in_key(ErrorCode::kCorrupt, "appears twice");
  }
  return {};
}

inline Result<std::uint64_t> Gguf::Alignment() const {
  const GgufValue* value = Find("general.alignment");
  if (value == nullptr) return 32;
  const std::optional<std::int64_t> given = value->Integer();
  if (!given || *given <= 0 || !std::has_single_bit(static_cast<std::uint64_t>(*given))) {
    return MakeError(ErrorCode::kCorrupt, "GGUF metadata general.alignment is ",
                     given ? StrCat(*given) : value->TypeName(), ", expected a power of two");
  }
  return static_cast<std::uint64_t>(*given);
}

namespace internal {

// Entry i of the `count` of the directory: what a tensor is and where, from the beginning of the
// data on; its bytes are not yet looked up.
inline Status ReadGgufTensor(ByteReader& reader, std::uint64_t i, std::uint64_t count,
                             std::uint64_t alignment, SourceTensor& tensor, FilePart& place) {
  std::uint32_t type = 0;
  bool complete = reader.ReadText<std::uint64_t>(tensor.name) && reader.Read(tensor.dimensions);
  const auto in_tensor = [&](ErrorCode code, const auto&... parts) {
    return MakeError(code, "GGUF tensor ", Printable(tensor.name), ": ", parts...);
  };
  if (complete && (tensor.dimensions == 0 || tensor.dimensions > tensor.dims.size())) {
    return in_tensor(ErrorCode::kCorrupt, "has ", tensor.dimensions,
                     " dimensions, expected 1 to 4");
  }
  for (std::uint32_t d = 0; complete && d < tensor.dimensions; ++d) {
    complete = reader.Read(tensor.dims[d]);
  }
  if (!complete || !reader.Read(type) || !reader.Read(place.offset)) {
    return MakeError(ErrorCode::kCorrupt, "GGUF directory entry ", i, " of ", count,
                     " reaches past the end of the file (cut short?)");
  }
  const TensorType* known = FindGgufTensorType(type);
  if (known == nullptr) {
    return in_tensor(ErrorCode::kUnsupported, "has type ", type,
                     ", which this library does not know");
  }
  tensor.type = *known;
  std::optional<std::uint64_t> elements = 1;
  for (std::uint32_t d = 0; elements && d < tensor.dimensions; ++d) {
    if (tensor.dims[d] == 0) {
      return in_tensor(ErrorCode::kCorrupt, "has the empty shape ", tensor.ShapeText());
    }
    elements = CheckedMultiply(*elements, tensor.dims[d]);
  }
  if (tensor.dims[0] % known->block != 0) {
    return in_tensor(ErrorCode::kCorrupt, "rows of ", tensor.dims[0],
                     " values are no whole blocks of ", known->block, ", as ", known->name,
                     " needs");
  }
  const std::optional<std::uint64_t> bytes =
      elements ? CheckedMultiply(*elements / known->block, known->block_bytes) : std::nullopt;
  if (!bytes) {
    return in_tensor(ErrorCode::kCorrupt, "the shape ", tensor.ShapeText(), " is too large");
  }
  place.bytes = *bytes;
  if (place.offset % alignment != 0) {
    return in_tensor(ErrorCode::kCorrupt, "its offset ", place.offset,
                     " is no multiple of the alignment ", alignment);
  }
  return {};
}

// Gives tensors their bytes of the file, whose data begin at `data` (nothing if that is beyond all
// numbers). Errors: a place outside the file, and two that overlap.
inline Status PlaceGgufTensors(std::span<const std::uint8_t> file,
                               std::optional<std::uint64_t> data, std::span<const FilePart> places,
                               std::span<SourceTensor> tensors) {
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    const auto [offset, bytes] = places[i];
    const std::optional<std::uint64_t> begin = data ? CheckedAdd(*data, offset) : std::nullopt;
    if (!begin || !RangeFits(*begin, bytes, file.size())) {
      return MakeError(ErrorCode::kCorrupt, "GGUF tensor ", Printable(tensors[i].name), ": its ",
                       bytes, " bytes at ", begin ? StrCat(*begin) : "a wrapped offset",
                       " do not lie inside the file of ", file.size(), " bytes (cut short?)");
    }
    tensors[i].bytes =
        file.subspan(static_cast<std::size_t>(*begin), static_cast<std::size_t>(bytes));
  }
  const auto overlap = FindOverlap(places);
  if (!overlap) return {};
  return MakeError(ErrorCode::kCorrupt, "GGUF tensors ", Printable(tensors[overlap->first].name),
                   " and ", Printable(tensors[overlap->second].name), " overlap");
}

}  // namespace internal

inline Status Gguf::ParseTensors(ByteReader& reader, std::uint64_t count,
                                 std::span<const std::uint8_t> file) {
  const Result<std::uint64_t> alignment = Alignment();
  if (!alignment) return alignment.error();
  // Name length, dimensions, one dimension, type and offset take at least 32 bytes.
  if (count > reader.remaining() / 32) {
    return MakeError(ErrorCode::kCorrupt, "GGUF header says ", count,
                     " tensors, more than the file can hold (cut short?)");
  }
  std::vector<internal::FilePart> places(static_cast<std::size_t>(count));
  for (std::uint64_t i = 0; i < count; ++i) {
    SourceTensor tensor;
    Status status = internal::ReadGgufTensor(reader, i, count, *alignment, tensor,
                                             places[static_cast<std::size_t>(i)]);
    if (!status) return status;
    if (!tensors_.Add(tensor)) {
      return MakeError(ErrorCode::kCorrupt, "GGUF tensor ", Printable(tensor.name),
                       ": appears twice");
    }
  }
  return internal::PlaceGgufTensors(file, CheckedAlignUp(reader.position(), *alignment), places,
                                    tensors_.all());
}

inline Result<Gguf> Gguf::Parse(std::span<const std::uint8_t> file) {
  ByteReader reader(file);
  std::span<const std::uint8_t> magic;
  if (!reader.ReadBytes(kMagic.size(), magic) || AsText(magic) != kMagic) {
    return MakeError(ErrorCode::kCorrupt, "not a GGUF file: it does not begin with \"GGUF\"");
  }
  Gguf gguf;
  std::uint64_t tensors = 0, entries = 0;
  if (!reader.Read(gguf.version_)) {
    return MakeError(ErrorCode::kCorrupt, "GGUF header is cut short: ", file.size(), " bytes");
  }
  if (gguf.version_ != 2 && gguf.version_ != 3) {
    const bool swapped = (gguf.version_ & 0xFFFFu) == 0;
    return MakeError(ErrorCode::kUnsupported, "GGUF version ", gguf.version_,
                     swapped ? " (a big-endian file?)" : "", ", expected 2 or 3");
  }
  if (!reader.Read(tensors) || !reader.Read(entries)) {
    return MakeError(ErrorCode::kCorrupt, "GGUF header is cut short: ", file.size(), " bytes");
  }
  if (Status status = gguf.ParseMetadata(reader, entries); !status) return status.error();
  if (Status status = gguf.ParseTensors(reader, tensors, file); !status) return status.error();
  return gguf;
}

}  // namespace lapidary

#endif  // LAPIDARY_WEIGHTS_GGUF_H_
