"""Parser stages as SQL: which labels a parser finds in the column `line`, and with which error."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import singledispatch

import re2

from .conditions import literal
from .extract import ERROR, JSON_ERROR, sanitise
from .patterns import capture_sql
from .scan_json import json_error, json_label, json_value
from .scan_logfmt import logfmt_error, logfmt_label
from .tree import Json, Logfmt, Pattern, Regexp


@dataclass(frozen=True, slots=True)
class Parser:
    """What one parser finds, as SQL: either a map of all labels and any one of them, or some labels by name.

    `error` is NULL for none.
    """

    labels: str | None
    named: Mapping[str, str]
    error: str | None
    any_label: Callable[[str], str] | None = None

    def label(self, name: str) -> str | None:
        """SQL of one label; None when this parser never finds it."""
        return self.any_label(name) if self.any_label is not None else self.named.get(name)


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
        return Parser("line_json(line)", {}, json_error(f"line_json(line)[{literal(ERROR)}]"), json_label)
    # Of equal names the first one stays. An expression finds nothing only where the line is not JSON.
    named = {name: json_value(path) for name, path in stage.expressions[::-1]}
    path = stage.expressions[0][1]
    unread = f"CASE WHEN line_json_at(line, {literal(path)}) IS NULL THEN {literal(JSON_ERROR)} END"
    return Parser(None, named, json_error(unread))


@parser_of.register
def _logfmt(stage: Logfmt) -> Parser:
    error = logfmt_error(stage.keep_empty) if stage.strict else None

    def label(name: str) -> str:
        return logfmt_label(name, stage.strict, stage.keep_empty)

    if not stage.expressions:
        return Parser(f"line_logfmt(line, {stage.strict}, {stage.keep_empty})", {}, error, label)
    return Parser(None, {name: label(sanitise(key)) for name, key in stage.expressions[::-1]}, error)
