#!/usr/bin/env bash
# Gets what Lapidary needs on Debian 12 or 13 (as root, or with sudo), and does nothing when all is there:
# setup.sh [--tests]
#
#   - Debian's packages: compiler, CMake, Ninja, sentencepiece, stb, and what the examples and tests use; for tests
#     also clang, to compile the headers with it;
#   - Highway >= 1.2. Debian 12 has 1.0.3, so there Debian 13's package is downloaded and unpacked into
#     build/deps/highway; neither the system's packages nor its list of sources are touched;
#   - stb_image >= 2.28; 2.27 shifts a value by more bits than it has when a JPEG scan ends inside a code. Debian 12
#     has 2.27, so there Debian 13's package is unpacked into build/deps/stb;
#   - the weights of Gemma 3 270M, in build/models (see fetch_model.py).
#
# On another system: install the same libraries by its own means, or configure with
# -DLAPIDARY_FETCH_DEPENDENCIES=ON.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

packages=(g++ cmake ninja-build python3 ca-certificates
          libsentencepiece-dev libstb-dev nlohmann-json3-dev libcli11-dev catch2 libbenchmark-dev doxygen)
if [ "${1:-}" = --tests ]; then
  # The oldest that will do, where Debian has it.
  [ "$(. /etc/os-release && echo "${VERSION_ID:-}")" = 12 ] && packages+=(clang-16) || packages+=(clang-19)
fi
highway_dir=build/deps/highway
stb_dir=build/deps/stb
log=build/setup.log
mkdir -p build
: >"$log"

say() { printf '== %s\n' "$*" >&2; }

fail() {
  printf 'setup: %s\n' "$*" >&2
  exit 1
}

# Runs a command whose output only matters if it fails.
quietly() {
  if ! "$@" >>"$log" 2>&1 </dev/null; then
    tail -n 20 "$log" >&2
    fail "this failed: $*   (all of its output: $PWD/$log)"
  fi
}

as_root() {
  if [ "$(id -u)" -eq 0 ]; then
    "$@"
  elif command -v sudo >/dev/null; then
    # quietly() takes standard input away; sudo asks for its password on the terminal.
    sudo "$@"
  else
    fail "needs to be root (there is no sudo) for: $*"
  fi
}

is_installed() {
  [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

lists_are_fresh=false
install_packages() {
  if ! $lists_are_fresh; then
    quietly as_root apt-get -q update
    lists_are_fresh=true
  fi
  quietly as_root env DEBIAN_FRONTEND=noninteractive \
    apt-get -q install -y --no-install-recommends "$@"
}

# ---- Debian's packages -----------------------------------------------------------------------------

missing=()
for package in "${packages[@]}"; do
  is_installed "$package" || missing+=("$package")
done
if [ ${#missing[@]} -gt 0 ]; then
  command -v apt-get >/dev/null ||
    fail "this is not Debian. Install sentencepiece, Highway >= 1.2, stb, nlohmann-json, CLI11 and Catch2 \
by other means, or configure with -DLAPIDARY_FETCH_DEPENDENCIES=ON"
  say "Installing Debian packages: ${missing[*]}"
  install_packages "${missing[@]}"
fi

# ---- Highway ---------------------------------------------------------------------------------------

# Whether the compiler finds Highway >= 1.2, given more flags for it.
has_highway() {
  printf '%s\n' '#include <hwy/base.h>' '#if HWY_MAJOR * 1000 + HWY_MINOR < 1002' '#error too old' '#endif' |
    g++ -std=c++17 "$@" -E -x c++ - >/dev/null 2>&1
}

if ! has_highway && ! has_highway -isystem "$highway_dir/usr/include"; then
  $lists_are_fresh || quietly as_root apt-get -q update
  lists_are_fresh=true
  candidate=$(LC_ALL=C apt-cache policy libhwy-dev | sed -n 's/^ *Candidate: //p')
  if dpkg --compare-versions "${candidate:-0}" ge 1.2; then
    say "Installing Debian package: libhwy-dev $candidate"
    install_packages libhwy-dev
  else
    say "Unpacking Debian 13's libhwy-dev into $highway_dir (this system has ${candidate:-none}, 1.2 is needed)"
    quietly cmake/unpack_debs.sh trixie "$(dpkg --print-architecture)" "$highway_dir" libhwy-dev libhwy1t64
  fi
  has_highway || has_highway -isystem "$highway_dir/usr/include" || fail "Highway >= 1.2 is still not found"
fi

# ---- stb_image -------------------------------------------------------------------------------------

# Whether a file is stb_image >= 2.28; its first line names the version.
is_new_stb() {
  [ -f "$1" ] || return 1
  local version
  version=$(sed -n '1s/.*v\([0-9]\+\)\.\([0-9]\+\).*/\1.\2/p' "$1")
  dpkg --compare-versions "${version:-0}" ge 2.28
}

if ! is_new_stb /usr/include/stb/stb_image.h && ! is_new_stb "$stb_dir/usr/include/stb/stb_image.h"; then
  say "Unpacking Debian 13's libstb-dev into $stb_dir (this system's is too old, 2.28 is needed)"
  quietly cmake/unpack_debs.sh trixie "$(dpkg --print-architecture)" "$stb_dir" libstb-dev
  is_new_stb "$stb_dir/usr/include/stb/stb_image.h" || fail "stb_image >= 2.28 is still not found"
fi

# ---- The weights -----------------------------------------------------------------------------------

if [ ! -f build/models/gemma-3-270m-q4_k_m.gguf ]; then
  python=
  for candidate in python3 /usr/bin/python3; do
    if "$candidate" -m pip --version >/dev/null 2>&1; then
      python=$candidate
      break
    fi
  done
  if [ -z "$python" ]; then
    say "Installing Debian package: python3-pip"
    install_packages python3-pip
    python=/usr/bin/python3
  fi
  "$python" cmake/fetch_model.py build/models >&2
fi
