#!/usr/bin/env bash
# Everything from a fresh clone on Debian 12 or 13: packages, the real weights, build, all tests.
# Arguments go to ctest: tests/run.sh -R tokenizer
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

cmake/setup.sh --tests

printf '== Building (build/release)\n'
cmake --preset release -D LAPIDARY_TEST_MODEL="$PWD/build/models/gemma-3-270m-q4_k_m.gguf"
cmake --build --preset release

printf '== Testing\n'
ctest --preset release -j "$(nproc)" --no-tests=error "$@"
