"""README and docs: every link leads to a file and a heading that exist, every path and option is real."""

import pathlib
import re
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)|src(?:set)?=\"([^\"]+)\"")
# `examples/hello.cpp`, `docs/x.md`, `generate/engine.h`: what is written as a path of this project.
PATH = re.compile(r"`((?:examples|tests|bench|docs|cmake|include)/[\w./-]+\w|(?:base|config|vision|text|weights|kernels|"
                  r"model|generate)/[\w-]+\.h)`")


def without_code(text):
    return re.sub(r"```.*?```", "", text, flags=re.DOTALL)


def anchors(page):
    """GitHub's names for the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", without_code(page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


class LinksTest(unittest.TestCase):
    def test_links(self):
        for page in PAGES:
            for groups in LINK.findall(without_code(page.read_text())):
                link = groups[0] or groups[1]
                if link.startswith("https://"):
                    continue
                name, _, anchor = link.partition("#")
                target = (page.parent / name) if name else page
                self.assertTrue(target.exists(), f"{page.name}: {link}")
                if anchor:
                    self.assertIn(anchor, anchors(target), f"{page.name}: {link}")

    def test_paths(self):
        for page in PAGES:
            for path in PATH.findall(page.read_text()):
                found = (ROOT / path).exists() or (ROOT / "include/lapidary" / path).exists()
                self.assertTrue(found, f"{page.name}: {path}")

    def test_every_page_is_linked(self):
        linked = set()
        for page in PAGES:
            for groups in LINK.findall(page.read_text()):
                linked.add((page.parent / (groups[0] or groups[1]).partition("#")[0]).resolve())
        for page in PAGES[1:]:
            self.assertIn(page.resolve(), linked, "no page links it")


if __name__ == "__main__":
    unittest.main(verbosity=2)
