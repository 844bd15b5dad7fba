"""Formats the results of a run as the README's table and as a chart. Standard library only."""
import re
from html import escape

from turn import SUFFIX

# Colours that people with colour blindness can tell apart (Okabe and Ito, 2008).
COLOURS = ["#d55e00", "#0072b2", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000", "#787878"]
MARKS = re.compile(r"(<!-- bench -->\n).*(<!-- /bench -->)", re.S)


def columns(settings):
    """`(figure, heading, unit)` of each column."""
    found = [(f"prefill {length}", f"prefill of {length}", "tok/s") for length in settings["lengths"]]
    found.append(("decode", "decode", "tok/s"))
    if settings["prefix"]:
        prompt = settings["prefix"] + SUFFIX
        found += [("cold", f"first of {prompt}", "ms"), ("known", f"its first {settings['prefix']} known", "ms")]
    return found


def number(value):
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def cell(figure):
    if not figure:
        return "–"
    median, least, most = (number(figure[k]) for k in ("median", "min", "max"))
    return median if len(figure["samples"]) == 1 else f"{median} ({least}–{most})"


def table(result):
    settings, machine = result["settings"], result["machine"]
    wanted = columns(settings)
    rows = [["engine", "runs on", *(f"{heading}, {unit}" for _, heading, unit in wanted)]]
    rows.append(["---"] * len(rows[0]))
    notes = []
    for engine in result["engines"]:
        if engine["figures"]:
            rows.append([engine["engine"], engine["where"], *(cell(engine["figures"].get(figure)) for figure, _, _ in wanted)])
        notes += [f"{engine['engine']}, {what}: {why}." for what, why in engine["notes"].items()]
    text = f"{settings['model']} on {result['when']}, {machine['cpu']} with {machine['threads']} threads; medians of {settings['rounds']} turns, with "
    text += "minimum and maximum."
    if (machine["used_by_others"] or 0) > 0.1:
        text += f" **Other processes used up to {machine['used_by_others']:.0%} of the machine: do not trust these figures.**"
    lines = [text, "", *("| " + " | ".join(row) + " |" for row in rows)]
    return "\n".join(lines + ([""] if notes else []) + [f"- {note}" for note in notes]) + "\n"


def chart(result):
    """Bars grouped by figure; an engine keeps its colour, and has no bar for what was not measured."""
    engines = [engine for engine in result["engines"] if engine["figures"]]
    parts, y = [], 34
    for figure, heading, unit in columns(result["settings"]):
        shown = [(index, engine["figures"][figure]) for index, engine in enumerate(engines) if figure in engine["figures"]]
        if not shown:
            continue
        most = max(value["max"] for _, value in shown)
        better = "more is better" if unit == "tok/s" else "less is better"
        parts.append(f'<text x="16" y="{y}" font-size="14" font-weight="bold">{escape(heading)}, {unit} ({better})</text>')
        for index, value in shown:
            y += 22
            at = lambda v: 250 + 500 * v / most
            middle = y - 4
            parts.append(f'<text x="240" y="{y}" text-anchor="end">{escape(engines[index]["engine"])}</text>')
            parts.append(f'<rect x="250" y="{y - 12}" width="{at(value["median"]) - 250:.1f}" height="16" fill="{COLOURS[index % 8]}"/>')
            parts.append(f'<path d="M{at(value["min"]):.1f} {middle}H{at(value["max"]):.1f}" stroke="#000"/>')
            parts.append(f'<text x="{at(value["max"]) + 6:.1f}" y="{y}">{number(value["median"])}</text>')
        y += 40
    settings = result["settings"]
    caption = f"{settings['model']}, {settings['rounds']} turns each; the line is from minimum to maximum"
    parts.append(f'<text x="16" y="{y - 10}" fill="#555">{escape(caption)}</text>')
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="860" height="{y + 6}" font-family="sans-serif" font-size="13">'
    dark = "<style>@media (prefers-color-scheme: dark) { svg { filter: invert(0.92) hue-rotate(180deg) } }</style>"
    return "\n".join([head, dark, '<rect width="100%" height="100%" fill="#fff"/>', *parts, "</svg>"]) + "\n"


def into_readme(path, table):
    """Puts the table between the README's marks."""
    text = path.read_text()
    if not MARKS.search(text):
        raise SystemExit(f"error: {path} lacks the marks <!-- bench --> and <!-- /bench -->")
    chart = "![The same as a chart](.github/bench.svg)\n"
    path.write_text(MARKS.sub(lambda found: f"{found[1]}{table}\n{chart}{found[2]}", text))
