#!/usr/bin/env python3
"""Times Lapidary and llama.cpp on the same GGUF files, in alternation, and compares their accuracy.

    bench/peers/compare.py FILE.gguf... [--rounds 5] [--texts 256] [--reference DIR] [--openvino int8|int4] [--json OUT]

llama-cpp-python is built from its source package for this CPU, in a virtual environment under
build/peers (some ten minutes the first time). Each round runs llama.cpp, then Lapidary in each
precision, every engine in a process of its own that warms up before it measures; printed are medians
over the rounds and ratios to llama.cpp. Nothing else should run on the machine meanwhile.

--texts N also times N tokens behind each of the prompts of bench/decode.py, greedily as `lapidary generate` makes
them, and one token at a time (--no-lookup). llama.cpp decodes as many random tokens behind as long a prompt: its
speed does not depend on them, and it need not choose any.

--reference DIR holds NAME.f32, float32 logits of tests/golden/texts/NAME.ids as tests/golden/make_real.py
writes them (--logits DIR): then mean KL(reference || engine) and top-1 agreement are printed for the
first FILE. --openvino installs OpenVINO GenAI from its binary package, exports each FILE for it with weights
of so many bits (openvino_export.py), and times that in the same rounds.

Needs python3 with venv, a C++ compiler (clang where the CPU has AMX) and CMake;
build/release/examples/lapidary must be built.
"""

import argparse
import datetime
import json
import os
import pathlib
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(HERE.parent))
import decode  # noqa: E402

LLAMA_CPP_PYTHON = "0.3.36"
NATIVE_FLAGS = "-DGGML_NATIVE=ON -DLLAMA_BUILD_TESTS=OFF"
# Versions that fit together: optimum-intel refuses to export Gemma 3 from transformers 5.
OPENVINO_GENAI = "2026.4.1.0"
OPENVINO_PACKAGES = [f"openvino-genai=={OPENVINO_GENAI}", "optimum-intel[openvino]==2.2.0",
                     "transformers==4.57.6", "accelerate", "gguf", "sentencepiece", "protobuf"]
PRECISIONS = ["fast", "exact"]


