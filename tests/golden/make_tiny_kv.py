#!/usr/bin/env python3
"""Makes the goldens of the tiny models with keys and values rounded to bf16, as Lapidary's cache holds them.

    make_tiny_kv.py           writes tiny_VARIANT_kv.f32 beside this script, laid out as tiny_VARIANT.f32

The rounding of the cache moves logits of these models by 0.06 to 0.18, which hides mistakes that are as
small: GELU in its other form, an embedding scale that is not rounded. Against these goldens only roundings
of f32 are left. Everything else is make_tiny.py's, which see.
"""

import numpy as np
import torch
from transformers.models.gemma3 import modeling_gemma3

import make_tiny


def main():
    attention = modeling_gemma3.eager_attention_forward

    def rounded(module, query, key, value, *args, **kwargs):
        def bf16(x):
            return x.to(torch.bfloat16).to(x.dtype)

        return attention(module, query, bf16(key), bf16(value), *args, **kwargs)

    modeling_gemma3.eager_attention_forward = rounded
    for name, (config, mix) in make_tiny.VARIANTS.items():
        values = {tensor: value for tensor, _, _, value in make_tiny.tensors(config, mix)}
        logits, _ = make_tiny.run(make_tiny.build_model(config, values), make_tiny.prompt_ids(config))
        logits[make_tiny.ROWS].numpy().astype("<f4").tofile(make_tiny.HERE / f"tiny_{name}_kv.f32")


if __name__ == "__main__":
    main()
