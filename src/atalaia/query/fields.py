"""Fields of entries: which labels a parser would find in their lines, of what type, with how many values."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from atalaia.logql.entry import Entry
from atalaia.logql.extract import BLANKS, ERROR, json_labels, logfmt_labels, sanitise
from atalaia.logql.values import duration, number, size

_INT = re.compile(r"[+-]?[0-9]+")
_BOOLEAN = frozenset({"t", "T", "true", "True", "TRUE", "f", "F", "false", "False", "FALSE"})
_Path = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Field:
    """A label. `parsers`: json and logfmt, those that find it in lines; none for structured metadata.

    `path`: the keys that lead to it in a JSON line; none where no line is one.
    """

    label: str
    type: str
    values: frozenset[str]
    parsers: tuple[str, ...]
    path: _Path


@dataclass(slots=True)
class _Seen:
    values: set[str] = field(default_factory=set)
    parsers: set[str] = field(default_factory=set)
    path: _Path = ()


def fields(entries: Sequence[Entry], limit: int, check: Callable[[], None] = lambda: None) -> list[Field]:
    """The first `limit` fields of some entries, by name; `check` is called for each entry, and may raise.

    Structured metadata, what the query parsed, and what a parser finds in the lines that the query leaves.
    """
    seen: dict[str, _Seen] = {}
    for entry in entries:
        check()
        for name, value, parser, path in _found(entry):
            if name not in seen and len(seen) >= limit:
                continue
            one = seen.setdefault(name, _Seen())
            one.values.add(value)
            one.path = one.path or path
            if parser:
                one.parsers.add(parser)
    return [
        Field(name, type_of(one.values), frozenset(one.values), tuple(sorted(one.parsers)), one.path)
        for name, one in sorted(seen.items())
    ]


def values(entries: Sequence[Entry], name: str, limit: int, check: Callable[[], None] = lambda: None) -> list[str]:
    """The first `limit` values of one field, sorted; `check` as above."""
    seen: set[str] = set()
    for entry in entries:
        check()
        seen.update(value for label, value, _, _ in _found(entry) if label == name and len(seen) < limit)
    return sorted(seen)


def _found(entry: Entry) -> Iterator[tuple[str, str, str, _Path]]:
    """Names and values, with the parser that finds them and the path in a JSON line."""
    for name, value in (*entry.metadata.items(), *entry.parsed.items()):
        yield name, value, "", ()
    parser = "json"
    paths: dict[str, _Path] = {}
    labels = json_labels(entry.line)
    if ERROR in labels:
        parser, labels = "logfmt", logfmt_labels(entry.line, False, False)
        if ERROR in labels:
            return
    elif labels:
        paths = _paths(entry.line)
    # A label of the stream keeps its name; what the query parsed is found again.
    parsed = Entry(entry.ts, entry.line, {k: v for k, v in entry.stream.items() if k not in entry.parsed}, {})
    parsed.parse(labels)
    for name, value in parsed.parsed.items():
        path = paths.get(name) or paths.get(name.removesuffix("_extracted"), ())
        yield name, value, parser, path


def _paths(line: str) -> dict[str, _Path]:
    """The path to each label of a JSON line; none where the line has a fault."""
    try:
        data = json.loads(line, object_pairs_hook=tuple)
    except (ValueError, RecursionError):
        return {}
    found: dict[str, _Path] = {}
    waiting: list[tuple[str, _Path, Any]] = [("", (), data)]
    while waiting:
        name, path, value = waiting.pop()
        if isinstance(value, tuple):
            waiting += [(_joined(name, key), (*path, key), inner) for key, inner in value[::-1]]
        elif value is not None and not isinstance(value, list):
            found.setdefault(name, path)
    return found


def _joined(prefix: str, key: str) -> str:
    """As `json` names what is in an object: there, a digit that begins a key does not begin a label."""
    return f"{prefix}_{sanitise('x' + key.strip(BLANKS))[1:]}" if prefix else sanitise(key)


def type_of(found: set[str]) -> str:
    """The type that all values have: int, float, boolean, duration, bytes, or else string."""
    kinds = {_kind(value) for value in found}
    if kinds == {"int", "float"}:
        return "float"
    return kinds.pop() if len(kinds) == 1 else "string"


def _kind(value: str) -> str:
    """As Loki reads it: Go's ParseInt, ParseFloat, ParseBool, ParseDuration, then sizes."""
    if _INT.fullmatch(value) and -(2**63) <= int(value[:25]) < 2**63:
        return "int"
    if number(value) is not None:
        return "float"
    if value in _BOOLEAN:
        return "boolean"
    if duration(value) is not None:
        return "duration"
    return "string" if size(value) is None else "bytes"
