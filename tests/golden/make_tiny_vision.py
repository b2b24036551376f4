#!/usr/bin/env python3
"""Makes the goldens of the tiny model with an image encoder: what transformers in float32 says of generated
weights and pictures.

    make_tiny_vision.py       writes tiny_vision.json, tiny_vision_*.f32 beside this script; prints by how much
                              wrong implementations would miss them

Weights of the decoder are make_tiny.py's, those of the encoder are generated in the same way from the names
of their sections in a blob; tests/support/tiny_vision.h has the same values. Pictures are make_images.py's, at
the encoder's own size, so that none is resized. Keys and values are rounded to bf16, as Lapidary keeps them
(see make_tiny_kv.py); nothing else is rounded.

Made with torch 2.15.0, transformers 5.24.0, gguf 0.19.0 and numpy 2.4.6. Tests read the outputs only.
"""

import json
import math
import sys

import numpy as np
import torch
import transformers
from transformers.models.gemma3 import modeling_gemma3
from transformers.models.siglip import modeling_siglip

import make_images
import make_tiny
from make_tiny import HERE, TYPE

IMAGE_TOKEN = 262144
# Smaller than a picture's 16 soft tokens, so that the window shows inside pictures too.
TEXT = make_tiny.TINY | {"layers": 6, "window": 12}
# Heads of 24, a number of patches that fills no page of keys, odd inputs, an inner width that fills no
# vector: nothing is a multiple of what the kernels like.
VISION = {"image": 140, "patch": 7, "width": 96, "layers": 3, "heads": 4, "ff_width": 176, "soft_tokens": 16}
PICTURES = ["noise", "waves"]
MIX = make_tiny.uniform(TYPE.F32)


def gains(name, size, smallest, width):
    steps = (make_tiny.stream(name, size) & np.uint64(0xFFFF)).astype(np.int64)
    return ((smallest * 65536 + width * steps) * 2.0**-19).astype(np.float32)


