//! Chat templates that overflow the stack, fill memory or never end.

use super::{Dice, Input, all};

/// Expressions that ask for a lot at once.
const WIDE: [&str; 62] = [
    "'{0:>9999999999}'.format(1)",
    "'{:>999999999}'.format('a')",
    "'{:.999999999f}'.format(1.5)",
    "'{:{}}'.format('a', 999999999)",
    "'{!r:>99999999}'.format('a')",
    "'%9999999999d' % 1",
    "'%.999999999f' % 1.0",
    "'%*d' % (999999999, 1)",
    "'%(a)99999999s'|format(a=1)",
    "'a'.center(10**10)",
    "'a'.ljust(999999999)",
    "'a'.rjust(999999999, 'é')",
    "'a'.zfill(999999999)",
    "'a\nb'|indent(999999999)",
    "'a' * 10**9",
    "('a' * 1000000) * 1000000",
    "([1] * 10**9)|list",
    "(1, 2) * 10**9",
    "[[1] * 100000] * 100000",
    "range(10**9)|list",
    "range(10**9)|join",
    "range(10**9)|sum",
    "range(99999)|batch(3)|list|string",
    "[1]|batch(999999999, 0)|list",
    "[1]|slice(999999999)|list",
    "[1]|slice(99999999, 1)|list",
    "10**10**10",
    "2**1000000",
    "9**99999",
    "-9223372036854775808 // -1",
    "-170141183460469231731687303715884105728 // -1",
    "('a' * 10000000)|replace('a', 'b' * 1000)",
    "('a' * 100000).replace('', 'b' * 100000)",
    "('a' * 10000000).split('a')|length",
    "('a' * 10000000)|list|length",
    "('a' * 1000000).join(('b' * 1000000)|list)",
    "(['a' * 1000000] * 1000)|join",
    "''.join(['a' * 1000000] * 1000)",
    "([['a'] * 1000] * 1000 * 1000)|tojson",
    "([['a' * 100000] * 1000] * 1000)|string",
    "(['a' * 1000000] * 1000)|tojson",
    "[[1]]|tojson(indent='a' * 10000000)",
    "range(100000)|list|tojson(indent='a' * 1000000)",
    "range(100000)|list|tojson(separators=('a' * 1000000, ':'))",
    "('<' * 10000000)|e|e|e|length",
    "('<' * 10000000)|urlencode|urlencode|urlencode|length",
    "strftime_now('%Y' * 1000000)",
    "strftime_now('%999999999d')",
    "('{}' * 100000).format(1)",
    "('%s' * 100000) % 1",
    "'%(a)s' % {'a': 'x' * 10000000}",
    "(['a' * 1000] * 100000)|sum(start='')",
    "([[1] * 1000] * 10000)|sum(start=[])|length",
    "cycler(*range(10**5))",
    "zip(range(10**5), range(10**5))|list",
    "1|round(999999999)",
    "'%c' % 1114112",
    "'zz'|int(base=37)",
    "[1, 2]|batch(0)|list",
    "('é' * 10**7)[::-1]|length",
    "raise_exception('\\u001b[31m' * 100000)",
    "debug()",
];

/// Operations on two values that hold each other, or hold another many times.
const USES: [&str; 26] = [
    "a == b",
    "a != b",
    "a < b",
    "a in [b]",
    "a not in [b]",
    "[a] == [b]",
    "a is eq b",
    "a is in [b]",
    "a in 'abc'",
    "{a: 1}",
    "{1: 1}[a]",
    "{1: 1}.get(a)",
    "[a, b, a]|unique|list",
    "[a, b]|sort",
    "[a, b]|min",
    "[a].index(b)",
    "[a].count(b)",
    "a ~ b",
    "a|string|length",
    "a|tojson|length",
    "a|pprint|length",
    "[a, b]|join",
    "'%s %r' % (a, b)",
    "'{}'.format(a)",
    "a|upper|e|length",
    "raise_exception(a)",
];

/// Loop bodies over a value of ten megabytes, or a list of a hundred thousand items.
const ROUNDS: [&str; 18] = [
    "{% if a == b %}{% endif %}",
    "{% if a < b %}{% endif %}",
    "{% if 'x' in a %}{% endif %}",
    "{% if a in [b] %}{% endif %}",
    "{{ {a: 1}|length }}",
    "{{ d[a] }}",
    "{% if a[-1] %}{% endif %}",
    "{% if a|length %}{% endif %}",
    "{% if a.startswith('x') or a.find('x') > 0 or a.strip() %}{% endif %}",
    "{% set c = a.title() %}",
    "{% set c = a.partition('x') %}",
    "{% if l.index(99999) or l.count(7) %}{% endif %}",
    "{% if l is iterable and l is eq l %}{% endif %}",
    "{% if l == m %}{% endif %}",
    "{% set c = l + m %}",
    "{{ l }}",
    "{{ a }}",
    "{{ loop.changed(a ~ '') }}",
];

