#!/usr/bin/env python3
"""Draws a roofline picture of the kernels, and prints the same as a table.

    bench/roofline.py JSON -o SVG      JSON: what lapidary_bench --benchmark_out wrote

Both axes are logarithmic: operations per byte from memory to the right, 10^9 operations per second
upwards. The slanted line is what one core reads from memory, the level ones are its peaks. A kernel
as good as it can be lies on the lowest line above it. Needs nothing but Python.
"""

import argparse
import html
import json
import math
import pathlib

WIDTH, HEIGHT = 900, 560
LEFT, RIGHT, TOP, BOTTOM = 70, 210, 30, 60
X_MIN, X_MAX = 0.2, 3000.0
Y_MIN, Y_MAX = 1.0, 4000.0
GROUPS = [  # first part of a name, legend, colour
    ("prefill_fast", "prefill, fast", "#c2410c"),
    ("prefill_exact", "prefill, exact", "#1d4ed8"),
    ("decode", "decode, one row", "#15803d"),
    ("attention_prefill", "attention, prefill", "#7e22ce"),
    ("attention_decode", "attention, decode", "#be185d"),
    ("norm", "norm *", "#57534e"),
    ("rotate", "rotary embedding *", "#a16207"),
    ("gelu", "gelu(gate) up *", "#0e7490"),
    ("quantize", "quantise *", "#4d7c0f"),
]
PEAKS = [("int8_gop_s", "int8"), ("int16_gop_s", "16-bit"), ("bf16_gop_s", "bf16"), ("f32_gop_s", "f32")]


def x_of(value):
    return LEFT + (WIDTH - LEFT - RIGHT) * math.log(value / X_MIN) / math.log(X_MAX / X_MIN)


def y_of(value):
    return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * math.log(value / Y_MIN) / math.log(Y_MAX / Y_MIN)


def group_of(name):
    return next((group for group in reversed(GROUPS) if name.startswith(group[0])), None)


def read_points(report):
    """Name, operations/s and bytes/s in 10^9, share of the limit: medians if there are any."""
    points = []
    for run in report["benchmarks"]:
        if run.get("aggregate_name", "median") != "median":
            continue
        points.append((run["run_name"], run["GOP/s"], run["GB/s"], run["share"]))
    return points


def line(x1, y1, x2, y2, style):
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" {style}/>'


def text(x, y, words, style=""):
    return f'<text x="{x:.1f}" y="{y:.1f}" {style}>{html.escape(words)}</text>'


def draw(context, points):
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
           'font-family="sans-serif" font-size="12">',
           f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>']
    for exponent in range(-1, 5):
        for axis_value, low, high, vertical in ((10.0 ** exponent, X_MIN, X_MAX, True),
                                                (10.0 ** exponent, Y_MIN, Y_MAX, False)):
            if not low <= axis_value <= high:
                continue
            grid = 'stroke="#e7e5e4"'
            if vertical:
                x = x_of(axis_value)
                out.append(line(x, TOP, x, HEIGHT - BOTTOM, grid))
                out.append(text(x, HEIGHT - BOTTOM + 18, f"{axis_value:g}", 'text-anchor="middle"'))
            else:
                y = y_of(axis_value)
                out.append(line(LEFT, y, WIDTH - RIGHT, y, grid))
                out.append(text(LEFT - 8, y + 4, f"{axis_value:g}", 'text-anchor="end"'))
    read = float(context["read_gb_s"])
    top = max(float(context[key]) for key, _ in PEAKS)
    begin = max(X_MIN, Y_MIN / read)
    out.append(line(x_of(begin), y_of(read * begin), x_of(top / read), y_of(top),
                    'stroke="#292524" stroke-width="1.5"'))
    out.append(text(x_of(begin) + 8, y_of(read * begin) - 14, f"memory {read:.0f} GB/s"))
    drawn = set()
    for key, name in PEAKS:
        peak = float(context[key])
        if peak in drawn:
            continue
        drawn.add(peak)
        names = ", ".join(n for k, n in PEAKS if float(context[k]) == peak)
        out.append(line(x_of(max(X_MIN, peak / read)), y_of(peak), WIDTH - RIGHT, y_of(peak),
                        'stroke="#292524" stroke-width="1.5"'))
        out.append(text(WIDTH - RIGHT + 6, y_of(peak) + 4, f"{names} {peak:.0f}"))
    for name, operations, gigabytes, share in points:
        group = group_of(name)
        if group is None or gigabytes == 0:
            continue
        x = min(max(operations / gigabytes, X_MIN), X_MAX)
        out.append(f'<circle cx="{x_of(x):.1f}" cy="{y_of(operations):.1f}" r="3.5" fill="{group[2]}" '
                   f'fill-opacity="0.75"><title>{html.escape(name)}: {operations:.0f} GOP/s, '
                   f'{100 * share:.0f} %</title></circle>')
    y = y_of(30)
    used = {group_of(name) for name, *_ in points}
    for group in GROUPS:
        if group in used:
            out.append(f'<circle cx="{WIDTH - RIGHT + 14}" cy="{y - 4:.1f}" r="4" fill="{group[2]}"/>')
            out.append(text(WIDTH - RIGHT + 24, y, group[1]))
            y += 18
    out.append(text(WIDTH - RIGHT + 10, y, "* bytes of the first-level cache"))
    out.append(text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 18, "operations per byte", 'text-anchor="middle"'))
    out.append(f'<text transform="translate(20 {(TOP + HEIGHT - BOTTOM) / 2}) rotate(-90)" '
               'text-anchor="middle">10^9 operations per second, one core</text>')
    out.append(text(LEFT, 18, f"Lapidary's kernels on one core, {context['target']}, {context['date'][:10]}"))
    out.append("</svg>")
    return "\n".join(out) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("json", type=pathlib.Path)
    parser.add_argument("-o", "--output", type=pathlib.Path, required=True)
    args = parser.parse_args()
    report = json.loads(args.json.read_text())
    points = read_points(report)
    args.output.write_text(draw(report["context"], points))
    context = report["context"]
    print(f"Peaks of one core ({context['target']}): "
          + ", ".join(f"{name} {context[key]} GOP/s" for key, name in PEAKS)
          + f"; memory {context['read_gb_s']} GB/s\n")
    print("| kernel | GOP/s | GB/s | share of its limit |\n|---|---:|---:|---:|")
    for name, operations, gigabytes, share in points:
        print(f"| {name} | {operations:.1f} | {gigabytes:.1f} | {100 * share:.0f} % |")


if __name__ == "__main__":
    main()
