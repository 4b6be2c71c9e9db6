"""A query's pipeline over one entry, in plain Python: for the rows of an answer, and for what SQL cannot say.

What plan.py says in SQL it says alike.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import singledispatch

import re2

from . import linefilters, patterns
from .entry import Entry
from .extract import (
    DETAILS,
    ERROR,
    JSON_BEGINNINGS,
    JSON_ERROR,
    json_labels,
    json_value,
    logfmt_labels,
    sanitise,
    unpacked,
)
from .formatting import decolorized, drop, keep, label_format, line_format
from .judge import judge
from .tree import (
    Decolorize,
    Drop,
    Json,
    Keep,
    LabelFilter,
    LabelFormat,
    LineFilter,
    LineFormat,
    Logfmt,
    LogQuery,
    Pattern,
    RangeAggregation,
    Regexp,
    Unpack,
    Unwrap,
)
from .unwrap import unwrap

Step = Callable[[Entry], bool]
"""Changes an entry; whether it passes."""
Run = Callable[[int, str, Mapping[str, str], Mapping[str, str]], Entry | None]
"""An entry of these: time, line, stream, metadata; None when it does not pass."""


def pipeline(query: LogQuery | RangeAggregation) -> Run:
    """The stages of a query, those after its unwrap included, as one function."""
    if isinstance(query, LogQuery):
        steps = [step(stage) for stage in query.stages]
    else:
        sampled = [query.unwrap] if query.unwrap else []
        steps = [step(stage) for stage in (*query.query.stages, *sampled, *query.unwrap_filters)]

    def run(ts: int, line: str, stream: Mapping[str, str], metadata: Mapping[str, str]) -> Entry | None:
        entry = Entry(ts, line, stream, metadata)
        for one in steps:
            if not one(entry):
                return None
        return entry

    return run


@singledispatch
def step(stage: object) -> Step:
    """A stage as a function. Raises LogQLError for a template that cannot be read."""
    raise TypeError(f"{stage!r} is no stage")


step.register(Unwrap, unwrap)
step.register(LineFormat, line_format)
step.register(LabelFormat, label_format)
step.register(Drop, drop)
step.register(Keep, keep)


@step.register
def _line_filter(stage: LineFilter) -> Step:
    test = linefilters.line_test(stage)
    return lambda entry: test(entry.line)


@step.register
def _label_filter(stage: LabelFilter) -> Step:
    def run(entry: Entry) -> bool:
        passes, entry.fault = judge(stage.condition, entry.get, entry.fault)
        return passes

    return run


@step.register
def _decolorize(_: Decolorize) -> Step:
    def run(entry: Entry) -> bool:
        entry.line = decolorized(entry.line)
        return True

    return run


def _parsing(find: Callable[[str], dict[str, str]]) -> Step:
    def run(entry: Entry) -> bool:
        entry.parse(find(entry.line))
        return True

    return run


@step.register
def _json(stage: Json) -> Step:
    if not stage.expressions:
        return _parsing(json_labels)

    def find(line: str) -> dict[str, str]:
        found: dict[str, str] = {}
        if line[:1] not in JSON_BEGINNINGS:
            return {ERROR: JSON_ERROR} if line else found
        for name, path in stage.expressions:
            value = json_value(line, path)
            if value is None:
                found[ERROR] = JSON_ERROR
            found.setdefault(name, value or "")
        return found

    return _parsing(find)


@step.register
def _logfmt(stage: Logfmt) -> Step:
    keys = [(name, sanitise(key)) for name, key in stage.expressions[::-1]]

    def run(entry: Entry) -> bool:
        found = logfmt_labels(entry.line, stage.strict, stage.keep_empty)
        if keys:
            named = {name: found[key] for name, key in keys if key in found}
            found = named | {name: found[name] for name in (ERROR, DETAILS) if name in found}
        entry.parse(found)
        entry.fill(name for name, _ in keys)
        return True

    return run


@step.register
def _regexp(stage: Regexp) -> Step:
    compiled = re2.compile(stage.pattern)
    groups = list(compiled.groupindex.items())

    def find(line: str) -> dict[str, str]:
        match = compiled.search(line)
        return {name: match[number] or "" for name, number in groups} if match else {}

    return _parsing(find)


@step.register
def _pattern(stage: Pattern) -> Step:
    return _parsing(lambda line: dict(patterns.captures(stage.pattern, line)))


@step.register
def _unpack(_: Unpack) -> Step:
    def run(entry: Entry) -> bool:
        entry.line, found = unpacked(entry.line)
        entry.parse(found)
        return True

    return run
