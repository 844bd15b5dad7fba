"""Writes expressions.json: the output of transformers' Jinja2 for single expressions and statements, or that it raises.

usage: expressions.py  (packages: transformers, jinja2)
"""

import json
import pathlib

from chat_corpus import NOW, SPECIALS, TOKENIZER

WITH = {
    "s": "  Hello, wörld: it's \"so\"\n", "csv": "a,b,,c", "words": " one  two\tthree ", "empty": "", "n": 7, "neg": -7,
    "x": 2.5, "big": 1e20, "small": 1e-7, "whole": 3.0, "yes": True, "none": None, "list": [3, "a", None, True, 1.5],
    "nums": [5, 3, 9, 1], "map": {"b": 1, "a": [1, 2], "c": {"d": "ü"}}, "rows": [{"k": 1, "v": "x"}, {"k": 2}, {"k": 1}],
}

SOURCES = """
{{ s.strip() }}|{{ s.lstrip() }}|{{ s.rstrip() }}
{{ 'xxaxx'.strip('x') }}|{{ 'xyaxy'.lstrip('xy') }}|{{ 'a\\n\\n'.rstrip('\\n') }}
{{ csv.split(',') }}|{{ csv.split(',', 1) }}|{{ csv.split(',', maxsplit=1) }}|{{ csv.split(sep=',') }}
{{ words.split() }}|{{ words.split(None, 1) }}|{{ empty.split() }}|{{ empty.split(',') }}
{{ csv.rsplit(',') }}|{{ csv.rsplit(',', 1) }}|{{ csv.rsplit(',', maxsplit=1) }}|{{ words.rsplit(None, 1) }}
{{ 'a</think>b</think>c'.split('</think>')[-1] }}|{{ 'a</think>b'.split('</think>')[0].split('<think>')[-1] }}
{{ 'abc'.split('') }}
{{ csv.partition(',') }}|{{ csv.rpartition(',') }}|{{ csv.partition('z') }}
{{ 'abc'.startswith('a') }}|{{ 'abc'.startswith(('x', 'a')) }}|{{ 'abc'.endswith(('c',)) }}|{{ 'abc'.endswith('x') }}
{{ 'abc'.startswith('b', 1) }}
{{ 'hello wörld it\\'s'.title() }}|{{ 'hELLO wORLD'.capitalize() }}|{{ 'ß'.upper() }}|{{ 'ÀB'.lower() }}|{{ 'aB'.swapcase() }}
{{ 'hello wörld it\\'s' | title }}|{{ 'hELLO' | capitalize }}|{{ 'ab' | upper }}|{{ 'AB' | lower }}
{{ 'aaa'.replace('a', 'b') }}|{{ 'aaa'.replace('a', 'b', 2) }}|{{ 'aaa' | replace('a', 'b', 1) }}|{{ 'aXa'.replace('', '-') }}
{{ ','.join(['a', 'b']) }}|{{ ['a', 1, none, true] | join(', ') }}|{{ 'abc' | join('-') }}|{{ rows | join(',', attribute='k') }}
{{ ','.join(['a', 1]) }}
{{ 'abc'.find('c') }}|{{ 'abc'.find('x') }}|{{ 'abcabc'.rfind('b') }}|{{ 'abcabc'.count('b') }}|{{ 'wörld'.find('l') }}
{{ 'abc'.index('c') }}
{{ 'abc'.index('x') }}
{{ 'a\\nb\\r\\nc'.splitlines() }}|{{ 'a\\nb'.splitlines(true) }}
{{ 'abc'.isdigit() }}|{{ '12'.isdigit() }}|{{ 'a1'.isalnum() }}|{{ 'ab'.isalpha() }}|{{ 'AB'.isupper() }}|{{ ' '.isspace() }}
{{ '7'.zfill(3) }}|{{ 'a'.ljust(3) }}|{{ 'a'.rjust(3, '.') }}|{{ 'a'.center(4, '-') }}
{{ 'abc'.removeprefix('a') }}|{{ 'abc'.removesuffix('c') }}
{{ 'a\\tb'.expandtabs(4) }}
{{ '{} and {}'.format(1, 'b') }}|{{ '{0}{1}{0}'.format('a', 'b') }}|{{ '{x:.2f}'.format(x=1.5) }}|{{ '{:>5}'.format('a') }}
{{ '%s is %d' % ('a', 3) }}|{{ '%s' % 'x' }}|{{ '%.2f' % 1.234 }}|{{ '%05d' % 42 }}|{{ '%x' % 255 }}|{{ '%s' % [1, 'a'] }}|{{ '100%%' % () }}
{{ '%(a)s-%(b)d' % {'a': 'x', 'b': 2} }}
{{ '%s' % none }}|{{ '%s' % true }}|{{ '%-5s|' % 'ab' }}|{{ '%5.1f' % 2.25 }}
{{ '%r' % 'a' }}
{{ '%s %s' % 'a' }}
{{ '%s-%s' | format('a', 2) }}|{{ '%s' | format(list) }}|{{ '%s' | format(map) }}|{{ '%s' | format(1.5) }}
{{ '%s' | format([1e20]) }}
{{ '%s' | format(big) }}
{{ 7 // 2 }}|{{ neg // 2 }}|{{ neg % 3 }}|{{ 7 / 2 }}|{{ 6 / 2 }}|{{ 2 ** 10 }}|{{ 7.5 // 2 }}|{{ 1 + 2.0 }}|{{ 10 / 4 | int }}
{{ 1 / 0 }}
{{ 'ab' * 3 }}|{{ 3 * 'ab' }}|{{ [1, 2] * 2 }}|{{ [1] + [2] }}
{{ 'a' + 1 }}
{{ 'a' + none }}
{{ [1] + (2,) }}
{{ 'a' ~ 1 ~ none ~ true ~ 2.0 ~ [1, 'b'] ~ {'a': none} }}
{{ 'a' ~ big }}
{{ 'a' ~ undefined_thing ~ 'b' }}
{{ 'abcdef'[1:3] }}|{{ 'abcdef'[::-1] }}|{{ 'abcdef'[-2:] }}|{{ 'abcdef'[::2] }}|{{ 'abcdef'[4:1:-1] }}|{{ 'wörld'[1] }}|{{ 'wörld'[-1] }}
{{ nums[::-1] }}|{{ nums[1:] }}|{{ nums[:-1] }}|{{ nums[-1] }}|{{ nums[10:] }}|{{ nums[-2::-1] }}|{{ nums[::-2] }}
{{ nums[10] }}|
{{ nums[10].x }}
{{ map.items() | list }}|{{ map.keys() | list }}|{{ map.values() | list }}|{{ map.get('a') }}|{{ map.get('z') }}|{{ map.get('z', 5) }}
{{ map.keys() }}|{{ map.values() }}|{{ map.items() }}
{% for k, v in map.items() %}{{ k }}={{ v }};{% endfor %}|{% for k in map %}{{ k }}{% endfor %}|{% for k, v in map | items %}{{ k }}{% endfor %}
{% for k, v in map | dictsort %}{{ k }}={{ v }};{% endfor %}
{{ 'a' in map }}|{{ 'z' in map }}|{{ 'z' not in map }}|{{ 3 in nums }}|{{ 'b' in 'abc' }}|{{ none in list }}
{{ 'a' in undefined_thing }}
{{ 'a' in none }}
{{ 1 in 'abc' }}
{{ map | tojson }}|{{ map | tojson(indent=2) }}|{{ map | tojson(ensure_ascii=True) }}|{{ map | tojson(separators=(',', ':')) }}|{{ map | tojson(sort_keys=True) }}
{{ list | tojson }}|{{ 'a<b>&\\'' | tojson }}|{{ none | tojson }}|{{ big | tojson }}|{{ small | tojson }}|{{ whole | tojson }}|{{ (1, 2) | tojson }}
{{ map | tojson(indent=0) }}|{{ [] | tojson(indent=2) }}|{{ {} | tojson(indent=4) }}|{{ [[], {}] | tojson(indent='\\t') }}
{{ undefined_thing | tojson }}
{{ rows | map(attribute='k') | tojson }}
{{ map.items() | tojson }}
{{ map.keys() | tojson }}
{{ rows | map(attribute='k') | list }}|{{ rows | selectattr('k', 'equalto', 1) | list }}|{{ rows | rejectattr('v', 'defined') | list }}
{{ rows | selectattr('k', '==', 1) | map(attribute='k') | list | length }}|{{ rows | selectattr('v') | list }}|{{ rows | groupby('k') | length }}
{{ nums | select('greaterthan', 3) | list }}|{{ nums | reject('odd') | list }}|{{ nums | map('string') | list }}|{{ ['a'] | map('upper') | list }}
{{ nums | sort }}|{{ nums | sort(reverse=true) }}|{{ nums | max }}|{{ nums | min }}|{{ nums | sum }}|{{ nums | first }}|{{ nums | last }}|{{ nums | reverse | list }}
{{ ['b', 'A', 'c'] | sort }}|{{ rows | sort(attribute='k') | map(attribute='k') | list }}|{{ [1, 1, 2] | unique | list }}
{{ nums | length }}|{{ 'wörld' | length }}|{{ map | length }}|{{ nums | count }}|{{ empty | length }}
{{ none | length }}
{{ 5 | length }}
{{ ' a ' | trim }}|{{ 'xax' | trim('x') }}|{{ none | trim }}|{{ 5 | trim }}|{{ undefined_thing | trim }}
{{ 'abc' | first }}|{{ 'abc' | last }}|{{ 'abc' | reverse }}|{{ 'abc' | list }}|{{ [] | first }}|{{ [] | last }}
{{ undefined_thing | default('d') }}|{{ none | default('d') }}|{{ none | default('d', true) }}|{{ '' | d('e', boolean=True) }}
{{ '5' | int }}|{{ 'x' | int }}|{{ 'x' | int(3) }}|{{ '2.5' | float }}|{{ 2.7 | int }}|{{ 2.5 | round }}|{{ 2.567 | round(2) }}|{{ -3 | abs }}
{{ 5 | string }}|{{ none | string }}|{{ list | string }}|{{ map | string }}|{{ big | string }}|{{ true | string }}|{{ undefined_thing | string }}
{{ 'a b' | wordcount }}|{{ 'a\\nb' | indent }}|{{ 'a\\nb' | indent(2) }}|{{ 'a\\nb' | indent(2, true) }}|{{ 'a\\n\\nb' | indent(width=1, blank=true) }}
{{ [1, 2, 3, 4] | batch(2) | list }}|{{ [1, 2, 3] | slice(2) | list }}
{{ '<a>' | e }}|{{ '<a>' | escape }}|{{ '<a>' | safe }}
{{ 'a"b' | forceescape }}
{{ '<a>' | safe ~ '<b>' }}
{{ '<a>' | safe + '<b>' }}
{{ '<' + "'a'" | safe + '"&"' + '<b>' | safe + '>' }}|{{ "it's" | e + '<' }}|{{ n | e + '<' }}
{{ ('<' | safe ~ '<') + '<' }}|{{ '<' ~ '&' | safe ~ '<' }}|{{ ['<' | safe, '<'] | join + '<' }}
{% set m = '<' | safe %}{% if m + '<' == '<&lt;' and not m + m != '<<' %}{{ {'<': '<' + m}['<'] }}{% endif %}{{ m + '<' if m is not none else m }}
{% set m = s | safe %}{{ 1 + 2 }}|{{ 7 - 2 + 1 - 3 }}|{{ [1] + nums[1:] }}|{{ (1, 2) + (3,) }}|{{ -n + n }}|{{ nums[1 + 1] + 2 * 3 }}|{{ 1.5 + 1 }}
{% set m = '' | safe %}{{ m + 1 }}
{% set m = '' | safe %}{% for i in [1] + [2] if i + 1 > 2 %}{{ '<' + m + i | string }}{% endfor %}{% macro f(x='<' + m) %}{{ x + '<' }}{% endmacro %}{{ f(x=f()) + '<' }}
{% set m = '<%s>' | safe %}{{ m % '&' + '&' }}|{{ '%s' % ('<' + m) + '<' }}
{{ '<' | safe | upper + '<' }}|{{ '<' | safe | trim + '<' }}|{{ '<' | safe | string + '<' }}|{{ ('<' | safe).strip() + '<' }}|{{ ('<' | safe)[0] + '<' }}
{{ 'a b&c' | urlencode }}
{{ 'hello world foo' | truncate(9) }}
{{ 'ab' | center(6) }}
{{ {'a': 1} | xmlattr }}
{{ x }}|{{ whole }}|{{ big }}|{{ small }}|{{ yes }}|{{ none }}|{{ list }}|{{ map }}|{{ (1,) }}|{{ () }}|{{ 1e16 }}|{{ 123456789.123 }}
{{ undefined_thing }}|{{ map.zzz }}|{{ map['zzz'] }}|{{ undefined_thing is defined }}|{{ map.a is defined }}
{{ undefined_thing.x }}
{{ undefined_thing['x'] }}
{{ undefined_thing() }}
{{ undefined_thing + 'a' }}
{{ none.x }}|{{ none['x'] }}
{{ none.x.y }}
{{ none() }}
{{ s is string }}|{{ n is number }}|{{ x is float }}|{{ n is integer }}|{{ yes is boolean }}|{{ yes is number }}|{{ yes is integer }}|{{ none is none }}|{{ map is mapping }}|{{ list is sequence }}
{{ s is sequence }}|{{ map is sequence }}|{{ n is sequence }}|{{ none is sequence }}|{{ undefined_thing is sequence }}
{{ s is iterable }}|{{ map is iterable }}|{{ n is iterable }}|{{ none is iterable }}|{{ undefined_thing is iterable }}|{{ yes is iterable }}|{{ range(3) is iterable }}
{{ n is odd }}|{{ n is even }}|{{ n is divisibleby 7 }}|{{ s is upper }}|{{ 'a' is lower }}|{{ yes is true }}|{{ yes is false }}|{{ 1 is true }}|{{ n is eq 7 }}|{{ n is in [7] }}|{{ n is sameas n }}|{{ n is gt 3 }}
{{ s is callable }}
{{ 1 == 1.0 }}|{{ true == 1 }}|{{ 'a' == 'a' }}|{{ none == false }}|{{ [1] == [1] }}|{{ 1 < 2 < 3 }}|{{ 3 > 2 > 2 }}|{{ 'a' < 'b' }}|{{ [1, 2] < [1, 3] }}
{{ 1 < 'a' }}
{{ none < 1 }}
{{ not '' }}|{{ not [] }}|{{ not {} }}|{{ not 0 }}|{{ not none }}|{{ not undefined_thing }}|{{ '' or 'b' }}|{{ 'a' and 'b' }}|{{ 0 or none }}|{{ [] and 1 }}
{{ 'y' if yes else 'n' }}|{{ 'y' if empty }}|{{ ('a' if n > 5 else 'b') ~ 'c' }}
{% for i in range(5) %}{% if i == 1 %}{% continue %}{% endif %}{% if i == 3 %}{% break %}{% endif %}{{ i }}{% endfor %}
{% for i in nums %}{{ loop.index }}{{ loop.index0 }}{{ loop.revindex }}{{ loop.first }}{{ loop.last }}{{ loop.length }}{{ loop.previtem }}{{ loop.nextitem }}{{ loop.cycle('a', 'b') }};{% endfor %}
{% for i in nums if i > 2 %}{{ loop.index }}:{{ i }}{% else %}none{% endfor %}|{% for i in [] %}x{% else %}empty{% endfor %}
{% for c in 'wö☀d' %}{{ c }}{% if not loop.last %},{% endif %}{% endfor %}
{% for i in none %}x{% endfor %}
{% for i in undefined_thing %}x{% endfor %}ok
{% for i in 5 %}x{% endfor %}
{% for a, b in [[1, 2], (3, 4)] %}{{ a }}{{ b }};{% endfor %}
{% for a, b in [1, 2] %}{{ a }}{% endfor %}
{% set ns = namespace(a=1, b=[]) %}{% for i in nums %}{% set ns.a = ns.a + i %}{% set ns.b = ns.b + [i] %}{% endfor %}{{ ns.a }}{{ ns.b }}
{% set y = 1 %}{% for i in nums %}{% set y = i %}{% endfor %}{{ y }}
{% set y %}block {{ n }}{% endset %}{{ y }}|{{ y | length }}|{% set y | upper %}abc{% endset %}{{ y }}
{% if true %}{% set inner = 5 %}{% endif %}{{ inner }}
{% set a, b = 1, 2 %}{{ a }}{{ b }}|{% set (c, d) = [3, 4] %}{{ c }}{{ d }}
{% macro m(a, b='x') %}{{ a }}{{ b }}{% endmacro %}{{ m(1) }}{{ m(1, b=2) }}{{ m(a='q') }}{{ m() }}|{{ m(1) | length }}
{% macro m(a) %}{{ a }}{{ varargs }}{{ kwargs }}{% endmacro %}{{ m(1, 2, z=3) }}
{% macro m(a) %}{{ a }}{% endmacro %}{{ m(1, 2) }}
{% macro m() %}[{{ caller() }}]{% endmacro %}{% call m() %}in{% endcall %}
{% macro outer(x) %}{{ inner_m(x) }}{% endmacro %}{% macro inner_m(x) %}<{{ x }}>{% endmacro %}{{ outer(1) }}
{% macro m() %}{{ loop is defined }}{% endmacro %}{% for i in [1] %}{{ m() }}{{ loop is defined }}{% endfor %}
{% macro m() %}{{ loop.index }}{% endmacro %}{% for i in [1] %}{{ m() }}{% endfor %}
{% for i in [1, 2] %}{% set outer_loop = loop %}{% for j in [1] %}{{ outer_loop.index }}{% endfor %}{% endfor %}
{% filter upper %}abc{% endfilter %}|{% with q = 5 %}{{ q }}{% endwith %}{{ q }}
{% raw %}
{{ raw }}
{% endraw %}
x
{%- raw -%}
  {{ raw }}
{%- endraw -%}
y
{% raw %}{% generation %}{% endraw %}|{% generation %}g{% endgeneration %}|{{ '{% generation %}' }}|{{ "{% raw %}\\n" }}
{# comment {% raw %} #}{% if true %}a{% endif %}
   {% if true %}
  a
   {% endif %}
b {%+ if true %}  c{% endif +%}
d {#- gone -#}  e {# left #}
f
{{ 'a\\tb\\\\n\\x41\\u00e9' }}|{{ "it's" }}|{{ 'a' 'b' }}
{{ range(3) | list }}|{{ range(1, 4) | list }}|{{ range(6, 0, -2) | list }}
{{ range(3) }}
{{ dict(a=1) }}|{{ dict([('a', 2)]) }}|{{ {'a': 1, 'a': 2} }}|{{ {1: 'x'} }}|{{ {1: 'x'} | tojson }}
{{ cycler is defined }}|{{ joiner is defined }}|{% set j = joiner(', ') %}{{ j() }}a{{ j() }}b
{{ [1, 2].append(3) }}
{% set l = [] %}{% set _ = l.append(1) %}{{ l }}
{% set l = {} %}{% do l.update({}) %}
{{ map.update({'z': 1}) }}
{{ map.pop('a') }}
{{ nums.index(9) }}|{{ nums.count(3) }}|{{ nums.copy() }}|{{ map.copy() }}
{{ s.encode() }}
{{ s.nothing() }}
{{ s.nothing }}|
{{ strftime_now('%Y-%m-%d') }}|{{ strftime_now('%d %B %Y, %A %H:%M:%S %j %p') }}|{{ strftime_now('%-d/%-m') }}
{{ raise_exception('no') }}
{{ messages[0].content }}|{{ messages | length }}|{{ messages[-1]['role'] }}|{{ messages[0].zzz }}|{{ messages[0].get('zzz', 'd') }}
{{ tools }}|{{ tools is none }}|{{ documents is none }}|{{ add_generation_prompt }}|{{ bos_token ~ eos_token }}|{{ cls_token is defined }}
{{ messages.0.content }}|{{ nums.1 }}|{{ map['a'][1] }}|{{ map.c.d }}
{{ 'x' if messages is iterable and messages is not mapping and messages is not string }}
{{ 1_000 }}|{{ 0x1f }}|{{ 0b11 }}|{{ 1.5e3 }}|{{ true and True }}|{{ None is none }}|{{ False }}
{{ -n }}|{{ +n }}|{{ -n ** 2 }}|{{ 2 + 3 * 4 }}|{{ not yes == false }}|{{ 'a' ~ 1 + 2 }}|{{ 1 if 2 else 3 if 4 else 5 }}
{{ 'abc' is in 'abcd' }}|{{ x is not none and x }}|{{ not x is none }}|{{ 'a' is not in ['b'] }}
""".strip("\n")


def split(text):
    """One source for each line; a source of several lines is between a `{% raw %}` and the line `f`."""
    lines, out, many = text.split("\n"), [], []
    for line in lines:
        if many or line == "{% raw %}":
            many.append(line)
            if line == "f":
                out.append("\n".join(many))
                many = []
            continue
        out.append(line.replace("\\\\", "\\") if "\\\\" in line else line)
    return out


def main():
    cases = []
    for source in split(SOURCES):
        try:
            chat = [{"role": "user", "content": "hi"}]
            text = TOKENIZER.apply_chat_template(
                chat, chat_template=source, tokenize=False, add_generation_prompt=True, **WITH
            )
        except Exception:
            text = None
        cases.append([source, text])
    out = {"now": NOW, "specials": SPECIALS, "with": WITH, "cases": cases}
    text = json.dumps(out, ensure_ascii=False, indent=1)
    (pathlib.Path(__file__).parent.parent / "expressions.json").write_text(text + "\n")
    print(len(cases), "expressions,", sum(text is None for _, text in cases), "raise")


if __name__ == "__main__":
    main()