def environment(folder, marker, install):
    """The python of a virtual environment in which install(pip) has run once."""
    python = folder / "bin" / "python"
    done = folder / f"{marker}.installed"
    if not done.exists():
        print(f"== Installing {marker} into {folder}", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        install([python, "-m", "pip", "install", "--quiet"])
        done.touch()
    return python


def compilers():
    """Variables for a compiler that builds llama.cpp's AMX kernels well, if this CPU has AMX.

    g++ 12 tells itself that LDTILECFG reads 8 bytes (amxtileintrin.h), leaves out the stores of the
    other 56, and the first tile load is an illegal instruction. clang has no such fault.
    """
    if "amx_int8" not in pathlib.Path("/proc/cpuinfo").read_text():
        return {}
    for version in ("", *(f"-{n}" for n in range(22, 15, -1))):
        if shutil.which(f"clang++{version}"):
            return {"CC": f"clang{version}", "CXX": f"clang++{version}"}
    sys.exit("compare.py: this CPU has AMX, and g++ 12 miscompiles llama.cpp's kernels for it: "
             "install clang 16 or newer")


def install_llama_cpp(pip):
    subprocess.run(
        [*pip, "--no-binary", "llama-cpp-python", f"llama-cpp-python=={LLAMA_CPP_PYTHON}", "numpy"],
        check=True, env={**os.environ, **compilers(), "CMAKE_ARGS": NATIVE_FLAGS})


def install_openvino(pip):
    subprocess.run([*pip, *OPENVINO_PACKAGES], check=True)


def openvino_folder(args, gguf, python):
    folder = args.build / f"{gguf.stem}_openvino_{args.openvino}"
    if not folder.exists():
        print(f"== Exporting {gguf.name} to {folder}", file=sys.stderr)
        output_of([python, HERE / "openvino_export.py", gguf, folder, "--weights", args.openvino])
    return folder


def output_of(command):
    result = subprocess.run([str(part) for part in command], check=True, stdout=subprocess.PIPE)
    return result.stdout.decode()


def blob_of(lapidary, gguf, folder):
    blob = folder / (gguf.stem + ".lap")
    # A program that was built anew may write blobs of another version.
    newest = max(path.stat().st_mtime for path in (gguf, pathlib.Path(lapidary)))
    if not blob.exists() or blob.stat().st_mtime < newest:
        output_of([lapidary, "convert", gguf, "-o", blob, "--json"])
    return blob


def engines_for(args, gguf, llama_python, openvino_python):
    """Name -> command that prints JSON with prefill_tok_s and decode_tok_s."""
    sizes = ["--prefill", args.prefill, "--decode", args.decode, "--runs", args.runs]
    engines = {"llama.cpp": [llama_python, HERE / "llama_cpp_worker.py", gguf,
                             "--threads", args.threads, *sizes]}
    if openvino_python:
        engines["OpenVINO GenAI"] = [openvino_python, HERE / "openvino_worker.py",
                                     openvino_folder(args, gguf, openvino_python),
                                     "--threads", args.threads, *sizes]
    blob = blob_of(args.lapidary, gguf, args.build)
    # What a greedy step reads of the head depends on the text, so Lapidary gets one; llama.cpp reads all of it.
    prompt = args.build / "prompt.ids"
    ids = [id for text in ("prose", "code") for id in (ROOT / f"tests/golden/texts/{text}.ids").read_text().split()]
    prompt.write_text("\n".join((ids * (args.prefill // len(ids) + 1))[:args.prefill]))
    for precision in PRECISIONS:
        engines[f"lapidary {precision}"] = [
            args.lapidary, "bench", "-m", blob, "-t", args.threads, "--precision", precision,
            "-p", args.prefill, "-n", args.decode, "-r", args.runs, "--ids-file", prompt, "--json"]
    return engines


def time_engines(args, engines):
    """Runs all engines in turn, `rounds` times: name -> medians, and Lapidary's share of bandwidth."""
    rounds = {name: [] for name in engines}
    for i in range(args.rounds):
        for name, command in engines.items():
            rounds[name].append(json.loads(output_of(command)))
            print(f"   round {i + 1} {name:15s} {rounds[name][-1]['prefill_tok_s']:8.1f} "
                  f"{rounds[name][-1]['decode_tok_s']:7.1f}", file=sys.stderr)
    medians = {}
    for name, runs in rounds.items():
        keys = [key for key, value in runs[0].items() if isinstance(value, float)]
        medians[name] = {key: statistics.median(run[key] for run in runs) for key in keys}
        # The ratio of neighbours in time says more than the ratio of medians on a noisy machine.
        for key in ("prefill_tok_s", "decode_tok_s"):
            medians[name][key.replace("tok_s", "ratio")] = statistics.median(
                run[key] / peer[key] for run, peer in zip(runs, rounds["llama.cpp"]) if peer[key])
    return medians


def time_texts(args, gguf, llama_python):
    """Way of decoding -> medians of tokens per second and of ratios to llama.cpp, and the last round's guesses."""
    blob = blob_of(args.lapidary, gguf, args.build)
    ways = {"one token at a time": ["--no-lookup"], "as generate does": []}
    rounds = {name: [] for name in ("llama.cpp", *ways)}
    totals = {}
    for _ in range(args.rounds):
        ids = {}
        output = output_of([llama_python, HERE / "llama_cpp_worker.py", gguf, "--threads", args.threads,
                            "--prefill", 64, "--decode", args.texts, "--runs", 1])
        rounds["llama.cpp"].append(json.loads(output)["decode_tok_s"])
        for name, flags in ways.items():
            reports = [decode.run(args.lapidary, "generate", "-m", blob, "-t", args.threads, "-p", prompt,
                                  "-n", args.texts, *flags) for prompt in decode.PROMPTS.values()]
            ids[name] = [report["ids"] for report in reports]
            steps = [len(report["ids"]) - 1 for report in reports]
            seconds = sum(n / report["decode_tok_s"] for n, report in zip(steps, reports) if n > 0)
            rounds[name].append(sum(steps) / seconds)
            totals[name] = {key: sum(report[key] for report in reports) for key in ("guesses", "guesses_true", "tokens")}
        if len(set(map(str, ids.values()))) != 1:
            sys.exit(f"{gguf.name}: guesses changed a text")
    return {name: {"decode_tok_s": statistics.median(speeds),
                   "decode_ratio": statistics.median(own / peer for own, peer in zip(speeds, rounds["llama.cpp"])),
                   **totals.get(name, {})}
            for name, speeds in rounds.items()}


def compare_accuracy(args, gguf, llama_python):
    """Engine -> mean KL and top-1 agreement over all texts that the reference folder has."""
    texts = sorted(path for path in (ROOT / "tests/golden/texts").glob("*.ids")
                   if (args.reference / f"{path.stem}.f32").exists())
    if not texts:
        sys.exit(f"{args.reference}: no NAME.f32 for any of tests/golden/texts/NAME.ids")
    blob = blob_of(args.lapidary, gguf, args.build)
    commands = {"llama.cpp": lambda ids, out: [llama_python, HERE / "llama_cpp_worker.py", gguf,
                                               "--threads", args.threads, "--ids-file", ids, "-o", out]}
    for precision in PRECISIONS:
        commands[f"lapidary {precision}"] = lambda ids, out, p=precision: [
            args.lapidary, "logits", "-m", blob, "--precision", p, "--ids-file", ids, "-o", out, "--json"]
    accuracy = {}
    for name, command in commands.items():
        rows = kl = same = 0
        for ids in texts:
            with tempfile.NamedTemporaryFile(dir=args.build, suffix=".f32") as logits:
                output_of(command(ids, logits.name))
                found = json.loads(output_of(
                    [llama_python, ROOT / "tests/golden/compare_logits.py", args.reference / f"{ids.stem}.f32",
                     logits.name, "--ids", ids, "--json"]))
            rows += found["rows"]
            kl += found["rows"] * found["mean_kl"]
            same += found["rows"] * found["top1_agreement"]
        accuracy[name] = {"rows": rows, "mean_kl": kl / rows, "top1_agreement": same / rows}
        print(f"   {name:15s} mean KL {kl / rows:.2e}, top-1 {100 * same / rows:.2f} %", file=sys.stderr)
    return accuracy


def cpu_name():
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":")[1].strip()
    return platform.machine()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("files", type=pathlib.Path, nargs="+", metavar="FILE.gguf")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--runs", type=int, default=3, help="runs of one process; it reports their median")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--prefill", type=int, default=512)
    parser.add_argument("--decode", type=int, default=128)
    parser.add_argument("--texts", type=int, default=0, metavar="N")
    parser.add_argument("--reference", type=pathlib.Path)
    parser.add_argument("--openvino", choices=["int8", "int4"])
    parser.add_argument("--lapidary", type=pathlib.Path, default=ROOT / "build/release/examples/lapidary")
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build/peers",
                        help="virtual environments and blobs go here")
    parser.add_argument("--json", type=pathlib.Path, help="write all figures here")
    args = parser.parse_args()
    args.build.mkdir(parents=True, exist_ok=True)

    llama_python = environment(args.build / "llama_cpp", f"llama-cpp-python {LLAMA_CPP_PYTHON}",
                               install_llama_cpp)
    openvino_python = None
    if args.openvino:
        openvino_python = environment(args.build / "openvino", f"openvino-genai {OPENVINO_GENAI}",
                                      install_openvino)

    report = {"date": datetime.date.today().isoformat(), "cpu": cpu_name(), "threads": args.threads,
              "prefill": args.prefill, "decode": args.decode, "llama_cpp_python": LLAMA_CPP_PYTHON,
              "files": {}}
    for gguf in args.files:
        print(f"== {gguf.name}", file=sys.stderr)
        medians = time_engines(args, engines_for(args, gguf, llama_python, openvino_python))
        report["files"][gguf.name] = medians
        print(f"{gguf.name}, {args.threads} threads, medians of {args.rounds} rounds")
        for name, m in medians.items():
            line = (f"  {name:15s} prefill {m['prefill_tok_s']:8.1f} tok/s {m['prefill_ratio']:5.2f}x   "
                    f"decode {m['decode_tok_s']:7.1f} tok/s {m['decode_ratio']:5.2f}x")
            if "decode_gb_s" in m:
                line += f"   {m['decode_gb_s']:.1f} of {m['read_gb_s_limit']:.1f} GB/s"
            print(line, flush=True)
        if args.texts:
            medians["texts"] = time_texts(args, gguf, llama_python)
            print(f"  {len(decode.PROMPTS)} texts of up to {args.texts} tokens")
            for name, m in medians["texts"].items():
                line = f"  {name:20s} decode {m['decode_tok_s']:7.1f} tok/s {m['decode_ratio']:5.2f}x"
                if m.get("guesses"):
                    line += f"   {m['guesses_true']} of {m['guesses']} guesses true, {m['tokens']} tokens"
                print(line, flush=True)
    if args.openvino:
        report["openvino"] = {"version": OPENVINO_GENAI, "weights": args.openvino}
    if args.reference:
        print(f"== accuracy, {args.files[0].name}", file=sys.stderr)
        report["accuracy"] = compare_accuracy(args, args.files[0], llama_python)
        for name, a in report["accuracy"].items():
            print(f"  {name:15s} mean KL {a['mean_kl']:.2e}   top-1 {100 * a['top1_agreement']:.2f} %   "
                  f"({a['rows']} rows)")
    if args.json:
        args.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
