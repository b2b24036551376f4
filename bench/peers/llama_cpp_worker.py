#!/usr/bin/env python3
"""One run of llama.cpp, in a process of its own; compare.py starts it.

    llama_cpp_worker.py MODEL --threads N --prefill N --decode N --runs N     prints speeds as JSON
    llama_cpp_worker.py MODEL --threads N --ids-file FILE -o LOGITS           writes float32 [ids, vocabulary]

Runs in the virtual environment that compare.py makes.
"""

import argparse
import json
import random
import statistics
import time

import llama_cpp


def open_model(args, context, logits_all=False):
    return llama_cpp.Llama(
        args.model, n_ctx=context, n_batch=512, n_ubatch=512, n_threads=args.threads,
        n_threads_batch=args.threads, logits_all=logits_all, use_mmap=True, verbose=False)


def measure(args):
    model = open_model(args, args.prefill + args.decode)
    rng = random.Random(1)
    # <bos> and ordinary pieces, as `lapidary bench` has them: speed does not depend on which.
    ids = [2] + [1000 + rng.randrange(200_000) for _ in range(args.prefill + args.decode - 1)]
    prefill, decode = [], []
    for run in range(args.runs + 1):  # the first warms up
        model.reset()
        start = time.perf_counter()
        model.eval(ids[:args.prefill])
        middle = time.perf_counter()
        for token in ids[args.prefill:]:
            model.eval([token])
        end = time.perf_counter()
        if run > 0:
            prefill.append(args.prefill / (middle - start))
            decode.append(args.decode / (end - middle) if args.decode else 0.0)
    print(json.dumps({"prefill_tok_s": statistics.median(prefill),
                      "decode_tok_s": statistics.median(decode)}))


def write_logits(args):
    with open(args.ids_file) as file:
        ids = [int(word) for word in file.read().split()]
    model = open_model(args, len(ids), logits_all=True)
    model.eval(ids)
    model.scores[:len(ids)].astype("<f4").tofile(args.output)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model")
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--prefill", type=int, default=512)
    parser.add_argument("--decode", type=int, default=128)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--ids-file")
    parser.add_argument("-o", "--output")
    args = parser.parse_args()
    if args.ids_file:
        write_logits(args)
    else:
        measure(args)


if __name__ == "__main__":
    main()
