"""Line filters: as SQL, as tests of one line, and as what the store can know of them before it reads lines."""

from __future__ import annotations

from collections.abc import Callable

import re2

from . import addresses
from .errors import TooComplex
from .patterns import is_like, like_expression, like_sql
from .sqltext import literal
from .tree import LineFilter, LineMatch

MAX_ALTERNATIVES = 500
_ANY_ADDRESS = "[.:]"


def line_filter(stage: LineFilter) -> str:
    """SQL of a line filter; the alternatives of a negated one must all fail. Raises TooComplex."""
    count = len(stage.alternatives)
    if count > MAX_ALTERNATIVES:
        raise TooComplex(f"a line filter has {count} alternatives; at most {MAX_ALTERNATIVES} are answered")
    tests = [_sql(stage.op, alternative) for alternative in stage.alternatives]
    joined = tests[0] if len(tests) == 1 else f"({' OR '.join(tests)})"
    return f"NOT {joined}" if stage.op.startswith("!") else joined


def line_test(stage: LineFilter) -> Callable[[str], bool]:
    """The same for one line in Python."""
    tests = [_test(stage.op, alternative) for alternative in stage.alternatives]
    if stage.op.startswith("!"):
        return lambda line: not any(test(line) for test in tests)
    return tests[0] if len(tests) == 1 else lambda line: any(test(line) for test in tests)


def needed(stage: LineFilter) -> tuple[tuple[str, bool], ...]:
    """For each alternative a text that a line must hold, or with True an expression (RE2) that it must match."""
    return tuple(_needed(stage.op, alternative) for alternative in stage.alternatives)


def _sql(op: str, match: LineMatch) -> str:
    if match.ip:
        quickly = f"regexp_matches(line, {literal(addresses.shape(match.value))})"
        return f"({quickly} AND holds_address(line, {literal(match.value)}))"
    if op in ("|=", "!="):
        return f"contains(line, {literal(match.value)})"
    if op in ("|~", "!~"):
        return f"regexp_matches(line, {literal(match.value)})"
    return like_sql(match.value)


def _test(op: str, match: LineMatch) -> Callable[[str], bool]:
    wanted = match.value
    if match.ip:
        return lambda line: addresses.holds_address(line, wanted)
    if op in ("|=", "!="):
        return lambda line: wanted in line
    if op in ("|~", "!~"):
        compiled = re2.compile(wanted)
        return lambda line: compiled.search(line) is not None
    return lambda line: is_like(wanted, line)


def _needed(op: str, match: LineMatch) -> tuple[str, bool]:
    if match.ip:
        return _ANY_ADDRESS, True
    if op in ("|>", "!>"):
        return like_expression(match.value), True
    return match.value, op in ("|~", "!~")
