#!/usr/bin/env python3
"""Compares models of the real shapes, with random weights, with transformers in float32.

    random_models.py --size 1b --work DIR --lapidary build/release/examples/lapidary
    random_models.py --size 27b --work DIR --lapidary ... --program build/release/tests/lapidary_cut_models

All weights are values that bf16 holds, as those of the published checkpoints are. 1B: whole, from a Hugging Face
folder in float32, as blob of --type bf16. Fails above a mean KL of 1e-3 or below
99 % of equal first choices. 4B, 12B, 27B: seven layers, one pattern of attention and one layer more, everything
else as it is; a folder in bf16, whose blob holds the same values.

The reference is also computed with keys and values rounded to bf16, as a cache holds them. Where the CPU multiplies
bf16, the weights of the softmax are rounded too, which costs little beside that (--roundings); fails above 1.5 times. For 4B, 12B and 27B, fails unless each of three mistakes (query scale, RoPE
factor, window) would have been noticed: moves the worst row of the reference by more than 3 times as much.

The prompt has 1300 random ids, which is longer than any window. The logits of every 4th are compared, for the 1B
of all, because a share of equal choices wants many (one of 326 would be 0.3 %). Folders,
blobs and logits stay in DIR (27B: 8.5 GB twice). transformers holds bf16 weights in bf16 and widens one layer at
a time: 11 GB for the 27B.
"""

import argparse
import contextlib
import json
import math
import os
import pathlib
import subprocess
import sys

import numpy as np
import safetensors.torch
import torch
import transformers
from transformers.models.gemma3 import modeling_gemma3

# layers, width, ff width, heads, kv heads, head dim, query scalar, window, context, vocabulary, RoPE factor: the
# published config.json of each size.
SIZES = {
    "1b": (26, 1152, 6912, 4, 1, 256, 256, 512, 32768, 262144, 1.0),
    "4b": (7, 2560, 10240, 8, 4, 256, 256, 1024, 131072, 262208, 8.0),
    "12b": (7, 3840, 15360, 16, 8, 256, 256, 1024, 131072, 262208, 8.0),
    "27b": (7, 5376, 21504, 32, 16, 128, 168, 1024, 131072, 262208, 8.0),
}
COUNT = 1300
EVERY = 4
SLICE = 16384  # rows of the output head that are widened at a time


def config_of(size, query_scalar=None, window=None, factor=None):
    layers, width, ff, heads, kv_heads, head_dim, scalar, keys, context, vocabulary, stretch = SIZES[size]
    factor = factor or stretch
    full = {"rope_type": "default", "rope_theta": 1e6}
    if factor != 1:
        full |= {"rope_type": "linear", "factor": factor}
    return transformers.Gemma3TextConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=ff,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        head_dim=head_dim,
        query_pre_attn_scalar=query_scalar or scalar,
        sliding_window=window or keys,
        max_position_embeddings=context,
        layer_types=["sliding_attention" if (i + 1) % 6 else "full_attention" for i in range(layers)],
        rope_parameters={
            "full_attention": full,
            "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
        },
        attn_implementation="eager",
    )


# ---- Weights ----


