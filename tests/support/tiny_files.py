"""Small files of every format that Lapidary reads, made byte by byte from the formats' definitions. Every
part can be set to nonsense: the malformed files and the seeds of the fuzz targets are changed copies."""

import base64
import functools
import json
import struct
import zlib

MASK = (1 << 64) - 1


# ---- XXH64 (github.com/Cyan4973/xxHash, doc/xxhash_spec.md) ----------------------------------------------

P1, P2, P3, P4, P5 = (0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0x85EBCA77C2B2AE63,
                      0x27D4EB2F165667C5)


def rotate(x, r):
    return (x << r | x >> (64 - r)) & MASK


@functools.lru_cache(maxsize=None)
def xxh64(data):
    step = lambda acc, lane: rotate((acc + lane * P2) & MASK, 31) * P1 & MASK
    at, size = 0, len(data)
    if size >= 32:
        accs = [(P1 + P2) & MASK, P2, 0, -P1 & MASK]
        while at + 32 <= size:
            accs = [step(acc, lane) for acc, lane in zip(accs, struct.unpack_from("<4Q", data, at))]
            at += 32
        h = sum(rotate(acc, r) for acc, r in zip(accs, (1, 7, 12, 18))) & MASK
        for acc in accs:
            h = ((h ^ step(0, acc)) * P1 + P4) & MASK
    else:
        h = P5
    h = (h + size) & MASK
    while at + 8 <= size:
        h = (rotate(h ^ step(0, struct.unpack_from("<Q", data, at)[0]), 27) * P1 + P4) & MASK
        at += 8
    if at + 4 <= size:
        h = (rotate(h ^ struct.unpack_from("<I", data, at)[0] * P1 & MASK, 23) * P2 + P3) & MASK
        at += 4
    for byte in data[at:]:
        h = rotate(h ^ byte * P5 & MASK, 11) * P1 & MASK
    h = (h ^ h >> 33) * P2 & MASK
    h = (h ^ h >> 29) * P3 & MASK
    return h ^ h >> 32


# ---- The model: one head of 32, two layers -------------------------------------------------------------------

WIDTH, LAYERS = 32, 2
CONFIG = {"layers": LAYERS, "width": WIDTH, "ff_width": WIDTH, "heads": 1, "kv_heads": 1, "head_dim": 32,
          "query_pre_attn_scalar": 32, "window": 16, "global_every": 2, "context": 64}
# GGUF, Hugging Face, rows (0: a vector)
PARTS = [("attn_norm", "input_layernorm", 0), ("attn_q", "self_attn.q_proj", 32), ("attn_k", "self_attn.k_proj", 32),
         ("attn_v", "self_attn.v_proj", 32), ("attn_q_norm", "self_attn.q_norm", 0),
         ("attn_k_norm", "self_attn.k_norm", 0), ("attn_output", "self_attn.o_proj", 32),
         ("post_attention_norm", "post_attention_layernorm", 0), ("ffn_norm", "pre_feedforward_layernorm", 0),
         ("ffn_gate", "mlp.gate_proj", 32), ("ffn_up", "mlp.up_proj", 32), ("ffn_down", "mlp.down_proj", 32),
         ("post_ffw_norm", "post_feedforward_layernorm", 0)]
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)
# text, score, type
PIECES = ([(b"<pad>", 0.0, CONTROL), (b"<eos>", 0.0, CONTROL), (b"<bos>", 0.0, CONTROL), (b"<unk>", 0.0, UNKNOWN)] +
          [(b"<0x%02X>" % i, 0.0, BYTE) for i in range(256)] +
          [("\u2581".encode(), -1.0, NORMAL), (b"\n\n", -2.0, USER_DEFINED), (b"ab", -3.0, NORMAL), (b"e", -4.0, NORMAL)])
VOCABULARY = len(PIECES)


# ---- GGUF ------------------------------------------------------------------------------------------------------

U8, I8, U16, I16, U32, I32, F32, BOOL, STRING, ARRAY, U64, I64, F64 = range(13)
CODES = {U8: "B", I8: "b", U16: "H", I16: "h", U32: "I", I32: "i", F32: "f", BOOL: "?", U64: "Q", I64: "q", F64: "d"}
GGML_F32, GGML_Q8_0 = 0, 8


def text(value):
    return struct.pack("<Q", len(value)) + value


def scalar(kind, value):
    return struct.pack("<I", kind) + (text(value) if kind == STRING else struct.pack("<" + CODES[kind], value))


