#!/usr/bin/env python3
"""Makes the folder that OpenVINO GenAI reads from a GGUF file; compare.py starts it.

    openvino_export.py FILE.gguf FOLDER --weights int8|int4

The weights are decoded to float32 by transformers and compressed again by optimum-intel, so that they are not those
of the file: good for speed, not for accuracy. Runs in the virtual environment that compare.py makes.
"""

import argparse
import pathlib
import subprocess
import sys
import tempfile

from transformers import AutoModelForCausalLM, AutoTokenizer


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("gguf", type=pathlib.Path)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--weights", choices=["int8", "int4"], required=True)
    args = parser.parse_args()

    with tempfile.TemporaryDirectory(dir=args.folder.parent) as temporary:
        for kind in (AutoModelForCausalLM, AutoTokenizer):
            kind.from_pretrained(args.gguf.parent, gguf_file=args.gguf.name).save_pretrained(temporary)
        optimum = pathlib.Path(sys.executable).parent / "optimum-cli"
        exported = pathlib.Path(temporary) / "openvino"
        subprocess.run([optimum, "export", "openvino", "--model", temporary, "--task", "text-generation-with-past",
                        "--weight-format", args.weights, exported], check=True)
        exported.rename(args.folder)


if __name__ == "__main__":
    main()
