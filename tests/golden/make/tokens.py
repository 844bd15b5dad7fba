"""Writes tokens.json: ids by Hugging Face tokenizers.

usage: tokens.py llama-vocab.cpp  (package: tokenizers)

`kinds`: the ids of `text` in a vocabulary trained on it, for every pre-tokenizer name in llama.cpp's source. The patterns are those
of the models' tokenizer.json or, if none is given here, of the source, which simplifies some.
`files`: small tokenizer.json files with the ids and the decoded text of samples.
"""

import json
import pathlib
import re
import sys

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

HERE = pathlib.Path(__file__).parent.parent
TEXT = (
    "Hello, I'm HERE'S we'LL  don't\tx1234567 3.14159 ½²٣ ... (a+b)=c^2 $5~ `code`\n\n\n  def f(x):\r\n\treturn x # ok\n"
    "   trailing  \n 人工智能正在改变。ひらがな カタカナ 한국어 নমস্কার नमस्ते ไทย naïve café İstanbul ǅ ﷽ 👩‍👩‍👧‍👦🎉!!! http://a.b/c?d=e&f "
    "CamelCaseHTTPServer snake_case ¿qué? “quotes” — dash\u00a0nbsp\u3000wide 12 345 6789 \u00b5\u1e9e\n \n\t end   z\n\n\nAnkara'dan cafe\u0301   "
)
CONTRACTION = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
TAIL = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
UPPER, LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"


def split(pattern):
    return pre_tokenizers.Split(Regex(pattern), "isolated")


def byte_level(use_regex=False):
    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=use_regex)


def words(digits, contraction=CONTRACTION):
    return rf"{contraction}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|{digits}|{TAIL}"


def cased(digits, suffix, tail=TAIL.replace(r"[\r\n]*", r"[\r\n/]*"), less=""):
    start, upper, lower = r"[^\r\n\p{L}\p{N}]?", f"{UPPER[:-1]}{less}]", f"{LOWER[:-1]}{less}]"
    return rf"{start}{upper}*{lower}+{suffix}|{start}{upper}+{lower}*{suffix}|{digits}|{tail}"


