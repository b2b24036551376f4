// The tensors of a file that is imported, whatever the kind of file: names, shapes, bytes.
#ifndef LAPIDARY_WEIGHTS_TENSOR_TABLE_H_
#define LAPIDARY_WEIGHTS_TENSOR_TABLE_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "lapidary/base/result.h"

namespace lapidary {

// How the values of a tensor are stored: what a message calls it, and its size.
struct TensorType {
  // A number of ggml (enum ggml_type), as Format has them.
  static constexpr std::uint32_t kNoNumber = 0xFFFFFFFFu;  // for types that ggml does not have
  std::uint32_t number;
  std::string_view name;
  std::uint32_t block;        // elements of a block
  std::uint32_t block_bytes;  // bytes of a block
};

// One tensor: a name, a shape, and bytes inside the file.
struct SourceTensor {
  std::string_view name;
  TensorType type = {};
  std::uint32_t dimensions = 0;
  std::array<std::uint64_t, 4> dims = {1, 1, 1, 1};  // the fastest-running one first, as in GGUF
  std::span<const std::uint8_t> bytes;

  // As a matrix: one row per output. A vector is one row.
  std::uint64_t cols() const { return dims[0]; }
  std::uint64_t rows() const { return dims[1]; }
  bool is_matrix() const { return dims[2] == 1 && dims[3] == 1; }
  bool is_vector() const { return is_matrix() && dims[1] == 1; }
  // Rows first, as messages print it: "[1024, 640]".
  std::string ShapeText() const {
    std::string text = "[";
    for (std::uint32_t i = dimensions; i-- > 0;) {
      text += std::to_string(dims[i]);
      if (i > 0) text += ", ";
    }
    return text + "]";
  }
};

// Tensors by name, in the order in which they were added.
class TensorTable {
 public:
  // False if there is one of this name already.
  [[nodiscard]] bool Add(const SourceTensor& tensor) {
    if (!index_.emplace(tensor.name, tensors_.size()).second) return false;
    tensors_.push_back(tensor);
    return true;
  }

  const std::vector<SourceTensor>& all() const { return tensors_; }
  std::vector<SourceTensor>& all() { return tensors_; }
  // Null if there is none.
  const SourceTensor* Find(std::string_view name) const {
    const auto found = index_.find(name);
    return found == index_.end() ? nullptr : &tensors_[found->second];
  }

 private:
  std::vector<SourceTensor> tensors_;
  std::map<std::string_view, std::size_t> index_;
};

}  // namespace lapidary

#endif  // LAPIDARY_WEIGHTS_TENSOR_TABLE_H_
