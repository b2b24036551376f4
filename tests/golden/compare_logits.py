#!/usr/bin/env python3
"""Compares two files of logits of the same ids: how far is an engine from its reference?

    compare_logits.py REFERENCE OURS --ids FILE [--vocabulary 262144] [--rows FILE] [--json]

REFERENCE and OURS are little-endian float32 [ids, vocabulary], as make_real.py and `lapidary logits`
write them. Prints, over all rows: mean and largest KL(reference || ours) in nats, the share of rows
with the same best id, the largest difference of log-probabilities among the reference's ten best,
and the perplexity of both over the ids file. Needs only numpy; holds one row at a time.

Exit status: 0, or 1 with one line if the files do not fit together or hold values that are not finite.
"""

import argparse
import json
import math
import pathlib
import sys

import numpy as np


def open_logits(path, vocabulary):
    """A read-only float32 [rows, vocabulary] view of a file."""
    size = path.stat().st_size
    if size == 0 or size % (4 * vocabulary):
        sys.exit(f"{path}: {size} bytes are not whole rows of {vocabulary} float32 values")
    return np.memmap(path, dtype="<f4", mode="r").reshape(-1, vocabulary)


def log_softmax(row):
    row = row.astype(np.float64)
    row -= row.max()
    return row - math.log(np.exp(row).sum())


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("reference", type=pathlib.Path)
    parser.add_argument("ours", type=pathlib.Path)
    parser.add_argument("--ids", type=pathlib.Path, required=True, help="whitespace-separated ids")
    parser.add_argument("--vocabulary", type=int, default=262144)
    parser.add_argument("--rows", type=pathlib.Path, help="write 'position kl same' for each row here")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()

    ids = [int(word) for word in args.ids.read_text().split()]
    reference = open_logits(args.reference, args.vocabulary)
    ours = open_logits(args.ours, args.vocabulary)
    if not len(reference) == len(ours) == len(ids):
        sys.exit(f"rows differ: reference {len(reference)}, ours {len(ours)}, ids {len(ids)}")

    divergences, same, worst_top = [], [], 0.0
    reference_nll = our_nll = 0.0
    for position in range(len(ids)):
        a = log_softmax(reference[position])
        b = log_softmax(ours[position])
        if not (np.isfinite(a).all() and np.isfinite(b).all()):
            sys.exit(f"row {position} holds values that are not finite")
        divergences.append(float(np.exp(a) @ (a - b)))
        same.append(int(a.argmax() == b.argmax()))
        top = np.argpartition(a, -10)[-10:]
        worst_top = max(worst_top, float(np.abs(a[top] - b[top]).max()))
        if position + 1 < len(ids):
            reference_nll -= a[ids[position + 1]]
            our_nll -= b[ids[position + 1]]

    if args.rows:
        lines = (f"{i} {k:.6e} {s}\n" for i, (k, s) in enumerate(zip(divergences, same)))
        args.rows.write_text("".join(lines))
    following = max(1, len(ids) - 1)
    result = {
        "rows": len(ids),
        "mean_kl": float(np.mean(divergences)),
        "max_kl": float(np.max(divergences)),
        "max_kl_row": int(np.argmax(divergences)),
        "top1_agreement": float(np.mean(same)),
        "max_top10_difference": worst_top,
        "perplexity_reference": math.exp(reference_nll / following),
        "perplexity_ours": math.exp(our_nll / following),
    }
    if args.json:
        print(json.dumps(result))
        return
    print(f"rows                  {result['rows']}")
    print(f"mean KL(ref||ours)    {result['mean_kl']:.3e}")
    print(f"max KL(ref||ours)     {result['max_kl']:.3e} at row {result['max_kl_row']}")
    print(f"top-1 agreement       {100 * result['top1_agreement']:.2f} %")
    print(f"max top-10 difference {result['max_top10_difference']:.3e}")
    print(f"perplexity of ref     {result['perplexity_reference']:.4f}")
    print(f"perplexity of ours    {result['perplexity_ours']:.4f}")


if __name__ == "__main__":
    main()
