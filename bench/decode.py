#!/usr/bin/env python3
"""Ways to decode, in alternation: the whole output head, the best token only, and guesses.

    bench/decode.py --lapidary build/release/examples/lapidary -m gemma-3-270m.lap [--draft SMALLER] [-r 3]

Prints tables for docs/decoding.md. Texts with and without guesses, and with the whole
head, must be equal, or the script fails.
"""

import argparse
import json
import statistics
import subprocess
import sys

COPYING = {
    "text, again": "Original: The quick brown fox jumps over the lazy dog while the farmer watches from the old wooden "
                   "fence near the river bank, thinking about the long winter that is about to come and the firewood that "
                   "he still has to cut before the first snow falls on the northern hills.\nThe same text again: The quick "
                   "brown fox jumps over the lazy dog while",
    "code": "def mean(values):\n    total = 0\n    for value in values:\n        total += value\n    return total / "
            "len(values)\n\ndef variance(values):\n    center = mean(values)\n    total = 0\n    for value in values:\n"
            "        total += (value - center) ** 2\n    return total / len(values)\n\n# The same two functions once "
            "more, with a check for empty input.\ndef mean(values):\n    total = 0\n    for value in values:\n",
    "table": "Name, City, Age\nAnna Schmidt, Berlin, 34\nPeter Novak, Prague, 41\nMaria Rossi, Milan, 29\nJohn Smith, "
             "London, 52\nClaire Dubois, Lyon, 38\nLars Jensen, Copenhagen, 45\n\nAs a table:\n| Name | City | Age |\n"
             "| Anna Schmidt | Berlin | 34 |\n| Peter Novak | Prague | 41 |\n",
    "quotation": "\"We hold these truths to be self-evident, that all men are created equal, that they are endowed by "
                 "their Creator with certain unalienable Rights, that among these are Life, Liberty and the pursuit of "
                 "Happiness.\"\n\nHe read the paragraph aloud, slowly: \"We hold these truths to be",
    "JSON": "{\"id\": 1, \"name\": \"lamp\", \"price\": 20, \"tags\": [\"light\", \"home\"]}\n{\"id\": 2, \"name\": "
            "\"chair\", \"price\": 45, \"tags\": [\"seat\", \"home\"]}\n{\"id\": 3, \"name\": \"table\", \"price\": 120, "
            "\"tags\": [\"wood\", \"home\"]}\n{\"id\": 4,",
}
FREE = {
    "story": "Once upon a time in a small village by the sea there lived",
    "physics": "The theory of general relativity, published in 1915, describes",
    "recipe": "My favourite recipe for a warm autumn soup begins with",
    "letter": "Dear Sir or Madam, I am writing to you because",
    "history": "The economic history of the nineteenth century was shaped by",
}
OTHER = {
    "Spanish": "Había una vez un pescador que vivía con su hija en una",
    "French": "Le musée ouvre ses portes tous les jours sauf",
    "German": "Im Winter fahren viele Leute in die Berge, weil",
    "Chinese": "北京是中国的首都，这座城市",
    "C": "#include <stdio.h>\n\nint main(int argc, char** argv) {\n",
    "HTML": "<!DOCTYPE html>\n<html>\n<head>\n<title>",
    "numbers": "The first thirty prime numbers are 2, 3, 5, 7, 11, 13,",
    "question": "Question: Why do leaves turn red in autumn?\nAnswer:",
    "list": "Ten things to bring on a long hike:\n1. Water\n2.",
    "dialogue": "\"Where have you been?\" she asked.\n\"I was",
}


PROMPTS = {**COPYING, **FREE, **OTHER}
# As `lapidary chat` draws.
DRAWN = ["--temp", 1, "--top-k", 64, "--top-p", 0.95]


def run(program, *arguments):
    process = subprocess.run([program, *map(str, arguments), "--json"], stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(process.stdout)


def heads(args):
    speeds = {"whole head": [], "best token": []}
    for _ in range(args.runs):
        for name, flags in (("whole head", ["--all-logits"]), ("best token", [])):
            report = run(args.lapidary, "bench", "-m", args.model, "-p", 64, "-n", 96, "-r", 3, *flags)
            speeds[name].append(report["decode_tok_s"])
    whole, best = (statistics.median(v) for v in speeds.values())
    print(f"| decode | tokens/s |\n|---|---:|\n| whole head | {whole:.1f} |\n"
          f"| best token | {best:.1f} ({best / whole:.2f}x) |\n")


def compare_heads(args):
    """Greedy texts, and the same drawn at a temperature that leaves only the likeliest token, for which the whole
    head is read."""
    for name, prompt in PROMPTS.items():
        flags = ("generate", "-m", args.model, "-p", prompt, "-n", args.compare, "--no-lookup")
        if run(args.lapidary, *flags)["ids"] != run(args.lapidary, *flags, "--temp", 1e-6)["ids"]:
            sys.exit(f"{name}: the best token is not that of the whole head")
    print(f"Best tokens are those of the whole head: {len(PROMPTS)} prompts, {args.compare} tokens each.\n")


def guesses(args, title, flags):
    print(f"| {title} | tokens/s without | with | | true guesses |\n|---|---:|---:|---:|---:|")
    for kind, prompts, drawn in (("copying", COPYING, []), ("free", FREE, []), ("drawn", {**FREE, **OTHER}, DRAWN)):
        ratios, seconds = [], [0, 0]
        for name, prompt in prompts.items():
            speeds, reports = ([], []), {}
            for _ in range(args.runs):
                for i, way in enumerate((["--no-lookup"], flags)):
                    reports[i] = run(args.lapidary, "generate", "-m", args.model, "-p", prompt, "-n", args.tokens,
                                     *drawn, *way)
                    speeds[i].append(reports[i]["decode_tok_s"])
            if reports[0]["ids"] != reports[1]["ids"]:
                sys.exit(f"{name}: guesses changed the text")
            plain, guessed = map(statistics.median, speeds)
            ratios.append(guessed / plain)
            for i, speed in enumerate((plain, guessed)):
                seconds[i] += len(reports[i]["ids"]) / speed
            print(f"| {kind}: {name} | {plain:.1f} | {guessed:.1f} | {guessed / plain:.2f}x "
                  f"| {reports[1]['guesses_true']} of {reports[1]['guesses']} |")
        print(f"| {kind}: all, median, least | | | {seconds[0] / seconds[1]:.2f}x, {statistics.median(ratios):.2f}x, "
              f"{min(ratios):.2f}x | |", flush=True)
    print()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--lapidary", required=True)
    parser.add_argument("-m", "--model", required=True)
    parser.add_argument("--draft")
    parser.add_argument("-n", "--tokens", type=int, default=192)
    parser.add_argument("-r", "--runs", type=int, default=3)
    parser.add_argument("--compare", type=int, default=256, help="tokens of each text that compares the heads")
    args = parser.parse_args()
    compare_heads(args)
    heads(args)
    guesses(args, "prompt lookup", [])
    if args.draft:
        guesses(args, "draft model", ["--draft", args.draft])


if __name__ == "__main__":
    main()
