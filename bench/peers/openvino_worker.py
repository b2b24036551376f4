#!/usr/bin/env python3
"""One run of OpenVINO GenAI, in a process of its own; compare.py starts it.

    openvino_worker.py FOLDER --threads N --prefill N --decode N --runs N     prints speeds as JSON

FOLDER is what openvino_export.py makes. Runs in the virtual environment that compare.py makes.
"""

import argparse
import json
import random
import statistics

import numpy as np
import openvino
import openvino_genai


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model")
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--prefill", type=int, default=512)
    parser.add_argument("--decode", type=int, default=128)
    parser.add_argument("--runs", type=int, default=3)
    args = parser.parse_args()

    pipeline = openvino_genai.LLMPipeline(args.model, "CPU", INFERENCE_NUM_THREADS=args.threads)
    rng = random.Random(1)
    prefill, decode = [], []
    for run in range(args.runs + 1):  # the first warms up
        # Other ids in every run, so that no cache of prefixes answers.
        ids = np.array([[2] + [1000 + rng.randrange(200_000) for _ in range(args.prefill - 1)]], np.int64)
        inputs = openvino_genai.TokenizedInputs(openvino.Tensor(ids), openvino.Tensor(np.ones_like(ids)))
        result = pipeline.generate(inputs, max_new_tokens=args.decode + 1, min_new_tokens=args.decode + 1,
                                   do_sample=False, ignore_eos=True)
        if run > 0:
            metrics = result.perf_metrics
            prefill.append(1000 * args.prefill / metrics.get_ttft().mean)  # milliseconds
            decode.append(1000 / metrics.get_tpot().mean)
    print(json.dumps({"prefill_tok_s": statistics.median(prefill), "decode_tok_s": statistics.median(decode)}))


if __name__ == "__main__":
    main()
