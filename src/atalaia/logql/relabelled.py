"""Stages that change labels or the line, as SQL: label_format, line_format, keep, drop; of templates those of fields.

What formatting.py says of one entry they say alike.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from .conditions import Inexpressible, text_test
from .extract import DETAILS, ERROR
from .formatting import fields
from .sqltext import literal
from .tree import Drop, Keep, LabelFormat, Matcher, Rename

if TYPE_CHECKING:
    from .plan import Pipeline

NOTHING = "NULL::VARCHAR"
_MOST = 50_000  # characters of a label's SQL; stages that build on each other could make it grow without end


def label_format(pipeline: Pipeline, stage: LabelFormat) -> None:
    """Give labels other names and values. Raises Inexpressible, and leaves the pipeline as it is then."""
    changed = dict(pipeline.changed)
    view = pipeline.with_labels(changed)
    templates: Pipeline | None = None  # sees the labels as they are before the first template
    for assignment in stage.assignments:
        _changeable(assignment.name)
        if isinstance(assignment, Rename):
            _changeable(assignment.source)
            source = view.label(assignment.source)
            changed[assignment.name] = _bounded(f"COALESCE({source}, {view.label(assignment.name)})")
            changed[assignment.source] = NOTHING
        else:
            templates = templates or pipeline.with_labels(dict(changed))
            changed[assignment.name] = _text(templates, assignment.template)
    pipeline.changed = changed


def line_format(pipeline: Pipeline, template: str) -> None:
    """Put another line in the place of the line. Raises Inexpressible."""
    pipeline.line = _text(pipeline, template)


def keep(pipeline: Pipeline, stage: Keep) -> None:
    """Leave only these labels. Raises Inexpressible."""
    names = {item for item in stage.items if isinstance(item, str)}
    tests = _by_name([item for item in stage.items if isinstance(item, Matcher)])
    changed = {name: sql for name, sql in pipeline.changed.items() if name in names}
    for name, matchers in tests.items():
        if name not in names:
            changed[name] = _if_any(pipeline, name, matchers, pipeline.label(name), NOTHING)
    pipeline.changed = changed
    kept = frozenset({*names, *tests} - {ERROR, DETAILS})
    pipeline.only = kept if pipeline.only is None else kept & (pipeline.only | tests.keys() | changed.keys())


def drop(pipeline: Pipeline, stage: Drop) -> None:
    """Remove labels. Raises Inexpressible."""
    names = {item for item in stage.items if isinstance(item, str)}
    tests = _by_name([item for item in stage.items if isinstance(item, Matcher)])
    changed = {
        name: _if_any(pipeline, name, matchers, NOTHING, pipeline.label(name)) for name, matchers in tests.items()
    }
    if pipeline.only is None and not pipeline.changed and not changed:
        pipeline.dropped.update(names - {ERROR, DETAILS})
    else:
        pipeline.changed = {**pipeline.changed, **changed, **dict.fromkeys(names - {ERROR, DETAILS}, NOTHING)}
    if ERROR in names:
        pipeline.error = pipeline.marks = None
        pipeline.parsers = [replace(parser, error=None) for parser in pipeline.parsers]


def _by_name(matchers: list[Matcher]) -> dict[str, list[Matcher]]:
    found: dict[str, list[Matcher]] = {}
    for matcher in matchers:
        _changeable(matcher.name)
        found.setdefault(matcher.name, []).append(matcher)
    return found


def _if_any(pipeline: Pipeline, name: str, matchers: list[Matcher], then: str, otherwise: str) -> str:
    label = pipeline.label(name)
    tests = " OR ".join(text_test(matcher.op, matcher.value, label) for matcher in matchers)
    return _bounded(f"CASE WHEN {tests} THEN {then} ELSE {otherwise} END")


def _text(pipeline: Pipeline, template: str) -> str:
    parts = fields(template)
    if parts is None:
        raise Inexpressible(template)
    sql = [f"COALESCE({pipeline.label(text)}, '')" if is_label else literal(text) for text, is_label in parts]
    return _bounded(f"({' || '.join(sql)})" if sql else "''")


def _changeable(name: str) -> None:
    if name in (ERROR, DETAILS):
        raise Inexpressible(name)


def _bounded(sql: str) -> str:
    if len(sql) > _MOST:
        raise Inexpressible(sql[:100])
    return sql
