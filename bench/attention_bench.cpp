// Attention over a page of 256 keys, one core.
#include <benchmark/benchmark.h>

#include <cmath>
#include <cstdint>
#include <string>

#include "bench/kernels.h"
#include "bench/machine.h"
#include "lapidary/base/buffer.h"
#include "lapidary/base/result.h"
#include "lapidary/kernels/attention-inl.h"
#include "lapidary/kernels/kv_layout.h"

namespace lapidary::bench {
namespace {

namespace target = lapidary::HWY_NAMESPACE;

// Values that attention reads: a page of keys or values, or queries.
template <class T>
AlignedBuffer MakeValues(std::size_t count) {
  AlignedBuffer buffer = AlignedBuffer::Allocate(count * sizeof(T), "values").value();
  std::size_t i = 0;
  for (T& value : buffer.As<T>()) {
    const float x = std::sin(static_cast<float>(i++));
    if constexpr (sizeof(T) == sizeof(float)) {
      value = x;
    } else {
      value = hwy::BF16FromF32(x);
    }
  }
  return buffer;
}

// `rows` queries with all keys of a page: kQueryTile rows in prefill, a GQA group in decode.
// HeadDim is a number, or a constant that the compiler knows.
template <class HeadDim>
void Page(benchmark::State& state, HeadDim head_dim, std::size_t rows) {
  const std::size_t dims = head_dim;
  const AlignedBuffer keys = MakeValues<hwy::bfloat16_t>(PageElements(dims));
  const AlignedBuffer values = MakeValues<hwy::bfloat16_t>(PageElements(dims));
  const AlignedBuffer queries = MakeValues<target::PairInput>(rows * dims);
  const AlignedBuffer scratch =
      AlignedBuffer::Allocate(sizeof(target::AttentionScratch), "scratch").value();
  const AlignedBuffer out = AlignedBuffer::Allocate(rows * dims * sizeof(float), "output").value();
  auto* to = reinterpret_cast<float*>(const_cast<std::uint8_t*>(out.data()));
  auto& room =
      *reinterpret_cast<target::AttentionScratch*>(const_cast<std::uint8_t*>(scratch.data()));
  target::VisibleKeys visible[target::kQueryTile];
  for (target::VisibleKeys& v : visible) v = {0, kPageKeys - 1};
  float max[target::kQueryTile], sum[target::kQueryTile];
  const auto typed = [](const AlignedBuffer& buffer) {
    return reinterpret_cast<const hwy::bfloat16_t*>(buffer.data());
  };
  for (auto _ : state) {
    target::AttendPage(reinterpret_cast<const target::PairInput*>(queries.data()), rows, head_dim,
                       typed(keys), typed(values), 0, visible, room, to, max, sum);
    benchmark::DoNotOptimize(to[0]);
  }
  Report(state, 4.0 * static_cast<double>(rows * dims * kPageKeys),
         2.0 * 2.0 * static_cast<double>(dims * kPageKeys), Limit::kBF16);
}

template <std::size_t kHeadDim>
void Register(std::size_t rows, const char* when) {
  const std::string name = StrCat("attention_", when, "/", kHeadDim);
  benchmark::RegisterBenchmark(name.c_str(), Page<std::size_t>, kHeadDim, rows)
      ->Unit(benchmark::kMicrosecond);
  using Constant = std::integral_constant<std::size_t, kHeadDim>;
  benchmark::RegisterBenchmark((name + "/fixed").c_str(), Page<Constant>, Constant(), rows)
      ->Unit(benchmark::kMicrosecond);
}

}  // namespace

void RegisterAttention() {
  Register<256>(target::kQueryTile, "prefill");
  Register<128>(target::kQueryTile, "prefill");
  Register<256>(4, "decode");
  Register<128>(2, "decode");
}

}  // namespace lapidary::bench
