import dataclasses
import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from atalaia.logql import tree as t
from atalaia.logql.errors import LogQLError
from atalaia.logql.parse import parse
from atalaia.logql.pretty import pretty
from atalaia.logql.printer import print_query

from .accepted import ACCEPTED
from .strategies import queries

RELAXED = settings(deadline=None, database=None, max_examples=200, suppress_health_check=[HealthCheck.too_slow])
QUICK = settings(RELAXED, max_examples=400)
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
