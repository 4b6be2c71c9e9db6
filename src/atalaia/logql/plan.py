"""Tree -> SQL: what a pipeline lets through, and which labels it can name, over a relation of entries.

The relation has the columns ts, seq, stream_id, line, metadata. A label is looked for where Loki looks for it: in the
stream, then in structured metadata, then in what a parser found; only labels that the query names are extracted.
rows.py says the same in Python, for rows.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from .conditions import FILTER_ERROR, conjunction, literal, test
from .errors import NotBuilt, TooComplex
from .extract import DETAILS, ERROR, JSON_ERROR, LOGFMT_ERROR, sanitise
from .tree import Condition, Grouping, Json, LabelFilter, LineFilter, LineMatch, Logfmt, LogQuery

MAX_STAGES = 500
MAX_SQL = 2_000_000
"""Characters. DuckDB plans longer statements too, but takes minutes for it and cannot be interrupted."""


@dataclass(frozen=True, slots=True)
class Streams:
    """The streams that the selector selected, by number, with their labels."""

    labels: Mapping[int, Mapping[str, str]]


@dataclass(frozen=True, slots=True)
class Parser:
    """What one parser finds, as SQL: either a map of all labels, or some labels by name; `error` is NULL for none."""

    labels: str | None
    named: Mapping[str, str]
    error: str | None
    is_json: bool = False

    def label(self, name: str) -> str | None:
        """SQL of one label; None when this parser never finds it."""
        if self.labels is None:
            return self.named.get(name)
        return _json_label(name) if self.is_json and "_" not in name else f"{self.labels}[{literal(name)}]"


@dataclass(slots=True)
class Pipeline:
    """A compiled pipeline: line filters with their SQL, other WHERE conditions, the SQL of any label and of an error.

    The SQL calls functions that the engine registers.
    """

    streams: Streams
    conditions: list[str] = field(default_factory=list)
    lines: list[LineFilter] = field(default_factory=list)
    line_sql: list[str] = field(default_factory=list)
    parsers: list[Parser] = field(default_factory=list)
    error: str | None = None

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
        if name == ERROR:
            return self.error or "NULL::VARCHAR"
        if name == DETAILS:
            raise NotBuilt(f"asking for the label {DETAILS}")
        own = self.stream_label(name)
        if own is not None and self.on_every_stream(name):
            return own
        parts = [own] if own is not None else []
        parts += [f"metadata[{literal(name)}]", *self._parsed(name)]
        base = name.removesuffix("_extracted")
        if base != name:
            # What is called like a label that comes first is found under its name with _extracted.
            in_stream, parsed = self.stream_label(base), self._parsed(base)
            taken = " OR ".join(f"{sql} IS NOT NULL" for sql in (in_stream, f"metadata[{literal(base)}]") if sql)
            if parsed:
                parts.append(f"CASE WHEN {taken} THEN {_first(parsed)} END")
            if in_stream:
                parts.append(f"CASE WHEN {in_stream} IS NOT NULL THEN metadata[{literal(base)}] END")
        return _first(parts)

    def _parsed(self, name: str) -> list[str]:
        """What is found by the first parser stays."""
        return [sql for parser in self.parsers if (sql := parser.label(name)) is not None]

    def may_fail(self, error: str) -> None:
        """A stage gives entries this error."""
        self.error = error if self.error is None else f"COALESCE({error}, {self.error})"

    def where(self, *, lines: bool = True) -> str:
        """The WHERE clause; without `lines`, line filters are left to whoever reads the entries. Raises TooComplex."""
        conditions = [*(self.line_sql if lines else ()), *self.conditions]
        if sum(map(len, (*self.line_sql, *self.conditions, self.error or ""))) > MAX_SQL:
            raise TooComplex("the query is too complex: use fewer label filters, or fewer streams at a time")
        return f" WHERE {' AND '.join(conditions)}" if conditions else ""


def compile_pipeline(query: LogQuery, streams: Streams) -> Pipeline:
    """The pipeline of a log query. Raises NotBuilt for stages that this version cannot run, TooComplex."""
    if len(query.stages) > MAX_STAGES:
        raise TooComplex(f"the query has {len(query.stages)} stages; at most {MAX_STAGES} are answered")
    pipeline = Pipeline(streams)
    for stage in query.stages:
        match stage:
            case LineFilter():
                pipeline.lines.append(stage)
                pipeline.line_sql.append(line_filter(stage))
            case Json() | Logfmt():
                parser = _json(stage) if isinstance(stage, Json) else _logfmt(stage)
                pipeline.parsers.append(parser)
                if parser.error is not None:
                    pipeline.may_fail(parser.error)
            case LabelFilter():
                _label_filter(stage.condition, pipeline)
            case _:
                raise NotBuilt(f"the stage `{stage_name(stage)}`")
    return pipeline


def stage_name(stage: object) -> str:
    """A stage as LogQL spells it: line_format for LineFormat."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", type(stage).__name__).lower()


