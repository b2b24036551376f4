"""The floors of include/lapidary: nothing includes upward, and plain headers stay free of SIMD.

    floors_test.py [--draw]     --draw prints which floor includes which, and how often
"""

import collections
import pathlib
import re
import sys
import unittest

INCLUDE = pathlib.Path(__file__).resolve().parents[2] / "include"
# From the ground up. What is not on a floor (lapidary.h) is the roof.
FLOORS = ["version.h", "base", "config", "vision", "text", "weights", "kernels", "model", "generate"]
INCLUDES = re.compile(r'^\s*#\s*include\s+[<"]([^>"]+)[>"]', re.MULTILINE)


def name_of(path):
    return path.relative_to(INCLUDE).as_posix()


HEADERS = {name_of(path): INCLUDES.findall(path.read_text()) for path in sorted(INCLUDE.rglob("*.h"))}


def floor(name):
    part = name.split("/")[1]
    return FLOORS.index(part) if part in FLOORS else len(FLOORS)


def reach(name):
    """Every header that `name` includes, directly or not."""
    seen, todo = set(), [name]
    while todo:
        for include in HEADERS.get(todo.pop(), []):
            if include not in seen:
                seen.add(include)
                todo.append(include)
    return seen


def functions(text):
    """Lines and first line of every function at the level of a namespace or a class, as clang-format lays them out: it
    ends at the first brace that stands as far to the left as it began."""
    lines = text.splitlines()
    for end_of_head, line in enumerate(lines):
        if not re.search(r"(\)|const|noexcept|override|HWY_ATTR) \{$", line):
            continue
        begin = end_of_head
        while begin > 0 and len(lines[begin]) - len(lines[begin].lstrip()) not in (0, 2):
            begin -= 1
        indent = len(lines[begin]) - len(lines[begin].lstrip())
        if re.match(r"\s*((if|for|while|switch|namespace|class|struct|return|const auto)\b|\}|$)", lines[begin]):
            continue
        end = next((i for i in range(end_of_head + 1, len(lines)) if re.match(" " * indent + r"\}", lines[i])), None)
        if end is not None:
            yield end - begin + 1, lines[begin].strip()


class FloorsTest(unittest.TestCase):
    def test_files_and_functions_fit_the_eye(self):
        for name in HEADERS:
            text = (INCLUDE / name).read_text()
            self.assertLessEqual(text.count("\n"), 640, name)
            for length, head in functions(text):
                self.assertLessEqual(length, 80, f"{name}: {head}")

    def test_functions_are_found(self):
        text = "inline int F(int a,\n             int b) {\n  return 1;\n}\nstruct S {\n  int g() const {\n    return 2;\n  }\n};\n"
        self.assertEqual([length for length, _ in functions(text)], [4, 3])

    def test_there_are_headers_on_every_floor(self):
        self.assertEqual({floor(name) for name in HEADERS}, set(range(len(FLOORS) + 1)))

    def test_ours_are_named_from_the_root_and_exist(self):
        for name, includes in HEADERS.items():
            for include in includes:
                ours = f"{pathlib.PurePosixPath(name).parent}/{include}" in HEADERS
                self.assertFalse(ours, f"{name} includes {include} without its folder")
                if include.startswith("lapidary/"):
                    self.assertIn(include, HEADERS, name)

    def test_nothing_includes_upward(self):
        for name, includes in HEADERS.items():
            for include in includes:
                if include.startswith("lapidary/"):
                    self.assertLessEqual(floor(include), floor(name), f"{name} includes {include}")

    def test_no_circles(self):
        for name in HEADERS:
            self.assertNotIn(name, reach(name))

    def test_plain_headers_do_not_pay_for_simd(self):
        for name in HEADERS:
            if name.endswith("-inl.h") or name == "lapidary/lapidary.h":
                continue
            for include in reach(name):
                self.assertFalse(include.startswith("hwy/highway") or include.endswith("-inl.h"),
                                 f"{name} reaches {include}")

    def test_foreach_target_is_left_to_generated_files(self):
        for name, includes in HEADERS.items():
            self.assertNotIn("hwy/foreach_target.h", includes, name)

    def test_no_header_of_streams(self):
        # <iostream> puts a static initialiser into every file; <regex> takes a second to compile.
        for name, includes in HEADERS.items():
            self.assertFalse({"iostream", "regex"} & set(includes), name)


def draw():
    arrows = collections.Counter()
    names = FLOORS + ["lapidary.h"]
    for name, includes in HEADERS.items():
        for include in includes:
            if include.startswith("lapidary/"):
                arrows[names[floor(name)], names[floor(include)]] += 1
    for upper in reversed(names):
        lower = [f"{other} ({arrows[upper, other]})" for other in reversed(names)
                 if other != upper and arrows[upper, other]]
        print(f"{upper:12} -> {', '.join(lower) or '-'}")


if __name__ == "__main__":
    if "--draw" in sys.argv:
        draw()
    else:
        unittest.main(verbosity=2)