def vision_tensors():
    """{section: float32 values}."""
    v = VISION
    tensors = {}

    def matrix(name, rows, cols):
        data = make_tiny.matrix_bytes(name, rows, cols, TYPE.F32)
        tensors[name] = data.view("<f4").reshape(rows, cols)

    def affine(name, rows, cols):
        matrix(name, rows, cols)
        tensors[name + "_bias"] = gains(name + "_bias", rows, -2, 4)

    def norm(name):
        tensors[name] = gains(name, v["width"], 4, 16)
        tensors[name + "_bias"] = gains(name + "_bias", v["width"], -4, 8)

    affine("vision.patch", v["width"], 3 * v["patch"] ** 2)
    matrix("vision.positions", (v["image"] // v["patch"]) ** 2, v["width"])
    for i in range(v["layers"]):
        layer = f"vision.layers.{i}."
        norm(layer + "norm1")
        for part in ("q", "k", "v", "out"):
            affine(layer + part, v["width"], v["width"])
        norm(layer + "norm2")
        affine(layer + "up", v["ff_width"], v["width"])
        affine(layer + "down", v["width"], v["ff_width"])
    norm("vision.final_norm")
    tensors["vision.soft_norm"] = gains("vision.soft_norm", v["width"], 4, 16)
    matrix("vision.projection", TEXT["width"], v["width"])
    return tensors


NAMES = {
    "norm1": "layer_norm1",
    "norm2": "layer_norm2",
    "q": "self_attn.q_proj",
    "k": "self_attn.k_proj",
    "v": "self_attn.v_proj",
    "out": "self_attn.out_proj",
    "up": "mlp.fc1",
    "down": "mlp.fc2",
}


def vision_state(tensors):
    """The state of transformers' vision tower and projector; tensors: {section: float32 values}."""
    state = {}
    tower, projector = "model.vision_tower.", "model.multi_modal_projector."
    for name, value in tensors.items():
        name, value = name.removeprefix("vision."), torch.from_numpy(value)
        bias = name.endswith("_bias")
        kind = "bias" if bias else "weight"
        name = name.removesuffix("_bias")
        if name == "patch":
            value = value if bias else value.reshape(-1, 3, VISION["patch"], VISION["patch"])
            state[f"{tower}embeddings.patch_embedding.{kind}"] = value
        elif name == "positions":
            state[tower + "embeddings.position_embedding.weight"] = value
        elif name == "final_norm":
            state[f"{tower}post_layernorm.{kind}"] = value
        elif name == "soft_norm":
            state[projector + "mm_soft_emb_norm.weight"] = value - 1
        elif name == "projection":
            state[projector + "mm_input_projection_weight"] = value.T.contiguous()
        else:
            _, layer, part = name.split(".")
            state[f"{tower}encoder.layers.{layer}.{NAMES[part]}.{kind}"] = value
    return state


def build_model():
    text = make_tiny.build_model(TEXT, {t: value for t, _, _, value in make_tiny.tensors(TEXT, MIX)})
    vision = transformers.SiglipVisionConfig(
        hidden_size=VISION["width"],
        intermediate_size=VISION["ff_width"],
        num_hidden_layers=VISION["layers"],
        num_attention_heads=VISION["heads"],
        image_size=VISION["image"],
        patch_size=VISION["patch"],
        vision_use_head=False,
    )
    config = transformers.Gemma3Config(
        text_config=text.config,
        vision_config=vision,
        mm_tokens_per_image=VISION["soft_tokens"],
        image_token_index=IMAGE_TOKEN,
        attn_implementation="eager",
    )
    model = transformers.Gemma3ForConditionalGeneration(config).float().eval()
    state = vision_state(vision_tensors()) | {"lm_head.weight": text.state_dict()["lm_head.weight"]}
    for name, value in text.model.state_dict().items():
        state["model.language_model." + name] = value
    model.load_state_dict(state, strict=True)
    scale = torch.tensor(math.sqrt(TEXT["width"])).to(torch.bfloat16).float()
    model.model.language_model.embed_tokens.embed_scale.fill_(scale)
    return model


def pixels(kind):
    picture = make_images.pixel(VISION["image"], VISION["image"], kind)
    return torch.from_numpy((2 * picture.astype(np.float64) - 255) / 255).float().permute(2, 0, 1)


@torch.inference_mode()
def encode(model, kind):
    return model.model.get_image_features(pixels(kind)[None]).pooler_output[0]


def prompts():
    """{name: (ids, pictures, rows whose logits are kept)}."""
    words = (4 + make_tiny.stream("ids", 200) % np.uint64(TEXT["vocabulary"] - 4)).astype(int).tolist()
    image = [IMAGE_TOKEN] * VISION["soft_tokens"]
    one = [2, *words[:5], *image, *words[5:12]]
    two = [2, *words[12:60], *image, *words[60:63], *image, *words[63:90]]
    return {
        "one": (one, [0], [5, 6, 7, 13, 21, 22, len(one) - 1]),
        "two": (two, [1, 0], [48, 49, 56, 64, 65, 68, 83, 84, len(two) - 1]),
    }


@torch.inference_mode()
def logits_of(model, ids, pictures):
    ids = torch.tensor([ids])
    images = torch.stack([pixels(PICTURES[i]) for i in pictures])
    types = (ids == IMAGE_TOKEN).int()
    return model(input_ids=ids, pixel_values=images, token_type_ids=types, use_cache=False).logits[0]


def check(model, embeddings, logits):
    """Prints by how much mistakes would miss the goldens; fails if one could hide."""

    def report(name, change, least):
        print(f"  {name:44} max {change.abs().max():9.5f}")
        if change.abs().max() < least:
            sys.exit(f"the goldens would not notice: {name}")

    def spoiled(name, parameter, change, least=0.02):
        with torch.no_grad():
            kept = parameter.clone()
            parameter.copy_(change(kept))
            report(name, encode(model, PICTURES[0]) - embeddings[0], least)
            parameter.copy_(kept)

    tower = model.model.vision_tower
    layer = tower.encoder.layers[1]
    spoiled("positions of rows and columns exchanged", tower.embeddings.position_embedding.weight,
            lambda w: w.reshape(20, 20, -1).transpose(0, 1).reshape(400, -1))
    spoiled("channels in the order blue, green, red", tower.embeddings.patch_embedding.weight, lambda w: w.flip(1))
    spoiled("no bias of k: adds the same to a row's scores", layer.self_attn.k_proj.bias, torch.zeros_like, 0)
    for name, parameter in [("q", layer.self_attn.q_proj.bias), ("v", layer.self_attn.v_proj.bias),
                            ("out", layer.self_attn.out_proj.bias), ("up", layer.mlp.fc1.bias),
                            ("down", layer.mlp.fc2.bias), ("norm1", layer.layer_norm1.bias),
                            ("norm2", layer.layer_norm2.bias), ("patch", tower.embeddings.patch_embedding.bias),
                            ("final_norm", tower.post_layernorm.bias)]:
        spoiled(f"no bias of {name}", parameter, torch.zeros_like)
    spoiled("soft_norm as 1 + its gain", model.model.multi_modal_projector.mm_soft_emb_norm.weight, lambda w: w + 1)
    for mlp in (block.mlp for block in tower.encoder.layers):
        mlp.activation_fn = torch.nn.GELU()
    report("GELU with erf", encode(model, PICTURES[0]) - embeddings[0], 2e-4)
    for mlp in (block.mlp for block in tower.encoder.layers):
        mlp.activation_fn = torch.nn.GELU(approximate="tanh")

    # Masks.
    original = modeling_gemma3.get_block_sequence_ids_for_mask

    def with_blocks(name, change):
        modeling_gemma3.get_block_sequence_ids_for_mask = lambda *a, **k: change(original(*a, **k))
        for prompt, (ids, pictures, rows) in prompts().items():
            report(f"{name}, prompt {prompt}", (logits_of(model, ids, pictures) - logits[prompt])[rows],
                   0 if prompt == "one" and "one picture" in name else 0.1)
        modeling_gemma3.get_block_sequence_ids_for_mask = original

    with_blocks("causal inside pictures", lambda blocks: torch.full_like(blocks, -1))
    with_blocks("two pictures as one picture", lambda blocks: torch.where(blocks >= 0, 0, -1))
    ids, pictures, rows = prompts()["two"]
    report("pictures exchanged", (logits_of(model, ids, pictures[::-1]) - logits["two"])[rows], 0.1)


def round_keys_and_values(modeling):
    attention = modeling.eager_attention_forward

    def rounded(module, query, key, value, *args, **kwargs):
        return attention(module, query, key.bfloat16().float(), value.bfloat16().float(), *args, **kwargs)

    modeling.eager_attention_forward = rounded


def main():
    round_keys_and_values(modeling_gemma3)
    round_keys_and_values(modeling_siglip)
    model = build_model()
    embeddings = [encode(model, kind) for kind in PICTURES]
    result = {"config": {**TEXT, **{f"vision.{k}": v for k, v in VISION.items()}}, "pictures": [], "prompts": []}
    for i, (kind, embedding) in enumerate(zip(PICTURES, embeddings)):
        print(f"{kind}: embedding rms {embedding.square().mean().sqrt():.2f}")
        name = f"tiny_vision_picture{i}.f32"
        embedding.numpy().astype("<f4").tofile(HERE / name)
        result["pictures"].append({"kind": kind, "embedding": name})
    logits = {}
    for prompt, (ids, pictures, rows) in prompts().items():
        logits[prompt] = logits_of(model, ids, pictures)
        name = f"tiny_vision_{prompt}.f32"
        logits[prompt][rows].numpy().astype("<f4").tofile(HERE / name)
        result["prompts"].append({"name": prompt, "ids": ids, "pictures": pictures, "rows": rows, "logits": name})
        print(f"{prompt}: logits std {logits[prompt].std():.2f}")
    check(model, embeddings, logits)
    lines = [f'"{key}": {json.dumps(value)}' for key, value in result.items()]
    (HERE / "tiny_vision.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
