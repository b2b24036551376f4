#!/usr/bin/env python3
"""Makes tokenizer.json: texts and the ids that Gemma 3's vocabulary gives them.

    make_tokenizer.py GGUF

GGUF is the published gemma-3-270m-q4_k_m.gguf, which holds the vocabulary of all Gemma 3 models.

Where the truth comes from. The ids are those of Hugging Face's `tokenizers`, whose BPE is a program of
its own (Rust) and has nothing in common with sentencepiece, on which the library is built. It is given
the vocabulary in the form of the published tokenizer.json:
- merges: every way to cut an ordinary piece into two ordinary pieces, ranked by the piece's score, as
  transformers converts sentencepiece models;
- spaces written as U+2581, runs of them included (GGUF files hold these with real spaces; reading the
  GGUF with transformers keeps them so and splits 50 spaces into 16 + 16 + 18 instead of 31 + 19);
- newline runs, space runs, tab runs and HTML tags as added tokens, longest match first;
- control pieces as added tokens for "parsed" and "chats", and not at all for "plain".

A second witness is sentencepiece 0.2 over the same pieces. The two may differ where one piece can be
built in two ways (`tokenizers` ranks the ways, sentencepiece goes from left to right); the script says
where they do and leaves such texts out. Beside that, facts known from the published tokenizer are checked.

"chats" are laid out by render() below, which follows the published Jinja template line by line, and then
parsed with control pieces, as transformers does.

Made with tokenizers 0.23.3, sentencepiece 0.2.3 and gguf 0.19.0. The random texts come from a fixed seed.
"""

import json
import pathlib
import random
import re
import struct
import sys

import gguf
import sentencepiece
import tokenizers

HERE = pathlib.Path(__file__).resolve().parent
SPACE = "\u2581"
TAGS = ("table caption thead tbody tfoot tr th td h1 h2 h3 h4 h5 h6 blockquote strong em b i u s sub "
        "sup code a html body img span bbox ul li div iframe footer").split()
CONTROL = re.compile(
    r"<pad>|<eos>|<bos>|<mask>|\[multimodal\]|<unused\d+>|<(start|end)_of_(turn|image)>")


def read_vocabulary(path):
    reader = gguf.GGUFReader(path)
    tokens = reader.fields["tokenizer.ggml.tokens"]
    scores = reader.fields["tokenizer.ggml.scores"]
    pieces = [bytes(tokens.parts[i]).decode() for i in tokens.data]
    return pieces, [float(scores.parts[i][0]) for i in scores.data]


def kind(piece):
    if piece == "<unk>":
        return "unknown"
    if CONTROL.fullmatch(piece):
        return "control"
    if re.fullmatch(r"<0x[0-9A-F]{2}>", piece):
        return "byte"
    if re.fullmatch(r"\n+|\t+| {2,}", piece) or re.fullmatch(r"</?(\w+)>", piece) and \
            piece.strip("</>") in TAGS:
        return "user"
    return "normal"


def bpe(pieces, scores, kinds, with_control):
    vocabulary = {piece: i for i, piece in enumerate(pieces)}
    normal = {p for p, k in zip(pieces, kinds) if k == "normal"}
    order = sorted((i for i, k in enumerate(kinds) if k == "normal"), key=lambda i: -scores[i])
    merges = []
    for i in order:
        cuts = [(pieces[i][:n], pieces[i][n:]) for n in range(1, len(pieces[i]))]
        cuts = [cut for cut in cuts if cut[0] in normal and cut[1] in normal]
        merges += sorted(cuts, key=lambda cut: (vocabulary[cut[0]], vocabulary[cut[1]]))
    model = tokenizers.models.BPE(
        vocab=vocabulary, merges=merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True)
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.normalizer = tokenizers.normalizers.Replace(" ", SPACE)
    # normalized: space runs are looked for where spaces are U+2581 already.
    tokenizer.add_tokens([tokenizers.AddedToken(p, normalized=SPACE in p)
                          for p, k in zip(pieces, kinds) if k == "user"])
    if with_control:
        tokenizer.add_special_tokens([tokenizers.AddedToken(p, normalized=False, special=True)
                                      for p, k in zip(pieces, kinds) if k in ("control", "unknown")])
    assert tokenizer.get_vocab_size() == len(pieces)
    return tokenizer


