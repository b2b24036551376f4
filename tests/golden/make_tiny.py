#!/usr/bin/env python3
"""Makes the goldens of the tiny models: what transformers in float32 says of generated weights.

    make_tiny.py              writes tiny.json, tiny_*.f32 beside this script; prints the sensitivities
    make_tiny.py --check VARIANT FILE.gguf
                              compares the tensors of a GGUF that tests/support/synthetic_gguf.h wrote
                              with the ones generated here, byte by byte

The weights are not committed. This script and synthetic_gguf.h generate the same bytes, in integer
arithmetic only: a stream of splitmix64 numbers that starts at the FNV-1a hash of the tensor's name
fills the tensor; then the exponents of floats and the scales of blocks are brought into a sane range.
Every bit pattern of codes occurs, scales of either sign and subnormal ones included.

Made with torch 2.15.0, transformers 5.24.0, gguf 0.19.0 and numpy 2.4.6. Tests read the outputs only.
"""

import argparse
import copy
import json
import math
import pathlib
import sys

import gguf
import numpy as np
import torch
import transformers

HERE = pathlib.Path(__file__).resolve().parent
MASK = (1 << 64) - 1
TYPE = gguf.GGMLQuantizationType

# The fields of lapidary::Config; synthetic_gguf.h has the same values.
TINY = {
    "layers": 8,
    "width": 256,
    "ff_width": 512,
    "heads": 4,
    "kv_heads": 2,
    "head_dim": 64,
    "query_pre_attn_scalar": 96,
    "window": 20,
    "global_every": 3,
    "context": 512,
    "vocabulary": 387,
    "rope_base_local": 10_000.0,
    "rope_base_global": 1_000_000.0,
    "rope_factor_global": 8.0,
    "norm_epsilon": 1e-6,
}
# Shapes that fill no vector, panel or unit, a width whose root is not a bf16 value, an epsilon that
# shows.
ODD = {
    "layers": 5,
    "width": 288,
    "ff_width": 544,
    "heads": 3,
    "kv_heads": 1,
    "head_dim": 96,
    "query_pre_attn_scalar": 60,
    "window": 7,
    "global_every": 2,
    "context": 256,
    "vocabulary": 369,
    "rope_base_local": 5_000.0,
    "rope_base_global": 250_000.0,
    "rope_factor_global": 3.0,
    "norm_epsilon": 2.0**-4,
}


def uniform(kind):
    return dict.fromkeys(["embedding", "query_key", "value", "attention_out", "gate_up", "down"], kind)


VARIANTS = {
    "f32": (TINY, uniform(TYPE.F32)),
    "bf16": (TINY, uniform(TYPE.BF16)),
    "f16": (TINY, uniform(TYPE.F16)),
    "q8_0": (TINY, uniform(TYPE.Q8_0)),
    "q4_0": (TINY, uniform(TYPE.Q4_0)),
    "q5_0": (TINY, uniform(TYPE.Q5_0)),
    "q4_k": (
        TINY,
        uniform(TYPE.Q4_K) | {"embedding": TYPE.Q6_K, "value": TYPE.Q6_K, "down": TYPE.Q6_K},
    ),
    "odd_f32": (ODD, uniform(TYPE.F32)),
    "odd_q8_0": (ODD, uniform(TYPE.Q8_0)),
}

COUNT = 70  # ids of the prompt
ROWS = [0, 1, 6, 7, 19, 20, 21, 69]  # positions whose logits are kept: the edges of both windows
HIDDEN_ROWS = [20, 69]  # positions whose residual stream is kept, F32 variants only


# ---- Weights ----


def fnv1a(data):
    """FNV-1a, 64 bits, of bytes."""
    value = 0xCBF29CE484222325
    for byte in data:
        value = (value ^ byte) * 0x100000001B3 & MASK
    return value


