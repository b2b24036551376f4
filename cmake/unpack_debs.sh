#!/usr/bin/env bash
# Downloads packages of a Debian release and unpacks them into a folder. Neither the system's packages nor its
# list of sources are touched.
#
#   cmake/unpack_debs.sh SUITE ARCHITECTURE FOLDER PACKAGE...     e.g. trixie amd64 build/deps/highway libhwy-dev
#
# The archive is the one this system has its own packages from. Output goes to standard output; exit status 1 and
# a line on standard error if something fails.
set -euo pipefail
suite=$1 architecture=$2 folder=$3
shift 3

fail() {
  printf 'unpack_debs: %s\n' "$*" >&2
  exit 1
}

codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
uri=$(apt-get indextargets --format '$(REPO_URI)' \
  'Created-By: Packages' 'Origin: Debian' "Codename: $codename" 'Component: main' | head -n 1)
[ -n "$uri" ] || fail "no Debian archive among apt's sources"

mkdir -p "$(dirname "$folder")"
work=$(cd "$(dirname "$folder")" && pwd)/apt-$suite-$architecture
rm -rf "$work" "$folder"
mkdir -p "$work"/{sources,lists/partial,cache/archives/partial,debs}
touch "$work/status"
cat >"$work/sources/$suite.sources" <<SOURCES
Types: deb
URIs: $uri
Suites: $suite
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
SOURCES
options=(-q -o APT::Architecture="$architecture" -o APT::Architectures="$architecture"
  -o Dir::Etc::sourcelist=/dev/null -o Dir::Etc::sourceparts="$work/sources" -o Dir::State::status="$work/status"
  -o Dir::State::lists="$work/lists" -o Dir::Cache="$work/cache" -o APT::Sandbox::User=
  -o Acquire::IndexTargets::deb::Translations::DefaultEnabled=false)
apt-get "${options[@]}" update || fail "apt-get update failed for $suite $architecture"
(cd "$work/debs" && apt-get "${options[@]}" download "$@") || fail "the download of $* from $suite failed"
for deb in "$work"/debs/*.deb; do
  dpkg-deb -x "$deb" "$work/root"
done
mv "$work/root" "$folder"
rm -rf "$work"
