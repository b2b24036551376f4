#!/usr/bin/env python3
"""Makes images.json: what Pillow says of awkward image files, of resized pictures and, with the rule of
Hugging Face's Gemma3ImageProcessor, of Pan & Scan.

    make_images.py            writes images.json beside this script

- "files": small image files (hex) and the RGB bytes (hex) of exif_transpose() and convert("RGB").
- "resized": pictures made by a formula (pixel() here, tests/support/formula_picture.h), their
  sizes, and the SHA-256 of the 896 x 896 RGB bytes that Image.resize with BILINEAR makes of them.
- "crops": sizes and the crops of Gemma3ImageProcessor.pan_and_scan.

Made with Pillow 13.0.0, numpy 2.4.6 and transformers 5.24.0. Tests read the output only.
"""

import hashlib
import io
import json
import pathlib
import struct
import zlib

import numpy as np
from PIL import Image, ImageOps
from transformers import Gemma3ImageProcessorPil

HERE = pathlib.Path(__file__).resolve().parent
SIDE = 896


def pixel(width, height, kind):
    """uint8 [height, width, 3]."""
    y, x, c = np.mgrid[0:height, 0:width, 0:3].astype(np.uint64)
    if kind == "waves":
        value = (x * (c + 1) * np.uint64(255) // np.uint64(max(width - 1, 1)) + y * (c + 3)) ^ (x * y >> np.uint64(6))
    elif kind == "noise":
        value = (x * np.uint64(2654435761) + y * np.uint64(40503) + c * np.uint64(97)) * np.uint64(2246822519)
        value = value >> np.uint64(13)
    elif kind == "checkers":
        value = (x + y) % np.uint64(2) * np.uint64(255)
    else:
        value = (x // np.uint64(7) + y // np.uint64(5) + c) % np.uint64(2) * np.uint64(255)
    return (value & np.uint64(255)).astype(np.uint8)


RESIZED = [
    *((w, h, "noise") for w, h in [(1, 1), (1, 2), (2, 1), (3, 3), (1, 896), (896, 1), (895, 897), (897, 895)]),
    *((w, h, "waves") for w, h in [(896, 896), (896, 100), (100, 896), (448, 448), (1792, 1792), (640, 480)]),
    *((w, h, "noise") for w, h in [(480, 640), (1024, 768), (1920, 1080), (333, 777), (17, 340), (340, 17)]),
    *((w, h, "blocks") for w, h in [(50, 1000), (1000, 50), (2000, 100), (100, 2000), (1500, 1501), (10, 10)]),
    *((w, h, "waves") for w, h in [(3000, 2000), (2000, 3000), (5000, 3000), (5000, 250), (250, 5000)]),
    *((w, h, "checkers") for w, h in [(3584, 3584), (1792, 896), (896, 1792), (901, 901), (64, 64)]),
    *((w, h, "noise") for w, h in [(1200, 900), (4000, 3000), (7, 5), (2, 1000), (1000, 2)]),
]

CROPS = [
    (1200, 900), (1001, 300), (1000, 200), (900, 900), (900, 1200), (300, 1001), (1024, 1024), (512, 400),
    (600, 500), (599, 500), (601, 500), (511, 300), (512, 300), (513, 257), (2560, 256), (256, 2560), (255, 2000),
    (3000, 1000), (2500, 1000), (2499, 1000), (3501, 1000), (10000, 300), (1027, 1), (768, 640), (767, 640),
    (1279, 513), (4096, 1111), (1, 1),
]


# ---- Files ----


def encoded(image, kind, **options):
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width, height, bits, colour, rows, extra=(), interlaced=False):
    """A PNG of these packed rows, or of the seven passes of Adam7; each row is bytes."""
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, int(interlaced))
    body = zlib.compress(b"".join(b"\0" + bytes(row) for row in rows))
    chunks = [chunk(b"IHDR", header), *(chunk(k, d) for k, d in extra), chunk(b"IDAT", body)]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks) + chunk(b"IEND", b"")


def adam7(pixels):
    """The rows of the seven passes of an array [height, width, channels]."""
    passes = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
    for x, y, dx, dy in passes:
        part = pixels[y::dy, x::dx]
        if part.shape[1]:
            yield from (row.tobytes() for row in part)


