"""Files that are wrong, each in one way, and what must be said about it.

cases() is the list; run as a program, it writes them: make.py FOLDER gives FOLDER/NAME, a file or a folder, and
FOLDER/expected.json, {NAME: [kind, regular expression]}.
"""

import argparse
import base64
import json
import pathlib
import struct
import sys
import zlib

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
import tiny_files as tiny
from tiny_files import ARRAY, BOOL, F32, F64, GGML_F32, I32, I64, STRING, U32, U64, U8, Blob, Gguf, array, scalar

MAX64 = (1 << 64) - 1
# "pieces" are weight files in which only the tokenizer sees what is wrong, "sections" blobs in which only --verify
# does.
KINDS = ("gguf", "blob", "pieces", "sections", "folder", "image", "ids")


class Corpus:
    def __init__(self):
        self.all = []  # (name, kind, content, expected)

    def add(self, kind, name, content, expected):
        """content: bytes, or {file name: bytes} for a folder"""
        assert kind in KINDS and all(name != other for other, *_ in self.all), name
        self.all.append((name, kind, content, expected))


# ---- GGUF ------------------------------------------------------------------------------------------------------

def gguf(corpus, name, expected, change=None, edit=None, kind="gguf"):
    """change(file) before it is written, edit(bytes) -> bytes afterwards"""
    file = Gguf()
    if change is not None:
        change(file)
    content = file.build()
    corpus.add(kind, "gguf_" + name, content if edit is None else edit(content), expected)


def patch(at, code, value):
    """An edit that overwrites a number."""
    return lambda content: content[:at] + struct.pack("<" + code, value) + content[at + struct.calcsize("<" + code):]


