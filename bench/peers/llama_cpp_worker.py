#!/usr/bin/env python3
"""One run of llama.cpp, in a process of its own; compare.py starts it.

    llama_cpp_worker.py MODEL --threads N --prefill N --decode N --runs N     prints speeds as JSON
    llama_cpp_worker.py MODEL --threads N --ids-file FILE -o LOGITS           writes float32 [ids, vocabulary]
    llama_cpp_worker.py MODEL --threads N --mmproj FILE --runs N              prints the seconds for a picture

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
    # <bos> and ordinary pieces: speed does not depend on which.
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


def measure_image(args):
    """Encodes a picture of 896 x 896 with libmtmd, which is what llama-mtmd-cli does."""
    from llama_cpp import mtmd_cpp as mtmd
    import ctypes

    model = open_model(args, 512)
    params = mtmd.mtmd_context_params_default()
    params.use_gpu = False
    params.n_threads = args.threads
    params.print_timings = False
    params.warmup = False
    context = mtmd.mtmd_init_from_file(args.mmproj.encode(), model.model, params)
    if not context:
        raise SystemExit(f"{args.mmproj}: libmtmd does not open it")
    side = 896
    pixels = bytes((x ^ y) & 255 for y in range(side) for x in range(3 * side))
    buffer = (ctypes.c_uint8 * len(pixels)).from_buffer_copy(pixels)
    bitmap = mtmd.mtmd_bitmap_init(side, side, buffer)
    chunks = mtmd.mtmd_input_chunks_init()
    marker = mtmd.mtmd_default_marker()
    text = mtmd.mtmd_input_text(marker, len(marker), True, True)
    bitmaps = (mtmd.mtmd_bitmap_p_ctypes * 1)(bitmap)
    if mtmd.mtmd_tokenize(context, chunks, ctypes.byref(text), bitmaps, 1) != 0:
        raise SystemExit("mtmd_tokenize failed")
    image = next(chunk for chunk in (mtmd.mtmd_input_chunks_get(chunks, i)
                                     for i in range(mtmd.mtmd_input_chunks_size(chunks)))
                 if mtmd.mtmd_input_chunk_get_type(chunk) == mtmd.MTMD_INPUT_CHUNK_TYPE_IMAGE)
    seconds = []
    for _ in range(args.runs):
        start = time.perf_counter()
        if mtmd.mtmd_encode_chunk(context, image) != 0:
            raise SystemExit("mtmd_encode_chunk failed")
        seconds.append(time.perf_counter() - start)
    print(json.dumps({"image_s": statistics.median(seconds)}))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model")
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--prefill", type=int, default=512)
    parser.add_argument("--decode", type=int, default=128)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--ids-file")
    parser.add_argument("--mmproj")
    parser.add_argument("-o", "--output")
    args = parser.parse_args()
    if args.ids_file:
        write_logits(args)
    elif args.mmproj:
        measure_image(args)
    else:
        measure(args)


if __name__ == "__main__":
    main()
