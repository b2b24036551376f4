#!/usr/bin/env python3
"""Builds known mistakes of Gemma 3 implementations into a copy of the headers, one at a time, and
checks that the test that guards against each of them fails. (Some are of a kernel that only CPUs
with AVX-512 run, some of one that only those with AMX run.)

    tests/mutations.py [--build build/release] [WORD ...]      only mistakes whose name has a WORD
    tests/mutations.py --check                                 only looks whether each can still be built in

Needs a build directory with the tests built. Compiles one source file of the tests for each
mistake, not optimised much: about a quarter of a minute each. The list is the table of
docs/testing.md for the decoder and its kernels.
"""

import argparse
import json
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent

DECODER = "model/decoder-inl.h"
ATTENTION = "kernels/attention-inl.h"
NORM = "kernels/norm-inl.h"
MATMUL = "kernels/matmul-inl.h"
PAIRS = "kernels/pair_tile-inl.h"
GROUPS = "kernels/group_dot-inl.h"
FLOATS = "float weights"
PRODUCTS = "products equal the scalar twin's*"
AMX = "AMX and vectors agree to the bit*"
PICTURES = "prompts with pictures give the logits of transformers"

# name, header, what is replaced (occurs once), what stands there instead, test file, test case
MUTATIONS = [
    ("query scale from the size of the heads", DECODER,
     "static_cast<float>(kConfig.query_pre_attn_scalar)", "static_cast<float>(kConfig.head_dim)",
     "model/golden_test.cpp", FLOATS),
    ("queries of a prompt's last row left in their place", DECODER,
     "        MoveQueries(r, kept);\n", "",
     "model/session_test.cpp", "logits do not depend on the size of the chunks*"),
    ("residual of a prompt's last row left in its place", DECODER,
     "hwy::CopyBytes(residual_ + r * kWidth, residual_ + kept * kWidth, kWidth * sizeof(float));", "",
     "model/session_test.cpp", "logits do not depend on the size of the chunks*"),
    ("few queries: the last vector of values is the third", ATTENTION,
     "w + 3 * kStep", "w + 2 * kStep",
     "kernels/attention_test.cpp", "attention equals a softmax in double*"),
    ("few queries: every other 64 keys left out", ATTENTION,
     "key + 2 * kTileOutputs <= end_key; key += 2 * kTileOutputs",
     "key + 2 * kTileOutputs <= end_key; key += 4 * kTileOutputs",
     "kernels/attention_test.cpp", "attention equals a softmax in double*"),
    ("scores far below the largest keep a weight", "kernels/simd-inl.h",
     "const auto underflow = hn::Lt(x, hn::Set(d, -87.3f));\n  const VF magic",
     "const auto underflow = hn::Lt(x, x);\n  x = hn::Max(x, hn::Set(d, -87.3f));\n  const VF magic",
     "kernels/attention_test.cpp", "keys that are not visible count for nothing*"),
    ("many sessions in 8 bits though 16 were asked for", "model/model-inl.h",
     "sessions[0]->StepTogether(runs, model.precision)", "sessions[0]->StepTogether(runs, Precision::kFast)",
     "model/fork_test.cpp", "sessions of different lengths step together*"),
    ("many sessions in 16 bits though 8 were asked for", "model/model-inl.h",
     "sessions[0]->StepTogether(runs, model.precision)", "sessions[0]->StepTogether(runs, Precision::kExact)",
     "model/fork_test.cpp", "sessions of different lengths step together*"),
    ("kFast in place: the last rows left out", MATMUL,
     "for (size_t r = 0; r < rows; r += kTile) {", "for (size_t r = 0; r + kTile <= rows; r += kTile) {",
     "kernels/matmul_test.cpp", PRODUCTS),
    ("the time before the first step taken for a step's", "generate/speculation.h",
     "double began_ = -1;", "double began_ = 0; ",
     "generate/speculation_test.cpp", "guessing pays*"),
    ("two tokens found again are worth as many guesses as any", "generate/prompt_lookup.h",
     "if (longest == kShortest) most", "if (longest < kShortest) most",
     "generate/speculation_test.cpp", "prompt lookup continues*"),
    ("behind the text only its first guess is repeated", "generate/prompt_lookup.h",
     "guesses[at - ids.size()]", "guesses[0]",
     "generate/speculation_test.cpp", "prompt lookup continues*"),
    ("who guesses is not told of guesses that came true", "generate/generate-inl.h",
     "    ids.push_back(*id);\n", "    if (!session.Guessed(*id)) ids.push_back(*id);\n",
     "generate/speculation_test.cpp", "no guess is asked for*"),
    ("nobody guesses by default", "generate/options.h",
     "GuessCallback guess = PromptLookup();", "GuessCallback guess = {};",
     "generate/speculation_test.cpp", "a draft model*"),
    ("pairs of a group write one block", MATMUL,
     "c + i * rows * kPairOutputs + t * kTileOutputs", "c + t * kTileOutputs",
     "kernels/matmul_test.cpp", "a team computes every output*"),
    ("float pairs of a group write one block", MATMUL,
     "c + (i * rows + r) * kPairOutputs + t * kTileOutputs", "c + r * kPairOutputs + t * kTileOutputs",
     "kernels/matmul_test.cpp", "a team computes every output*"),
    ("only the first term of them moved", DECODER,
     "head < (KeepsLost() ? 2 : 1) * kKvHeads", "head < kKvHeads",
     "model/session_test.cpp", "logits do not depend on the size of the chunks*"),
    ("RoPE factor on local layers too", DECODER,
     "local_rope_(kConfig.rope_base_local, 1.0,",
     "local_rope_(kConfig.rope_base_local, kConfig.rope_factor_global,",
     "model/golden_test.cpp", FLOATS),
    ("RoPE factor on no layer", DECODER,
     "global_rope_(kConfig.rope_base_global, kConfig.rope_factor_global,",
     "global_rope_(kConfig.rope_base_global, 1.0,",
     "model/golden_test.cpp", FLOATS),
    ("one RoPE base for all layers", DECODER,
     "global_rope_(kConfig.rope_base_global,", "global_rope_(kConfig.rope_base_local,",
     "model/golden_test.cpp", FLOATS),
    ("window of one key more", "kernels/visible_keys.h",
     "position >= window ? position - window + 1", "position > window ? position - window",
     "model/golden_test.cpp", FLOATS),
    ("window of one key less", "kernels/visible_keys.h",
     "position - window + 1 : 0", "position - window + 2 : 0",
     "model/golden_test.cpp", FLOATS),
    ("ring without room for a chunk", "model/kv_cache.h",
     "static_cast<std::size_t>(config.window) + chunk - 1", "static_cast<std::size_t>(config.window)",
     "model/ring_test.cpp", "rings that come round*"),
    ("positions from a ring", DECODER,
     "global_rope_.Row(rows_[r].position,",
     "global_rope_.Row(rows_[r].position % kConfig.window,",
     "model/golden_test.cpp", FLOATS),
    ("rewinding answers from stale rows", "model/kv_cache.h",
     "return written_ == 0 || first + plan_.local_pages * kPageKeys >= written_;", "return true;",
     "model/ring_test.cpp", "rewinding within the ring is exact*"),
    ("one position for all sessions of a step", DECODER,
     "return KeysOfQuery(rows_[r].position, rows_[r].block_end,",
     "return KeysOfQuery(rows_[0].position, rows_[0].block_end,",
     "model/fork_test.cpp", "sessions of different lengths step together*"),
    ("a row that sees nothing becomes NaN", ATTENTION,
     "if (page_sum == 0.0f) return;", "",
     "kernels/attention_test.cpp", "a row that sees nothing of a page*"),
    ("hidden keys count a little", ATTENTION,
     "hn::IfThenElse(hn::RebindMask(d, visible), hn::LoadU(d, scores + i), lowest)",
     "hn::IfThenElse(hn::RebindMask(d, visible), hn::LoadU(d, scores + i), hn::Set(d, -20.0f))",
     "kernels/attention_test.cpp", "keys that are not visible count for nothing*"),
    ("angles in f32", "model/rope-inl.h",
     "std::cos(static_cast<double>(p) * step)",
     "std::cos(static_cast<float>(p) * static_cast<float>(step))",
     "model/rope_test.cpp", "angles are right to the last bit*"),
    ("residual stream in f16", NORM,
     "hn::StoreU(hn::Add(hn::LoadU(d, residual + i), v), d, residual + i);",
     "hn::StoreU(hn::PromoteTo(d, hn::DemoteTo(hn::Rebind<hwy::float16_t, DF>(), "
     "hn::Add(hn::LoadU(d, residual + i), v))), d, residual + i);",
     "kernels/norm_test.cpp", "the residual stream holds several hundred thousand"),
    ("sums of a group in 16 bits", "kernels/quantize-inl.h",
     "factors.first_half = hn::GetLane(sums);",
     "factors.first_half = static_cast<int16_t>(hn::GetLane(sums));",
     "kernels/quantize_test.cpp", "activations are stored in every form*"),
    ("a group's second half has the sum of its first", GROUPS,
     "x.first_half : x.sum - x.first_half;", "x.first_half : x.first_half;",
     "kernels/matmul_test.cpp", PRODUCTS),
    ("minima times the sum of a whole group, not of its half", GROUPS,
     "  if constexpr (kTraits.group == kActivationGroup) return x.value_sum;",
     "  if constexpr (kTraits.group != 0) return x.value_sum;",
     "kernels/matmul_test.cpp", PRODUCTS),
    ("minima forgotten", GROUPS,
     "      if constexpr (kTraits.has_min) {", "      if constexpr (false) {",
     "kernels/matmul_test.cpp", PRODUCTS),
    ("one row takes the high plane for both", GROUPS,
     "bytes[kRows + r] = low_bytes[r];", "bytes[kRows + r] = high_bytes[r];",
     "kernels/matmul_test.cpp", PRODUCTS),
    ("a block of one row is left, in the form of many (of CPUs without byte dot products)",
     "kernels/team_matmul-inl.h",
     "const Range mine = lapidary::PartOf(rows, i / count, row_blocks);",
     "const Range mine = {i / count * block, std::min(i / count * block + block, rows)};",
     "kernels/matmul_test.cpp", "a team computes every output*"),
    ("kExact drops what rounding lost of queries (of CPUs with bf16 products)", DECODER,
     "return kHasBF16Dot && precision_ == Precision::kExact;", "return false;",
     "model/golden_test.cpp", FLOATS),
    ("gain of RMSNorm plus 1", NORM,
     "const VF v = hn::Mul(hn::Mul(hn::LoadU(d, x + i), scale), hn::LoadU(d, gain + i));\n    hn::StoreU(v, d, out + i);",
     "const VF v = hn::Mul(hn::Mul(hn::LoadU(d, x + i), scale), hn::Add(hn::Set(d, 1.0f), hn::LoadU(d, gain + i)));\n    hn::StoreU(v, d, out + i);",
     "kernels/norm_test.cpp", "RMSNorm divides by the root mean square*"),
    ("queries are not normalised", DECODER,
     "RmsNorm(x, w.q_norm, kHeadDim, kEpsilon, rotated);",
     "hwy::CopyBytes(x, rotated, kHeadDim * sizeof(float));",
     "model/golden_test.cpp", FLOATS),
    ("keys are not normalised", DECODER,
     "RmsNorm(x, w.k_norm, kHeadDim, kEpsilon, rotated);",
     "hwy::CopyBytes(x, rotated, kHeadDim * sizeof(float));",
     "model/golden_test.cpp", FLOATS),
    ("norms in front only", DECODER,
     "AddRmsNorm(projected_ + r * kWidth, w.post_attention_norm, kWidth, kEpsilon,\n                 residual_ + r * kWidth);",
     "for (size_t i = 0; i < kWidth; ++i) residual_[r * kWidth + i] += projected_[r * kWidth + i];",
     "model/golden_test.cpp", FLOATS),
    ("GELU of another form", NORM,
     "hn::Set(d, 0.044715f)", "hn::Set(d, 0.0f)",
     "kernels/norm_test.cpp", "GELU is the tanh form"),
    ("soft cap on scores", ATTENTION,
     "    if (kScaled) MultiplyByScales(page.keys.scales,",
     "    for (size_t i = 0; i < kPageKeys; ++i) scores[i] = 50 * std::tanh(scores[i] / 50);\n"
     "    if (kScaled) MultiplyByScales(page.keys.scales,",
     "kernels/attention_test.cpp", "there is no soft cap*"),
    ("keys and values truncated to bf16", ATTENTION,
     "to[place(i + j)] = rounded[j];",
     "{\n      uint32_t bits;\n      hwy::CopyBytes<4>(x + i + j, &bits);\n"
     "      const auto high = static_cast<uint16_t>(bits >> 16);\n"
     "      hwy::CopyBytes<2>(&high, to + place(i + j));\n    }",
     "kernels/attention_test.cpp", "keys and values have their places in a page*"),
    ("factor of the embedding not rounded to bf16", DECODER,
     "hwy::F32FromBF16(hwy::BF16FromF32(std::sqrt(static_cast<float>(width))))",
     "std::sqrt(static_cast<float>(width))",
     "model/golden_test.cpp", "the factor of the embedding is rounded to bf16"),
    ("values that fill half a tile are left out", ATTENTION,
     "if constexpr (ValueDim::value % kTileOutputs != 0) {", "if constexpr (false) {",
     "kernels/attention_test.cpp", "attention equals a softmax in double*"),
    ("the variances of one session for all", "kernels/coarse-inl.h",
     "largest[g] = std::max(largest[g], x.variances[r * groups + g]);", "",
     "kernels/coarse_test.cpp", "the bound of a panel*"),
    ("2 bits trusted as if they were 4", "kernels/coarse-inl.h",
     "CoarseVariance(to.fine[g])", "CoarseVariance(true)",
     "kernels/coarse_test.cpp", "the bounds of one row take the middle bits*"),
    ("the quietest groups are read closely", "kernels/coarse-inl.h",
     "squares[g] > squares[largest]", "squares[g] < squares[largest]",
     "kernels/coarse_test.cpp", "the groups with the largest squares*"),
    ("panels of which 2 bits leave doubt are let go", "model/output_head-inl.h",
     "bounds[panels[2 * i + p]] = closer[p];", "bounds[panels[2 * i + p]] = NAN;",
     "model/output_head_test.cpp", "the best tokens and their logits*"),
    ("f16 rounded from the wrong half", "kernels/pair_tile-inl.h",
     "hn::OrderedDemote2To(DBF16(), hn::PromoteLowerTo(DF(), halves),", "hn::OrderedDemote2To(DBF16(), hn::PromoteUpperTo(DF(), halves),",
     "kernels/matmul_test.cpp", "products equal the scalar twin's*"),
    ("the second tile of rows in place is the first", "kernels/matmul-inl.h",
     "panels, panels.cols, x, row0 + r,", "panels, panels.cols, x, row0,",
     "kernels/matmul_test.cpp", "products equal the scalar twin's*"),
    ("rows of pictures are scaled as text is", DECODER,
     "hwy::CopyBytes(rows_[r].embedding, residual, kWidth * sizeof(float));",
     "hwy::CopyBytes(rows_[r].embedding, residual, kWidth * sizeof(float));\n"
     "        Scale(residual, kWidth, factor);",
     "model/vision_test.cpp", PICTURES),
    ("pictures are causal", DECODER,
     "run.position + (pictured ? image->end() - 1 : i)", "run.position + i",
     "model/vision_test.cpp", PICTURES),
    ("scales of 8-bit keys forgotten", ATTENTION,
     "if (kScaled) MultiplyByScales(", "if (false) MultiplyByScales(",
     "kernels/attention_test.cpp", "attention equals a softmax in double*"),
    ("scales of 8-bit values forgotten", ATTENTION,
     "kScaled ? page.values.scales : nullptr", "nullptr",
     "kernels/attention_test.cpp", "attention equals a softmax in double*"),
    ("any alignment is accepted", "weights/gguf.h",
     "if (place.offset % alignment != 0) {", "if (false) {",
     "weights/gguf_test.cpp", "impossible tensors are refused"),
    ("an embedding of more rows moves the rows behind it", "weights/import.h",
     "if (padded && out.source_rows > out.rows) {", "if (false) {",
     "weights/import_test.cpp", "an embedding without the rows behind the text is filled up"),
    ("AMX: rows of the last tile are added twice", "kernels/amx_quant-inl.h",
     "row + r, next - r, c +", "row + r, 0, c +",
     "kernels/matmul_test.cpp", AMX),
    ("AMX: codes keep the zero of their format", "kernels/unpack-inl.h",
     "if constexpr (kSigned && kSpec.zero != 0) {", "if constexpr (false && kSpec.zero != 0) {",
     "kernels/matmul_test.cpp", AMX),
    ("AMX: even inputs stand for odd ones", PAIRS,
     "hn::MulAdd(values[2 * i + 1], scale, start)", "hn::MulAdd(values[2 * i], scale, start)",
     "kernels/matmul_test.cpp", PRODUCTS),
    ("AMX: what bf16 lost of an activation is not added", PAIRS,
     "hn::Add(hn::LoadU(d, sum), hn::Load(d, second + i))", "hn::LoadU(d, sum)",
     "kernels/matmul_test.cpp", PRODUCTS),
    ("AMX: inputs that fill no step are left out", PAIRS,
     "if (rest != 0) multiply(", "if (false) multiply(",
     "kernels/matmul_test.cpp", PRODUCTS),
    ("formats of a group are not told apart", MATMUL,
     "return format == group[i].format;", "return true;",
     "kernels/matmul_test.cpp", "a team computes every output*"),
    ("AMX: a format beside bf16 is taken for bf16", MATMUL,
     "count_alike(in_bf16);", "count_alike([](Format) { return true; });",
     "kernels/matmul_test.cpp", "a team computes every output*"),
    ("AMX: steps over values begin where the first visible key is", ATTENTION,
     "first / (2 * kBlockKeys) * 2;", "first / kBlockKeys;",
     "kernels/attention_test.cpp", "attention equals a softmax in double*"),
]


