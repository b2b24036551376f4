#!/usr/bin/env python3
"""Makes quant.json: blocks of every weight format and the numbers that they stand for.

    make_quant.py

The blocks are random bytes with plausible scales; the numbers are those of gguf.quants.dequantize, the
Python package of the ggml project. Written as hexadecimal bytes, numbers as little-endian float32.

Made with gguf 0.19.0 and numpy 2.4.6. Tests read the output only.
"""

import json
import pathlib

import gguf
import numpy as np

# Where a block holds f16 numbers: their byte offsets.
SCALES = {"F32": [], "F16": [0], "BF16": [], "Q4_0": [0], "Q5_0": [0], "Q8_0": [0], "Q4_K": [0, 2], "Q6_K": [208],
          "Q4_1": [0, 2], "Q5_1": [0, 2], "Q2_K": [80, 82], "Q3_K": [108], "Q5_K": [0, 2], "IQ4_NL": [0], "IQ4_XS": [0]}
VALUES = 512


def main():
    random = np.random.default_rng(20250312)
    formats = {}
    for name, scales in SCALES.items():
        kind = gguf.GGMLQuantizationType[name]
        block, size = gguf.GGML_QUANT_SIZES[kind]
        count = (VALUES if block == 256 else 128) // block
        data = random.integers(0, 256, (count, size), dtype=np.uint8)
        for offset in scales:
            # Some of them subnormal: 2^-24 to 2^-15.
            exponents = random.uniform(-18 if name != "F16" else -24, 4, count)
            values = (random.choice([-1.0, 1.0], count) * np.exp2(exponents)).astype(np.float16)
            data[:, offset : offset + 2] = values.view(np.uint8).reshape(count, 2)
        if name == "F32":
            data = random.normal(size=count).astype(np.float32).view(np.uint8).reshape(count, 4)
        if name == "BF16":
            data = (random.normal(size=count).astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)
            data = data.view(np.uint8).reshape(count, 2)
        source = data.reshape(-1)
        # The package wants F16 and F32 as arrays of their own type.
        if name == "F32":
            source = source.view(np.float32)
        if name == "F16":
            source = source.view(np.float16)
        values = gguf.quants.dequantize(source, kind).astype(np.float32)
        assert np.isfinite(values).all() and values.size == count * block
        formats[name] = {"source": data.tobytes().hex(), "values": values.astype("<f4").tobytes().hex()}
    path = pathlib.Path(__file__).resolve().parent / "quant.json"
    path.write_text(json.dumps(formats, indent=1) + "\n")


main()
