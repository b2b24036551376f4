#!/usr/bin/env bash
# Measures the kernels and draws docs/roofline.svg. Takes some three minutes; nothing else should run.
#   bench/kernels.sh [FILTER]     FILTER: a regular expression over the names, see lapidary_bench --benchmark_list_tests
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

filter=${1:-'^(prefill_[a-z]*|decode)/(Q4_0|Q5_0|Q8_0|Q4_K|Q6_K|BF16)/(270M|4B)/(gate_up|down)$|^decode/Q8_0/(270M|4B)/head$|^attention_[a-z]*/|^(norm|rotate|gelu|quantize_[a-z]*)/4B|fixed$'}
json=build/bench/kernels.json
mkdir -p build/bench
build/release/bench/lapidary_bench --benchmark_filter="$filter" --benchmark_min_time=0.05 \
  --benchmark_repetitions=5 --benchmark_report_aggregates_only=true \
  --benchmark_out="$json" --benchmark_out_format=json >&2
python3 bench/roofline.py "$json" -o docs/roofline.svg
