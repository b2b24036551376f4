#include "lapidary/weights/gguf.h"

#include <cstdint>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "lapidary/weights/import_gguf.h"
#include "lapidary/weights/pack_tensors.h"
#include "tests/support/catch.h"
#include "tests/support/gguf_builder.h"

namespace lapidary {
namespace {

using testing::AddTensor;
using testing::BuildGemma;
using testing::Bytes;
using testing::GgufBuilder;
using testing::kTinyConfig;
using testing::Put;
using testing::PutText;

// Two tensors and a little of everything.
GgufBuilder Small() {
  std::mt19937 random(3);
  GgufBuilder b;
  b.SetText("text", "h\xC3\xA9llo");
  b.Set<std::uint32_t>("number", 7);
  b.Set<float>("epsilon", 1e-6f);
  b.Set<bool>("yes", true);
  b.Set<std::uint64_t>("large", std::uint64_t{1} << 60);
  b.SetTexts("texts", {"a", "", "ccc"});
  b.SetArray<std::int32_t>("numbers", {1, -2, 3});
  AddTensor(b, "first", {64, 3}, Format::kQ8_0, random);
  AddTensor(b, "second", {5}, Format::kF32, random);
  return b;
}

// The error of a file that must be refused.
Error Refused(const Bytes& bytes) {
  const Result<Gguf> gguf = Gguf::Parse(bytes);
  REQUIRE_FALSE(gguf);
  CHECK(gguf.error().message.find('\n') == std::string::npos);
  return gguf.error();
}

bool Says(const Error& error, std::string_view text) {
  INFO(error.message);
  const bool found = error.message.find(text) != std::string::npos;
  CHECK(found);
  return found;
}

TEST_CASE("a GGUF file of version 2 or 3 is read") {
  for (const std::uint32_t version : {2u, 3u}) {
    GgufBuilder b = Small();
    b.version = version;
    const Bytes bytes = b.Build();
    const Result<Gguf> gguf = Gguf::Parse(bytes);
    REQUIRE(gguf);
    CHECK(gguf->version() == version);
    CHECK(gguf->metadata().size() == 7);
    CHECK(gguf->Find("text")->Text() == "h\xC3\xA9llo");
    CHECK(gguf->Find("number")->Integer() == 7);
    CHECK(gguf->Find("number")->Number() == 7.0);
    CHECK_FALSE(gguf->Find("number")->Text());
    CHECK(gguf->Find("epsilon")->Number() == 1e-6);
    CHECK_FALSE(gguf->Find("epsilon")->Integer());
    CHECK(gguf->Find("yes")->Integer() == 1);
    CHECK_FALSE(gguf->Find("large")->Integer());
    CHECK_FALSE(gguf->Find("text")->Number());
    CHECK(gguf->Find("texts")->Strings() == std::vector<std::string_view>{"a", "", "ccc"});
    CHECK(gguf->Find("numbers")->size() == 3);
    CHECK(gguf->Find("numbers")->IntegerAt(1) == -2);
    CHECK(gguf->Find("numbers")->TypeName() == "array of int32");
    CHECK_FALSE(gguf->Find("numbers")->Number());
    CHECK(gguf->Find("nothing") == nullptr);

    REQUIRE(gguf->tensors().all().size() == 2);
    const SourceTensor* first = gguf->tensors().Find("first");
    REQUIRE(first != nullptr);
    CHECK(first->type.name == "Q8_0");
    CHECK(first->rows() == 3);
    CHECK(first->cols() == 64);
    CHECK(first->ShapeText() == "[3, 64]");
    CHECK_FALSE(first->is_vector());
    CHECK(Bytes(first->bytes.begin(), first->bytes.end()) == b.Find("first")->data);
    CHECK(gguf->tensors().Find("second")->is_vector());
    const auto second = gguf->tensors().Find("second")->bytes;
    CHECK(Bytes(second.begin(), second.end()) == b.Find("second")->data);
    CHECK(gguf->tensors().Find("third") == nullptr);
  }
}

TEST_CASE("another alignment is followed") {
  GgufBuilder b = Small();
  b.Set<std::uint32_t>("general.alignment", 256);
  b.alignment = 256;
  const Bytes bytes = b.Build();
  const Result<Gguf> gguf = Gguf::Parse(bytes);
  REQUIRE(gguf);
  const auto second = gguf->tensors().Find("second")->bytes;
  CHECK(Bytes(second.begin(), second.end()) == b.Find("second")->data);
}

TEST_CASE("a file cut short anywhere is refused") {
  const GgufBuilder b = Small();
  const Bytes bytes = b.Build();
  // The padding behind the last tensor may be missing.
  const std::size_t needed = bytes.size() - (32 - b.tensors.back().data.size() % 32) % 32;
  for (std::size_t size = 0; size < needed; ++size) {
    CAPTURE(size);
    Refused(Bytes(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(size)));
  }
  CHECK(Gguf::Parse(std::span(bytes).first(needed)));
}

TEST_CASE("another version or kind of file is refused") {
  GgufBuilder b = Small();
  b.version = 1;
  CHECK(Refused(b.Build()).code == ErrorCode::kUnsupported);
  b.version = 4;
  Says(Refused(b.Build()), "version 4, expected 2 or 3");
  b.version = 3u << 24;
  Says(Refused(b.Build()), "big-endian");
  Bytes bytes = Small().Build();
  bytes[0] = 'g';
  Says(Refused(bytes), "does not begin with \"GGUF\"");
}

TEST_CASE("impossible counts are refused before anything is allocated") {
  const GgufBuilder b = Small();
  for (const std::uint64_t count :
       {std::uint64_t{1000}, std::uint64_t{1} << 40, ~std::uint64_t{0}}) {
    Says(Refused(b.Header(count)), "tensors");
    Says(Refused(b.Header({}, count)), "metadata");
  }
}

TEST_CASE("impossible metadata is refused") {
  const auto with = [](Bytes value) {
    GgufBuilder b = Small();
    b.SetRaw("bad", std::move(value));
    return Refused(b.Build());
  };
  Bytes value;
  SECTION("string longer than the file") {
    for (const std::uint64_t length : {std::uint64_t{100'000}, ~std::uint64_t{0}}) {
      value.clear();
      Put<std::uint32_t>(value, 8);
      Put(value, length);
      Says(with(value), "bad");
    }
  }
  SECTION("array longer than the file") {
    for (const std::uint64_t length : {std::uint64_t{100'000}, std::uint64_t{1} << 62,
                                       std::uint64_t{1} << 63, ~std::uint64_t{0}}) {
      for (const GgufType type : {GgufType::kUint8, GgufType::kFloat32, GgufType::kFloat64}) {
        Says(with(GgufBuilder::ArrayHead(type, length)), "bad");
      }
      Says(with(GgufBuilder::ArrayHead(GgufType::kString, length)), "bad");
    }
  }
  SECTION("string in an array longer than the file") {
    value = GgufBuilder::ArrayHead(GgufType::kString, 2);
    PutText(value, "fine");
    Put<std::uint64_t>(value, 1 << 20);
    Says(with(value), "string 1");
  }
  SECTION("unknown type") {
    Put<std::uint32_t>(value, 13);
    Put<std::uint64_t>(value, 0);
    Says(with(value), "type 13");
  }
  SECTION("unknown element type") {
    Says(with(GgufBuilder::ArrayHead(static_cast<GgufType>(99), 0)), "type 99");
  }
  SECTION("array of arrays") {
    value = GgufBuilder::ArrayHead(GgufType::kArray, 1);
    Put<std::uint32_t>(value, 4);
    Put<std::uint64_t>(value, 0);
    CHECK(with(value).code == ErrorCode::kUnsupported);
  }
  SECTION("a key that appears twice") {
    GgufBuilder b = Small();
    b.metadata.push_back(b.metadata.front());
    Says(Refused(b.Build()), "text: appears twice");
  }
}

TEST_CASE("an impossible alignment is refused") {
  for (const std::uint32_t alignment : {0u, 3u, 48u, 1u << 31}) {
    CAPTURE(alignment);
    GgufBuilder b = Small();
    b.Set("general.alignment", alignment);
    // The last one is a power of two, but no offset in the file is a multiple of it.
    const bool power = alignment == 1u << 31;
    Says(Refused(b.Build()), power ? "is no multiple of the alignment" : "expected a power of two");
  }
  GgufBuilder b = Small();
  b.SetText("general.alignment", "32");
  Says(Refused(b.Build()), "general.alignment is string");
}

TEST_CASE("impossible tensors are refused") {
  const auto with = [](const std::function<void(GgufBuilder&)>& change) {
    GgufBuilder b = Small();
    change(b);
    return Refused(b.Build());
  };
  const auto dims = [&](std::vector<std::uint64_t> dims) {
    return with([&](GgufBuilder& b) { b.Find("second")->dims = dims; });
  };
  Says(dims({}), "0 dimensions");
  Says(dims({1, 1, 1, 1, 5}), "5 dimensions");
  Says(dims({0}), "empty shape");
  Says(dims({5, 0}), "empty shape");
  // Products that wrap to something small.
  Says(dims({std::uint64_t{1} << 32, std::uint64_t{1} << 32}), "too large");
  Says(dims({std::uint64_t{1} << 63, 2}), "too large");
  Says(dims({std::uint64_t{1} << 62}), "too large");
  Says(dims({1 << 20}), "do not lie inside the file");
  Says(with([](GgufBuilder& b) { b.Find("first")->dims = {65, 3}; }), "no whole blocks of 32");
  for (const std::uint32_t type : {4u, 5u, 31u, 77u, ~0u}) {
    const Error error = with([&](GgufBuilder& b) { b.Find("second")->type = type; });
    CHECK(error.code == ErrorCode::kUnsupported);
    Says(error, StrCat("second: has type ", type));
  }
  Says(with([](GgufBuilder& b) { b.Find("second")->offset = 4; }), "no multiple of the alignment");
  Says(with([](GgufBuilder& b) { b.Find("second")->offset = 1 << 20; }),
       "do not lie inside the file");
  Says(with([](GgufBuilder& b) { b.Find("second")->offset = ~std::uint64_t{31}; }),
       "do not lie inside the file");
  Says(with([](GgufBuilder& b) { b.Find("second")->offset = 0; }), "overlap");
  Says(with([](GgufBuilder& b) { b.Find("second")->offset = 32; }), "overlap");
  Says(with([](GgufBuilder& b) { b.Find("second")->name = "first"; }), "first: appears twice");
}

// The poor man's fuzzer: whatever happens to the bytes, the answer is a value or an error. Run
// under the sanitizers it finds reads outside the file.
TEST_CASE("damaged files never do harm") {
  const Bytes bytes = BuildGemma(kTinyConfig, Format::kQ4_0).Build();
  const std::size_t header = 6000;
  REQUIRE(bytes.size() > header);
  std::mt19937 random(11);
  int good = 0;
  for (int round = 0; round < 4000; ++round) {
    Bytes damaged = bytes;
    for (int i = 0; i <= round % 3; ++i) {
      const std::size_t at = random() % header;
      switch (random() % 3) {
        case 0:
          damaged[at] = static_cast<std::uint8_t>(random());
          break;
        case 1:
          damaged[at] ^= static_cast<std::uint8_t>(1u << random() % 8);
          break;
        case 2:
          damaged.resize(damaged.size() - random() % 100);
          break;
      }
    }
    const Result<Gguf> gguf = Gguf::Parse(damaged);
    if (!gguf) continue;
    const Result<Import> import = ImportGguf(*gguf);
    if (!import) continue;
    ++good;
    for (const internal::PackSlice& slice : internal::CutIntoSlices(import->tensors)) {
      Bytes packed(slice.bytes);
      internal::PackTensor(import->tensors[slice.tensor], slice.first, slice.count, packed.data(),
                           slice.plane);
    }
  }
  CHECK(good > 0);
}

}  // namespace
}  // namespace lapidary