DIGITS = pre_tokenizers.Digits(individual_digits=True)
CJK = "[一-龥\u0800-一가-\ud7ff]+"
DEEPSEEK3 = (
    r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"""
    r"""| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"""
)
KINDS = {
    "gpt-2": [byte_level(True)],
    "smollm": [DIGITS, byte_level(True)],
    "starcoder": [DIGITS, byte_level(True)],
    "falcon": [pre_tokenizers.Punctuation("contiguous"), byte_level(True), split("[0-9][0-9][0-9]")],
    "dbrx": [split(words(r"\p{N}{1,3}")), byte_level()],
    "llama-bpe": [split(words(r"\p{N}{1,3}")), byte_level()],
    "qwen2": [split(words(r"\p{N}")), byte_level()],
    "deepseek-r1-qwen": [split(words(r"\p{N}")), byte_level()],
    "qwen35": [
        split(
            CONTRACTION
            + r"|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
        ),
        byte_level(),
    ],
    "deepseek-coder": [split("[\r\n]"), split(r"\s?\p{L}+"), split(r"\s?\p{P}+"), split(CJK), DIGITS, byte_level()],
    "deepseek-v3": [
        split(r"\p{N}{1,3}"),
        split("[一-龥぀-ゟ゠-ヿ]+"),
        split(DEEPSEEK3),
        byte_level(),
    ],
    "tekken": [split(cased(r"\p{N}", "")), byte_level()],
    "gpt-4o": [split(cased(r"\p{N}{1,3}", CONTRACTION + "?")), byte_level()],
    "tiny_aya": [split(r"\d{1,3}(?=(?:\d{3})*\b)"), split(cased(r"\p{N}{1,3}", CONTRACTION + "?")), byte_level()],
    "cohere2moe": [split(r"\d{1,3}(?=(?:\d{3})*\b)"), split(cased(r"\p{N}{1,3}", CONTRACTION + "?")), byte_level()],
    "kimi-k2": [split(r"[\p{Han}]+|" + cased(r"\p{N}{1,3}", CONTRACTION + "?", TAIL, "&&[^\\p{Han}]")), byte_level()],
    "afmoe": [
        split(r"\p{N}{1,3}(?=(?:\p{N}{3})*(?!\p{N}))"),
        split(
            "[一-鿿\u3400-\u4dbf\uf900-\ufaff\u3040-ヿ\uff65-\uff9f\u2f00-\u2fdf\u0e40-\u0eff\u1780-\u17ff\u1000-\u109f"
            "\uaa60-\uaa7f\ua9e0-\ua9ff\uac00-\ud7af\u1100-\u11ff]+"
        ),
        split(DEEPSEEK3),
        byte_level(),
    ],
}
# Names whose tokenizer.json splits like another's, but which llama.cpp simplifies.
KIND_OF = {
    name: kind
    for kind, names in {
        "gpt-4o": ["llama4", "kanana2", "minimax-m2", "talkie", "granite-embed-multi-97m"],
    }.items()
    for name in names
}
COMPOSED = {"qwen2", "f2llmv2", "mpt", "olmo"}
# Kinds whose tokens are spelt as text, unlike this vocabulary, or whose texts lose their spaces.
AS_TEXT = {"gemma4", "granite-embed-multi-311m", "sarvam-moe", "whitespace"}


def of_source(path):
    """Every name in llama.cpp's source: its patterns, and whether whole tokens come first."""
    source = pathlib.Path(path).read_text()
    patterns, names, labels = {}, {}, []
    for line in source.split("llm_tokenizer_bpe(const llama_vocab & vocab)")[1].split("bool byte_encode")[0].splitlines():
        if found := re.match(r"\s*case LLAMA_VOCAB_PRE_TYPE_(\w+):", line):
            labels = labels + [found[1]]
        elif re.match(r"\s*default:", line):
            labels = labels + ["DEFAULT"]
        elif found := re.match(r'\s*("(?:[^"\\]|\\.)*"),\s*(//.*)?$', line):
            for label in labels:
                patterns.setdefault(label, []).append(json.loads(found[1].replace("\\'", "'")))
        elif re.match(r"\s*break;", line):
            labels = []
    given = []
    for line in source.split("// for now, only BPE models have pre-tokenizers")[1].split("LLAMA_VOCAB_TYPE_SPM")[0].splitlines():
        given += re.findall(r'tokenizer_pre == "([^"]+)"', line)
        if found := re.search(r"pre_type = LLAMA_VOCAB_PRE_TYPE_(\w+)", line):
            names |= {name: [patterns[found[1]], False] for name in given if name}
            current, given = given, []
        elif "ignore_merges = true" in line:
            for name in current:
                names[name][1] = True
    return names


def kinds(source):
    """The vocabulary holds pieces of the text from every offset, so that every split shows in the ids."""
    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = byte_level()
    trainer = trainers.BpeTrainer(
        vocab_size=1600, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    texts = [TEXT, normalizers.NFC().normalize_str(TEXT)]
    pieces = (text[at : at + size] for text in texts for size in (2, 3, 5, 8) for at in range(len(text)))
    trained.train_from_iterator(pieces, trainer)
    model = json.loads(trained.to_str())["model"]
    tokens, merges = sorted(model["vocab"], key=model["vocab"].get), [tuple(merge) for merge in model["merges"]]
    rows = {}
    for name, (patterns, whole) in of_source(source).items():
        if name in AS_TEXT:
            continue
        cuts = KINDS.get(KIND_OF.get(name, name)) or [split(pattern) for pattern in patterns] + [byte_level()]
        vocab = {token: id for id, token in enumerate(tokens)}
        tokenizer = Tokenizer(models.BPE(vocab, merges, ignore_merges=whole))
        if name in COMPOSED:
            tokenizer.normalizer = normalizers.NFC()
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(cuts)
        rows.setdefault(tuple(tokenizer.encode(TEXT, add_special_tokens=False).ids), []).append(name)
    rows = [{"names": names, "ids": ids} for ids, names in rows.items()]
    return {"tokens": tokens, "merges": [" ".join(merge) for merge in merges], "rows": rows}


CORPUS = [TEXT, "Hello world, hello there. The cat sat on the mat; the cat ate.", "def main(): return 0"] * 20
SAMPLES = ["Hello world", " Hello  world ", "the cat\n\n人工智能 🎉", "<s>the</s> cat", "", " ", "café naïve ﷽", "a<sep>b"]


def llama_like():
    """As SentencePiece: spaces as ▁, one before the text, unknown characters as bytes."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    special = ["<unk>", "<s>", "</s>"] + [f"<0x{byte:02X}>" for byte in range(256)]
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=special, show_progress=False, limit_alphabet=40, max_token_length=8
    )
    tokenizer.train_from_iterator(["▁" + "▁".join(text.split()) for text in CORPUS[1:3]] * 20, trainer)
    data = json.loads(tokenizer.to_str())
    data["added_tokens"] = data["added_tokens"][:3]
    tokenizer = Tokenizer.from_str(json.dumps(data))
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return tokenizer


def metaspace():
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="first")
    trainer = trainers.UnigramTrainer(
        vocab_size=200, special_tokens=["<unk>", "<s>", "</s>"], unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


def byte_bpe():
    """Byte-level BPE with all that must not change the ids: a post-processor, truncation, padding."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split(words(r"\p{N}{1,3}")), byte_level()])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.add_tokens([AddedToken("<sep>", normalized=False)])
    return tokenizer


def files():
    found = {}
    for make in (llama_like, metaspace, byte_bpe):
        tokenizer = make()
        samples = []
        for text in SAMPLES:
            ids = tokenizer.encode(text, add_special_tokens=False).ids
            kept, skipped = (tokenizer.decode(ids, skip_special_tokens=skip) for skip in (False, True))
            samples.append({"text": text, "ids": ids, "kept": kept, "skipped": skipped})
        if make is byte_bpe:
            tokenizer.post_processor = processors.TemplateProcessing(
                single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)]
            )
            tokenizer.enable_truncation(4)
            tokenizer.enable_padding(length=16)
        found[make.__name__] = {"tokenizer": json.loads(tokenizer.to_str()), "samples": samples}
    return found


if __name__ == "__main__":
    out = {"text": TEXT, "kinds": kinds(sys.argv[1]), "files": files()}
    (HERE / "tokens.json").write_text(json.dumps(out, ensure_ascii=False, separators=(",", ":")) + "\n")
