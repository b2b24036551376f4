// Sessions that are copied, saved, restored and given other prompts: each goes on as if it had been
// computed from its ids alone.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "lapidary/base/xxhash64.h"
#include "tests/support/catch.h"
#include "tests/support/formula_picture.h"
#include "tests/support/ring_model.h"
#include "tests/support/synthetic_gguf.h"
#include "tests/support/tiny_model.h"
#include "tests/support/tiny_vision.h"

namespace lapidary::testing {
namespace {

// What a fresh session says behind these ids and then `more`, token by token.
std::vector<float> Fresh(const Model<RingModel>& model, std::span<const std::int32_t> ids,
                         std::span<const std::int32_t> more) {
  Session session(model);
  Prefilled(session, ids);
  return Decoded(session, more);
}

TEST_CASE("forks go on in ways of their own, whoever writes first") {
  const Model<RingModel> model = OpenTiny<RingModel>(kRingFormats, {.threads = 2, .chunk = 64});
  const Ids ids = RingIds(900), one = RingIds(300, 2), other = RingIds(300, 3);
  std::optional<Session<RingModel>> session(model);
  Prefilled(*session, ids);
  Session<RingModel> fork = session->Fork();
  CHECK(std::ranges::equal(fork.ids(), ids));
  CHECK(SameBits(fork.logits(), session->logits()));
  const std::vector<float> expected_one = Fresh(model, ids, one);
  const std::vector<float> expected_other = Fresh(model, ids, other);

  SECTION("the fork first, then the other") {
    CHECK(SameBits(Decoded(fork, one), expected_one));
    CHECK(SameBits(Decoded(*session, other), expected_other));
  }
  SECTION("in turns") {
    for (std::size_t i = 0; i < one.size(); ++i) {
      REQUIRE(session->Decode(one[i]).ok());
      REQUIRE(fork.Decode(other[i]).ok());
    }
    CHECK(SameBits(session->logits(), expected_one));
    CHECK(SameBits(fork.logits(), expected_other));
  }
  SECTION("after the first is gone") {
    session.reset();
    CHECK(SameBits(Decoded(fork, one), expected_one));
  }
  SECTION("rewound, and forked again") {
    REQUIRE(fork.Rewind(890) == 890);
    Session<RingModel> second = fork.Fork();
    Prefilled(fork, First(one, 200));
    CHECK(SameBits(Decoded(second, other), Fresh(model, First(ids, 890), other)));
    CHECK(SameBits(Decoded(*session, one), expected_one));
  }
  SECTION("on threads of their own") {
    std::vector<float> found;
    std::thread thread([&, moved = std::move(fork)]() mutable {
      for (const std::int32_t id : one) {
        if (!moved.Decode(id)) return;
      }
      found = Copy(moved.logits());
    });
    const std::vector<float> mine = Decoded(*session, other);
    thread.join();
    CHECK(SameBits(found, expected_one));
    CHECK(SameBits(mine, expected_other));
  }
}

// ---- Save and Restore ----

TEST_CASE("a restored session goes on as the saved one, also in another model object") {
  const Ids ids = RingIds(1400), more = RingIds(300, 2);
  // Fewer tokens than a page, than a window, than a ring; rings that have come round.
  for (const std::size_t count : {1, 255, 256, 257, 290, 600, 1400}) {
    const KvFormat kv = count % 2 == 0 ? KvFormat::kBF16 : KvFormat::kInt8;
    const Model<RingModel> model =
        OpenTiny<RingModel>(kRingFormats, {.threads = 2, .kv = kv, .chunk = 300});
    Session session(model, 1900);
    Prefilled(session, First(ids, count));
    const std::vector<std::uint8_t> saved = session.Save();
    const std::vector<float> logits = Copy(session.logits());
    const std::vector<float> expected = Decoded(session, more);
    // The rings and the format are the session's, not those of the model that restores it.
    for (const std::size_t chunk : {300, 1, 1024}) {
      CAPTURE(count, chunk);
      const Model<RingModel> again =
          OpenTiny<RingModel>(kRingFormats, {.threads = 1, .chunk = chunk});
      Result<Session<RingModel>> restored = Session<RingModel>::Restore(again, saved);
      INFO((restored ? "" : restored.error().message));
      REQUIRE(restored.ok());
      CHECK(restored->context() == 1900);
      CHECK(std::ranges::equal(restored->ids(), First(ids, count)));
      CHECK(SameBits(restored->logits(), logits));
      CHECK(restored->Save() == saved);
      CHECK(SameBits(Decoded(*restored, more), expected));
    }
  }
}

TEST_CASE("empty and rewound sessions can be saved; rings remember how far they reach") {
  const Model<RingModel> model = OpenTiny<RingModel>(kRingFormats, {.threads = 1, .chunk = 64});
  const Ids ids = RingIds(1500), other = RingIds(100, 2);
  Session session(model);
  Result<Session<RingModel>> empty = Session<RingModel>::Restore(model, session.Save());
  REQUIRE(empty.ok());
  CHECK(empty->position() == 0);
  CHECK(empty->logits().empty());

  Prefilled(session, ids);
  REQUIRE(session.Rewind(1430) == 1430);
  Result<Session<RingModel>> restored = Session<RingModel>::Restore(model, session.Save());
  REQUIRE(restored.ok());
  CHECK(restored->logits().empty());
  // As in the test of rings: position 1415 is the first whose window is still there.
  CHECK(restored->Fork().Rewind(1414) == 0);
  REQUIRE(restored->Rewind(1415) == 1415);
  Session reference(model);
  Prefilled(reference, First(ids, 1415));
  CHECK(SameBits(Prefilled(*restored, other), Prefilled(reference, other)));
}

TEST_CASE("bytes that are no session of this model are errors") {
  const Model<RingModel> model = OpenTiny<RingModel>(kRingFormats, {.threads = 1, .chunk = 64});
  Session session(model, 400);
  Prefilled(session, RingIds(300));
  const std::vector<std::uint8_t> saved = session.Save();
  const auto code = [&](std::vector<std::uint8_t> bytes, bool fix_checksum = false) {
    if (fix_checksum) {
      const std::span body(bytes.data(), bytes.size() - 8);
      StoreLittleEndian(HashBytes(body), bytes.data() + body.size());
    }
    const auto restored = Session<RingModel>::Restore(model, bytes);
    REQUIRE(!restored.ok());
    CHECK(restored.error().message.find('\n') == std::string::npos);
    return restored.error().code;
  };
  REQUIRE(Session<RingModel>::Restore(model, saved).ok());
  CHECK(code({}) == ErrorCode::kCorrupt);
  // Cut short anywhere: in the head byte by byte, then in strides.
  for (std::size_t size = 0; size < saved.size(); size += size < 2000 ? 1 : 9973) {
    CHECK(code({saved.begin(), saved.begin() + static_cast<std::ptrdiff_t>(size)}) ==
          ErrorCode::kCorrupt);
  }
  std::vector<std::uint8_t> longer = saved;
  longer.push_back(0);
  CHECK(code(longer) == ErrorCode::kCorrupt);
  // Any byte of the head changed, with a checksum that agrees: an error or, where it is an id or a
  // logit, another session; never a crash (the sanitizer build watches).
  for (std::size_t at = 0; at < 2000; ++at) {
    for (const int value : {0, 0x7F, 0xFF}) {
      std::vector<std::uint8_t> changed = saved;
      changed[at] = static_cast<std::uint8_t>(value);
      const std::span body(changed.data(), changed.size() - 8);
      StoreLittleEndian(HashBytes(body), changed.data() + body.size());
      auto restored = Session<RingModel>::Restore(model, changed);
      if (restored && at % 64 == 0) CHECK(restored->Decode(1).ok());
      // And without one it is noticed, wherever it is.
      if (changed[at] != saved[at]) {
        changed = saved;
        changed[at] = static_cast<std::uint8_t>(value);
        CHECK(!Session<RingModel>::Restore(model, changed).ok());
      }
    }
  }
  std::vector<std::uint8_t> damaged = saved;
  damaged[saved.size() - 1000] ^= 1;
  CHECK(code(damaged) == ErrorCode::kCorrupt);
  for (const std::uint32_t version : {kSessionVersion - 1, kSessionVersion + 1}) {
    std::vector<std::uint8_t> other_version = saved;
    other_version[8] = static_cast<std::uint8_t>(version);
    CHECK(code(other_version, true) == ErrorCode::kUnsupported);
  }

  const Model<RingModel> weights =
      OpenTiny<RingModel>(TinyFormats::Uniform(Format::kQ4_0), {.threads = 1});
  const auto refused = Session<RingModel>::Restore(weights, saved);
  REQUIRE(!refused.ok());
  CHECK(refused.error().code == ErrorCode::kMismatch);
  const Model<TinyModel> shape = OpenTiny<TinyModel>(kTinyQ4K, {.threads = 1});
  const auto other = Session<TinyModel>::Restore(shape, saved);
  REQUIRE(!other.ok());
  CHECK(other.error().code == ErrorCode::kMismatch);
  CHECK(other.error().message.find("layers: expected 8, found 3") != std::string::npos);
}

// ---- Prefixes ----

TEST_CASE("a new prompt keeps what the session holds of it") {
  const Model<RingModel> model = OpenTiny<RingModel>(kRingFormats, {.threads = 2, .chunk = 64});
  const Ids ids = RingIds(1100), other = RingIds(50, 2);
  Session session(model);
  Prefilled(session, ids);
  const auto expect = [&](const Ids& prompt, std::size_t kept) {
    CHECK(session.CommonPrefix(prompt) >= kept);
    std::vector<std::uint64_t> done;
    const Result<std::size_t> found = session.PrefillReusing(prompt, [&](const Progress& p) {
      CHECK(p.total == prompt.size());
      done.push_back(p.done);
      return true;
    });
    REQUIRE(found.ok());
    CHECK(*found == kept);
    REQUIRE(!done.empty());
    CHECK(done.front() > kept);
    CHECK(done.back() == prompt.size());
    CHECK(std::ranges::equal(session.ids(), prompt));
    Session reference(model);
    CHECK(SameBits(session.logits(), Prefilled(reference, prompt)));
  };
  Ids longer = ids;
  longer.insert(longer.end(), other.begin(), other.end());
  expect(longer, 1100);
  Ids forked(ids.begin(), ids.begin() + 1090);
  forked.insert(forked.end(), other.begin(), other.end());
  expect(forked, 1090);
  expect(forked, forked.size() - 1);                         // again: its last logits are wanted
  expect(Ids(forked.begin(), forked.begin() + 1100), 1099);  // a part of it
  expect(Ids(forked.begin(), forked.begin() + 10), 0);       // further back than the rings reach
  expect(other, 0);                                          // nothing in common

  // Refused prompts change nothing.
  const std::vector<float> logits = Copy(session.logits());
  CHECK(session.PrefillReusing(Ids()).error().code == ErrorCode::kInvalidArgument);
  CHECK(session.PrefillReusing(RingIds(2049)).error().code == ErrorCode::kContextFull);
  CHECK(session.PrefillReusing(Ids{1, 365}).error().code == ErrorCode::kInvalidArgument);
  CHECK(std::ranges::equal(session.ids(), other));
  CHECK(SameBits(session.logits(), logits));
}

TEST_CASE("a prefix with pictures is one of the same pictures, also after saving") {
  const Model<TinyVisionModel> model = OpenTinyVision({.threads = 2, .chunk = 64});
  const auto encode = [&](const char* kind) {
    Result<ImageEmbedding> image = model.EncodeImage(FormulaPicture(kind, 140, 140));
    REQUIRE(image.ok());
    return *std::move(image);
  };
  const ImageEmbedding waves = encode("waves"), noise = encode("noise");
  // Text, 16 soft tokens, text, 16 soft tokens, text: pictures begin at 10 and 36.
  const auto prompt = [&](const ImageEmbedding& first, const ImageEmbedding& second) {
    Prompt made = {SomeIds(62, 387), {first, second}};
    std::fill_n(made.ids.begin() + 10, 16, kImageSoftToken);
    std::fill_n(made.ids.begin() + 36, 16, kImageSoftToken);
    return made;
  };
  const Prompt both = prompt(waves, noise);
  Session session(model);
  REQUIRE(session.Prefill(both).ok());
  Result<Session<TinyVisionModel>> restored =
      Session<TinyVisionModel>::Restore(model, session.Save());
  REQUIRE(restored.ok());
  for (Session<TinyVisionModel>* each : {&session, &*restored}) {
    CHECK(each->CommonPrefix(both) == 62);
    CHECK(each->CommonPrefix(prompt(waves, waves)) == 36);
    CHECK(each->CommonPrefix(prompt(noise, noise)) == 10);
    CHECK(each->CommonPrefix(both.ids) == 0);  // no picture for the places: not a prompt
    const Prompt other = prompt(waves, waves);
    Session fresh(model);
    REQUIRE(fresh.Prefill(other).ok());
    Session fork = each->Fork();
    const Result<std::size_t> kept = fork.PrefillReusing(other);
    REQUIRE(kept.ok());
    CHECK(*kept == 36);
    CHECK(SameBits(fork.logits(), fresh.logits()));
    // The second picture was forgotten with its rows.
    CHECK(fork.CommonPrefix(both) == 36);
  }
}

// ---- Several sessions in a step ----

// In kFast too many for 16 bits step as they do beside any others.
TEST_CASE("sessions of different lengths step together as they do alone") {
  const std::size_t exact_rows = HWY_STATIC_DISPATCH(RowsAlwaysExact)();
  for (const Precision precision : {Precision::kExact, Precision::kFast}) {
    const Model<RingModel> model =
        OpenTiny<RingModel>(kRingFormats, {.threads = 2, .precision = precision, .chunk = 64});
    constexpr std::size_t kLengths[] = {1,   5,  255, 256, 300, 299, 640, 900, 40, 2,
                                        300, 12, 90,  280, 33,  17,  64,  7,   128};
    const Ids more = RingIds(40, 9);
    std::vector<Session<RingModel>> together, alone;
    for (std::size_t i = 0; i < std::size(kLengths); ++i) {
      together.emplace_back(model);
      Prefilled(together[i], RingIds(kLengths[i], 20 + i));
      alone.push_back(together[i].Fork());
    }
    for (std::size_t step = 0; step < 30; ++step) {
      // One session fewer now and then: also four rows and less.
      std::vector<Session<RingModel>*> sessions;
      Ids ids;
      for (std::size_t i = 0; i < std::size(kLengths) - step * 3 / 5; ++i) {
        sessions.push_back(&together[i]);
        ids.push_back(more[(step + i) % more.size()]);
      }
      const std::size_t best = step % 3;
      const Status status = model.DecodeTogether(sessions, ids, best);
      INFO((status ? "" : status.error().message));
      REQUIRE(status.ok());
      for (std::size_t i = 0; i < sessions.size(); ++i) {
        CAPTURE(step, i);
        if (precision == Precision::kExact || sessions.size() <= exact_rows) {
          REQUIRE(alone[i].Decode(ids[i]).ok());
        } else {
          Session<RingModel> exact = alone[i].Fork();
          REQUIRE(exact.Decode(ids[i]).ok());
          std::vector<Session<RingModel>> forks;
          for (std::size_t n = 0; n < exact_rows; ++n) forks.push_back(alone[i].Fork());
          std::vector<Session<RingModel>*> few = {&alone[i]};
          for (Session<RingModel>& fork : forks) few.push_back(&fork);
          REQUIRE(model.DecodeTogether(few, Ids(few.size(), ids[i])).ok());
          CHECK(!SameBits(alone[i].logits(), exact.logits()));
        }
        // Those found together first, then logits, which nobody has computed yet.
        const auto found = together[i].Best(best), expected = alone[i].Best(best);
        CHECK(std::equal(found.begin(), found.end(), expected.begin(), expected.end()));
        CHECK(SameBits(together[i].logits(), alone[i].logits()));
        CHECK(together[i].position() == alone[i].position());
      }
    }
  }
}

TEST_CASE("four threads share a model and the pages of one session") {
  const Model<RingModel> model = OpenTiny<RingModel>(kRingFormats, {.threads = 2, .chunk = 64});
  const Ids ids = RingIds(400);
  Session root(model);
  Prefilled(root, ids);
  // What each does, alone or beside the others, and the logits that it ends with.
  const auto work = [&](Session<RingModel> session, std::size_t user) {
    const Ids own = RingIds(40, 50 + user);
    bool ok = session.Prefill(own).ok();
    Result<Session<RingModel>> restored = Session<RingModel>::Restore(model, session.Save());
    ok = ok && restored.ok() && session.Rewind(410) == 410;
    if (!ok) return std::vector<float>();
    Session<RingModel> fork = restored->Fork();
    ok = fork.PrefillReusing(ids).ok();
    for (const std::int32_t id : First(own, 10)) {
      Session<RingModel>* const sessions[] = {&session, &fork, &*restored};
      ok = ok && model.DecodeTogether(sessions, Ids(3, id)).ok();
    }
    std::vector<float> all = Copy(session.logits());
    all.insert(all.end(), fork.logits().begin(), fork.logits().end());
    all.insert(all.end(), restored->logits().begin(), restored->logits().end());
    return ok ? all : std::vector<float>();
  };
  constexpr std::size_t kUsers = 4;
  std::vector<std::vector<float>> expected(kUsers), found(kUsers);
  for (std::size_t user = 0; user < kUsers; ++user) expected[user] = work(root.Fork(), user);
  std::vector<std::thread> users;
  for (std::size_t user = 0; user < kUsers; ++user) {
    users.emplace_back(
        [&, user, fork = root.Fork()]() mutable { found[user] = work(std::move(fork), user); });
  }
  REQUIRE(root.Decode(1).ok());
  for (std::thread& user : users) user.join();
  for (std::size_t user = 0; user < kUsers; ++user) {
    CHECK(!expected[user].empty());
    CHECK(SameBits(found[user], expected[user]));
  }
}

TEST_CASE("a step that one session can not take is an error, and no session takes it") {
  const Model<RingModel> model = OpenTiny<RingModel>(kRingFormats, {.threads = 1, .chunk = 4});
  const Model<RingModel> stranger = OpenTiny<RingModel>(kRingFormats, {.threads = 1});
  Session a(model), b(model), full(model, 3), foreign(stranger);
  Prefilled(a, RingIds(3));
  Prefilled(full, RingIds(3));
  using Sessions = std::vector<Session<RingModel>*>;
  const auto code = [&](const Sessions& sessions, const Ids& ids) {
    const std::vector<float> logits = Copy(a.logits());
    const Status status = model.DecodeTogether(sessions, ids);
    CHECK(a.position() == 3);
    CHECK(SameBits(a.logits(), logits));
    CHECK(b.position() == 0);
    CHECK(b.logits().empty());
    REQUIRE(!status.ok());
    CHECK(status.error().message.find('\n') == std::string::npos);
    return status.error().code;
  };
  CHECK(code({&a, &b}, {1}) == ErrorCode::kInvalidArgument);
  CHECK(code({&a, &b, &a}, {1, 2, 3}) == ErrorCode::kInvalidArgument);
  CHECK(code({&a, &foreign}, {1, 2}) == ErrorCode::kInvalidArgument);
  CHECK(code({&a, &b}, {1, 365}) == ErrorCode::kInvalidArgument);
  CHECK(code({&a, &b, &full}, {1, 2, 3}) == ErrorCode::kContextFull);
  CHECK(code({&a, &b, &a, &b, &a}, {1, 2, 3, 4, 5}) == ErrorCode::kInvalidArgument);
  CHECK(model.DecodeTogether(Sessions(), Ids()).ok());
  CHECK(model.DecodeTogether(Sessions{&a, &b}, Ids{1, 2}).ok());
  CHECK(a.position() == 4);
  CHECK(b.position() == 1);
}

}  // namespace
}  // namespace lapidary::testing
