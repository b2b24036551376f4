#include "bench/machine.h"

#include <algorithm>
#include <chrono>
#include <cstdint>

#include "examples/lapidary/machine.h"
#include "lapidary/base/highway-inl.h"
#include "lapidary/kernels/amx-inl.h"
#include "lapidary/kernels/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace lapidary::HWY_NAMESPACE {
namespace {

// Sums that are independent of each other: enough to hide the latency of every instruction, few
// enough to stay in registers.
constexpr size_t kSums = kManyRegisters ? 24 : 12;
constexpr int kSteps = 200'000;

// Calls step(sum) on every sum, kSteps times.
template <class V, class Step>
HWY_INLINE void Repeat(V zero, const Step& step) {
  V sums[kSums];
  HWY_UNROLL(24) for (size_t i = 0; i < kSums; ++i) sums[i] = zero;
  for (int n = 0; n < kSteps; ++n) {
    HWY_UNROLL(24) for (size_t i = 0; i < kSums; ++i) {
      step(sums[i]);
      KeepInRegister(sums[i]);
    }
  }
  // What nobody reads is not computed.
  const hn::DFromV<V> d;
  HWY_UNROLL(24) for (size_t i = 1; i < kSums; ++i) sums[0] = hn::Add(sums[0], sums[i]);
  HWY_ALIGN hn::TFromD<decltype(d)> lanes[HWY_MAX_LANES_D(decltype(d))];
  hn::Store(sums[0], d, lanes);
  benchmark::DoNotOptimize(lanes[0]);
}

// Products of whole tiles in AMX registers, four independent sums: operations.
template <class Multiply>
HWY_NOINLINE double TilesPeak(size_t depth, const Multiply& multiply) {
  amx::Unit unit;
  unit.Shape({{amx::kTileRows, amx::kTileRows}, amx::kTileBytes});
  for (int n = 0; n < kSteps; ++n) multiply();
  return 2.0 * 4 * kSteps * amx::kTileRows * amx::kOutputs * static_cast<double>(depth);
}

// Each returns the operations of one call.
HWY_NOINLINE double BytesPeak() {
  if (kMayHaveAmx && HasAmx()) {
    return TilesPeak(amx::kTileBytes, [] {
      amx::MultiplyBytes<0, amx::kA, amx::kB>();
      amx::MultiplyBytes<1, amx::kA, amx::kB + 1>();
      amx::MultiplyBytes<2, amx::kA + 1, amx::kB>();
      amx::MultiplyBytes<3, amx::kA + 1, amx::kB + 1>();
    });
  }
  VU8 w = hn::Set(DU8(), uint8_t{3});
  auto a = hn::Set(DI8(), int8_t{-5});
  KeepInRegister(w);
  KeepInRegister(a);
  if constexpr (kHasByteDot) {
    Repeat(hn::Zero(DI32()), [&](VI32& sum) LAPIDARY_INLINE_LAMBDA {
      sum = hn::SumOfMulQuadAccumulate(DI32(), w, a, sum);
    });
  } else {
    Repeat(hn::Zero(DI16()), [&](VI16& sum) LAPIDARY_INLINE_LAMBDA {
      KeepInRegister(a);  // or the compiler sees that the product is the same every time
      sum = hn::Add(sum, hn::SatWidenMulPairwiseAdd(DI16(), w, a));
    });
  }
  return 2.0 * kSteps * kSums * kVectorBytes;
}

HWY_NOINLINE double WordsPeak() {
  if constexpr (kHasByteDot) return BytesPeak() / 2;  // two planes, two instructions
  VI16 w = hn::Set(DI16(), int16_t{3});
  VI16 a = hn::Set(DI16(), int16_t{-5});
  KeepInRegister(w);
  KeepInRegister(a);
  Repeat(hn::Zero(DI32()), [&](VI32& sum) LAPIDARY_INLINE_LAMBDA {
    KeepInRegister(a);
    sum = hn::Add(sum, hn::WidenMulPairwiseAdd(DI32(), w, a));
  });
  return 2.0 * kSteps * kSums * kVectorBytes / 2;
}

HWY_NOINLINE double FloatPeak() {
  VF w = hn::Set(DF(), 1.5f);
  VF a = hn::Set(DF(), -0.5f);
  KeepInRegister(w);
  KeepInRegister(a);
  Repeat(hn::Zero(DF()), [&](VF& sum) LAPIDARY_INLINE_LAMBDA { sum = hn::MulAdd(w, a, sum); });
  return 2.0 * kSteps * kSums * kLanes;
}

HWY_NOINLINE double BF16Peak() {
  if constexpr (!kHasBF16Dot) return FloatPeak();
  if (kMayHaveAmx && HasAmx()) {
    return TilesPeak(amx::kTileBytes / 2, [] {
      amx::MultiplyBF16<0, amx::kA, amx::kB>();
      amx::MultiplyBF16<1, amx::kA, amx::kB + 1>();
      amx::MultiplyBF16<2, amx::kA + 1, amx::kB>();
      amx::MultiplyBF16<3, amx::kA + 1, amx::kB + 1>();
    });
  }
  const auto w = hn::Set(DBF16(), hwy::BF16FromF32(1.5f));
  const auto a = hn::Set(DBF16(), hwy::BF16FromF32(-0.5f));
  VF unused = hn::Zero(DF());
  Repeat(hn::Zero(DF()), [&](VF& sum) LAPIDARY_INLINE_LAMBDA {
    sum = hn::ReorderWidenMulAccumulate(DF(), w, a, sum, unused);
  });
  return 2.0 * kSteps * kSums * kLanes * 2;
}

}  // namespace
}  // namespace lapidary::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

namespace lapidary::bench {
namespace {

double Seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// The best of several short runs: an interruption only ever makes one slower.
template <class F>
double BestRate(const F& f) {
  double best = 0;
  for (int i = 0; i < 20; ++i) {
    const double start = Seconds();
    const double operations = f();
    best = std::max(best, operations / (Seconds() - start));
  }
  return best;
}

}  // namespace

const Peaks& MachinePeaks() {
  namespace target = lapidary::HWY_NAMESPACE;
  static const Peaks peaks = {.int8 = BestRate(target::BytesPeak),
                              .int16 = BestRate(target::WordsPeak),
                              .bf16 = BestRate(target::BF16Peak),
                              .f32 = BestRate(target::FloatPeak),
                              .read = cli::MeasureReadBandwidth(1, 10).value()};
  return peaks;
}

const char* TargetName() { return hwy::TargetName(HWY_TARGET); }

double PeakOf(Limit limit) {
  const Peaks& peaks = MachinePeaks();
  switch (limit) {
    case Limit::kInt8:
      return peaks.int8;
    case Limit::kInt16:
      return peaks.int16;
    case Limit::kBF16:
      return peaks.bf16;
    case Limit::kF32:
      return peaks.f32;
    case Limit::kRead:
      return peaks.read;
  }
  return 0;
}

void Report(benchmark::State& state, double operations, double bytes, Limit limit) {
  using benchmark::Counter;
  const auto n = static_cast<double>(state.iterations());
  state.counters["GOP/s"] = Counter(1e-9 * n * operations, Counter::kIsRate);
  state.counters["GB/s"] = Counter(1e-9 * n * bytes, Counter::kIsRate);
  const double work = limit == Limit::kRead ? bytes : operations;
  state.counters["share"] = Counter(n * work / PeakOf(limit), Counter::kIsRate);
}

}  // namespace lapidary::bench
