"""What goes wrong must be said in one line, with exit status 1, or 2 for wrong usage."""

import os
import pathlib
import shutil
import tempfile
import unittest

import cli

PNG = bytes.fromhex("89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c489")


class Checks(unittest.TestCase):
    def check_message(self, result, *parts):
        self.assertEqual(result.stdout, "")
        self.assertRegex(result.stderr, r"\Alapidary: [^\n]+\n\Z")
        for part in parts:
            self.assertIn(part, result.stderr)

    def check_file(self, path, *parts):
        """Every subcommand that opens `path` must say what is wrong with it."""
        for arguments in (["inspect", path],
                          ["inspect", path, "--json"],
                          ["generate", "-m", path, "-p", "Hello"],
                          ["generate", "-m", path, "-p", "Hello", "--json"],
                          ["tokenize", "-m", path, "Hello"],
                          ["logits", "-m", path, "--ids-file", self.ids, "-o", self.folder / "out"],
                          ["perplexity", "-m", path, "-f", self.ids],
                          ["bench", "-m", path]):
            with self.subTest(arguments[0]):
                self.check_message(cli.run(*arguments, status=1), str(path), *parts)
        self.assertFalse((self.folder / "out").exists())

    def check_source(self, path, *parts):
        """The same for a file that is to be converted."""
        target = self.folder / "out.lap"
        before = sorted(os.listdir(self.folder))
        self.check_message(cli.run("convert", path, "-o", target, status=1), str(path), *parts)
        self.assertEqual(sorted(os.listdir(self.folder)), before)

    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="lapidary-")
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.ids = self.folder / "ids"
        self.ids.write_text("2 818")


class BadFiles(Checks):
    def test_no_such_file(self):
        path = self.folder / "missing.gguf"
        self.check_file(path, "No such file")
        self.check_source(path, "No such file")

    def test_empty_file(self):
        path = self.folder / "empty.gguf"
        path.touch()
        self.check_file(path, "empty")
        self.check_source(path, "empty")

    def test_picture(self):
        path = self.folder / "picture.gguf"
        path.write_bytes(PNG)
        self.check_file(path, "PNG")
        self.check_source(path)

    def test_folder(self):
        self.check_file(self.folder, "directory")
        self.check_source(self.folder, "folder")

    def test_magic_and_nothing_else(self):
        for name, content in (("magic.gguf", b"GGUF"), ("magic.lap", b"\x8cLAP\r\n\x1a\n")):
            path = self.folder / name
            path.write_bytes(content)
            self.check_file(path)
            self.check_source(path)

    def test_name_with_a_line_break(self):
        result = cli.run("inspect", self.folder / "a\nb", status=1)
        self.assertEqual(result.stderr.count("\n"), 1)

    def test_output_that_cannot_be_written(self):
        path = self.folder / "picture.gguf"
        path.write_bytes(PNG)
        self.check_message(cli.run("convert", path, "-o", self.folder / "no" / "x.lap", status=1))


class BadModels(Checks, cli.ModelTest):
    def setUp(self):
        Checks.setUp(self)

    def test_gguf_cut_at_half(self):
        path = self.folder / "half.gguf"
        shutil.copyfile(self.gguf, path)
        os.truncate(path, self.gguf.stat().st_size // 2)
        self.check_file(path)
        self.check_source(path)

    def test_blob_cut_at_half(self):
        path = self.folder / "half.lap"
        shutil.copyfile(self.blob, path)
        os.truncate(path, self.blob.stat().st_size // 2)
        self.check_file(path)

    def test_flipped_header_byte(self):
        path = self.folder / "flipped.lap"
        shutil.copyfile(self.blob, path)
        with open(path, "r+b") as file:
            for offset in (9, 20, 70, 200, 1000):
                file.seek(offset)
                byte = file.read(1)
                file.seek(offset)
                file.write(bytes([byte[0] ^ 0x10]))
                file.flush()
                self.check_message(cli.run("inspect", path, status=1), str(path))
                self.check_message(cli.run("generate", "-m", path, "-p", "x", status=1), str(path))
                file.seek(offset)
                file.write(byte)
                file.flush()
        cli.run("inspect", path)

    def test_prompt_longer_than_the_context(self):
        text = self.folder / "long.txt"
        text.write_text("word " * 40000)
        self.check_message(cli.run("generate", "-m", self.blob, "-f", text, status=1),
                           "the context of 32768 tokens is full", "32768 free")

    def test_unwritable_logits(self):
        self.check_message(cli.run("logits", "-m", self.blob, "--ids-file", self.ids, "-o",
                                   self.folder / "no" / "out", status=1), "no/out")

    def test_converting_a_blob(self):
        self.check_source(self.blob)

    def test_converting_onto_the_source(self):
        path = self.folder / "model.gguf"
        os.link(self.gguf, path) if os.stat(self.folder).st_dev == self.gguf.stat().st_dev \
            else shutil.copyfile(self.gguf, path)
        self.check_message(cli.run("convert", path, "-o", path, status=1), str(path))
        self.assertEqual(path.stat().st_size, self.gguf.stat().st_size)


class WrongUsage(Checks):
    def test_wrong_usage(self):
        generate = ["generate", "-m", "x", "-p", "y"]
        for arguments in ([],
                          ["juggle"],
                          ["--frobnicate"],
                          ["generate"],
                          ["generate", "-m", "x"],
                          ["generate", "-m", "x", "-p", "y", "-f", "z"],
                          [*generate, "--frobnicate"],
                          [*generate, "surplus"],
                          [*generate, "-n", "many"],
                          [*generate, "-n", "-1"],
                          [*generate, "-t", "0"],
                          [*generate, "--top-p", "2"],
                          [*generate, "--temp", "-1"],
                          [*generate, "--precision", "perfect"],
                          ["convert", "x"],
                          ["convert", "x", "-o", "y", "--type", "q2"],
                          ["inspect"],
                          ["inspect", "x", "--context", "0"],
                          ["logits", "-m", "x", "--ids-file", "y"],
                          ["perplexity", "-m", "x"],
                          ["bench", "-m", "x", "-r", "0"]):
            with self.subTest(arguments):
                self.check_message(cli.run(*arguments, status=2), "--help")

    def test_help(self):
        everything = cli.run("--help").stdout
        for command in ("convert", "inspect", "generate", "tokenize", "logits", "perplexity", "bench"):
            self.assertIn(command, everything)
            text = cli.run(command, "--help").stdout
            self.assertIn(f"lapidary {command}", text)
            self.assertIn("Example", text)
            self.assertIn("--json", text)

    def test_version(self):
        self.assertRegex(cli.run("--version").stdout,
                         r"\Alapidary \d+\.\d+\.\d+, (g\+\+|clang) \d+\.\d+\.\d+, \w+\n\Z")


if __name__ == "__main__":
    cli.main()
