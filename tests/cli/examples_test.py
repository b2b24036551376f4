"""The example programs beside hello: each runs the real model and says what is wrong."""

import json
import pathlib
import subprocess
import unittest

import cli

FOLDER = pathlib.Path(cli.PROGRAM).parent
SOURCES = pathlib.Path(__file__).resolve().parents[2] / "examples"
NAMES = ("chat", "embed", "batch", "custom_model", "dynamic_dispatch")
PROMPT = "The capital of France is"
# Greedy, 16 tokens: the first ones of the reference's continuation (tests/golden/real_270m.json).
CONTINUATION = " the capital of the country of France. It is the largest city in France"


def run(name, *arguments, status=0, **options):
    options.setdefault("stdin", None if "input" in options else subprocess.DEVNULL)
    result = subprocess.run([FOLDER / name, *map(str, arguments)], capture_output=True, text=True,
                            timeout=600, **options)
    if result.returncode != status:
        raise AssertionError(f"{name}: expected exit status {status}, found {result.returncode}\n"
                             f"{result.stdout}\n{result.stderr}")
    return result


class ErrorsTest(unittest.TestCase):
    def test_usage_and_missing_file(self):
        for name in NAMES:
            with self.subTest(name):
                self.assertRegex(run(name, status=2).stderr, rf"\Ausage: {name} MODEL.*\n\Z")
                missing = run(name, "no such file", "text", "text", status=1)
                self.assertRegex(missing.stderr, r"\A.*no such file.*\n\Z")

    def test_short(self):
        for name in NAMES:
            lines = (SOURCES / f"{name}.cpp").read_text().count("\n")
            self.assertLessEqual(lines, 35, name)


class ModelExamplesTest(cli.ModelTest):
    def test_chat(self):
        chat = run("chat", self.blob, "Answer in one word.", input="Hello\nAnd you?\n")
        self.assertEqual(chat.stdout.count("> "), 3)
        self.assertEqual(chat.stderr, "")

    def test_embed(self):
        rows = [line.split("\t") for line in
                run("embed", self.blob, "A cat sleeps.", "A cat sleeps.", "def f(x): return x")
                .stdout.splitlines()]
        self.assertEqual([text for _, text in rows],
                         ["A cat sleeps.", "A cat sleeps.", "def f(x): return x"])
        cosines = [float(cosine) for cosine, _ in rows]
        self.assertAlmostEqual(cosines[0], 1, 5)
        self.assertAlmostEqual(cosines[1], 1, 5)
        self.assertLess(cosines[2], 0.95)

    def test_batch_gives_what_each_line_gives_alone(self):
        prompts = [PROMPT, "", "1, 2, 3, 4,", "Gold is", "def f(x):", "Once upon a time"] * 2
        file = self.write("prompts.txt", "\n".join(prompts) + "\n")
        results = [json.loads(line) for line in run("batch", self.blob, file).stdout.splitlines()]
        self.assertEqual(sorted(result["line"] for result in results), list(range(len(prompts))))
        alone = {prompt: cli.run_json("generate", "-m", self.blob, "-p", prompt, "-n", 32)["text"]
                 for prompt in set(prompts)}
        for result in results:
            self.assertEqual(result["text"], alone[prompts[result["line"]]])

    def test_custom_model(self):
        self.assertTrue(run("custom_model", self.blob, PROMPT).stdout.startswith(CONTINUATION))

    def test_dynamic_dispatch(self):
        lines = run("dynamic_dispatch", self.blob, PROMPT).stdout.splitlines()
        self.assertGreaterEqual(len(lines), 2)
        for line in lines:
            target, text = line.split(":", 1)
            self.assertTrue(text.startswith(CONTINUATION), line)
            self.assertRegex(target, r"^[A-Z0-9_]+$")
        self.assertEqual(len({line.split(":")[0] for line in lines}), len(lines))
        self.assertIn(lines[0].split(":")[0], cli.run("--version").stdout)


class TargetTest(cli.ModelTest):
    def test_a_target_can_be_forced(self):
        best = cli.run_json("generate", "-m", self.blob, "-p", PROMPT, "-n", 16)
        names = cli.run("generate", "-m", self.blob, "-p", PROMPT, "--target", "NONE", status=2)
        self.assertIn(best["target"], names.stderr)
        lines = run("dynamic_dispatch", self.blob, PROMPT).stdout.splitlines()
        for target in (line.split(":")[0] for line in lines):
            forced = cli.run_json("generate", "-m", self.blob, "-p", PROMPT, "-n", 16, "--target",
                                  target)
            self.assertEqual(forced["target"], target)
            self.assertEqual(forced["ids"], best["ids"])


if __name__ == "__main__":
    cli.main()
