// Guessing: what is guessed, when, and that texts do not depend on it.
#include "lapidary/generate/speculation.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "tests/support/catch.h"
#include "tests/support/synthetic_gguf.h"
#include "tests/support/tiny_model.h"

namespace lapidary::testing {
namespace {

TEST_CASE("prompt lookup continues the longest match, of equal ones the last") {
  const PromptLookup lookup;
  CHECK(lookup(Ids{}, 3).empty());
  CHECK(lookup(Ids{1, 2}, 3).empty());
  CHECK(lookup(Ids{1, 2, 3, 4}, 3).empty());
  // One token is no match.
  CHECK(lookup(Ids{5, 6, 7, 5}, 3).empty());
  CHECK(lookup(Ids{0, 1, 2, 3, 4, 5, 0, 1, 2}, 3) == Ids{3, 4, 5});
  CHECK(lookup(Ids{0, 1, 2, 3, 4, 5, 0, 1, 2}, 2) == Ids{3, 4});
  CHECK(lookup(Ids{0, 1, 2, 3, 4, 5, 0, 1, 2}, 0).empty());
  // Two tokens are one for a single guess.
  CHECK(lookup(Ids{1, 2, 3, 4, 5, 1, 2}, 3) == Ids{3});
  CHECK(lookup(Ids{1, 2, 3, 4, 5, 1, 2}, 0).empty());
  CHECK(lookup(Ids{1, 2, 3, 1, 2, 4, 1, 2}, 1) == Ids{4});
  CHECK(lookup(Ids{9, 1, 2, 3, 8, 1, 2, 4, 9, 1, 2}, 1) == Ids{3});
  // What follows may reach into the match itself, and behind the text it begins anew.
  CHECK(lookup(Ids{7, 7, 7}, 4) == Ids{7});
  CHECK(lookup(Ids{7, 7, 7, 7}, 4) == Ids{7, 7, 7, 7});
  CHECK(lookup(Ids{1, 2, 1, 2, 1}, 5) == Ids{2, 1, 2, 1, 2});
  CHECK(lookup(Ids{5, 1, 2, 3, 6, 1, 2, 3}, 6) == Ids{6, 1, 2, 3, 6, 1});
}

// Seconds of a text of `tokens` tokens when guesses come true with the probability p, a step of n
// tokens takes 1 + 0.04 (n - 1), and a step of one takes 1.
double Simulate(double p, std::size_t tokens, std::uint64_t seed) {
  std::size_t asked = 0;
  Speculation speculation([&](std::span<const std::int32_t>, std::size_t most) {
    asked = most;
    return Ids(most);
  });
  // To get here has taken some time, but not that of a step.
  double seconds = 1e-3;
  std::uint64_t draw = 0;
  for (std::size_t i = 0; i < tokens; ++i) {
    const std::size_t guesses = speculation.NextRound(Ids(3), seconds, tokens - 1 - i).size();
    CHECK(guesses <= std::min<std::size_t>(11, tokens - 1 - i));
    seconds += 1 + 0.04 * static_cast<double>(guesses);
    for (std::size_t j = 0; j < guesses && i + 1 < tokens; ++j, ++i) {
      if (static_cast<double>(StreamWord(seed, draw++) % 10'000) >= 10'000 * p) break;
      speculation.CameTrue();
    }
  }
  CHECK(speculation.guesses_true() <= speculation.guesses());
  return seconds;
}

TEST_CASE("guessing pays where it can and costs two rounds and a hundredth where it can not") {
  for (const std::size_t tokens : {100, 256, 2000}) {
    const double plain = static_cast<double>(tokens);
    // Losses of two steps and of a hundredth of the time that has passed, and one more round of 11
    // guesses, which is 0.44 steps, before it is known to lose.
    const double most = (plain + 2 + 0.44) / 0.99;
    for (const double p : {0.0, 0.01, 0.03}) CHECK(Simulate(p, tokens, 1) < most);
    CHECK(Simulate(0.5, tokens, 2) < 0.65 * plain);
    CHECK(Simulate(0.95, tokens, 3) < 0.3 * plain);
  }
}

const Model<TinyModel>& TheModel() {
  static const Model<TinyModel> model =
      OpenTiny<TinyModel>(TinyFormats::Uniform(Format::kQ8_0), {.threads = 1, .chunk = 32});
  return model;
}

GenerateResult Run(GenerateOptions options, const Model<TinyModel>& model = TheModel()) {
  options.max_tokens = 150;
  options.stop_at_end = false;
  Session<TinyModel> session(model);
  Result<GenerateResult> result = Generate(model, session, SomeIds(20, 387), options);
  INFO((result ? "" : result.error().message));
  REQUIRE(result.ok());
  // What the session holds is the text but for the last token, whatever was guessed.
  CHECK(session.position() == 20 + result->ids.size() - 1);
  return *std::move(result);
}

TEST_CASE("any guesses: the text is the same, greedy or drawn") {
  const std::vector<GenerateOptions> all = {
      {},
      {.sampling = {.temperature = 1, .top_k = 40, .seed = 1}},
      {.sampling = {.temperature = 0.7f, .top_k = 5, .top_p = 0.8f, .min_p = 0.05f, .seed = 2}},
      {.sampling = {.temperature = 1.2f, .seed = 3}},
      {.sampling = {.temperature = 1, .top_p = 0.9f, .seed = 4}},
      {.sampling = {.repetition_penalty = 1.2f}},
      {.logit_bias = {{7, 3}}},
      {.stop_strings = {"zz", "qx"}},
      {.log_probabilities = 3},
  };
  for (GenerateOptions plain : all) {
    plain.guess = nullptr;
    const GenerateResult expected = Run(plain);
    CHECK(expected.guesses == 0);
    // One that knows the text, one that is right now and then, one that always fails.
    Ids text = SomeIds(20, 387);
    text.insert(text.end(), expected.ids.begin(), expected.ids.end());
    for (const std::size_t every : {1, 3, 0}) {
      GenerateOptions options = plain;
      options.guess = [&](std::span<const std::int32_t> ids, std::size_t most) {
        Ids guesses;
        for (std::size_t i = 0; i < most && ids.size() + i < text.size(); ++i) {
          const bool right = every == 1 || (every == 3 && (ids.size() + i) % 3 != 0);
          guesses.push_back(right ? text[ids.size() + i] : (text[ids.size() + i] + 1) % 387);
        }
        return guesses;
      };
      const GenerateResult found = Run(options);
      CHECK(found.ids == expected.ids);
      CHECK(found.text == expected.text);
      CHECK(found.guesses > 0);
      // Whether guessing goes on depends on the time that it takes, its first round does not.
      if (every != 3) CHECK((found.guesses_true > 0) == (every == 1));
      REQUIRE(found.choices.size() == expected.choices.size());
      for (std::size_t i = 0; i < found.choices.size(); ++i) {
        CHECK(found.choices[i].log_probability == expected.choices[i].log_probability);
      }
    }
  }
}

TEST_CASE("no guess is asked for that comes behind the last token but one") {
  // The last is chosen from what the one before it gave, and never appended.
  std::size_t furthest = 0;
  const GenerateResult expected = Run({.guess = nullptr});
  Ids text = SomeIds(20, 387);
  text.insert(text.end(), expected.ids.begin(), expected.ids.end());
  GenerateOptions options;
  options.guess = [&](std::span<const std::int32_t> ids, std::size_t most) {
    furthest = std::max(furthest, ids.size() + most);
    const auto next = text.begin() + static_cast<std::ptrdiff_t>(ids.size());
    return Ids(next, next + static_cast<std::ptrdiff_t>(most));
  };
  const GenerateResult found = Run(options);
  CHECK(found.ids == expected.ids);
  CHECK(found.guesses == found.guesses_true);
  CHECK(furthest <= 20 + 150 - 1);
}

TEST_CASE("a draft model, whatever it drafts, and prompt lookup change no text") {
  const Model<TinyModel> other = OpenTiny<TinyModel>(kTinyQ4K, {.threads = 1, .chunk = 8});
  for (const float temperature : {0.0f, 1.0f}) {
    const GenerateOptions plain = {.sampling = {.temperature = temperature, .top_k = 30, .seed = 5},
                                   .guess = nullptr};
    const GenerateResult expected = Run(plain);
    for (const Model<TinyModel>* model : {&TheModel(), &other}) {
      GenerateOptions options = plain;
      options.guess = DraftOf(std::make_shared<Session<TinyModel>>(*model));
      const GenerateResult found = Run(options);
      CHECK(found.ids == expected.ids);
      CHECK(found.guesses > 0);
      // A model that drafts for itself is always right when nothing is drawn.
      if (model == &TheModel() && temperature == 0) CHECK(found.guesses == found.guesses_true);
    }
    GenerateOptions options = plain;
    options.guess = GenerateOptions().guess;
    CHECK(Run(options).ids == expected.ids);
    CHECK(options.guess.target<PromptLookup>() != nullptr);
  }
}

}  // namespace
}  // namespace lapidary::testing
