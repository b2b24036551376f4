#!/usr/bin/env python3
"""What it costs to compile examples/hello.cpp: bench/compile_cost.py [--runs 3]

Prints the fewest seconds of the compiler, its memory, the size of the object and of the stripped program, each beside
its limit; exit status 1 if one is above. Uses the command of build/release/compile_commands.json. Nothing else
should run meanwhile. --build DIR names another build; --runs 0 compiles nothing and looks at what is built already.
"""

import argparse
import json
import os
import pathlib
import resource
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
LIMITS = {"seconds": 15.0, "compiler_mb": 1000.0, "object_mb": 1.0, "program_mb": 3.0}


def compile_once(command, folder, output):
    """Seconds of processor time."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(f"{command} -o {output}", shell=True, cwd=folder, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build/release")
    parser.add_argument("--json", type=pathlib.Path)
    args = parser.parse_args()
    entry = next(entry for entry in json.loads((args.build / "compile_commands.json").read_text())
                 if entry["file"].endswith("examples/hello.cpp") and "lapidary_hello" in entry["command"])
    command, built = entry["command"].split(" -o ")
    command += f" -c {entry['file']}"
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        output = pathlib.Path(entry["directory"]) / built.split(" -c ")[0]
        if args.runs > 0:
            output = pathlib.Path(folder) / "hello.o"
            found["seconds"] = min(compile_once(command, entry["directory"], output) for _ in range(args.runs))
            found["compiler_mb"] = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1000
        found["object_mb"] = output.stat().st_size / 1e6
        program = pathlib.Path(folder) / "hello"
        subprocess.run(["strip", "-o", program, args.build / "examples/hello"], check=True)
        found["program_mb"] = os.path.getsize(program) / 1e6
    for name, value in found.items():
        print(f"{name:12s} {value:8.2f}   limit {LIMITS[name]:g}")
    if args.json:
        args.json.write_text(json.dumps(found, indent=2) + "\n")
    sys.exit(any(found[name] > LIMITS[name] for name in found))


if __name__ == "__main__":
    main()
