#!/usr/bin/env bash
# The tests of the kernels on other instruction sets than the one this machine is best at.
#
#   tests/targets.sh [sse2 ssse3 sse4 avx2 avx3 avx3_dl avx3_zen4 avx3_spr neon neon_bf16 ...]      default: all that can run
#
# The NEON ones run under qemu-user, with a cross compiler and Debian's arm64 libraries in build/targets; they need
# Debian and root (or the packages g++-aarch64-linux-gnu and qemu-user). Run tests/run.sh first: it sets up the rest.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

highway=build/deps/highway/usr
arm=build/targets/arm64/usr
out=build/targets
mkdir -p "$out"

setup_arm() {
  command -v aarch64-linux-gnu-g++ >/dev/null && command -v qemu-aarch64 >/dev/null ||
    DEBIAN_FRONTEND=noninteractive apt-get -q install -y --no-install-recommends g++-aarch64-linux-gnu qemu-user \
      >"$out/packages.log"
  [ -d "$arm" ] && return
  # Highway from Debian 13 as in cmake/setup.sh; Catch2 of the compiler's own release.
  cmake/unpack_debs.sh trixie arm64 build/targets/arm64 libhwy-dev libhwy1t64 >"$out/arm64.log"
  cmake/unpack_debs.sh "$(. /etc/os-release && echo "$VERSION_CODENAME")" arm64 build/targets/catch2 catch2 \
    >>"$out/arm64.log"
  cp -r build/targets/catch2/usr/. "$arm"
}

run() {
  local name=$1 compiler=$2 libraries=$3
  shift 3
  local objects=$out/$name program=$out/$name/kernels_test
  mkdir -p "$objects/tests/kernels" "$objects/tests/support"
  printf '== %s\n' "$name"
  printf '%s\n' tests/kernels/*_test.cpp tests/support/main.cpp |
    xargs -P "$(nproc)" -I{} "$compiler" -std=c++20 -O2 -DNDEBUG -DHWY_SHARED_DEFINE \
      '-DHWY_DISABLED_TARGETS=(HWY_ALL_SVE|HWY_RVV)' "$@" -Iinclude -I. -isystem "$libraries/include" \
      -c {} -o "$objects/{}.o"
  local lib
  lib=$(dirname "$(find "$libraries/lib" -name libhwy.so | head -n 1)")
  local catch=()  # Catch2 3 is a library, 2 a header
  [ -z "$(find "$libraries/lib" /usr/lib -name libCatch2.a -print -quit)" ] || catch=(-lCatch2)
  "$compiler" "$objects"/tests/*/*.o -o "$program" -L"$lib" "${catch[@]}" -lhwy -Wl,-rpath,"$PWD/$lib"
  if [ "$compiler" = g++ ]; then
    "$program"
  else
    qemu-aarch64 -L /usr/aarch64-linux-gnu "$program"
  fi
}

if [ $# -eq 0 ]; then
  set -- sse2 ssse3 sse4 avx2 neon neon_bf16
  ! grep -q avx512_vnni /proc/cpuinfo || set -- "$@" avx3 avx3_dl
  ! grep -q avx512_bf16 /proc/cpuinfo || set -- "$@" avx3_zen4
  ! grep -q avx512_fp16 /proc/cpuinfo || set -- "$@" avx3_spr
fi
for name in "$@"; do
  case $name in
    sse2) run sse2 g++ "$highway" ;;
    ssse3) run ssse3 g++ "$highway" -mssse3 ;;
    sse4) run sse4 g++ "$highway" -msse4.2 -maes -mpclmul ;;
    avx2) run avx2 g++ "$highway" -march=haswell -maes -mpclmul ;;
    avx3) run avx3 g++ "$highway" -march=skylake-avx512 ;;
    avx3_dl) run avx3_dl g++ "$highway" -march=icelake-server -mtune=generic ;;
    avx3_zen4) run avx3_zen4 g++ "$highway" -march=icelake-server -mtune=generic -mavx512bf16 ;;
    avx3_spr) run avx3_spr g++ "$highway" -march=sapphirerapids -mtune=generic ;;
    neon) setup_arm && run neon aarch64-linux-gnu-g++ "$arm" -march=armv8-a+crypto ;;
    neon_bf16) setup_arm && run neon_bf16 aarch64-linux-gnu-g++ "$arm" -march=armv8.6-a+crypto+bf16+i8mm ;;
    *) echo "targets.sh: expected sse2, ssse3, sse4, avx2, avx3, avx3_dl, avx3_zen4, avx3_spr, neon or neon_bf16, found $name" >&2; exit 2 ;;
  esac
done
