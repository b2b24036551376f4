// The image encoder and prompts with pictures, against transformers
// (tests/golden/make_tiny_vision.py, which prints by how much mistakes would miss the bounds here),
// and what must not change the answers.
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tests/model/measure.h"
#include "tests/support/catch.h"
#include "tests/support/formula_picture.h"
#include "tests/support/golden.h"
#include "tests/support/tiny_vision.h"

namespace lapidary::testing {
namespace {

constexpr bool kBrain = HWY_STATIC_DISPATCH(kHasBF16Dot);
constexpr std::size_t kVocabulary = TinyVisionModel::kConfig.vocabulary;

ImageEmbedding Encode(const Model<TinyVisionModel>& model, std::string_view kind) {
  Result<ImageEmbedding> image = model.EncodeImage(FormulaPicture(kind, 140, 140));
  INFO((image ? "" : image.error().message));
  REQUIRE(image.ok());
  return *std::move(image);
}

std::vector<float> AllLogits(Session<TinyVisionModel>& session, const Prompt& prompt,
                             std::size_t rows = 64) {
  std::vector<float> all;
  const Status status = session.PrefillWithLogits(
      prompt,
      [&](std::size_t index, std::span<const float> logits) {
        REQUIRE(all.size() == index * kVocabulary);
        all.insert(all.end(), logits.begin(), logits.end());
        return true;
      },
      rows);
  INFO((status ? "" : status.error().message));
  REQUIRE(status.ok());
  return all;
}

struct GoldenPrompt {
  Prompt prompt;
  std::vector<std::size_t> rows;
  std::vector<float> logits;  // [rows, vocabulary]
};

// The prompts of the golden file, "one" and "two" pictures, with pictures of this model.
GoldenPrompt LoadPrompt(const Model<TinyVisionModel>& model, std::string_view name) {
  const nlohmann::json golden = ReadGoldenJson("tiny_vision.json");
  for (const nlohmann::json& entry : golden.at("prompts")) {
    if (entry.at("name").get<std::string>() != name) continue;
    GoldenPrompt prompt;
    entry.at("ids").get_to(prompt.prompt.ids);
    entry.at("rows").get_to(prompt.rows);
    for (const std::size_t i : entry.at("pictures").get<std::vector<std::size_t>>()) {
      const auto kind = golden.at("pictures").at(i).at("kind").get<std::string>();
      prompt.prompt.images.push_back(Encode(model, kind));
    }
    prompt.logits = ReadGoldenFloats(entry.at("logits").get<std::string>());
    return prompt;
  }
  throw std::runtime_error("no prompt " + std::string(name));
}

TEST_CASE("the encoder gives the soft tokens of transformers") {
  const Model<TinyVisionModel> model = OpenTinyVision({.threads = 2});
  const nlohmann::json golden = ReadGoldenJson("tiny_vision.json");
  for (const nlohmann::json& entry : golden.at("pictures")) {
    const ImageEmbedding image = Encode(model, entry.at("kind").get<std::string>());
    REQUIRE(image.parts() == 1);
    REQUIRE(image.soft_tokens() == 16);
    REQUIRE(image.width() == 256);
    const Errors errors =
        Compare(image.values(), ReadGoldenFloats(entry.at("embedding").get<std::string>()));
    CAPTURE(errors.max, errors.rms);
    // The reference rounds keys and values to bf16 as we do; what remains are f32 roundings that
    // now and then push one to its other neighbour. Measured with AVX2: 3.5e-5; GELU in its other
    // form would be 3.5e-4. Native bf16 rounds every input of a product.
    CHECK(errors.max < (kBrain ? 0.05 : 1e-4));
  }
}

TEST_CASE("prompts with pictures give the logits of transformers") {
  const Model<TinyVisionModel> model = OpenTinyVision({.threads = 2});
  for (const char* name : {"one", "two"}) {
    const GoldenPrompt golden = LoadPrompt(model, name);
    Session session(model);
    const std::vector<float> logits = AllLogits(session, golden.prompt);
    std::vector<float> kept;
    for (const std::size_t row : golden.rows) {
      const auto from = logits.begin() + static_cast<std::ptrdiff_t>(row * kVocabulary);
      kept.insert(kept.end(), from, from + static_cast<std::ptrdiff_t>(kVocabulary));
    }
    const Errors errors = Compare(kept, golden.logits);
    CAPTURE(name, errors.max, errors.rms);
    // As in golden_test.cpp. Measured with AVX2: 0.015 and 0.0028, with bf16 products (of the
    // encoder too) 0.038 and 0.0080. A causal mask inside pictures would be 3.3, pictures that see
    // each other 3.6.
    CHECK(errors.max < (kBrain ? 0.07 : 0.03));
    CHECK(errors.rms < (kBrain ? 0.015 : 0.005));
  }
}

TEST_CASE("the number of threads changes nothing in a picture") {
  const ImageEmbedding expected = Encode(OpenTinyVision({.threads = 1}), "noise");
  for (const std::size_t threads : {2, 3, 5}) {
    CHECK(SameBits(Encode(OpenTinyVision({.threads = threads}), "noise").values(),
                   expected.values()));
  }
}

TEST_CASE("logits do not depend on the size of the chunks: pictures are never divided") {
  std::vector<float> expected;
  for (const std::size_t chunk : {512, 16, 17, 20, 33, 64}) {
    const Model<TinyVisionModel> model = OpenTinyVision({.threads = 1, .chunk = chunk});
    const GoldenPrompt golden = LoadPrompt(model, "two");
    Session session(model);
    const std::vector<float> logits = AllLogits(session, golden.prompt, chunk);
    if (expected.empty()) expected = logits;
    CAPTURE(chunk);
    CHECK(SameBits(logits, expected));
    Session last(model);
    REQUIRE(last.Prefill(golden.prompt).ok());
    CHECK(SameBits(last.logits(), std::span(expected).last(kVocabulary)));
    // The number of rows at a time is at least that of a picture.
    Session few(model);
    CHECK(SameBits(AllLogits(few, golden.prompt, 1), expected));
  }
}

TEST_CASE("pictures over several turns, and a picture that is used again") {
  const Model<TinyVisionModel> model = OpenTinyVision({.threads = 2});
  const GoldenPrompt golden = LoadPrompt(model, "two");
  Session whole(model);
  REQUIRE(whole.Prefill(golden.prompt).ok());
  // The same sequence in two calls, cut between the pictures (position 66).
  const std::vector<std::int32_t>& ids = golden.prompt.ids;
  const Prompt first = {{ids.begin(), ids.begin() + 66}, {golden.prompt.images[0]}};
  const Prompt second = {{ids.begin() + 66, ids.end()}, {golden.prompt.images[1]}};
  Session turns(model);
  REQUIRE(turns.Prefill(first).ok());
  REQUIRE(turns.Prefill(second).ok());
  CHECK(SameBits(turns.logits(), whole.logits()));

  // Back to a position inside the second picture: that is its first row.
  CHECK(turns.Rewind(75) == 68);
  CHECK(turns.position() == 68);
  const Prompt again = {{ids.begin() + 68, ids.end()}, {golden.prompt.images[1]}};
  REQUIRE(turns.Prefill(again).ok());
  CHECK(SameBits(turns.logits(), whole.logits()));
  CHECK(turns.Rewind(68) == 68);
  CHECK(turns.Rewind(67) == 67);
}

TEST_CASE("prompts whose pictures do not fit are errors and change nothing") {
  const Model<TinyVisionModel> model = OpenTinyVision({.threads = 1});
  const ImageEmbedding image = Encode(model, "noise");
  Session session(model, 40);
  REQUIRE(session.Prefill(std::vector<std::int32_t>{2, 5, 6, 7}).ok());
  const std::vector<float> logits = Copy(session.logits());
  const auto refused = [&](const Prompt& prompt, ErrorCode code) {
    const Status status = session.Prefill(prompt);
    REQUIRE(!status.ok());
    CHECK(status.error().code == code);
    CHECK(status.error().message.find('\n') == std::string::npos);
    CHECK(session.position() == 4);
    CHECK(SameBits(session.logits(), logits));
    return status.error().message;
  };
  const auto with = [&](std::size_t before, std::size_t soft_tokens, std::size_t after) {
    Ids ids(before, 9);
    ids.insert(ids.end(), soft_tokens, kImageSoftToken);
    ids.insert(ids.end(), after, 9);
    return ids;
  };
  refused({with(2, 16, 2), {}}, ErrorCode::kInvalidArgument);
  refused({with(2, 0, 2), {image}}, ErrorCode::kInvalidArgument);
  refused({with(2, 16, 2), {image, image}}, ErrorCode::kInvalidArgument);
  refused({with(2, 15, 2), {image}}, ErrorCode::kInvalidArgument);
  refused({with(2, 17, 0), {image}}, ErrorCode::kInvalidArgument);
  refused({{kImageSoftToken}, {}}, ErrorCode::kInvalidArgument);
  const ImageEmbedding other(4, 256, std::vector<float>(4 * 256));
  refused({with(2, 16, 2), {other}}, ErrorCode::kMismatch);
  const std::string full = refused({with(15, 16, 6), {image}}, ErrorCode::kContextFull);
  CHECK(full.find("37 needed, 36 free") != std::string::npos);
  CHECK(session.Decode(kImageSoftToken).error().code == ErrorCode::kInvalidArgument);
  REQUIRE(session.Prefill(Prompt{with(14, 16, 6), {image}}).ok());
  CHECK(session.position() == 40);

  const Model<TinyVisionModel> small = OpenTinyVision({.threads = 1, .chunk = 15});
  Session tight(small);
  const Status status = tight.Prefill(Prompt{with(2, 16, 2), {image}});
  REQUIRE(!status.ok());
  CHECK(status.error().message.find("steps of 16 tokens, found 15") != std::string::npos);

  const Model<TinyModel> text = OpenTiny<TinyModel>({}, {.threads = 1});
  Session blind(text);
  CHECK(blind.Prefill(Prompt{{2, 5}, {image}}).error().code == ErrorCode::kUnsupported);
}

TEST_CASE("a file without the encoder is for text only, with half of it it is damaged") {
  const std::vector<BlobPart> parts = TinyVisionParts();
  std::vector<BlobPart> text, half;
  for (const BlobPart& part : parts) {
    const bool vision = part.section.name.starts_with("vision.");
    if (!vision) text.push_back(part);
    if (part.section.name != "vision.layers.1.up_bias") half.push_back(part);
  }
  const Result<Model<TinyVisionModel>> model = OpenParts(text, {.threads = 1});
  REQUIRE(model.ok());
  CHECK(!model->has_vision());
  const Result<ImageEmbedding> image = model->EncodeImage(FormulaPicture("noise", 10, 10));
  REQUIRE(!image.ok());
  CHECK(image.error().code == ErrorCode::kUnsupported);
  Session session(*model);
  CHECK(session.Prefill(std::vector<std::int32_t>{2, 5}).ok());

  const Result<Model<TinyVisionModel>> damaged = OpenParts(half);
  REQUIRE(!damaged.ok());
  CHECK(damaged.error().code == ErrorCode::kCorrupt);
  CHECK(damaged.error().message.find("vision.layers.1.up_bias") != std::string::npos);
}

TEST_CASE("Pan & Scan adds the crops as further parts") {
  const Model<TinyVisionModel> model = OpenTinyVision({.threads = 2});
  const Picture picture = FormulaPicture("waves", 600, 300);
  const Result<ImageEmbedding> plain = model.EncodeImage(picture);
  const Result<ImageEmbedding> crops = model.EncodeImage(picture, {.pan_and_scan = true});
  REQUIRE((plain.ok() && crops.ok()));
  REQUIRE(plain->parts() == 1);
  REQUIRE(crops->parts() == 3);
  CHECK(SameBits(crops->part(0), plain->part(0)));
  const Result<ImageEmbedding> right = model.EncodeImage(*Crop(picture, {300, 0, 300, 300}));
  CHECK(SameBits(crops->part(2), right->part(0)));
}

}  // namespace
}  // namespace lapidary::testing
