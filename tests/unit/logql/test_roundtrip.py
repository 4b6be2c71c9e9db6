import dataclasses
import os
import random
import types
import typing

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from tests.conftest import soak

from atalaia.logql import checks
from atalaia.logql import tree as t
from atalaia.logql.errors import LogQLError
from atalaia.logql.parse import parse
from atalaia.logql.pretty import pretty
from atalaia.logql.printer import print_query

from . import strategies
from .accepted import ACCEPTED
from .strategies import queries

EXAMPLES = int(os.environ.get("ATALAIA_EXAMPLES") or (10_000 if soak() else 200))
RELAXED = settings(deadline=None, database=None, max_examples=EXAMPLES, suppress_health_check=[HealthCheck.too_slow])
QUICK = settings(RELAXED, max_examples=2 * EXAMPLES)
_WORDS = r"""
{ } ( ) [5m] [1h] , | |= != |~ !~ |> !> = == =~ > >= < <= + - * / % ^ and or unless bool on ignoring by
without group_left group_right offset 5m 1.5 20MB 0x1p3 a b json logfmt regexp pattern unpack unwrap drop
keep ip( bytes( line_format label_format decolorize rate( sum( topk( vector( label_replace( "x" `y` "(" "\q"
quantile_over_time( --strict {a="b"} " ` ' @ é
"""
PIECES = [*_WORDS.split(), "\n", "#", "\x00", "\ud800"]


@given(queries())
@RELAXED
def test_text_of_a_tree_parses_to_the_tree(query):
    text = print_query(query)
    assert "\n" not in text
    assert parse(text) == query
    assert print_query(parse(text)) == text


@given(queries(), st.integers(1, 120))
@RELAXED
def test_layout_does_not_change_the_tree(query, width):
    assert parse(pretty(query, width)) == query


@given(queries())
@settings(RELAXED, max_examples=50)
def test_trees_are_values(query):
    assert hash(query) == hash(parse(print_query(query)))
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(query, dataclasses.fields(query)[0].name, None)


@given(st.text(max_size=40))
@QUICK
def test_any_text_parses_or_is_refused(text):
    _parses_or_is_refused(text)


@given(st.lists(st.sampled_from(PIECES), max_size=15))
@QUICK
def test_any_row_of_words_parses_or_is_refused(words):
    _parses_or_is_refused(" ".join(words))


@given(st.sampled_from([query for _, query in ACCEPTED]), st.integers(0, 2**32))
@QUICK
def test_a_damaged_query_parses_or_is_refused(query, seed):
    dice = random.Random(seed)
    for _ in range(dice.randint(1, 3)):
        at = dice.randrange(len(query) + 1)
        query = query[:at] + dice.choice(["", dice.choice(PIECES)]) + query[at + dice.randint(0, 2) :]
    _parses_or_is_refused(query)


def _parses_or_is_refused(text):
    error = None
    try:
        tree = parse(text)
    except LogQLError as refusal:
        error = refusal
    if error is None:
        assert parse(print_query(tree)) == tree
        return
    lines = text.split("\n")
    assert 1 <= error.line <= len(lines)
    assert 1 <= error.column <= len(lines[error.line - 1]) + 1
    assert str(error).startswith(f"parse error at line {error.line}, col {error.column}: ")


def test_a_bare_dropped_name_before_a_negated_line_filter_cannot_be_said():
    selector = t.Selector((t.Matcher("a", "=", "b"),))
    for op in ("!=", "!~"):
        query = t.LogQuery(selector, (t.Drop(("x",)), t.LineFilter(op, (t.LineMatch("y"),))))
        with pytest.raises(ValueError, match="cannot say"):
            print_query(query)
        with pytest.raises(ValueError, match="cannot say"):
            pretty(query)


# ---- what the strategy makes

NODES = [c for c in vars(t).values() if isinstance(c, type) and dataclasses.is_dataclass(c)]
NEVER_EMPTY = {
    (t.Selector, "matchers"),
    (t.LineFilter, "alternatives"),
    (t.LabelFormat, "assignments"),
    (t.Drop, "items"),
    (t.Keep, "items"),
}
SIGNED = {(t.Number, "value"), (t.Duration, "ns"), (t.RangeAggregation, "offset_ns"), (t.Scalar, "value")}
AMOUNT_OPS = ("==", "!=", ">", ">=", "<", "<=")