class Unit:
    """A source file of the tests: how it is compiled, and what its program is linked with."""

    def __init__(self, build, source):
        path = ROOT / "tests" / source
        entry = next((e for e in json.loads((build / "compile_commands.json").read_text())
                      if e["file"] == str(path)), None)
        if entry is None:
            sys.exit(f"{build}: has no test {source}")
        self.directory = entry["directory"]
        self.compile = shlex.split(entry["command"])
        program = re.search(r"(\w+_test)\.dir", entry["command"]).group(1)
        commands = subprocess.run(["ninja", "-C", build, "-t", "commands", f"tests/{program}"], check=True,
                                  capture_output=True, text=True).stdout.splitlines()
        link = next(c for c in reversed(commands) if f"-o tests/{program} " in c)
        words = shlex.split(link.split("&&")[1])
        self.libraries = words[words.index("-o") + 2:]

    def program(self, include, output):
        """Compiles and links the file against a folder of headers; says how that went."""
        words = [f"-I{include}" if word == f"-I{ROOT / 'include'}" else word for word in self.compile]
        words[words.index("-o") + 1] = f"{output}.o"
        compiler = words[0]
        for command in (words + ["-O1", "-w"], [compiler, f"{output}.o", "-o", output, *self.libraries]):
            done = subprocess.run(command, cwd=self.directory, capture_output=True, text=True)
            if done.returncode != 0:
                return done.stderr
        return ""


