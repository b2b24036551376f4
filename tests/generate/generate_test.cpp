// The generation loop and the chat, on a tiny model with random weights: what it says makes no
// sense, but it always says the same.
#include <algorithm>
#include <cstddef>
#include <cstdint>
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
  const auto empty = Generate(TheModel(), small, {}, {});
  REQUIRE(!empty.ok());
  CHECK(empty.error().code == ErrorCode::kInvalidArgument);
}

TEST_CASE("end tokens end the text and are not shown") {
  bool seen = false;
  for (std::uint64_t seed = 1; seed < 30; ++seed) {
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

// ---- Chat ----

TEST_CASE("the ids of a chat are those of the template, also when a reply ended by length") {
  const ChatTemplate turns = *ChatTemplate::Create(*TheModel().tokenizer());
  int ended = 0;
  for (const std::size_t max_tokens : {1, 2, 60}) {
    for (std::uint64_t seed = 1; seed < 8; ++seed) {
      const GenerateOptions options = {.max_tokens = max_tokens,
                                       .sampling = {.temperature = 10, .seed = seed}};
      const std::vector<std::string> questions = {"the first thing", "why?",
                                                  "a longer and other thing"};
      Chat chat(TheModel(), "be brief");
      Ids expected = turns.FirstTurn("be brief", questions[0]);
      for (std::size_t i = 0; i < questions.size(); ++i) {
        const auto reply = chat.Send(questions[i], {}, options);
        REQUIRE(reply.ok());
        REQUIRE(!reply->ids.empty());
        // The session holds the prompt and the reply but its last token.
        expected.insert(expected.end(), reply->ids.begin(), reply->ids.end() - 1);
        CHECK(std::ranges::equal(expected, chat.session().ids()));
        if (i + 1 == questions.size()) break;
        // What comes next: the rest of the reply, unless it is an end token, then the next turn.
        ended += reply->reason == StopReason::kEnd;
        if (reply->reason != StopReason::kEnd) expected.push_back(reply->ids.back());
        const Ids turn = turns.NextTurn(questions[i + 1]);
        expected.insert(expected.end(), turn.begin(), turn.end());
      }
    }
  }
  CHECK(ended > 0);
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
