// What one core of this machine can do: the yardstick of every benchmark.
#ifndef LAPIDARY_BENCH_MACHINE_H_
#define LAPIDARY_BENCH_MACHINE_H_

#include <benchmark/benchmark.h>

namespace lapidary::bench {

// Operations (a multiplication and an addition count as two) and bytes per second of one core.
struct Peaks {
  double int8 = 0;   // sums of products of bytes, as kFast uses them
  double int16 = 0;  // the same of 16-bit activations, as kExact uses them
  double bf16 = 0;   // bf16 dot products, or f32 where the target has none
  double f32 = 0;
  double read = 0;  // bytes from memory
};

// The instruction set that the benchmarks were compiled for.
const char* TargetName();

// Measured once, before the first benchmark; takes about a second.
const Peaks& MachinePeaks();

// The limits that a kernel may come near to.
enum class Limit { kInt8, kInt16, kBF16, kF32, kRead };

double PeakOf(Limit limit);

// Adds the counters that every benchmark has: GOP/s and GB/s, and `share` of the limit.
// `operations` and `bytes` are those of one iteration, bytes those that come from memory.
void Report(benchmark::State& state, double operations, double bytes, Limit limit);

}  // namespace lapidary::bench

#endif  // LAPIDARY_BENCH_MACHINE_H_
