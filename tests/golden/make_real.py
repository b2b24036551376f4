#!/usr/bin/env python3
"""Makes the goldens of the real 270M: ids of the texts and what transformers in float32 says of them.

    make_real.py GGUF [--logits DIR]

GGUF is the published gemma-3-270m-q4_k_m.gguf. Writes, beside this script,

    texts/NAME.ids    the ids of texts/NAME.txt, <bos> first, as sentencepiece splits the text
    real_270m.json    top ids, log-probabilities and greedy continuations (fields: RealText and
                      RealGreedy of tests/support/golden.h)

and, with --logits, DIR/NAME.f32: the logits of every position, little-endian float32
[ids, vocabulary], about 430 MB for each text, for compare_logits.py. They are not committed.

Made with torch 2.15.0, transformers 5.24.0 (with accelerate 1.15.0), gguf 0.19.0, sentencepiece 0.2.3 and
numpy 2.4.6. Tests read the outputs only; none of these is needed to run them.
"""

import argparse
import json
import math
import os
import pathlib
import struct
import sys
import tempfile

import gguf
import numpy as np
import sentencepiece
import torch
import transformers

HERE = pathlib.Path(__file__).resolve().parent
TEXTS = ["prose", "code", "spanish", "mixed"]
PROMPTS = [
    "The capital of France is",
    "Once upon a time, in a small village by the sea,",
    "def fibonacci(n):\n",
    "La ciudad de Madrid es conocida por",
    "1, 2, 3, 4, 5,",
]
NEW_TOKENS = 32
STEP = 16  # every 16th position has its top ids written down
TOP = 5
BOS = 2


# ---- Tokenizer ----


def varint(value):
    """A base-128 number of the protocol buffer wire format."""
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def number_field(field, value):
    return varint(field << 3) + varint(value)


def bytes_field(field, value):
    return varint(field << 3 | 2) + varint(len(value)) + value


def sentencepiece_processor(reader):
    """A sentencepiece processor from the pieces, scores and types of a GGUF file.

    Field numbers: sentencepiece's sentencepiece_model.proto (ModelProto, TrainerSpec, NormalizerSpec).
    """
    user_defined = 4
    pieces = reader.fields["tokenizer.ggml.tokens"].contents()
    scores = reader.fields["tokenizer.ggml.scores"].contents()
    types = reader.fields["tokenizer.ggml.token_type"].contents()
    proto = bytearray()
    for index, (piece, score, kind) in enumerate(zip(pieces, scores, types, strict=True)):
        # GGUF holds the runs of spaces as spaces; sentencepiece matches the escaped text.
        if kind == user_defined:
            piece = piece.replace(" ", "\u2581")
        # sentencepiece wants exactly one unknown piece; the file calls <unk> a control piece.
        if index == 3:
            kind = 2
        body = bytes_field(1, piece.encode("utf-8")) + b"\x15" + struct.pack("<f", score)
        proto += bytes_field(1, body + number_field(3, kind))
    trainer = number_field(3, 2)  # model_type = BPE
    trainer += number_field(35, 1)  # byte_fallback
    for field, (index, name) in {40: (3, 45), 41: (2, 46), 42: (1, 47), 43: (0, 48)}.items():
        trainer += number_field(field, index) + bytes_field(name, pieces[index].encode("utf-8"))
    normalizer = bytes_field(1, b"identity")
    normalizer += number_field(3, 0)  # add_dummy_prefix
    normalizer += number_field(4, 0)  # remove_extra_whitespaces
    normalizer += number_field(5, 1)  # escape_whitespaces
    proto += bytes_field(2, trainer) + bytes_field(3, normalizer)
    processor = sentencepiece.SentencePieceProcessor()
    processor.LoadFromSerializedProto(bytes(proto))
    # Facts about Gemma's tokenizer that a wrong proto would get wrong.
    assert processor.Encode("Hello") == [9259] and processor.Encode(" Hello") == [26352]
    assert processor.Encode("\n" * 40) == [137, 115]
    assert processor.Encode(" " * 50 + "fifty") == [167, 155, 226519]
    return processor


