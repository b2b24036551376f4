#!/usr/bin/env python3
"""How much the highest bits of the output head tell (include/lapidary/kernels/coarse-inl.h), on the real 270M.

    tests/parity/head_bits.py gemma-3-270m-q4_k_m.gguf [--positions 24]

For hidden states behind a text, behind a greedy continuation and behind tokens drawn at random: how much of their squares
few inputs hold; how many panels of 16 rows could still have the most likely token after a look at 2 bits of all weights and
4 bits of the groups of 32 inputs with the largest squares; and how large the errors of the 64 best logits are, in the
deviations that the bounds assume. Needs torch, transformers and gguf; takes some minutes.
"""

import argparse
import pathlib

import gguf
import numpy as np
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

TEXTS = pathlib.Path(__file__).resolve().parent.parent / "golden/texts"
DEVIATIONS = 7  # kCoarseDeviations
PANEL, GROUP = 16, 32


def head_of(path):
    """Codes plus 128 [rows, groups, 32] and scales [rows, groups] of a Q8_0 embedding."""
    tensor = next(t for t in gguf.GGUFReader(path).tensors if t.name == "token_embd.weight")
    blocks = np.array(tensor.data).reshape(tensor.shape[1], -1, 34)
    scales = blocks[:, :, :2].copy().view(np.float16)[..., 0].astype(np.float32)
    return torch.tensor(blocks[:, :, 2:].copy().view(np.int8).astype(np.float32)) + 128, torch.tensor(scales)


def weights_from(codes, scales, unread):
    """[rows, width] with the lowest `unread` bits replaced by their mean."""
    step = 1 << unread
    read = torch.floor(codes / step) * step + (step - 1) / 2 - 128
    return (read * scales[..., None]).flatten(1)


def variance(unread):
    return ((1 << unread) ** 2 - 1) / 12


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("gguf", type=pathlib.Path)
    parser.add_argument("--positions", type=int, default=24)
    args = parser.parse_args()
    file = {"gguf_file": args.gguf.name}
    model = AutoModelForCausalLM.from_pretrained(args.gguf.parent, dtype=torch.float32, **file)
    tokenizer = AutoTokenizer.from_pretrained(args.gguf.parent, **file)
    codes, scales = head_of(args.gguf)
    exact, four, two = (weights_from(codes, scales, unread) for unread in (0, 4, 6))
    del codes
    four_more, squared_scales = four - two, scales**2

    text = torch.tensor([[int(word) for word in (TEXTS / "prose.ids").read_text().split()]])
    start = tokenizer("The capital of France is", return_tensors="pt").input_ids
    greedy = model.generate(start, max_new_tokens=200, do_sample=False)
    drawn = torch.randint(1000, 200_000, (1, 400), generator=torch.Generator().manual_seed(1))
    for name, ids in (("text", text), ("greedy", greedy), ("random", torch.cat([start[:, :1], drawn], 1))):
        with torch.no_grad():
            states = model.model(ids).last_hidden_state[0]
        states = states[torch.linspace(8, len(states) - 1, args.positions).long()]
        squares = states**2
        of_groups = squares.unflatten(1, (-1, GROUP)).sum(-1)
        share = lambda values, n: (values.sort(1, descending=True).values[:, :n].sum(1) / values.sum(1)).mean().item()
        print(f"{name}: 8 inputs hold {share(squares, 8):.0%} of the squares, 4 groups {share(of_groups, 4):.0%}")
        logits = states @ exact.T
        rough = states @ two.T
        groups = of_groups.shape[1]
        for fine in (0, groups // 10, groups // 5, groups):
            left = []
            for state, estimate, group, logit in zip(states, rough, of_groups, logits):
                loud = group.sort(descending=True).indices[:fine]
                columns = (loud[:, None] * GROUP + torch.arange(GROUP)).flatten()
                estimate = estimate + four_more[:, columns] @ state[columns]
                variances = torch.full((groups,), variance(6))
                variances[loud] = variance(4)
                bounds = estimate + DEVIATIONS * (squared_scales @ (variances * group)).sqrt()
                left.append((bounds >= logit.max()).unflatten(0, (-1, PANEL)).any(1).sum().item())
            print(f"   {fine:2d} of {groups} groups with 4 bits: {np.mean(left):6.0f} of {len(logit) // PANEL} panels left, "
                  f"median {np.median(left):.0f}")
        best = logits.topk(64, 1).indices
        for bits, weights in ((2, two), (4, four)):
            deviations = (variance(8 - bits) * (of_groups @ squared_scales.T)).sqrt()
            errors = ((logits - states @ weights.T) / deviations).gather(1, best)
            print(f"   {bits} bits, errors of the 64 best logits: mean {errors.mean():+.2f}, standard deviation "
                  f"{errors.std():.2f}, largest {errors.max():.2f} deviations; of the best one "
                  f"{errors[:, 0].mean():+.2f}, {errors[:, 0].std():.2f}", flush=True)


if __name__ == "__main__":
    main()
