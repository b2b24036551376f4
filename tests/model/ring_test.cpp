// Sessions that are longer than the rings of their local layers.
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "tests/support/catch.h"
#include "tests/support/ring_model.h"
#include "tests/support/synthetic_gguf.h"
#include "tests/support/tiny_model.h"

namespace lapidary::testing {
namespace {

TEST_CASE("rings that come round: chunks below, at and above the window, and decode") {
  const Ids ids = RingIds(1500);
  std::vector<float> expected;
  for (const std::size_t chunk : {1000, 1, 7, 256, 299, 300, 301, 512, 2048}) {
    const Model<RingModel> model =
        OpenTiny<RingModel>(kRingFormats, {.threads = 1, .chunk = chunk});
    Session session(model);
    std::vector<float> logits = Prefilled(session, First(ids, 1400));
    // And on across the borders of pages.
    const std::vector<float> more = Decoded(session, From(ids, 1400));
    logits.insert(logits.end(), more.begin(), more.end());
    if (expected.empty()) expected = logits;
    CAPTURE(chunk, session.memory_plan().local_pages);
    CHECK(SameBits(logits, expected));
  }
}

TEST_CASE("a prompt equals all but its last token, then that") {
  const Model<RingModel> model = OpenTiny<RingModel>(kRingFormats, {.threads = 2, .chunk = 128});
  const Ids ids = RingIds(601);
  for (const std::size_t n : {2, 3, 5, 128, 129, 256, 257, 300, 301, 302, 601}) {
    Session whole(model), split(model);
    const std::vector<float> expected = Prefilled(whole, First(ids, n));
    Prefilled(split, First(ids, n - 1));
    CAPTURE(n);
    CHECK(SameBits(Decoded(split, First(ids, n).last(1)), expected));
  }
}

TEST_CASE("threads that divide the pages of attention change nothing") {
  const Ids ids = RingIds(700);
  std::vector<float> expected;
  for (const std::size_t threads : {1, 2, 3, 5}) {
    const Model<RingModel> model =
        OpenTiny<RingModel>(kRingFormats, {.threads = threads, .chunk = 100});
    Session session(model);
    Prefilled(session, First(ids, 690));
    const std::vector<float> logits = Decoded(session, From(ids, 690));
    if (expected.empty()) expected = logits;
    CAPTURE(threads);
    CHECK(SameBits(logits, expected));
  }
}

TEST_CASE("rewinding within the ring is exact, beyond it starts over") {
  const Model<RingModel> model = OpenTiny<RingModel>(kRingFormats, {.threads = 2, .chunk = 64});
  const Ids ids = RingIds(1500), other = RingIds(200, 2);
  Session session(model);
  REQUIRE(session.memory_plan().local_pages == 3);
  Prefilled(session, ids);
  // Three pages hold positions 1116 .. 1499. Position 1415 sees 1116 and later.
  const auto fresh = [&](std::size_t position) {
    Session reference(model);
    Prefilled(reference, First(ids, position));
    return Prefilled(reference, other);
  };

  SECTION("to the end, or beyond it, nothing happens") {
    const std::vector<float> logits = Copy(session.logits());
    CHECK(session.Rewind(1500) == 1500);
    CHECK(session.Rewind(9999) == 1500);
    CHECK(SameBits(session.logits(), logits));
  }
  SECTION("a little, and on in another way") {
    CHECK(session.Rewind(1490) == 1490);
    CHECK(session.position() == 1490);
    CHECK(session.ids().size() == 1490);
    CHECK(session.logits().empty());
    CHECK(SameBits(Prefilled(session, other), fresh(1490)));
  }
  SECTION("again and again, the ring remembering how far it was written") {
    CHECK(session.Rewind(1430) == 1430);
    Prefilled(session, First(other, 5));
    CHECK(session.Rewind(1415) == 1415);
    CHECK(SameBits(Prefilled(session, other), fresh(1415)));
    CHECK(session.Rewind(1414) == 0);
  }
  SECTION("as far as the ring reaches") {
    CHECK(session.Rewind(1415) == 1415);
    CHECK(SameBits(Prefilled(session, other), fresh(1415)));
  }
  SECTION("one further: from the start, with nothing stale left") {
    CHECK(session.Rewind(1414) == 0);
    CHECK(session.position() == 0);
    CHECK(session.ids().empty());
    Prefilled(session, First(ids, 1414));
    CHECK(SameBits(Prefilled(session, other), fresh(1414)));
  }
  SECTION("to nothing") {
    CHECK(session.Rewind(0) == 0);
    Prefilled(session, First(ids, 10));
    CHECK(session.Rewind(3) == 3);
    CHECK(SameBits(Prefilled(session, other), fresh(3)));
  }
}

TEST_CASE("sessions in turn equal sessions alone") {
  const Model<RingModel> model = OpenTiny<RingModel>(kRingFormats, {.threads = 2, .chunk = 50});
  const Ids a = RingIds(420, 3), b = RingIds(37, 4);
  const auto alone = [&](const Ids& ids, std::size_t prompt) {
    Session session(model);
    Prefilled(session, First(ids, prompt));
    return Decoded(session, From(ids, prompt));
  };
  const std::vector<float> a_expected = alone(a, 400), b_expected = alone(b, 17);
  Session first(model), second(model);
  Prefilled(first, First(a, 200));
  Prefilled(second, First(b, 17));
  Prefilled(first, First(a, 400).subspan(200));
  for (std::size_t i = 0; i < 20; ++i) {
    REQUIRE(first.Decode(a[400 + i]).ok());
    REQUIRE(second.Decode(b[17 + i]).ok());
  }
  CHECK(SameBits(first.logits(), a_expected));
  CHECK(SameBits(second.logits(), b_expected));
}

}  // namespace
}  // namespace lapidary::testing
