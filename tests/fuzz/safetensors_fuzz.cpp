// The header of a safetensors file.
#include <span>
#include <vector>

#include "lapidary/weights/safetensors.h"
#include "tests/fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace lapidary;
  const std::vector<std::uint8_t> file = fuzz::Copy({data, size});
  const Result<Safetensors> header = Safetensors::Parse(file);
  if (!header) return 0;
  for (const SourceTensor& tensor : header->tensors()) {
    fuzz::Require(tensor.bytes.empty() ||
                      (tensor.bytes.data() >= file.data() &&
                       tensor.bytes.data() + tensor.bytes.size() <= file.data() + file.size()),
                  "tensors are in the file");
    (void)tensor.ShapeText();
  }
  return 0;
}