def array(kind, values, count=None):
    head = struct.pack("<IIQ", ARRAY, kind, len(values) if count is None else count)
    return head + b"".join(text(v) if kind == STRING else struct.pack("<" + CODES[kind], v) for v in values)


class Gguf:
    """metadata: [[key, type and value]]; tensors: [[name, dims, type, data, offset or None]]"""

    def __init__(self, pieces=None):
        pieces = PIECES if pieces is None else pieces
        self.version, self.alignment = 3, 32
        self.tensor_count = self.entry_count = None  # instead of the right ones
        number = lambda key, value: ["gemma3." + key, scalar(U32, value)]
        self.metadata = [
            ["general.architecture", scalar(STRING, b"gemma3")], number("block_count", LAYERS),
            number("context_length", 64), number("embedding_length", WIDTH), number("feed_forward_length", WIDTH),
            number("attention.head_count", 1), number("attention.head_count_kv", 1),
            number("attention.key_length", 32), number("attention.sliding_window", 16),
            number("attention.sliding_window_pattern", 2),
            ["gemma3.rope.freq_base", scalar(F32, 1e6)], ["tokenizer.ggml.model", scalar(STRING, b"llama")],
            ["tokenizer.ggml.tokens", array(STRING, [p[0] for p in pieces])],
            ["tokenizer.ggml.scores", array(F32, [p[1] for p in pieces])],
            ["tokenizer.ggml.token_type", array(I32, [p[2] for p in pieces])]]
        self.tensors = []
        self.add("token_embd.weight", [WIDTH, len(pieces)])
        self.add("output_norm.weight", [WIDTH])
        for layer in range(LAYERS):
            for name, _, rows in PARTS:
                self.add(f"blk.{layer}.{name}.weight", [WIDTH, rows] if rows else [WIDTH])

    def add(self, name, dims):
        if len(dims) == 1:
            self.tensors.append([name, dims, GGML_F32, struct.pack("<f", 1.0) * dims[0], None])
        else:
            block = struct.pack("<e", 0.01) + bytes(range(32))  # 32 values
            self.tensors.append([name, dims, GGML_Q8_0, block * (dims[0] // 32 * dims[1]), None])

    def set(self, key, value):
        """value None: leaves the key out"""
        self.metadata = [entry for entry in self.metadata if entry[0] != key]
        if value is not None:
            self.metadata.append([key, value])

    def tensor(self, name):
        return next(t for t in self.tensors if t[0] == name)

    def build(self):
        count = lambda given, found: len(found) if given is None else given
        head = b"GGUF" + struct.pack("<IQQ", self.version, count(self.tensor_count, self.tensors),
                                     count(self.entry_count, self.metadata))
        head += b"".join(text(key if isinstance(key, bytes) else key.encode()) + value for key, value in self.metadata)
        data = b""
        for name, dims, kind, content, offset in self.tensors:
            head += text(name if isinstance(name, bytes) else name.encode())
            head += struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, kind, len(data) if offset is None else offset)
            data += content + bytes(-len(content) % self.alignment)
        return head + bytes(-len(head) % self.alignment) + data


# ---- Blob (docs/blob-format.md) ----------------------------------------------------------------------------------

MATRIX, VECTOR, VOCABULARY_KIND = 1, 2, 3


def blob_text(value):
    return struct.pack("<I", len(value)) + value


def vocabulary_section(pieces):
    texts = [piece for piece, _, _ in pieces]
    ends = [sum(map(len, texts[:i + 1])) for i in range(len(texts))]
    return (struct.pack("<II", len(pieces), sum(map(len, texts))) + b"".join(struct.pack("<f", p[1]) for p in pieces) +
            bytes(p[2] for p in pieces) + b"".join(struct.pack("<I", end) for end in ends) + b"".join(texts))


class Blob:
    """config: {name: value}; notes: {key: text}; sections: [{name, kind, format, rows, cols, data} and what is to
    differ from the truth: offset, bytes, checksum]"""

    def __init__(self, pieces=None):
        pieces = PIECES if pieces is None else pieces
        self.magic, self.major, self.minor = b"\x8cLAP\r\n\x1a\n", 1, 0
        self.file_bytes = self.header_bytes = self.section_count = None  # instead of the right ones
        self.header_checksum = self.prefix_checksum = None
        self.config = dict(CONFIG, vocabulary=len(pieces))
        self.notes = {"source": b"tiny.gguf", "sha256": b"0" * 64, "license": b""}
        self.sections = [
            {"name": b"final_norm", "kind": VECTOR, "format": 0, "rows": 1, "cols": WIDTH,
             "data": struct.pack("<f", 1.0) * WIDTH},
            {"name": b"layers.0.q", "kind": MATRIX, "format": GGML_F32, "rows": 32, "cols": 32, "data": bytes(4096)},
            {"name": b"vocabulary", "kind": VOCABULARY_KIND, "format": 0, "rows": 1, "cols": len(pieces),
             "data": vocabulary_section(pieces)}]

    def section(self, name):
        return next(s for s in self.sections if s["name"] == name)

    def header(self, places):
        body = struct.pack("<I", len(self.config))
        body += b"".join(blob_text(k.encode()) + struct.pack("<d", v) for k, v in self.config.items())
        body += struct.pack("<I", len(self.notes))
        body += b"".join(blob_text(k.encode()) + blob_text(v) for k, v in self.notes.items())
        body += struct.pack("<I", len(self.sections) if self.section_count is None else self.section_count)
        for section, place in zip(self.sections, places):
            body += blob_text(section["name"])
            body += struct.pack("<IIQQQQQ", section["kind"], section["format"], section["rows"], section["cols"],
                                section.get("offset", place), section.get("bytes", len(section["data"])),
                                section.get("checksum", xxh64(section["data"])))
        return body

    def build(self):
        given = lambda value, otherwise: otherwise if value is None else value
        size = 64 + len(self.header([0] * len(self.sections)))
        places, data = [], b""
        begin = -(-size // 4096) * 4096
        for section in self.sections:
            places.append(begin + len(data))
            data += section["data"] + bytes(-len(section["data"]) % 4096)
        body = self.header(places)
        prefix = self.magic + struct.pack("<IIQQQ16x", self.major, self.minor, given(self.file_bytes, begin + len(data)),
                                          given(self.header_bytes, size), given(self.header_checksum, xxh64(body)))
        prefix += struct.pack("<Q", given(self.prefix_checksum, xxh64(prefix)))
        return prefix + body + bytes(begin - size) + data


# ---- Hugging Face ---------------------------------------------------------------------------------------------------

def safetensors(header, data=b"", length=None):
    """header: an object, or its bytes"""
    head = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(head) if length is None else length) + head + data


def checkpoint(rows=VOCABULARY):
    """Header and data of model.safetensors."""
    header, data = {}, b""
    names = [("embed_tokens.weight", [rows, WIDTH]), ("norm.weight", [WIDTH])]
    names += [(f"layers.{layer}.{name}.weight", [size, WIDTH] if size else [WIDTH])
              for layer in range(LAYERS) for _, name, size in PARTS]
    for name, shape in names:
        size = 2 * shape[0] * (shape[1] if len(shape) == 2 else 1)
        header["model." + name] = {"dtype": "BF16", "shape": shape, "data_offsets": [len(data), len(data) + size]}
        data += b"\x80\x3c" * (size // 2)
    return header, data


HF_CONFIG = {"model_type": "gemma3_text", "num_hidden_layers": LAYERS, "hidden_size": WIDTH, "intermediate_size": WIDTH,
             "num_attention_heads": 1, "num_key_value_heads": 1, "head_dim": 32, "query_pre_attn_scalar": 32,
             "sliding_window": 16, "max_position_embeddings": 64, "rope_theta": 1e6, "rope_local_base_freq": 1e4,
             "layer_types": ["sliding_attention", "full_attention"], "hidden_activation": "gelu_pytorch_tanh"}


def varint(value):
    out = b""
    while value >= 128:
        out, value = out + bytes([value & 127 | 128]), value >> 7
    return out + bytes([value])


def field(number, value):
    """A field of a protocol buffer: a whole number, a float, or bytes."""
    if isinstance(value, float):
        return varint(number << 3 | 5) + struct.pack("<f", value)
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def sentencepiece(pieces=None, model_type=2):
    pieces = PIECES if pieces is None else pieces
    return b"".join(field(1, field(1, p[0]) + field(2, p[1]) + field(3, p[2])) for p in pieces) + \
        field(2, field(3, model_type))


def tokenizer_json():
    pieces = [p[0].decode() for p in PIECES]
    return {"model": {"type": "BPE", "byte_fallback": True, "unk_token": "<unk>",
                      "vocab": {piece: i for i, piece in enumerate(pieces)}, "merges": ["a b", ["e", "e"]]},
            "added_tokens": [{"id": i, "content": pieces[i], "special": True} for i in range(3)]}


def folder():
    """The files of a checkpoint that can be converted: {name: bytes}."""
    return {"config.json": json.dumps(HF_CONFIG).encode(), "model.safetensors": safetensors(*checkpoint()),
            "tokenizer.model": sentencepiece()}


# ---- Pictures ---------------------------------------------------------------------------------------------------------

def chunk(kind, body, length=None):
    return struct.pack(">I", len(body) if length is None else length) + kind + body + \
        struct.pack(">I", zlib.crc32(kind + body))


def png(width=5, height=4, depth=8, color=2, raw=None, interlace=0, before=b"", idat=None):
    """raw: filter bytes and pixels"""
    bits = depth * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}.get(color, 1)
    if raw is None:
        raw = (b"\1" + bytes(range(256)) * 2)[:1 + -(-width * bits // 8)] * height
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, interlace)) + \
        before + chunk(b"IDAT", zlib.compress(raw, 9) if idat is None else idat) + chunk(b"IEND", b"")


def bmp(width=5, height=4, bits=24, compression=0, offset=54, pixels=None):
    pixels = bytes(-(-width * bits // 32) * 4 * abs(height)) if pixels is None else pixels
    return b"BM" + struct.pack("<IIIIiiHHIIiiII", 54 + len(pixels), 0, offset, 40, width, height, 1, bits, compression,
                               len(pixels), 2835, 2835, 0, 0) + pixels


# 16 x 16 pixels, written by libjpeg-turbo (Pillow 12): baseline and progressive.
JPEG = base64.b64decode(
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAA0JCgsKCA0LCgsODg0PEyAVExISEyccHhcgLikxMC4pLSwzOko+MzZGNywtQFdBRkxOUlNSMj5a"
    "YVpQYEpRUk//2wBDAQ4ODhMREyYVFSZPNS01T09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT0//wAAR"
    "CAAQABADASIAAhEBAxEB/8QAFQABAQAAAAAAAAAAAAAAAAAABQb/xAAYEAACAwAAAAAAAAAAAAAAAAAABAUiMf/EABUBAQEAAAAAAAAAAAAA"
    "AAAAAAAC/8QAGhEAAgIDAAAAAAAAAAAAAAAAAAUDBCExYf/aAAwDAQACEQMRAD8AmFY7Ki6sdlRdWOyowrHZUqe90KmOsn//2Q==")
PROGRESSIVE_JPEG = base64.b64decode(
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAA0JCgsKCA0LCgsODg0PEyAVExISEyccHhcgLikxMC4pLSwzOko+MzZGNywtQFdBRkxOUlNSMj5a"
    "YVpQYEpRUk//2wBDAQ4ODhMREyYVFSZPNS01T09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT0//wgAR"
    "CAAQABADASIAAhEBAxEB/8QAFQABAQAAAAAAAAAAAAAAAAAABAX/xAAVAQEBAAAAAAAAAAAAAAAAAAAAAf/aAAwDAQACEAMQAAABlsWyv//E"
    "ABYQAAMAAAAAAAAAAAAAAAAAAAACA//aAAgBAQABBQJZizFmLM//xAAVEQEBAAAAAAAAAAAAAAAAAAAEAP/aAAgBAwEBPwEqL//EABYRAAMA"
    "AAAAAAAAAAAAAAAAAAACA//aAAgBAgEBPwF7n//EABQQAQAAAAAAAAAAAAAAAAAAACD/2gAIAQEABj8CH//EABUQAQEAAAAAAAAAAAAAAAAA"
    "AABh/9oACAEBAAE/IZJJJP/aAAwDAQACAAMAAAAQs//EABYRAAMAAAAAAAAAAAAAAAAAAAAhMf/aAAgBAwEBPxCbP//EABURAQEAAAAAAAAA"
    "AAAAAAAAAABh/9oACAECAQE/ELP/xAAVEAEBAAAAAAAAAAAAAAAAAAAAMf/aAAgBAQABPxCJEiRP/9k=")


def exif(orientation=6, order="<"):
    tiff = (b"II" if order == "<" else b"MM") + struct.pack(order + "HIHHHIHHI", 42, 8, 1, 0x112, 3, 1, orientation, 0, 0)
    body = b"Exif\0\0" + tiff
    return b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body
