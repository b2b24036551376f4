#include "lapidary/weights/weight_file.h"

#include <sys/resource.h>

#include <chrono>
#include <cstdint>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "lapidary/weights/convert-inl.h"
#include "tests/support/catch.h"
#include "tests/support/dequantize.h"
#include "tests/support/gguf_builder.h"
#include "tests/support/panel.h"
#include "tests/support/real_model.h"
#include "tests/support/sanitizer.h"
#include "tests/support/says.h"
#include "tests/support/temp_folder.h"

namespace lapidary {
namespace {

using HWY_NAMESPACE::ConvertToBlob;

using testing::BuildGemma;
using testing::Bytes;
using testing::Dequantize;
using testing::GgufBuilder;
using testing::kTinyConfig;
using testing::ReadFile;
using testing::Says;
using testing::TempFolder;
using testing::WriteFile;

// Wide enough for the formats with blocks of 256.
constexpr Config kWideConfig = {.layers = 1,
                                .width = 512,
                                .ff_width = 768,
                                .heads = 2,
                                .kv_heads = 1,
                                .head_dim = 128,
                                .query_pre_attn_scalar = 100,
                                .window = 5,
                                .context = 64,
                                .vocabulary = 50};

Error OpenError(const std::filesystem::path& path) {
  const Result<WeightFile> file = WeightFile::Open(path);
  REQUIRE_FALSE(file);
  INFO(file.error().message);
  CHECK(file.error().message.find(path.string()) != std::string::npos);
  CHECK(file.error().message.find('\n') == std::string::npos);
  return file.error();
}

// Everything that a model reads is the same in both.
void CheckEqual(const WeightFile& a, const WeightFile& b) {
  CHECK(DescribeDifference(a.config(), b.config()) == "");
  CHECK(a.provenance().source == b.provenance().source);
  CHECK(a.provenance().license == b.provenance().license);
  REQUIRE(a.sections().size() == b.sections().size());
  bool same = true;
  for (std::size_t i = 0; i < a.sections().size(); ++i) {
    const Section &x = a.sections()[i], &y = b.sections()[i];
    CAPTURE(x.name, y.name);
    REQUIRE((x.name == y.name && x.kind == y.kind && x.format == y.format && x.rows == y.rows &&
             x.cols == y.cols && x.bytes == y.bytes));
    if (x.kind == SectionKind::kMatrix) {
      const Result<PackedMatrix> p = a.Matrix(x.name, x.rows, x.cols);
      const Result<PackedMatrix> q = b.Matrix(x.name, x.rows, x.cols);
      REQUIRE((p && q));
      same = same && p->bytes() == q->bytes() && std::memcmp(p->data, q->data, p->bytes()) == 0;
    }
    if (x.kind == SectionKind::kVector) {
      const Result<std::span<const float>> p = a.Vector(x.name, x.cols);
      const Result<std::span<const float>> q = b.Vector(x.name, x.cols);
      REQUIRE((p && q));
      same =
          same && p->size() == q->size() && std::memcmp(p->data(), q->data(), 4 * p->size()) == 0;
    }
    REQUIRE(same);
  }
  REQUIRE((a.vocabulary() == nullptr) == (b.vocabulary() == nullptr));
  if (a.vocabulary() == nullptr) return;
  CHECK(a.vocabulary()->pieces == b.vocabulary()->pieces);
  CHECK(a.vocabulary()->scores == b.vocabulary()->scores);
  CHECK(a.vocabulary()->types == b.vocabulary()->types);
}

TEST_CASE("a blob and the GGUF file that it was made from are the same model") {
  const TempFolder folder;
  for (const QuantSpec* spec : kAllSpecs) {
    if (spec->format == Format::kQ8_0Planes) continue;  // no type of GGUF files: made from Q8_0
    CAPTURE(std::string(spec->name));
    const Config& config = spec->source_block == 256 ? kWideConfig : kTinyConfig;
    GgufBuilder builder = BuildGemma(config, spec->format);
    // One norm in another type.
    std::mt19937 random(2);
    std::erase_if(builder.tensors,
                  [](const auto& tensor) { return tensor.name == "blk.0.attn_norm.weight"; });
    AddTensor(builder, "blk.0.attn_norm.weight", {static_cast<std::uint64_t>(config.width)},
              spec->is_float() ? spec->format : Format::kBF16, random);
    WriteFile(folder / "m.gguf", builder.Build());

    Result<WeightFile> gguf = WeightFile::Open(folder / "m.gguf");
    if (!gguf) FAIL(gguf.error().message);
    CHECK(gguf->container() == Container::kGguf);
    CHECK(DescribeDifference(config, gguf->config()) == "");
    REQUIRE(gguf->vocabulary() != nullptr);
    CHECK(gguf->vocabulary()->pieces[5] == "\xE2\x96\x81the");
    CHECK(gguf->Verify());

    const Result<ConvertReport> report = ConvertToBlob(folder / "m.gguf", folder / "m.lap");
    if (!report) FAIL(report.error().message);
    CHECK(report->config == config);
    CHECK(report->warnings.empty());
    CHECK(report->bytes == std::filesystem::file_size(folder / "m.lap"));
    CHECK(folder.count() == 2);

    for (const LoadMode mode : {LoadMode::kMap, LoadMode::kCopy}) {
      Result<WeightFile> opened =
          WeightFile::Open(folder / "m.lap", {.mode = mode, .progress = {}});
      if (!opened) FAIL(opened.error().message);
      const WeightFile blob = *std::move(opened);
      CHECK(blob.container() == Container::kBlob);
      CHECK(blob.Verify());
      CHECK(blob.provenance().source == "m.gguf");
      Sha256 sha;
      sha.Update(ReadFile(folder / "m.gguf"));
      CHECK(blob.provenance().sha256 == sha.FinishHex());
      CHECK(blob.provenance().license.find("Gemma Terms of Use") != std::string::npos);
      CheckEqual(*gguf, blob);
    }

    // And the numbers are those of the source.
    const auto source = [&](const char* name) {
      const GgufBuilder::Tensor& tensor = *builder.Find(name);
      return Dequantize(static_cast<Format>(tensor.type), tensor.data);
    };
    const auto queries = static_cast<std::size_t>(config.queries_width());
    const auto width = static_cast<std::size_t>(config.width);
    const auto vocabulary = static_cast<std::size_t>(config.vocabulary);
    CHECK(testing::UnpackMatrix(*gguf->Matrix("layers.0.q", queries, width)) ==
          source("blk.0.attn_q.weight"));
    CHECK(testing::UnpackMatrix(*gguf->Matrix("layers.0.attention_out", width, queries)) ==
          source("blk.0.attn_output.weight"));
    CHECK(testing::UnpackMatrix(*gguf->Matrix("embedding", vocabulary, width)) ==
          source("token_embd.weight"));
    const std::span<const float> norm = *gguf->Vector("layers.0.attention_norm", width);
    CHECK(std::vector(norm.begin(), norm.end()) == source("blk.0.attn_norm.weight"));
  }
}

TEST_CASE("asking for what is not there says what is") {
  const TempFolder folder;
  WriteFile(folder / "m.gguf", BuildGemma(kTinyConfig, Format::kQ8_0).Build());
  const Result<WeightFile> file = WeightFile::Open(folder / "m.gguf");
  REQUIRE(file);
  CHECK(file->Matrix("layers.1.q", 128, 96));
  Says(file->Matrix("layers.3.q", 128, 96).error(), ErrorCode::kNotFound,
       "matrix layers.3.q [128, 96] is missing");
  Says(file->Matrix("layers.1.q", 96, 128).error(), ErrorCode::kMismatch,
       "matrix layers.1.q: expected the shape [96, 128], found [128, 96]");
  Says(file->Matrix("final_norm", 1, 96).error(), ErrorCode::kNotFound, "final_norm");
  CHECK(file->Vector("final_norm", 96));
  Says(file->Vector("final_norm", 97).error(), ErrorCode::kMismatch,
       "expected the shape [1, 97], found [1, 96]");
  Says(file->Vector("layers.1.q", 96).error(), ErrorCode::kNotFound, "layers.1.q");
}

TEST_CASE("files that are no weights are named for what they are") {
  const TempFolder folder;
  const auto with = [&](std::string_view name, std::string_view text) {
    WriteFile(folder / name, text);
    return OpenError(folder / name);
  };
  Says(OpenError(folder / "missing.gguf"), ErrorCode::kNotFound, "No such file");
  Says(OpenError(folder.path()), ErrorCode::kIo, "is a directory");
  Says(with("empty.gguf", ""), ErrorCode::kCorrupt, "is empty");
  Says(with("picture.gguf", "\x89PNG\r\n\x1A\n........"), ErrorCode::kCorrupt,
       "expected a Lapidary blob or a GGUF file, found a PNG picture");
  Says(with("pointer.gguf", "version https://git-lfs.github.com/spec/v1\n"), ErrorCode::kCorrupt,
       "Git LFS");
  Says(with("short", "G"), ErrorCode::kCorrupt, "begins with the bytes 47");
  Says(with("magic.gguf", "GGUF"), ErrorCode::kCorrupt, "cut short");
  Says(with("magic.lap", "\x8CLAP\r\n\x1A\n"), ErrorCode::kCorrupt, "cut short");
}

TEST_CASE("weights cut short or damaged are refused") {
  const TempFolder folder;
  const Bytes gguf = BuildGemma(kTinyConfig, Format::kQ8_0).Build();
  WriteFile(folder / "m.gguf", gguf);
  REQUIRE(ConvertToBlob(folder / "m.gguf", folder / "m.lap"));
  const Bytes blob = ReadFile(folder / "m.lap");
  WriteFile(folder / "half.gguf", std::span(gguf).first(gguf.size() / 2));
  Says(OpenError(folder / "half.gguf"), ErrorCode::kCorrupt, "cut short");
  WriteFile(folder / "half.lap", std::span(blob).first(blob.size() / 2));
  Says(OpenError(folder / "half.lap"), ErrorCode::kCorrupt, "cut short");

  Bytes flipped = blob;
  flipped[100] ^= 4;
  WriteFile(folder / "flipped.lap", flipped);
  Says(OpenError(folder / "flipped.lap"), ErrorCode::kCorrupt, "checksum");

  // One bit of a matrix is found when it is looked for, one of the tokenizer at once.
  const Result<BlobHeader> header = BlobHeader::Parse(blob);
  REQUIRE(header);
  for (const Section& section : header->sections) {
    flipped = blob;
    flipped[section.offset + section.bytes - 1] ^= 0x10;
    WriteFile(folder / "flipped.lap", flipped);
    const Result<WeightFile> file = WeightFile::Open(folder / "flipped.lap");
    REQUIRE(file.ok() == (section.kind != SectionKind::kVocabulary));
    const Status verified = file ? file->Verify() : Status(file.error());
    REQUIRE_FALSE(verified);
    const Error error = verified.error();
    Says(error, ErrorCode::kCorrupt, StrCat("section ", section.name, " is damaged"));
  }
}

TEST_CASE("progress rises to its total, and can stop the work") {
  const TempFolder folder;
  WriteFile(folder / "m.gguf", BuildGemma(kTinyConfig, Format::kQ8_0).Build());
  WriteFile(folder / "m.lap", "old");

  std::vector<Progress> seen;
  const ProgressCallback record = [&](const Progress& progress) {
    seen.push_back(progress);
    return true;
  };
  const auto check_seen = [&] {
    REQUIRE_FALSE(seen.empty());
    for (std::size_t i = 1; i < seen.size(); ++i) {
      CHECK(seen[i].done >= seen[i - 1].done);
      CHECK(seen[i].total == seen[0].total);
    }
    CHECK(seen.back().done == seen.back().total);
    seen.clear();
  };
  int left = 3;
  const ProgressCallback stop = [&](const Progress&) { return --left > 0; };

  CHECK(ConvertToBlob(folder / "m.gguf", folder / "m.lap", {.progress = stop}).error().code ==
        ErrorCode::kCancelled);
  CHECK(ReadFile(folder / "m.lap").size() == 3);
  CHECK(folder.count() == 2);
  REQUIRE(ConvertToBlob(folder / "m.gguf", folder / "m.lap", {.progress = record}));
  check_seen();

  const Result<WeightFile> cancelled =
      WeightFile::Open(folder / "m.gguf",
                       {.mode = LoadMode::kMap, .progress = [](const Progress&) { return false; }});
  REQUIRE_FALSE(cancelled);
  CHECK(cancelled.error().code == ErrorCode::kCancelled);
  REQUIRE(WeightFile::Open(folder / "m.gguf", {.mode = LoadMode::kMap, .progress = record}));
  check_seen();

  const Result<WeightFile> blob = WeightFile::Open(folder / "m.lap");
  REQUIRE(blob);
  REQUIRE(blob->Verify(record));
  check_seen();
  CHECK(blob->Verify([](const Progress&) { return false; }).error().code == ErrorCode::kCancelled);
}

TEST_CASE("a conversion that fails leaves nothing behind") {
  const TempFolder folder;
  GgufBuilder builder = BuildGemma(kTinyConfig, Format::kQ8_0);
  WriteFile(folder / "m.gguf", builder.Build());
  Says(ConvertToBlob(folder / "m.gguf", folder / "m.gguf").error(), ErrorCode::kInvalidArgument,
       "its own blob");
  Says(ConvertToBlob(folder / "m.gguf", folder / "none" / "m.lap").error(), ErrorCode::kNotFound,
       "none");
  builder.tensors.pop_back();
  WriteFile(folder / "bad.gguf", builder.Build());
  Says(ConvertToBlob(folder / "bad.gguf", folder / "bad.lap").error(), ErrorCode::kCorrupt,
       (folder / "bad.gguf").string());
  CHECK(folder.count() == 2);
}

TEST_CASE("a file without a tokenizer has none") {
  const TempFolder folder;
  GgufBuilder builder = BuildGemma(kTinyConfig, Format::kQ8_0);
  builder.Remove("tokenizer.ggml.tokens");
  WriteFile(folder / "m.gguf", builder.Build());
  const Result<ConvertReport> report = ConvertToBlob(folder / "m.gguf", folder / "m.lap");
  REQUIRE(report);
  CHECK(report->warnings.size() == 1);
  for (const char* name : {"m.gguf", "m.lap"}) {
    const Result<WeightFile> file = WeightFile::Open(folder / name);
    REQUIRE(file);
    CHECK(file->vocabulary() == nullptr);
    CHECK(file->Matrix("embedding", 37, 96));
  }
}

TEST_CASE("the real 270M: converted, it is as large as before and opens at once") {
  const std::filesystem::path path = testing::RealModelPath();
  if (path.empty()) return;
  const TempFolder folder;
  const Result<ConvertReport> report = ConvertToBlob(path, folder / "m.lap");
  if (!report) FAIL(report.error().message);
  // In KiB. Converting touches every byte of 253 MB, but must not keep them.
  rusage usage = {};
  ::getrusage(RUSAGE_SELF, &usage);
  if (!testing::kAddressSanitizer) CHECK(usage.ru_maxrss < 100 * 1024);
  CHECK(report->config == Gemma3_270M::kConfig);
  CHECK(report->warnings.empty());
  CHECK(static_cast<double>(std::filesystem::file_size(folder / "m.lap")) <=
        1.03 * static_cast<double>(std::filesystem::file_size(path)));

  double fastest = 1;
  for (int i = 0; i < 5; ++i) {
    const auto start = std::chrono::steady_clock::now();
    const Result<WeightFile> opened = WeightFile::Open(folder / "m.lap");
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
    REQUIRE(opened);
    fastest = std::min(fastest, seconds.count());
  }
  CAPTURE(fastest);
  CHECK(fastest < 0.1);

  const Result<WeightFile> blob = WeightFile::Open(folder / "m.lap");
  REQUIRE(blob);
  CHECK(blob->provenance().sha256 ==
        "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818");
  CHECK(blob->Verify());
  const Result<WeightFile> gguf = WeightFile::Open(path);
  REQUIRE(gguf);
  CheckEqual(*gguf, *blob);
  CHECK(blob->vocabulary()->pieces.size() == 262'144);
  CHECK(blob->vocabulary()->pieces[9259] == "Hello");
}

}  // namespace
}  // namespace lapidary