def make_folder(size, folder):
    """A checkpoint in shards, one for each layer: in float32 for the 1B, otherwise in bf16."""
    config = config_of(size)
    dtype = torch.float32 if size == "1b" else torch.bfloat16  # of the files
    generator = torch.Generator().manual_seed(1)
    width, layers = config.hidden_size, config.num_hidden_layers

    def matrix(rows, cols, std):
        values = torch.empty(rows, cols, dtype=dtype)
        for part in values.split(SLICE):
            part.copy_(torch.empty(part.shape).normal_(0, std, generator=generator).bfloat16())
        return values

    def gain(count, low, high):  # files hold gain - 1
        return torch.empty(count).uniform_(low - 1, high - 1, generator=generator).bfloat16().to(dtype)

    # Logits get a standard deviation of 3. Gains of q and k make attention uneven. Those of the post-norms make the
    # layers together half as large again as the token's embedding: were they much larger, each layer would amplify
    # the roundings of the one before, which trained layers do not. Signs in the final gain bring the token's own
    # logit down from far above all others to about their largest, so that some rows are sure of it and some are not.
    rms = 1.5 * 3 / math.sqrt(2 * layers)
    keys, queries = (config.head_dim * n for n in (config.num_key_value_heads, config.num_attention_heads))

    def layer(i):
        p = f"model.layers.{i}."
        yield p + "input_layernorm.weight", gain(width, 0.5, 1.5)
        yield p + "post_attention_layernorm.weight", gain(width, 0.5 * rms, 1.5 * rms)
        yield p + "pre_feedforward_layernorm.weight", gain(width, 0.5, 1.5)
        yield p + "post_feedforward_layernorm.weight", gain(width, 0.5 * rms, 1.5 * rms)
        yield p + "self_attn.q_norm.weight", gain(config.head_dim, 1, 2)
        yield p + "self_attn.k_norm.weight", gain(config.head_dim, 1, 2)
        for name, rows, cols in [
            ("self_attn.q_proj", queries, width),
            ("self_attn.k_proj", keys, width),
            ("self_attn.v_proj", keys, width),
            ("self_attn.o_proj", width, queries),
            ("mlp.gate_proj", config.intermediate_size, width),
            ("mlp.up_proj", config.intermediate_size, width),
            ("mlp.down_proj", width, config.intermediate_size),
        ]:
            yield f"{p}{name}.weight", matrix(rows, cols, 1 / math.sqrt(cols))

    def ends():
        yield "model.embed_tokens.weight", matrix(config.vocab_size, width, 3 / math.sqrt(width))
        own = 3 * math.sqrt(width) / math.sqrt(1 + 1.5**2)  # logit without the signs
        share = 0.5 + 0.5 * 15.5 / own
        signs = (torch.empty(width).uniform_(generator=generator) < share).float() * 2 - 1
        yield "model.norm.weight", ((gain(width, 0.5, 1.5).float() + 1) * signs - 1).to(dtype)

    folder.mkdir(parents=True, exist_ok=True)
    names = {}
    for i in range(layers + 1):
        shard = f"model-{i + 1:05}-of-{layers + 1:05}.safetensors"
        tensors = dict(layer(i) if i < layers else ends())
        safetensors.torch.save_file(tensors, folder / shard)
        names |= dict.fromkeys(tensors, shard)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": names}))
    config.architectures = ["Gemma3ForCausalLM"]
    config.dtype = dtype
    config.save_pretrained(folder)


def load_model(config, folder):
    with torch.device("meta"):
        model = transformers.Gemma3ForCausalLM(config)
    state = {}
    for shard in sorted(folder.glob("*.safetensors")):
        state |= safetensors.torch.load_file(shard)
    state["lm_head.weight"] = state["model.embed_tokens.weight"]
    model.load_state_dict(state, strict=True, assign=True)
    set_config(model, config)
    # bf16 to float32 and back loses nothing.
    if state["lm_head.weight"].dtype == torch.bfloat16:
        for layer in model.model.layers:
            layer.register_forward_pre_hook(lambda module, args: module.float() and None)
            layer.register_forward_hook(lambda module, args, out: module.bfloat16() and None)
    model.model.norm.float()
    return model.eval()


def set_config(model, config):
    """What a model reads from its Config besides shapes."""
    model.config = model.model.config = config
    model.model.rotary_emb = modeling_gemma3.Gemma3RotaryEmbedding(config)
    for layer in model.model.layers:
        attention = layer.self_attn
        attention.config = config
        attention.scaling = config.query_pre_attn_scalar**-0.5
        attention.sliding_window = config.sliding_window if attention.is_sliding else None


@torch.inference_mode()
def logits_of(model, ids, every=EVERY):
    """float32 [chosen rows, vocabulary]"""
    embedding = model.model.embed_tokens.weight
    scale = torch.tensor(math.sqrt(embedding.shape[1])).bfloat16().float()
    inputs = embedding[torch.tensor([ids])].float() * scale
    hidden = model.model(inputs_embeds=inputs, use_cache=False).last_hidden_state[0][chosen(ids, every)]
    return torch.cat([hidden @ part.float().T for part in embedding.split(SLICE)], dim=1)


@contextlib.contextmanager
def rounded_attention(queries=False, weights=False):
    """Keys and values in bf16, as a cache holds them, and what else is said; everything else stays float32."""

    def rounded(x, really=True):
        return x.bfloat16().float() if really else x

    def attend(module, query, key, value, mask, scaling, **kwargs):
        key, value = (modeling_gemma3.repeat_kv(rounded(x), module.num_key_value_groups) for x in (key, value))
        scores = rounded(query * scaling, queries) @ key.transpose(2, 3) + mask[..., : key.shape[2]]
        exponentials = (scores - scores.amax(-1, keepdim=True)).exp()
        out = rounded(exponentials, weights) @ value / exponentials.sum(-1, keepdim=True)
        return out.transpose(1, 2).contiguous(), None

    whole = modeling_gemma3.eager_attention_forward
    modeling_gemma3.eager_attention_forward = attend
    try:
        yield
    finally:
        modeling_gemma3.eager_attention_forward = whole


