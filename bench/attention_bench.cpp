// Attention over a page of keys, one core.
#include <benchmark/benchmark.h>

#include <cmath>
#include <cstdint>
#include <span>
#include <string>
#include <type_traits>

#include "bench/kernels.h"
#include "bench/machine.h"
#include "lapidary/base/buffer.h"
#include "lapidary/base/result.h"
#include "lapidary/kernels/attention-inl.h"
#include "lapidary/kernels/kv_layout.h"

namespace lapidary::bench {
namespace {

namespace target = lapidary::HWY_NAMESPACE;

// `rows` queries with all keys of a page: kQueryTile rows in prefill, a GQA group in decode.
// HeadDim is a number, or a constant that the compiler knows.
template <class HeadDim>
void Page(benchmark::State& state, HeadDim head_dim, std::size_t rows, KvFormat format) {
  const std::size_t dims = head_dim;
  const std::size_t bytes = 2 * KvHalfPageBytes(format, dims);
  AlignedBuffer memory = AlignedBuffer::Allocate(bytes, "a page").value();
  const KvPage page = BindKvPage(format, dims, memory.data());
  AlignedBuffer row = AlignedBuffer::Allocate(rows * dims * sizeof(float), "rows").value();
  const std::span<float> x = row.As<float>();
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = std::sin(static_cast<float>(i));
  for (std::size_t slot = 0; slot < kPageKeys; ++slot) {
    target::StoreKey(x.data(), dims, slot, format, page.keys);
    target::StoreValue(x.data(), dims, slot, format, page.values);
  }
  AlignedBuffer stored =
      AlignedBuffer::Allocate(rows * dims * sizeof(target::PairInput), "queries").value();
  const std::span<target::PairInput> queries = stored.As<target::PairInput>();
  for (std::size_t i = 0; i < queries.size(); ++i) {
    queries[i] = hwy::ConvertScalarTo<target::PairInput>(x[i]);
  }
  AlignedBuffer scratch =
      AlignedBuffer::Allocate(sizeof(target::AttentionScratch), "scratch").value();
  auto& room = *reinterpret_cast<target::AttentionScratch*>(scratch.data());
  AlignedBuffer out = AlignedBuffer::Allocate(rows * dims * sizeof(float), "output").value();
  float* const to = out.As<float>().data();
  VisibleKeys visible[target::kQueryTile];
  for (VisibleKeys& v : visible) v = {0, kPageKeys - 1};
  float max[target::kQueryTile], sum[target::kQueryTile];
  // Steps of decode are in kExact, whose queries have two terms.
  const target::QueryRows x_rows = {queries.data(),
                                    rows < target::kQueryTile ? queries.data() : nullptr};
  for (auto _ : state) {
    target::AttendPage(x_rows, rows, head_dim, head_dim, page, 0, visible, room, to, max, sum);
    benchmark::DoNotOptimize(to[0]);
  }
  Report(state, 4.0 * static_cast<double>(rows * dims * kPageKeys), static_cast<double>(bytes),
         Limit::kBF16);
}

template <std::size_t kHeadDim>
void Register(std::size_t rows, const char* when) {
  const std::string name = StrCat("attention_", when, "/", kHeadDim);
  using benchmark::RegisterBenchmark;
  using Constant = std::integral_constant<std::size_t, kHeadDim>;
  RegisterBenchmark(name.c_str(), Page<std::size_t>, kHeadDim, rows, KvFormat::kBF16)
      ->Unit(benchmark::kMicrosecond);
  RegisterBenchmark((name + "/fixed").c_str(), Page<Constant>, Constant(), rows, KvFormat::kBF16)
      ->Unit(benchmark::kMicrosecond);
  RegisterBenchmark((name + "/int8").c_str(), Page<std::size_t>, kHeadDim, rows, KvFormat::kInt8)
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
