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
  CHECK(plan.page_bytes == 128 * 256 * 2 * 2);  // positions, head dim, keys and values, bf16
  CHECK(plan.global_pages == 256);
  CHECK(plan.local_pages == 8);  // 1023 positions
  CHECK(plan.bytes == plan.page_bytes * (15 * 8 + 3 * 256));
}

TEST_CASE("8-bit keys and values take half the memory and their scales") {
  const KvPlan plan = PlanKv(Gemma3_270M::kConfig, 32'768, 512, KvFormat::kInt8);
  CHECK(plan.page_bytes == 128 * 2 * (256 + sizeof(float)));
}

TEST_CASE("long contexts of the large models fit where they should") {
  constexpr double kGiB = 1 << 30;
  const auto bytes = [](const Config& config, std::size_t chunk, KvFormat format) {
    return static_cast<double>(PlanKv(config, 131'072, chunk, format).bytes) / kGiB;
  };
  CHECK(bytes(Gemma3_4B::kConfig, 512, KvFormat::kBF16) <= 2.7);
  CHECK(bytes(Gemma3_4B::kConfig, 512, KvFormat::kInt8) <= 1.4);
  // 10 GiB are the global layers'. Steps of 256 tokens are the smallest that take a picture, whose
  // first row sees 1023 positions before it and 255 behind.
  CHECK(bytes(Gemma3_27B::kConfig, 128, KvFormat::kBF16) <= 10.46);
  CHECK(bytes(Gemma3_27B::kConfig, 512, KvFormat::kBF16) <= 10.61);
  CHECK(bytes(Gemma3_27B::kConfig, 256, KvFormat::kBF16) <= 10.51);
}

TEST_CASE("a short context needs no ring") {
  const KvPlan plan = PlanKv(Gemma3_270M::kConfig, 300, 512);
  CHECK(plan.global_pages == 3);
  CHECK(plan.local_pages == 3);
}

TEST_CASE("a ring has just as many pages as a chunk and its window need slots") {
  for (const std::size_t chunk : {1, 2, 84, 85, 86, 100, 212, 213, 214, 256, 257, 512, 1000}) {
    // The first row of a chunk sees 299 positions before itself, the last one is chunk - 1 behind
    // it: each needs a slot of its own.
    const std::size_t needed = (299 + chunk + 127) / 128;
    CAPTURE(chunk);
    CHECK(PlanKv(kSmall, 4096, chunk).local_pages == needed);
  }
}

TEST_CASE("pages are distinct, zero at first, and local ones come round") {
  for (const KvFormat format : {KvFormat::kBF16, KvFormat::kInt8}) {
    KvCache cache(kSmall, 4096, /*chunk=*/100, format);
    REQUIRE(cache.Reserve(0, 4096).ok());
    const std::size_t ring = cache.plan().local_pages;
    REQUIRE(ring < 32);
    const std::size_t half = KvHalfPageBytes(format, 32);
    const auto address = [&](std::size_t layer, std::size_t kv_head, std::size_t page) {
      return cache.Page(layer, kv_head, page).keys.elements;
    };
    std::set<const std::uint8_t*> all;
    for (std::size_t layer = 0; layer < 3; ++layer) {
      const bool global = layer == 2;
      for (std::size_t i = 0; i < (global ? 32 : ring); ++i) {
        for (std::size_t kv_head = 0; kv_head < 2; ++kv_head) {
          const KvPage page = cache.Page(layer, kv_head, i);
          CHECK(page.format == format);
          for (const std::uint8_t* at : {page.keys.elements, page.values.elements}) {
            all.insert(at);
            CHECK(std::all_of(at, at + half, [](std::uint8_t v) { return v == 0; }));
          }
        }
      }
      if (!global) CHECK(address(layer, 1, 1) == address(layer, 1, 1 + ring));
      if (!global) CHECK(address(layer, 1, 1) != address(layer, 1, ring));
    }
    CHECK(all.size() == 2 * 2 * (2 * ring + 32));
    // No two of them overlap.
    const std::uint8_t* previous = nullptr;
    for (const std::uint8_t* at : all) {
      CHECK((previous == nullptr || at >= previous + half));
      previous = at;
    }
  }
}

TEST_CASE("memory is taken page by page and stays where it is") {
  KvCache cache(kSmall, 4096, 100);
  REQUIRE(cache.Reserve(0, 1).ok());
  std::uint8_t* const first = cache.Page(2, 0, 0).keys.elements;
  first[5] = 77;
  REQUIRE(cache.Reserve(1, 128).ok());
  REQUIRE(cache.Reserve(128, 129).ok());
  REQUIRE(cache.Reserve(9, 10).ok());
  REQUIRE(cache.Reserve(129, 4096).ok());
  CHECK(cache.Page(2, 0, 0).keys.elements == first);
  CHECK(first[5] == 77);
}

TEST_CASE("copies share pages until one of them writes") {
  for (const KvFormat format : {KvFormat::kBF16, KvFormat::kInt8}) {
    KvCache cache(kSmall, 4096, 600, format);
    REQUIRE(cache.Reserve(0, 600).ok());
    const auto keys = [](KvCache& of, std::size_t layer, std::size_t page) {
      return of.Page(layer, 1, page).keys.elements;
    };
    for (const std::size_t layer : {0, 2}) keys(cache, layer, 4)[5] = 77;
    KvCache copy = cache;
    for (const std::size_t layer : {0, 2}) CHECK(keys(copy, layer, 4) == keys(cache, layer, 4));
    REQUIRE(copy.Reserve(600, 601).ok());
    for (const std::size_t layer : {0, 2}) {
      CHECK(keys(copy, layer, 1) == keys(cache, layer, 1));
      CHECK(keys(copy, layer, 4) != keys(cache, layer, 4));
      CHECK(keys(copy, layer, 4)[5] == 77);
      keys(copy, layer, 4)[5] = 78;
      CHECK(keys(cache, layer, 4)[5] == 77);
    }
    // Nobody else has the page any more: no further copy.
    const std::uint8_t* const own = keys(copy, 0, 4);
    REQUIRE(copy.Reserve(601, 602).ok());
    CHECK(keys(copy, 0, 4) == own);
  }
}

TEST_CASE("a session may go back exactly as far as the ring still holds a window") {
  for (const std::size_t chunk : {1, 100, 512}) {
    for (const std::size_t written :
         {0, 1, 127, 128, 129, 256, 700, 768, 896, 897, 1500, 1536, 1537, 4096}) {
      KvCache cache(kSmall, 4096, chunk);
      for (std::size_t begin = 0; begin < written; begin += chunk) {
        REQUIRE(cache.Reserve(begin, std::min(begin + chunk, written)).ok());
      }
      const std::size_t slots = cache.plan().local_pages * 128;
      // Which position lies in each slot of the ring after writing 0 .. written - 1.
      std::vector<std::size_t> holds(slots, 0);
      for (std::size_t p = 0; p < written; ++p) holds[p % slots] = p;
      for (std::size_t position = 0; position <= written; ++position) {
        bool expected = true;
        // The token at `position` sees position - 299 .. position - 1 and itself.
        for (std::size_t p = position - std::min<std::size_t>(position, 299); p < position; ++p) {
          expected = expected && holds[p % slots] == p;
        }
        CAPTURE(chunk, written, position);
        // Position 0 sees nothing old: going back there is always possible, and may be refused.
        if (position > 0) CHECK(cache.CanRewindTo(position) == expected);
      }
    }
  }
}

}  // namespace
}  // namespace lapidary
