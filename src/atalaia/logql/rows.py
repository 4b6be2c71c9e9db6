"""What a query's stages make of one entry that passes: its labels, where they come from, and its error.

The same in plain Python as plan.py says in SQL, for the few rows of an answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import re2

from . import values
from .conditions import FILTER_ERROR
from .extract import DETAILS, ERROR, JSON_ERROR, json_labels, json_value, logfmt_labels, sanitise
from .tree import And, Comparison, Condition, Json, LabelFilter, Logfmt, LogQuery, Or


@dataclass(frozen=True, slots=True)
class Seen:
    """An entry's labels by their origin, named as a query sees them; no name is in two of them."""

    stream: Mapping[str, str]
    metadata: Mapping[str, str]
    parsed: Mapping[str, str]

    def all(self) -> dict[str, str]:
        """All labels."""
        return {**self.stream, **self.metadata, **self.parsed}


def see(stream: Mapping[str, str], metadata: Mapping[str, str], found: Mapping[str, str]) -> Seen:
    """Name what was found. The stream comes first, then structured metadata, then parsed labels.

    A name that is taken gets the suffix _extracted; where even that is taken, the label is hidden.
    """
    own = {name: value for name, value in metadata.items() if name not in stream}
    parsed = {name: value for name, value in found.items() if name not in stream and name not in own}
    for name, value in found.items():
        again = f"{name}_extracted"
        if name not in parsed and again not in stream and again not in own:
            parsed.setdefault(again, value)
    for name, value in metadata.items():
        again = f"{name}_extracted"
        if name in stream and again not in stream and again not in parsed:
            own.setdefault(again, value)
    return Seen(stream, own, parsed)


def labels_of(query: LogQuery, line: str, stream: Mapping[str, str], metadata: Mapping[str, str]) -> Seen:
    """The labels of an entry after all stages of the query, which it is known to pass."""
    found: dict[str, str] = {}
    fault: dict[str, str] = {}
    for stage in query.stages:
        match stage:
            case Json() | Logfmt():
                new = parse_line(stage, line)
                fault = {name: new.pop(name) for name in (ERROR, DETAILS) if name in new} or fault
                found = {**new, **found}
            case LabelFilter():
                _, fault = _judge(stage.condition, see(stream, metadata, found).all(), fault)
            case _:
                pass
    seen = see(stream, metadata, found)
    return Seen(seen.stream, seen.metadata, {**seen.parsed, **fault})


def parse_line(stage: Json | Logfmt, line: str) -> dict[str, str]:
    """What one parser finds in a line, and its error."""
    if isinstance(stage, Logfmt):
        whole = logfmt_labels(line, stage.strict, stage.keep_empty)
        if not stage.expressions:
            return whole
        named = {name: whole[sanitise(key)] for name, key in stage.expressions[::-1] if sanitise(key) in whole}
        return named | {name: whole[name] for name in (ERROR, DETAILS) if name in whole}
    if not stage.expressions:
        return json_labels(line)
    found: dict[str, str] = {}
    for name, path in stage.expressions:
        value = json_value(line, path)
        if value is None:
            return {ERROR: JSON_ERROR, DETAILS: "the line is not JSON"}
        found.setdefault(name, value)
    return found


def _judge(tree: Condition, labels: Mapping[str, str], fault: dict[str, str]) -> tuple[bool, dict[str, str]]:
    """Whether an entry passes, and its error afterwards."""
    if isinstance(tree, (And, Or)):
        left, fault = _judge(tree.left, labels, fault)
        if left and isinstance(tree, Or):
            return True, fault
        right, fault = _judge(tree.right, labels, fault)
        return (left and right) if isinstance(tree, And) else right, fault
    if isinstance(tree.value, str):
        return _matches(tree.op, tree.value, {**labels, **fault}.get(tree.name, "")), fault
    if tree.name not in labels:
        return False, fault
    if fault:
        return True, fault
    return _compare(tree, labels[tree.name])


def _compare(tree: Comparison, text: str) -> tuple[bool, dict[str, str]]:
    kind, wanted = values.kind_of(tree.value)
    code = values.compare(text, kind, tree.op, wanted)
    if code == values.UNREADABLE:
        return True, {ERROR: FILTER_ERROR, DETAILS: values.complaint(text, kind)}
    return code == values.PASSES, {}


@lru_cache(maxsize=256)
def _pattern(text: str) -> Any:
    return re2.compile(f"(?s:{text})")


def _matches(op: str, wanted: str, text: str) -> bool:
    if op in ("=", "!="):
        return (text == wanted) == (op == "=")
    return (_pattern(wanted).fullmatch(text) is not None) == (op == "=~")