/// Expressions that make `n.x` grow each time.
const GROWTH: [&str; 20] = [
    "n.x + n.x",
    "n.x ~ n.x",
    "[n.x, n.x]",
    "(n.x, n.x)",
    "{'a': n.x, 'b': n.x}",
    "[n.x]",
    "{'a': n.x}",
    "dict(x=n.x)",
    "namespace(x=n.x)",
    "cycler(n.x)",
    "n.x * 2",
    "n.x * 1",
    "n.x[0:]",
    "n.x|reverse",
    "n.x|map('string')",
    "n.x|batch(1)|list",
    "n.x|list + ['a' * 10000]",
    "n.x|tojson",
    "n.x|replace('a', 'aa')",
    "n",
];

fn nested(depth: usize) -> Vec<String> {
    let around = |open: &str, close: &str| open.repeat(depth) + "1" + &close.repeat(depth);
    let mut sources: Vec<String> = [
        ("(", ")"),
        ("[", "]"),
        ("{1:", "}"),
        ("-", ""),
        ("- ", ""),
        ("+", ""),
        ("not ", ""),
        ("'a' % (", ")"),
        ("a[", "]"),
        ("f(", ")"),
    ]
    .map(|(open, close)| format!("{{{{ {} }}}}", around(open, close)))
    .into();
    let chains = [
        " + 1",
        " ~ 1",
        " * 1",
        "|upper",
        ".a",
        "[0]",
        "()",
        " and 1",
        " or 1",
        " == 1",
        " in 1",
        " < 1",
        " is defined",
        " if 1 else 1",
        " not in 1",
        " ** 1",
        ", 1",
        " % 'a'",
    ];
    sources.extend(chains.map(|chain| format!("{{{{ 1{} }}}}", chain.repeat(depth))));
    sources.extend(chains.map(|chain| format!("{{% set a = 1{} %}}", chain.repeat(depth))));
    let blocks = [
        ("if 1", "endif"),
        ("for a in [1]", "endfor"),
        ("macro a()", "endmacro"),
        ("set a", "endset"),
        ("filter upper", "endfilter"),
        ("with a=1", "endwith"),
        ("generation", "endgeneration"),
        ("call m()", "endcall"),
    ];
    sources.extend(
        blocks.map(|(open, close)| format!("{{% {open} %}}").repeat(depth) + &format!("{{% {close} %}}").repeat(depth)),
    );
    sources.push("{% if 0 %}".to_owned() + &"{% elif 0 %}".repeat(depth) + "{% endif %}");
    sources.push("{{ a|safe }}{{ ".to_owned() + &"(1 + ".repeat(depth) + "1" + &")".repeat(depth) + " }}");
    sources.extend(
        ["{{", "{%", "{#", "{{ '", "{{ (", "{% raw %}", "{% set a = 1 %}", "{% macro f(a) %}{{ a }}{% endmacro %}"]
            .map(|piece| piece.repeat(depth)),
    );
    sources
        .push((0..depth / 10).map(|i| format!("{{% macro m{} %}}{{{{ m{i}() }}}}{{% endmacro %}}", i + 1)).collect());
    sources.push(
        (0..depth / 10).map(|i| format!("{{% set a{} = a{i} * 1 %}}", i + 1)).collect::<String>() + "{{ a9|list }}",
    );
    sources
}

fn grown() -> Vec<String> {
    let mut sources = Vec::new();
    for growth in GROWTH {
        for (start, end) in
            [("[1]", "{{ n.x|length }}"), ("'a'", "{{ n.x == n.x ~ '' }}"), ("namespace()", "{{ n.x }}")]
        {
            sources.push(format!(
                "{{% set n = namespace(x={start}) %}}{{% for i in range(300) %}}{{% for j in range(300) %}}{{% set n.x = {growth} %}}{{% endfor %}}{{% endfor %}}{end}"
            ));
        }
        let plain = growth.replace("n.x", "x");
        sources.push(format!("{{% macro f(x, n) %}}{{% if n %}}{{{{ f({plain}, n - 1) }}}}{{% else %}}{{{{ x == x + [] }}}}{{% endif %}}{{% endmacro %}}{{{{ f([1], 40) }}}}"));
        sources.push(format!("{{% for x in [[1]] recursive %}}{{% if loop.depth < 40 %}}{{{{ loop([{plain}]) }}}}{{% else %}}{{{{ {{x: 1}} }}}}{{% endif %}}{{% endfor %}}"));
        sources.push(format!(
            "{{% set x = [1] %}}{}{{{{ x == x|list }}}}",
            format!("{{% set x = {plain} %}}").repeat(200)
        ));
        sources.push(format!(
            "{{% set x = [1] %}}{}{{{{ x|string|length }}}}{}",
            format!("{{% with x = {plain} %}}").repeat(40),
            "{% endwith %}".repeat(40)
        ));
    }
    sources
}

