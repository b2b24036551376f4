// The generation loop and the chat, on a tiny model with random weights: what it says makes no
// sense, but it always says the same.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <numeric>
#include <span>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "tests/support/catch.h"
#include "tests/support/synthetic_gguf.h"
#include "tests/support/tiny_model.h"

namespace lapidary::testing {
namespace {

const Model<TinyModel>& TheModel() {
  static const Model<TinyModel> model = OpenTiny<TinyModel>(kTinyQ4K, {.threads = 1, .chunk = 32});
  return model;
}

Ids Prompt(std::string_view text) {
  Ids ids = {kBos};
  const Ids rest = TheModel().tokenizer()->Encode(text);
  ids.insert(ids.end(), rest.begin(), rest.end());
  return ids;
}

struct Generated {
  GenerateResult result;
  std::vector<std::string> pieces;
  Ids session;
};

Generated Run(const GenerateOptions& options, std::string_view prompt = "the thing",
              std::size_t context = 0) {
  Session session(TheModel(), context);
  Generated generated;
  Result<GenerateResult> result =
      Generate(TheModel(), session, Prompt(prompt), options, [&](std::string_view piece) {
        generated.pieces.emplace_back(piece);
        return true;
      });
  INFO((result ? "" : result.error().message));
  REQUIRE(result.ok());
  generated.result = *std::move(result);
  generated.session.assign(session.ids().begin(), session.ids().end());
  return generated;
}

std::string Joined(const std::vector<std::string>& pieces) {
  std::string text;
  for (const std::string& piece : pieces) text += piece;
  return text;
}

TEST_CASE("greedy generation is prefill, then the best token again and again") {
  const GenerateOptions options = {.max_tokens = 40, .stop_at_end = false};
  const Generated generated = Run(options);
  const Ids prompt = Prompt("the thing");
  Session session(TheModel());
  Prefilled(session, prompt);
  Ids expected;
  while (expected.size() < 40) {
    const auto logits = session.logits();
    expected.push_back(
        static_cast<std::int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin()));
    REQUIRE(session.Decode(expected.back()).ok());
  }
  CHECK(generated.result.ids == expected);
  CHECK(generated.result.reason == StopReason::kMaxTokens);
  CHECK(generated.result.prompt_tokens == prompt.size());
  // All chosen tokens but the last are part of the session.
  Ids held = prompt;
  held.insert(held.end(), expected.begin(), expected.end() - 1);
  CHECK(generated.session == held);
  CHECK(Run(options).result.ids == expected);
}

TEST_CASE("the text is that of the ids, and the callback receives all of it in whole characters") {
  for (const std::uint64_t seed : {1, 2, 3, 4, 5}) {
    const Generated generated = Run(
        {.max_tokens = 150, .sampling = {.temperature = 1.5f, .seed = seed}, .stop_at_end = false});
    CHECK(Joined(generated.pieces) == generated.result.text);
    CHECK(generated.result.text == TheModel().tokenizer()->Decode(generated.result.ids));
    for (const std::string& piece : generated.pieces) {
      CHECK(!piece.empty());
      CHECK((static_cast<unsigned char>(piece[0]) & 0xC0) != 0x80);
    }
  }
}

TEST_CASE("seeds make draws reproducible") {
  const auto ids = [](std::uint64_t seed) {
    return Run({.max_tokens = 30,
                .sampling = {.temperature = 1, .top_k = 50, .seed = seed},
                .stop_at_end = false})
        .result.ids;
  };
  CHECK(ids(7) == ids(7));
  CHECK(ids(7) != ids(8));
}

TEST_CASE("no tokens, one token") {
  const Generated none = Run({.max_tokens = 0});
  CHECK(none.result.ids.empty());
  CHECK(none.result.text.empty());
  CHECK(none.result.reason == StopReason::kMaxTokens);
  CHECK(none.session == Prompt("the thing"));
  const Generated one = Run({.max_tokens = 1, .stop_at_end = false});
  CHECK(one.result.ids.size() == 1);
  CHECK(one.session == Prompt("the thing"));
}

TEST_CASE("the text ends before a stop string, wherever tokens end") {
  const Generated whole = Run({.max_tokens = 60, .stop_at_end = false});
  const std::string& text = whole.result.text;
  REQUIRE(text.size() > 30);
  for (const std::size_t at : {std::size_t{0}, std::size_t{3}, text.size() / 2, text.size() - 8}) {
    const std::string stop = text.substr(at, 7);
    const Generated generated =
        Run({.max_tokens = 60, .stop_strings = {"never", stop}, .stop_at_end = false});
    CAPTURE(text, stop);
    CHECK(generated.result.text == text.substr(0, text.find(stop)));
    CHECK(Joined(generated.pieces) == generated.result.text);
    CHECK(generated.result.reason == StopReason::kStopString);
  }
  // What is held back at the end appears.
  const std::string tail = text.substr(text.size() - 2);
  CHECK(
      Run({.max_tokens = 60, .stop_strings = {tail + "\x01"}, .stop_at_end = false}).result.text ==
      text);
}

TEST_CASE("a callback that returns false ends the text") {
  Session session(TheModel());
  int calls = 0;
  const auto result =
      Generate(TheModel(), session, Prompt("the"), {.max_tokens = 60, .stop_at_end = false},
               [&](std::string_view) { return ++calls < 3; });
  REQUIRE(result.ok());
  CHECK(calls == 3);
  CHECK(result->reason == StopReason::kCancelled);
  CHECK(result->ids.size() < 60);
}

TEST_CASE("a full context ends the text without an error; a prompt that does not fit is one") {
  const std::size_t prompt = Prompt("the thing").size();
  const Generated generated =
      Run({.max_tokens = 100, .stop_at_end = false}, "the thing", prompt + 5);
  CHECK(generated.result.reason == StopReason::kContextFull);
  CHECK(generated.result.ids.size() == 6);  // five in the context, and the one that they predict
  CHECK(generated.session.size() == prompt + 5);
  Session small(TheModel(), prompt - 1);
  const auto refused = Generate(TheModel(), small, Prompt("the thing"), {});
  REQUIRE(!refused.ok());
  CHECK(refused.error().code == ErrorCode::kContextFull);
  const auto empty = Generate(TheModel(), small, Ids(), {});
  REQUIRE(!empty.ok());
  CHECK(empty.error().code == ErrorCode::kInvalidArgument);
}

TEST_CASE("end tokens end the text and are not shown") {
  bool seen = false;
  for (std::uint64_t seed = 1; seed < 100; ++seed) {  // few of them meet an end
    const Generated generated =
        Run({.max_tokens = 100, .sampling = {.temperature = 2, .seed = seed}});
    const Ids& ids = generated.result.ids;
    const auto is_end = [](std::int32_t id) { return id == kEos || id == kEndOfTurn; };
    CHECK(std::none_of(ids.begin(), ids.end() - 1, is_end));
    CHECK(is_end(ids.back()) == (generated.result.reason == StopReason::kEnd));
    seen = seen || generated.result.reason == StopReason::kEnd;
    CHECK(generated.result.text.find("<end_of_turn>") == std::string::npos);
  }
  CHECK(seen);
}

TEST_CASE("without a vocabulary ids work and text is an error") {
  GgufBuilder file = TinyGgufBuilder(TinyModel::kConfig, kTinyQ4K);
  std::erase_if(file.metadata,
                [](const auto& entry) { return entry.key.starts_with("tokenizer."); });
  Result<Model<TinyModel>> model = OpenBytes<TinyModel>(file.Build(), {.threads = 1});
  INFO((model ? "" : model.error().message));
  REQUIRE(model.ok());
  CHECK(model->tokenizer() == nullptr);
  Session session(*model);
  const Ids ids = {2, 50, 51};
  const auto refused = Generate(*model, session, ids, {});
  REQUIRE(!refused.ok());
  CHECK(refused.error().code == ErrorCode::kUnsupported);
  CHECK(session.position() == 0);
  Session same(TheModel());
  CHECK(SameBits(Prefilled(session, ids), Prefilled(same, ids)));
  Chat chat(*model);
  CHECK(chat.Send("hi").error().code == ErrorCode::kUnsupported);
}

// ---- Bias, log-probabilities, cancelling ----

TEST_CASE("a bias forbids a token or forces one") {
  const GenerateOptions plain = {.max_tokens = 20, .stop_at_end = false};
  const Ids chosen = Run(plain).result.ids;
  GenerateOptions options = plain;
  const float infinity = std::numeric_limits<float>::infinity();
  options.logit_bias = {{chosen[0], -infinity}};
  const Ids others = Run(options).result.ids;
  CHECK(std::ranges::count(others, chosen[0]) == 0);
  options.sampling.temperature = 5;
  CHECK(std::ranges::count(Run(options).result.ids, chosen[0]) == 0);
  options.logit_bias = {{77, 1e6f}};
  CHECK(Run(options).result.ids == Ids(20, 77));
  for (const std::int32_t id : {-1, 387}) {
    Session session(TheModel());
    options.logit_bias = {{id, 1}};
    const auto refused = Generate(TheModel(), session, Prompt("the"), options);
    REQUIRE(!refused.ok());
    CHECK(refused.error().code == ErrorCode::kInvalidArgument);
    CHECK(session.position() == 0);
  }
}

// log(softmax(logits)[id]) in double.
double LogProbability(std::span<const float> logits, std::int32_t id) {
  const double max = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const float logit : logits) sum += std::exp(logit - max);
  return logits[static_cast<std::size_t>(id)] - max - std::log(sum);
}

