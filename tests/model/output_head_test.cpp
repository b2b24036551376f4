// The best tokens found coarse to fine against those of all logits.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <random>
#include <span>
#include <vector>

#include "lapidary/lapidary.h"
#include "lapidary/model/output_head-inl.h"
#include "lapidary/weights/convert-inl.h"
#include "tests/support/catch.h"
#include "tests/support/packed.h"
#include "tests/support/real_model.h"

HWY_BEFORE_NAMESPACE();
namespace lapidary {
namespace HWY_NAMESPACE {
namespace {

using lapidary::testing::Packed;

// Q8_0 of normally distributed weights: like trained ones, the largest of a block has the code 127.
std::vector<uint8_t> NormalBlocks(size_t rows, size_t cols, std::mt19937& random) {
  std::normal_distribution<float> normal;
  std::vector<uint8_t> bytes;
  for (size_t r = 0; r < rows; ++r) {
    const float size = 0.02f * (1.0f + 0.3f * normal(random));
    for (size_t k = 0; k < cols; k += 32) {
      float w[32], largest = 0;
      for (float& value : w) {
        value = size * normal(random);
        largest = std::max(largest, std::abs(value));
      }
      const uint16_t half = encode::RoundToHalf(largest / 127);
      const float scale = encode::HalfToFloat(half);
      bytes.push_back(static_cast<uint8_t>(half));
      bytes.push_back(static_cast<uint8_t>(half >> 8));
      for (const float value : w) {
        const float code = scale > 0 ? std::nearbyint(value / scale) : 0.0f;
        bytes.push_back(
            static_cast<uint8_t>(static_cast<int8_t>(std::clamp(code, -127.0f, 127.0f))));
      }
    }
  }
  return bytes;
}

// How many rows of hidden states have other best tokens, or other logits of them, than they should.
size_t CountWrong(OutputHead& head, std::span<const float> hidden, size_t count, size_t choices) {
  const size_t rows = hidden.size() / head.width();
  std::vector<float> logits(rows * head.vocabulary());
  std::vector<float*> out;
  for (size_t r = 0; r < rows; ++r) out.push_back(logits.data() + r * head.vocabulary());
  head.Logits(hidden.data(), rows, out.data());
  const auto best = head.Best(hidden.data(), rows, count, choices);
  size_t wrong = best.size() != rows;
  for (size_t r = 0; r < best.size(); ++r) {
    std::vector<TokenLogit> all;
    for (size_t i = 0; i < choices; ++i) all.push_back({static_cast<int32_t>(i), out[r][i]});
    const size_t n = std::min(count, choices);
    std::partial_sort(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(n), all.end(),
                      [](const TokenLogit& a, const TokenLogit& b) { return MoreLikely(a, b); });
    bool same = best[r].size() == n;
    for (size_t i = 0; same && i < n; ++i) {
      same = best[r][i].id == all[i].id && best[r][i].logit == all[i].logit;
    }
    wrong += !same;
  }
  return wrong;
}

TEST_CASE("the best tokens and their logits are those of the whole head") {
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  constexpr size_t kVocabulary = 2069, kWidth = 160;  // fills neither panels nor pairs
  const Packed packed(Format::kQ8_0Planes, kVocabulary, kWidth,
                      NormalBlocks(kVocabulary, kWidth, random));
  ThreadPool pool(2);
  OutputHead head = *OutputHead::Create(packed.matrix, pool);
  REQUIRE(head.is_coarse());
  size_t positions = 0, wrong = 0;
  while (positions < 10'000) {
    const size_t rows = 1 + random() % 150;
    std::vector<float> hidden;
    for (size_t r = 0; r < rows; ++r) {
      // Some states fit one token, some are as large as states get.
      const float fit = static_cast<float>(random() % 4) * 20;
      const float size = random() % 8 == 0 ? 1e5f : 1.0f;
      const size_t token = random() % kVocabulary;
      for (size_t i = 0; i < kWidth; ++i) {
        hidden.push_back(size * (normal(random) + fit * packed.value(token, i)));
      }
      hidden[hidden.size() - 1 - random() % kWidth] *= 30;
    }
    constexpr size_t kCounts[] = {1, 2, 64, 256};
    const size_t choices = random() % 3 == 0 ? 1001 : kVocabulary;
    wrong += CountWrong(head, hidden, kCounts[random() % 4], choices);
    positions += rows;
  }
  CHECK(wrong == 0);
}

TEST_CASE("equal logits come in the order of their ids; a head of zeros too") {
  constexpr size_t kWidth = 64;
  std::mt19937 random(2);
  std::vector<uint8_t> row = NormalBlocks(1, kWidth, random), source;
  for (size_t i = 0; i < 100; ++i) source.insert(source.end(), row.begin(), row.end());
  const Packed equal(Format::kQ8_0Planes, 100, kWidth, source);
  const Packed zeros(Format::kQ8_0Planes, 100, kWidth, std::vector<uint8_t>(source.size()));
  ThreadPool pool(1);
  std::vector<float> hidden(2 * kWidth, 0.0f);  // the second state is zeros
  for (size_t i = 0; i < kWidth; ++i) hidden[i] = static_cast<float>(i % 7) - 2;
  for (const Packed* packed : {&equal, &zeros}) {
    OutputHead head = *OutputHead::Create(packed->matrix, pool);
    for (const size_t count : {1, 20, 100}) CHECK(CountWrong(head, hidden, count, 100) == 0);
    CHECK(head.Best(hidden.data(), 1, 3, 100)[0][2].id == 2);
  }
}

// Positions of the real 270M: texts of the tests and, to see more states, the same tokens in random
// order. LAPIDARY_TEST_POSITIONS asks for more of them.
TEST_CASE("the real 270M: the best tokens are those of the whole head") {
  const std::filesystem::path path = lapidary::testing::RealModelPath();
  if (path.empty()) return;
  const char* more = std::getenv("LAPIDARY_TEST_POSITIONS");
  const size_t wanted = more == nullptr ? 1024 : std::strtoul(more, nullptr, 10);
  const Model<Gemma3_270M> model = *Model<Gemma3_270M>::Open(path);
  ThreadPool pool;
  OutputHead head = *OutputHead::Create(*model.file().Matrix("embedding", 262'144, 640), pool);
  REQUIRE(head.is_coarse());
  std::mt19937 random(3);
  size_t positions = 0, wrong = 0;
  while (positions < wanted) {
    std::vector<int32_t> ids = {kBos};
    // Small ids are frequent pieces.
    while (ids.size() < 512) {
      const int32_t most = random() % 2 == 0 ? 3000 : 200'000;
      const size_t repeated = random() % 4 == 0 ? 1 + random() % ids.size() : 0;
      ids.push_back(repeated != 0 ? ids[ids.size() - repeated]
                                  : 1000 + static_cast<int32_t>(random()) % most & 0x3FFFF);
    }
    Session<Gemma3_270M> session(model, 512);
    std::vector<float> hidden;
    REQUIRE(session
                .PrefillWithHidden(ids,
                                   [&](size_t, std::span<const float> row) {
                                     hidden.insert(hidden.end(), row.begin(), row.end());
                                     return true;
                                   })
                .ok());
    for (size_t first = 0; first < 512; first += 64) {
      const std::span rows = std::span(hidden).subspan(first * 640, 64 * 640);
      wrong += CountWrong(head, rows, first / 64 % 2 == 0 ? 1 : 64, 262'144);
    }
    positions += 512;
  }
  CAPTURE(positions);
  CHECK(wrong == 0);
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace lapidary
HWY_AFTER_NAMESPACE();
