// Files of ids, as `lapidary logits --ids-file` reads them.
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "examples/lapidary/terminal.h"
#include "tests/fuzz/fuzz.h"
#include "tests/support/temp_folder.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace lapidary;
  static const testing::TempFolder folder;
  const std::string path = (folder / "ids").string();
  testing::WriteFile(path, std::span(data, size));
  const Result<std::vector<std::int32_t>> ids = cli::ReadIds(path);
  fuzz::Require(!ids || ids->size() <= (size + 1) / 2, "an id takes a digit and a space");
  return 0;
}
