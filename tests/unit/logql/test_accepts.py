from concurrent.futures import ThreadPoolExecutor

import pytest

from atalaia.logql import tree as t
from atalaia.logql.parse import MAX_DEPTH, parse
from atalaia.logql.pretty import pretty
from atalaia.logql.printer import print_query

from .accepted import ACCEPTED

MINUTE = 60 * 10**9
APP = t.Selector((t.Matcher("a", "=", "b"),))


def x(value: str, name: str = "x") -> t.Comparison:
    return t.Comparison(name, "=", value)


@pytest.mark.parametrize(("reason", "query"), ACCEPTED, ids=[query for _, query in ACCEPTED])
def test_accepted(reason, query):
    tree = parse(query)
    assert parse(print_query(tree)) == tree, reason
    assert parse(pretty(tree, 20)) == tree, reason


CANONICAL = [
    ('{a="b"}', '{a="b"}'),
    ("{a=`b\\d`}|=`x`", r'{a="b\\d"} |= "x"'),
    ('rate({a="b"}[5m] |= "x")', 'rate({a="b"} |= "x" [5m])'),
    ('rate(({a="b"} |= "x")[5m] offset 1h)', 'rate({a="b"} |= "x" [5m] offset 1h)'),
    ('rate( {a="b"} [60s] )', 'rate({a="b"}[1m])'),
    ('rate({a="b"}[90m])', 'rate({a="b"}[1h30m])'),
    ('rate({a="b"}[7d])', 'rate({a="b"}[1w])'),
    ('SUM(rate({a="b"}[1d])) BY (x,y)', 'sum by (x, y) (rate({a="b"}[1d]))'),
    ("1+2*3", "(1 + (2 * 3))"),
    ("2^3^2", "(2 ^ (3 ^ 2))"),
    ("-2^2", "(-2 ^ 2)"),
    ("8/4/2", "((8 / 4) / 2)"),
    ("1 - 2 - 3", "((1 - 2) - 3)"),
    ("1 > 2 + 3", "(1 > (2 + 3))"),
    ("vector(1) or vector(2) and vector(3)", "(vector(1) or (vector(2) and vector(3)))"),
    ("vector(1) unless vector(2) and vector(3)", "((vector(1) unless vector(2)) and vector(3))"),
    ("vector(1) and vector(2) > vector(3)", "(vector(1) and (vector(2) > vector(3)))"),
    ("1 == 2 > 3", "((1 == 2) > 3)"),
    ("2 * 3 % 4", "((2 * 3) % 4)"),
    ('{a="b"} | x=1, y="2" or z>3', '{a="b"} | x == 1 and (y="2" or z > 3)'),
    ('{a="b"} | x="1" or y="1" z="1"', '{a="b"} | x="1" or y="1" and z="1"'),
    ('{a="b"} | x=1 and y=2 or z=3', '{a="b"} | x == 1 and y == 2 or z == 3'),
    ('{a="b"} | x=1 and (y=2 or z=3)', '{a="b"} | x == 1 and (y == 2 or z == 3)'),
    ('{a="b"} | (x=1)', '{a="b"} | x == 1'),
    ('{a="b"} | (json!="x")', '{a="b"} | (json!="x")'),
    ('{a="b"} | x>2048B | y>3000KB | z>0B', '{a="b"} | x > 2KiB | y > 3MB | z > 0B'),
    ('{a="b"} | x>1.50 | y>1e3', '{a="b"} | x > 1.5 | y > 1000'),
    ('{a="b"} | json a="a", b="c.d"', '{a="b"} | json a, b="c.d"'),
    ('{a="b"} | logfmt --keep-empty --strict x', '{a="b"} | logfmt --strict --keep-empty x'),
    ("topk(3,vector(1))by(x)", "topk by (x) (3,vector(1))"),
    ('{a="b"} | regexp `(?P<x>"\\d")`', r'{a="b"} | regexp "(?P<x>\"\\d\")"'),
    ("1 > bool on(x) group_left() (1+1)", "(1 > bool on (x) group_left () (1 + 1))"),
    ("1 / on(x) group_left vector(1)", "(1 / on (x) group_left vector(1))"),
    (
        'quantile_over_time(0.9,{a="b"}|unwrap bytes(x)|y="z"[1m])by(w)',
        'quantile_over_time(0.9,{a="b"} | unwrap bytes(x) | y="z" [1m]) by (w)',
    ),
]


@pytest.mark.parametrize(("query", "canonical"), CANONICAL)
def test_canonical_text(query, canonical):
    assert print_query(parse(query)) == canonical


