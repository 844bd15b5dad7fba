"""Writes tokens.json: ids by Hugging Face tokenizers.

usage: tokens.py MODEL.gguf  (packages: tokenizers, gguf)

`kinds`: the ids of `text` under the test model's vocabulary, cut as the tokenizer.json of each family of models cuts.
`files`: small tokenizer.json files with the ids and the decoded text of samples.
"""

import json
import pathlib
import sys

from gguf import GGUFReader
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

HERE = pathlib.Path(__file__).parent.parent
TEXT = (
    "Hello, I'm HERE'S we'LL  don't\tx1234567 3.14159 ½²٣ ... (a+b)=c^2 $5~ `code`\n\n\n  def f(x):\r\n\treturn x # ok\n"
    "   trailing  \n 人工智能正在改变。ひらがな カタカナ 한국어 নমস্কার नमस्ते ไทย naïve café İstanbul ǅ ﷽ 👩‍👩‍👧‍👦🎉!!! http://a.b/c?d=e&f "
    "CamelCaseHTTPServer snake_case ¿qué? “quotes” — dash\u00a0nbsp\u3000wide 12 345 6789 \u00b5\u1e9e\n \n\t end   "
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


def cased(digits, suffix, tail=TAIL.replace(r"[\r\n]*", r"[\r\n/]*")):
    start = r"[^\r\n\p{L}\p{N}]?"
    return rf"{start}{UPPER}*{LOWER}+{suffix}|{start}{UPPER}+{LOWER}*{suffix}|{digits}|{tail}"


DIGITS = pre_tokenizers.Digits(individual_digits=True)
CJK = "[一-龥\u0800-一가-\ud7ff]+"
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
        split(
            r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"""
            r"""| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"""
        ),
        byte_level(),
    ],
    "tekken": [split(cased(r"\p{N}", "")), byte_level()],
    "gpt-4o": [split(cased(r"\p{N}{1,3}", CONTRACTION + "?")), byte_level()],
}
WHOLE_TOKENS_FIRST = {"llama-bpe", "tekken"}
COMPOSED = {"qwen2", "qwen35"}


def gguf_vocab(path):
    fields = GGUFReader(path).fields
    tokens = fields["tokenizer.ggml.tokens"].contents()
    merges = [tuple(merge.split(" ")) for merge in fields["tokenizer.ggml.merges"].contents()]
    kinds = fields["tokenizer.ggml.token_type"].contents()
    return tokens, merges, [token for token, kind in zip(tokens, kinds) if kind == 3]


def kinds(path):
    tokens, merges, special = gguf_vocab(path)
    found = {}
    for name, cuts in KINDS.items():
        vocab = {token: id for id, token in enumerate(tokens)}
        tokenizer = Tokenizer(models.BPE(vocab, merges, ignore_merges=name in WHOLE_TOKENS_FIRST))
        if name in COMPOSED:
            tokenizer.normalizer = normalizers.NFC()
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(cuts)
        tokenizer.add_special_tokens(special)
        found[name] = tokenizer.encode(TEXT, add_special_tokens=False).ids
    return found


CORPUS = [TEXT, "Hello world, hello there. The cat sat on the mat; the cat ate.", "def main(): return 0"] * 20
SAMPLES = ["Hello world", " Hello  world ", "the cat\n\n人工智能 🎉", "<s>the</s> cat", "", " ", "café naïve ﷽", "a<sep>b"]


def llama_like():
    """SentencePiece's shape: spaces as ▁, one put before the text, unknown characters as bytes."""
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
    """Byte-level BPE with everything that must not change the ids: a post-processor, truncation, padding."""
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
