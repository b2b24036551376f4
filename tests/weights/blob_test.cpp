#include "lapidary/weights/blob.h"

#include <cmath>
#include <cstdint>
#include <functional>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "lapidary/config/models.h"
#include "lapidary/weights/weight_file.h"
#include "tests/support/catch.h"
#include "tests/support/gguf_builder.h"
#include "tests/support/says.h"
#include "tests/support/temp_folder.h"

namespace lapidary {
namespace {

using testing::Bytes;
using testing::kTinyConfig;
using testing::Says;
using testing::TempFolder;

constexpr std::uint64_t kFileBytes = 5 * 4096;

// A header for a file of kFileBytes with one section of every kind and one of the future.
BlobHeader SomeHeader() {
  BlobHeader header;
  header.config = Gemma3_4B::kConfig;
  header.provenance = {.source = "some.gguf", .sha256 = std::string(64, 'a'), .license = "free"};
  header.sections = {
      {"m", SectionKind::kMatrix, Format::kQ8_0, 20, 64, 4096, 2 * 1088, 11},
      {"v", SectionKind::kVector, Format::kF32, 1, 100, 2 * 4096, 400, 12},
      {"future", static_cast<SectionKind>(77), static_cast<Format>(5), 9, 9, 3 * 4096, 10, 13},
      {"odd format", SectionKind::kMatrix, static_cast<Format>(1000), 3, 3, 4 * 4096, 4096, 14}};
  return header;
}

// A file whose header is this one.
Bytes FileOf(const BlobHeader& header, std::uint64_t file_bytes = kFileBytes) {
  Bytes file = header.Encode(file_bytes);
  file.resize(kFileBytes);
  return file;
}

// Sets both checksums of a header that was changed on purpose.
void Seal(Bytes& file) {
  using Prefix = internal::BlobPrefix;
  const std::span<const std::uint8_t> all = file;
  const auto header_bytes = LoadLittleEndian<std::uint64_t>(file.data() + Prefix::kHeaderBytes);
  if (header_bytes >= Prefix::kBytes && header_bytes <= file.size()) {
    StoreLittleEndian(HashBytes(all.subspan(Prefix::kBytes, header_bytes - Prefix::kBytes)),
                      file.data() + Prefix::kHeaderChecksum);
  }
  StoreLittleEndian(HashBytes(all.first(Prefix::kPrefixChecksum)),
                    file.data() + Prefix::kPrefixChecksum);
}

Error Refused(const Bytes& file) {
  const Result<BlobHeader> header = BlobHeader::Parse(file);
  REQUIRE_FALSE(header);
  CHECK(header.error().message.find('\n') == std::string::npos);
  return header.error();
}

TEST_CASE("a blob header reads as it was written") {
  const BlobHeader header = SomeHeader();
  const Result<BlobHeader> read = BlobHeader::Parse(FileOf(header));
  REQUIRE(read);
  CHECK(DescribeDifference(header.config, read->config) == "");
  CHECK(read->provenance == header.provenance);
  REQUIRE(read->sections.size() == header.sections.size());
  for (std::size_t i = 0; i < header.sections.size(); ++i) {
    const Section &a = header.sections[i], &b = read->sections[i];
    CHECK(a.name == b.name);
    CHECK(a.kind == b.kind);
    CHECK(a.format == b.format);
    CHECK((a.rows == b.rows && a.cols == b.cols));
    CHECK((a.offset == b.offset && a.bytes == b.bytes && a.checksum == b.checksum));
  }
  BlobHeader tiny = header;
  tiny.config = kTinyConfig;
  CHECK(BlobHeader::Parse(FileOf(tiny))->config == kTinyConfig);
}

// The bytes of docs/blob-format.md, written by hand.
TEST_CASE("a blob written by another program is read") {
  Bytes body;
  const auto text = [&](std::string_view s) {
    testing::Put(body, static_cast<std::uint32_t>(s.size()));
    body.insert(body.end(), s.begin(), s.end());
  };
  const std::pair<const char*, double> fields[] = {{"layers", 1},
                                                   {"width", 32},
                                                   {"ff_width", 64},
                                                   {"heads", 2},
                                                   {"kv_heads", 1},
                                                   {"head_dim", 32},
                                                   {"query_pre_attn_scalar", 20},
                                                   {"window", 4},
                                                   {"context", 8},
                                                   {"vocabulary", 16},
                                                   {"rope_factor_global", 8}};
  testing::Put(body, static_cast<std::uint32_t>(std::size(fields)));
  for (const auto& [name, value] : fields) {
    text(name);
    testing::Put(body, value);
  }
  testing::Put<std::uint32_t>(body, 1);
  text("author");
  text("somebody");
  testing::Put<std::uint32_t>(body, 1);
  text("final_norm");
  testing::Put<std::uint32_t>(body, 2);
  testing::Put<std::uint32_t>(body, 0);
  for (const std::uint64_t number : {1u, 32u, 4096u, 128u, 0u}) testing::Put(body, number);
  text("what a later minor version may add");

  Bytes file = {0x8C, 0x4C, 0x41, 0x50, 0x0D, 0x0A, 0x1A, 0x0A};
  testing::Put<std::uint32_t>(file, 1);
  testing::Put<std::uint32_t>(file, 5);
  testing::Put<std::uint64_t>(file, 4096 + 128);
  testing::Put<std::uint64_t>(file, 64 + body.size());
  testing::Put<std::uint64_t>(file, HashBytes(body));
  file.resize(56);
  testing::Put<std::uint64_t>(file, HashBytes(file));
  file.insert(file.end(), body.begin(), body.end());
  file.resize(4096 + 128);

  const Result<BlobHeader> header = BlobHeader::Parse(file);
  if (!header) FAIL(header.error().message);
  CHECK(header->minor == 5);
  CHECK(header->config.query_pre_attn_scalar == 20);
  CHECK(header->config.rope_factor_global == 8);
  CHECK(header->config.rope_base_global == 1'000'000);
  CHECK(header->config.global_every == 6);
  CHECK(header->sections[0].name == "final_norm");
}

TEST_CASE("every flipped byte of the header is noticed") {
  const Bytes file = FileOf(SomeHeader());
  const std::size_t header_bytes = SomeHeader().Encode(kFileBytes).size();
  for (std::size_t at = 0; at < header_bytes; ++at) {
    for (const int flip : {0x01, 0x80, 0xFF}) {
      Bytes damaged = file;
      damaged[at] = static_cast<std::uint8_t>(damaged[at] ^ flip);
      CAPTURE(at);
      REQUIRE_FALSE(BlobHeader::Parse(damaged));
    }
  }
}

TEST_CASE("a blob cut short or grown is refused") {
  const Bytes file = FileOf(SomeHeader());
  for (const std::size_t size : {0u, 7u, 8u, 63u, 64u, 100u, 4096u, 5u * 4096u - 1u}) {
    CAPTURE(size);
    Refused(Bytes(file.begin(), file.begin() + static_cast<std::ptrdiff_t>(size)));
  }
  Bytes longer = file;
  longer.push_back(0);
  Says(Refused(longer), ErrorCode::kCorrupt, "should have 20480 bytes, found 20481");
  Bytes shorter(file.begin(), file.end() - 4096);
  Says(Refused(shorter), ErrorCode::kCorrupt, "cut short");
}

TEST_CASE("a newer major version is refused, a newer minor one is read") {
  Bytes file = FileOf(SomeHeader());
  StoreLittleEndian<std::uint32_t>(2, file.data() + internal::BlobPrefix::kMajor);
  Seal(file);
  Says(Refused(file), ErrorCode::kUnsupported, "blob version 2.x, this library reads version 1.x");
  BlobHeader newer = SomeHeader();
  newer.minor = 9;
  CHECK(BlobHeader::Parse(FileOf(newer))->minor == 9);
}

TEST_CASE("directories that contradict themselves are refused") {
  const auto with = [](const std::function<void(BlobHeader&)>& change) {
    BlobHeader header = SomeHeader();
    change(header);
    return Refused(FileOf(header));
  };
  const auto corrupt = ErrorCode::kCorrupt;
  Says(with([](BlobHeader& h) { h.sections[1].name = "m"; }), corrupt, "section m: appears twice");
  Says(with([](BlobHeader& h) { h.sections[1].offset += 8; }), corrupt, "no multiple of 4096");
  Says(with([](BlobHeader& h) { h.sections[1].offset = 0; }), corrupt, "behind the header");
  Says(with([](BlobHeader& h) { h.sections[1].offset = 5 * 4096; }), corrupt, "do not lie inside");
  Says(with([](BlobHeader& h) { h.sections[1].offset = ~std::uint64_t{4095}; }), corrupt,
       "do not lie inside");
  Says(with([](BlobHeader& h) { h.sections[2].bytes = ~std::uint64_t{0}; }), corrupt,
       "do not lie inside");
  Says(with([](BlobHeader& h) { h.sections[2].bytes = 4097; }), corrupt, "overlap");
  Says(with([](BlobHeader& h) { h.sections[2].offset = 4096; }), corrupt, "overlap");
  Says(with([](BlobHeader& h) { h.sections[0].rows = 33; }), corrupt,
       "do not match its shape [33, 64]");
  Says(with([](BlobHeader& h) { h.sections[0].cols = 65; }), corrupt, "do not match its shape");
  Says(with([](BlobHeader& h) { h.sections[0].format = Format::kF32; }), corrupt,
       "do not match its shape");
  Says(with([](BlobHeader& h) { h.sections[1].cols = 101; }), corrupt, "do not match its shape");
  // Products that wrap to the right number of bytes.
  Says(with([](BlobHeader& h) { h.sections[1].cols = (std::uint64_t{1} << 62) + 100; }), corrupt,
       "do not match its shape");
  Says(with([](BlobHeader& h) { h.sections[0].rows = ~std::uint64_t{0}; }), corrupt,
       "do not match its shape");
}

TEST_CASE("headers that end too early are refused") {
  const Bytes whole = FileOf(SomeHeader());
  const std::size_t header_bytes = SomeHeader().Encode(kFileBytes).size();
  for (std::size_t size = 64; size < header_bytes; ++size) {
    Bytes file = whole;
    StoreLittleEndian<std::uint64_t>(size, file.data() + internal::BlobPrefix::kHeaderBytes);
    Seal(file);
    CAPTURE(size);
    REQUIRE_FALSE(BlobHeader::Parse(file));
  }
  for (const std::uint64_t size :
       {std::uint64_t{0}, std::uint64_t{63}, kFileBytes + 1, ~std::uint64_t{0}}) {
    Bytes file = whole;
    StoreLittleEndian(size, file.data() + internal::BlobPrefix::kHeaderBytes);
    Seal(file);
    Says(Refused(file), ErrorCode::kCorrupt, "does not fit the file");
  }
}

// With checksums that are right, so that the parser itself is reached.
TEST_CASE("damaged headers with right checksums never do harm") {
  const Bytes whole = FileOf(SomeHeader());
  const std::size_t header_bytes = SomeHeader().Encode(kFileBytes).size();
  std::mt19937 random(5);
  for (int round = 0; round < 5000; ++round) {
    Bytes file = whole;
    for (int i = 0; i <= round % 2; ++i) {
      file[random() % header_bytes] = static_cast<std::uint8_t>(random() % 2 ? random() : 0xFF);
    }
    Seal(file);
    const Result<BlobHeader> header = BlobHeader::Parse(file);
    if (!header) continue;
    for (const Section& section : header->sections) {
      REQUIRE(RangeFits(section.offset, section.bytes, file.size()));
    }
  }
}

TEST_CASE("values that no model can have are refused") {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const double infinity = std::numeric_limits<double>::infinity();
  const auto bad = [](auto&& change) {
    Config config = Gemma3_4B::kConfig;
    change(config);
    const Status status = CheckConfig(config);
    return !status && status.error().message.starts_with("config: ");
  };
  CHECK(CheckConfig(kTinyConfig));
  for (const KnownModel& model : kKnownModels) CHECK(CheckConfig(model.config));
  for (const std::int32_t value : {0, -1, std::numeric_limits<std::int32_t>::min()}) {
    CAPTURE(value);
    CHECK(bad([&](Config& c) { c.layers = value; }));
    CHECK(bad([&](Config& c) { c.width = value; }));
    CHECK(bad([&](Config& c) { c.ff_width = value; }));
    CHECK(bad([&](Config& c) { c.heads = value; }));
    CHECK(bad([&](Config& c) { c.kv_heads = value; }));
    CHECK(bad([&](Config& c) { c.head_dim = value; }));
    CHECK(bad([&](Config& c) { c.query_pre_attn_scalar = value; }));
    CHECK(bad([&](Config& c) { c.window = value; }));
    CHECK(bad([&](Config& c) { c.global_every = value; }));
    CHECK(bad([&](Config& c) { c.context = value; }));
    CHECK(bad([&](Config& c) { c.vocabulary = value; }));
    CHECK(bad([&](Config& c) { c.vision.patch = value; }));
    CHECK(bad([&](Config& c) { c.vision.heads = value; }));
  }
  CHECK(bad([](Config& c) { c.layers = std::numeric_limits<std::int32_t>::max(); }));
  CHECK(bad([](Config& c) { c.width = 2561; }));
  CHECK(bad([](Config& c) { c.kv_heads = 3; }));
  CHECK(bad([](Config& c) { c.heads = 1 << 20; }));
  CHECK(bad([](Config& c) { c.window = c.context + 1; }));
  CHECK(bad([](Config& c) { c.vision.patch = 15; }));
  for (const double value : {nan, infinity, -1.0, 0.0}) {
    CAPTURE(value);
    CHECK(bad([&](Config& c) { c.rope_base_local = value; }));
    CHECK(bad([&](Config& c) { c.rope_base_global = value; }));
    CHECK(bad([&](Config& c) { c.rope_factor_global = value; }));
  }
  CHECK(bad([&](Config& c) { c.norm_epsilon = nan; }));

  Config config;
  CHECK(internal::SetConfigField(config, "layers", 5));
  CHECK(config.layers == 5);
  CHECK(internal::SetConfigField(config, "vision.image", 896));
  CHECK(config.vision.image == 896);
  CHECK(internal::SetConfigField(config, "norm_epsilon", 1e-5));
  CHECK(config.norm_epsilon == 1e-5);
  CHECK_FALSE(internal::SetConfigField(config, "layers", 5.5));
  CHECK_FALSE(internal::SetConfigField(config, "layers", 1e10));
  CHECK_FALSE(internal::SetConfigField(config, "layers", nan));
  CHECK_FALSE(internal::SetConfigField(config, "norm_epsilon", infinity));
  CHECK_FALSE(internal::SetConfigField(config, "soft_cap", 30));
}

TEST_CASE("a Config field of the future is refused") {
  Bytes file = FileOf(SomeHeader());
  const std::string_view text = AsText(file);
  file[text.find("norm_epsilon")] = 'N';
  Seal(file);
  Says(Refused(file), ErrorCode::kUnsupported, "Norm_epsilon");
}

TEST_CASE("a vocabulary reads as it was written") {
  const std::vector<std::string> texts = testing::SomePieces(20);
  Vocabulary vocabulary;
  for (std::size_t i = 0; i < texts.size(); ++i) {
    vocabulary.pieces.push_back(texts[i]);
    vocabulary.scores.push_back(static_cast<float>(i) * -0.5f);
    vocabulary.types.push_back(static_cast<PieceType>(1 + i % 6));
  }
  const Bytes bytes = EncodeVocabulary(vocabulary);
  const Result<Vocabulary> read = DecodeVocabulary(bytes);
  REQUIRE(read);
  CHECK(read->pieces == vocabulary.pieces);
  CHECK(read->scores == vocabulary.scores);
  CHECK(read->types == vocabulary.types);
  CHECK(DecodeVocabulary(EncodeVocabulary({}))->pieces.empty());

  for (std::size_t size = 0; size < bytes.size(); ++size) {
    REQUIRE_FALSE(DecodeVocabulary(std::span(bytes).first(size)));
  }
  std::mt19937 random(4);
  for (int round = 0; round < 3000; ++round) {
    Bytes damaged = bytes;
    damaged[random() % damaged.size()] = static_cast<std::uint8_t>(random());
    const Result<Vocabulary> result = DecodeVocabulary(damaged);
    if (!result) continue;
    for (const std::string_view piece : result->pieces) {
      REQUIRE((piece.empty() ||
               (AsBytes(piece).data() >= damaged.data() &&
                AsBytes(piece).data() + piece.size() <= damaged.data() + damaged.size())));
    }
  }
  const auto with = [&](std::size_t at, auto value) {
    Bytes damaged = bytes;
    StoreLittleEndian(value, damaged.data() + at);
    const Result<Vocabulary> result = DecodeVocabulary(damaged);
    REQUIRE_FALSE(result);
    return result.error();
  };
  Says(with(8, std::numeric_limits<float>::quiet_NaN()), ErrorCode::kCorrupt, "score of piece 0");
  Says(with(8 + 20 * 4, std::uint8_t{0}), ErrorCode::kCorrupt, "piece 0 has type 0");
  Says(with(8 + 20 * 4 + 3, std::uint8_t{7}), ErrorCode::kCorrupt, "piece 3 has type 7");
  Says(with(8 + 20 * 5 + 4, std::uint32_t{1}), ErrorCode::kCorrupt, "piece 1 lies outside");
  Says(with(8 + 20 * 5, ~std::uint32_t{0}), ErrorCode::kCorrupt, "piece 0 lies outside");
}

TEST_CASE("a blob writer wants exactly the bytes that it was promised") {
  const TempFolder folder;
  const auto plan = [&] {
    BlobHeader header;
    header.config = kTinyConfig;
    header.provenance.sha256 = std::string(64, '0');
    header.sections = {
        {.name = "a", .kind = SectionKind::kVector, .rows = 1, .cols = 3, .bytes = 12},
        {.name = "b", .kind = SectionKind::kVector, .rows = 1, .cols = 2, .bytes = 8}};
    Result<BlobWriter> writer = BlobWriter::Create(folder / "x.lap", std::move(header));
    REQUIRE(writer);
    return *std::move(writer);
  };
  const Bytes twelve = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12};
  const std::span<const std::uint8_t> bytes = twelve;
  {
    BlobWriter writer = plan();
    CHECK(writer.Append(0, bytes));
    CHECK_FALSE(writer.Append(0, bytes.first(1)));
    CHECK_FALSE(writer.Commit());
  }
  {
    BlobWriter writer = plan();
    CHECK(writer.Append(0, bytes));
    CHECK(writer.Append(1, bytes.first(8)));
    writer.provenance().license = "longer than before";
    CHECK_FALSE(writer.Commit());
  }
  CHECK(folder.count() == 0);
  {
    BlobWriter writer = plan();
    CHECK(writer.Append(1, bytes.first(5)));
    CHECK(writer.Append(0, bytes));
    CHECK(writer.Append(1, bytes.subspan(5, 3)));
    writer.provenance().sha256 = std::string(64, 'f');
    CHECK(writer.Commit());
  }
  CHECK(folder.count() == 1);
  const Bytes file = testing::ReadFile(folder / "x.lap");
  const Result<BlobHeader> header = BlobHeader::Parse(file);
  REQUIRE(header);
  CHECK(header->provenance.sha256 == std::string(64, 'f'));
  const Section& b = header->sections[1];
  CHECK(b.checksum == HashBytes(bytes.first(8)));
  CHECK(std::equal(bytes.begin(), bytes.begin() + 8,
                   file.begin() + static_cast<std::ptrdiff_t>(b.offset)));
}

}  // namespace
}  // namespace lapidary
