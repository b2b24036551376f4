// The groups of benchmarks. Names are kernel/format/model/matrix, so that --benchmark_filter picks
// by any of them; ".../fixed" is the same kernel with its size known to the compiler.
#ifndef LAPIDARY_BENCH_KERNELS_H_
#define LAPIDARY_BENCH_KERNELS_H_

namespace lapidary::bench {

void RegisterMatMul();
void RegisterAttention();
void RegisterRows();

}  // namespace lapidary::bench

#endif  // LAPIDARY_BENCH_KERNELS_H_
