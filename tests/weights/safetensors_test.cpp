#include "lapidary/weights/safetensors.h"

#include <cstdint>
#include <random>
#include <string>
#include <utility>

#include "tests/support/catch.h"
#include "tests/support/safetensors_builder.h"
#include "tests/support/says.h"

namespace lapidary {
namespace {

using testing::Bytes;
using testing::Json;
using testing::SafetensorsBuilder;
using testing::Says;

SafetensorsBuilder Some() {
  SafetensorsBuilder b;
  b.Add("b.matrix", {3, 5});
  b.Add("a.vector", {7});
  b.Add("c.conv", {4, 3, 2, 2});
  return b;
}

Error Refused(const Bytes& bytes) {
  const Result<Safetensors> file = Safetensors::Parse(bytes);
  REQUIRE_FALSE(file);
  CHECK(file.error().message.find('\n') == std::string::npos);
  return file.error();
}

// Refused with one entry of the header changed.
template <class Change>
Error With(Change change) {
  const SafetensorsBuilder b = Some();
  Json header = b.Header();
  change(header["b.matrix"]);
  return Refused(b.Build(header.dump()));
}

TEST_CASE("tensors of a safetensors file are found with their shapes and bytes") {
  const SafetensorsBuilder b = Some();
  const Bytes bytes = b.Build();
  Result<Safetensors> parsed = Safetensors::Parse(bytes);
  REQUIRE(parsed);
  const Safetensors file = *std::move(parsed);  // names survive the move
  REQUIRE(file.tensors().size() == 3);
  const SourceTensor& vector = file.tensors()[0];
  const SourceTensor& matrix = file.tensors()[1];
  const SourceTensor& conv = file.tensors()[2];
  CHECK(vector.name == "a.vector");
  CHECK(vector.is_vector());
  CHECK(vector.cols() == 7);
  CHECK(matrix.rows() == 3);
  CHECK(matrix.cols() == 5);
  CHECK(matrix.ShapeText() == "[3, 5]");
  CHECK(matrix.type.number == 30);
  CHECK(Bytes(matrix.bytes.begin(), matrix.bytes.end()) == b.tensors[0].data);
  CHECK(conv.dims == std::array<std::uint64_t, 4>{2, 2, 3, 4});
}

TEST_CASE("types that are no weights, scalars and empty tensors may be there too") {
  SafetensorsBuilder b = Some();
  b.tensors.push_back({"d.state", "U8", {2, 3}, Bytes(6)});
  b.tensors.push_back({"e.scalar", "F32", {}, Bytes(4)});
  b.tensors.push_back({"f.none", "F16", {0, 8}, Bytes()});
  b.tensors.push_back({"g.five", "I64", {2, 1, 3, 1, 2}, Bytes(96)});
  const Bytes bytes = b.Build();
  const Result<Safetensors> file = Safetensors::Parse(bytes);
  REQUIRE(file);
  CHECK(FindSpec(file->tensors()[3].type.number) == nullptr);
  CHECK(file->tensors()[3].type.name == "U8");
  CHECK(file->tensors()[4].bytes.size() == 4);
  CHECK(file->tensors()[5].bytes.empty());
  CHECK(file->tensors()[6].dims == std::array<std::uint64_t, 4>{2, 1, 3, 2});
}

TEST_CASE("a safetensors file that is cut short or has a nonsense header is refused") {
  const Bytes bytes = Some().Build();
  // Every shorter file: the length, the header, then the data are incomplete.
  for (std::size_t size = 0; size < bytes.size(); ++size) {
    const Result<Safetensors> file = Safetensors::Parse(std::span(bytes).first(size));
    if (file) FAIL(size);
  }
  Says(Refused(Bytes(8, 0xFF)), ErrorCode::kCorrupt, "18446744073709551615");
  Says(Refused(SafetensorsBuilder().Build("[1, 2]")), ErrorCode::kCorrupt, "no JSON object");
  Says(Refused(SafetensorsBuilder().Build("{\"a\": ")), ErrorCode::kCorrupt, "no JSON object");
  Says(Refused(SafetensorsBuilder().Build(std::string(100000, '['))), ErrorCode::kCorrupt,
       "nested more than 64 deep");
  Says(Refused(SafetensorsBuilder().Build("{\"a\": 1}")), ErrorCode::kUnsupported, "entry a");
}

TEST_CASE("impossible entries of a safetensors file are refused") {
  Says(With([](Json& e) { e["dtype"] = "F4"; }), ErrorCode::kUnsupported, "dtype is F4");
  Says(With([](Json& e) { e.erase("dtype"); }), ErrorCode::kUnsupported, "dtype is missing");
  Says(With([](Json& e) { e["dtype"] = 7; }), ErrorCode::kUnsupported, "dtype is missing");
  Says(With([](Json& e) { e["shape"] = {3, -5}; }), ErrorCode::kCorrupt, "whole numbers");
  Says(With([](Json& e) { e["shape"] = {3, 5.5}; }), ErrorCode::kCorrupt, "whole numbers");
  Says(With([](Json& e) { e["shape"] = "3x5"; }), ErrorCode::kCorrupt, "whole numbers");
  Says(With([](Json& e) { e.erase("shape"); }), ErrorCode::kCorrupt, "whole numbers");
  Says(With([](Json& e) {
         e["data_offsets"] = {0, 30, 30};
       }),
       ErrorCode::kCorrupt, "whole numbers");
  Says(With([](Json& e) { e["shape"] = {3, 6}; }), ErrorCode::kCorrupt, "does not fill");
  Says(With([](Json& e) { e["dtype"] = "F32"; }), ErrorCode::kCorrupt, "does not fill");
  // 2^32 * 2^32 * 15 wraps to the right number of elements.
  Says(With([](Json& e) {
         e["shape"] = {1ull << 32, 1ull << 32, 15};
       }),
       ErrorCode::kCorrupt, "does not fill");
  Says(With([](Json& e) {
         e["data_offsets"] = {30, 0};
       }),
       ErrorCode::kCorrupt, "do not lie inside");
  Says(With([](Json& e) {
         e["data_offsets"] = {1ull << 40, (1ull << 40) + 30};
       }),
       ErrorCode::kCorrupt, "do not lie inside");
  Says(With([](Json& e) { e["data_offsets"] = {10, 40}; }), ErrorCode::kCorrupt, "overlap");

  const SafetensorsBuilder b = Some();
  std::string twice = b.Header().dump();
  twice.pop_back();
  twice += ",\"b.matrix\":" + b.Header()["b.matrix"].dump() + "}";
  Says(Refused(b.Build(twice)), ErrorCode::kCorrupt, "b.matrix appears twice");
}

TEST_CASE("no changed byte of a safetensors header does harm") {
  const Bytes original = Some().Build();
  std::mt19937 random(1);
  for (int round = 0; round < 5000; ++round) {
    Bytes bytes = original;
    for (int change = 0; change < 1 + round % 3; ++change) {
      bytes[random() % 400 % bytes.size()] = static_cast<std::uint8_t>(random());
    }
    const Result<Safetensors> file = Safetensors::Parse(bytes);
    if (!file) continue;
    std::size_t sum = 0;
    for (const SourceTensor& tensor : file->tensors()) {
      for (const std::uint8_t byte : tensor.bytes) sum += byte;
    }
    CHECK(sum <= 255 * bytes.size());
  }
}

}  // namespace
}  // namespace lapidary
