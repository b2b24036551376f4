"""Writes the seeds of the fuzz targets: FOLDER/TARGET/NAME, the same bytes every time. Usage: make_seeds.py FOLDER

Beside files that are right, the wrong ones of tests/malformed are seeds, which shows them to the parsers under
sanitizers too.
"""

import argparse
import json
import pathlib
import struct
import sys

TESTS = pathlib.Path(__file__).resolve().parent.parent
sys.path[:0] = [str(TESTS / "malformed"), str(TESTS / "support")]
import make as malformed
import tiny_files as tiny

FEW = tiny.PIECES[:4] + tiny.PIECES[-4:]  # no tokenizer takes these, but a file may hold them


def session(tokens, kv, positions=None, logits=0):
    """As saved_session.h says, of the model in session_fuzz.cpp."""
    positions = tokens if positions is None else positions
    config = [2, 32, 32, 1, 1, 32, 32, 16, 2, 1024, 16, 1e4, 1e6, 1, 1e-6] + [0] * 7
    page = 2 * (256 * 32 * 2 if kv == 0 else 256 * 32 + 256 * 4)
    body = b"\x8cLAS\r\n\x1a\n" + struct.pack(f"<II{len(config)}d", 1, len(config), *config)
    body += struct.pack("<QIQQ", 0x1234, kv, 300, 64)
    body += struct.pack(f"<Q{tokens}i", tokens, *(i % 16 for i in range(tokens))) + struct.pack("<Q", 0)
    body += struct.pack(f"<Q{logits}f", logits, *range(logits)) + struct.pack("<Q", positions)
    body += bytes(page * 2 * -(-positions // 256))
    return body + struct.pack("<Q", tiny.xxh64(body))


def gguf(change=lambda file: None, pieces=FEW):
    file = tiny.Gguf(pieces)
    change(file)
    return file.build()


def mmproj():
    file = tiny.Gguf(FEW)
    file.metadata = [["general.architecture", tiny.scalar(tiny.STRING, b"clip")],
                     ["clip.projector_type", tiny.scalar(tiny.STRING, b"gemma3")]]
    file.metadata += [[f"clip.vision.{key}", tiny.scalar(tiny.U32, value)] for key, value in
                      (("image_size", 28), ("patch_size", 7), ("embedding_length", 32), ("block_count", 1),
                       ("attention.head_count", 1), ("feed_forward_length", 32))]
    file.tensors = []
    for name, dims in (("v.patch_embd.weight", [7, 7, 3, 32]), ("v.position_embd.weight", [32, 16]),
                       ("mm.input_projection.weight", [32, 32])):
        values = 1
        for dim in dims:
            values *= dim
        file.tensors.append([name, dims, tiny.GGML_F32, bytes(4 * values), None])
    for name in ("v.patch_embd.bias", "v.post_ln.weight", "v.post_ln.bias", "mm.soft_emb_norm.weight"):
        file.add(name, [32])
    for part in ("attn_q", "attn_k", "attn_v", "attn_out", "ffn_up", "ffn_down"):
        file.tensors.append([f"v.blk.0.{part}.weight", [32, 32], tiny.GGML_F32, bytes(4096), None])
        file.add(f"v.blk.0.{part}.bias", [32])
    for part in ("ln1", "ln2"):
        file.add(f"v.blk.0.{part}.weight", [32])
        file.add(f"v.blk.0.{part}.bias", [32])
    return file.build()


def hugging_face():
    """The byte in front is a place in kNames of hugging_face_fuzz.cpp."""
    vision = {"model_type": "gemma3", "text_config": dict(tiny.HF_CONFIG, rope_scaling={"rope_type": "linear", "factor": 8}),
              "vision_config": {"image_size": 28, "patch_size": 7, "hidden_size": 16, "num_hidden_layers": 1,
                                "num_attention_heads": 1, "intermediate_size": 16}, "mm_tokens_per_image": 1}
    new = {"model_type": "gemma3_text", "max_position_embeddings": 64, "sliding_window": 8, "_sliding_window_pattern": 2,
           "rope_parameters": {"full_attention": {"rope_type": "linear", "factor": 2.5, "rope_theta": 7e4},
                               "sliding_attention": {"rope_theta": 5e3}}}
    dump = lambda value: json.dumps(value).encode()
    return {"config": b"\0" + dump(tiny.HF_CONFIG), "config_vision": b"\0" + dump(vision), "config_5": b"\0" + dump(new),
            "weights": b"\1" + tiny.safetensors(*tiny.checkpoint(8)), "sentencepiece": b"\2" + tiny.sentencepiece(FEW),
            "tokenizer_json": b"\3" + dump({"model": {"type": "BPE", "byte_fallback": True, "vocab": {"a": 0, "b": 1, "ab": 2},
                                                      "merges": ["a b"]}, "added_tokens": [{"id": 3, "content": "<x>"}]}),
            "index": b"\4" + dump({"weight_map": {"a": "model.safetensors", "b": "model.safetensors"}})}


def pictures():
    return {"rgb": tiny.png(), "rgba": tiny.png(color=6), "palette": tiny.png(color=3, depth=2, before=tiny.chunk(b"PLTE", bytes(range(12)))),
            "grey16": tiny.png(color=0, depth=16), "grey1": tiny.png(color=0, depth=1), "alpha": tiny.png(color=4),
            "interlaced": tiny.png(8, 8, interlace=1, raw=bytes(8 * 8 * 3 + 15)),
            "exif": tiny.png(before=tiny.chunk(b"eXIf", tiny.exif(8, ">")[10:])),
            "jpeg": tiny.JPEG, "progressive": tiny.PROGRESSIVE_JPEG, "turned": tiny.JPEG[:2] + tiny.exif() + tiny.JPEG[2:],
            "bmp": tiny.bmp(), "bmp_down": tiny.bmp(height=-4), "bmp32": tiny.bmp(bits=32),
            "bmp8": tiny.bmp(bits=8, offset=54 + 1024, pixels=bytes(1024 + 32))}


TEXTS = [b"Hello, world", b"ok<end_of_turn>\n<start_of_turn>model\nYes", "na\u00efve \U0001f600 \u2581x".encode(), b"\xe2\x82A\xff\xf0\x9f",
         b"a  b\n\n\n<b>c</b>\t<bos><start_of_image><unused200>", b"\0\0"]


def pieces_of_text(*pieces):
    """As vocabulary_fuzz.cpp reads them."""
    return b"".join(bytes([kind | len(piece) << 3]) + piece for piece, kind in pieces)


def seeds():
    texts = {f"text{i}": text for i, text in enumerate(TEXTS)}
    spoilt = lambda file: file.set("general.alignment", tiny.scalar(tiny.U32, 64)) or setattr(file, "alignment", 64)
    header, data = tiny.checkpoint(8)
    return {
        "utf8": texts, "encode": texts,
        "vocabulary": {"section": tiny.vocabulary_section(tiny.PIECES), "few": tiny.vocabulary_section(FEW),
                       "added": pieces_of_text((b"abcd", 1), (b"  ", 4), ("\u2581\u2581\u2581".encode(), 4), (b"<unused7>", 1)),
                       "nested": pieces_of_text(*((b"x" * i, 4) for i in range(1, 32)))},
        "blob": {"tiny": tiny.Blob(FEW).build(), "whole": tiny.Blob().build()},
        "gguf": {"tiny": gguf(), "whole": gguf(pieces=tiny.PIECES), "aligned": gguf(spoilt), "mmproj": mmproj(),
                 "pattern": gguf(lambda file: file.set("gemma3.attention.sliding_window_pattern",
                                                       tiny.array(tiny.BOOL, [True, False])))},
        "safetensors": {"checkpoint": tiny.safetensors(header, data),
                        "types": tiny.safetensors({"__metadata__": {"format": "pt"}, "a": {"dtype": "I64", "shape": [], "data_offsets": [0, 8]},
                                                   "b": {"dtype": "F8_E4M3", "shape": [1, 2, 1, 2, 1], "data_offsets": [8, 12]}}, bytes(12))},
        "hugging_face": hugging_face(),
        "tokenizer_files": {"sentencepiece": tiny.sentencepiece(), "few": tiny.sentencepiece(FEW),
                            "json": json.dumps(tiny.tokenizer_json()).encode()},
        "image": pictures(),
        "session": {"empty": session(0, 0), "bf16": session(20, 0, logits=16), "int8": session(20, 1), "two": session(257, 1, 260)},
        "ids": {"ids": b"2 818\n5279\t529\r\n7001", "signs": b"-1 +2 0x3 99999999999", "none": b" \n"},
    }


TARGETS = {"gguf": "gguf", "blob": "blob", "sections": "blob", "image": "image", "ids": "ids"}
FOLDER_FILES = ["config.json", "model.safetensors", "tokenizer.model", "tokenizer.json",
                "model.safetensors.index.json"]  # kNames of hugging_face_fuzz.cpp
LARGEST = 80_000  # a fuzzer makes inputs as long as the longest seed, and shorter ones find more


def wrong_files():
    """[(target, name, content)]"""
    good = tiny.folder()
    for name, kind, content, _ in malformed.cases():
        if kind == "pieces":
            kind = "blob" if name.startswith("blob") else "gguf"
        if kind != "folder":
            yield TARGETS[kind], name, content
            continue
        for place, file in enumerate(FOLDER_FILES):
            if file in content and content[file] != good.get(file):
                yield "hugging_face", name, bytes([place]) + content[file]
                if file.endswith(".safetensors"):
                    yield "safetensors", name, content[file]
                if file.startswith("tokenizer"):
                    yield "tokenizer_files", name, content[file]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    root = parser.parse_args().folder
    for target, files in seeds().items():
        (root / target).mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            (root / target / name).write_bytes(content)
    for target, name, content in wrong_files():
        if len(content) <= LARGEST:
            (root / target / name).write_bytes(content)


if __name__ == "__main__":
    main()
