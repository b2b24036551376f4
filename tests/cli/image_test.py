"""Pictures from outside: lapidary encode-image and mask, and pictures that are none."""

import array
import json
import pathlib
import struct
import tempfile
import unittest
import zlib

import cli

GOLDEN = pathlib.Path(__file__).resolve().parent.parent / "golden"
FILES = {entry["name"]: entry for entry in json.loads((GOLDEN / "images.json").read_text())["files"]}


class Images(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="lapidary-")
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.out = self.folder / "out.f32"

    def write(self, name, content):
        path = self.folder / name
        path.write_bytes(content)
        return path

    def picture(self, name):
        return bytes.fromhex(FILES[name]["file"])

    def pixels(self, path, *options):
        result = cli.run_json("encode-image", "--pixels", "--image", path, *options, "-o", self.out)
        values = array.array("f")
        values.frombytes(self.out.read_bytes())
        self.assertEqual(len(values), result["values"])
        return values

    def test_pixels(self):
        side = 896
        values = self.pixels(self.write("a.png", self.picture("png 1 x 1")))
        self.assertEqual(len(values), 3 * side * side)
        red, green, blue = bytes.fromhex(FILES["png 1 x 1"]["rgb"])
        for channel, expected in enumerate((red, green, blue)):
            plane = values[channel * side * side:(channel + 1) * side * side]
            self.assertEqual(min(plane), max(plane))
            self.assertAlmostEqual(plane[0], expected / 127.5 - 1, places=6)

    def test_pan_and_scan(self):
        def chunk(kind, data):
            return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

        header = struct.pack(">IIBBBBB", 800, 400, 8, 0, 0, 0, 0)
        body = zlib.compress(b"".join(b"\0" + bytes([y % 256]) * 800 for y in range(400)))
        png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")
        values = self.pixels(self.write("wide.png", png), "--pan-and-scan")
        self.assertEqual(len(values), 3 * 3 * 896 * 896)  # the whole and two crops

    def check_refused(self, path, *parts):
        result = cli.run("encode-image", "--pixels", "--image", path, "-o", self.out, status=1)
        self.assertEqual(result.stdout, "")
        self.assertRegex(result.stderr, r"\Alapidary: [^\n]+\n\Z")
        for part in (str(path), *parts):
            self.assertIn(part, result.stderr)
        self.assertFalse(self.out.exists())

    def test_what_is_no_picture(self):
        jpeg = self.picture("jpeg 4:2:0")
        png = self.picture("png rgb")
        self.check_refused(self.write("cut.jpg", jpeg[:-20]), "cut short")
        self.check_refused(self.write("text.png", b"just text"), "expected a JPEG, PNG or BMP", "just text")
        self.check_refused(self.write("a.gif", b"GIF89a\1\0\1\0\0\0\0;"), "GIF")
        huge = png[:16] + struct.pack(">II", 65535, 65535) + png[24:]
        self.check_refused(self.write("huge.png", huge), "65535 x 65535")
        self.check_refused(self.folder / "missing.png", "No such file")
        self.check_refused(self.folder, "directory")

    def test_a_model_is_needed(self):
        path = self.write("a.png", self.picture("png rgb"))
        result = cli.run("encode-image", "--image", path, "-o", self.out, status=1)
        self.assertIn("-m FILE", result.stderr)


class Mask(unittest.TestCase):
    LAYOUT = "TTBIIIETBIIIET"

    def test_text(self):
        text = cli.run("mask", "--layout", self.LAYOUT, "--window", 6, "--layer", "global").stdout
        rows = [line.split()[2:] for line in text.splitlines()[2:2 + len(self.LAYOUT)]]
        for query, row in enumerate(rows):
            for key, mark in enumerate(row):
                same = (3 <= query <= 5 and 3 <= key <= 5) or (9 <= query <= 11 and 9 <= key <= 11)
                expected = "#" if key <= query else "+" if same else "."
                self.assertEqual(mark, expected, (query, key))

    def test_window(self):
        text = cli.run("mask", "--layout", self.LAYOUT, "--window", 6, "--layer", "local").stdout
        self.assertIn("    13 T - - - - - - - - # # # # # #\n", text)
        self.assertIn("     9 I - - - - # # # # # # + + . .\n", text)

    def test_json_and_picture(self):
        path = self.folder_path() / "mask.png"
        result = cli.run_json("mask", "--layout", self.LAYOUT, "--window", 6, "-o", path)
        seen = [pattern["seen"] for pattern in result["patterns"]]
        self.assertEqual(seen, [105 + 6, 75, 105, 171])
        self.assertTrue(path.read_bytes().startswith(b"\x89PNG\r\n\x1a\n"))

    def folder_path(self):
        folder = tempfile.TemporaryDirectory(prefix="lapidary-")
        self.addCleanup(folder.cleanup)
        return pathlib.Path(folder.name)

    def test_wrong_layout(self):
        self.assertIn("found \"X\"", cli.run("mask", "--layout", "TXT", status=1).stderr)
        cli.run("mask", "--layout", "", status=1)
        cli.run("mask", status=2)


class WithModel(cli.ModelTest):
    def test_a_model_without_eyes(self):
        path = self.write("a.png", bytes.fromhex(FILES["png rgb"]["file"]))
        ids = self.write("ids", "2 818")
        for arguments in (["generate", "-p", "Hello"],
                          ["logits", "--ids-file", ids, "-o", self.folder / "out"],
                          ["encode-image", "-o", self.folder / "out"]):
            with self.subTest(arguments[0]):
                result = cli.run(*arguments, "-m", self.blob, "--image", path, status=1)
                self.assertRegex(result.stderr, r"\Alapidary: [^\n]*270M reads no pictures[^\n]*\n\Z")
        self.assertFalse((self.folder / "out").exists())

    def test_mask_of_a_text(self):
        path = self.write("a.png", bytes.fromhex(FILES["png rgb"]["file"]))
        result = cli.run_json("mask", "-m", self.blob, "-p", "Hello world", "--image", path)
        self.assertEqual(result["letters"], "TTB" + "I" * 256 + "ETTT")


if __name__ == "__main__":
    cli.main()