TEST_CASE("log-probabilities of the chosen token and of the best, as the model gave them") {
  // What sampling does to the logits must not show.
  const GenerateOptions options = {
      .max_tokens = 25,
      .sampling = {.repetition_penalty = 2, .temperature = 2, .seed = 3},
      .logit_bias = {{77, 1}},
      .stop_at_end = false,
      .log_probabilities = 4};
  const GenerateResult result = Run(options).result;
  REQUIRE(result.choices.size() == result.ids.size());
  Session session(TheModel());
  Prefilled(session, Prompt("the thing"));
  for (std::size_t i = 0; i < result.ids.size(); ++i) {
    const std::span<const float> logits = session.logits();
    const TokenChoice& choice = result.choices[i];
    // Log-probabilities are floats around -6: 5e-7 is their rounding; the sum of e^x adds 2e-7.
    CHECK(std::abs(choice.log_probability - LogProbability(logits, result.ids[i])) < 3e-6);
    std::vector<std::int32_t> order(logits.size());
    std::iota(order.begin(), order.end(), 0);
    std::ranges::stable_sort(order, [&](auto a, auto b) { return logits[a] > logits[b]; });
    REQUIRE(choice.top.size() == 4);
    for (std::size_t k = 0; k < 4; ++k) {
      CHECK(choice.top[k].id == order[k]);
      CHECK(std::abs(choice.top[k].log_probability - LogProbability(logits, order[k])) < 3e-6);
    }
    REQUIRE(session.Decode(result.ids[i]).ok());
  }
  CHECK(Run({.max_tokens = 2}).result.choices.empty());
  GenerateOptions all = options;
  all.max_tokens = 1;
  all.log_probabilities = 1000;
  CHECK(Run(all).result.choices[0].top.size() == 387);
}

