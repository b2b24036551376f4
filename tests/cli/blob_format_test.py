"""Reads a blob with nothing but docs/blob-format.md: if this reader understands every format, so can another
program. The values of the weights are those of ggml's gguf package, from tests/golden/quant.json."""

import json
import pathlib
import struct
import tempfile
import unittest

import cli

GOLDEN = pathlib.Path(__file__).resolve().parent.parent / "golden" / "quant.json"

# ---- The reader ----------------------------------------------------------------------------------

# number: name, columns of a unit, bytes of a unit, bits of a code, group, zero
FORMATS = {
    0: ("F32", 2, 128), 1: ("F16", 2, 64), 30: ("BF16", 2, 64),
    2: ("Q4_0", 64, 576, 4, 32, 8), 3: ("Q4_1", 64, 640, 4, 32, 0), 6: ("Q5_0", 64, 704, 5, 32, 16),
    7: ("Q5_1", 64, 768, 5, 32, 0), 8: ("Q8_0", 64, 1088, 8, 32, 128), 2008: ("Q8_0/3", 64, 320, 8, 32, 128), 20: ("IQ4_NL", 64, 576, 4, 32, 128),
    10: ("Q2_K", 256, 1344, 2, 16, 0), 11: ("Q3_K", 256, 1856, 3, 16, 4), 12: ("Q4_K", 256, 2368, 4, 32, 0),
    13: ("Q5_K", 256, 2880, 5, 32, 0), 14: ("Q6_K", 256, 3392, 6, 16, 32), 23: ("IQ4_XS", 256, 2240, 4, 32, 128),
}
CODEBOOK = [1, 24, 45, 63, 79, 93, 106, 118, 129, 141, 153, 166, 181, 197, 217, 241]