def wire(number, value):
    """A field of a protocol buffer message."""

    def varint(n):
        return bytes([n]) if n < 128 else bytes([n & 127 | 128]) + varint(n >> 7)

    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    if isinstance(value, float):
        return varint(number << 3 | 5) + struct.pack("<f", value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def sentencepiece_model(pieces, scores, kinds):
    """The field numbers are those of sentencepiece_model.proto."""
    types = {"normal": 1, "unknown": 2, "control": 3, "user": 4, "byte": 6}
    model = [wire(1, wire(1, piece.encode()) + wire(2, score) + wire(3, types[k]))
             for piece, score, k in zip(pieces, scores, kinds)]
    model.append(wire(2, wire(3, 2) + wire(35, 1)))  # byte-pair encoding, byte fallback
    # No space put in front, none taken away, all written as U+2581.
    model.append(wire(3, wire(1, b"identity") + wire(3, 0) + wire(4, 0) + wire(5, 1)))
    return sentencepiece.SentencePieceProcessor(model_proto=b"".join(model))


PLAIN = """\
Hello
 Hello
  Hello
Hello 
Hello, world!
The quick brown fox jumps over the lazy dog.
Don't, can't, won't; it's 10 o'clock.
iPhone 15 Pro Max costs $1,299.00 (or €1.199,00).
0 1 12 123 1234 12345 123456789 3.14159 1e-10 0x1F 0b1011
antidisestablishmentarianism Pneumonoultramicroscopicsilicovolcanoconiosis
https://example.com/a/b?c=d&e=f#g mailto:someone@example.org
ÀÉÎÕÜ àéîõü ñ ß ø å æ œ ł ž ğ ı
Straße, Größe, Äpfel; Übermut
El niño comió piñas en la montaña. ¿Qué? ¡Sí!
Le cœur a ses raisons que la raison ne connaît point.
Zażółć gęślą jaźń
Příliš žluťoučký kůň úpěl ďábelské ódy
Pijamalı hasta yağız şoföre çabucak güvendi
Tôi có thể ăn thủy tinh mà không hại gì.
Съешь же ещё этих мягких французских булок, да выпей чаю
Щастям б'єш жук їх глицю в фон й ґедзь пріч
Ξεσκεπάζω την ψυχοφθόρα βδελυγμία
Բարեւ ձեզ, աշխարհ
გამარჯობა მსოფლიო
שלום עולם, מה שלומך?
مرحبا بالعالم، كيف حالك؟
سلام دنیا، حال شما چطور است؟
آپ کیسے ہیں؟
नमस्ते दुनिया, आप कैसे हैं?
ওহে বিশ্ব
ਸਤ ਸ੍ਰੀ ਅਕਾਲ
હેલો વિશ્વ
வணக்கம் உலகம்
హలో ప్రపంచం
ನಮಸ್ಕಾರ ಪ್ರಪಂಚ
ഹലോ വേൾഡ്
හෙලෝ වර්ල්ඩ්
สวัสดีชาวโลก
ສະບາຍດີຊາວໂລກ
မင်္ဂလာပါကမ္ဘာလောက
សួស្តី​ពិភពលោក
བཀྲ་ཤིས་བདེ་ལེགས།
ሰላም ልዑል
ᎣᏏᏲ ᎡᎶᎯ
ᐊᐃᓐᖓᐃ
ᠮᠣᠩᠭᠣᠯ ᠪᠢᠴᠢᠭ
你好，世界！今天天气很好。
繁體中文與简体中文
こんにちは世界。カタカナとひらがな、漢字。
ﾊﾝｶｸ ｶﾀｶﾅ
안녕하세요 세계
가각간 각
𠮷野家で𩸽を食べる
𝔘𝔫𝔦𝔠𝔬𝔡𝔢 𝒞𝓊𝓇𝓈𝒾𝓋ℯ 𝟘𝟙𝟚
🙂 😀😃😄 👍🏽 👩‍👩‍👧‍👦 🏳️‍🌈 🇩🇪🇫🇷
ⓐⓑⓒ ① ② Ⅷ ½ ¾ ² ³ ™ © ®
∀x∈ℝ: ⌈x⌉ = −⌊−x⌋, α ∧ ¬β → γ
─│┌┐└┘├┤ ░▒▓█ ◆●★
a\u0301 e\u0301 \u0041\u030a
\u200b\u200c\u200d\u200e\ufeff zero width
\u00a0no-break\u202fspaces\u3000ideographic\u2003em
\ue000\uf8ff private use \U000f0000
\U0001F9FF\U0001FAE8 \U00012000\U00010330\U00013000
\ufffd replacement \ufffd
\ufdd0 \uffff \U0010ffff
\u0000
a\u0000b\u0000\u0000c
\u0001\u0002\u0007\u0008\u000b\u000c\u001b[0m\u007f\u0085
\\
\\\\
"quoted" 'single' `back` “curly” „low“ «guillemets»
a  b
a   b    c
x      y
  two leading
trailing two  
 
  
   
<table><tr><td>1</td></tr></table>
<h1>Title</h1> <p>para</p> <b>bold</b><i>it</i>
<ul><li>a</li></ul><div><span>b</span></div><br/>
</s>
<s>text</s>
<TABLE> <Table > < table> <table
<blockquote>x</blockquote><code>y</code><iframe></iframe><footer>
<bbox></bbox><sub>2</sub><sup>3</sup><a>b</a><img><html><body>
<bos>
<eos><pad><unk><mask>[multimodal]
<start_of_turn>user
ok<end_of_turn>
<start_of_image> <end_of_image> <image_soft_token>
<unused0><unused99><unused6241>
[@BOS@] <|endoftext|> <|im_start|> [INST] <<SYS>>
<0x0A><0x41> <0xFF>
#include <vector>
int main() { return 0; }
for (int i = 0; i < n; ++i) sum += a[i] * b[i];
if x != None and y >= 3: return {"k": [1, 2.5, True]}
SELECT * FROM users WHERE id = 42 AND name LIKE '%x%';
fn main() -> Result<(), Box<dyn Error>> { Ok(()) }
const f = async (x) => await g(x) ?? `t ${x}`;
$ grep -rn "foo" . | awk '{print $1}' > out.txt 2>&1
\\frac{a}{b} \\sum_{i=0}^{n} x_i^2
a=b; a==b; a===b; a!=b; a<=b; a=>b; a->b; a<<b; a>>b; a&&b; a||b
-----
==========
....................
!!!!!!!!!!!
aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa
hahahahahahahahahaha
CamelCaseIdentifier snake_case_identifier kebab-case SCREAMING_CASE
ok, so... what?! (really) [yes] {no} <maybe>
50% of 3/4 is ~0.375; 7±2; 5×5=25; 10÷2=5; 20°C
A.B.C. U.S.A. e.g. i.e. etc. Dr. Mr.
1,000,000 2.000.000 3 000 000 ١٢٣ १२३ 一二三
Fähre über die Straße 東京 Москва القاهرة मुंबई mixed in one line 😀"""


def plain_texts(pieces, kinds, rng):
    texts = PLAIN.split("\n")
    texts.append("")
    for n in (1, 2, 3, 15, 30, 31, 32, 33, 40, 62, 63, 100):
        texts += ["\n" * n, " " * n, "\t" * n, "x" + "\n" * n + "y", "x" + " " * n + "y"]
    texts += [" " * 50 + "fifty", "\r\n", "a\r\nb\r\n\r\nc", "\n \n  \n", " \n", "\t \t  \t", "\n\t\n\t\t\n",
              "def f(x):\n    if x:\n        return 1\n\treturn 2\n\n\nclass A:\n    pass\n",
              "ok<end_of_turn>\n<start_of_turn>model\nYes", "line one\nline two\n\nline four\n",
              "<ul>\n  <li>a</li>\n  <li>b</li>\n</ul>\n", "{\n\t\"a\": [\n\t\t1,\n\t\t2\n\t]\n}\n"]
    # Neighbours that nobody would write reach the rare pieces of every script.
    normal = [p.replace(SPACE, " ") for p, k in zip(pieces, kinds) if k == "normal"]
    usual = [p for p, k in zip(pieces, kinds) if k == "user"]
    for _ in range(120):
        texts.append("".join(rng.choice(usual if rng.random() < 0.1 else normal)
                             for _ in range(rng.randint(1, 12))).replace(SPACE, " "))
    for _ in range(30):  # any characters at all
        texts.append("".join(chr(rng.choice([rng.randint(0, 0x7f), rng.randint(0x80, 0xd7ff),
                                             rng.randint(0xe000, 0x10ffff)]))
                             for _ in range(rng.randint(1, 12))).replace(SPACE, " "))
    return list(dict.fromkeys(texts))


INVALID = ["ff", "80", "61ff62", "c3", "c328", "e282", "e28261", "e28228a1", "f09f98", "f09f9841", "eda080",
           "f4908080", "c0af", "f8888080", "e282ac80", "2080200a0aff", "c3a9c3", "fffefd", "00ff00"]

PARSED = ["<bos>Hello", "Hello<eos>", "<bos><start_of_turn>user\nHi<end_of_turn>\n<start_of_turn>model\n",
          "<unused1><unused10><unused100>", "<unused1", "<unused9999>", "a<<bos>>b", "[multimodal][x]", "<unk><pad>",
          "<start_of_image>\n\n<end_of_image>", "<end_of_turn><end_of_turn>", " <bos> ", "<start_of_turn", "<",
          "[", "<b><bos></b>", "\n<mask>\n\n"]

CHATS = [
    [("user", "Hello")],
    [("user", "  Hello \n")],
    [("system", "Be brief."), ("user", "Why is the sky blue?")],
    [("system", " keep my spaces \n"), ("user", "\n\nHi")],
    [("user", "Hi"), ("model", "Hello! How can I help?"), ("user", "Tell me a joke.")],
    [("system", "You are a pirate."), ("user", "Hi"), ("model", " Arr. \n"), ("user", "And?"), ("model", "Arr!")],
    [("user", "\u3000\u00a0\u2003\x1f text \u2028\u0085\u205f")],
    [("user", "multi\n\nline\n\n\ntext with  spaces"), ("model", "1. one\n2. two\n\n"), ("user", "ok")],
    [("user", "")],
    [("user", "こんにちは"), ("model", "こんにちは！😀"), ("user", "¿Qué tal?"), ("model", "Bien."), ("user", "ok")],
]


def render(messages):
    prefix = ""
    if messages[0][0] == "system":
        prefix = messages[0][1] + "\n\n"
        messages = messages[1:]
    out = "<bos>"
    for i, (role, content) in enumerate(messages):
        assert (role == "user") == (i % 2 == 0)
        out += "<start_of_turn>" + role + "\n" + (prefix if i == 0 else "") + content.strip()
        out += "<end_of_turn>\n"
    if messages[-1][0] == "user":
        out += "<start_of_turn>model\n"
    return out


def main():
    pieces, scores = read_vocabulary(sys.argv[1])
    kinds = [kind(p) for p in pieces]
    pieces = [p.replace(" ", SPACE) for p in pieces]
    plain = bpe(pieces, scores, kinds, with_control=False)
    parsing = bpe(pieces, scores, kinds, with_control=True)
    witness = sentencepiece_model(pieces, scores, kinds)

    def ids(text):
        return plain.encode(text, add_special_tokens=False).ids

    def parse(text):
        return parsing.encode(text, add_special_tokens=False).ids

    facts = {"\n" * 40: [137, 115], " " * 50 + "fifty": [167, 155, 226519], "</s>": [212],
             "Hello": [9259], " Hello": [26352]}
    for text, expected in facts.items():
        assert ids(text) == expected, (text, ids(text))

    out = {"plain": [], "invalid": [], "parsed": [], "chats": []}
    for text in plain_texts(pieces, kinds, random.Random(3)):
        if ids(text) != witness.encode(text):
            print("left out, the witnesses differ:", repr(text), ids(text), witness.encode(text))
            continue
        out["plain"].append({"text": text, "ids": ids(text)})
    for hexadecimal in INVALID:
        text = bytes.fromhex(hexadecimal).decode("utf-8", errors="replace")
        out["invalid"].append({"hex": hexadecimal, "text": text, "ids": ids(text)})
    for text in PARSED:
        out["parsed"].append({"text": text, "ids": parse(text)})
    for chat in CHATS:
        out["chats"].append({"messages": [{"role": r, "content": c} for r, c in chat],
                             "ids": parse(render(chat))})
    # One entry a line, so that a change can be read.
    with open(HERE / "tokenizer.json", "w", encoding="utf-8") as file:
        sections = [f'"{name}": [\n' + ",\n".join(json.dumps(e) for e in entries) + "\n]"
                    for name, entries in out.items()]
        file.write("{\n" + ",\n".join(sections) + "\n}\n")
    print({name: len(entries) for name, entries in out.items()})


main()
