"""Tree -> SQL: what a pipeline lets through, and which labels it can name, over a relation of entries.

The relation has the columns ts, seq, stream_id, line, metadata. A label is looked for where Loki looks for it: in the
stream, then in structured metadata, then in what a parser found; only labels that the query names are extracted.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from .errors import LogQLError
from .tree import (
    And,
    Bytes,
    Comparison,
    Condition,
    Duration,
    IpMatch,
    Json,
    LabelFilter,
    LineFilter,
    LineMatch,
    Logfmt,
    LogQuery,
    Number,
    Or,
)


class NotBuilt(LogQLError):
    """The query is LogQL, but this version of Atalaia cannot answer it yet."""

    def __init__(self, what: str) -> None:
        super().__init__(f"{what} is not built yet; docs/logql.md lists what is", 0, 0, ())

    def __str__(self) -> str:
        return self.message


def literal(text: str) -> str:
    """A string as a SQL literal; NUL, which SQL text cannot hold, by way of chr(0)."""
    quoted = "'" + text.replace("'", "''") + "'"
    return quoted.replace("\0", "' || chr(0) || '") if "\0" in text else quoted


@dataclass(frozen=True, slots=True)
class Streams:
    """The streams that the selector selected, by number, with their labels."""

    labels: Mapping[int, Mapping[str, str]]


@dataclass(slots=True)
class Pipeline:
    """A compiled pipeline: WHERE conditions in order, and the SQL of any label.

    `parsers` are the maps of labels that parsers add to a row, in order; they call functions that the engine registers.
    """

    streams: Streams
    conditions: list[str] = field(default_factory=list)
    parsers: list[str] = field(default_factory=list)
    explicit: dict[str, str] = field(default_factory=dict)

    def stream_label(self, name: str) -> str | None:
        """SQL of a stream's own label: a CASE over the few label values there are; None when no stream has it."""
        groups: dict[str, list[int]] = {}
        for number, labels in self.streams.labels.items():
            if name in labels:
                groups.setdefault(labels[name], []).append(number)
        if not groups:
            return None
        cases = " ".join(
            f"WHEN stream_id IN ({', '.join(map(str, ids))}) THEN {literal(value)}" for value, ids in groups.items()
        )
        return f"CASE {cases} END"

    def on_every_stream(self, name: str) -> bool:
        """Whether no entry can have the label from elsewhere."""
        return all(name in labels for labels in self.streams.labels.values())

    def label(self, name: str) -> str:
        """SQL of a label's value, NULL where an entry has no such label."""
        own = self.stream_label(name)
        if own is not None and self.on_every_stream(name):
            return own
        parts = [own] if own is not None else []
        parts.append(f"metadata[{literal(name)}]")
        parts += self._parsed(name)
        base = name.removesuffix("_extracted")
        if base != name:
            # A parsed key that is a label already is found under its name with _extracted.
            taken = " OR ".join(
                f"{sql} IS NOT NULL"
                for sql in ([self.stream_label(base)] if self.stream_label(base) else [])
                + [f"metadata[{literal(base)}]"]
            )
            parts += [f"CASE WHEN {taken} THEN {sql} END" for sql in self._parsed(base)]
        return parts[0] if len(parts) == 1 else f"COALESCE({', '.join(parts)})"

    def _parsed(self, name: str) -> list[str]:
        found = [self.explicit[name]] if name in self.explicit else []
        for parser in self.parsers:
            if parser == "line_json(line)" and "_" not in name:
                # Without an underscore only the top-level key of that very name can have become the label.
                found.append(_json_scalar(literal(f'$."{name}"')))
            else:
                found.append(f"{parser}[{literal(name)}]")
        return found


