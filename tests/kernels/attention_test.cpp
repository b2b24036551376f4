// Attention over pages against a softmax in double.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>
#include <random>
#include <span>
#include <vector>

#include "lapidary/base/buffer.h"
#include "lapidary/kernels/attention-inl.h"
#include "lapidary/kernels/norm-inl.h"
#include "tests/support/catch.h"
#include "tests/support/scalar.h"

HWY_BEFORE_NAMESPACE();
namespace lapidary {
namespace HWY_NAMESPACE {
namespace {

using lapidary::testing::Attention;
using lapidary::testing::BrainBits;
using lapidary::testing::RoundToBrain;
using lapidary::testing::UniformVector;

constexpr KvFormat kBothFormats[] = {KvFormat::kBF16, KvFormat::kInt8};

// What a page gives back for element x of a vector whose largest magnitude is `max`.
float Stored(float x, float max, KvFormat format) {
  if (format == KvFormat::kBF16) return RoundToBrain(x);
  return std::nearbyintf(x * (127.0f / max)) * (max / 127.0f);
}

float LargestMagnitude(std::span<const float> x) {
  float max = 0;
  for (const float v : x) max = std::max(max, std::abs(v));
  return max;
}

// Element `at` of half a page, as a float.
float ElementOf(const KvHalfPage& half, KvFormat format, size_t at, size_t slot) {
  if (format == KvFormat::kInt8) {
    return static_cast<float>(reinterpret_cast<const int8_t*>(half.elements)[at]) *
           half.scales[slot];
  }
  return hwy::ConvertScalarTo<float>(reinterpret_cast<const hwy::bfloat16_t*>(half.elements)[at]);
}

TEST_CASE("keys and values have their places in a page, rounded to nearest") {
  std::mt19937 random(1);
  for (const KvFormat format : kBothFormats) {
    for (const size_t head_dim : {32, 64, 96, 128, 256}) {
      AlignedBuffer memory =
          *AlignedBuffer::Allocate(2 * KvHalfPageBytes(format, head_dim), "a page");
      const KvPage page = BindKvPage(format, head_dim, memory.data());
      std::vector<std::vector<float>> k, v;
      for (size_t slot = 0; slot < kPageKeys; ++slot) {
        k.push_back(UniformVector(random, head_dim));
        v.push_back(UniformVector(random, head_dim));
        StoreKey(k[slot].data(), head_dim, slot, format, page.keys);
        StoreValue(v[slot].data(), head_dim, slot, format, page.values);
      }
      size_t wrong = 0;
      for (size_t slot = 0; slot < kPageKeys; ++slot) {
        const size_t block = slot / 16 * 16 * head_dim;
        const float key_max = LargestMagnitude(k[slot]), value_max = LargestMagnitude(v[slot]);
        for (size_t i = 0; i < head_dim; ++i) {
          // keys [block][head_dim / 2][16][2], values [block][8][head_dim][2]
          const size_t key_at = block + (i / 2 * 16 + slot % 16) * 2 + i % 2;
          const size_t value_at = block + (slot % 16 / 2 * head_dim + i) * 2 + slot % 2;
          wrong +=
              ElementOf(page.keys, format, key_at, slot) != Stored(k[slot][i], key_max, format);
          wrong += ElementOf(page.values, format, value_at, slot) !=
                   Stored(v[slot][i], value_max, format);
        }
      }
      CAPTURE(head_dim);
      CHECK(wrong == 0);
    }
  }
}

TEST_CASE("a vector of zeros stays one in 8-bit pages") {
  AlignedBuffer memory =
      *AlignedBuffer::Allocate(2 * KvHalfPageBytes(KvFormat::kInt8, 64), "a page");
  const KvPage page = BindKvPage(KvFormat::kInt8, 64, memory.data());
  const std::vector<float> zeros(64, 0.0f);
  StoreKey(zeros.data(), 64, 3, KvFormat::kInt8, page.keys);
  CHECK(page.keys.scales[3] == 0.0f);
  CHECK(ElementOf(page.keys, KvFormat::kInt8, 3 * 2, 3) == 0.0f);
}

// The keys and values of one head over some pages, and the same as floats.
template <size_t kHeadDim>
struct Cache {
  explicit Cache(size_t count, KvFormat kv_format = KvFormat::kBF16)
      : format(kv_format),
        page_count(count),
        memory(*AlignedBuffer::Allocate(count * PageBytes(kv_format), "pages")),
        key_floats(count * kPageKeys * kHeadDim),
        value_floats(count * kPageKeys * kHeadDim) {
    std::memset(memory.data(), 0, memory.size());
  }