TREES = [
    ('{a="b"}', t.LogQuery(APP)),
    (
        '{a="b"} |= "x" or ip("::1")',
        t.LogQuery(APP, (t.LineFilter("|=", (t.LineMatch("x"), t.LineMatch("::1", True))),)),
    ),
    ('{a="b"} | json x, y="z.w"', t.LogQuery(APP, (t.Json((("x", "x"), ("y", "z.w"))),))),
    ('{a="b"} | logfmt --strict', t.LogQuery(APP, (t.Logfmt(strict=True),))),
    ('{a="b"} | x = 5m', t.LogQuery(APP, (t.LabelFilter(t.Comparison("x", "==", t.Duration(5 * MINUTE))),))),
    ('{a="b"} | x >= 1.5KiB', t.LogQuery(APP, (t.LabelFilter(t.Comparison("x", ">=", t.Bytes(1536))),))),
    ('{a="b"} | x < -.5', t.LogQuery(APP, (t.LabelFilter(t.Comparison("x", "<", t.Number(-0.5))),))),
    (
        '{a="b"} | x != ip("::1")',
        t.LogQuery(APP, (t.LabelFilter(t.Comparison("x", "!=", t.IpMatch("::1"))),)),
    ),
    (
        # A comma takes all that follows, as Loki's grammar does.
        '{a="b"} | x="1" or x="2", x="3" or x="4"',
        t.LogQuery(APP, (t.LabelFilter(t.Or(x("1"), t.And(x("2"), t.Or(x("3"), x("4"))))),)),
    ),
    (
        '{a="b"} | x="1" and x="2" or x="3"',
        t.LogQuery(APP, (t.LabelFilter(t.Or(t.And(x("1"), x("2")), x("3"))),)),
    ),
    ('{a="b"} | json != "x"', t.LogQuery(APP, (t.Json(), t.LineFilter("!=", (t.LineMatch("x"),))))),
    ('{a="b"} | json="x"', t.LogQuery(APP, (t.LabelFilter(x("x", "json")),))),
    ('{a="b"} | drop x != "y"', t.LogQuery(APP, (t.Drop((t.Matcher("x", "!=", "y"),)),))),
    (
        '{a="b"} | label_format x=y, z="w"',
        t.LogQuery(APP, (t.LabelFormat((t.Rename("x", "y"), t.Template("z", "w"))),)),
    ),
    (
        'sum_over_time({a="b"} | unwrap duration(x) | x="1" [5m] offset -1m)',
        t.RangeAggregation(
            "sum_over_time",
            t.LogQuery(APP),
            5 * MINUTE,
            t.Unwrap("x", "duration"),
            (t.LabelFilter(x("1")),),
            offset_ns=-MINUTE,
        ),
    ),
    ("sort(vector(1)) by ()", t.VectorAggregation("sort", t.VectorFn(1.0))),
    ("sum by () (1)", t.VectorAggregation("sum", t.Scalar(1.0), t.Grouping(False, ()))),
    ("topk(3, vector(1))", t.VectorAggregation("topk", t.VectorFn(1.0), None, 3)),
    (
        "1 > bool on (x) group_right (y) 2",
        t.Binary(">", t.Scalar(1.0), t.Scalar(2.0), t.Matching(True, ("x",), "right", ("y",)), True),
    ),
    ("1 - -0x1p3", t.Binary("-", t.Scalar(1.0), t.Scalar(-8.0))),
    (r'{a="\xc3\xa9\n\101"}', t.LogQuery(t.Selector((t.Matcher("a", "=", "é\nA"),)))),
]


@pytest.mark.parametrize(("query", "tree"), TREES, ids=[query for query, _ in TREES])
def test_tree(query, tree):
    assert parse(query) == tree


def test_depth_up_to_the_limit_can_be_walked():
    deep = parse(" + ".join(["1"] * MAX_DEPTH))
    assert parse(print_query(deep)) == deep
    assert parse(pretty(deep)) == deep
    repr(deep)
    hash(deep)
    wide = parse('{a="b"} | ' + " or ".join(["x=1"] * MAX_DEPTH))
    assert parse(print_query(wide)) == wide
    parse("(" * 5000 + "1" + ")" * 5000)


LAYOUTS = [
    (
        'sum by (x) (rate({job="postgres"} |= "a long text" [5m]))',
        30,
        'sum by (x) (\n  rate(\n    {job="postgres"}\n      |= "a long text" [5m]\n  )\n)',
    ),
    ('{a="b"} | json', 80, '{a="b"} | json'),
    ('{a="b"} | json | x=1', 12, '{a="b"}\n  | json\n  | x == 1'),
    ("1 + 2 * 3", 8, "  1\n+\n  (2 * 3)"),
    ("(1 + 2) / 3", 5, "  (\n    1\n  +\n    2\n  )\n/\n  3"),
    (
        'label_replace(rate({a="b"}[5m]), "x", "$1", "y", "(.*)")',
        40,
        'label_replace(\n  rate({a="b"}[5m]),\n  "x",\n  "$1",\n  "y",\n  "(.*)"\n)',
    ),
    (
        'quantile_over_time(0.9, {a="b"} | json | unwrap x | y="z" [5m] offset 1h) by (w)',
        30,
        'quantile_over_time(\n  0.9,\n  {a="b"} | json\n    | unwrap x\n    | y="z" [5m] offset 1h\n) by (w)',
    ),
    (
        'topk(9, sum by (x) (rate({a="b"} |= "y" [5m])) / on (x) group_left sum by (x) (rate({a="b"}[5m])))',
        40,
        """\
topk(
  9,
    sum by (x) (rate({a="b"} |= "y" [5m]))
  / on (x) group_left
    sum by (x) (rate({a="b"}[5m]))
)""",
    ),
]


@pytest.mark.parametrize(("query", "width", "layout"), LAYOUTS)
def test_layout(query, width, layout):
    assert pretty(parse(query), width) == layout


def test_threads_may_parse_at_once():
    queries = [query for _, query in ACCEPTED]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(parse, queries)) == [parse(query) for query in queries]
