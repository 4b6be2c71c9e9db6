"""Parser stages as SQL: which labels a parser finds in the column `line`, and with which error."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import singledispatch

import re2

from .extract import sanitise
from .patterns import capture_sql
from .scan_json import HAS_VALUES, IS_JSON, json_error, json_label, json_value, values_error
from .scan_logfmt import logfmt_error, logfmt_label
from .sqltext import literal
from .tree import Json, Logfmt, Pattern, Regexp

EMPTY = "''"


@dataclass(frozen=True, slots=True)
class Parser:
    """What one parser finds, as SQL: either a map of all labels and any one of them, or some labels by name.

    `error` is NULL for none. `fills`: whether a label that it names and does not find, and nobody else has, is empty.
    `usual`: a test of lines that are free of errors, and what is found in those, which takes less.
    """

    labels: str | None
    named: Mapping[str, str]
    error: str | None
    fills: bool = False
    any_label: Callable[[str], str] | None = None
    usual: tuple[str, Parser] | None = None

    def label(self, name: str) -> str | None:
        """SQL of one label; None when this parser never finds it."""
        return self.any_label(name) if self.any_label is not None else self.named.get(name)

    def decided(self, column: str) -> Parser:
        """The same where a column holds the result of the test of `usual`."""
        if self.usual is None:
            return self

        def either(quickly: str, slowly: str) -> str:
            return f"CASE WHEN {column} THEN {quickly} ELSE {slowly} END"

        whole, usual = self, self.usual[1]
        error = self.error and f"CASE WHEN NOT {column} THEN {self.error} END"
        named = {name: either(usual.named[name], sql) for name, sql in self.named.items()}
        if self.any_label is None:
            return replace(self, named=named, error=error)
        return replace(self, error=error, any_label=lambda n: either(str(usual.label(n)), str(whole.label(n))))


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
        usual = Parser("line_json(line)", {}, None, any_label=lambda name: json_label(name, checked=True))
        return Parser("line_json(line)", {}, json_error(), any_label=json_label, usual=(IS_JSON, usual))
    # Of equal names the first one stays.
    named = dict(stage.expressions[::-1])
    usual = Parser(None, {name: json_value(path, checked=True) for name, path in named.items()}, None)
    found = {name: json_value(path) for name, path in named.items()}
    return Parser(None, found, values_error(named.values()), usual=(HAS_VALUES, usual))


@parser_of.register
def _logfmt(stage: Logfmt) -> Parser:
    error = logfmt_error(stage.keep_empty) if stage.strict else None

    def label(name: str) -> str:
        return logfmt_label(name, stage.strict, stage.keep_empty)

    if not stage.expressions:
        return Parser(f"line_logfmt(line, {stage.strict}, {stage.keep_empty})", {}, error, any_label=label)
    return Parser(None, {name: label(sanitise(key)) for name, key in stage.expressions[::-1]}, error, fills=True)
