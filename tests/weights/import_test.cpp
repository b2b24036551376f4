#include <sys/mman.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <limits>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "lapidary/weights/import_gguf.h"
#include "lapidary/weights/pack_tensors.h"
#include "tests/support/catch.h"
#include "tests/support/gguf_builder.h"
#include "tests/support/says.h"

namespace lapidary {
namespace {

using testing::AddTensor;
using testing::BuildGemma;
using testing::Bytes;
using testing::GgufBuilder;
using testing::kTinyConfig;
using testing::Says;

struct Imported {
  Bytes file;
  Import import;
};

// The import of a file that must be accepted.
Imported Accepted(const GgufBuilder& builder) {
  Imported result{builder.Build(), {}};
  const Result<Gguf> gguf = Gguf::Parse(result.file);
  REQUIRE(gguf);
  Result<Import> import = ImportGguf(*gguf);
  if (!import) FAIL(import.error().message);
  result.import = *std::move(import);
  return result;
}

Error Refused(const GgufBuilder& builder) {
  const Bytes file = builder.Build();
  const Result<Gguf> gguf = Gguf::Parse(file);
  if (!gguf) FAIL(gguf.error().message);
  const Result<Import> import = ImportGguf(*gguf);
  REQUIRE_FALSE(import);
  CHECK(import.error().message.find('\n') == std::string::npos);
  return import.error();
}

bool Warns(const Import& import, std::string_view text) {
  return std::any_of(
      import.warnings.begin(), import.warnings.end(),
      [&](const std::string& warning) { return warning.find(text) != std::string::npos; });
}

// A file with the header of a model of real size, whose weights are memory that is never touched.
class HollowFile {
 public:
  // `embedding_rows` of 0: those of the Config.
  HollowFile(const Config& c, std::uint64_t embedding_rows, std::vector<std::string> without = {}) {
    Config small = c;
    small.layers = 1;
    small.width = small.ff_width = small.heads = small.kv_heads = small.head_dim = 32;
    small.vocabulary = 2;
    GgufBuilder b = BuildGemma(small, Format::kQ4_0);
    b.tensors.clear();
    b.Remove("gemma3.attention.query_pre_attn_scalar");
    b.Remove("gemma3.attention.sliding_window_pattern");
    b.Remove("tokenizer.ggml.tokens");
    const auto set = [&](const char* key, std::int32_t value) {
      b.Set(StrCat("gemma3.", key), static_cast<std::uint32_t>(value));
    };
    set("block_count", c.layers);
    set("embedding_length", c.width);
    set("feed_forward_length", c.ff_width);
    set("attention.head_count", c.heads);
    set("attention.head_count_kv", c.kv_heads);
    set("attention.key_length", c.head_dim);
    set("attention.value_length", c.head_dim);
    for (const std::string& key : without) b.Remove(key);
    std::uint64_t offset = 0;
    const auto add = [&](const std::string& name, std::uint64_t cols, std::uint64_t rows) {
      const bool vector = rows == 0;
      const std::uint64_t bytes = vector ? cols * 4 : cols / 32 * 18 * rows;
      GgufBuilder::Tensor tensor;
      tensor.name = name + ".weight";
      tensor.dims =
          vector ? std::vector<std::uint64_t>{cols} : std::vector<std::uint64_t>{cols, rows};
      tensor.type = vector ? 0 : 2;
      tensor.offset = offset;
      b.tensors.push_back(tensor);
      offset += (bytes + 31) / 32 * 32;
    };
    const auto u = [](std::int32_t value) { return static_cast<std::uint64_t>(value); };
    add("token_embd", u(c.width), embedding_rows != 0 ? embedding_rows : u(c.vocabulary));
    add("output_norm", u(c.width), 0);
    for (std::int32_t i = 0; i < c.layers; ++i) {
      const std::string block = StrCat("blk.", i, ".");
      for (const char* name : {"attn_norm", "post_attention_norm", "ffn_norm", "post_ffw_norm"}) {
        add(block + name, u(c.width), 0);
      }
      for (const char* name : {"attn_q_norm", "attn_k_norm"}) add(block + name, u(c.head_dim), 0);
      add(block + "attn_q", u(c.width), u(c.queries_width()));
      for (const char* name : {"attn_k", "attn_v"}) add(block + name, u(c.width), u(c.kv_width()));
      add(block + "attn_output", u(c.queries_width()), u(c.width));
      for (const char* name : {"ffn_gate", "ffn_up"}) add(block + name, u(c.width), u(c.ff_width));
      add(block + "ffn_down", u(c.ff_width), u(c.width));
    }
    const Bytes header = b.Header();
    size_ = header.size() + 64 + offset;
    memory_ = ::mmap(nullptr, size_, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    REQUIRE(memory_ != MAP_FAILED);
    std::memcpy(memory_, header.data(), header.size());
  }
  HollowFile(const HollowFile&) = delete;
  HollowFile& operator=(const HollowFile&) = delete;
  ~HollowFile() { ::munmap(memory_, size_); }

  Import Read() const {
    const Result<Gguf> gguf = Gguf::Parse({static_cast<const std::uint8_t*>(memory_), size_});
    if (!gguf) FAIL(gguf.error().message);
    Result<Import> import = ImportGguf(*gguf);
    if (!import) FAIL(import.error().message);
    return *std::move(import);
  }

 private:
  void* memory_ = nullptr;
  std::size_t size_ = 0;
};

TEST_CASE("the five published sizes are recognised by their shapes") {
  for (const KnownModel& model : kKnownModels) {
    CAPTURE(std::string(model.name));
    const Import import = HollowFile(model.config, 0).Read();
    CHECK(DescribeDifference(model.config, import.config) == "");
    CHECK(NameOf(import.config) == model.name);
    CHECK(import.warnings ==
          std::vector<std::string>{"the file has no tokenizer (tokenizer.ggml.tokens is missing)"});
    CHECK(import.tensors.size() == static_cast<std::size_t>(13 * model.config.layers + 2));
    CHECK(import.license.find("ai.google.dev/gemma/terms") != std::string::npos);
  }
}

TEST_CASE("metadata that contradicts a published size is reported and not followed") {
  Config wrong = Gemma3_4B::kConfig;
  wrong.window = 512;
  wrong.context = 8192;
  wrong.rope_base_local = 1'000'000;
  wrong.rope_factor_global = 1;  // not written at all then
  const Import import = HollowFile(wrong, 0).Read();
  CHECK(import.config == Gemma3_4B::kConfig);
  CHECK(Warns(import, "gemma3.rope.scaling.factor is missing, which means 1, Gemma 3 4B uses 8"));
  CHECK(Warns(import, "gemma3.attention.sliding_window is 512, Gemma 3 4B uses 1024"));
  CHECK(Warns(import, "gemma3.context_length is 8192, Gemma 3 4B uses 131072"));
  CHECK(Warns(import, "gemma3.rope.freq_base_swa is 1000000, Gemma 3 4B uses 10000"));
  CHECK(import.warnings.size() == 5);

  // The factor where it does not belong.
  Config stretched = Gemma3_1B::kConfig;
  stretched.rope_factor_global = 8;
  const Import one = HollowFile(stretched, 0).Read();
  CHECK(one.config == Gemma3_1B::kConfig);
  CHECK(Warns(one, "gemma3.rope.scaling.factor is 8, Gemma 3 1B uses 1"));

  // Without a single number in the metadata, shapes are enough.
  std::vector<std::string> all;
  for (const char* key :
       {"block_count", "context_length", "embedding_length", "feed_forward_length",
        "attention.head_count", "attention.head_count_kv", "attention.key_length",
        "attention.value_length", "attention.sliding_window", "attention.layer_norm_rms_epsilon",
        "rope.freq_base", "rope.freq_base_swa", "rope.scaling.factor"}) {
    all.push_back(StrCat("gemma3.", key));
  }
  CHECK(HollowFile(Gemma3_27B::kConfig, 0, all).Read().config == Gemma3_27B::kConfig);
}

TEST_CASE("an embedding without the rows behind the text is filled up") {
  const Import import = HollowFile(Gemma3_4B::kConfig, 262'144).Read();
  CHECK(import.config == Gemma3_4B::kConfig);
  CHECK(Warns(import, "the embedding has 262144 rows, Gemma 3 4B has 262208"));
  CHECK(import.tensors[0].name == "embedding");
  CHECK(import.tensors[0].rows == 262'208);
  CHECK(import.tensors[0].source_rows == 262'144);
  // Whole panels of zeros, and nothing of the source.
  const std::vector<internal::PackSlice> slices =
      internal::CutIntoSlices(std::span(import.tensors).first(1));
  std::size_t rows = 0, panels = 0;
  for (const internal::PackSlice& slice : slices) {
    rows += slice.source.size() / SourceRowBytes(kQ4_0Spec, 2560);
    panels += slice.count;
  }
  CHECK(rows == 262'144);
  CHECK(panels == 262'208 / 16);
  const PackedMatrix shape{.format = Format::kQ4_0, .rows = 262'208, .cols = 2560};
  Bytes packed(4 * shape.panel_bytes(), 0xEE);
  internal::PackTensor(import.tensors[0], 262'144 / 16, 4, packed.data());
  CHECK(packed == Bytes(packed.size()));

  // The other way round, rows that no text reaches are left out.
  const Import fewer = HollowFile(Gemma3_1B::kConfig, 262'208).Read();
  CHECK(fewer.config == Gemma3_1B::kConfig);
  CHECK(Warns(fewer, "the embedding has 262208 rows, Gemma 3 1B has 262144: the rest is left out"));
  CHECK(fewer.tensors[0].rows == 262'144);
  CHECK(fewer.tensors[0].source_rows == 262'144);
  CHECK(fewer.tensors[0].source.size() == 262'144 * SourceRowBytes(kQ4_0Spec, 1152));

  // Any other number makes a model of its own, but still one of this size.
  const Import more = HollowFile(Gemma3_27B::kConfig, 262'400).Read();
  CHECK(more.config.vocabulary == 262'400);
  CHECK(more.config.query_pre_attn_scalar == 168);
  CHECK(Warns(more, "taken as a model with another vocabulary"));
}

TEST_CASE("a custom model gets its Config from shapes and metadata") {
  const Imported tiny = Accepted(BuildGemma(kTinyConfig, Format::kQ8_0));
  CHECK(DescribeDifference(kTinyConfig, tiny.import.config) == "");
  CHECK(tiny.import.warnings.empty());
  CHECK(NameOf(tiny.import.config) == "custom");

  std::set<std::string> names;
  for (const ImportTensor& tensor : tiny.import.tensors) names.insert(tensor.name);
  CHECK(names.size() == 13 * 3 + 2);
  for (const char* name :
       {"embedding", "final_norm", "layers.2.attention_norm", "layers.0.q", "layers.1.k",
        "layers.2.v", "layers.0.q_norm", "layers.1.k_norm", "layers.2.attention_out",
        "layers.0.post_attention_norm", "layers.1.ff_norm", "layers.2.gate", "layers.0.up",
        "layers.1.down", "layers.2.post_ff_norm"}) {
    CAPTURE(name);
    CHECK(names.contains(name));
  }

  // What metadata need not say.
  GgufBuilder b = BuildGemma(kTinyConfig, Format::kQ8_0);
  for (const char* key : {"attention.query_pre_attn_scalar", "attention.sliding_window_pattern",
                          "rope.freq_base", "rope.freq_base_swa", "rope.scaling.factor",
                          "rope.scaling.type", "attention.layer_norm_rms_epsilon"}) {
    b.Remove(StrCat("gemma3.", key));
  }
  Config expected = kTinyConfig;
  expected.query_pre_attn_scalar = 32;
  expected.global_every = 6;
  expected.rope_base_local = 10'000;
  expected.rope_base_global = 1'000'000;
  expected.rope_factor_global = 1;
  expected.norm_epsilon = 1e-6;
  CHECK(DescribeDifference(expected, Accepted(b).import.config) == "");

  // Other names for the same.
  b.Set<float>("gemma3.attention.scale", 0.2041241452f);  // 24^-1/2
  b.Set<float>("gemma3.rope.local.freq_base", 5'000);
  b.Set<float>("gemma3.rope.global.freq_base", 70'000);
  b.SetArray<bool>("gemma3.attention.sliding_window_pattern", {true, false, true});
  expected.query_pre_attn_scalar = 24;
  expected.rope_base_local = 5'000;
  expected.rope_base_global = 70'000;
  expected.global_every = 2;
  CHECK(DescribeDifference(expected, Accepted(b).import.config) == "");
  b.SetArray<bool>("gemma3.attention.sliding_window_pattern", {true, true, true});
  CHECK(CountLayers(Accepted(b).import.config, LayerKind::kGlobal) == 0);
}

TEST_CASE("a custom model with impossible metadata is refused") {
  const auto with = [](auto&& change) {
    GgufBuilder b = BuildGemma(kTinyConfig, Format::kQ8_0);
    change(b);
    return Refused(b);
  };
  Says(with([](GgufBuilder& b) { b.Remove("gemma3.context_length"); }), ErrorCode::kCorrupt,
       "gemma3.context_length is missing");
  Says(with([](GgufBuilder& b) { b.Set<std::uint32_t>("gemma3.attention.sliding_window", 0); }),
       ErrorCode::kCorrupt, "sliding_window is 0");
  Says(with([](GgufBuilder& b) { b.Set<float>("gemma3.rope.freq_base", 0); }), ErrorCode::kCorrupt,
       "rope_base_global is 0");
  Says(with([](GgufBuilder& b) { b.Set<float>("gemma3.rope.scaling.factor", -1); }),
       ErrorCode::kCorrupt, "rope_factor_global is -1");
  Says(with([](GgufBuilder& b) { b.SetText("gemma3.rope.scaling.type", "yarn"); }),
       ErrorCode::kUnsupported, "yarn, expected linear or none");
  Says(with([](GgufBuilder& b) { b.Set<float>("gemma3.attention.query_pre_attn_scalar", 0.5f); }),
       ErrorCode::kCorrupt, "query scale");
  Says(with([](GgufBuilder& b) {
         b.SetArray<bool>("gemma3.attention.sliding_window_pattern", {false, true, false});
       }),
       ErrorCode::kUnsupported, "not regular");
  Says(with([](GgufBuilder& b) {
         b.SetArray<bool>("gemma3.attention.sliding_window_pattern", {true, false});
       }),
       ErrorCode::kUnsupported, "has 2 entries, expected one for each of 3 layers");
  Says(with([](GgufBuilder& b) {
         b.Set<std::uint32_t>("gemma3.attention.sliding_window_pattern", 0);
       }),
       ErrorCode::kUnsupported, "is 0");
}

TEST_CASE("what is not a Gemma 3 decoder is refused by name") {
  const auto with = [](auto&& change) {
    GgufBuilder b = BuildGemma(kTinyConfig, Format::kQ8_0);
    change(b);
    return Refused(b);
  };
  Says(with([](GgufBuilder& b) { b.SetText("general.architecture", "llama"); }),
       ErrorCode::kUnsupported, "general.architecture is llama, expected gemma3");
  Says(with([](GgufBuilder& b) { b.SetText("general.architecture", "clip"); }),
       ErrorCode::kUnsupported, "vision part");
  Says(with([](GgufBuilder& b) { b.Remove("general.architecture"); }), ErrorCode::kUnsupported,
       "missing");
  Says(with([](GgufBuilder& b) { b.Set<std::uint32_t>("split.count", 3); }),
       ErrorCode::kUnsupported, "one of 3 parts");
  std::vector<std::string> names;
  for (const auto& tensor : BuildGemma(kTinyConfig, Format::kQ8_0).tensors)
    names.push_back(tensor.name);
  for (const std::string& name : names) {
    CAPTURE(name);
    Says(with([&](GgufBuilder& b) {
           std::erase_if(b.tensors, [&](const auto& tensor) { return tensor.name == name; });
         }),
         ErrorCode::kCorrupt, name + " is missing");
    // One row or value too many. For the tensors that decide the shape, another one will be found
    // wrong; the embedding alone may have any number of rows.
    if (name == "token_embd.weight") continue;
    const Error error = with([&](GgufBuilder& b) {
      GgufBuilder::Tensor& tensor = *b.Find(name);
      tensor.dims.back() += 1;
      tensor.data.resize(tensor.data.size() * 2);
    });
    INFO(error.message);
    CHECK(error.code == ErrorCode::kCorrupt);
  }
  Says(with([](GgufBuilder& b) {
         b.Find("blk.1.ffn_down.weight")->dims = {160, 95};
       }),
       ErrorCode::kCorrupt, "blk.1.ffn_down.weight: expected the shape [96, 160], found [95, 160]");
  Says(with([](GgufBuilder& b) { b.Set<std::uint32_t>("gemma3.block_count", 4); }),
       ErrorCode::kCorrupt, "block_count is 4, but the file has tensors of only 3 layers");
  // MXFP4: 17 bytes for 32 values, well-formed but not read.
  Says(with([](GgufBuilder& b) { b.Find("blk.2.attn_v.weight")->type = 39; }),
       ErrorCode::kUnsupported,
       "blk.2.attn_v.weight has type MXFP4, expected one of F32, F16, BF16, Q4_0");
  Says(with([](GgufBuilder& b) {
         std::mt19937 random(1);
         std::erase_if(b.tensors,
                       [](const auto& tensor) { return tensor.name == "output_norm.weight"; });
         AddTensor(b, "output_norm.weight", {96}, Format::kQ8_0, random);
       }),
       ErrorCode::kUnsupported, "output_norm.weight has type Q8_0, expected one of F32, F16, BF16");
}

TEST_CASE("contradictions of a custom model and unknown tensors are reported") {
  GgufBuilder b = BuildGemma(kTinyConfig, Format::kQ8_0);
  std::mt19937 random(1);
  for (int i = 0; i < 20; ++i) AddTensor(b, StrCat("v.blk.", i), {4}, Format::kF32, random);
  b.Set<std::uint32_t>("gemma3.embedding_length", 64);
  b.SetText("gemma3.attention.head_count", "four");
  const Imported result = Accepted(b);
  CHECK(result.import.config == kTinyConfig);
  CHECK(Warns(result.import, "gemma3.embedding_length is 64, the shape of the tensors uses 96"));
  CHECK(Warns(result.import, "gemma3.attention.head_count has type string, expected a number"));
  CHECK(Warns(result.import,
              "20 tensors are not part of a Gemma 3 model and left out: v.blk.0, v.blk.1"));
  CHECK(result.import.warnings.size() == 3);
  CHECK(result.import.warnings.back().size() < 200);
}

TEST_CASE("an output head is accepted only as a copy of the embedding") {
  GgufBuilder b = BuildGemma(kTinyConfig, Format::kQ8_0);
  GgufBuilder::Tensor head = *b.Find("token_embd.weight");
  head.name = "output.weight";
  b.tensors.push_back(head);
  const Imported copy = Accepted(b);
  CHECK(copy.import.warnings.empty());
  CHECK(copy.import.tensors.size() == 13 * 3 + 2);
  b.tensors.back().data[1000] ^= 1;
  Says(Refused(b), ErrorCode::kUnsupported, "output.weight");
  b.tensors.back().data[1000] ^= 1;
  b.tensors.back().dims = {96, 36};
  Says(Refused(b), ErrorCode::kUnsupported, "output.weight");
}

TEST_CASE("the tokenizer is read in the types that files have it in") {
  GgufBuilder b = BuildGemma(kTinyConfig, Format::kQ8_0);
  const Imported usual = Accepted(b);
  REQUIRE(usual.import.vocabulary);
  const Vocabulary& vocabulary = *usual.import.vocabulary;
  REQUIRE(vocabulary.pieces.size() == 37);
  CHECK(vocabulary.pieces[5] == "\xE2\x96\x81the");
  CHECK(vocabulary.pieces[7].empty());
  CHECK(vocabulary.scores[5] == -1.25f);
  CHECK(vocabulary.types[2] == PieceType::kControl);
  CHECK(vocabulary.types[4] == PieceType::kUserDefined);
  CHECK(vocabulary.types[6] == PieceType::kByte);

  SECTION("scores as uint8, types as uint32") {
    b.SetArray("tokenizer.ggml.scores", std::vector<std::uint8_t>(37, 9));
    b.SetArray("tokenizer.ggml.token_type", std::vector<std::uint32_t>(37, 4));
    const Imported other = Accepted(b);
    CHECK(other.import.vocabulary->scores == std::vector<float>(37, 9.0f));
    CHECK(other.import.vocabulary->types[36] == PieceType::kUserDefined);
  }
  SECTION("no types") {
    b.Remove("tokenizer.ggml.token_type");
    const Imported other = Accepted(b);
    CHECK(other.import.vocabulary->types[2] == PieceType::kNormal);
    CHECK(Warns(other.import, "token_type is missing"));
  }
  SECTION("fewer pieces than rows") {
    b.SetTexts("tokenizer.ggml.tokens", testing::SomePieces(30));
    b.SetArray("tokenizer.ggml.scores", std::vector<float>(30));
    b.SetArray("tokenizer.ggml.token_type", std::vector<std::int32_t>(30, 1));
    CHECK(Accepted(b).import.vocabulary->pieces.size() == 30);
  }
  SECTION("more pieces than rows") {
    b.SetTexts("tokenizer.ggml.tokens", testing::SomePieces(40));
    b.SetArray("tokenizer.ggml.scores", std::vector<float>(40));
    b.SetArray("tokenizer.ggml.token_type", std::vector<std::int32_t>(40, 1));
    const Imported other = Accepted(b);
    CHECK(other.import.vocabulary->pieces.size() == 37);
    CHECK(other.import.vocabulary->types.size() == 37);
    CHECK(other.import.vocabulary->scores.size() == 37);
    CHECK(Warns(other.import, "the tokenizer has 40 pieces, the embedding 37 rows"));
  }
  SECTION("none, or one of another kind") {
    b.SetText("tokenizer.ggml.model", "gpt2");
    const Imported other = Accepted(b);
    CHECK_FALSE(other.import.vocabulary);
    CHECK(Warns(other.import, "tokenizer.ggml.model is gpt2"));
    b.Remove("tokenizer.ggml.tokens");
    CHECK_FALSE(Accepted(b).import.vocabulary);
  }
  SECTION("broken") {
    b.SetArray("tokenizer.ggml.scores", std::vector<float>(36));
    Says(Refused(b), ErrorCode::kCorrupt, "scores has 36 entries, tokenizer.ggml.tokens has 37");
    b.SetTexts("tokenizer.ggml.scores", std::vector<std::string>(37));
    Says(Refused(b), ErrorCode::kCorrupt, "scores has type array of string");
    b.SetArray("tokenizer.ggml.scores",
               std::vector<float>(37, std::numeric_limits<float>::quiet_NaN()));
    Says(Refused(b), ErrorCode::kCorrupt, "scores is not a number at 0");
    b.SetArray("tokenizer.ggml.scores", std::vector<float>(37));
    b.SetArray("tokenizer.ggml.token_type", std::vector<std::int32_t>(37, 7));
    Says(Refused(b), ErrorCode::kCorrupt, "token_type is 7 at 0");
    b.Set<std::uint32_t>("tokenizer.ggml.token_type", 1);
    Says(Refused(b), ErrorCode::kCorrupt, "token_type has type uint32");
    b.Remove("tokenizer.ggml.token_type");
    b.SetArray("tokenizer.ggml.tokens", std::vector<std::int32_t>(37));
    Says(Refused(b), ErrorCode::kCorrupt, "tokens has type array of int32");
  }
}

}  // namespace
}  // namespace lapidary
