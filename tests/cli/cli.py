"""What the tests of the command-line program share.

Each test is a script that ctest calls with the path of the program and, where there is one, of the
real Gemma 3 270M as GGUF. A test case that needs the model derives from ModelTest.
"""

import json
import pathlib
import subprocess
import sys
import tempfile
import unittest

PROGRAM = sys.argv[1] if len(sys.argv) > 1 else ""
GGUF = sys.argv[2] if len(sys.argv) > 2 else ""

# Whether the program was built with a sanitizer, which takes time, memory and terabytes of addresses of its own.
SANITIZED = PROGRAM != "" and any(name in pathlib.Path(PROGRAM).read_bytes() for name in (b"__asan_init", b"__tsan_init"))

SKIPPED = 77


def run(*arguments, status=0, text=True, **options):
    """Runs the program, checks its exit status, and returns it with stdout and stderr."""
    command = [PROGRAM, *map(str, arguments)]
    options.setdefault("stdin", None if "input" in options else subprocess.DEVNULL)
    result = subprocess.run(command, capture_output=True, text=text, timeout=600, **options)
    if result.returncode != status:
        raise AssertionError(
            f"{command}: expected exit status {status}, found {result.returncode}\n"
            f"stdout: {result.stdout[:2000]!r}\nstderr: {result.stderr[:2000]!r}"
        )
    return result


def run_json(*arguments, **options):
    """Runs with --json: standard output must be one JSON object and nothing else."""
    result = json.loads(run(*arguments, "--json", **options).stdout)
    if not isinstance(result, dict):
        raise AssertionError(f"{arguments}: expected a JSON object, found {result!r}")
    return result


class ModelTest(unittest.TestCase):
    """Has the real model: self.gguf, and self.blob, converted once per script. self.folder is empty
    when a test begins and goes when it ends."""

    _blob_folder = None

    @classmethod
    def setUpClass(cls):
        if not GGUF:
            raise unittest.SkipTest("no model")
        if ModelTest._blob_folder is None:
            ModelTest._blob_folder = tempfile.TemporaryDirectory(prefix="lapidary-")
            ModelTest.conversion = run_json("convert", GGUF, "-o", cls._blob_path())
        cls.gguf = pathlib.Path(GGUF)
        cls.blob = cls._blob_path()

    @classmethod
    def _blob_path(cls):
        return pathlib.Path(ModelTest._blob_folder.name) / "gemma-3-270m.lap"

    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="lapidary-")
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def write(self, name, content):
        path = self.folder / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path


def main():
    """Runs the test cases of the calling script. Exit status 77 if all of them were skipped."""
    if not PROGRAM:
        sys.exit("usage: TEST PROGRAM [MODEL.gguf]")
    outcome = unittest.main(argv=sys.argv[:1], exit=False, verbosity=2).result
    if not outcome.wasSuccessful():
        sys.exit(1)
    # A class that is skipped as a whole counts no test as run.
    if len(outcome.skipped) >= max(1, outcome.testsRun):
        sys.exit(SKIPPED)
