"""Parser stages as SQL: which labels a parser finds in the column `line`, and with which error."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import singledispatch

import re2

from .extract import sanitise
from .patterns import capture_sql
from .scan_json import (
    HAS_VALUES,
    IS_JSON,
    json_label,
    json_value,
    unusual_error,
    unusual_label,
    unusual_value,
    unusual_values_error,
)
from .scan_logfmt import logfmt_error, logfmt_label
from .sqltext import literal
from .tree import Json, Logfmt, Pattern, Regexp

EMPTY = "''"
_JSON = "line_json(line)"


@dataclass(frozen=True, slots=True)
class Parser:
    """What one parser finds, as SQL: either a map of all labels and any one of them, or some labels by name.

    `error` is NULL for none. `fills`: whether a label that it names and does not find, and nobody else has, is empty.
    `by_test`: a test of lines that are as usual and have no error, the parser of those, and the parser of the others.
    """

    labels: str | None
    named: Mapping[str, str]
    error: str | None
    fills: bool = False
    any_label: Callable[[str], str] | None = None
    by_test: tuple[str, Parser, Parser] | None = None

    def label(self, name: str) -> str | None:
        """SQL of one label; None when this parser never finds it."""
        return self.any_label(name) if self.any_label is not None else self.named.get(name)


def either(test: str, usual: Parser, unusual: Parser) -> Parser:
    """A parser of lines that are as usual, where a test in SQL says so, and of others."""

    def chosen(quickly: str, slowly: str) -> str:
        return f"CASE WHEN {test} THEN {quickly} ELSE {slowly} END"

    def any_label(name: str) -> str:
        return chosen(str(usual.label(name)), str(unusual.label(name)))

    named = {name: chosen(sql, unusual.named[name]) for name, sql in usual.named.items()}
    error = unusual.error and f"CASE WHEN NOT {test} THEN {unusual.error} END"
    found = any_label if usual.any_label else None
    return Parser(usual.labels, named, error, usual.fills, found, (test, usual, unusual))


def without_error(parser: Parser) -> Parser:
    """The same where nobody asks for errors."""
    if parser.by_test is None:
        return replace(parser, error=None)
    return either(parser.by_test[0], parser.by_test[1], without_error(parser.by_test[2]))


@singledispatch
def parser_of(stage: object) -> Parser:
    """A stage that finds labels, as SQL."""
    raise TypeError(f"{stage!r} is no parser")


@parser_of.register
def _regexp(stage: Regexp) -> Parser:
    groups = re2.compile(stage.pattern).groupindex
    return Parser(None, {name: _captured(stage.pattern, number) for name, number in groups.items()}, None)


@parser_of.register
def _pattern(stage: Pattern) -> Parser:
    return Parser(None, capture_sql(stage.pattern), None)


def _captured(pattern: str, group: int) -> str:
    """SQL of a group; "" where the group takes no part in a match, NULL where nothing matches."""
    found = f"NULLIF(regexp_extract(line, {literal(pattern)}, {group}), '')"
    return f"COALESCE({found}, CASE WHEN regexp_matches(line, {literal(pattern)}) THEN '' END)"


@parser_of.register
def _json(stage: Json) -> Parser:
    if not stage.expressions:
        usual = Parser(_JSON, {}, None, any_label=json_label)
        return either(IS_JSON, usual, Parser(_JSON, {}, unusual_error(), any_label=unusual_label))
    named = dict(stage.expressions[::-1])  # of equal names the first one stays
    usual = Parser(None, {name: json_value(path) for name, path in named.items()}, None)
    found = {name: unusual_value(path) for name, path in named.items()}
    return either(HAS_VALUES, usual, Parser(None, found, unusual_values_error(named.values())))


@parser_of.register
def _logfmt(stage: Logfmt) -> Parser:
    error = logfmt_error(stage.keep_empty) if stage.strict else None

    def label(name: str) -> str:
        return logfmt_label(name, stage.strict, stage.keep_empty)

    if not stage.expressions:
        return Parser(f"line_logfmt(line, {stage.strict}, {stage.keep_empty})", {}, error, any_label=label)
    return Parser(None, {name: label(sanitise(key)) for name, key in stage.expressions[::-1]}, error, fills=True)
