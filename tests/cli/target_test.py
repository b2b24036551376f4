"""The instruction set that the program runs on."""

import pathlib
import re
import unittest

import cli

CPU_INFO = pathlib.Path("/proc/cpuinfo")

# What Highway's targets want of a CPU, the best first.
NEEDS = {
    "AVX3_SPR": {"avx512_bf16", "avx512_fp16", "avx512_vbmi2"},
    "AVX3_ZEN4": {"avx512_bf16", "avx512_vbmi2"},
    "AVX3_DL": {"avx512_vnni", "avx512_vbmi2", "vaes"},
    "AVX3": {"avx512f", "avx512bw", "avx512dq", "avx512vl"},
    "AVX2": {"avx2", "fma", "bmi2", "f16c", "aes", "pclmulqdq"},
}


class Target(unittest.TestCase):
    def test_the_best_of_this_cpu(self):
        found = re.search(r"^flags\s*:(.*)$", CPU_INFO.read_text(), re.MULTILINE) if CPU_INFO.exists() else None
        if not found:
            self.skipTest("not an x86-64 Linux")
        flags = set(found.group(1).split())
        expected = next((name for name, needs in NEEDS.items() if needs <= flags), "SSE2")
        self.assertEqual(cli.run("--version").stdout.split(", ")[-1].strip(), expected)


if __name__ == "__main__":
    cli.main()