def with_orientation(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif.tobytes()


def bmp(width, height, bits, rows, header=40, palette=b"", masks=b""):
    """A BMP of rows in the order of the file, each filled up to multiples of 4 bytes."""
    data = b"".join(row + b"\0" * (-len(row) % 4) for row in rows)
    if header == 12:
        info = struct.pack("<IHHHH", 12, width, abs(height), 1, bits)
    else:
        info = struct.pack("<IiiHHIIiiII", 40, width, height, 1, bits, 3 if masks else 0, len(data), 0, 0, 0, 0)
    offset = 14 + len(info) + len(masks) + len(palette)
    return b"BM" + struct.pack("<IHHI", offset + len(data), 0, 0, offset) + info + masks + palette + data


def files():
    """(name, bytes) of every file. Pictures of JPEG files are smooth, so that decoders agree."""
    rng = np.random.default_rng(1)
    rgb = rng.integers(0, 256, (13, 17, 3), dtype=np.uint8)
    rgba = rng.integers(0, 256, (13, 17, 4), dtype=np.uint8)
    image = Image.fromarray(rgb)
    yield "png rgb", encoded(image, "PNG")
    yield "png rgba", encoded(Image.fromarray(rgba), "PNG")
    yield "png grey", encoded(image.convert("L"), "PNG")
    yield "png grey alpha", encoded(Image.fromarray(rgba).convert("LA"), "PNG")
    yield "png 1 bit", encoded(image.convert("1"), "PNG")
    yield "png palette", encoded(image.quantize(200), "PNG")
    yield "png palette of 4 bits", encoded(image.quantize(16), "PNG", bits=4)
    yield "png palette with transparency", encoded(image.quantize(20), "PNG", transparency=3)
    yield "png colour key", encoded(image, "PNG", transparency=tuple(int(v) for v in rgb[0, 0]))
    for bits in (2, 4):
        step = 8 // bits
        grey = rng.integers(0, 256, (13, (17 + step - 1) // step), dtype=np.uint8)
        yield f"png grey of {bits} bits", png(17, 13, bits, 0, grey)
    for name, colour, channels in [("grey", 0, 1), ("rgb", 2, 3), ("grey alpha", 4, 2), ("rgba", 6, 4)]:
        wide = rng.integers(0, 1 << 16, (13, 17 * channels)).astype(">u2")
        if name == "grey":
            wide[::2] >>= 8  # values that survive
        yield f"png 16 bits {name}", png(17, 13, 16, colour, (row.tobytes() for row in wide))
    yield "png interlaced", png(17, 13, 8, 2, adam7(rgb), interlaced=True)
    yield "png orientation 6", encoded(image, "PNG", exif=with_orientation(6))
    for width, height in [(1, 1), (1, 20), (20, 1)]:
        yield f"png {width} x {height}", encoded(Image.fromarray(rgb[:1, :1].repeat(height, 0).repeat(width, 1)), "PNG")

    yield "bmp rgb", encoded(image, "BMP")
    yield "bmp grey", encoded(image.convert("L"), "BMP")
    yield "bmp 1 bit", encoded(image.convert("1"), "BMP")
    yield "bmp palette", encoded(image.quantize(100), "BMP")
    yield "bmp rgba", encoded(Image.fromarray(rgba), "BMP")
    yield "bmp top down", bmp(17, -13, 24, (row.tobytes() for row in rgb))
    yield "bmp of OS/2", bmp(17, 13, 24, (row.tobytes() for row in rgb), header=12)

    y, x = np.mgrid[0:21, 0:35]
    smooth = np.stack([x * 6 + y, 255 - x * 4 - y * 2, y * 9 + 40], -1).clip(0, 255).astype(np.uint8)
    image = Image.fromarray(smooth)
    yield "jpeg 4:4:4", encoded(image, "JPEG", quality=95, subsampling=0)
    yield "jpeg 4:2:2", encoded(image, "JPEG", quality=95, subsampling=1)
    yield "jpeg 4:2:0", encoded(image, "JPEG", quality=95, subsampling=2)
    yield "jpeg grey", encoded(image.convert("L"), "JPEG", quality=95)
    yield "jpeg progressive", encoded(image, "JPEG", quality=95, progressive=True)
    yield "jpeg restart", encoded(image, "JPEG", quality=95, restart_marker_blocks=2)
    yield "jpeg rgb", encoded(image, "JPEG", quality=95, keep_rgb=True)
    yield "jpeg cmyk", encoded(image.convert("CMYK"), "JPEG", quality=95)
    yield "jpeg 1 x 1", encoded(image.crop((0, 0, 1, 1)), "JPEG", quality=95)
    for orientation in range(1, 9):
        exif = with_orientation(orientation)
        yield f"jpeg orientation {orientation}", encoded(image, "JPEG", quality=95, subsampling=0, exif=exif)
    # The same in the other byte order.
    tiff = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x05\0\0\0\0\0\0\0"
    yield "jpeg orientation 5, little-endian", encoded(image, "JPEG", quality=95, subsampling=0, exif=tiff)


def main():
    result = {"files": [], "resized": [], "crops": []}
    for name, data in files():
        image = Image.open(io.BytesIO(data))
        rgb = ImageOps.exif_transpose(image).convert("RGB")
        result["files"].append(
            {"name": name, "file": data.hex(), "width": rgb.width, "height": rgb.height, "rgb": rgb.tobytes().hex()}
        )
    for width, height, kind in RESIZED:
        image = Image.fromarray(pixel(width, height, kind))
        resized = image.resize((SIDE, SIDE), Image.Resampling.BILINEAR)
        digest = hashlib.sha256(resized.tobytes()).hexdigest()
        result["resized"].append({"width": width, "height": height, "kind": kind, "sha256": digest})
    processor = Gemma3ImageProcessorPil()
    for width, height in CROPS:
        place = np.arange(width * height).reshape(1, height, width)
        crops = processor.pan_and_scan(place, 256, 4, 1.2)
        boxes = [
            [int(c[0, 0, 0]) % width, int(c[0, 0, 0]) // width, c.shape[-1], c.shape[-2]] for c in crops
        ]
        result["crops"].append({"width": width, "height": height, "boxes": boxes})

    lines = [
        f'"{key}": [\n' + ",\n".join(json.dumps(entry) for entry in entries) + "\n]" for key, entries in result.items()
    ]
    (HERE / "images.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
