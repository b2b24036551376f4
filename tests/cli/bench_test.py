"""lapidary bench."""

import cli


class Bench(cli.ModelTest):
    def test_json(self):
        short = ["bench", "-m", self.blob, "-p", 96, "-n", 8, "-r", 2]
        report = cli.run_json(*short)
        for name in ("prefill_tok_s", "decode_tok_s", "decode_gb_s", "read_gb_s_limit", "prefill_top_s",
                     "load_s", "first_token_s", "first_token_warm_s"):
            self.assertGreater(report[name], 0, name)
        self.assertEqual((report["model"], report["runs"]), ("Gemma 3 270M", 2))
        self.assertRegex(report["logits_hash"], "^[0-9a-f]{16}$")
        # 100 M weights in the layers, 168 M in the head: about 240 MB for each token, 126 MB less if of
        # the head only 2 bits in 8 are counted.
        self.assertAlmostEqual(report["decode_gb_s"] / report["decode_tok_s"], 0.12, delta=0.01)
        full = cli.run_json(*short, "--all-logits")
        self.assertAlmostEqual(full["decode_gb_s"] / full["decode_tok_s"], 0.24, delta=0.015)
        self.assertEqual(full["logits_hash"], report["logits_hash"])
        self.assertAlmostEqual(report["prefill_top_s"] / report["prefill_tok_s"], 2e-12 * 100.2e6,
                               delta=1e-5)
        again = cli.run_json(*short, "-t", 1)
        self.assertEqual(again["threads"], 1)

    def test_text(self):
        text = cli.run("bench", "-m", self.blob, "-p", 16, "-n", 0, "-r", 1).stdout
        self.assertIn("prefill 16", text)
        self.assertNotIn("decode", text)

    def test_ids_of_a_file(self):
        ids = self.folder / "prompt.ids"
        ids.write_text("2 818 5279 529 7001 563\n")
        short = ["bench", "-m", self.blob, "-n", 1, "-r", 1, "--ids-file", ids]
        drawn = cli.run_json("bench", "-m", self.blob, "-p", 6, "-n", 1, "-r", 1)
        self.assertNotEqual(cli.run_json(*short, "-p", 6)["logits_hash"], drawn["logits_hash"])
        self.assertIn("expected at least 7 ids", cli.run(*short, "-p", 7, status=1).stderr)

    def test_longer_than_the_context(self):
        result = cli.run("bench", "-m", self.blob, "-p", 32, "-n", 8, "--context", 39, status=1)
        self.assertIn("context", result.stderr)


if __name__ == "__main__":
    cli.main()
