// The pages of keys and values: how many, where, and how far back they reach.
#include "lapidary/model/kv_cache.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <set>
#include <vector>

#include "lapidary/config/models.h"
#include "tests/support/catch.h"

namespace lapidary {
namespace {

constexpr Config kSmall = {.layers = 3,
                           .width = 64,
                           .ff_width = 64,
                           .heads = 4,
                           .kv_heads = 2,
                           .head_dim = 32,
                           .query_pre_attn_scalar = 32,
                           .window = 300,
                           .global_every = 3,
                           .context = 4096,
                           .vocabulary = 100};

TEST_CASE("the plan of the 270M") {
  const KvPlan plan = PlanKv(Gemma3_270M::kConfig, 32'768, 512);
  CHECK(plan.page_bytes == 256 * 256 * 2 * 2);  // positions, head dim, keys and values, bf16
  CHECK(plan.global_pages == 128);
  CHECK(plan.local_pages == 5);  // 1023 positions, beginning anywhere in a page
  CHECK(plan.bytes == plan.page_bytes * (15 * 5 + 3 * 128));
}

TEST_CASE("a short context needs no ring") {
  const KvPlan plan = PlanKv(Gemma3_270M::kConfig, 300, 512);
  CHECK(plan.global_pages == 2);
  CHECK(plan.local_pages == 2);
}

TEST_CASE("a ring has just as many pages as a chunk and its window can touch") {
  for (const std::size_t chunk : {1, 2, 3, 100, 211, 212, 213, 256, 257, 512, 1000}) {
    const std::size_t pages = PlanKv(kSmall, 4096, chunk).local_pages;
    // The first row of a chunk at `position` sees position - 299, the last row is position + chunk
    // - 1.
    std::size_t needed = 0;
    for (std::size_t position = 299; position + chunk <= 4096; ++position) {
      needed = std::max(needed, (position + chunk - 1) / 256 - (position - 299) / 256 + 1);
    }
    CAPTURE(chunk);
    CHECK(pages == needed);
  }
}

TEST_CASE("pages are distinct, zero at first, and local ones come round") {
  const std::size_t chunk = 100;
  KvCache cache(kSmall, 4096, chunk);
  REQUIRE(cache.Reserve(0, 4096).ok());
  const std::size_t ring = cache.plan().local_pages;
  REQUIRE(ring < 16);
  const std::size_t head = 256 * 32;  // elements of a head's keys in a page
  std::set<const std::uint16_t*> all;
  for (std::size_t layer = 0; layer < 3; ++layer) {
    const bool global = layer == 2;
    for (std::size_t page = 0; page < (global ? 16 : ring); ++page) {
      for (std::size_t kv_head = 0; kv_head < 2; ++kv_head) {
        all.insert(cache.Keys(layer, kv_head, page));
        all.insert(cache.Values(layer, kv_head, page));
        CHECK(std::all_of(cache.Keys(layer, kv_head, page), cache.Keys(layer, kv_head, page) + head,
                          [](std::uint16_t v) { return v == 0; }));
        CHECK(std::all_of(cache.Values(layer, kv_head, page),
                          cache.Values(layer, kv_head, page) + head,
                          [](std::uint16_t v) { return v == 0; }));
      }
    }
    if (!global) CHECK(cache.Keys(layer, 1, 1) == cache.Keys(layer, 1, 1 + ring));
    if (!global) CHECK(cache.Keys(layer, 1, 1) != cache.Keys(layer, 1, ring));
  }
  CHECK(all.size() == 2 * 2 * (2 * ring + 16));
  // No two of them overlap.
  const std::uint16_t* previous = nullptr;
  for (const std::uint16_t* at : all) {
    CHECK((previous == nullptr || at >= previous + head));
    previous = at;
  }
}

TEST_CASE("memory is taken page by page and stays where it is") {
  KvCache cache(kSmall, 4096, 100);
  REQUIRE(cache.Reserve(0, 1).ok());
  const std::uint16_t* first = cache.Keys(2, 0, 0);
  cache.Keys(2, 0, 0)[5] = 77;
  REQUIRE(cache.Reserve(1, 256).ok());
  REQUIRE(cache.Reserve(256, 257).ok());
  REQUIRE(cache.Reserve(9, 10).ok());
  REQUIRE(cache.Reserve(0, 4096).ok());
  CHECK(cache.Keys(2, 0, 0) == first);
  CHECK(cache.Keys(2, 0, 0)[5] == 77);
}

TEST_CASE("copies share pages until one of them writes") {
  KvCache cache(kSmall, 4096, 100);
  REQUIRE(cache.Reserve(0, 600).ok());
  for (const std::size_t layer : {0, 2}) cache.Keys(layer, 1, 2)[5] = 77;
  KvCache copy = cache;
  for (const std::size_t layer : {0, 2}) {
    CHECK(copy.Keys(layer, 1, 2) == cache.Keys(layer, 1, 2));
  }
  REQUIRE(copy.Reserve(600, 601).ok());
  for (const std::size_t layer : {0, 2}) {
    CHECK(copy.Keys(layer, 0, 1) == cache.Keys(layer, 0, 1));
    CHECK(copy.Keys(layer, 1, 2) != cache.Keys(layer, 1, 2));
    CHECK(copy.Keys(layer, 1, 2)[5] == 77);
    copy.Keys(layer, 1, 2)[5] = 78;
    CHECK(cache.Keys(layer, 1, 2)[5] == 77);
  }
  // Nobody else has the page any more: no further copy.
  const std::uint16_t* own = copy.Keys(0, 0, 2);
  REQUIRE(copy.Reserve(601, 602).ok());
  CHECK(copy.Keys(0, 0, 2) == own);
}

TEST_CASE("a session may go back exactly as far as the ring still holds a window") {
  for (const std::size_t chunk : {1, 100, 512}) {
    for (const std::size_t written : {0, 1, 255, 256, 257, 700, 768, 769, 1500, 1536, 1537, 4096}) {
      KvCache cache(kSmall, 4096, chunk);
      for (std::size_t begin = 0; begin < written; begin += chunk) {
        REQUIRE(cache.Reserve(begin, std::min(begin + chunk, written)).ok());
      }
      const std::size_t ring = cache.plan().local_pages;
      // Which page lies in each place of the ring after writing 0 .. written - 1.
      std::vector<std::size_t> holds(ring, 0);
      for (std::size_t page = 0; page * 256 < written; ++page) holds[page % ring] = page;
      for (std::size_t position = 0; position <= written; ++position) {
        bool expected = true;
        // The token at `position` sees position - 299 .. position - 1 and itself.
        for (std::size_t p = position - std::min<std::size_t>(position, 299); p < position; ++p) {
          expected = expected && holds[p / 256 % ring] == p / 256;
        }
        if (cache.CanRewindTo(position) == expected) continue;
        // Position 0 sees nothing old: going back there is always possible, and may be refused.
        CAPTURE(chunk, written, position);
        CHECK(position % 256 == 0);
      }
    }
  }
}

}  // namespace
}  // namespace lapidary
