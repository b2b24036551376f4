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
#include "tests/support/golden.h"
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

// Whether `best` are the `count` most likely of the first `choices` logits, the most likely first.
bool AreTheBest(std::span<const TokenLogit> best, std::span<const float> logits, size_t count) {
  if (best.size() != std::min(count, logits.size())) return false;
  for (size_t i = 0; i < best.size(); ++i) {
    if (best[i].id < 0 || static_cast<size_t>(best[i].id) >= logits.size()) return false;
    if (best[i].logit != logits[static_cast<size_t>(best[i].id)]) return false;
    if (i > 0 && !MoreLikely(best[i - 1], best[i])) return false;
  }
  size_t as_likely = 0;  // as the last of them
  for (size_t id = 0; id < logits.size(); ++id) {
    as_likely += !MoreLikely(best.back(), TokenLogit{static_cast<int32_t>(id), logits[id]});
  }
  return as_likely == best.size();
}

// How many rows of hidden states have other best tokens, or other logits of them, than they should.
// `together` rows are asked for at once; the last time, what is left.
size_t CountWrong(OutputHead& head, std::span<const float> hidden, size_t together, size_t count,
                  size_t choices) {
  const size_t rows = hidden.size() / head.width();
  std::vector<float> logits(rows * head.vocabulary());
  std::vector<float*> out;
  for (size_t r = 0; r < rows; ++r) out.push_back(logits.data() + r * head.vocabulary());
  head.Logits(hidden.data(), rows, out.data());
  std::vector<std::vector<TokenLogit>> best;
  for (size_t r = 0; r < rows; r += together) {
    const size_t n = std::min(together, rows - r);
    for (auto& of_row : head.Best(hidden.data() + r * head.width(), n, count, choices)) {
      best.push_back(std::move(of_row));
    }
  }
  size_t wrong = best.size() != rows;
  for (size_t r = 0; r < best.size(); ++r) {
    wrong += !AreTheBest(best[r], std::span<const float>(out[r], choices), count);
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
    const size_t together = random() % 2 == 0 ? 1 : rows;
    wrong += CountWrong(head, hidden, together, kCounts[random() % 4], choices);
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
    for (const size_t count : {1, 20, 100}) {
      CHECK(CountWrong(head, hidden, 1, count, 100) == 0);
      CHECK(CountWrong(head, hidden, 2, count, 100) == 0);
    }
    CHECK(head.Best(hidden.data(), 1, 3, 100)[0][2].id == 2);
  }
}

size_t NumberFromEnvironment(const char* name, size_t otherwise) {
  const char* text = std::getenv(name);
  return text == nullptr ? otherwise : std::strtoul(text, nullptr, 10);
}

// 512 tokens for the real 270M: stretches of the texts of the tests, cut where chance has it and
// joined, or tokens drawn at random, some of them repeated.
std::vector<int32_t> DrawPrompt(std::mt19937& random, std::span<const int32_t> text) {
  std::vector<int32_t> ids = {kBos};
  const bool of_text = random() % 2 == 0;
  while (ids.size() < 512) {
    if (of_text) {
      const size_t first = random() % text.size();
      const auto stretch =
          text.subspan(first, std::min<size_t>(4 + random() % 128, text.size() - first));
      ids.insert(ids.end(), stretch.begin(), stretch.end());
    } else if (random() % 4 == 0) {
      ids.push_back(ids[random() % ids.size()]);
    } else {
      const size_t most = random() % 2 == 0 ? 3000 : 200'000;  // small ids are frequent pieces
      ids.push_back(1000 + static_cast<int32_t>(random() % most));
    }
  }
  ids.resize(512);
  return ids;
}

// LAPIDARY_TEST_POSITIONS asks for more of them, LAPIDARY_TEST_SEED for others.
TEST_CASE("the real 270M: the best tokens are those of the whole head") {
  const std::filesystem::path path = lapidary::testing::RealModelPath();
  if (path.empty()) return;
  const size_t wanted = NumberFromEnvironment("LAPIDARY_TEST_POSITIONS", 1024);
  std::mt19937 random(
      static_cast<std::mt19937::result_type>(NumberFromEnvironment("LAPIDARY_TEST_SEED", 3)));
  const Model<Gemma3_270M> model = *Model<Gemma3_270M>::Open(path);
  ThreadPool pool;
  OutputHead head = *OutputHead::Create(*model.file().Matrix("embedding", 262'144, 640), pool);
  REQUIRE(head.is_coarse());
  std::vector<int32_t> text;
  for (const char* name : {"prose", "code", "spanish", "mixed"}) {
    const auto ids = lapidary::testing::ReadGoldenIds(StrCat("texts/", name, ".ids"));
    text.insert(text.end(), ids.begin(), ids.end());
  }
  size_t positions = 0, wrong = 0;
  while (positions < wanted) {
    const std::vector<int32_t> ids = DrawPrompt(random, text);
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
      const bool many = (positions / 512 + first / 64) % 8 == 0;  // another place of each prompt
      // Sessions together are the rarer case, and take closer bounds from the start.
      const size_t together = (positions / 512 + first / 64) % 4 == 1 ? 64 : 1;
      wrong += CountWrong(head, rows, together, many ? 64 : 1, 262'144);
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