def stream(name, words):
    """`words` splitmix64 numbers, uint64, that follow from the name."""
    with np.errstate(over="ignore"):
        z = np.arange(1, words + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z += np.uint64(fnv1a(name.encode()))
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


def random_bytes(name, count):
    return stream(name, (count + 7) // 8).astype("<u8").view(np.uint8)[:count].copy()


# Bits of the smallest f16 scale of a block; ten random bits are added. (offset in block, bits, signed)
SCALES = {
    TYPE.Q8_0: [(0, 0x1000, False)],
    TYPE.Q4_0: [(0, 0x2000, True)],
    TYPE.Q5_0: [(0, 0x1C00, True)],
    TYPE.Q4_K: [(0, 0x0800, False), (2, 0x1400, False)],
    TYPE.Q6_K: [(208, 0x0200, True)],
}


def matrix_bytes(name, rows, cols, kind):
    """The bytes of a tensor as a GGUF file holds them, uint8 [rows, bytes of a row]."""
    block, block_bytes = gguf.GGML_QUANT_SIZES[kind]
    assert cols % block == 0, f"{name}: rows of {cols} in blocks of {block}"
    data = random_bytes(name, rows * cols // block * block_bytes)
    # Floats: any sign and fraction; exponents -7 .. -4, that is 2^-7 <= |value| < 2^-3.
    if kind == TYPE.F32:
        x = data.view("<u4")
        x[:] = (x & 0x807FFFFF) | ((123 - ((x >> 23) & 3)) << 23)
    elif kind == TYPE.BF16:
        x = data.view("<u2")
        x[:] = (x & 0x807F) | ((123 - ((x >> 7) & 3)) << 7)
    elif kind == TYPE.F16:
        x = data.view("<u2")
        x[:] = (x & 0x83FF) | ((11 - ((x >> 10) & 3)) << 10)
    else:
        blocks = data.reshape(-1, block_bytes)
        for offset, bits, signed in SCALES[kind]:
            words = stream(f"{name}.{offset}", len(blocks))
            scale = (words & np.uint64(0x3FF)) + np.uint64(bits)
            if signed:
                scale |= words >> np.uint64(48) & np.uint64(0x8000)
            blocks[:, offset : offset + 2] = scale.astype("<u2").view(np.uint8).reshape(-1, 2)
    return data.reshape(rows, -1)


# Range of the gains in eighths: (smallest, width). Large gains of q and k make attention uneven, large
# gains of the post-norms let the layers outweigh the embedding of the token itself.
GAINS = {
    "attn_norm": (4, 12),
    "attn_q_norm": (8, 16),
    "attn_k_norm": (6, 12),
    "post_attention_norm": (4, 24),
    "ffn_norm": (8, 16),
    "post_ffw_norm": (4, 24),
    "output_norm": (6, 16),
}


def gain_vector(name, size):
    """Norm gains as a GGUF file holds them (the gain itself), float32 [size]; exact."""
    smallest, width = GAINS[name.removesuffix(".weight").split(".")[-1]]
    steps = (stream(name, size) & np.uint64(0xFFFF)).astype(np.int64)
    return ((smallest * 65536 + width * steps) * 2.0**-19).astype(np.float32)


def tensors(config, mix):
    """(name, type, bytes, float32 values) of every tensor, in the order of the file."""
    c = config
    queries, keys = c["heads"] * c["head_dim"], c["kv_heads"] * c["head_dim"]

    def matrix(name, rows, cols, role):
        data = matrix_bytes(name, rows, cols, mix[role])
        return name, mix[role], data, gguf.dequantize(data, mix[role]).reshape(rows, cols)

    def gain(name, size):
        values = gain_vector(name, size)
        return name, TYPE.F32, values.astype("<f4").view(np.uint8), values

    yield matrix("token_embd.weight", c["vocabulary"], c["width"], "embedding")
    yield gain("output_norm.weight", c["width"])
    for i in range(c["layers"]):
        b = f"blk.{i}."
        yield gain(b + "attn_norm.weight", c["width"])
        yield matrix(b + "attn_q.weight", queries, c["width"], "query_key")
        yield matrix(b + "attn_k.weight", keys, c["width"], "query_key")
        yield matrix(b + "attn_v.weight", keys, c["width"], "value")
        yield gain(b + "attn_q_norm.weight", c["head_dim"])
        yield gain(b + "attn_k_norm.weight", c["head_dim"])
        yield matrix(b + "attn_output.weight", c["width"], queries, "attention_out")
        yield gain(b + "post_attention_norm.weight", c["width"])
        yield gain(b + "ffn_norm.weight", c["width"])
        yield matrix(b + "ffn_gate.weight", c["ff_width"], c["width"], "gate_up")
        yield matrix(b + "ffn_up.weight", c["ff_width"], c["width"], "gate_up")
        yield matrix(b + "ffn_down.weight", c["width"], c["ff_width"], "down")
        yield gain(b + "post_ffw_norm.weight", c["width"])


def data_hash(config, mix):
    """FNV-1a over the 64-bit little-endian words of every tensor in turn, each filled up with zeros."""
    value = 0xCBF29CE484222325
    for _, _, data, _ in tensors(config, mix):
        data = data.reshape(-1)
        data = np.concatenate([data, np.zeros(-len(data) % 8, np.uint8)])
        for word in data.view("<u8").tolist():
            value = (value ^ word) * 0x100000001B3 & MASK
    return value


def prompt_ids(config):
    words = stream("ids", COUNT - 1)
    return [2, *(4 + words % np.uint64(config["vocabulary"] - 4)).astype(int).tolist()]


# ---- Model ----

NAMES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "attn_output": "self_attn.o_proj",
    "post_attention_norm": "post_attention_layernorm",
    "ffn_norm": "pre_feedforward_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "post_ffw_norm": "post_feedforward_layernorm",
}


def build_model(config, values, activation="gelu_pytorch_tanh"):
    """Gemma3ForCausalLM in float32 with these weights; values: {GGUF name: float32 array}."""
    c = config
    full = {"rope_type": "default", "rope_theta": c["rope_base_global"]}
    if c["rope_factor_global"] != 1:
        full |= {"rope_type": "linear", "factor": c["rope_factor_global"]}
    settings = transformers.Gemma3TextConfig(
        vocab_size=c["vocabulary"],
        hidden_size=c["width"],
        intermediate_size=c["ff_width"],
        num_hidden_layers=c["layers"],
        num_attention_heads=c["heads"],
        num_key_value_heads=c["kv_heads"],
        head_dim=c["head_dim"],
        query_pre_attn_scalar=c["query_pre_attn_scalar"],
        sliding_window=c["window"],
        max_position_embeddings=c["context"],
        rms_norm_eps=c["norm_epsilon"],
        hidden_activation=activation,
        layer_types=[
            "full_attention" if (i + 1) % c["global_every"] == 0 else "sliding_attention"
            for i in range(c["layers"])
        ],
        rope_parameters={
            "full_attention": full,
            "sliding_attention": {"rope_type": "default", "rope_theta": c["rope_base_local"]},
        },
        attn_implementation="eager",
    )
    model = transformers.Gemma3ForCausalLM(settings).float().eval()
    state = {}
    for name, value in values.items():
        name = name.removesuffix(".weight")
        value = torch.from_numpy(value)
        if name == "token_embd":
            state["model.embed_tokens.weight"] = state["lm_head.weight"] = value
        elif name == "output_norm":
            state["model.norm.weight"] = value - 1
        else:
            _, layer, part = name.split(".")
            # transformers holds gain - 1; gains have 19 bits behind the point, so this is exact.
            value = value - 1 if part.endswith("norm") else value
            state[f"model.layers.{layer}.{NAMES[part]}.weight"] = value
    model.load_state_dict(state, strict=True)
    scale = torch.tensor(math.sqrt(c["width"])).to(torch.bfloat16).float()
    model.model.embed_tokens.embed_scale.fill_(scale)
    return model


@torch.inference_mode()
def run(model, ids):
    """Logits [ids, vocabulary], and the residual stream [layers + 1, ids, width]: in front of layer 0, then
    after each layer."""
    hidden = []
    layers = model.model.layers
    hooks = [layers[0].register_forward_pre_hook(lambda m, args: hidden.append(args[0][0].clone()))]
    for layer in layers:
        hooks.append(layer.register_forward_hook(lambda m, args, out: hidden.append(out[0].clone())))
    logits = model(torch.tensor([ids]), use_cache=False).logits[0]
    for hook in hooks:
        hook.remove()
    return logits, torch.stack(hidden)


@torch.inference_mode()
def check_attention(model, config, ids):
    """Prints how uneven attention is; fails unless the last row sees just its window."""
    weights = model(torch.tensor([ids]), use_cache=False, output_attentions=True).attentions
    for layer, w in enumerate(weights):
        local = (layer + 1) % config["global_every"] != 0
        seen = (w[0, :, -1] > 0).sum(-1).tolist()
        expected = config["window"] if local else len(ids)
        if any(n != expected for n in seen):
            sys.exit(f"layer {layer}: the last row sees {seen} keys, expected {expected}")
    largest = torch.stack([w[0, :, -1].max(-1).values for w in weights]).flatten()
    print(f"  largest weight of a head at the last row: {largest.min():.2f} .. {largest.max():.2f}")


def sensitivities(config, values, ids, logits):
    """Prints by how much wrong implementations would miss the goldens; fails if one could hide."""

    def difference(name, model):
        change = (run(model, ids)[0] - logits).abs()[ROWS]
        print(f"  {name:34} max {change.max():8.4f}  rms {change.square().mean().sqrt():8.4f}")
        if change.max() < 2e-3:  # the two forms of GELU differ by 5e-4 at most
            sys.exit(f"the goldens would not notice: {name}")

    def with_config(**changes):
        return build_model(config | changes, values)

    def with_values(change):
        return build_model(config, change({name: value.copy() for name, value in values.items()}))

    difference("window one shorter", with_config(window=config["window"] - 1))
    difference("window one longer", with_config(window=config["window"] + 1))
    difference("no RoPE factor", with_config(rope_factor_global=1))
    local_base, global_base = config["rope_base_local"], config["rope_base_global"]
    difference("local RoPE base in global layers", with_config(rope_base_global=local_base))
    difference("global RoPE base in local layers", with_config(rope_base_local=global_base))
    difference("query scale of head_dim", with_config(query_pre_attn_scalar=config["head_dim"]))
    difference("global layers one later", with_config(global_every=config["global_every"] + 1))
    difference("GELU with erf", build_model(config, values, activation="gelu"))
    for kind in GAINS:
        def without(v, kind=kind):
            for name in v:
                if name.removesuffix(".weight").split(".")[-1] == kind:
                    v[name][:] = 1
            return v
        difference(f"no gain of {kind}", with_values(without))

    def swap_heads(v):
        for name in v:
            if ".attn_k." in name or ".attn_v." in name:
                heads = v[name].reshape(config["kv_heads"], -1, config["width"])
                v[name] = heads[::-1].reshape(v[name].shape)
        return v

    if config["kv_heads"] > 1:
        difference("KV heads swapped", with_values(swap_heads))

    model = build_model(config, values)
    exact = math.sqrt(config["width"])
    if model.model.embed_tokens.embed_scale.item() != exact:
        model.model.embed_tokens.embed_scale.fill_(exact)
        difference("embedding scale not rounded", model)
    if config["norm_epsilon"] > 1e-5:
        difference("epsilon 1e-6", with_config(norm_epsilon=1e-6))


def check_file(variant, path):
    config, mix = VARIANTS[variant]
    found = {t.name: t for t in gguf.GGUFReader(path).tensors}
    expected = list(tensors(config, mix))
    if [name for name, *_ in expected] != list(found):
        sys.exit(f"{path}: the tensors are not the expected ones")
    for name, kind, data, values in expected:
        tensor = found[name]
        shape = list(reversed(values.shape))
        if tensor.tensor_type != kind or list(tensor.shape) != shape:
            found_text = f"{tensor.tensor_type.name} {list(tensor.shape)}"
            sys.exit(f"{name}: expected {kind.name} {shape}, found {found_text}")
        if tensor.data.tobytes() != data.tobytes():
            sys.exit(f"{name}: other bytes")
    print(f"{path}: {len(expected)} tensors equal")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--check", nargs=2, metavar=("VARIANT", "FILE"))
    args = parser.parse_args()
    if args.check:
        return check_file(*args.check)

    result = {"configs": {"tiny": TINY, "odd": ODD}, "variants": {}}
    for name, (config, mix) in VARIANTS.items():
        values = {tensor: value for tensor, _, _, value in tensors(config, mix)}
        ids = prompt_ids(config)
        model = build_model(config, values)
        logits, hidden = run(model, ids)
        best = torch.softmax(logits, -1).max(-1).values
        first, last = (hidden[i].square().mean().sqrt() for i in (0, -1))
        print(
            f"{name}: logits std {logits.std():.2f}, largest {logits.abs().max():.1f}, "
            f"best probability {best.min():.2f} .. {best.max():.2f}, "
            f"residual rms {first:.2f} -> {last:.2f}"
        )
        logits64, _ = run(copy.deepcopy(model).double(), ids)
        print(f"  float32 against float64: {(logits64 - logits).abs().max():.1e}")
        check_attention(model, config, ids)
        if mix["down"] == TYPE.F32:
            sensitivities(config, values, ids, logits)
        entry = {
            "config": "odd" if config is ODD else "tiny",
            "formats": {role: kind.name for role, kind in mix.items()},
            "data_hash": f"{data_hash(config, mix):016x}",
            "ids": ids,
            "rows": ROWS,
            "logits": f"tiny_{name}.f32",
            "best": logits.argmax(-1).tolist(),
        }
        logits[ROWS].numpy().astype("<f4").tofile(HERE / entry["logits"])
        if mix["down"] == TYPE.F32:
            entry |= {"hidden_rows": HIDDEN_ROWS, "hidden": f"tiny_{name}_hidden.f32"}
            hidden[:, HIDDEN_ROWS].numpy().astype("<f4").tofile(HERE / entry["hidden"])
        result["variants"][name] = entry

    def text(value, indent=0):
        if not isinstance(value, dict):
            return json.dumps(value)
        pad = " " * (indent + 1)
        items = (f"{pad}{json.dumps(k)}: {text(v, indent + 1)}" for k, v in value.items())
        return "{\n" + ",\n".join(items) + "\n" + " " * indent + "}"

    (HERE / "tiny.json").write_text(text(result) + "\n")


if __name__ == "__main__":
    main()