class Blob:
    def __init__(self, data):
        self.data, self.at = data, 64
        magic, self.major, self.minor, size, header, _, _, _ = struct.unpack_from("<8sIIQQQ16sQ", data)
        assert magic == b"\x8cLAP\r\n\x1a\n" and self.major == 1 and size == len(data)
        self.config = {self.text(): self.take("d") for _ in range(self.take("I"))}
        self.provenance = {self.text(): self.text() for _ in range(self.take("I"))}
        self.sections = {}
        for _ in range(self.take("I")):
            name = self.text()
            self.sections[name] = dict(zip(("kind", "format", "rows", "cols", "offset", "bytes", "checksum"),
                                           (self.take(c) for c in "IIQQQQQ")))
        assert self.at <= header

    def take(self, code):
        value, = struct.unpack_from("<" + code, self.data, self.at)
        self.at += struct.calcsize(code)
        return value

    def text(self):
        size = self.take("I")
        self.at += size
        return self.data[self.at - size:self.at].decode()

    def vector(self, name):
        section = self.sections[name]
        return list(struct.unpack_from(f"<{section['cols']}f", self.data, section["offset"]))

    def vocabulary(self):
        at = self.sections["vocabulary"]["offset"]
        n, t = struct.unpack_from("<II", self.data, at)
        scores = struct.unpack_from(f"<{n}f", self.data, at + 8)
        types = self.data[at + 8 + 4 * n:at + 8 + 5 * n]
        ends = struct.unpack_from(f"<{n}I", self.data, at + 8 + 5 * n)
        texts = self.data[at + 8 + 9 * n:at + 8 + 9 * n + t]
        return [(texts[a:b], s, k) for a, b, s, k in zip((0,) + ends, ends, scores, types)]

    def value(self, name, row, col):
        section = self.sections[name]
        kind, columns, unit_bytes, *quant = FORMATS[section["format"]]
        units = -(-section["cols"] // columns)
        unit = section["offset"] + (row // 16 * units + col // columns) * unit_bytes
        r, c = row % 16, col % columns
        half = lambda at: struct.unpack_from("<e", self.data, at)[0]
        if kind == "F32":
            return struct.unpack_from("<f", self.data, unit + 64 * c + 4 * r)[0]
        if kind == "F16":
            return half(unit + 4 * r + 2 * c)
        if kind == "BF16":
            return struct.unpack("<f", b"\0\0" + self.data[unit + 4 * r + 2 * c:unit + 4 * r + 2 * c + 2])[0]
        bits, group, zero = quant
        g, groups, low = c // group, columns // group, 0.0
        has_min = kind in ("Q4_1", "Q5_1", "Q4_K", "Q5_K")
        if columns == 64:
            scale, slabs = half(unit + 2 * (16 * g + r)), unit + 32 * groups
            if has_min:
                low, slabs = half(slabs + 2 * (16 * g + r)), slabs + 32 * groups
        else:
            d, dmin, at = half(unit + 2 * r), half(unit + 32 + 2 * r), unit + 64 + 16 * g + r
            byte, slabs = self.data[at], unit + 64 + 16 * groups
            if kind == "Q2_K":
                scale, low = d * (byte & 15), dmin * (byte >> 4)
            else:
                scale = d * (byte - 256 if byte > 127 else byte)
            if has_min:
                low, slabs = dmin * self.data[at + 16 * groups], slabs + 16 * groups
        if kind == "Q8_0/3":
            panels = -(-section["rows"] // 16)
            slab = row // 16 * units * 2 + col // 32
            middles = section["offset"] + panels * units * unit_bytes
            lows = middles + panels * units * 2 * 128
            code = (64 * self.code(slabs + c // 32 * 128, 2, r, c % 32)
                    + 16 * self.code(middles + slab * 128, 2, r, c % 32)
                    + self.code(lows + slab * 256, 4, r, c % 32))
        else:
            code = self.code(slabs + c // 32 * bits * 64, bits, r, c % 32)
        return scale * ((CODEBOOK[code] if kind.startswith("IQ") else code) - zero) - low

    def code(self, slab, bits, r, column):
        quad, byte = column // 4, 4 * r + column % 4
        line = lambda number: self.data[slab + 64 * number + byte]
        if bits == 8:
            return line(quad)
        code = shift = 0
        if bits >= 4:
            code, shift = line(quad % 4) >> 4 * (quad // 4) & 15, 4
            slab += 4 * 64
        if bits - shift >= 2:
            code |= (line(quad // 4) >> 2 * (quad % 4) & 3) << shift
            slab, shift = slab + 2 * 64, shift + 2
        if bits - shift == 1:
            code |= (line(0) >> quad & 1) << shift
        return code


# ---- A GGUF file that has a matrix of every format -------------------------------------------------

WIDTH, FF, HEAD, VOCABULARY = 256, 256, 32, 20  # one head; 20 rows fill no panel
LAYERS = [("Q2_K", "Q3_K", "Q4_K", "Q5_1", "Q5_K", "Q6_K", "IQ4_XS"),
          ("F16", "BF16", "Q4_0", "IQ4_NL", "Q4_1", "Q5_0", "Q8_0"),
          ("F32",) * 7]
PARTS = [("q", "attn_q", HEAD, WIDTH), ("k", "attn_k", HEAD, WIDTH), ("v", "attn_v", HEAD, WIDTH),
         ("attention_out", "attn_output", WIDTH, HEAD),  # 32 columns fill no unit of 64
         ("gate", "ffn_gate", FF, WIDTH), ("up", "ffn_up", FF, WIDTH), ("down", "ffn_down", WIDTH, FF)]
NUMBERS = {spec[0]: number for number, spec in FORMATS.items()}


class Golden:
    """Rows of a matrix in one format: runs of the golden blocks, each row beginning with another one."""

    def __init__(self, entry):
        self.source = bytes.fromhex(entry["source"])
        values = bytes.fromhex(entry["values"])
        self.values = struct.unpack(f"<{len(values) // 4}f", values)

    def row(self, number, cols, block):
        blocks = len(self.values) // block
        size = len(self.source) // blocks
        order = [(number + i) % blocks for i in range(cols // block)]
        return (b"".join(self.source[size * b:size * b + size] for b in order),
                [v for b in order for v in self.values[block * b:block * b + block]])


def text(value):
    return struct.pack("<Q", len(value)) + value


def gguf(matrices, vectors):
    """matrices: [(name, format, rows of bytes, cols)], vectors: [(name, values)]"""
    number = lambda key, value: text(key.encode()) + struct.pack("<II", 4, value)
    pieces = [b"<pad>", b"<eos>", b"<bos>", b"<unk>", b"\xe2\x96\x81a"]
    metadata = [text(b"general.architecture") + struct.pack("<I", 8) + text(b"gemma3"),
                number("gemma3.context_length", 64), number("gemma3.attention.sliding_window", 16),
                text(b"tokenizer.ggml.tokens") + struct.pack("<IIQ", 9, 8, 5) + b"".join(map(text, pieces)),
                text(b"tokenizer.ggml.scores") + struct.pack("<IIQ5f", 9, 6, 5, 0, -1, -2, -3.5, -4),
                text(b"tokenizer.ggml.token_type") + struct.pack("<IIQ5i", 9, 5, 5, 3, 3, 3, 2, 1)]
    tensors = [(name, (cols, len(rows)), NUMBERS[kind], b"".join(rows)) for name, kind, rows, cols in matrices]
    tensors += [(name, (len(v),), 0, struct.pack(f"<{len(v)}f", *v)) for name, v in vectors]
    head, data = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(metadata)) + b"".join(metadata), b""
    for name, dims, kind, content in tensors:
        head += text(name.encode()) + struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, kind, len(data))
        data += content + bytes(-len(content) % 32)
    return head + bytes(-len(head) % 32) + data


class BlobFormat(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        golden = {name: Golden(entry) for name, entry in json.loads(GOLDEN.read_text()).items()}
        cls.expected, matrices = {}, []

        def add(name, source, kind, rows, cols, packed=None):
            block = 256 if FORMATS[NUMBERS[kind]][1] == 256 else 32
            made = [golden[kind].row(row, cols, block) for row in range(rows)]
            cls.expected[name] = (packed or kind, [values for _, values in made])
            matrices.append((source + ".weight", kind, [content for content, _ in made], cols))

        add("embedding", "token_embd", "Q8_0", VOCABULARY, WIDTH, packed="Q8_0/3")
        vectors = [("output_norm.weight", [i / 8 for i in range(WIDTH)])]
        for layer, kinds in enumerate(LAYERS):
            for kind, (name, source, rows, cols) in zip(kinds, PARTS):
                add(f"layers.{layer}.{name}", f"blk.{layer}.{source}", kind, rows, cols)
            for name in ("attn_norm", "post_attention_norm", "ffn_norm", "post_ffw_norm"):
                vectors.append((f"blk.{layer}.{name}.weight", [1.0] * WIDTH))
            for name in ("attn_q_norm", "attn_k_norm"):
                vectors.append((f"blk.{layer}.{name}.weight", [0.5 + i for i in range(HEAD)]))
        with tempfile.TemporaryDirectory(prefix="lapidary-") as folder:
            source, target = pathlib.Path(folder) / "all.gguf", pathlib.Path(folder) / "all.lap"
            source.write_bytes(gguf(matrices, vectors))
            cli.run("convert", source, "-o", target)
            cls.blob = Blob(target.read_bytes())

    def test_header(self):
        config = self.blob.config
        for name, value in {"layers": len(LAYERS), "width": WIDTH, "ff_width": FF, "heads": 1, "kv_heads": 1, "head_dim": HEAD,
                            "window": 16, "context": 64, "vocabulary": VOCABULARY, "global_every": 6,
                            "query_pre_attn_scalar": HEAD}.items():
            self.assertEqual(config[name], value, name)
        self.assertEqual(self.blob.provenance["source"], "all.gguf")
        self.assertEqual(len(self.blob.provenance["sha256"]), 64)
        for section in self.blob.sections.values():
            self.assertEqual(section["offset"] % 4096, 0)

    def test_vectors_and_vocabulary(self):
        self.assertEqual(self.blob.vector("final_norm"), [i / 8 for i in range(WIDTH)])
        self.assertEqual(self.blob.vector("layers.1.k_norm"), [0.5 + i for i in range(HEAD)])
        pieces = self.blob.vocabulary()
        self.assertEqual(pieces[3], (b"<unk>", -3.5, 2))
        self.assertEqual(pieces[4], ("\u2581a".encode(), -4.0, 1))

    def test_matrices_of_every_format(self):
        self.assertEqual({kind for kind, _ in self.expected.values()}, set(NUMBERS))
        for name, (kind, rows) in self.expected.items():
            with self.subTest(name=name, kind=kind):
                self.assertEqual(FORMATS[self.blob.sections[name]["format"]][0], kind)
                # Doubles hold scale * code - min without rounding: as f32 they are what ggml computes.
                for row in [0, 1, 15, 16, len(rows) - 1]:
                    found = [self.blob.value(name, row, col) for col in range(len(rows[row]))]
                    self.assertEqual(list(struct.unpack(f"<{len(found)}f", struct.pack(f"<{len(found)}f", *found))),
                                     rows[row])


if __name__ == "__main__":
    cli.main()
