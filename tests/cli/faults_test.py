"""Faults from outside: a full disk, two programs that write the same file, signals. A file appears under its name
only when it is complete."""

import os
import pathlib
import resource
import signal
import subprocess
import sys
import tempfile
import time
import unittest

import cli

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
import tiny_files as tiny


class Faults(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="lapidary-")
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.source = self.folder / "tiny.gguf"
        self.source.write_bytes(tiny.Gguf().build())

    def mount(self, options):
        """A small file system; the test is skipped where that is not allowed."""
        place = self.folder / "disk"
        place.mkdir()
        if subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", place], capture_output=True).returncode != 0:
            self.skipTest("needs to be root")
        self.addCleanup(subprocess.run, ["umount", place], check=True)
        return place

    def test_disk_full(self):
        disk = self.mount("size=64k")  # the blob has about 30 sections, each at a multiple of 4096
        target = disk / "tiny.lap"
        result = cli.run("convert", self.source, "-o", target, status=1)
        self.assertRegex(result.stderr, r"\Alapidary: cannot write \S+/tiny.lap: the disk is full \(\d+ more bytes "
                                        r"needed, \d+ available\)\n\Z")
        self.assertEqual(os.listdir(disk), [])
        picture = self.folder / "a.png"
        picture.write_bytes(tiny.png())
        result = cli.run("encode-image", "--pixels", "--image", picture, "-o", target, status=1)
        self.assertIn("the disk is full", result.stderr)
        self.assertEqual(os.listdir(disk), [])

    def test_disk_full_keeps_what_was_there(self):
        disk = self.mount("size=64k")
        target = disk / "tiny.lap"
        target.write_bytes(b"older")
        cli.run("convert", self.source, "-o", target, status=1)
        self.assertEqual(target.read_bytes(), b"older")

    def test_no_more_files(self):
        disk = self.mount("nr_inodes=2")
        (disk / "a").touch()
        result = cli.run("convert", self.source, "-o", disk / "tiny.lap", status=1)
        self.assertRegex(result.stderr, r"\Alapidary: [^\n]*tiny.lap[^\n]*No space left on device\n\Z")

    def test_two_programs_write_one_file(self):
        target = self.folder / "both.lap"
        command = [cli.PROGRAM, "convert", str(self.source), "-o", str(target)]
        for _ in range(5):
            programs = [subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) for _ in range(4)]
            for program in programs:
                self.assertEqual((program.communicate()[1], program.returncode), (b"", 0))
            cli.run("inspect", target, "--verify")
            self.assertEqual(sorted(os.listdir(self.folder)), ["both.lap", "tiny.gguf"])

    def test_verify_names_the_damaged_section(self):
        target = self.folder / "tiny.lap"
        cli.run("convert", self.source, "-o", target)
        self.assertTrue(cli.run_json("inspect", target, "--verify")["verified"])
        size = target.stat().st_size
        for at in (size - 1, size // 2 // 4096 * 4096, 8192):  # where a multiple of 4096 is, there is a section
            with open(target, "r+b") as file:
                file.seek(at)
                byte = file.read(1)[0]
                file.seek(at)
                file.write(bytes([byte ^ 1]))
                file.flush()
                result = cli.run("inspect", target, "--verify", status=1)
                self.assertRegex(result.stderr, r"section \S+ is damaged \(its checksum differs\)")
                file.seek(at)
                file.write(bytes([byte]))
        cli.run("inspect", target, "--verify")


class FaultsWhileRunning(cli.ModelTest):
    def start(self, *arguments):
        program = subprocess.Popen([cli.PROGRAM, *map(str, arguments)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE)
        self.addCleanup(program.wait)
        return program

    def test_interrupted_generation(self):
        for number in (signal.SIGINT, signal.SIGTERM):
            program = self.start("generate", "-m", self.blob, "-p", "Once upon a time", "-n", "5000")
            self.assertNotEqual(program.stdout.read(20), b"")  # it has begun
            program.send_signal(number)
            begin = time.monotonic()
            rest, messages = program.communicate(timeout=60)
            self.assertEqual(program.returncode, -number)
            self.assertLess(time.monotonic() - begin, 30)
            self.assertTrue(rest.decode().endswith("\n"))  # whole characters, a whole line
            self.assertNotIn(b"terminate", messages)

    def test_killed_while_converting(self):
        target = self.folder / "killed.lap"
        program = self.start("convert", self.gguf, "-o", target)
        while not list(self.folder.glob("killed.lap.partial-*")) and program.poll() is None:
            time.sleep(0.001)
        program.kill()
        program.communicate()
        if program.returncode == 0:
            self.skipTest("it was faster")
        self.assertFalse(target.exists())
        cli.run("convert", self.gguf, "-o", target)
        cli.run("inspect", target, "--verify")

    @unittest.skipIf(cli.SANITIZED, "a sanitizer reserves more addresses than that")
    def test_little_memory(self):
        limit = lambda megabytes: lambda: resource.setrlimit(resource.RLIMIT_AS, (megabytes << 20, megabytes << 20))
        found = set()
        for megabytes in (300, 500, 4000):  # the blob has 250
            result = subprocess.run([cli.PROGRAM, "generate", "-m", str(self.blob), "-p", "word " * 300, "-n", "2", "-t", "1"],
                                    stdin=subprocess.DEVNULL, capture_output=True, text=True, preexec_fn=limit(megabytes))
            found.add(result.returncode)
            if result.returncode != 0:
                self.assertEqual(result.returncode, 1)
                self.assertRegex(result.stderr, r"\Alapidary: [^\n]*(allocate|bad_alloc|memory)[^\n]*\n\Z")
        self.assertEqual(found, {0, 1})


if __name__ == "__main__":
    cli.main()
