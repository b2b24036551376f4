#!/usr/bin/env python3
"""Shows Doxygen the comments of a header: whole lines of // in front of code become ///, those behind code ///<.

The headers themselves have plain comments, which people read. A comment that no declaration follows (a
section's title, a licence) stays as it is, and so do comments inside functions: they are indented by more than the
two spaces of a class.
"""

import re
import sys

WHOLE = re.compile(r"^( {0,2})//(?!/|\s*-{3})(.*)$")
BEHIND = re.compile(r"^( {2}\S.*[;,{}]\s*)//(?!/)(.*)$")


def main():
    lines = open(sys.argv[1], encoding="utf-8").read().split("\n")
    for i, line in enumerate(lines):
        if line.startswith("#include <"):
            print()  # stb_image's is inside a namespace, where Doxygen would look for it
            continue
        whole, behind = WHOLE.match(line), BEHIND.match(line)
        if whole:
            following = next((later for later in lines[i:] if not WHOLE.match(later)), "")
            code = following.strip() and not following.lstrip().startswith(("#", "//", "}", ")"))
            # "<eos>" is no HTML tag, "@" and "\\" no command.
            line = f"{whole.group(1)}{'///' if code else '//'}{escape(whole.group(2))}"
        elif behind:
            line = f"{behind.group(1)}///<{escape(behind.group(2))}"
        print(line)


def escape(text):
    return re.sub(r"([@\\&<>#$])", r"\\\1", text)


if __name__ == "__main__":
    main()