# ---- Model ----


def bf16(value):
    """value rounded to bfloat16, to nearest even."""
    return torch.tensor(value, dtype=torch.float32).to(torch.bfloat16).item()


def load_model(path, attention="eager"):
    """The model in float32 on the dequantised weights; everything the file does not say is set."""
    with tempfile.TemporaryDirectory() as folder:
        os.symlink(path.resolve(), pathlib.Path(folder) / "model.gguf")
        model = transformers.AutoModelForCausalLM.from_pretrained(
            folder, gguf_file="model.gguf", dtype=torch.float32, attn_implementation=attention
        ).eval()
    config = model.config
    expected = {
        "num_hidden_layers": 18,
        "hidden_size": 640,
        "intermediate_size": 2048,
        "num_attention_heads": 4,
        "num_key_value_heads": 1,
        "head_dim": 256,
        "query_pre_attn_scalar": 256,
        "sliding_window": 512,
        "vocab_size": 262144,
        "hidden_activation": "gelu_pytorch_tanh",
        "final_logit_softcapping": None,
        "attn_logit_softcapping": None,
        "layer_types": ["sliding_attention" if (i + 1) % 6 else "full_attention" for i in range(18)],
    }
    for name, value in expected.items():
        found = getattr(config, name)
        if found != value:
            sys.exit(f"{name}: expected {value}, found {found}")
    if abs(config.rms_norm_eps - 1e-6) > 1e-12:
        sys.exit(f"rms_norm_eps: expected 1e-6, found {config.rms_norm_eps}")
    for kind, base in {"sliding_attention": 10_000.0, "full_attention": 1_000_000.0}.items():
        found = config.rope_parameters[kind]
        if found["rope_type"] != "default" or found["rope_theta"] != base:
            sys.exit(f"RoPE of {kind}: expected base {base}, found {found}")
        rates = getattr(model.model.rotary_emb, f"{kind}_inv_freq").double()
        exact = base ** (-torch.arange(0, 256, 2, dtype=torch.float64) / 256)
        if (rates / exact - 1).abs().max() > 1e-5:
            sys.exit(f"RoPE rates of {kind} are not those of base {base}")
    if model.lm_head.weight.data_ptr() != model.model.embed_tokens.weight.data_ptr():
        sys.exit("the output head is not tied to the embedding")
    # Buffers that no file holds: trained with the bf16-rounded root of the width.
    found = model.model.embed_tokens.embed_scale.item()
    scale = bf16(math.sqrt(config.hidden_size))
    print(f"embed_scale: found {found:.4f}, set {scale}")
    model.model.embed_tokens.embed_scale.fill_(scale)
    return model


def check_gains(model, reader):
    """GGUF holds the gain, transformers adds 1 to its weight: both must give the same gain."""
    tensors = {t.name: t.data for t in reader.tensors}
    layer = model.model.layers[3]
    for ours, theirs in {
        "output_norm": model.model.norm,
        "blk.3.attn_norm": layer.input_layernorm,
        "blk.3.post_attention_norm": layer.post_attention_layernorm,
        "blk.3.ffn_norm": layer.pre_feedforward_layernorm,
        "blk.3.post_ffw_norm": layer.post_feedforward_layernorm,
        "blk.3.attn_q_norm": layer.self_attn.q_norm,
        "blk.3.attn_k_norm": layer.self_attn.k_norm,
    }.items():
        gain = tensors[f"{ours}.weight"]
        error = np.abs(gain - (1 + theirs.weight.detach().numpy())).max()
        if error > 1e-4 * np.abs(gain).max():
            sys.exit(f"gain of {ours} differs by {error}")


@torch.inference_mode()
def logits_of(model, ids):
    """float32 [len(ids), vocabulary]"""
    return model(torch.tensor([ids]), use_cache=False).logits[0]


