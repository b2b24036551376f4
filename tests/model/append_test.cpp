// Session::Append: guesses change nothing but the time that it takes.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "tests/support/catch.h"
#include "tests/support/synthetic_gguf.h"
#include "tests/support/tiny_model.h"

namespace lapidary::testing {
namespace {

using TinySession = Session<TinyModel>;

const Model<TinyModel>& TheModel() {
  static const Model<TinyModel> model =
      OpenTiny<TinyModel>(TinyFormats::Uniform(Format::kQ8_0), {.threads = 2, .chunk = 16});
  return model;
}

TEST_CASE("guesses change no logits, whether they come true or not") {
  const Ids ids = SomeIds(60, 387);
  TinySession plain(TheModel()), guessing(TheModel());
  Prefilled(plain, std::span(ids).first(5));
  Prefilled(guessing, std::span(ids).first(5));
  std::size_t true_guesses = 0;
  for (std::size_t i = 5; i < ids.size(); ++i) {
    // Up to 6 guesses, of which the first i % 5 come true; the last may be no id at all.
    Ids guesses;
    for (std::size_t j = 1; j <= i % 7 && i + j < ids.size(); ++j) {
      guesses.push_back(j <= i % 5 ? ids[i + j] : (ids[i + j] + 1) % 387);
    }
    guesses.push_back(i % 2 == 0 ? -1 : 387);
    true_guesses += guessing.Guessed(ids[i]);
    REQUIRE(guessing.Append(ids[i], guesses).ok());
    REQUIRE(plain.Append(ids[i]).ok());
    CHECK(guessing.position() == i + 1);
    CHECK(std::ranges::equal(guessing.ids(), plain.ids()));
    CAPTURE(i);
    if (i % 3 != 0) {
      CHECK(guessing.Best(3)[0].id == plain.Best(3)[0].id);
      CHECK(guessing.Best(3)[2].logit == plain.Best(3)[2].logit);
    }
    CHECK(SameBits(guessing.logits(), plain.logits()));
  }
  CHECK(true_guesses > 15);
}

TEST_CASE("forks, saved sessions, prompts and rewinding do not see guesses") {
  const Ids ids = SomeIds(40, 387);
  TinySession session(TheModel()), plain(TheModel());
  Prefilled(session, std::span(ids).first(20));
  Prefilled(plain, std::span(ids).first(20));
  REQUIRE(session.Append(ids[20], std::span(ids).subspan(21, 4)).ok());
  REQUIRE(plain.Append(ids[20]).ok());
  REQUIRE(session.Append(ids[21]).ok());
  REQUIRE(plain.Append(ids[21]).ok());
  REQUIRE(session.Guessed(ids[22]));
  Result<TinySession> restored = TinySession::Restore(TheModel(), session.Save());
  REQUIRE(restored.ok());
  CHECK(SameBits(restored->logits(), plain.logits()));
  CHECK(!restored->Guessed(ids[22]));
  TinySession fork = session.Fork(), other = session.Fork();
  const std::vector<float> expected = Decoded(plain, std::span(ids).subspan(22, 8));
  CHECK(SameBits(Decoded(fork, std::span(ids).subspan(22, 8)), expected));
  CHECK(SameBits(Decoded(*restored, std::span(ids).subspan(22, 8)), expected));
  CHECK(SameBits(Prefilled(other, std::span(ids).subspan(22, 8)), expected));
  CHECK(!other.Guessed(ids[22]));
  // An error leaves the guesses as they are.
  CHECK(!session.Append(-1).ok());
  CHECK(session.Guessed(ids[22]));
  CHECK(session.Rewind(21) == 21);
  CHECK(!session.has_logits());
  CHECK(!session.Guessed(ids[22]));
  CHECK(SameBits(Decoded(session, std::span(ids).subspan(21, 9)), expected));
}

TEST_CASE("guesses end where the context does, and where a step does") {
  const Ids ids = SomeIds(30, 387);
  TinySession session(TheModel(), 24);
  Prefilled(session, std::span(ids).first(21));
  REQUIRE(session.Append(ids[21], std::span(ids).subspan(22)).ok());
  REQUIRE(session.Guessed(ids[22]));
  REQUIRE(session.Append(ids[22]).ok());
  REQUIRE(session.Guessed(ids[23]));
  REQUIRE(session.Append(ids[23]).ok());
  CHECK(!session.Guessed(ids[24]));
  CHECK(session.Append(ids[24]).error().code == ErrorCode::kContextFull);

  TinySession longer(TheModel());  // steps of 16 tokens
  REQUIRE(longer.Append(ids[0], std::span(ids).subspan(1)).ok());
  std::size_t computed = 1;
  while (longer.Guessed(ids[computed])) REQUIRE(longer.Append(ids[computed++]).ok());
  CHECK(computed == 16);
}

TEST_CASE("the best tokens are the largest logits, however the embedding is stored") {
  for (const Format format : {Format::kQ8_0, Format::kQ6_K, Format::kBF16}) {
    const Model<TinyModel> model =
        OpenTiny<TinyModel>(TinyFormats::Uniform(format), {.threads = 1});
    TinySession session(model);
    CHECK(session.Best(5).empty());
    for (const std::int32_t id : SomeIds(20, 387)) {
      REQUIRE(session.Append(id).ok());
      const std::size_t count = 1 + static_cast<std::size_t>(id) % 400;
      TinySession whole = session.Fork();
      const std::vector<float> logits = Copy(whole.logits());
      std::vector<std::int32_t> order(387);
      for (std::size_t i = 0; i < order.size(); ++i) order[i] = static_cast<std::int32_t>(i);
      std::stable_sort(order.begin(), order.end(), [&](std::int32_t a, std::int32_t b) {
        return logits[static_cast<std::size_t>(a)] > logits[static_cast<std::size_t>(b)];
      });
      const auto best = session.Best(count);
      REQUIRE(best.size() == std::min<std::size_t>(count, 387));
      std::size_t wrong = 0;
      for (std::size_t i = 0; i < best.size(); ++i) {
        wrong +=
            best[i].id != order[i] || best[i].logit != logits[static_cast<std::size_t>(order[i])];
      }
      CHECK(wrong == 0);
      CHECK(session.Best(1)[0].id == order[0]);
      CHECK(SameBits(session.logits(), logits));
    }
  }
}

}  // namespace
}  // namespace lapidary::testing
