"""The first program: the README shows examples/hello.cpp as it is, and it answers and says what is wrong."""

import pathlib
import subprocess
import unittest

import cli

ROOT = pathlib.Path(__file__).resolve().parents[2]
HELLO = pathlib.Path(cli.PROGRAM).parent / "hello"


def hello(*arguments):
    return subprocess.run([HELLO, *map(str, arguments)], capture_output=True, text=True, timeout=600,
                          stdin=subprocess.DEVNULL)


class HelloTest(unittest.TestCase):
    def test_readme_shows_it(self):
        for name, most_lines in (("hello.cpp", 20), ("describe_image.cpp", 30)):
            program = (ROOT / "examples" / name).read_text()
            self.assertIn(f"```cpp\n{program}```", (ROOT / "README.md").read_text())
            self.assertLessEqual(program.count("\n"), most_lines)

    def test_errors(self):
        self.assertEqual(hello().returncode, 2)
        missing = hello("no such file")
        self.assertEqual(missing.returncode, 1)
        self.assertRegex(missing.stderr, r"\A.*no such file.*\n\Z")


class HelloModelTest(cli.ModelTest):
    def test_answers(self):
        answer = hello(self.blob, "What is gold?")
        self.assertEqual((answer.returncode, answer.stderr), (0, ""))
        self.assertTrue(answer.stdout.strip())


if __name__ == "__main__":
    cli.main()
