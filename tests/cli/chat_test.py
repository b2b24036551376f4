"""lapidary chat: turns, commands, and what it says when something is wrong."""

import json
import pathlib
import unittest

import cli

GOLDEN = pathlib.Path(__file__).resolve().parent.parent / "golden"
PNG = next(bytes.fromhex(entry["file"]) for entry in json.loads((GOLDEN / "images.json").read_text())["files"]
           if entry["name"] == "png 1 x 1")


def talk(blob, lines, *arguments, **options):
    return cli.run("chat", "-m", blob, "--temp", 0, "-n", 8, *arguments, input="\n".join(lines) + "\n", **options)


def talk_json(blob, lines):
    return cli.run_json("chat", "-m", blob, "--temp", 0, "-n", 8, input="\n".join(lines) + "\n")


class ChatTest(cli.ModelTest):
    def test_replies_go_to_standard_output(self):
        chat = talk(self.blob, ["Hello", "", "And you?"])
        alone = talk(self.blob, ["Hello"])
        self.assertTrue(alone.stdout.strip())
        self.assertTrue(chat.stdout.startswith(alone.stdout))
        self.assertRegex(chat.stderr.splitlines()[-1], r"^\d+ \+ \d+ tokens .*tok/s.*logits [0-9a-f]{16}$")

    def test_save_and_load(self):
        saved = self.folder / "saved"
        first = talk_json(self.blob, ["Gold is", f"/save {saved}", "Tell more"])
        second = talk_json(self.blob, ["Something else", f"/load {saved}", "Tell more"])
        self.assertEqual(second["messages"], first["messages"])
        self.assertEqual(second["logits_hash"], first["logits_hash"])
        self.assertEqual([path.name for path in self.folder.iterdir()], ["saved"])
        damaged = bytearray(saved.read_bytes())
        damaged[len(damaged) // 2] ^= 1
        saved.write_bytes(damaged)
        self.assertRegex(talk(self.blob, [f"/load {saved}"]).stderr, r"(?m)^lapidary: .*saved: .*damaged")

    def test_reset_and_stats(self):
        chat = talk(self.blob, ["Hello", "/reset", "/stats", "Hello"])
        self.assertEqual(chat.stdout, 2 * talk(self.blob, ["Hello"]).stdout)
        self.assertRegex(chat.stderr, r"(?m)^0 messages, 0 of 32768 tokens; .* MB$")

    def test_errors_end_only_the_turn(self):
        chat = talk(self.blob, ["/nothing", "/load", "/load no such file", "/image no such file", "/help", "Hello"])
        self.assertTrue(chat.stdout.strip())
        for expected in ("/nothing is no command", "expected /load FILE", "no such file", "/quit"):
            self.assertIn(expected, chat.stderr)

    def test_pictures_need_a_model_that_sees(self):
        png = self.write("a.png", PNG)
        chat = talk(self.blob, [f"/image {png}", "Hello"])
        self.assertIn("reads no pictures", chat.stderr)
        self.assertTrue(chat.stdout.strip())

    def test_json(self):
        chat = cli.run_json("chat", "-m", self.blob, "--temp", 0, "-n", 8, "--system", "Be brief.",
                            input="Hello\n/quit\nnever read\n")
        self.assertEqual([message["role"] for message in chat["messages"]], ["system", "user", "model"])
        self.assertEqual(chat["messages"][1]["content"], "Hello")


if __name__ == "__main__":
    cli.main()
