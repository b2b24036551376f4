#!/usr/bin/env python3
"""Draws what compare.py found as bars: bench/peers/chart.py JSON... -o docs/peers.svg

One group of bars per file and engine, prefill on the left, decode on the right, each as a multiple of llama.cpp's speed.
The picture follows the reader's light or dark theme.
"""

import argparse
import json
import pathlib
from xml.sax.saxutils import escape

ENGINES = {"llama.cpp": "peer", "lapidary exact": "exact", "lapidary fast": "fast"}
ROW, GAP, LABEL, WIDTH = 16, 14, 190, 250
STYLE = """
text { font: 12px sans-serif; fill: #222 } .peer { fill: #9aa0a6 } .exact { fill: #5b8def } .fast { fill: #1a56c4 }
.axis { stroke: #bbb } .title { font-weight: bold }
@media (prefers-color-scheme: dark) { text { fill: #ddd } .peer { fill: #777d85 } .exact { fill: #7aa5f7 }
  .fast { fill: #a9c7ff } .axis { stroke: #555 } }
"""


def name_of(file):
    return file.removesuffix(".gguf").replace("gemma-3-", "")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("reports", type=pathlib.Path, nargs="+")
    parser.add_argument("-o", "--output", type=pathlib.Path, required=True)
    args = parser.parse_args()
    reports = [json.loads(path.read_text()) for path in args.reports]
    files = [(name, engines) for report in reports for name, engines in report["files"].items()]
    largest = max(engine[f"{kind}_ratio"] for _, engines in files for engine in engines.values()
                  for kind in ("prefill", "decode"))
    scale = (WIDTH - 90) / largest
    out, y = [], 44
    for column, kind in enumerate(("prefill", "decode")):
        x = LABEL + column * WIDTH
        out.append(f'<text class="title" x="{x}" y="30">{kind}, tokens per second</text>')
    for name, engines in files:
        for engine, style in ENGINES.items():
            if engine not in engines:
                continue
            label = f"{name_of(name)}  " if engine == "llama.cpp" else ""
            out.append(f'<text class="title" x="8" y="{y + 12}">{escape(label)}</text>')
            out.append(f'<text x="{LABEL - 6}" y="{y + 12}" text-anchor="end">{escape(engine)}</text>')
            for column, kind in enumerate(("prefill", "decode")):
                x, ratio = LABEL + column * WIDTH, engines[engine][f"{kind}_ratio"]
                speed = engines[engine][f"{kind}_tok_s"]
                out.append(f'<rect class="{style}" x="{x}" y="{y}" width="{ratio * scale:.1f}" height="{ROW - 3}"/>')
                out.append(f'<text x="{x + ratio * scale + 4:.1f}" y="{y + 11}">{speed:.0f} ({ratio:.1f}x)</text>')
            y += ROW
        y += GAP
    for column in range(2):
        x = LABEL + column * WIDTH
        out.append(f'<line class="axis" x1="{x}" x2="{x}" y1="38" y2="{y - GAP + 4}"/>')
    first = reports[0]
    out.append(f'<text x="8" y="{y + 10}">{escape(first["cpu"])}, {first["threads"]} threads, prompt of '
               f'{first["prefill"]} tokens, {first["date"]}; llama-cpp-python {first["llama_cpp_python"]}</text>')
    args.output.write_text(f'<svg xmlns="http://www.w3.org/2000/svg" width="{LABEL + 2 * WIDTH}" height="{y + 24}">'
                           f"<style>{STYLE}</style>\n" + "\n".join(out) + "\n</svg>\n")


if __name__ == "__main__":
    main()
