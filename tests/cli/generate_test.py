"""lapidary generate."""

import os
import subprocess

import cli

PROMPT = "The capital of France is"
CONTINUATION = " the capital of the country of France. It is the largest city in France"


class Generate(cli.ModelTest):
    def generate(self, *arguments, model=None, **options):
        return cli.run_json("generate", "-m", model or self.blob, *arguments, **options)

    def test_text_and_speed_line(self):
        result = cli.run("generate", "-m", self.blob, "-p", PROMPT, "--no-lookup")
        self.assertTrue(result.stdout.startswith(CONTINUATION), result.stdout)
        self.assertTrue(result.stdout.endswith("\n"))
        last = result.stderr.splitlines()[-1]
        self.assertRegex(last, r"^6 \+ 64 tokens \(length\) \| prefill [\d.]+ tok/s "
                               r"\| decode [\d.]+ tok/s, [\d.]+ GB/s = \d+ % of [\d.]+ GB/s "
                               r"\| \w+, \d+ threads? \| logits [0-9a-f]{16}$")

    def test_json(self):
        result = self.generate("-p", PROMPT, "-n", 20, "--no-lookup")
        self.assertTrue(result["text"].startswith(CONTINUATION), result["text"])
        self.assertEqual(len(result["ids"]), 20)
        self.assertEqual(result["prompt_ids"], [2, 818, 5279, 529, 7001, 563])
        self.assertEqual(result["stop_reason"], "length")
        for name in ("prefill_tok_s", "decode_tok_s", "decode_gb_s", "read_gb_s_limit", "load_s"):
            self.assertGreater(result[name], 0, name)

    def test_same_tokens_with_one_thread_and_two_from_blob_and_gguf(self):
        expected = self.generate("-p", PROMPT, "-n", 200, "-t", 1)
        self.assertEqual(len(expected["ids"]), 200)
        for model, threads in ((self.blob, 2), (self.gguf, 1), (self.gguf, 2)):
            found = self.generate("-p", PROMPT, "-n", 200, "-t", threads, model=model)
            self.assertEqual(found["threads"], threads)
            self.assertEqual(found["ids"], expected["ids"], (model, threads))
            self.assertEqual(found["text"], expected["text"])

    def test_same_tokens_with_any_chunk(self):
        prompt = "One, two, three, four, five, six, seven. " * 60
        expected = self.generate("-p", prompt, "-n", 20)
        for chunk in (100, 2000):
            found = self.generate("-p", prompt, "-n", 20, "--chunk", chunk)
            self.assertEqual(found["ids"], expected["ids"], chunk)

    def test_seed(self):
        sample = ["-p", "Once upon a time", "-n", 24, "--temp", 0.9, "--top-p", 0.95, "--top-k", 50]
        first = self.generate(*sample, "--seed", 7)
        self.assertEqual(self.generate(*sample, "--seed", 7)["ids"], first["ids"])
        self.assertNotEqual(self.generate(*sample, "--seed", 8)["ids"], first["ids"])

    def test_a_narrow_choice_is_the_most_likely_token(self):
        greedy = self.generate("-p", PROMPT, "-n", 16)["ids"]
        for narrow in (["--top-k", 1], ["--top-p", 0], ["--min-p", 1]):
            self.assertEqual(self.generate("-p", PROMPT, "-n", 16, "--temp", 1, *narrow)["ids"],
                             greedy, narrow)

    def test_repeat_penalty(self):
        plain = self.generate("-p", PROMPT, "-n", 48)["ids"]
        penalised = self.generate("-p", PROMPT, "-n", 48, "--repeat-penalty", 1.3)["ids"]
        self.assertGreater(len(set(penalised)), len(set(plain)))

    def test_guesses_change_no_text(self):
        prompt = "One, two, three, four, five, six, seven. One, two, three, four,"
        for sampling in ([], ["--temp", 0.8, "--top-k", 40, "--seed", 3]):
            plain = self.generate("-p", prompt, "-n", 60, *sampling, "--no-lookup")
            self.assertEqual(plain["guesses"], 0)
            for guess in ([], ["--lookup"], ["--draft", self.blob]):
                found = self.generate("-p", prompt, "-n", 60, *sampling, *guess)
                self.assertEqual(found["ids"], plain["ids"])
                self.assertEqual(found["logits_hash"], plain["logits_hash"])
                self.assertGreater(found["guesses"], 0)
        result = cli.run("generate", "-m", self.blob, "-p", prompt)
        self.assertRegex(result.stderr.splitlines()[-1],
                         r"\| decode [\d.]+ tok/s, \d+ of \d+ guesses true \|")
        cli.run("generate", "-m", self.blob, "-p", "x", "--lookup", "--draft", self.blob, status=2)

    def test_stop_strings(self):
        result = self.generate("-p", PROMPT, "--stop", "nowhere", "--stop", "y of Fr")
        self.assertEqual(result["text"], " the capital of the countr")
        self.assertEqual(result["stop_reason"], "stop string")
        self.assertEqual(self.generate("-p", PROMPT, "-n", 8, "--stop", "[the]")["stop_reason"], "length")

    def test_prompts(self):
        from_file = self.write("prompt.txt", PROMPT)
        expected = self.generate("-p", PROMPT, "-n", 4)
        self.assertEqual(self.generate("-f", from_file, "-n", 4)["ids"], expected["ids"])
        self.assertEqual(self.generate("-f", "-", "-n", 4, input=PROMPT)["ids"], expected["ids"])
        # One <bos>, whether or not the text begins with it.
        self.assertEqual(self.generate("-p", "<bos>" + PROMPT, "-n", 4)["ids"], expected["ids"])
        self.assertEqual(self.generate("-p", "", "-n", 1)["prompt_ids"], [2])
        # Nothing that looks like an option or a list is taken for one.
        for text in ("-n", "--help", "[a,b]", "{}", "%%", "a\nb"):
            self.assertEqual(len(self.generate("-p", text, "-n", 1)["ids"]), 1, text)

    def test_chat_template(self):
        ids = self.generate("-p", "Hi <end_of_turn>", "-n", 1, "--chat")["prompt_ids"]
        self.assertEqual(ids[:3], [2, 105, 2364])
        self.assertEqual(ids.count(106), 1)
        self.assertEqual(ids[-3:], [105, 4368, 107])

    def test_numbers_of_tokens(self):
        none = self.generate("-p", PROMPT, "-n", 0)
        self.assertEqual((none["ids"], none["text"]), ([], ""))
        one = self.generate("-p", PROMPT, "-n", 1)
        self.assertEqual(len(one["ids"]), 1)
        self.assertIsNone(one["decode_tok_s"])

    def test_context(self):
        # 6 tokens of prompt: the 4 that fit behind them, and one that need not be stored.
        full = self.generate("-p", PROMPT, "-n", 64, "--context", 10)
        self.assertEqual((len(full["ids"]), full["stop_reason"]), (5, "context full"))
        self.assertEqual(len(self.generate("-p", PROMPT, "--context", 6)["ids"]), 1)
        result = cli.run("generate", "-m", self.blob, "-p", PROMPT, "--context", 5, status=1)
        self.assertRegex(result.stderr, r"^lapidary: the context of 5 tokens is full: 6 needed, 5 free\n$")
        self.assertEqual(result.stdout, "")
        cli.run("generate", "-m", self.blob, "-p", PROMPT, "--context", 32769, status=1)

    def test_a_reader_that_leaves_is_no_error(self):
        reader, writer = os.pipe()
        os.close(reader)
        process = subprocess.run([cli.PROGRAM, "generate", "-m", self.blob, "-p", PROMPT], stdout=writer,
                                 stderr=subprocess.PIPE, timeout=600)
        os.close(writer)
        self.assertLess(process.returncode, 0)  # ended by SIGPIPE, as a shell expects
        self.assertEqual(process.stderr, b"")

    def test_a_full_disk_is_an_error(self):
        with open("/dev/full", "wb") as full:
            process = subprocess.run([cli.PROGRAM, "generate", "-m", self.blob, "-p", PROMPT],
                                     stdout=full, stderr=subprocess.PIPE, text=True, timeout=600)
        self.assertEqual(process.returncode, 1)
        self.assertRegex(process.stderr, r"^lapidary: cannot write to standard output: [^\n]+\n$")

    def test_streams_whole_characters(self):
        text = cli.run("generate", "-m", self.blob, "-p", "Emoji: 🦜🪴 日本語", "-n", 40, text=False).stdout
        text.decode("utf-8")


if __name__ == "__main__":
    cli.main()