/// The whole list, or a sample if time is short.
fn sample<'a>(list: &'a [&'a str], short: bool, dice: &mut Dice) -> Vec<&'a str> {
    list.iter().filter(|_| !short || dice.below(8) == 0).copied().collect()
}

fn cases(seed: u64, length: usize) -> Vec<Input> {
    let mut dice = Dice(seed);
    let short = length < 100_000;
    let mut sources = nested(length);
    sources.extend(nested(100));
    let grown = grown();
    sources.extend(if short { grown.into_iter().filter(|_| dice.below(4) == 0).collect() } else { grown });
    sources.extend(WIDE.map(|wide| format!("{{{{ {wide} }}}}")));
    for wide in sample(&WIDE, short, &mut dice) {
        sources.push(format!("{{% for i in range(100000) %}}{{% set a = {wide} %}}{{% endfor %}}"));
    }
    sources.push(format!("{{% set x = range(100000)|list %}}{{{{ (x{})|length }}}}", " + x".repeat(390)));
    sources.push(format!(
        "{{% set x = range(100000)|list %}}{{{{ {}x + x{}|length }}}}",
        "(".repeat(40),
        ") + x".repeat(40)
    ));
    sources.push(format!(
        "{{% set x = [1] %}}{{{{ {}|length }}}}",
        (0..40).fold("x".to_owned(), |x, _| if x.len() < 9000 {
            format!("({x} + {x})")
        } else {
            format!("({x} * 99)")
        })
    ));
    for call in USES {
        sources.push(format!("{{% set a = namespace() %}}{{% set b = namespace() %}}{{% set a.x = b %}}{{% set b.x = a %}}{{{{ {call} }}}}"));
        sources.push(format!("{{% set a = namespace(x=[]) %}}{{% set b = namespace(x=[]) %}}{{% set a.x = [b] %}}{{% set b.x = {{'b': a}} %}}{{{{ {call} }}}}"));
        let steps: String = (0..40).map(|_| "{% set a = [a, a] %}{% set b = [b, b] %}").collect();
        sources.push(format!("{{% set a = [1] %}}{{% set b = [1] %}}{steps}{{{{ {call} }}}}"));
        if short {
            continue;
        }
        let steps: String = (0..14).map(|_| "{% set a = [a, a] %}{% set b = [b, b] %}").collect();
        sources.push(format!("{{% set a = [1] %}}{{% set b = [1] %}}{steps}{{% for i in range(100000) %}}{{% set c = {call} %}}{{% endfor %}}"));
    }
    let given = "{% set a = 'é' * 5000000 %}{% set b = 'é' * 5000000 %}{% set d = {'a': 1} %}{% set l = range(100000)|list %}{% set m = range(100000)|list %}";
    for round in sample(&ROUNDS, short, &mut dice) {
        sources.push(format!("{given}{{% for i in range(100000) %}}{round}{{% endfor %}}"));
    }
    sources.extend(
        [
            "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
            "{% macro f(n) %}{% if n %}{% set x = f(n - 1) %}{% set x = f(n - 1) %}{% endif %}{% endmacro %}{{ f(40) }}",
            "{% macro f(x) %}{{ g(x) }}{% endmacro %}{% macro g(x) %}{% call f(x) %}{% endcall %}{% endmacro %}{{ f(1) }}",
            "{% for x in [[1]] recursive %}{{ loop([x]) }}{% endfor %}",
            "{% include 'chat_template' %}",
            "{% extends 'chat_template' %}",
            "{% import 'chat_template' as x %}{{ x }}",
            "{% for i in range(100000) %}{% for j in range(100000) %}aaaaaaaaaa{% endfor %}{% endfor %}",
            "{% for i in range(100000) %}{{ messages|tojson(indent=4) }}{% endfor %}",
        ]
        .map(String::from),
    );
    // Random combinations of template pieces.
    for _ in 0..40 {
        let pieces = (0..1 + dice.below(12)).map(|_| {
            dice.of(&[
                "{% for i in range(300) %}",
                "{% endfor %}",
                "{% set n.x = [n.x, n] %}",
                "{% set n = namespace(x=1) %}",
                "{{ n.x }}",
                "{{ n }}",
                "{% if n == n.x %}",
                "{% endif %}",
                "{% macro f(x) %}",
                "{% endmacro %}",
                "{{ f(n) }}",
                "{% set n.x = f %}",
                "{% set n.x = n.x * 3 %}",
                "{{ messages[0] }}",
                "{% set n.x = messages %}",
                "{{ n.x|sort }}",
                "{% call f(1) %}",
                "{% endcall %}",
                "{{ loop }}",
                "{% set n.x = loop %}",
            ])
        });
        sources.push(pieces.collect());
    }
    sources.into_iter().map(Input::Template).collect()
}

#[test]
fn templates_terminate() {
    all("hostile::templates::templates_terminate", cases);
}
