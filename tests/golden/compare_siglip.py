#!/usr/bin/env python3
"""Compares the image encoder at its real size with transformers in float32, on generated weights.

    LAPIDARY_SIGLIP_OUTPUT=siglip.f32 build/release/tests/lapidary_model_test "[siglip]"
    compare_siglip.py siglip.f32 [--round]

Prints the relative L2 distance of the soft tokens; fails above 1 %. --round also computes what rounding all
inputs of matrices to bf16 costs, which processors with bf16 dot products do. Takes 8 GB and some minutes.
"""

import argparse
import sys

import numpy as np
import torch
import transformers

import make_images
import make_tiny
import make_tiny_vision
from make_tiny import TYPE

WIDTH = 1152  # of the decoder; tests/model/siglip_test.cpp takes the 1B's
VISION = {"image": 896, "patch": 14, "width": 1152, "layers": 27, "heads": 16, "ff_width": 4304, "soft_tokens": 256}


def halved(name, rows, cols, kind):
    """The matrix of make_tiny, its bf16 values halved, as float32 bytes."""
    bits = make_tiny.matrix_bytes(name, rows, cols, TYPE.BF16).view("<u2") - np.uint16(1 << 7)
    return (bits.astype("<u4") << np.uint32(16)).reshape(rows, cols).view(np.uint8)


class Halved:
    stream = staticmethod(make_tiny.stream)
    matrix_bytes = staticmethod(halved)


def round_inputs(module):
    def rounded(module, args):
        return tuple(x.bfloat16().float() for x in args)

    for part in module.modules():
        if isinstance(part, (torch.nn.Linear, torch.nn.Conv2d)):
            part.register_forward_pre_hook(rounded)


@torch.inference_mode()
def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("output")
    parser.add_argument("--round", action="store_true")
    args = parser.parse_args()

    make_tiny_vision.VISION = VISION
    make_tiny_vision.make_tiny = Halved
    make_tiny_vision.TEXT = {"width": WIDTH}
    vision = transformers.SiglipVisionConfig(
        hidden_size=1152, intermediate_size=4304, num_hidden_layers=27, num_attention_heads=16, image_size=896,
        patch_size=14, vision_use_head=False,
    )
    text = transformers.Gemma3TextConfig(
        vocab_size=8, hidden_size=WIDTH, intermediate_size=32, num_hidden_layers=1, num_attention_heads=1,
        num_key_value_heads=1, head_dim=32,
    )
    config = transformers.Gemma3Config(text_config=text, vision_config=vision, mm_tokens_per_image=256)
    model = transformers.Gemma3ForConditionalGeneration(config).float().eval()
    state = make_tiny_vision.vision_state(make_tiny_vision.vision_tensors())
    missing = model.load_state_dict(state, strict=False)
    if missing.unexpected_keys or any("language_model" not in k and "lm_head" not in k for k in missing.missing_keys):
        sys.exit(f"the model has other tensors: {missing}")

    def encode():
        return model.model.get_image_features(make_tiny_vision.pixels("waves")[None]).pooler_output[0]

    def report(name, found):
        error = float((found - expected).norm() / expected.norm())
        print(f"{name}: relative L2 {100 * error:.3f} %, largest error {float((found - expected).abs().max()):.4f}")
        return error

    expected = encode()
    print(f"soft tokens: rms {expected.square().mean().sqrt():.3f}, largest {expected.abs().max():.2f}")
    found = torch.from_numpy(np.fromfile(args.output, "<f4").reshape(256, WIDTH))
    error = report(args.output, found)
    if args.round:
        round_inputs(model)
        attention = transformers.models.siglip.modeling_siglip.eager_attention_forward

        def rounded(module, query, key, value, *args, **kwargs):
            return attention(module, *(x.bfloat16().float() for x in (query, key, value)), *args, **kwargs)

        model.model.vision_tower.config._attn_implementation = "eager"
        transformers.models.siglip.modeling_siglip.eager_attention_forward = rounded
        report("transformers with inputs in bf16", encode())
    if not error < 0.01:
        sys.exit("the relative L2 distance is above 1 %")


if __name__ == "__main__":
    main()