TEST_CASE("a stop token ends the text, or the prompt") {
  std::stop_source source;
  GenerateOptions options = {.max_tokens = 60, .stop_at_end = false, .cancel = source.get_token()};
  Session session(TheModel());
  int calls = 0;
  const auto result = Generate(TheModel(), session, Prompt("the"), options, [&](std::string_view) {
    if (++calls == 3) source.request_stop();
    return true;
  });
  REQUIRE(result.ok());
  CHECK(result->reason == StopReason::kCancelled);
  CHECK(result->ids.size() < 60);
  // A prompt of several chunks.
  Session other(TheModel());
  const auto cancelled = Generate(TheModel(), other, SomeIds(100, 387), options);
  REQUIRE(!cancelled.ok());
  CHECK(cancelled.error().code == ErrorCode::kCancelled);
  CHECK(other.position() == 32);
}

// ---- Continue, Score, Embed, GenerateBatch ----

TEST_CASE("a text goes on where it was interrupted") {
  const GenerateOptions whole = {.max_tokens = 30, .stop_at_end = false};
  const Ids expected = Run(whole).result.ids;
  Session session(TheModel());
  CHECK(Continue(TheModel(), session, whole).error().code == ErrorCode::kInvalidArgument);
  GenerateOptions part = whole;
  part.max_tokens = 12;
  const auto first = Generate(TheModel(), session, Prompt("the thing"), part);
  REQUIRE(first.ok());
  REQUIRE(session.Decode(first->ids.back()).ok());
  part.max_tokens = 18;
  const auto second = Continue(TheModel(), session, part);
  REQUIRE(second.ok());
  Ids ids = first->ids;
  ids.insert(ids.end(), second->ids.begin(), second->ids.end());
  CHECK(ids == expected);
}

