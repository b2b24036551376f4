#!/usr/bin/env bash
# From a fresh clone on Debian 12 or 13 to text on the screen, with the real Gemma 3 270M:
#
#   examples/quickstart.sh [PROMPT] [OPTIONS of "lapidary generate"]
#   examples/quickstart.sh "Once upon a time" -n 200 --temp 0.8 --seed 7
#
# Gets packages and weights, builds the program, makes a blob of the weights once, and completes the
# prompt. Only the completion goes to standard output.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

prompt=${1:-The capital of France is}
shift $(($# > 0 ? 1 : 0))

program=build/release/examples/lapidary
weights=build/models/gemma-3-270m-q4_k_m.gguf
blob=build/models/gemma-3-270m.lap
say() { printf '== %s\n' "$*" >&2; }

cmake/setup.sh

[ -f build/release/build.ninja ] || say "Building (build/release)"
{
  [ -f build/release/build.ninja ] || cmake --preset release
  cmake --build --preset release --target lapidary_cli
} >&2

# A program that was built anew may write blobs of another version.
if [ ! -f "$blob" ] || [ "$program" -nt "$blob" ]; then
  say "Converting the weights into $blob"
  "$program" convert "$weights" -o "$blob" >&2
fi

say "Gemma is provided under the Gemma Terms of Use: ai.google.dev/gemma/terms (a copy: build/models/GEMMA_TERMS.html)"
say "$prompt"
exec "$program" generate -m "$blob" -p "$prompt" "$@"
