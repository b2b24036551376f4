// The header of a blob. Checksums would stop all but one in 2^64 changes, so a second copy gets the
// right ones.
#include <cstring>
#include <span>
#include <vector>

#include "lapidary/base/bytes.h"
#include "lapidary/base/xxhash64.h"
#include "lapidary/config/config.h"
#include "lapidary/model/kv_cache.h"
#include "lapidary/weights/blob.h"
#include "tests/fuzz/fuzz.h"

namespace {

using namespace lapidary;

void Parse(std::span<const std::uint8_t> file) {
  const Result<BlobHeader> header = BlobHeader::Parse(file);
  if (!header) return;
  for (const Section& section : header->sections) {
    fuzz::Require(RangeFits(section.offset, section.bytes, file.size()),
                  "sections are in the file");
    if (section.kind != SectionKind::kVocabulary) continue;
    (void)DecodeVocabulary(file.subspan(section.offset, section.bytes));
  }
  const Config& config = header->config;
  if (config.layers < 1000) {
    (void)PlanKv(config, static_cast<std::size_t>(config.context), 512);
  }
  (void)Describe(config);
}

// Makes magic, version, sizes and both checksums right.
void Repair(std::vector<std::uint8_t>& file) {
  using Prefix = internal::BlobPrefix;
  if (file.size() < Prefix::kBytes) return;
  std::copy(kBlobMagic.begin(), kBlobMagic.end(), file.begin());
  StoreLittleEndian(kBlobMajor, file.data() + Prefix::kMajor);
  StoreLittleEndian(std::uint64_t{file.size()}, file.data() + Prefix::kFileBytes);
  const auto header = LoadLittleEndian<std::uint64_t>(file.data() + Prefix::kHeaderBytes);
  const std::span<const std::uint8_t> all = file;
  if (header >= Prefix::kBytes && header <= file.size()) {
    const auto body =
        all.subspan(Prefix::kBytes, static_cast<std::size_t>(header) - Prefix::kBytes);
    StoreLittleEndian(HashBytes(body), file.data() + Prefix::kHeaderChecksum);
  }
  StoreLittleEndian(HashBytes(all.first(Prefix::kPrefixChecksum)),
                    file.data() + Prefix::kPrefixChecksum);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::vector<std::uint8_t> file = fuzz::Copy({data, size});
  Parse(file);
  Repair(file);
  Parse(file);
  return 0;
}