TEST_CASE("the likelihood of a continuation is the sum of those of its tokens") {
  const Ids prompt = SomeIds(40, 387), continuation = SomeIds(50, 387, 2);
  Session session(TheModel());
  CHECK(Score(session, continuation).error().code == ErrorCode::kInvalidArgument);
  Prefilled(session, prompt);
  Session walk = session.Fork();
  const auto likelihood = Score(session, continuation);
  REQUIRE(likelihood.ok());
  REQUIRE(likelihood->log_probabilities.size() == 50);
  double total = 0;
  for (std::size_t i = 0; i < continuation.size(); ++i) {
    const double expected = LogProbability(walk.logits(), continuation[i]);
    CHECK(std::abs(likelihood->log_probabilities[i] - expected) < 3e-6);
    total += expected;
    REQUIRE(walk.Decode(continuation[i]).ok());
  }
  CHECK(std::abs(likelihood->total - total) < 1e-4);
  CHECK(!likelihood->is_greedy);
  CHECK(session.position() == 90);
  CHECK(SameBits(session.logits(), walk.logits()));

  Session best(TheModel());
  Prefilled(best, Prompt("the thing"));
  const Ids greedy = Run({.max_tokens = 10, .stop_at_end = false}).result.ids;
  CHECK(Score(best, greedy)->is_greedy);
  const std::vector<float> logits = Copy(best.logits());
  CHECK(Score(best, Ids()).error().code == ErrorCode::kInvalidArgument);
  CHECK(Score(best, Ids{387}).error().code == ErrorCode::kInvalidArgument);
  CHECK(Score(best, SomeIds(512, 387)).error().code == ErrorCode::kContextFull);
  CHECK(SameBits(best.logits(), logits));
}

TEST_CASE("an embedding is the mean of the hidden rows, or the last") {
  const Ids ids = SomeIds(75, 387);
  Session session(TheModel());
  std::vector<std::vector<float>> rows;
  REQUIRE(session
              .PrefillWithHidden(ids,
                                 [&](std::size_t, std::span<const float> row) {
                                   rows.emplace_back(row.begin(), row.end());
                                   return true;
                                 })
              .ok());
  const auto mean = Embed(TheModel(), ids);
  const auto last = Embed(TheModel(), ids, Pooling::kLast);
  REQUIRE(mean.ok());
  REQUIRE(last.ok());
  CHECK(*last == rows.back());
  REQUIRE(mean->size() == 256);
  for (std::size_t i = 0; i < mean->size(); ++i) {
    double sum = 0;
    for (const auto& row : rows) sum += row[i];
    // One rounding to f32 of a value below 16.
    CHECK(std::abs((*mean)[i] - sum / 75) < 1e-6);
  }
  CHECK(Embed(TheModel(), Ids()).error().code == ErrorCode::kInvalidArgument);
}

TEST_CASE("prompts of a batch give the texts that they give alone") {
  std::vector<lapidary::Prompt> prompts;
  for (std::size_t i = 0; i < 13; ++i) prompts.push_back({SomeIds(1 + 7 * i, 387, i), {}});
  prompts[4].ids.clear();                // refused, the others go on
  prompts[9].ids = SomeIds(90, 387, 3);  // longer than the context of 88
  for (const std::size_t sessions : {1, 3, 50}) {
    const BatchOptions options = {
        .generate = {.max_tokens = 20, .sampling = {.temperature = 1, .seed = 5}},
        .sessions = sessions,
        .context = 88};
    std::vector<int> seen(prompts.size());
    const Status status = GenerateBatch(
        TheModel(), prompts, options, [&](std::size_t i, const Result<GenerateResult>& result) {
          ++seen[i];
          Session session(TheModel(), 88);
          const auto alone = Generate(TheModel(), session, prompts[i], options.generate);
          CAPTURE(sessions, i);
          REQUIRE(result.ok() == alone.ok());
          if (!result) {
            CHECK((i == 4 || i == 9));
            CHECK(result.error().code == alone.error().code);
            return true;
          }
          CHECK(result->ids == alone->ids);
          CHECK(result->text == alone->text);
          CHECK(result->reason == alone->reason);
          CHECK(result->prompt_tokens == alone->prompt_tokens);
          return true;
        });
    REQUIRE(status.ok());
    CHECK(seen == std::vector<int>(prompts.size(), 1));
  }
  int results = 0;
  const Status cancelled = GenerateBatch(TheModel(), prompts, {.generate = {.max_tokens = 5}},
                                         [&](std::size_t, const auto&) { return ++results < 3; });
  REQUIRE(!cancelled.ok());
  CHECK(cancelled.error().code == ErrorCode::kCancelled);
  CHECK(GenerateBatch(TheModel(), {}, {}, {}).ok());
}

