// Microbenchmarks of the kernels, each with its share of what one core of this machine can do.
#include <benchmark/benchmark.h>

#include <cstdio>
#include <string>

#include "bench/kernels.h"
#include "bench/machine.h"

namespace {

std::string Giga(double value) {
  char text[32];
  std::snprintf(text, sizeof(text), "%.1f", 1e-9 * value);
  return text;
}

}  // namespace

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  const lapidary::bench::Peaks& peaks = lapidary::bench::MachinePeaks();
  benchmark::AddCustomContext("target", lapidary::bench::TargetName());
  benchmark::AddCustomContext("int8_gop_s", Giga(peaks.int8));
  benchmark::AddCustomContext("int16_gop_s", Giga(peaks.int16));
  benchmark::AddCustomContext("bf16_gop_s", Giga(peaks.bf16));
  benchmark::AddCustomContext("f32_gop_s", Giga(peaks.f32));
  benchmark::AddCustomContext("read_gb_s", Giga(peaks.read));
  lapidary::bench::RegisterMatMul();
  lapidary::bench::RegisterAttention();
  lapidary::bench::RegisterRows();
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
}
