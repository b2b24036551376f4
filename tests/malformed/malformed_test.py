"""No file may break the program: each of make.py is refused in one line that names the cause, within a second of
processor time and 200 MB of memory, and leaves nothing behind."""

import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "cli"))
import cli
import make
import tiny_files as tiny

SECONDS, BYTES = 1.0, 200 << 20


def commands(kind, path, out):
    generate = ["generate", "-m", path, "-p", "x", "-n", "1"]
    return {"gguf": [["inspect", path], generate, ["convert", path, "-o", out]],
            "blob": [["inspect", path], generate],
            "pieces": [["inspect", path], ["tokenize", "-m", path, "x"]],
            "sections": [["inspect", path, "--verify"]],
            "folder": [["convert", path, "-o", out, "--type", "q8"]],
            "image": [["encode-image", "--pixels", "--image", path, "-o", out]],
            "ids": [["logits", "-m", "none", "--ids-file", path, "-o", out]]}[kind]


class Malformed(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="lapidary-")
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def run_one(self, arguments):
        """Exit status, standard output, standard error, and what it took."""
        with open(self.folder / "stdout", "w+b") as out, open(self.folder / "stderr", "w+b") as err:
            process = subprocess.Popen([cli.PROGRAM, *map(str, arguments)], stdin=subprocess.DEVNULL, stdout=out, stderr=err)
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            texts = []
            for file in (out, err):
                file.seek(0)
                texts.append(file.read().decode())
        for name in ("stdout", "stderr"):
            os.remove(self.folder / name)
        return process.returncode, *texts, usage

    def test_every_file_is_refused(self):
        cases = make.cases()
        self.assertGreaterEqual(len(cases), 150)
        slowest, largest = (0.0, ""), (0, "")
        for name, kind, content, expected in cases:
            path = self.folder / name
            make.write(path, content)
            for arguments in commands(kind, path, self.folder / "out"):
                with self.subTest(name, command=arguments[0]):
                    status, out, err, usage = self.run_one(arguments)
                    self.assertEqual((status, out), (1, ""), err[-2000:])
                    self.assertRegex(err, r"\Alapidary: [^\n]+\n\Z")
                    self.assertNotRegex(err, r"[\x00-\x09\x0b-\x1f\x7f]")
                    self.assertRegex(err, expected)
                    self.assertIn(str(path), err)
                    seconds, memory = usage.ru_utime + usage.ru_stime, usage.ru_maxrss << 10
                    slowest, largest = max(slowest, (seconds, name)), max(largest, (memory, name))
                    if not cli.SANITIZED:
                        self.assertLess(seconds, SECONDS)
                        self.assertLess(memory, BYTES)
                    self.assertEqual(os.listdir(self.folder), [name])
            for left in self.folder.iterdir():
                shutil.rmtree(left) if left.is_dir() else left.unlink()
        print(f"{len(cases)} files; slowest {slowest[1]}: {slowest[0]:.2f} s; largest {largest[1]}: {largest[0] / 1e6:.0f} MB")

    def test_the_files_that_they_were_made_of_are_right(self):
        out = self.folder / "out"
        for name, kind, content in (("tiny.gguf", "gguf", tiny.Gguf().build()), ("tiny.lap", "blob", tiny.Blob().build()),
                                    ("folder", "folder", tiny.folder()), ("a.png", "image", tiny.png()),
                                    ("a.jpg", "image", tiny.JPEG), ("b.jpg", "image", tiny.PROGRESSIVE_JPEG),
                                    ("a.bmp", "image", tiny.bmp())):
            path = self.folder / name
            make.write(path, content)
            for arguments in commands(kind, path, out):
                # The tiny model is none that the program was compiled for.
                if arguments[0] != "generate":
                    cli.run(*arguments)
        cli.run("inspect", "--verify", self.folder / "tiny.lap")
        cli.run("tokenize", "-m", self.folder / "tiny.lap", "ab\n\ne")


if __name__ == "__main__":
    cli.main()