// ---- Chat ----

TEST_CASE("the ids of a chat are those of the template, however a reply ended") {
  const ChatTemplate turns = *ChatTemplate::Create(*TheModel().tokenizer());
  int ended = 0, retold = 0, spaced = 0;
  for (const std::size_t max_tokens : {1, 2, 60}) {
    for (std::uint64_t seed = 1; seed < 8; ++seed) {
      const GenerateOptions options = {.max_tokens = max_tokens,
                                       .sampling = {.temperature = 10, .seed = seed}};
      const std::vector<std::string> questions = {" the first thing", "why?",
                                                  "a longer and other thing\n"};
      Chat chat(TheModel(), "be brief");
      std::vector<ChatMessage> messages = {{Role::kSystem, "be brief"}};
      for (const std::string& question : questions) {
        const Ids before(chat.session().ids().begin(), chat.session().ids().end());
        messages.push_back({Role::kUser, question});
        const auto reply = chat.Send(question, {}, options);
        REQUIRE(reply.ok());
        REQUIRE(!reply->ids.empty());
        // The session holds the template's ids of everything up to the reply, and the reply as the
        // model wrote it, but its last token.
        Ids expected = *turns.Encode(messages);
        CHECK(reply->prompt_tokens <= expected.size());
        retold += !std::equal(before.begin(), before.end(), expected.begin());
        expected.insert(expected.end(), reply->ids.begin(), reply->ids.end() - 1);
        CHECK(std::ranges::equal(expected, chat.session().ids()));
        messages.push_back({Role::kModel, reply->text});
        ended += reply->reason == StopReason::kEnd;
        spaced += TrimWhitespace(reply->text) != reply->text;
      }
      REQUIRE(chat.messages().size() == messages.size());
      for (std::size_t i = 0; i < messages.size(); ++i) {
        CHECK(chat.messages()[i].content == messages[i].content);
        CHECK(chat.messages()[i].role == messages[i].role);
      }
      // And so are the logits.
      Session fresh(TheModel());
      CHECK(SameBits(Prefilled(fresh, chat.session().ids()), chat.session().logits()));
    }
  }
  // All that was to be seen was seen: replies that the model ended, replies that had to be read
  // again because their text is not spelled with these ids, white space at the ends.
  CHECK(ended > 0);
  CHECK(retold > 0);
  CHECK(spaced > 0);
}

TEST_CASE("a chat computes what is new only") {
  Chat chat(TheModel());
  const GenerateOptions options = {.max_tokens = 30};
  const auto first = chat.Send("hello", {}, options);
  REQUIRE(first.ok());
  const std::size_t held = chat.session().position();
  CHECK(first->prompt_tokens + first->ids.size() - 1 == held);
  const ChatTemplate turns = *ChatTemplate::Create(*TheModel().tokenizer());
  const auto second = chat.Send("and?", {}, options);
  REQUIRE(second.ok());
  const std::size_t whole =
      turns
          .Encode(std::vector<ChatMessage>{
              {Role::kUser, "hello"}, {Role::kModel, first->text}, {Role::kUser, "and?"}})
          ->size();
  // The first turn, in any case, is not read again.
  CHECK(second->prompt_tokens <= whole - first->prompt_tokens);
}

TEST_CASE("a chat that is reset begins anew, with its system text") {
  Chat chat(TheModel(), "be brief");
  const GenerateOptions options = {.max_tokens = 10};
  const auto first = chat.Send("hello", {}, options);
  REQUIRE(first.ok());
  REQUIRE(chat.Send("and?", {}, options).ok());
  chat.Reset();
  CHECK(chat.session().position() == 0);
  const auto again = chat.Send("hello", {}, options);
  REQUIRE(again.ok());
  CHECK(again->ids == first->ids);
}

TEST_CASE("a message that does not fit leaves the conversation as it was") {
  Chat chat(TheModel(), "", 100);
  const GenerateOptions options = {.max_tokens = 10};
  REQUIRE(chat.Send("hello", {}, options).ok());
  const std::size_t position = chat.session().position();
  const auto refused = chat.Send(std::string(200, 'x'), {}, options);
  REQUIRE(!refused.ok());
  CHECK(refused.error().code == ErrorCode::kContextFull);
  CHECK(chat.session().position() == position);
  CHECK(chat.Send("and?", {}, options).ok());
}

}  // namespace
}  // namespace lapidary::testing