@torch.inference_mode()
def greedy(model, ids, count):
    """The greedy ids, and by how much each one's logit was ahead of the second best."""
    ids = list(ids)
    new, margins = [], []
    for _ in range(count):
        best = logits_of(model, ids)[-1].topk(2)
        margins.append((best.values[0] - best.values[1]).item())
        new.append(best.indices[0].item())
        ids.append(new[-1])
    return new, margins


def describe_text(ids, logits):
    """The JSON entry of a text."""
    log_probabilities = torch.log_softmax(logits.double(), dim=-1)
    following = log_probabilities[torch.arange(len(ids) - 1), torch.tensor(ids[1:])]
    rows = []
    for position in range(0, len(ids), STEP):
        best = log_probabilities[position].topk(TOP)
        rows.append(
            {
                "position": position,
                "ids": best.indices.tolist(),
                "log_probabilities": [round(v, 5) for v in best.values.tolist()],
            }
        )
    return {
        "ids": len(ids),
        "nll": round(-following.sum().item(), 4),
        "perplexity": round(math.exp(-following.mean().item()), 4),
        "next_log_probabilities": [round(v, 4) for v in following.tolist()],
        "top": rows,
    }


def dump_json(path, value):
    """JSON with one line for each list of numbers: small, and readable in a diff."""

    def text(value, indent):
        pad = " " * (indent + 1)
        flat = isinstance(value, list) and not any(isinstance(v, (list, dict)) for v in value)
        row = isinstance(value, dict) and "position" in value
        if flat or row or not isinstance(value, (list, dict)):
            return json.dumps(value, ensure_ascii=False, separators=(", ", ": "))
        if isinstance(value, list):
            items, brackets = [pad + text(v, indent + 1) for v in value], "[]"
        else:
            items = [f"{pad}{json.dumps(k)}: {text(v, indent + 1)}" for k, v in value.items()]
            brackets = "{}"
        return brackets[0] + "\n" + ",\n".join(items) + "\n" + " " * indent + brackets[1]

    path.write_text(text(value, 0) + "\n", encoding="utf-8")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("gguf", type=pathlib.Path)
    parser.add_argument("--logits", type=pathlib.Path, help="folder for the logits of every position")
    args = parser.parse_args()

    reader = gguf.GGUFReader(args.gguf)
    processor = sentencepiece_processor(reader)
    model = load_model(args.gguf)
    check_gains(model, reader)

    result = {"model": "gemma-3-270m-q4_k_m.gguf", "greedy": [], "texts": {}}
    for prompt in PROMPTS:
        ids = [BOS, *processor.Encode(prompt)]
        new, margins = greedy(model, ids, NEW_TOKENS)
        text = processor.Decode(ids[1:] + new)[len(prompt) :]
        print(f"{prompt!r} -> {text!r}, smallest margin {min(margins):.3f}")
        result["greedy"].append(
            {
                "prompt": prompt,
                "prompt_ids": ids,
                "new_ids": new,
                "new_text": text,
                "margins": [round(m, 4) for m in margins],
            }
        )
    expected = " the capital of the country of France. It is the largest city in France"
    if not result["greedy"][0]["new_text"].startswith(expected):
        sys.exit("the first prompt has not the known continuation: is the model loaded right?")

    for name in TEXTS:
        text = (HERE / "texts" / f"{name}.txt").read_bytes().decode("utf-8")
        ids = [BOS, *processor.Encode(text)]
        assert processor.Decode(ids[1:]) == text
        lines = (" ".join(map(str, ids[i : i + 16])) for i in range(0, len(ids), 16))
        (HERE / "texts" / f"{name}.ids").write_text("\n".join(lines) + "\n")
        logits = logits_of(model, ids)
        entry = describe_text(ids, logits)
        result["texts"][name] = entry
        print(f"{name}: {len(ids)} ids, perplexity {entry['perplexity']}")
        if args.logits:
            args.logits.mkdir(parents=True, exist_ok=True)
            logits.numpy().astype("<f4").tofile(args.logits / f"{name}.f32")
    dump_json(HERE / "real_270m.json", result)


if __name__ == "__main__":
    main()