def compile_pipeline(query: LogQuery, streams: Streams) -> Pipeline:
    """The pipeline of a log query. Raises NotBuilt for stages that this version cannot run."""
    pipeline = Pipeline(streams)
    for stage in query.stages:
        match stage:
            case LineFilter():
                pipeline.conditions.append(line_filter(stage))
            case Json(expressions=()):
                pipeline.parsers.append("line_json(line)")
            case Json():
                pipeline.explicit |= {name: f"line_json_at(line, {literal(path)})" for name, path in stage.expressions}
            case Logfmt(expressions=()):
                pipeline.parsers.append(f"line_logfmt(line, {stage.strict}, {stage.keep_empty})")
            case Logfmt():
                whole = f"line_logfmt(line, {stage.strict}, {stage.keep_empty})"
                pipeline.explicit |= {name: f"{whole}[{literal(key)}]" for name, key in stage.expressions}
            case LabelFilter():
                pipeline.conditions.append(condition(stage.condition, pipeline))
            case _:
                raise NotBuilt(f"the stage `{type(stage).__name__.lower()}`")
    return pipeline


def _json_scalar(path: str) -> str:
    """SQL of a JSON key's value as Loki's label: null is empty, objects and arrays are no labels."""
    plain = f"json_valid(line) AND json_type(line, {path}) NOT IN ('OBJECT', 'ARRAY')"
    return f"CASE WHEN {plain} THEN COALESCE(json_extract_string(line, {path}), '') END"


def line_filter(stage: LineFilter) -> str:
    """SQL of a line filter; the alternatives of a negated one must all fail."""
    tests = [_line_test(stage.op, alternative) for alternative in stage.alternatives]
    joined = tests[0] if len(tests) == 1 else f"({' OR '.join(tests)})"
    return f"NOT {joined}" if stage.op.startswith("!") else joined


def _line_test(op: str, match: LineMatch) -> str:
    if match.ip:
        raise NotBuilt("the line filter ip()")
    if op in ("|=", "!="):
        return f"contains(line, {literal(match.value)})"
    if op in ("|~", "!~"):
        return f"regexp_matches(line, {literal(match.value)})"
    raise NotBuilt(f"the line filter {op}")


_NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"


def condition(tree: Condition, pipeline: Pipeline) -> str:
    """SQL of a label filter. An entry without the label is treated as if the label were empty, as Loki does."""
    if isinstance(tree, And):
        return f"({condition(tree.left, pipeline)} AND {condition(tree.right, pipeline)})"
    if isinstance(tree, Or):
        return f"({condition(tree.left, pipeline)} OR {condition(tree.right, pipeline)})"
    return _comparison(tree, pipeline)


def _comparison(item: Comparison, pipeline: Pipeline) -> str:
    value, label = item.value, pipeline.label(item.name)
    if isinstance(value, str):
        text = f"COALESCE({label}, '')"
        if item.op in ("=", "!="):
            return f"({text} {'=' if item.op == '=' else '<>'} {literal(value)})"
        test = f"regexp_full_match({text}, {literal(value)}, 's')"
        return f"(NOT {test})" if item.op == "!~" else test
    if isinstance(value, IpMatch):
        raise NotBuilt("the label filter ip()")
    operator = {"==": "=", "!=": "<>"}.get(item.op, item.op)
    if isinstance(value, Number):
        number = f"CASE WHEN regexp_matches({label}, {literal(_NUMBER)}) THEN TRY_CAST({label} AS DOUBLE) END"
        return f"COALESCE({number} {operator} {value.value!r}, false)"
    if isinstance(value, Duration):
        return f"COALESCE(duration_ns({label}) {operator} {value.ns}, false)"
    if isinstance(value, Bytes):
        return f"COALESCE(bytes_of({label}) {operator} {value.count}, false)"
    raise NotBuilt(f"comparing with {value!r}")


def needs_functions(sql: str) -> bool:
    """Whether SQL calls a function that the engine must register first."""
    return re.search(r"\b(line_json|line_json_at|line_logfmt|duration_ns|bytes_of)\(", sql) is not None