def needs_parsing(query: LogQuery, grouping: Grouping | None) -> bool:
    """Whether a metric query looks at labels at all; when it does not, Loki runs no parser and meets no error."""
    grouped = grouping is None or grouping.without or bool(grouping.labels)
    return grouped or any(isinstance(stage, LabelFilter) for stage in query.stages)


def _first(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"COALESCE({', '.join(parts)})"


def _label_filter(tree: Condition, pipeline: Pipeline) -> None:
    for part in conjunction(tree):
        found = test(part, pipeline)
        before = pipeline.error
        if before is None or found.marked == found.passes:
            pipeline.conditions.append(found.passes)
        else:
            pipeline.conditions.append(f"CASE WHEN {before} IS NOT NULL THEN {found.marked} ELSE {found.passes} END")
        if found.fault is not None:
            marked = f"CASE WHEN {found.fault} THEN {literal(FILTER_ERROR)} END"
            pipeline.error = marked if before is None else f"COALESCE({before}, {marked})"


# DuckDB reads a little more as JSON than there is: a comma before a closing bracket, NaN, Infinity. It does not know
# which keys become equal once blanks around them are gone. A line where that may be so is left to the function.
_UNUSUAL = literal(
    r",\s*[}\]]|[:\[,]\s*[-+]?(?i:nan|inf|infinity)\s*[,}\]]"
    r'|[{,]\s*"(?:[\s\pZ\x{85}\\])|(?:[\s\pZ\x{85}]|\\\w+)"\s*:'
)


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
    return _in_json(quickly, slowly, "NULL")


def _json(stage: Json) -> Parser:
    kind, slowly = literal(JSON_ERROR), f"line_json(line)[{literal(ERROR)}]"
    if not stage.expressions:
        usual = f"CASE WHEN json_type(line) <> 'OBJECT' THEN {kind} END"
        return Parser("line_json(line)", {}, _in_json(usual, slowly, kind), is_json=True)
    # An expression finds nothing only where the line is not JSON.
    named = {name: f"line_json_at(line, {literal(path)})" for name, path in stage.expressions[::-1]}
    first = next(iter(named.values()))
    unusual = f"CASE WHEN {first} IS NULL THEN {kind} END"
    return Parser(None, named, _in_json("NULL", unusual, kind))


def _logfmt(stage: Logfmt) -> Parser:
    whole = f"line_logfmt(line, {stage.strict}, {stage.keep_empty})"
    kind = literal(LOGFMT_ERROR)
    error = f"CASE WHEN {whole}[{literal(ERROR)}] IS NOT NULL THEN {kind} END" if stage.strict else None
    if not stage.expressions:
        return Parser(whole, {}, error)
    named = {name: f"{whole}[{literal(sanitise(key))}]" for name, key in stage.expressions[::-1]}
    return Parser(None, named, error)


def line_filter(stage: LineFilter) -> str:
    """SQL of a line filter; the alternatives of a negated one must all fail."""
    if len(stage.alternatives) > MAX_STAGES:
        raise TooComplex(f"a line filter has {len(stage.alternatives)} alternatives; at most {MAX_STAGES} are answered")
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
