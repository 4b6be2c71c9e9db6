"""Parser stages as SQL: which labels a parser finds in the column `line`, and with which error."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import singledispatch

import re2

from .conditions import literal
from .extract import ERROR, JSON_ERROR, LOGFMT_ERROR, sanitise
from .patterns import capture_sql
from .tree import Json, Logfmt, Pattern, Regexp

EMPTY = "''"


@dataclass(frozen=True, slots=True)
class Parser:
    """What one parser finds, as SQL: either a map of all labels, or some labels by name; `error` is NULL for none.

    `fills`: whether a label that it names and does not find, and nobody else has, is empty.
    """

    labels: str | None
    named: Mapping[str, str]
    error: str | None
    is_json: bool = False
    fills: bool = False

    def label(self, name: str) -> str | None:
        """SQL of one label; None when this parser never finds it."""
        if self.labels is None:
            return self.named.get(name)
        return _json_label(name) if self.is_json and "_" not in name else f"{self.labels}[{literal(name)}]"


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


# DuckDB reads a little more as JSON than there is: a comma before a closing bracket, NaN, Infinity. It does not know
# which keys become equal once blanks around them are gone. A line where that may be so is left to the function.
_UNUSUAL = literal(
    r",\s*[}\]]|[:\[,]\s*[-+]?(?i:nan|inf|infinity)\s*[,}\]]"
    r'|[{,]\s*"(?:[\s\pZ\x{85}\\"])|(?:[\s\pZ\x{85}]|\\\w+)"\s*:'
)


# Of what is no JSON, an object's beginning may still hold labels. Expressions look at the very first character.
_OBJECT = literal(r"^[ \t\r\n]*\{")
_CONTAINER = literal(r'^["\[{]')


def _in_json(usual: str, unusual: str, invalid: str) -> str:
    return (
        f"CASE WHEN NOT json_valid(line) THEN {invalid}"
        f" WHEN regexp_matches(line, {_UNUSUAL}) THEN {unusual} ELSE {usual} END"
    )


def _json_label(name: str) -> str:
    """SQL of a label without an underscore, which only a top-level key of that very name can have become.

    Numbers with a fraction or an exponent would lose their spelling in DuckDB.
    """
    path, slowly = literal(f'$."{name}"'), f"line_json(line)[{literal(name)}]"
    quickly = (
        f"CASE json_type(line, {path}) WHEN 'DOUBLE' THEN {slowly} WHEN 'BIGINT' THEN {slowly}"
        f" WHEN 'OBJECT' THEN {slowly} WHEN 'ARRAY' THEN {slowly} WHEN 'NULL' THEN {slowly}"
        f" ELSE json_extract_string(line, {path}) END"
    )
    return _in_json(quickly, slowly, _where(_OBJECT, slowly, "NULL"))


def _where(pattern: str, then: str, otherwise: str) -> str:
    return f"CASE WHEN regexp_matches(line, {pattern}) THEN {then} ELSE {otherwise} END"


@parser_of.register
def _json(stage: Json) -> Parser:
    kind, slowly = literal(JSON_ERROR), f"line_json(line)[{literal(ERROR)}]"
    if not stage.expressions:
        usual = f"CASE WHEN json_type(line) <> 'OBJECT' THEN {kind} END"
        return Parser("line_json(line)", {}, _in_json(usual, slowly, _where(_OBJECT, slowly, kind)), is_json=True)
    # An expression gives NULL where what it finds is broken, and where the line does not begin like JSON.
    found = {name: f"line_json_at(line, {literal(path)})" for name, path in stage.expressions[::-1]}
    named = {name: f"COALESCE({sql}, {_where(_CONTAINER, EMPTY, 'NULL')})" for name, sql in found.items()}
    broken = " OR ".join(f"{sql} IS NULL" for sql in found.values())
    unusual = f"CASE WHEN line <> '' AND ({broken}) THEN {kind} END"
    return Parser(None, named, _in_json(_where(_CONTAINER, "NULL", kind), unusual, unusual))


@parser_of.register
def _logfmt(stage: Logfmt) -> Parser:
    whole = f"line_logfmt(line, {stage.strict}, {stage.keep_empty})"
    kind = literal(LOGFMT_ERROR)
    error = f"CASE WHEN {whole}[{literal(ERROR)}] IS NOT NULL THEN {kind} END" if stage.strict else None
    if not stage.expressions:
        return Parser(whole, {}, error)
    named = {name: f"{whole}[{literal(sanitise(key))}]" for name, key in stage.expressions[::-1]}
    return Parser(None, named, error, fills=True)