def passes(program, case):
    """Whether the test case passes; None if there is none of that name."""
    listed = subprocess.run([program, "--list-tests", case], capture_output=True, text=True).stdout
    if re.search(r"^0 matching", listed, re.MULTILINE):
        return None
    return subprocess.run([program, case], capture_output=True).returncode == 0


def check():
    """Whether the text that each mistake replaces stands once in its header, and its test exists."""
    stale = [f"{name}: {header} has its text {found} times" for name, header, old, *_ in MUTATIONS
             if (found := (ROOT / "include/lapidary" / header).read_text().count(old)) != 1]
    for name, _, _, _, source, case in MUTATIONS:
        # A long name stands in pieces, or behind a line break.
        text = re.sub(r'"\s*\n\s*"|(?<=TEST_CASE\()\s+', "", (ROOT / "tests" / source).read_text())
        if f'TEST_CASE("{case.removesuffix("*")}' not in text:
            stale.append(f"{name}: {source} has no such case")
    print("\n".join(stale) or f"{len(MUTATIONS)} mistakes can be built in")
    return 1 if stale else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build/release")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("words", nargs="*", metavar="WORD")
    args = parser.parse_args()
    if args.check:
        return check()
    build = args.build.resolve()
    chosen = [m for m in MUTATIONS if not args.words or any(word in m[0] for word in args.words)]
    units, failed = {}, 0
    with tempfile.TemporaryDirectory() as folder:
        work = pathlib.Path(folder)
        for name, header, old, new, source, case in chosen:
            include = work / "include"
            if source not in units:
                unit = units[source] = Unit(build, source)
                unit.sane = work / pathlib.Path(source).stem
                if error := unit.program(ROOT / "include", unit.sane):
                    sys.exit(f"{source} without a mistake: {error}")
            unit = units[source]
            shutil.rmtree(include, ignore_errors=True)
            shutil.copytree(ROOT / "include", include)
            path = include / "lapidary" / header
            text = path.read_text()
            if text.count(old) != 1:
                sys.exit(f"{name}: expected once in {header}, found {text.count(old)} times: {old}")
            path.write_text(text.replace(old, new))
            if passes(unit.sane, case) is not True:
                verdict = "the test does not pass without the mistake"
            elif error := unit.program(include, work / "mutant"):
                verdict = f"does not compile: {error.splitlines()[0]}"
            else:
                verdict = "NOT noticed" if passes(work / "mutant", case) else ""
            failed += verdict != ""
            print(f"{verdict or 'noticed'}: {name} ({source}: {case})", flush=True)
    print(f"{len(chosen) - failed} of {len(chosen)} mistakes are noticed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
