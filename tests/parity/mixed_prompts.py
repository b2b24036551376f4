#!/usr/bin/env python3
"""Compares text and pictures in one prompt with transformers in float32, on a model of the 4B's shapes.

    mixed_prompts.py --work DIR --lapidary build/release/examples/lapidary \\
        --program build/release/tests/lapidary_mixed_prompts

The decoder has six layers, one pattern of attention; the image encoder is whole. Weights are random values that
bf16 holds (see random_models.py), in a folder in bf16, whose blob of --type bf16 holds the same values. Pictures
are make_images.py's, at the encoder's own size, so that none is resized.

Prompt "one" has a picture within a short text. Prompt "two" has two pictures behind a text that is longer than the
window. The logits of every 4th token are compared. Fails above a mean KL of 1e-3, of all these rows or of those of
soft tokens alone, and unless the same comparison would fail had one of these mistakes been made: causal attention
within pictures, both pictures seen as one, pictures exchanged. Folder, blob and pictures stay in DIR (6.6 GB).
"""

import argparse
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
from PIL import Image
from transformers.models.gemma3 import modeling_gemma3

import random_models
from random_models import EVERY, SLICE, chosen, compare, report

sys.path.append(str(pathlib.Path(__file__).resolve().parent.parent / "golden"))
import make_images

SIZE = "4b-pictures"
random_models.SIZES[SIZE] = (6, *random_models.SIZES["4b"][1:])
SIDE, PATCH, SOFT_TOKENS = 896, 14, 256
BEGIN, END, SOFT = 255999, 256000, 262144  # ids around a picture and in it
PICTURES = ["noise", "waves"]
MOST_KL = 1e-3
TOWER, PROJECTOR, DECODER = "model.vision_tower.", "model.multi_modal_projector.", "model.language_model."


def config_of():
    vision = transformers.SiglipVisionConfig(
        hidden_size=1152,
        intermediate_size=4304,
        num_hidden_layers=27,
        num_attention_heads=16,
        image_size=SIDE,
        patch_size=PATCH,
        vision_use_head=False,
    )
    return transformers.Gemma3Config(
        text_config=random_models.config_of(SIZE),
        vision_config=vision,
        mm_tokens_per_image=SOFT_TOKENS,
        image_token_index=SOFT,
        # As exact, without 1 GB of scores in each layer of the encoder.
        attn_implementation={"text_config": "eager", "vision_config": "sdpa"},
    )


# ---- Weights ----


