#!/usr/bin/env python3
"""Tokens per second of sessions that decode together: bench/sessions.py MODEL [--sessions 1 2 4 8 ...]
        [--precision fast] [--json OUT]

Prints a line per number of sessions, with the gain over one session in the same process. Nothing else should run
meanwhile. Needs build/release/examples/lapidary.
"""

import argparse
import datetime
import json
import pathlib
import subprocess

ROOT = pathlib.Path(__file__).resolve().parent.parent


def main():
    parser = argparse.ArgumentParser(description="Tokens per second of sessions that decode together.")
    parser.add_argument("model")
    parser.add_argument("--sessions", type=int, nargs="+", default=[1, 2, 4, 8, 16, 32, 64])
    parser.add_argument("--precision", choices=["fast", "exact"], default="exact")
    parser.add_argument("--prefill", type=int, default=128)
    parser.add_argument("--decode", type=int, default=48)
    parser.add_argument("--lapidary", default=ROOT / "build/release/examples/lapidary")
    parser.add_argument("--json", type=pathlib.Path)
    args = parser.parse_args()
    rows = []
    for sessions in args.sessions:
        command = [args.lapidary, "bench", "-m", args.model, "-p", str(args.prefill), "-n", str(args.decode), "-r", "3",
                   "--sessions", str(sessions), "--precision", args.precision, "--json"]
        output = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
        result = json.loads(output)
        alone = result["decode_tok_s"]
        together = result["together_tok_s"] or alone
        rows.append({"sessions": sessions, "tok_s": together, "alone_tok_s": alone, "gain": together / alone})
        print(f"{sessions:3d} sessions  {together:8.1f} tok/s  {together / alone:5.2f} x one session "
              f"({alone:.1f} tok/s)", flush=True)
    if args.json:
        args.json.write_text(json.dumps({"date": datetime.date.today().isoformat(), "model": result["model"],
                                         "precision": args.precision, "target": result["target"],
                                         "threads": result["threads"], "rows": rows},
                                        indent=2) + "\n")


if __name__ == "__main__":
    main()
