#!/usr/bin/env python3
"""Compares the real 270M with transformers in float32 at the end of a long context.

    long_context.py --lapidary build/release/examples/lapidary --gguf GGUF --text FILE --work DIR

FILE is English text of at least 32768 tokens; as many of its lines as fit are used, less 64 tokens to
generate in. Writes the text, its blob and the reference to DIR and prints

    perplexity of the last 2048 tokens       transformers; keys and values in bf16 and in int8
    greedy continuation                      64 ids, with steps of 512 and of 77 tokens
    memory of the keys and values            planned, and by how much the process's own really grew

and fails where perplexity differs by more than 0.5 % (bf16) or 1 % (int8), a continuation by one id, or memory
by more than 3 %. transformers takes some minutes and 6 GB; its result is kept in DIR and used again.
"""

import argparse
import contextlib
import json
import math
import pathlib
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "golden"))

CONTEXT = 32768
NEW = 64
LAST = 2048
STEP = 1024  # tokens that transformers takes at a time
BOS = 2


def run(*command):
    """What the program prints, and the most memory of its own that it was seen to have, in bytes. Pages of the mapped
    blob are not its own: how many of them are resident depends on which rows of the embedding a text needs."""
    with tempfile.TemporaryFile() as out:
        process = subprocess.Popen([str(part) for part in command], stdout=out)
        most = 0
        while process.poll() is None:
            with contextlib.suppress(OSError):
                rollup = pathlib.Path(f"/proc/{process.pid}/smaps_rollup").read_text()
                most = max([most, *(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Anonymous:"))])
            time.sleep(0.05)
        if process.returncode != 0:
            sys.exit(f"{command[1]}: exit status {process.returncode}")
        out.seek(0)
        return json.load(out), most * 1024


def fit_text(program, model, source, target, tokens):
    """Writes as many whole lines of a text as have at most that many tokens; returns the ids."""
    lines = source.read_bytes().decode("utf-8", errors="ignore").splitlines(keepends=True)

    def ids_of(count):
        target.write_text("".join(lines[:count]), encoding="utf-8")
        with open(target, "rb") as file:
            out = subprocess.run([program, "tokenize", "-m", model, "--json"], stdin=file, capture_output=True, check=True)
        return [i for i in json.loads(out.stdout)["ids"] if i != BOS]

    if len(ids_of(len(lines))) < tokens:
        sys.exit(f"{source}: expected at least {tokens} tokens")
    low, high = 0, len(lines)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if len(ids_of(middle)) <= tokens else (low, middle)
    return ids_of(low)


def reference_nll(gguf, ids):
    """Of each of the last LAST ids, by transformers in float32, a few tokens of the prompt at a time."""
    import make_real
    import torch
    import transformers

    # The scaled dot product of torch never makes the 4 x 32768 x 32768 scores as a whole.
    model = make_real.load_model(gguf, attention="sdpa")

    @torch.inference_mode()
    def hidden(ids, step):
        cache = transformers.DynamicCache(config=model.config)
        rows = []
        for begin in range(0, len(ids), step):
            part = torch.tensor([ids[begin : begin + step]])
            rows.append(model.model(part, cache=cache, use_cache=True).last_hidden_state[0])
            rows = rows[-(LAST // step + 2) :]
            print(f"\r{begin + part.shape[1]} of {len(ids)}", end="", file=sys.stderr, flush=True)
        print(file=sys.stderr)
        return torch.cat(rows)

    # The cache of the local layers must hand out the window that the mask expects: a text of three windows in
    # steps against the text at once.
    short = ids[:1600]
    whole, stepped = hidden(short, len(short)), hidden(short, 300)
    difference = (whole[-len(stepped):] - stepped).abs().max().item()
    print(f"in steps against at once: {difference:.1e} of {whole.abs().max().item():.1f}")
    if difference > 1e-2:
        sys.exit("transformers in steps is not transformers at once")

    rows = hidden([BOS, *ids[:-1]], STEP)[-LAST:]
    nll = []
    with torch.inference_mode():
        for row, target in zip(rows.split(128), torch.tensor(ids[-LAST:]).split(128)):
            log = torch.log_softmax(model.lm_head(row).double(), -1)
            nll += (-log[torch.arange(len(target)), target]).tolist()
    return nll


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--lapidary", type=pathlib.Path, required=True)
    parser.add_argument("--gguf", type=pathlib.Path, required=True)
    parser.add_argument("--text", type=pathlib.Path, required=True)
    parser.add_argument("--work", type=pathlib.Path, required=True)
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    program, blob, text = args.lapidary, args.work / "270m.lap", args.work / "long.txt"
    if not blob.exists():
        run(program, "convert", args.gguf, "-o", blob, "--json")
    ids = fit_text(program, blob, args.text, text, CONTEXT - NEW)
    print(f"{len(ids)} ids")

    kept = args.work / "long_nll.json"
    if not kept.exists() or json.loads(kept.read_text())["ids"] != ids:
        kept.write_text(json.dumps({"ids": ids, "nll": reference_nll(args.gguf, ids)}))
    nll = json.loads(kept.read_text())["nll"]
    expected = math.exp(sum(nll) / len(nll))
    print(f"perplexity of the last {len(nll)}: transformers {expected:.4f}")

    failures = []
    for kv, most in {"bf16": 0.005, "int8": 0.01}.items():
        found, _ = run(program, "perplexity", "-m", blob, "-f", text, "--last", LAST, "--kv", kv, "--json")
        change = found["perplexity"] / expected - 1
        print(f"  {kv}: {found['perplexity']:.4f}, {100 * change:+.3f} %")
        if found["tokens"] != LAST or not abs(change) <= most:
            failures.append(f"perplexity with {kv}")

    # A short text takes everything but the pages, the buffer that the memory's speed is measured with among it: the
    # rest is the cache, as the plan has it.
    short = args.work / "short.txt"
    fit_text(program, blob, args.text, short, 500)
    continuations = []
    for kv, chunk in [("bf16", 512), ("bf16", 77), ("int8", 512)]:
        flags = ["-n", NEW, "--kv", kv, "--chunk", chunk, "--json"]
        found, large = run(program, "generate", "-m", blob, "-f", text, *flags)
        _, small = run(program, "generate", "-m", blob, "-f", short, *flags)
        continuations.append((kv, found["ids"]))
        tokens = len(ids) + 1 + NEW
        # inspect plans for steps of 512, a page more for each local layer than steps of 77 need.
        if chunk == 512:
            plan, _ = run(program, "inspect", blob, "--context", tokens, "--kv", kv, "--json")
            before = 501 + NEW
            first, _ = run(program, "inspect", blob, "--context", before, "--kv", kv, "--json")
            planned = plan["kv_cache"]["bytes"] - first["kv_cache"]["bytes"]
            change = (large - small) / planned - 1
            print(f"memory, {kv}: plan {plan['kv_cache']['bytes'] / 2**20:.1f} MiB; from {before} tokens to {tokens} it "
                  f"grows by {planned / 2**20:.1f} MiB, the process by {(large - small) / 2**20:.1f} ({100 * change:+.2f} %)")
            if not abs(change) <= 0.03:
                failures.append(f"memory with {kv}")
        print(f"greedy, {kv}, steps of {chunk}: {found['text'][:60]!r} ...")
    if continuations[0] != continuations[1]:
        failures.append("continuations with steps of 512 and of 77")
    if failures:
        sys.exit("not as expected: " + ", ".join(failures))


if __name__ == "__main__":
    main()