def vision_state(config):
    """{name: bf16 values} of the encoder and the projector."""
    generator = torch.Generator().manual_seed(3)
    vision = config.vision_config
    width, ff = vision.hidden_size, vision.intermediate_size
    state = {}

    def matrix(name, *shape, std):
        state[name] = torch.empty(shape).normal_(0, std, generator=generator).bfloat16()

    def vector(name, size, low, high):
        state[name] = torch.empty(size).uniform_(low, high, generator=generator).bfloat16()

    def linear(name, rows, cols, gain):
        matrix(name + ".weight", rows, cols, std=gain / math.sqrt(cols))
        vector(name + ".bias", rows, -0.2, 0.2)

    def norm(name):
        vector(name + ".weight", width, 0.5, 1.5)
        vector(name + ".bias", width, -0.2, 0.2)

    # A patch and its position are equally loud. Scores get a standard deviation of 2, so that each of 4096 keys does
    # not get the same weight. What the layers add is then about half as large again as what they begin with.
    patch = TOWER + "embeddings.patch_embedding"
    matrix(patch + ".weight", width, 3, PATCH, PATCH, std=1.5 / math.sqrt(3 * PATCH**2))
    vector(patch + ".bias", width, -0.2, 0.2)
    matrix(TOWER + "embeddings.position_embedding.weight", (SIDE // PATCH) ** 2, width, std=0.7)
    for i in range(vision.num_hidden_layers):
        layer = f"{TOWER}encoder.layers.{i}."
        norm(layer + "layer_norm1")
        for part, gain in {"q_proj": 1.4, "k_proj": 1.4, "v_proj": 1, "out_proj": 0.8}.items():
            linear(f"{layer}self_attn.{part}", width, width, gain)
        norm(layer + "layer_norm2")
        linear(layer + "mlp.fc1", ff, width, 1)
        linear(layer + "mlp.fc2", width, ff, 0.4)
    norm(TOWER + "post_layernorm")
    # Soft tokens are as large as the rows of the text, whose standard deviation is 3.
    vector(PROJECTOR + "mm_soft_emb_norm.weight", width, -0.5, 0.5)
    matrix(PROJECTOR + "mm_input_projection_weight", width, config.text_config.hidden_size, std=3 / math.sqrt(width))
    return state


def make_folder(folder):
    """A checkpoint as random_models makes it, with one shard more and the config.json of both parts."""
    random_models.make_folder(SIZE, folder)
    config, state = config_of(), vision_state(config_of())
    safetensors.torch.save_file(state, folder / "model-vision.safetensors")
    index = folder / "model.safetensors.index.json"
    names = json.loads(index.read_text())
    names["weight_map"] |= dict.fromkeys(state, "model-vision.safetensors")
    index.write_text(json.dumps(names))
    config.architectures = ["Gemma3ForConditionalGeneration"]
    config.dtype = torch.bfloat16
    config.save_pretrained(folder)


class WidenedEmbedding(torch.nn.Module):
    """bf16 rows in float32, scaled; the module of transformers would round the products to bf16."""

    def __init__(self, weight):
        super().__init__()
        self.weight = weight
        self.scale = torch.tensor(math.sqrt(weight.shape[1])).bfloat16().float()

    def forward(self, ids):
        return self.weight[ids].float() * self.scale


def load_model(folder):
    config = config_of()
    with torch.device("meta"):
        model = transformers.Gemma3ForConditionalGeneration(config)
    state = {}
    for shard in sorted(folder.glob("*.safetensors")):
        for name, value in safetensors.torch.load_file(shard).items():
            pictured = name.startswith((TOWER, PROJECTOR))
            state[name if pictured else DECODER + name.removeprefix("model.")] = value
    state["lm_head.weight"] = state[DECODER + "embed_tokens.weight"]
    model.load_state_dict(state, strict=True, assign=True)
    tower, decoder = model.model.vision_tower, model.model.language_model
    # What is computed and not loaded is still on the device "meta".
    tower.embeddings.position_ids = torch.arange(tower.embeddings.num_positions)[None]
    decoder.rotary_emb = modeling_gemma3.Gemma3RotaryEmbedding(config.text_config)
    decoder.embed_tokens = WidenedEmbedding(state["lm_head.weight"])
    # bf16 to float32 and back loses nothing.
    for layer in decoder.layers:
        layer.register_forward_pre_hook(lambda module, args: module.float() and None)
        layer.register_forward_hook(lambda module, args, out: module.bfloat16() and None)
    decoder.norm.float()
    tower.float()
    model.model.multi_modal_projector.float()
    left = [name for name, value in [*model.named_parameters(), *model.named_buffers()] if value.is_meta]
    assert not left, left
    return model.eval()


# ---- Prompts ----


def prompts():
    """{name: (ids, pictures)}"""
    words = torch.randint(4, 255999, (1200,), generator=torch.Generator().manual_seed(2)).tolist()
    image = [BEGIN, *[SOFT] * SOFT_TOKENS, END]
    return {
        "one": ([2, *words[:9], *image, *words[9:40]], [0]),
        "two": ([2, *words[:1100], *image, *words[1100:1110], *image, *words[1110:]], [1, 0]),
    }


@torch.inference_mode()
def encode(model, kind):
    """transformers' output for a picture, its soft tokens in pooler_output: [1, 256, width of the decoder]."""
    values = (2 * make_images.pixel(SIDE, SIDE, kind).astype(np.float64) - 255) / 255
    return model.model.get_image_features(torch.from_numpy(values).float().permute(2, 0, 1)[None])


@torch.inference_mode()
def logits_of(model, ids, soft_tokens):
    """float32 [chosen rows, vocabulary]; soft_tokens: [pictures, 256, width]."""
    rows = chosen(ids)
    ids = torch.tensor([ids])
    image = transformers.modeling_outputs.BaseModelOutputWithPooling(pooler_output=soft_tokens)
    output = model.model(input_ids=ids, mm_encoder_outputs={"image": image}, token_type_ids=(ids == SOFT).int(),
                         use_cache=False)
    hidden = output.last_hidden_state[0][rows]
    return torch.cat([hidden @ part.float().T for part in model.lm_head.weight.split(SLICE)], dim=1)


# ---- Mistakes ----


def with_blocks(change):
    """The model's logits with other numbers of the pictures that tokens belong to, -1 for text."""

    def wrong(model, ids, soft_tokens):
        original = modeling_gemma3.get_block_sequence_ids_for_mask
        modeling_gemma3.get_block_sequence_ids_for_mask = lambda *args, **kwargs: change(original(*args, **kwargs))
        logits = logits_of(model, ids, soft_tokens)
        modeling_gemma3.get_block_sequence_ids_for_mask = original
        return logits

    return wrong


MISTAKES = {
    "causal within pictures": with_blocks(lambda blocks: torch.full_like(blocks, -1)),
    "both pictures as one": with_blocks(lambda blocks: blocks.clamp(max=0)),
    "pictures exchanged": lambda model, ids, soft_tokens: logits_of(model, ids, soft_tokens.flip(0)),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--work", type=pathlib.Path, required=True)
    parser.add_argument("--lapidary", type=pathlib.Path, required=True)
    parser.add_argument("--program", type=pathlib.Path, required=True, help="lapidary_mixed_prompts")
    args = parser.parse_args()
    folder, blob = args.work / "4b-pictures-hf", args.work / "4b-pictures.lap"
    args.work.mkdir(parents=True, exist_ok=True)

    def run(*command):
        subprocess.run([str(part) for part in command], check=True)

    if not (folder / "model-vision.safetensors").exists():
        make_folder(folder)
    if not blob.exists():
        run(args.lapidary, "convert", folder, "--type", "bf16", "-o", blob)
    files = [args.work / f"{kind}.png" for kind in PICTURES]
    for kind, file in zip(PICTURES, files):
        Image.fromarray(make_images.pixel(SIDE, SIDE, kind)).save(file)
    ours = {}
    for name, (ids, pictures) in prompts().items():
        ids_file, logits_file = args.work / f"{name}.ids", args.work / f"{name}.f32"
        ids_file.write_text(" ".join(map(str, ids)))
        run(args.program, blob, ids_file, EVERY, logits_file, *(files[i] for i in pictures))
        ours[name] = torch.from_numpy(np.fromfile(logits_file, "<f4").reshape(len(chosen(ids)), -1))
        os.remove(logits_file)

    model = load_model(folder)
    encoded = [encode(model, kind).pooler_output for kind in PICTURES]
    print("soft tokens: rms " + ", ".join(f"{tokens.square().mean().sqrt():.2f}" for tokens in encoded))
    failures = []
    for name, (ids, pictures) in prompts().items():
        soft_tokens = torch.cat([encoded[i] for i in pictures])
        reference = logits_of(model, ids, soft_tokens)
        best = torch.log_softmax(reference, -1).max(-1).values.exp()
        print(f"{name}: {len(ids)} tokens, {len(reference)} rows of logits, std {reference.std():.2f}, best "
              f"probability {best.median():.3f} in the median, at most {best.max():.3f}")
        pictured = torch.tensor([ids[row] == SOFT for row in chosen(ids)])
        for rows, which in ((pictured | True, "all rows"), (pictured, "soft tokens")):
            mean, *_ = report(f"{name}, Lapidary, {which}", compare(reference[rows], ours[name][rows]))
            if not mean <= MOST_KL:
                failures.append(f"{name}, {which}")
        for mistake, wrong in MISTAKES.items():
            if len(pictures) == 1 and mistake != "causal within pictures":
                continue
            mean, *_ = report(f"  {name}, {mistake}", compare(wrong(model, ids, soft_tokens), ours[name]))
            if not mean > MOST_KL:
                failures.append(f"{name}, {mistake}: not noticed")
    if failures:
        sys.exit("not as expected: " + "; ".join(failures))


if __name__ == "__main__":
    main()
