// Reads the header of a safetensors file (format of github.com/huggingface/safetensors):
//
//   u64 length of the header, JSON {"name": {"dtype", "shape", "data_offsets": [begin, end]}, ...},
//   data
//
// Everything in such a file is untrusted. A Safetensors that exists is consistent: every tensor
// lies inside the file, has the bytes that its shape needs, and shares none with another.
#ifndef LAPIDARY_WEIGHTS_SAFETENSORS_H_
#define LAPIDARY_WEIGHTS_SAFETENSORS_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include "lapidary/base/bytes.h"
#include "lapidary/base/overlap.h"
#include "lapidary/base/result.h"
#include "lapidary/weights/json.h"
#include "lapidary/weights/quant.h"
#include "lapidary/weights/tensor_table.h"

namespace lapidary {

class Safetensors {
 public:
  // `file` is the whole file and must outlive the result. Errors: kCorrupt, kUnsupported (a type of
  // number whose size is not known).
  static Result<Safetensors> Parse(std::span<const std::uint8_t> file);

  // In the order of their names. More than four dimensions are shown as four, the outermost ones
  // multiplied. The names are views of this object and survive a move of it.
  const std::vector<SourceTensor>& tensors() const { return tensors_; }

 private:
  static Result<SourceTensor> ParseEntry(std::string_view name, const internal::Json& entry,
                                         std::span<const std::uint8_t> data);

  std::set<std::string> names_;  // nodes stay where they are
  std::vector<SourceTensor> tensors_;
};

namespace internal {

// The types of the format. Only three of them are weights that this library reads; the others are
// told apart because a file may hold them beside those.
inline constexpr TensorType kSafetensorsTypes[] = {
    {static_cast<std::uint32_t>(Format::kF32), "F32", 1, 4},
    {static_cast<std::uint32_t>(Format::kF16), "F16", 1, 2},
    {static_cast<std::uint32_t>(Format::kBF16), "BF16", 1, 2},
    {TensorType::kNoNumber, "F64", 1, 8},
    {TensorType::kNoNumber, "I64", 1, 8},
    {TensorType::kNoNumber, "U64", 1, 8},
    {TensorType::kNoNumber, "I32", 1, 4},
    {TensorType::kNoNumber, "U32", 1, 4},
    {TensorType::kNoNumber, "I16", 1, 2},
    {TensorType::kNoNumber, "U16", 1, 2},
    {TensorType::kNoNumber, "I8", 1, 1},
    {TensorType::kNoNumber, "U8", 1, 1},
    {TensorType::kNoNumber, "BOOL", 1, 1},
    {TensorType::kNoNumber, "F8_E4M3", 1, 1},
    {TensorType::kNoNumber, "F8_E5M2", 1, 1},
    {TensorType::kNoNumber, "F8_E8M0", 1, 1},
};

}  // namespace internal

inline Result<SourceTensor> Safetensors::ParseEntry(std::string_view name,
                                                    const internal::Json& entry,
                                                    std::span<const std::uint8_t> data) {
  const auto bad = [&](ErrorCode code, const auto&... parts) {
    return MakeError(code, "safetensors entry ", Printable(name), ": ", parts...);
  };
  SourceTensor tensor;
  tensor.name = name;
  const std::string type = internal::TextIn(entry, "dtype").value_or("missing");
  for (const TensorType& known : internal::kSafetensorsTypes) {
    if (known.name == type) tensor.type = known;
  }
  if (tensor.type.block == 0) {
    return bad(ErrorCode::kUnsupported, "its dtype is ", Printable(type),
               ", which this library does not know");
  }
  const internal::Json* const shape = internal::Member(entry, "shape");
  const internal::Json* const offsets = internal::Member(entry, "data_offsets");
  const auto whole_numbers = [](const internal::Json* json) {
    return json != nullptr && json->is_array() &&
           std::all_of(json->begin(), json->end(),
                       [](const internal::Json& value) { return value.is_number_unsigned(); });
  };
  if (!whole_numbers(shape) || !whole_numbers(offsets) || offsets->size() != 2) {
    return bad(ErrorCode::kCorrupt, "expected a shape and two data_offsets, all whole numbers");
  }
  std::optional<std::uint64_t> bytes = tensor.type.block_bytes;
  tensor.dimensions = static_cast<std::uint32_t>(std::min<std::size_t>(4, shape->size()));
  for (std::size_t d = 0; d < shape->size(); ++d) {
    const auto size = (*shape)[shape->size() - 1 - d].get<std::uint64_t>();
    if (bytes) bytes = CheckedMultiply(*bytes, size);
    if (bytes) tensor.dims[std::min<std::size_t>(d, 3)] *= size;
  }
  const auto begin = (*offsets)[0].get<std::uint64_t>(), end = (*offsets)[1].get<std::uint64_t>();
  if (begin > end || end > data.size()) {
    return bad(ErrorCode::kCorrupt, "its bytes ", begin, " to ", end, " do not lie inside the ",
               data.size(), " bytes of data (cut short?)");
  }
  if (bytes != end - begin) {
    return bad(ErrorCode::kCorrupt, "its shape ", tensor.ShapeText(), " of ", tensor.type.name,
               " does not fill its ", end - begin, " bytes");
  }
  tensor.bytes = data.subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(*bytes));
  return tensor;
}

inline Result<Safetensors> Safetensors::Parse(std::span<const std::uint8_t> file) {
  ByteReader reader(file);
  std::uint64_t length = 0;
  std::span<const std::uint8_t> header;
  if (!reader.Read(length) || !reader.ReadBytes(length, header)) {
    return MakeError(ErrorCode::kCorrupt, "safetensors header: its length ", length,
                     " does not fit the file of ", file.size(), " bytes (cut short?)");
  }
  // JSON objects keep the last of two equal names; the format allows no two.
  std::set<std::string> seen;
  std::string twice;
  const auto filter = [&](int depth, internal::JsonFilterEvent event, internal::Json& value) {
    if (depth == 1 && event == internal::JsonFilterEvent::key &&
        !seen.insert(value.get_ref<const std::string&>()).second) {
      twice = value.get_ref<const std::string&>();
    }
    return true;
  };
  const Result<internal::Json> json =
      internal::ParseJsonObject(header, "safetensors header: it", filter);
  if (!json) return json.error();
  if (!twice.empty()) {
    return MakeError(ErrorCode::kCorrupt, "safetensors entry ", Printable(twice), " appears twice");
  }
  Safetensors result;
  for (const auto& [key, entry] : json->items()) {
    if (key == "__metadata__") continue;
    Result<SourceTensor> tensor =
        ParseEntry(*result.names_.insert(key).first, entry, reader.rest());
    if (!tensor) return tensor.error();
    result.tensors_.push_back(*tensor);
  }
  std::vector<internal::FilePart> parts;
  for (const SourceTensor& tensor : result.tensors_) {
    const auto offset = static_cast<std::uint64_t>(tensor.bytes.data() - file.data());
    parts.push_back({offset, tensor.bytes.size()});
  }
  if (const auto overlap = internal::FindOverlap(parts)) {
    return MakeError(ErrorCode::kCorrupt, "safetensors entries ",
                     Printable(result.tensors_[overlap->first].name), " and ",
                     Printable(result.tensors_[overlap->second].name), " overlap");
  }
  return result;
}

}  // namespace lapidary

#endif  // LAPIDARY_WEIGHTS_SAFETENSORS_H_
