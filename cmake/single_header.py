#!/usr/bin/env python3
"""Writes all of Lapidary as one header, for programs that would rather carry a file than a folder.

    cmake/single_header.py -o lapidary.h

The result replaces <lapidary/lapidary.h>, and with --with <lapidary/vision/image.h> and the like the headers
beside it. It needs what the folder needs (Highway, sentencepiece), and like the umbrella it is compiled for the
instruction set that the compiler is told: engines need the folder.
"""

import argparse
import pathlib
import re

ROOT = pathlib.Path(__file__).resolve().parents[1]
INCLUDE = ROOT / "include"
OURS = re.compile(r'^#include "(lapidary/[^"]+)"')
# Tells lapidary_add_engine's files apart from all others; a single header is never compiled twice.
TOGGLE = re.compile(r"^#if defined\((LAPIDARY_\w+)\) == defined\(HWY_TARGET_TOGGLE\)$")
# Macros that Highway must see first: that of base/highway-inl.h, and that of the CMake target lapidary::lapidary.
MACROS = """\
#if defined(__AVX512BF16__) && !defined(HWY_WANT_AVX3_ZEN4)
#define HWY_WANT_AVX3_ZEN4 1
#endif
#ifndef HWY_DISABLED_TARGETS
#define HWY_DISABLED_TARGETS (HWY_ALL_SVE | HWY_RVV)
#endif
"""


def body(lines, name):
    """A header without its guard, and without the comment lines in front of that."""
    start = next(i for i, line in enumerate(lines) if line.startswith(("#ifndef LAPIDARY_", "#if defined(LAPIDARY_")))
    toggle = TOGGLE.match(lines[start])
    if toggle:
        guard = toggle.group(1)
        expected = [f"#ifdef {guard}", f"#undef {guard}", "#else", f"#define {guard}", "#endif"]
    else:
        expected = [lines[start].replace("#ifndef", "#define")]
    found = lines[start + 1 : start + 1 + len(expected)]
    if found != expected:
        raise SystemExit(f"{name}: expected the include guard {expected}, found {found}")
    end = max(i for i, line in enumerate(lines) if line.startswith("#endif"))
    return lines[:start] + lines[start + 1 + len(expected) : end]


def expand(name, seen, out):
    if name in seen:
        return
    seen.add(name)
    lines = (INCLUDE / name).read_text().split("\n")
    text = []
    for line in body(lines, name):
        match = OURS.match(line)
        if match:
            expand(match.group(1), seen, out)
        else:
            text.append(line)
    out.append(f"// ---- {name} {'-' * max(4, 90 - len(name))}\n" + "\n".join(text).strip("\n") + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", required=True, type=pathlib.Path)
    parser.add_argument("--with", dest="more", metavar="HEADER", action="append", default=[],
                        help="another header that the umbrella does not name, such as lapidary/vision/image.h")
    arguments = parser.parse_args()

    out = []
    seen = set()
    for name in ["lapidary/lapidary.h", *arguments.more]:
        expand(name, seen, out)
    licence = "// Lapidary, all of it in one file. Made by cmake/single_header.py; do not edit. Apache License 2.0.\n"
    guard = "LAPIDARY_LAPIDARY_H_"
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(
        f"{licence}#ifndef {guard}\n#define {guard}\n\n{MACROS}\n" + "\n".join(out) + f"\n#endif  // {guard}\n")


if __name__ == "__main__":
    main()
