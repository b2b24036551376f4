// What is done to rows between the matmuls: norms, rotation, gating, quantisation.
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
#include "lapidary/config/models.h"
#include "lapidary/kernels/norm-inl.h"
#include "lapidary/kernels/quantize-inl.h"

HWY_BEFORE_NAMESPACE();
namespace lapidary::HWY_NAMESPACE {
namespace {

HWY_NOINLINE void Gate(const float* HWY_RESTRICT gate, const float* HWY_RESTRICT up, size_t n,
                       float* HWY_RESTRICT out) {
  for (size_t i = 0; i < n; i += kLanes) {
    hn::Store(GeluTimes(hn::Load(DF(), gate + i), hn::Load(DF(), up + i)), DF(), out + i);
  }
}

}  // namespace
}  // namespace lapidary::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

namespace lapidary::bench {
namespace {

namespace target = lapidary::HWY_NAMESPACE;

AlignedBuffer MakeRow(std::size_t n) {
  AlignedBuffer buffer = AlignedBuffer::Allocate(n * sizeof(float), "a row").value();
  std::size_t i = 0;
  for (float& x : buffer.As<float>()) x = std::sin(static_cast<float>(i++));
  return buffer;
}

const float* Floats(const AlignedBuffer& buffer) {
  return reinterpret_cast<const float*>(buffer.data());
}
float* Floats(AlignedBuffer& buffer) { return reinterpret_cast<float*>(buffer.data()); }

// Operations are counted as the formula has them, not as the processor executes them; bytes are
// read and written in the first-level cache.
template <class Size>
void Norm(benchmark::State& state, Size n) {
  const AlignedBuffer x = MakeRow(n), gain = MakeRow(n);
  AlignedBuffer out = MakeRow(n);
  for (auto _ : state) {
    target::RmsNorm(Floats(x), Floats(gain), n, 1e-6f, Floats(out));
    benchmark::DoNotOptimize(out.data()[0]);
  }
  Report(state, 4.0 * static_cast<double>(n), 12.0 * static_cast<double>(n), Limit::kF32);
}

void Rotate(benchmark::State& state, std::size_t head_dim) {
  const AlignedBuffer cosine = MakeRow(head_dim), sine = MakeRow(head_dim);
  AlignedBuffer x = MakeRow(head_dim);
  for (auto _ : state) {
    target::RotateHalves(Floats(cosine), Floats(sine), head_dim, 1.0f, Floats(x));
    benchmark::DoNotOptimize(x.data()[0]);
  }
  Report(state, 4.0 * static_cast<double>(head_dim), 12.0 * static_cast<double>(head_dim),
         Limit::kF32);
}

void Gelu(benchmark::State& state, std::size_t n) {
  const AlignedBuffer gate = MakeRow(n), up = MakeRow(n);
  AlignedBuffer out = MakeRow(n);
  for (auto _ : state) {
    target::Gate(Floats(gate), Floats(up), n, Floats(out));
    benchmark::DoNotOptimize(out.data()[0]);
  }
  Report(state, 8.0 * static_cast<double>(n), 12.0 * static_cast<double>(n), Limit::kF32);
}

void Quantize(benchmark::State& state, std::size_t n, Format format, Precision precision) {
  const AlignedBuffer x = MakeRow(n);
  AlignedBuffer memory =
      AlignedBuffer::Allocate(target::ActivationBytes(1, n), "activations").value();
  const target::Activations out = target::BindActivations(memory.data(), 1, n);
  for (auto _ : state) {
    target::StoreActivations(Floats(x), 0, n, target::FormFor(format, precision, 1), precision, out,
                             0);
    benchmark::DoNotOptimize(memory.data()[0]);
  }
  Report(state, 3.0 * static_cast<double>(n), 6.0 * static_cast<double>(n), Limit::kF32);
}

template <ModelSpec M>
void Register() {
  using benchmark::RegisterBenchmark;
  constexpr auto kWidth = static_cast<std::size_t>(M::kConfig.width);
  constexpr auto kFfWidth = static_cast<std::size_t>(M::kConfig.ff_width);
  constexpr auto kHeadDim = static_cast<std::size_t>(M::kConfig.head_dim);
  const std::string_view name = M::kName;
  const std::string size(name.substr(name.rfind(' ') + 1));
  RegisterBenchmark(("norm/" + size).c_str(), Norm<std::size_t>, kWidth);
  using Constant = std::integral_constant<std::size_t, kWidth>;
  RegisterBenchmark(("norm/" + size + "/fixed").c_str(), Norm<Constant>, Constant());
  RegisterBenchmark(("rotate/" + size).c_str(), Rotate, kHeadDim);
  RegisterBenchmark(("gelu/" + size).c_str(), Gelu, kFfWidth);
  RegisterBenchmark(("quantize_fast/" + size).c_str(), Quantize, kWidth, Format::kQ4_0,
                    Precision::kFast);
  RegisterBenchmark(("quantize_exact/" + size).c_str(), Quantize, kWidth, Format::kQ4_0,
                    Precision::kExact);
}

}  // namespace

void RegisterRows() {
  Register<Gemma3_270M>();
  Register<Gemma3_1B>();
  Register<Gemma3_4B>();
  Register<Gemma3_12B>();
  Register<Gemma3_27B>();
}

}  // namespace lapidary::bench