  static size_t PageBytes(KvFormat format) { return 2 * KvHalfPageBytes(format, kHeadDim); }

  KvPage page(size_t i) const {
    auto* at = const_cast<uint8_t*>(memory.data()) + i * PageBytes(format);
    return BindKvPage(format, kHeadDim, at);
  }

  void Set(size_t position, std::span<const float> key, std::span<const float> value) {
    const KvPage to = page(position / kPageKeys);
    StoreKey(key.data(), kHeadDim, position % kPageKeys, format, to.keys);
    StoreValue(value.data(), kHeadDim, position % kPageKeys, format, to.values);
    for (size_t i = 0; i < kHeadDim; ++i) {
      key_floats[position * kHeadDim + i] = Stored(key[i], LargestMagnitude(key), format);
      value_floats[position * kHeadDim + i] = Stored(value[i], LargestMagnitude(value), format);
    }
  }

  size_t pages() const { return page_count; }

  KvFormat format;
  size_t page_count;
  AlignedBuffer memory;
  std::vector<float> key_floats, value_floats;  // [positions, kHeadDim]
};

template <size_t kHeadDim>
struct Queries {
  explicit Queries(std::vector<std::vector<float>> rows) {
    for (const std::vector<float>& row : rows) {
      for (const float x : row) {
        stored.push_back(hwy::ConvertScalarTo<PairInput>(x));
        floats.push_back(hwy::ConvertScalarTo<float>(stored.back()));
        lost.push_back(hwy::ConvertScalarTo<PairInput>(x - floats.back()));
      }
    }
  }
  std::vector<PairInput> stored, lost;
  std::vector<float> floats;  // what the kernel sees without `lost`
};

struct Attended {
  std::vector<float> out;  // [rows, head_dim], divided by the sum
  std::vector<float> sum, max;
};

// All pages in turn, merged, for rows [begin, end) of the queries.
template <size_t kHeadDim>
Attended Attend(const Queries<kHeadDim>& queries, size_t begin, size_t end,
                const Cache<kHeadDim>& cache, std::span<const VisibleKeys> visible,
                bool with_lost = false) {
  static const auto scratch = std::make_unique<AttentionScratch>();
  const size_t rows = end - begin;
  // Heads that are not whole tiles wide must be constants.
  const auto value_dim = [] {
    if constexpr (kHeadDim % kTileOutputs != 0) {
      return std::integral_constant<size_t, kHeadDim>();
    } else {
      return kHeadDim;
    }
  }();
  AlignedBuffer page = *AlignedBuffer::Allocate(kQueryTile * kHeadDim * sizeof(float), "a page");
  auto* out = reinterpret_cast<float*>(page.data());
  Attended result = {std::vector<float>(rows * kHeadDim, 0.0f), std::vector<float>(rows, 0.0f),
                     std::vector<float>(rows, 0.0f)};
  for (size_t p = 0; p < cache.pages(); ++p) {
    float max[kQueryTile], sum[kQueryTile];
    std::memset(page.data(), 0xFF, page.size());  // NaN, should somebody read what was not written
    const QueryRows x = {queries.stored.data() + begin * kHeadDim,
                         with_lost ? queries.lost.data() + begin * kHeadDim : nullptr};
    AttendPage(x, rows, kHeadDim, value_dim, cache.page(p), p * kPageKeys, visible.data() + begin,
               *scratch, out, max, sum);
    for (size_t r = 0; r < rows; ++r) {
      MergePage(out + r * kHeadDim, max[r], sum[r], kHeadDim, result.out.data() + r * kHeadDim,
                result.max[r], result.sum[r]);
    }
  }
  for (size_t r = 0; r < rows; ++r) {
    Scale(result.out.data() + r * kHeadDim, kHeadDim,
          result.sum[r] == 0 ? 0.0f : 1 / result.sum[r]);
  }
  return result;
}

// Scores are sums of up to 256 products that reach 3 and are off by some 2^-21; a weight is off by
// as much of itself. With bf16 dot products the weights are rounded to 8 bits besides.
constexpr double kTolerance = kHasBF16Dot ? 4e-3 : 1e-5;

template <size_t kHeadDim>
void CheckAttention(KvFormat format) {
  std::mt19937 random(2);
  const size_t pages = 6, positions = pages * kPageKeys;
  Cache<kHeadDim> cache(pages, format);
  for (size_t i = 0; i < positions; ++i) {
    const auto key = UniformVector(random, kHeadDim);
    cache.Set(i, key, UniformVector(random, kHeadDim));
  }
  // Rows see: windows of all lengths at all places of a block, page borders, one key, everything.
  std::vector<VisibleKeys> visible = {{0, 0},     {0, 15},    {0, 16},   {3, 255},   {3, 256},
                                      {255, 256}, {256, 511}, {17, 528}, {512, 512}, {767, 767},
                                      {0, 767},   {250, 761}, {31, 32},  {511, 512}, {100, 611},
                                      {240, 255}, {255, 255}};
  while (visible.size() < kQueryTile) {
    const size_t last = random() % positions;
    visible.push_back({last - std::min<size_t>(last, 19), last});
  }
  std::vector<std::vector<float>> rows;
  // A factor of 3: scores reach about 10, so that some keys matter a lot and most little.
  for (size_t r = 0; r < visible.size(); ++r) {
    rows.push_back(UniformVector(random, kHeadDim, 24 / std::sqrt(static_cast<float>(kHeadDim))));
  }
  const Queries<kHeadDim> queries(rows);
  const Attended all = Attend<kHeadDim>(queries, 0, rows.size(), cache, visible);
  double worst = 0;
  for (size_t r = 0; r < rows.size(); ++r) {
    const std::vector<double> expected =
        Attention(std::span(queries.floats).subspan(r * kHeadDim, kHeadDim), cache.key_floats,
                  cache.value_floats, visible[r].first, visible[r].last);
    for (size_t i = 0; i < kHeadDim; ++i) {
      const double error = std::abs(static_cast<double>(all.out[r * kHeadDim + i]) - expected[i]);
      worst = std::isnan(error) ? INFINITY : std::max(worst, error);
    }
  }
  CAPTURE(kHeadDim, format, worst);
  CHECK(worst < kTolerance);  // values reach 1

  // A row does not depend on its neighbours, not in the last bit.
  size_t wrong = 0;
  for (const size_t size : {1, 2, 3, 5, 7, 13}) {
    for (size_t begin = 0; begin + size <= rows.size(); begin += size) {
      const Attended some = Attend<kHeadDim>(queries, begin, begin + size, cache, visible);
      wrong += std::memcmp(some.out.data(), all.out.data() + begin * kHeadDim,
                           some.out.size() * sizeof(float)) != 0;
    }
  }
  CHECK(wrong == 0);
}

TEST_CASE("attention equals a softmax in double over windows and pages, row by row") {
  for (const KvFormat format : kBothFormats) {
    CheckAttention<64>(format);
    CheckAttention<80>(format);  // two tiles of AVX-512 and a half
    CheckAttention<96>(format);
    CheckAttention<128>(format);
    CheckAttention<256>(format);
  }
}

TEST_CASE(
    "a row that sees nothing of a page adds nothing, a row that sees nothing at all gives zeros") {
  constexpr size_t kHeadDim = 64;
  std::mt19937 random(3);
  Cache<kHeadDim> cache(4);
  for (size_t i = 0; i < 4 * kPageKeys; ++i) {
    const auto key = UniformVector(random, kHeadDim);
    cache.Set(i, key, UniformVector(random, kHeadDim));
  }
  // Rows 0 and 2 see keys behind all pages only.
  const std::vector<VisibleKeys> visible = {{512, 600}, {10, 20}, {700, 700}, {256, 300}};
  std::vector<std::vector<float>> rows;
  for (size_t r = 0; r < visible.size(); ++r) rows.push_back(UniformVector(random, kHeadDim));
  const Queries<kHeadDim> queries(rows);
  for (const size_t end : {1, 4}) {  // alone, and beside rows that see something
    const Attended result = Attend<kHeadDim>(queries, 0, end, cache, visible);
    for (size_t r = 0; r < end; r += 2) {
      CHECK(result.sum[r] == 0.0f);
      for (size_t i = 0; i < kHeadDim; ++i) CHECK(result.out[r * kHeadDim + i] == 0.0f);
    }
    for (const float value : result.out) CHECK(std::isfinite(value));
  }
}

TEST_CASE("what rounding lost of queries counts, row by row") {
  constexpr size_t kHeadDim = 128, kRows = 9;
  std::mt19937 random(7);
  Cache<kHeadDim> cache(1);
  for (size_t i = 0; i < kPageKeys; ++i) {
    const auto key = UniformVector(random, kHeadDim);
    cache.Set(i, key, key);
  }
  std::vector<std::vector<float>> rows;
  for (size_t r = 0; r < kRows; ++r) rows.push_back(UniformVector(random, kHeadDim, 2));
  const Queries<kHeadDim> queries(rows);
  const std::vector<VisibleKeys> visible(kRows, {0, kPageKeys - 1});
  const Attended all = Attend<kHeadDim>(queries, 0, kRows, cache, visible, /*with_lost=*/true);
  for (size_t r = 0; r < kRows; ++r) {
    double largest = -INFINITY;
    for (size_t k = 0; k < kPageKeys; ++k) {
      double score = 0;
      for (size_t i = 0; i < kHeadDim; ++i) {
        score += static_cast<double>(rows[r][i]) *
                 static_cast<double>(cache.key_floats[k * kHeadDim + i]);
      }
      largest = std::max(largest, score);
    }
    // Scores reach 20 and queries keep 16 bits; with 8 they are off by up to 0.02.
    CHECK(std::abs(static_cast<double>(all.max[r]) - largest) < 2e-4);
    const Attended one = Attend<kHeadDim>(queries, r, r + 1, cache, visible, /*with_lost=*/true);
    CHECK(std::memcmp(&one.max[0], &all.max[r], sizeof(float)) == 0);
  }
}

TEST_CASE("keys that are not visible count for nothing, whatever stands there") {
  constexpr size_t kHeadDim = 64;
  std::mt19937 random(4);
  Cache<kHeadDim> cache(1), huge(1);
  const std::vector<float> large(kHeadDim, 1e30f);
  for (size_t i = 0; i < kPageKeys; ++i) {
    const auto key = UniformVector(random, kHeadDim);
    const auto value = UniformVector(random, kHeadDim);
    cache.Set(i, key, value);
    const bool visible = i >= 37 && i <= 90;
    huge.Set(i, visible ? key : large, visible ? value : large);
  }
  const Queries<kHeadDim> queries({UniformVector(random, kHeadDim)});
  const std::vector<VisibleKeys> visible = {{37, 90}};
  const Attended a = Attend<kHeadDim>(queries, 0, 1, cache, visible);
  const Attended b = Attend<kHeadDim>(queries, 0, 1, huge, visible);
  CHECK(a.out == b.out);
  CHECK(a.sum == b.sum);
}

TEST_CASE("at position 512 a window of 512 gives key 0 nothing and key 1 a 512th") {
  constexpr size_t kHeadDim = 64;
  Cache<kHeadDim> cache(6);
  // One-hot values: which key an output comes from. The keys do not matter for a query of zeros.
  for (size_t i = 0; i < 6 * kPageKeys; ++i) {
    std::vector<float> value(kHeadDim, 0.0f);
    value[i < 2 ? i : i == 512 ? 2 : i < 512 ? 3 : 4] = 1;
    cache.Set(i, std::vector<float>(kHeadDim, static_cast<float>(i)), value);
  }
  const Queries<kHeadDim> queries({std::vector<float>(kHeadDim, 0.0f)});
  const Attended result =
      Attend<kHeadDim>(queries, 0, 1, cache, std::vector<VisibleKeys>{{1, 512}});
  CHECK(result.out[0] == 0.0f);
  CHECK(std::abs(result.out[1] - 1.0f / 512) < 1e-9f);
  CHECK(std::abs(result.out[2] - 1.0f / 512) < 1e-9f);
  CHECK(std::abs(result.out[3] - 510.0f / 512) < 1e-6f);
  CHECK(result.out[4] == 0.0f);
}

TEST_CASE(
    "there is no soft cap: scores far apart stay far apart, scores of hundreds do not overflow") {
  constexpr size_t kHeadDim = 64;
  Cache<kHeadDim> cache(4);
  std::vector<float> key(kHeadDim, 0.0f), value(kHeadDim, 0.0f);
  for (size_t i = 0; i < 4 * kPageKeys; ++i) cache.Set(i, key, value);
  key[0] = 40;
  value[0] = 1;
  cache.Set(5, key, value);  // score 40
  key[0] = 38;
  value[0] = 2;
  cache.Set(300, key, value);  // score 38, on another page
  std::vector<float> query(kHeadDim, 0.0f);
  query[0] = 1;
  const std::vector<VisibleKeys> visible = {{0, 511}};
  const Attended result = Attend<kHeadDim>(Queries<kHeadDim>({query}), 0, 1, cache, visible);
  const double expected = (1 + 2 * std::exp(-2.0)) / (1 + std::exp(-2.0));
  CHECK(std::abs(static_cast<double>(result.out[0]) - expected) < (kHasBF16Dot ? 1e-2 : 1e-6));
  query[0] = 100;
  const Attended large = Attend<kHeadDim>(Queries<kHeadDim>({query}), 0, 1, cache, visible);
  CHECK(std::abs(large.out[0] - 1) < 1e-6f);
}

TEST_CASE("the largest score is found wherever it stands in a page") {
  HWY_ALIGN float scores[kPageKeys];
  HWY_ALIGN PairInput weights[kPageKeys];
  for (size_t place = 0; place < kPageKeys; ++place) {
    std::fill_n(scores, kPageKeys, 0.0f);
    scores[place] = 200;  // e^200 would be infinite, e^-200 is 0
    const float max = attention::LargestScore(scores, 0, kPageKeys, 0, kPageKeys - 1);
    CHECK(max == 200.0f);
    const float sum = attention::StoreWeights(scores, 0, kPageKeys, max,
                                              /*value_scales=*/nullptr, weights);
    CHECK(sum == 1.0f);
    CHECK(hwy::ConvertScalarTo<float>(weights[place]) == 1.0f);
  }
}

TEST_CASE("pages merge in any scale of their maxima") {
  std::mt19937 random(5);
  const size_t n = 64;
  for (const float difference : {0.0f, 1.0f, -1.0f, 50.0f, -50.0f, 200.0f, -200.0f}) {
    const std::vector<float> a = UniformVector(random, n), b = UniformVector(random, n);
    std::vector<float> acc(n, -7.0f);
    float max = -7, sum = 0;
    MergePage(a.data(), 3.0f, 2.0f, n, acc.data(), max, sum);
    CHECK(acc == a);
    CHECK(max == 3.0f);
    CHECK(sum == 2.0f);
    MergePage(b.data(), 99.0f, 0.0f, n, acc.data(), max, sum);  // sees nothing
    CHECK(acc == a);
    CHECK(sum == 2.0f);
    MergePage(b.data(), 3.0f + difference, 5.0f, n, acc.data(), max, sum);
    const double d = static_cast<double>(difference);
    const double keep = std::exp(std::min(0.0, -d)), take = std::exp(std::min(0.0, d));
    CHECK(max == std::max(3.0f, 3.0f + difference));
    CHECK(std::abs(static_cast<double>(sum) - (2 * keep + 5 * take)) < 1e-5);
    for (size_t i = 0; i < n; ++i) {
      const double expected = static_cast<double>(a[i]) * keep + static_cast<double>(b[i]) * take;
      CHECK(std::abs(static_cast<double>(acc[i]) - expected) < 1e-6);
    }
  }
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace lapidary
HWY_AFTER_NAMESPACE();