def gguf_header(corpus):
    gguf(corpus, "magic_only", r"cut short: 4 bytes", edit=lambda c: c[:4])
    gguf(corpus, "no_counts", r"header is cut short: 12 bytes", edit=lambda c: c[:12])
    gguf(corpus, "half_a_count", r"header is cut short: 23 bytes", edit=lambda c: c[:23])
    for version in (0, 1, 4, 0xFFFFFFFF):
        gguf(corpus, f"version_{version}", f"version {version},? .*expected 2 or 3", lambda f: setattr(f, "version", version))
    gguf(corpus, "big_endian", r"version 50331648 \(a big-endian file\?\)", lambda f: setattr(f, "version", 3 << 24))
    for count in (1 << 20, 1 << 32, 1 << 63, MAX64):
        gguf(corpus, f"tensor_count_{count}", f"says {count} tensors, more than the file can hold",
             lambda f: setattr(f, "tensor_count", count))
        gguf(corpus, f"entry_count_{count}", f"says {count} metadata entries, more than the file can hold",
             lambda f: setattr(f, "entry_count", count))
    gguf(corpus, "one_entry_more", r"metadata|directory|tensor", lambda f: setattr(f, "entry_count", len(f.metadata) + 1))
    gguf(corpus, "one_tensor_more", r"tensor|directory", lambda f: setattr(f, "tensor_count", len(f.tensors) + 1))
    gguf(corpus, "no_tensors", r"tensor token_embd.weight is missing", lambda f: f.tensors.clear())
    gguf(corpus, "no_metadata", r"general.architecture is missing", lambda f: f.metadata.clear())
    size = len(Gguf().build())
    for part in (30, 60, 100, 400, 2000, 6000):
        gguf(corpus, f"cut_at_{part}", r"cut short\?", edit=lambda c: c[:part])
    gguf(corpus, "tail_cut", r"do not lie inside the file.*cut short\?", edit=lambda c: c[:size - 128])
    gguf(corpus, "half", r"cut short\?", edit=lambda c: c[:size // 2])


def gguf_metadata(corpus):
    for length in (1 << 31, 1 << 63, MAX64, MAX64 - 7):
        gguf(corpus, f"key_length_{length}", r"metadata entry 0 of \d+ reaches past the end", edit=patch(24, "Q", length))
        gguf(corpus, f"string_length_{length}", r"general.name: string 0 reaches past the end",
             lambda f: f.set("general.name", struct.pack("<IQ", STRING, length)))
        gguf(corpus, f"array_of_strings_{length}", rf"says {length} strings, more than the file can hold",
             lambda f: f.set("general.tags", array(STRING, [], length)))
        gguf(corpus, f"array_of_numbers_{length}", rf"needs {length} values of 8 bytes",
             lambda f: f.set("general.tags", array(U64, [], length)))
    gguf(corpus, "value_type_13", r"general.name: holds values of type 13", lambda f: f.set("general.name", struct.pack("<I", 13)))
    gguf(corpus, "value_type_max", r"holds values of type 4294967295", lambda f: f.set("x", struct.pack("<I", 0xFFFFFFFF)))
    gguf(corpus, "array_of_arrays", r"x: holds values of type 9",
         lambda f: f.set("x", struct.pack("<IIQ", ARRAY, ARRAY, 1) + array(U8, [1])[4:]))
    gguf(corpus, "array_of_type_77", r"holds values of type 77", lambda f: f.set("x", struct.pack("<IIQ", ARRAY, 77, 0)))
    gguf(corpus, "duplicate_key", r"general.architecture: appears twice", lambda f: f.metadata.append(f.metadata[0]))
    gguf(corpus, "key_moves_the_terminal", r"\?\[31mred: appears twice",
         lambda f: f.metadata.extend([[b"\x1b[31mred", scalar(U32, 1)]] * 2))
    for value, shown in ((0, "0"), (3, "3"), (48, "48"), (0xFFFFFFFF, "4294967295")):
        gguf(corpus, f"alignment_{value}", rf"general.alignment is {shown}, expected a power of two",
             lambda f: f.set("general.alignment", scalar(U32, value)))
    gguf(corpus, "alignment_negative", r"general.alignment is -32, expected a power of two",
         lambda f: f.set("general.alignment", scalar(I32, -32)))
    gguf(corpus, "alignment_text", r"general.alignment is string", lambda f: f.set("general.alignment", scalar(STRING, b"32")))
    gguf(corpus, "alignment_array", r"general.alignment is array of uint32",
         lambda f: f.set("general.alignment", array(U32, [32])))
    # A power of two, but the data would begin behind the file, or the offsets are no multiples of it.
    gguf(corpus, "alignment_2_31", r"its offset \d+ is no multiple of the alignment 2147483648",
         lambda f: f.set("general.alignment", scalar(U32, 1 << 31)))
    gguf(corpus, "alignment_2_52", r"alignment|do not lie inside",
         lambda f: f.set("general.alignment", scalar(U64, 1 << 52)))
    gguf(corpus, "architecture_llama", r"general.architecture is llama, expected gemma3",
         lambda f: f.set("general.architecture", scalar(STRING, b"llama")))
    gguf(corpus, "architecture_number", r"general.architecture is not a string",
         lambda f: f.set("general.architecture", scalar(U32, 3)))
    gguf(corpus, "split", r"one of 3 parts of a split GGUF", lambda f: f.set("split.count", scalar(U32, 3)))
    for key, value, expected in (
            ("block_count", scalar(U32, 48), r"block_count is 48, but the file has tensors of only 2 layers"),
            ("context_length", None, r"context_length is missing, expected a positive whole number"),
            ("context_length", scalar(U32, 0), r"context_length is 0, expected a positive whole number"),
            ("context_length", scalar(I64, -5), r"context_length is -5, expected a positive"),
            ("context_length", scalar(F64, 1e300), r"context_length is 1e\+300, expected a positive"),
            ("context_length", scalar(F32, float("nan")), r"context_length is -?nan, expected a positive"),
            ("context_length", array(U32, [64]), r"context_length is missing"),
            ("attention.sliding_window", scalar(F32, 0.5), r"sliding_window is 0.5, expected a positive"),
            ("attention.query_pre_attn_scalar", scalar(F32, float("inf")), r"query scale .* is inf\^-1/2"),
            ("attention.query_pre_attn_scalar", scalar(U32, 0), r"query scale .* is 0\^-1/2"),
            ("attention.sliding_window_pattern", scalar(U32, 0), r"pattern is 0, expected a positive number"),
            ("attention.sliding_window_pattern", array(BOOL, [True]), r"pattern has 1 entries, expected one for each of 2"),
            ("attention.sliding_window_pattern", array(STRING, [b"x"]), r"pattern has type array of string"),
            ("rope.freq_base", scalar(F32, float("nan")), r"config: rope_base_global is -?nan"),
            ("rope.freq_base", scalar(F32, 0.0), r"config: rope_base_global is 0, expected more than 1"),
            ("rope.scaling.factor", scalar(F32, -8.0), r"config: rope_factor_global is -8"),
            ("rope.scaling.type", scalar(STRING, b"yarn"), r"RoPE scaling is yarn, expected linear or none"),
            ("attention.layer_norm_rms_epsilon", scalar(F32, float("inf")), r"config: norm_epsilon is inf")):
        gguf(corpus, f"metadata_{len(corpus.all)}_{key}", expected,
             lambda f: f.set("gemma3." + key, value) or (key == "rope.scaling.factor" and f.set(
                 "gemma3.rope.scaling.type", scalar(STRING, b"linear"))))


def gguf_tokenizer(corpus):
    key = "tokenizer.ggml."
    count = tiny.VOCABULARY
    scores = [0.0] * count
    for name, value, expected in (
            ("tokens", array(U32, [1] * count), r"tokens has type array of uint32, expected array of string"),
            ("tokens", scalar(STRING, b"<pad>"), r"tokens has type string, expected array of string"),
            ("tokens", array(STRING, []), r"scores has \d+ entries, tokenizer.ggml.tokens has 0"),
            ("scores", array(F32, scores[1:]), rf"scores has {count - 1} entries, tokenizer.ggml.tokens has {count}"),
            ("scores", array(STRING, [b"0"] * count), r"scores has type array of string, expected array of numbers"),
            ("scores", scalar(F32, 1.0), r"scores has type float32, expected array of numbers"),
            ("scores", array(F32, [float("nan")] + scores[1:]), r"scores is not a number at 0"),
            ("token_type", array(I32, [7] + [1] * (count - 1)), r"token_type is 7 at 0, expected 1 to 6"),
            ("token_type", array(U8, [0] * count), r"token_type is 0 at 0, expected 1 to 6"),
            ("token_type", array(F32, [1.5] * count), r"token_type is 1.5 at 0, expected 1 to 6"),
            ("token_type", array(I32, [1]), r"token_type has 1 entries")):
        gguf(corpus, f"tokenizer_{len(corpus.all)}_{name}", expected, lambda f: f.set(key + name, value))
    gguf(corpus, "score_inf", r"piece 0: expected a finite score",
         lambda f: f.set(key + "scores", array(F32, [float("inf")] + scores[1:])), kind="pieces")
    texts = [piece for piece, _, _ in tiny.PIECES]
    for name, at, text, expected in (
            ("first_piece", 0, b"hello", r"piece 0: expected Gemma's <pad>, found \"hello\""),
            ("empty_piece", 261, b"", r"piece 261: expected 1 to 1024 bytes, found 0"),
            ("long_piece", 261, b"x" * 1025, r"piece 261: expected 1 to 1024 bytes, found 1025"),
            ("not_utf8", 261, b"\xff\xfe", r"piece 261: expected UTF-8, found"),
            ("nul", 261, b"a\0b", r"piece 261: expected text, found a NUL byte"),
            ("repeated", 261, b"ab", r"expected distinct pieces, found \"ab\" as piece 261 and as piece 262"),
            ("second_unknown", 261, b"<unk>", r"expected (one unknown piece, found 2|distinct pieces)"),
            ("byte_missing", 4 + 65, b"A", r"byte piece|256 byte pieces"),
            ("no_space", 260, b"_", r"expected a piece for the space, U\+2581, found none")):
        gguf(corpus, "piece_" + name, expected,
             lambda f: f.set(key + "tokens", array(STRING, texts[:at] + [text] + texts[at + 1:])), kind="pieces")
    gguf(corpus, "pieces_nested", r"user-defined pieces that begin one another",
         lambda f: f.__init__(tiny.PIECES + [(b"q" * i, -9.0, tiny.USER_DEFINED) for i in range(1, 60)]), kind="pieces")


def gguf_tensors(corpus):
    def tensor(name, expected, change, which="blk.0.attn_q.weight"):
        gguf(corpus, "tensor_" + name, expected, lambda f: change(f.tensor(which)))

    def dims(name, value, expected):
        tensor(name, expected, lambda t: t.__setitem__(1, value))

    dims("no_dims", [], r"attn_q.weight: has 0 dimensions, expected 1 to 4")
    dims("five_dims", [32, 1, 1, 1, 1], r"has 5 dimensions, expected 1 to 4")
    dims("zero", [32, 0], r"has the empty shape \[0, 32\]")
    dims("all_zero", [0, 0, 0, 0], r"has the empty shape")
    dims("wraps", [1 << 32, 1 << 32], r"the shape \[4294967296, 4294967296\] is too large")
    dims("wraps_to_zero", [1 << 33, 1 << 31, 32], r"is too large")
    dims("wraps_bytes", [1 << 62, 3], r"is too large|do not lie inside")
    dims("max", [MAX64 - 31, 1], r"is too large|do not lie inside|larger than that of any model")
    dims("broken_block", [33, 32], r"rows of 33 values are no whole blocks of 32, as Q8_0 needs")
    dims("beyond_the_file", [32, 1 << 20], r"do not lie inside the file")
    dims("other_shape", [32, 31], r"expected the shape|no whole heads")
    dims("cube", [32, 4, 8], r"expected the shape|heads")
    gguf(corpus, "tensor_dimension_count_max", r"dimensions, expected 1 to 4",
         edit=lambda c: patch(c.index(b"token_embd.weight") + 17, "I", 0xFFFFFFFF)(c))
    for kind in (4, 5, 31, 40, 0xFFFFFFFF):
        tensor(f"type_{kind}", rf"has type {kind}, which this library does not know", lambda t: t.__setitem__(2, kind))
    tensor("type_i8", r"has type I8, expected one of", lambda t: t.__setitem__(2, 24))
    tensor("norm_quantised", r"blk.0.attn_norm.weight has type Q8_0, expected one of F32",
           lambda t: t.__setitem__(2, tiny.GGML_Q8_0), "blk.0.attn_norm.weight")
    tensor("offset_unaligned", r"its offset 1 is no multiple of the alignment 32", lambda t: t.__setitem__(4, 1))
    tensor("offset_behind", r"do not lie inside the file", lambda t: t.__setitem__(4, 1 << 40))
    tensor("offset_wraps", r"at a wrapped offset|do not lie inside", lambda t: t.__setitem__(4, MAX64 - 31))
    tensor("offset_overlap", r"GGUF tensors .* and .* overlap", lambda t: t.__setitem__(4, 0))
    tensor("name_missing", r"blk.0.attn_q.weight is missing", lambda t: t.__setitem__(0, "blk.0.attn_z.weight"))
    gguf(corpus, "tensor_duplicate", r"output_norm.weight: appears twice", lambda f: f.add("output_norm.weight", [32]))
    gguf(corpus, "tensor_huge_layer", r"blk.2.attn_norm.weight is missing", lambda f: f.add("blk.9998.attn_q.weight", [32]))
    gguf(corpus, "tensor_wide", r"larger than that of any model", lambda f: f.tensors.append(
        ["x", [1 << 25, 1], 24, bytes(1 << 25), None]))
    gguf(corpus, "output_head", r"output.weight .* differs from token_embd.weight",
         lambda f: f.add("output.weight", [32, 32]))
    gguf(corpus, "name_length", r"directory entry 0 of \d+ reaches past the end",
         edit=lambda c: patch(c.index(b"token_embd.weight") - 8, "Q", 1 << 62)(c))


# ---- Blob ------------------------------------------------------------------------------------------------------

def blob(corpus, name, expected, change=None, edit=None, kind="blob"):
    file = Blob()
    if change is not None:
        change(file)
    content = file.build()
    corpus.add(kind, "blob_" + name, content if edit is None else edit(content), expected)


def blob_header(corpus):
    blob(corpus, "other_magic", r"expected a Lapidary blob or a GGUF file, found", lambda f: setattr(f, "magic", b"\x8cLAQ\r\n\x1a\n"))
    blob(corpus, "sent_as_text", r"expected a Lapidary blob or a GGUF file", edit=lambda c: c.replace(b"\r\n", b"\n"))
    blob(corpus, "magic_only", r"cut short: expected at least 64 bytes, found 8", edit=lambda c: c[:8])
    blob(corpus, "prefix_cut", r"cut short: expected at least 64 bytes, found 63", edit=lambda c: c[:63])
    blob(corpus, "prefix_only", r"should have \d+ bytes, found 64 \(cut short\?\)", edit=lambda c: c[:64])
    blob(corpus, "prefix_checksum", r"the first 64 bytes are damaged", lambda f: setattr(f, "prefix_checksum", 1))
    for major in (0, 2, 0xFFFFFFFF):
        blob(corpus, f"major_{major}", rf"blob version {major}.x, this library reads version 1.x", lambda f: setattr(f, "major", major))
    blob(corpus, "half", r"should have \d+ bytes, found \d+ \(cut short\?\)", edit=lambda c: c[:len(c) // 2])
    blob(corpus, "one_byte_more", r"should have \d+ bytes, found \d+", edit=lambda c: c + b"\0")
    for size in (0, 63, 1 << 40, MAX64):
        blob(corpus, f"header_bytes_{size}", rf"its length {size} does not fit the file", lambda f: setattr(f, "header_bytes", size))
    blob(corpus, "header_bytes_short", r"it ends too early, after 80 bytes",
         lambda f: (setattr(f, "header_bytes", 80), setattr(f, "header_checksum", tiny.xxh64(f.header([0] * 3)[:16]))))
    blob(corpus, "header_checksum", r"it is damaged \(its checksum differs\)", lambda f: setattr(f, "header_checksum", 7))
    blob(corpus, "flipped_bit", r"it is damaged", edit=lambda c: c[:100] + bytes([c[100] ^ 4]) + c[101:])
    for count in (1000, 0xFFFFFFFF):
        blob(corpus, f"section_count_{count}", r"it ends too early", lambda f: setattr(f, "section_count", count))

    def config(name, field, value, expected):
        blob(corpus, "config_" + name, expected, lambda f: f.config.__setitem__(field, value))

    config("unknown", "soft_cap", 30.0, r"config field soft_cap = 30 is not one that this library can follow")
    config("nan", "rope_base_local", float("nan"), r"config field rope_base_local = -?nan is not one")
    config("fraction", "layers", 2.5, r"config field layers = 2.5 is not one")
    config("beyond_31_bits", "context", 4e9, r"config field context = 4e\+09 is not one")
    config("layers_0", "layers", 0, r"config: layers is 0, expected 1 to 2\^20")
    config("layers_negative", "layers", -1, r"config: layers is -1")
    config("width_33", "width", 33, r"config: width is 33, expected a multiple of 32")
    config("kv_heads", "kv_heads", 3, r"config: kv_heads is 3, expected a divisor of heads")
    config("head_dim", "head_dim", 1 << 21, r"config: head_dim is 2097152")
    config("window", "window", 100, r"config: window is 100, expected 1 to context")
    config("epsilon", "norm_epsilon", 2.0, r"config: norm_epsilon is 2, expected 0 to 1")
    config("vision", "vision.image", 28, r"config: vision.patch is 0")
    config("vocabulary", "vocabulary", 5, rf"the tokenizer has {tiny.VOCABULARY} pieces, the embedding only 5 rows")
    config("vocabulary_0", "vocabulary", 0, r"config: vocabulary is 0, expected a positive number")


def blob_sections(corpus):
    def section(case, expected, which=b"layers.0.q", kind="blob", **fields):
        blob(corpus, "section_" + case, expected, lambda f: f.section(which).update(fields), kind=kind)

    section("twice", r"section final_norm: appears twice", name=b"final_norm")
    section("name_moves_the_terminal", r"section \?\[2J: its offset 1 is no multiple", name=b"\x1b[2J", offset=1)
    for offset in (1, 64, 0):
        section(f"offset_{offset}", rf"its offset {offset} is no multiple of 4096 behind the header", offset=offset)
    section("offset_behind", r"do not lie inside the file", offset=1 << 30)
    section("offset_wraps", r"do not lie inside the file", offset=MAX64 - 4095)
    section("bytes_wrap", r"do not lie inside the file", bytes=MAX64)
    section("overlap", r"sections final_norm and layers\.0\.q overlap", offset=4096)
    section("rows", r"its 4096 bytes do not match its shape \[33, 32\]", rows=33)
    section("rows_max", r"do not match its shape", rows=MAX64)
    section("product_wraps", r"do not match its shape", rows=1 << 40, cols=1 << 40)
    section("vector", r"its 128 bytes do not match its shape \[1, 31\]", which=b"final_norm", cols=31)
    words = tiny.vocabulary_section(tiny.PIECES)
    for name, data, expected in (
            ("empty", b"", r"0 pieces with 0 bytes of text do not fill its 0 bytes"),
            ("cut", words[:-1], r"do not fill its"),
            ("count_max", struct.pack("<II", 0xFFFFFFFF, 0xFFFFFFFF), r"4294967295 pieces .* do not fill its 8 bytes"),
            ("count_0", struct.pack("<II", 0, 0), r"vocabulary: piece 0: expected Gemma's <pad>"),
            ("nan", words[:8] + struct.pack("<f", float("nan")) + words[12:], r"the score of piece 0 is not a number"),
            ("type", words[:8 + 4 * tiny.VOCABULARY] + b"\0" + words[9 + 4 * tiny.VOCABULARY:], r"piece 0 has type 0, expected 1 to 6"),
            ("end", words[:8 + 5 * tiny.VOCABULARY] + struct.pack("<I", 1 << 30) + words[12 + 5 * tiny.VOCABULARY:],
             r"piece 0 lies outside the text")):
        section("vocabulary_" + name, expected, which=b"vocabulary", data=data,
                kind="pieces" if name == "count_0" else "blob")
    section("vocabulary_checksum", r"section vocabulary is damaged \(its checksum differs\)", which=b"vocabulary", checksum=1)
    for which in (b"layers.0.q", b"final_norm"):
        blob(corpus, f"checksum_{which.decode()}", rf"section {which.decode()} is damaged \(its checksum differs\)",
             lambda f: f.section(which).update(checksum=5), kind="sections")
    blob(corpus, "last_byte", r"section \S+ is damaged", kind="sections",
         edit=lambda c: c[:4096] + bytes([c[4096] ^ 1]) + c[4097:])


# ---- Hugging Face ----------------------------------------------------------------------------------------------

def deep(depth, inner=b"1"):
    return b"[" * depth + inner + b"]" * depth


def hugging_face(corpus):
    def folder(name, expected, **files):
        """A file that is None is left out; dots in names are written __."""
        content = tiny.folder()
        for key, value in files.items():
            key = key.replace("__", ".")
            content.pop(key, None)
            if value is not None:
                content[key] = value
        corpus.add("folder", "hf_" + name, content, expected)

    def config(name, expected, *without, **changed):
        entries = {k: v for k, v in tiny.HF_CONFIG.items() if k not in without}
        folder("config_" + name, expected, config__json=json.dumps(dict(entries, **changed)).encode())

    folder("no_config", r"a folder without config.json", config__json=None)
    folder("no_weights", r"no model.safetensors and no shards", model__safetensors=None)
    folder("only_an_adapter", r"only an adapter", model__safetensors=None, adapter_config__json=b"{}")
    for name, text in (("empty", b" "), ("cut", b'{"model_type": "gem'), ("list", b"[]"), ("binary", bytes(range(256))),
                       ("not_utf8", b'{"model_type": "\xff\xfe"}'), ("number", b"1e999"), ("tail", b"{} {}")):
        folder("config_json_" + name, r"config.json is no JSON object", config__json=text)
    folder("config_empty_file", r"config.json is empty", config__json=b"")
    for depth in (200, 100_000, 2_000_000):
        folder(f"config_depth_{depth}", r"config.json is nested more than 64 deep",
               config__json=b'{"model_type": "gemma3", "text_config": ' + deep(depth) + b"}")
        folder(f"safetensors_depth_{depth}", r"nested more than 64 deep",
               model__safetensors=tiny.safetensors(b'{"a": ' + deep(depth) + b"}"))
        folder(f"tokenizer_depth_{depth}", r"nested more than 64 deep", tokenizer__model=None,
               tokenizer__json=b'{"model": ' + deep(depth) + b"}")
    folder("objects_deep", r"nested more than 64 deep", config__json=b'{"a":' * 50_000 + b"1" + b"}" * 50_000)
    config("other_model", r"model_type is llama, expected gemma3", model_type="llama")
    config("type_number", r"model_type is missing, expected gemma3", model_type=3)
    config("quantised", r"quantised by bitsandbytes", quantization_config={"quant_method": "bitsandbytes"})
    config("quantised_list", r"quantised by an unknown tool", quantization_config=[1])
    config("soft_cap", r"final_logit_softcapping is set", final_logit_softcapping=30.0)
    config("activation", r"hidden_activation is silu", hidden_activation="silu")
    config("layers", r"num_hidden_layers is 3, but the file has tensors of only 2", num_hidden_layers=3)
    config("window_text", r"layer_types has 1 entries|sliding_window", sliding_window="x", layer_types=["full_attention"])
    config("window_negative", r"sliding_window is -16, expected a positive whole number", sliding_window=-16)
    config("context_huge", r"max_position_embeddings is 1e\+300", max_position_embeddings=1e300)
    config("irregular", r"layer_types is not regular", layer_types=["full_attention", "sliding_attention"])
    config("yarn", r"RoPE scaling is yarn", rope_scaling={"rope_type": "yarn", "factor": 8})
    config("rope_zero", r"rope_base_global is 0", rope_theta=0)
    config("epsilon", r"norm_epsilon is -1", rms_norm_eps=-1)

    header, data = tiny.checkpoint()
    norm = "model.norm.weight"

    def weights(name, expected, change=None, length=None, content=None, raw=None):
        changed = json.loads(json.dumps(header))
        if change is not None:
            change(changed)
        file = tiny.safetensors(changed if raw is None else raw, data if content is None else content, length)
        folder("weights_" + name, expected, model__safetensors=file)

    for length in (1 << 20, 1 << 40, 1 << 63, MAX64):
        weights(f"header_length_{length}", rf"its length {length} does not fit the file", length=length)
    weights("header_length_0", r"no JSON object", length=0)
    weights("header_length_short", r"no JSON object", length=100)
    folder("weights_seven_bytes", r"its length 0 does not fit the file of 7 bytes", model__safetensors=b"\1" * 7)
    weights("data_cut", r"do not lie inside the \d+ bytes of data", content=data[:-64])
    for name, offsets, expected in (
            ("overlap", [0, 64], r"overlap"), ("backwards", [64, 0], r"its bytes 64 to 0 do not lie inside"),
            ("behind", [1 << 40, (1 << 40) + 64], r"do not lie inside"), ("max", [0, MAX64], r"do not lie inside"),
            ("negative", [-64, 0], r"expected a shape and two data_offsets"), ("one", [0], r"two data_offsets"),
            ("text", ["0", "64"], r"two data_offsets"), ("fraction", [0.0, 64.0], r"two data_offsets"),
            ("missing", None, r"two data_offsets"), ("beyond_64_bits", [0, 1 << 70], r"two data_offsets")):
        weights("offsets_" + name, expected, lambda h: h[norm].__setitem__("data_offsets", offsets))
    for name, shape, expected in (
            ("zero", [0], r"does not fill its 64 bytes"), ("other", [31], r"its shape \[31\] of BF16 does not fill"),
            ("wraps", [1 << 32, 1 << 32], r"does not fill"), ("wraps_to_size", [1 << 63, 4, 32], r"does not fill"),
            ("negative", [-32], r"expected a shape"), ("text", "32", r"expected a shape"), ("null", None, r"expected a shape"),
            ("nested", [[32]], r"expected a shape"), ("turned", [32, 1], r"expected the shape \[32\], found \[32, 1\]")):
        weights("shape_" + name, expected, lambda h: h[norm].__setitem__("shape", shape))
    for name, dtype, expected in (
            ("f32_lie", "F32", r"its shape \[32\] of F32 does not fill its 64 bytes"), ("f8_lie", "F8_E4M3", r"does not fill"),
            ("unknown", "F4", r"its dtype is F4, which this library does not know"), ("number", 7, r"its dtype is missing"),
            ("i16", "I16", r"has type I16, expected one of F32"), ("moves_the_terminal", "\x1b[2J", r"its dtype is \?\[2J")):
        weights("dtype_" + name, expected, lambda h: h[norm].__setitem__("dtype", dtype))
    weights("entry_is_a_list", r"safetensors entry model.norm.weight: its dtype is missing", lambda h: h.__setitem__(norm, []))
    weights("missing", r"tensor norm.weight is missing", lambda h: h.pop(norm))
    entry = json.dumps(header[norm])
    weights("duplicate", r"safetensors entry model.norm.weight appears twice",
            raw=b'{"%s": %s, "%s": %s}' % ((norm.encode(), entry.encode()) * 2))
    weights("same_bare_name", r"is there twice, under this or a similar name",
            lambda h: h.__setitem__("language_model." + norm, {"dtype": "BF16", "shape": [0], "data_offsets": [0, 0]}))
    weights("lora", r"belongs to an adapter", lambda h: h.__setitem__("x.lora_A.weight", {"dtype": "BF16", "shape": [0], "data_offsets": [0, 0]}))
    weights("absmax", r"quantised by bitsandbytes", lambda h: h.__setitem__("x.absmax", {"dtype": "BF16", "shape": [0], "data_offsets": [0, 0]}))
    weights("nan", r"layers.0.attention_norm|input_layernorm|not finite|finite", content=b"\xff\x7f" * (len(data) // 2))
    weights("embedding_empty", r"vocabulary is 0|expected the shape", lambda h: h["model.embed_tokens.weight"].update(
        shape=[0, 32], data_offsets=[0, 0]))
    for name, index, expected in (
            ("missing_shard", {"weight_map": {"a": "model-2.safetensors"}}, r"model-2.safetensors: No such file"),
            ("path", {"weight_map": {"a": "../../etc/passwd"}}, r"is \.\./\.\./etc/passwd, expected a name"),
            ("nul", {"weight_map": {"a": "model.safetensors\0x"}}, r"expected a name"),
            ("number", {"weight_map": {"a": 3}}, r"the file of a is , expected a name"),
            ("no_map", {}, r"weight_map is missing or no object"), ("list", {"weight_map": ["a"]}, r"weight_map is missing or no object"),
            ("dot", {"weight_map": {"a": "."}}, r"is a directory, expected a file")):
        folder("index_" + name, expected, model__safetensors__index__json=json.dumps(index).encode())


def tokenizers(corpus):
    def folder(name, expected, key, content):
        files = tiny.folder()
        del files["tokenizer.model"]
        files[key] = content
        corpus.add("folder", "tokenizer_" + name, files, expected)

    def model(name, expected, content):
        folder("model_" + name, expected, "tokenizer.model", content)

    whole = tiny.sentencepiece()
    model("cut", r"cut short behind piece|reaches past its end", whole[:1000])
    model("noise", r"no sentencepiece model|reaches past|cut short", bytes(range(255, 0, -1)))
    model("unigram", r"its type is 1, expected 2 \(BPE\)", tiny.sentencepiece(model_type=1))
    model("no_pieces", r"no sentencepiece model", tiny.field(2, tiny.field(3, 2)))
    model("piece_type", r"piece 0 has type 9", tiny.field(1, tiny.field(1, b"<pad>") + tiny.field(3, 9)))
    model("score_nan", r"the score of piece 0 is not a number", tiny.field(1, tiny.field(1, b"a") + tiny.field(2, float("nan"))))
    model("length", r"cut short|reaches past", b"\x0a" + tiny.varint(MAX64) + b"x")
    model("inner_length", r"reaches past its end", tiny.field(1, b"\x0a" + tiny.varint(1 << 40)))
    model("endless_varint", r"cut short", b"\x08" + b"\xff" * 12)
    model("field_0", r"cut short", b"\x00\x01")

    def tokenizer(name, expected, change):
        value = tiny.tokenizer_json()
        change(value)
        folder("json_" + name, expected, "tokenizer.json", json.dumps(value).encode())

    folder("json_cut", r"tokenizer.json is no JSON object", "tokenizer.json", json.dumps(tiny.tokenizer_json()).encode()[:500])
    tokenizer("no_model", r"model.vocab is missing", lambda t: t.pop("model"))
    tokenizer("model_list", r"model.vocab is missing", lambda t: t.__setitem__("model", []))
    tokenizer("unigram", r"expected a BPE model with byte fallback", lambda t: t["model"].__setitem__("type", "Unigram"))
    tokenizer("no_fallback", r"expected a BPE model with byte fallback", lambda t: t["model"].pop("byte_fallback"))
    tokenizer("vocab_list", r"expected a BPE model with byte fallback", lambda t: t["model"].__setitem__("vocab", ["a"]))
    tokenizer("id_huge", r"the id of ab is 1000000000, expected less than", lambda t: t["model"]["vocab"].__setitem__("ab", 10**9))
    tokenizer("id_negative", r"the id of ab is no whole number", lambda t: t["model"]["vocab"].__setitem__("ab", -1))
    tokenizer("id_text", r"the id of ab is no whole number", lambda t: t["model"]["vocab"].__setitem__("ab", "7"))
    tokenizer("merge", r"a merge is no pair", lambda t: t["model"].__setitem__("merges", ["abc"]))
    tokenizer("merge_of_three", r"a merge is no pair", lambda t: t["model"].__setitem__("merges", [["a", "b", "c"]]))
    tokenizer("added_without_id", r"added token 0 has no content or no id", lambda t: t.__setitem__("added_tokens", [{"content": "x"}]))


# ---- Pictures ----------------------------------------------------------------------------------------------------

def png_pictures(corpus):
    add = lambda name, content, expected: corpus.add("image", "png_" + name, content, expected)
    good = tiny.png()
    add("magic_only", good[:8], r"PNG picture that is cut short: its 8 bytes end before the IEND chunk")
    add("cut", good[:-20], r"cut short")
    add("chunk_length", good[:8] + struct.pack(">I", 0xFFFFFFFF) + good[12:], r"cut short")
    add("width_0", tiny.png(width=0, raw=b"\0" * 4), r"a picture of 0 x 4 pixels")
    add("height_0", tiny.png(height=0), r"a picture of 5 x 0 pixels")
    add("width_max", tiny.png(width=0xFFFFFFFF, raw=b"x"), r"a picture of 4294967295 x 4 pixels")
    add("too_many_pixels", tiny.png(width=30000, height=30000, raw=b"x"), r"30000 x 30000 pixels: expected")
    add("announces_more", tiny.png(width=8000, height=8000, raw=b"x"), r"announces 8000 x 8000 pixels in \d+ bytes")
    add("no_header", good[:8] + tiny.chunk(b"IEND", b""), r"a picture of 0 x 0 pixels")
    add("no_data", good[:33] + tiny.chunk(b"IEND", b""), r"cannot decode this PNG picture")
    add("two_headers", good[:33] + good[8:], r"cannot decode this PNG picture: multiple IHDR")
    add("not_zlib", tiny.png(idat=b"this is no zlib stream"), r"cannot decode this PNG picture")
    add("zlib_cut", tiny.png(64, 64, idat=zlib.compress(bytes(range(256)) * 49)[:40]), r"cannot decode this PNG picture")
    add("few_pixels", tiny.png(64, 64, raw=b"\0" * 20), r"cannot decode this PNG picture: not enough pixels")
    add("filter", tiny.png(raw=b"\x09" * 64), r"cannot decode this PNG picture: invalid filter")
    add("colour_5", tiny.png(color=5), r"cannot decode this PNG picture: bad ctype")
    add("depth_3", tiny.png(depth=3), r"cannot decode this PNG picture")
    add("no_palette", tiny.png(color=3), r"cannot decode this PNG picture: no PLTE")
    add("interlace_2", tiny.png(interlace=2), r"cannot decode this PNG picture: bad interlace")
    squeeze = zlib.compressobj(9)
    bomb = b"".join(squeeze.compress(bytes(1 << 20)) for _ in range(300)) + squeeze.flush()
    add("bomb", tiny.png(idat=bomb), r"cannot decode this PNG picture")


def other_pictures(corpus):
    add = lambda name, content, expected: corpus.add("image", name, content, expected)
    jpeg, progressive = tiny.JPEG, tiny.PROGRESSIVE_JPEG
    add("jpeg_magic_only", jpeg[:3], r"JPEG picture that is cut short")
    for size in (20, 200, len(jpeg) - 2):
        add(f"jpeg_cut_at_{size}", jpeg[:size], r"cut short: its \d+ bytes end before the end-of-image marker")
    add("jpeg_no_frame", jpeg[:20] + b"\xff\xd9", r"a picture of 0 x 0 pixels")
    add("jpeg_segment_0", jpeg[:2] + b"\xff\xe0\0\0" + jpeg[4:], r"cut short")
    frame = jpeg.index(b"\xff\xc0")
    size_at = frame + 5
    add("jpeg_width_0", jpeg[:size_at + 2] + b"\0\0" + jpeg[size_at + 4:], r"a picture of 0 x 16 pixels")
    add("jpeg_65535", jpeg[:size_at] + b"\xff" * 4 + jpeg[size_at + 4:], r"a picture of 65535 x 65535 pixels")
    add("jpeg_announces_more", jpeg[:size_at] + b"\x20\0\x20\0" + jpeg[size_at + 4:], r"announces 8192 x 8192 pixels in \d+ bytes")
    add("jpeg_12_bits", jpeg[:frame + 4] + b"\x0c" + jpeg[frame + 5:], r"cannot decode this JPEG picture: only 8-bit")
    add("jpeg_components_9", jpeg[:frame + 9] + b"\x09" + jpeg[frame + 10:], r"cannot decode this JPEG picture")
    add("jpeg_sampling_0", jpeg[:frame + 11] + b"\0" + jpeg[frame + 12:], r"cannot decode this JPEG picture: bad [HV]")
    add("jpeg_arithmetic", jpeg.replace(b"\xff\xc0", b"\xff\xc9"), r"cannot decode this JPEG picture")
    table = jpeg.index(b"\xff\xc4")
    # 258 codes of 16 bits.
    add("jpeg_codes", jpeg[:table + 19] + b"\xff\x03" + jpeg[table + 21:], r"Huffman table of \d+ codes: expected at most 256")
    scan = jpeg.index(b"\xff\xda")
    add("jpeg_no_table", jpeg[:scan + 6] + b"\x33" + jpeg[scan + 7:], r"scan whose Huffman tables are not in the file")
    # The first scan of coefficients behind the first, with a table of its class that comes nowhere.
    scan = progressive.index(b"\xff\xda")
    while progressive[scan + 5 + 2 * progressive[scan + 4]] == 0:
        scan = progressive.index(b"\xff\xda", scan + 2)
    add("jpeg_progressive_no_table", progressive[:scan + 6] + b"\x03" + progressive[scan + 7:],
        r"scan whose Huffman tables are not in the file")
    add("jpeg_huffman", jpeg[:table + 5] + b"\x03" + jpeg[table + 6:], r"Huffman table|cannot decode this JPEG picture")
    # A scan takes a few bytes and makes a decoder pass over the whole picture.
    at = progressive.index(b"\xff\xc2") + 5
    scan = progressive.index(b"\xff\xda")
    end = progressive.index(b"\xff\xc4", scan)
    add("jpeg_many_scans", progressive[:at] + b"\x20\0\x20\0" + progressive[at + 4:scan] + progressive[scan:end] * 2000 +
        b"\xff\xd9", r"JPEG picture of more than 100 scans")
    # Found by fuzzing: its scan ends inside a code, where stb_image 2.27 shifted by more bits than there are.
    code_cut = ("/9j/4QAiRXhpZgAAF0YABgAAAAAAAAD/4AAQSkZJRgAAAAAABQajT09PT09PT09P/8AAEQgAEAAQAwEiAAIRAQMRAf/EABUAAQEA"
                "AAAAAAAAAAAAAAAAAAUG/8QAGBAAAgMAAAAAAAAAAAAAAAAAAAQFIjD/xAAVAQEBAAAAAAAAAAAAAAAAAAAAAv/EABoRAAICAwAA"
                "AAAAAAAAAAAAAPYFBgQhMf//2gAMAwEAAhEDEQA/AJhWOyourHZUXVjsqMJbsdlSp73QqY6yf//Z")
    add("jpeg_code_cut", base64.b64decode(code_cut), r"cannot decode this JPEG picture: bad huffman code")
    add("bmp_short", tiny.bmp()[:25], r"expected a JPEG, PNG or BMP picture")
    add("bmp_cut", tiny.bmp()[:-10], r"BMP picture that is cut short")
    add("bmp_width_negative", tiny.bmp(width=-5, pixels=bytes(64)), r"BMP picture -5 pixels wide")
    add("bmp_rle", tiny.bmp(bits=8, compression=1), r"BMP picture with run-length compression")
    add("bmp_height_min", tiny.bmp(height=-(1 << 31), pixels=bytes(64)), r"cut short")
    add("bmp_width_max", tiny.bmp(width=(1 << 31) - 1, pixels=bytes(64)), r"cut short")
    add("bmp_offset", tiny.bmp(offset=0xFFFFFFF0), r"cut short")
    add("bmp_bits_0", tiny.bmp(bits=0), r"cannot decode this BMP picture")
    add("bmp_bits_7", tiny.bmp(bits=7), r"cannot decode this BMP picture")
    add("gif", b"GIF89a" + bytes(30), r"found a GIF picture")
    add("webp", b"RIFF\x20\0\0\0WEBPVP8 " + bytes(20), r"found a WebP picture")
    add("text_moves_the_terminal", b"\x1b]0;title\x07" + bytes(30), r"begins with \"\?\]0;title\?")


# ---- The rest ------------------------------------------------------------------------------------------------------

def ids(corpus):
    for name, text, expected in (
            ("none", b" \n\t", r"holds no ids"), ("word", b"2 x", r"expected decimal ids, found \"x\" as word 2"),
            ("hex", b"0x10", r"found \"0x10\" as word 1"), ("too_large", b"2147483648", r"found \"2147483648\""),
            ("fraction", b"1.5", r"found \"1.5\""), ("nul", b"1\x002", r"expected decimal ids"),
            ("long_word", b"9" * 100_000, r"found \"9{40}\" as word 1"), ("plus", b"+1", r"found \"\+1\""),
            ("moves_the_terminal", b"\x1b[2J", r"found \"[ ?]\[2J\"")):
        corpus.add("ids", "ids_" + name, text, expected)


def cases():
    corpus = Corpus()
    for part in (gguf_header, gguf_metadata, gguf_tokenizer, gguf_tensors, blob_header, blob_sections, hugging_face, tokenizers,
                 png_pictures, other_pictures, ids):
        part(corpus)
    return corpus.all


def write(path, content):
    if isinstance(content, bytes):
        path.write_bytes(content)
        return
    path.mkdir(exist_ok=True)
    for name, part in content.items():
        (path / name).write_bytes(part)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    root = parser.parse_args().folder
    root.mkdir(parents=True, exist_ok=True)
    expected = {}
    for name, kind, content, text in cases():
        write(root / name, content)
        expected[name] = [kind, text]
    (root / "expected.json").write_text(json.dumps(expected, indent=1))


if __name__ == "__main__":
    main()
