"""lapidary convert and inspect."""

import hashlib
import os
import shutil
import signal
import subprocess
import time

import cli

SHAPE = {"layers": 18, "width": 640, "ff_width": 2048, "heads": 4, "kv_heads": 1, "head_dim": 256,
         "window": 512, "context": 32768, "vocabulary": 262144}


class Convert(cli.ModelTest):
    def test_report(self):
        report = cli.ModelTest.conversion
        self.assertEqual(report["model"], "Gemma 3 270M")
        self.assertEqual(report["input_bytes"], self.gguf.stat().st_size)
        self.assertEqual(report["output_bytes"], self.blob.stat().st_size)
        self.assertEqual(report["output"], str(self.blob))

    def test_blob_is_hardly_larger_than_its_source(self):
        self.assertLessEqual(self.blob.stat().st_size, 1.03 * self.gguf.stat().st_size)

    def test_memory(self):
        target = self.folder / "x.lap"
        process = subprocess.Popen([cli.PROGRAM, "convert", self.gguf, "-o", target],
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        self.assertEqual(process.returncode, 0)
        self.assertLess(usage.ru_maxrss * 1024, 400e6)

    def test_output_is_the_same_every_time(self):
        again = self.folder / "again.lap"
        result = cli.run("convert", self.gguf, "-o", again)
        self.assertIn("Gemma 3 270M", result.stdout)
        self.assertEqual(len(result.stdout.splitlines()), 1)
        self.assertEqual(again.read_bytes(), self.blob.read_bytes())

    def test_interrupt_leaves_nothing_behind(self):
        process = subprocess.Popen([cli.PROGRAM, "convert", self.gguf, "-o", self.folder / "x.lap"],
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        while process.poll() is None and not os.listdir(self.folder):
            time.sleep(0.001)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate()
        if process.returncode == 0:
            self.skipTest("the conversion was faster than the interrupt")
        self.assertEqual(process.returncode, -signal.SIGINT)
        self.assertEqual(errors, b"")
        self.assertEqual(os.listdir(self.folder), [])

    def test_quantised_weights_are_only_kept(self):
        result = cli.run("convert", self.gguf, "--type", "q4", "-o", self.folder / "x.lap", status=1)
        self.assertIn("is quantised", result.stderr)
        self.assertEqual(os.listdir(self.folder), [])

    def test_a_text_model_takes_no_vision_tower(self):
        result = cli.run("convert", self.gguf, "--mmproj", self.gguf, "-o", self.folder / "x.lap", status=1)
        self.assertIn("expected the vision part of Gemma 3", result.stderr)

    def test_folder(self):
        result = cli.run("convert", self.folder, "-o", self.folder / "x.lap", status=1)
        self.assertIn("config.json", result.stderr)
        self.assertEqual(len(result.stderr.splitlines()), 1)

    def test_failure_keeps_the_old_file(self):
        target = self.write("x.lap", "precious")
        half = self.folder / "half.gguf"
        shutil.copyfile(self.gguf, half)
        os.truncate(half, self.gguf.stat().st_size // 2)
        cli.run("convert", half, "-o", target, status=1)
        self.assertEqual(target.read_bytes(), b"precious")
        self.assertEqual(sorted(os.listdir(self.folder)), ["half.gguf", "x.lap"])


class Inspect(cli.ModelTest):
    def check(self, report):
        self.assertEqual(report["model"], "Gemma 3 270M")
        for name, value in SHAPE.items():
            self.assertEqual(report["config"][name], value, name)
        self.assertEqual(report["tokenizer_pieces"], 262144)
        tensors = {tensor["name"]: tensor for tensor in report["tensors"]}
        self.assertEqual(len(tensors), 2 + 18 * 13)
        self.assertEqual(tensors["embedding"]["shape"], [262144, 640])
        self.assertEqual(tensors["layers.17.down"]["shape"], [640, 2048])
        self.assertEqual(tensors["final_norm"]["shape"], [640])
        self.assertEqual(sum(total["bytes"] for total in report["formats"].values()),
                         sum(tensor["bytes"] for tensor in tensors.values()))
        self.assertEqual(sum(total["tensors"] for total in report["formats"].values()), len(tensors))
        self.assertLessEqual({"F32", "Q8_0", "Q5_0", "Q4_K", "Q6_K"}, set(report["formats"]))

    def test_blob(self):
        report = cli.run_json("inspect", self.blob, "--verify")
        self.check(report)
        self.assertEqual(report["container"], "blob")
        self.assertEqual(report["provenance"]["source"], self.gguf.name)
        with open(self.gguf, "rb") as file:
            digest = hashlib.file_digest(file, "sha256") if hasattr(hashlib, "file_digest") \
                else hashlib.sha256(file.read())
        self.assertEqual(report["provenance"]["sha256"], digest.hexdigest())
        self.assertTrue(report["verified"])
        self.assertGreater(report["load_s"], 0)

    def test_gguf(self):
        report = cli.run_json("inspect", self.gguf)
        self.check(report)
        self.assertEqual(report["container"], "gguf")
        blob = cli.run_json("inspect", self.blob)
        self.assertEqual(report["tensors"], blob["tensors"])
        self.assertEqual(report["config"], blob["config"])

    def test_memory_plan(self):
        whole = cli.run_json("inspect", self.blob)["kv_cache"]
        self.assertEqual(whole["context"], 32768)
        # 3 global layers, keys and values of 256 bf16 each.
        self.assertEqual(whole["global_layer_bytes"], 32768 * 2 * 256 * 2)
        short = cli.run_json("inspect", self.blob, "--context", 1024)["kv_cache"]
        self.assertEqual(short["global_layer_bytes"], 1024 * 2 * 256 * 2)
        self.assertLess(short["bytes"], whole["bytes"])
        cli.run("inspect", self.blob, "--context", 32769, status=1)

    def test_text(self):
        text = cli.run("inspect", self.blob).stdout
        for expected in ("Gemma 3 270M", "layers.0.q ", "Q4_K", "262144 x 640", "KV cache"):
            self.assertIn(expected, text)

    def test_damage_is_found(self):
        damaged = self.folder / "damaged.lap"
        shutil.copyfile(self.blob, damaged)
        with open(damaged, "r+b") as file:
            file.seek(self.blob.stat().st_size // 2)
            byte = file.read(1)[0]
            file.seek(-1, os.SEEK_CUR)
            file.write(bytes([byte ^ 1]))
        result = cli.run("inspect", damaged, "--verify", status=1)
        self.assertIn("damaged", result.stderr)
        self.assertEqual(result.stdout, "")

    def test_gguf_has_no_checksums(self):
        self.assertIn("no checksums", cli.run("inspect", self.gguf, "--verify", status=1).stderr)


if __name__ == "__main__":
    cli.main()