def _demanded():
    """What at least one tree must have: each class, each choice of each field, and the pairs that rules are made of."""
    for cls in NODES:
        hints = typing.get_type_hints(cls)
        yield (cls,)
        for field in dataclasses.fields(cls):
            for choice in _choices(hints[field.name]):
                if choice != "empty" or (cls, field.name) not in NEVER_EMPTY:
                    yield (cls, field.name, choice)
    yield from ((cls, name, sign) for cls, name in SIGNED for sign in (-1, 1))
    for op in typing.get_args(t.RangeOp):
        yield from (("grouped", op, one) for one in {False, op in checks.GROUPED})
        allowed = {True} if op in checks.UNWRAPPED_ONLY else {False} if op in checks.NEVER_UNWRAPPED else {False, True}
        yield from (("unwrapped", op, one) for one in allowed)
    for kind, ops in ((str, ("=", "!=", "=~", "!~")), (t.IpMatch, ("=", "!=")), (t.Number, AMOUNT_OPS)):
        yield from (("compared", kind, op) for op in ops)
    yield from (("compared", kind, op) for kind in (t.Duration, t.Bytes) for op in AMOUNT_OPS)
    yield from (("bool", op, one) for op in AMOUNT_OPS for one in (False, True))
    yield from (("address", op) for op in ("|=", "!="))


def _choices(hint):
    """The alternatives of a type: values of a Literal, True and False, members of a union, empty tuples and others."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        return list(inner)
    if hint is bool:
        return [False, True]
    if origin in (types.UnionType, typing.Union):
        # Of large unions, the metrics and the stages, it is enough that each member is somewhere.
        return [] if len(inner) > 5 else [choice for member in inner for choice in (_choices(member) or [member])]
    if origin is tuple:
        kinds = typing.get_args(inner[0])
        return ["empty", "several", *(kinds if typing.get_origin(inner[0]) is not tuple and len(kinds) <= 5 else ())]
    return [hint] if hint is type(None) else []


def _shown(node):
    """What a tree has of that."""
    cls = type(node)
    yield (cls,)
    for field in dataclasses.fields(cls):
        value = getattr(node, field.name)
        yield from ((cls, field.name, part) for part in (type(value), value) if part.__hash__)
        if isinstance(value, tuple):
            yield (cls, field.name, "several" if value else "empty")
            yield from ((cls, field.name, type(item)) for item in value)
        if (cls, field.name) in SIGNED and value:
            yield (cls, field.name, -1 if value < 0 else 1)
        for child in value if isinstance(value, tuple) else (value,):
            if dataclasses.is_dataclass(child):
                yield from _shown(child)
    match node:
        case t.RangeAggregation(op=op):
            yield from (("grouped", op, node.grouping is not None), ("unwrapped", op, node.unwrap is not None))
        case t.Comparison(op=op, value=value):
            yield ("compared", type(value), op)
        case t.Binary(op=op):
            yield ("bool", op, node.return_bool)
        case t.LineFilter(op=op, alternatives=alternatives):
            yield from (("address", op) for match in alternatives if match.ip)


def test_the_strategy_makes_every_node_with_every_option(monkeypatch):
    missing = set(_demanded())
    assert len(missing) > 200

    def look(strategy, examples, number=0):
        @seed(number)
        @given(strategy)
        @settings(RELAXED, max_examples=examples, phases=[Phase.generate], derandomize=False, database=None)
        def one(node):
            missing.difference_update(_shown(node))

        one()

    look(strategies.stages(), 500)
    look(strategies.log_queries(), 20)
    look(st.builds(t.LabelFilter, strategies.conditions()), 50)
    look(strategies.comparisons(), 800)
    # What metrics are made of has been seen; with small pieces there is time for more of them.
    small = t.Comparison("a", "=", "b")
    monkeypatch.setattr(strategies, "conditions", lambda: st.just(small))
    query = t.LogQuery(t.Selector((t.Matcher("a", "=", "b"),)))
    monkeypatch.setattr(strategies, "log_queries", lambda: st.just(query))
    look(strategies.range_aggregations(), 400)
    # Which examples a seed gives depends on the constants of all modules that are loaded.
    for number in range(5):
        if missing:
            look(strategies.metrics(), 700, number)
    assert not missing