def chosen(ids, every=EVERY):
    return sorted({*range(0, len(ids), every), len(ids) - 1})


# ---- Comparison ----


def compare(reference, found):
    """Mean and largest KL, share of equal first choices, over rows that are not held in double all at once."""
    divergence, same = [], []
    for a, b in zip(reference, found, strict=True):
        a, b = torch.log_softmax(a.double(), -1), torch.log_softmax(b.double(), -1)
        divergence.append((a.exp() @ (a - b)).item())
        same.append(float(a.argmax() == b.argmax()))
    return np.mean(divergence), np.max(divergence), np.mean(same)


def report(name, result):
    mean, most, same = result
    print(f"{name}: mean KL {mean:.2e}, largest {most:.2e}, same first choice {100 * same:.2f} %", flush=True)
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--size", choices=SIZES, required=True)
    parser.add_argument("--work", type=pathlib.Path, required=True)
    parser.add_argument("--lapidary", type=pathlib.Path, required=True)
    parser.add_argument("--program", type=pathlib.Path, help="lapidary_cut_models, for all but the 1B")
    parser.add_argument("--roundings", action="store_true", help="ask transformers what else rounding to bf16 costs")
    args = parser.parse_args()
    if (args.program is None) != (args.size == "1b"):
        parser.error("--program is for all but the 1B")
    folder, blob = args.work / f"{args.size}-hf", args.work / f"{args.size}-cut.lap"
    vocabulary = SIZES[args.size][9]
    every = 1 if args.size == "1b" else EVERY
    ids = [2, *torch.randint(4, 262144, (COUNT - 1,), generator=torch.Generator().manual_seed(2)).tolist()]
    ids_file, ours_file = args.work / "random.ids", args.work / f"{args.size}.f32"
    args.work.mkdir(parents=True, exist_ok=True)
    ids_file.write_text(" ".join(map(str, ids)))

    def run(*command):
        subprocess.run([str(part) for part in command], check=True)

    if not (folder / "config.json").exists():
        make_folder(args.size, folder)
    if not blob.exists():
        run(args.lapidary, "convert", folder, "--type", "bf16", "-o", blob)
    if args.program:
        run(args.program, blob, ids_file, every, ours_file)
        ours = np.fromfile(ours_file, "<f4").reshape(-1, vocabulary)
    else:
        run(args.lapidary, "logits", "-m", blob, "--ids-file", ids_file, "-o", ours_file)
        ours = np.memmap(ours_file, "<f4", "c").reshape(-1, vocabulary)
    os.remove(ours_file)

    model = load_model(config_of(args.size), folder)
    reference = logits_of(model, ids, every)
    best = torch.log_softmax(reference, -1).max(-1).values.exp()
    print(f"logits: std {reference.std():.2f}, best probability {best.median():.3f} in the median, at most {best.max():.3f}")
    mean, most, same = report(f"{args.size}, Lapidary", compare(reference, torch.from_numpy(ours)))
    with rounded_attention():
        rounded, *_ = report("  transformers, keys and values in bf16", compare(reference, logits_of(model, ids, every)))
    if args.roundings:
        for name, what in {
            "weights": {"weights": True}, "queries": {"queries": True}, "both": {"weights": True, "queries": True}
        }.items():
            with rounded_attention(**what):
                report(f"    and {name}", compare(reference, logits_of(model, ids, every)))
    failures = [] if mean <= 1.5 * rounded else ["the mean KL"]
    if args.size == "1b":
        if not (mean <= 1e-3 and same >= 0.99):
            failures.append("the bounds of the 1B")
    else:
        heads, width, head_dim = SIZES[args.size][3], SIZES[args.size][1], SIZES[args.size][5]
        for name, change in {
            "query scale of the other kind": {"query_scalar": head_dim if args.size == "27b" else width // heads},
            "RoPE factor 1": {"factor": 1.0},
            "window of 1023": {"window": 1023},  # of which only the rows behind it know
        }.items():
            set_config(model, config_of(args.size, **change))
            _, wrong, _ = report(f"  {name}", compare(reference, logits_of(model, ids, every)))
            if not wrong > 3 * most:
                failures.append(name)
    if failures:
        sys.exit("not as expected: " + ", ".join(failures))


if __name__ == "__main__":
    main()
