#!/usr/bin/env python3
"""Writes an mmproj GGUF with the shapes of Gemma 3's vision tower and random weights, to time it.

    synth_mmproj.py --width 2560 -o mmproj-4b.gguf        width of the decoder: 2560, 3840 or 5376

Speed does not depend on the values. Matrices are f16 as in the files that people have, the rest f32. Needs:
pip install gguf numpy.
"""

import argparse

import gguf
import numpy as np

WIDTH, FF, LAYERS, HEADS, PATCH, IMAGE = 1152, 4304, 27, 16, 14, 896


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--width", type=int, default=2560)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("-o", "--output", required=True)
    args = parser.parse_args()
    random = np.random.default_rng(args.seed)
    writer = gguf.GGUFWriter(args.output, "clip")
    writer.add_bool("clip.has_vision_encoder", True)
    writer.add_string("clip.projector_type", "gemma3")
    writer.add_bool("clip.use_gelu", True)
    for key, value in (("image_size", IMAGE), ("patch_size", PATCH), ("embedding_length", WIDTH),
                       ("feed_forward_length", FF), ("block_count", LAYERS),
                       ("attention.head_count", HEADS), ("projection_dim", args.width)):
        writer.add_uint32(f"clip.vision.{key}", value)
    writer.add_float32("clip.vision.attention.layer_norm_epsilon", 1e-6)
    writer.add_array("clip.vision.image_mean", [0.5, 0.5, 0.5])
    writer.add_array("clip.vision.image_std", [0.5, 0.5, 0.5])

    def matrix(name, *shape, dtype=np.float16):
        scale = 0.5 / np.sqrt(np.prod(shape[1:]))
        writer.add_tensor(name, (scale * random.standard_normal(shape, dtype=np.float32)).astype(dtype))

    def vector(name, size, value=0.0):
        writer.add_tensor(name, np.full(size, value, np.float32))

    matrix("v.patch_embd.weight", WIDTH, 3, PATCH, PATCH)
    vector("v.patch_embd.bias", WIDTH)
    matrix("v.position_embd.weight", (IMAGE // PATCH) ** 2, WIDTH, dtype=np.float32)
    for i in range(LAYERS):
        layer = f"v.blk.{i}."
        for norm in ("ln1", "ln2"):
            vector(f"{layer}{norm}.weight", WIDTH, 1.0)
            vector(f"{layer}{norm}.bias", WIDTH)
        for name in ("attn_q", "attn_k", "attn_v", "attn_out"):
            matrix(f"{layer}{name}.weight", WIDTH, WIDTH)
            vector(f"{layer}{name}.bias", WIDTH)
        matrix(f"{layer}ffn_up.weight", FF, WIDTH)
        vector(f"{layer}ffn_up.bias", FF)
        matrix(f"{layer}ffn_down.weight", WIDTH, FF)
        vector(f"{layer}ffn_down.bias", WIDTH)
    vector("v.post_ln.weight", WIDTH, 1.0)
    vector("v.post_ln.bias", WIDTH)
    vector("mm.soft_emb_norm.weight", WIDTH, 1.0)
    matrix("mm.input_projection.weight", WIDTH, args.width)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    main()
