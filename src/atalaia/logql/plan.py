"""Tree -> SQL: what a pipeline lets through, and which labels it can name, over a relation of entries.

The relation has the columns ts, seq, stream_id, line, metadata, and one for each metadata key in use. A label is looked
for where Loki looks for it: in the stream, then in structured metadata, then in what a parser found; only labels that
the query names are extracted. Where a stage cannot be said in SQL, the pipeline is what is before it, and rows.py
answers for all of it, in Python.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from .conditions import FILTER_ERROR, Inexpressible, Test, conjunction, test
from .errors import TooComplex
from .extract import DETAILS, ERROR
from .linefilters import line_filter
from .parsers import EMPTY, Parser, parser_of
from .relabelled import NOTHING, drop, keep, label_format, line_format
from .sqltext import literal
from .tree import (
    Condition,
    Decolorize,
    Drop,
    Grouping,
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
    Stage,
    Template,
)

MAX_STAGES = 500
_MANY = 500  # streams; the labels of more are asked of the engine
_CASES_MOST = 50  # streams told apart by CASE; a list is looked up as fast for thousands
_SPARSEST = 50  # places of such a list for each stream
MAX_SQL = 2_000_000
"""Characters. DuckDB plans longer statements too, but takes minutes for it and cannot be interrupted."""


@dataclass(frozen=True, slots=True)
class Streams:
    """The streams that the selector selected, by number, with their labels."""

    labels: Mapping[int, Mapping[str, str]]

    def having(self, name: str) -> int:
        """How many of them have a label."""
        return sum(name in labels for labels in self.labels.values())

    def looked_up(self, name: str) -> str | None:
        """SQL by which the engine looks a label of theirs up; None when no stream has it."""
        return f"stream_label(stream_id, {literal(name)})" if self.having(name) else None

    @property
    def many(self) -> bool:
        """Whether they are too many to be written into the SQL; the engine then looks their labels up."""
        return len(self.labels) > _MANY


def by_stream(values: Mapping[int, str]) -> str:
    """SQL of the value (SQL, too) that belongs to an entry's stream; NULL for none."""
    first, last = min(values), max(values)
    if len(values) > _CASES_MOST and last - first < _SPARSEST * len(values):
        listed = ", ".join(values.get(number, "NULL") for number in range(first, last + 1))
        return f"[{listed}][stream_id - {first - 1}]"
    groups: dict[str, list[int]] = {}
    for number, value in values.items():
        groups.setdefault(value, []).append(number)
    cases = (f"WHEN stream_id IN ({', '.join(map(str, ids))}) THEN {value}" for value, ids in groups.items())
    return f"CASE {' '.join(cases)} END"


@dataclass(slots=True)
class Pipeline:
    """A compiled pipeline: line filters with their SQL, other WHERE conditions, the SQL of any label and of an error.

    `marks`: the errors among them that label filters gave. `dropped`: labels that a stage took away; `changed`: SQL of
    those that a stage gave another value; `only`: the labels that there still are, unless it is all; `line`: SQL of the
    line. No parser comes behind any of those. `whole`: whether this is all of the pipeline; otherwise it lets through
    more than it should. `keys`: the columns that the relation must have for metadata keys.
    The SQL calls functions that the engine registers.
    """

    streams: Streams
    conditions: list[str] = field(default_factory=list)
    lines: list[LineFilter] = field(default_factory=list)
    line_sql: list[str] = field(default_factory=list)
    parsers: list[Parser] = field(default_factory=list)
    error: str | None = None
    marks: str | None = None
    dropped: set[str] = field(default_factory=set)
    changed: dict[str, str] = field(default_factory=dict)
    only: frozenset[str] | None = None
    line: str = "line"
    whole: bool = True
    keys: dict[str, str] = field(default_factory=dict)

    def decided(self, column: str) -> tuple[Pipeline, str]:
        """The same over a relation with a column more, and the SQL of that; whether lines are usual is tested once."""
        if self.relabelled or len(self.parsers) != 1 or (usual := self.parsers[0].usual) is None:
            return self, ""
        parser = self.parsers[0].decided(column)
        error = parser.error if self.marks is None else _first(parser.error, self.marks)
        return replace(self, parsers=[parser], error=error), f", {usual[0]} AS {column}"

    def stream_label(self, name: str) -> str | None:
        """SQL of a stream's own label; None when no stream has it."""
        if self.streams.many:
            return self.streams.looked_up(name)
        values = {number: literal(own[name]) for number, own in self.streams.labels.items() if name in own}
        return by_stream(values) if values else None

    def on_every_stream(self, name: str) -> bool:
        """Whether no entry can have the label from elsewhere, or not have it."""
        if name in self.dropped or name in self.changed or (self.only is not None and name not in self.only):
            return False
        return self.streams.having(name) == len(self.streams.labels)

    @property
    def relabelled(self) -> bool:
        """Whether labels are others than the stream's, the metadata's and what parsers found."""
        return bool(self.changed) or self.only is not None

    def with_labels(self, changed: dict[str, str]) -> Pipeline:
        """The same with other labels changed."""
        return replace(self, changed=changed)

    def label(self, name: str) -> str:
        """SQL of a label's value, NULL where an entry has no such label. Raises Inexpressible."""
        if name == ERROR:
            return self.error or "NULL::VARCHAR"
        if name == DETAILS:
            raise Inexpressible(name)
        if (value := self.changed.get(name)) is not None:
            return value
        if name in self.dropped or (self.only is not None and name not in self.only):
            return NOTHING
        own = self.stream_label(name)
        if own is not None and self.on_every_stream(name):
            return own
        parts = [own] if own is not None else []
        parts.append(self.metadata(name))
        # What is called like a label that comes first is found under its name with _extracted.
        base = name.removesuffix("_extracted")
        taken = self.taken(base)
        for parser in self.parsers:  # what is found by the first one stays
            if (found := parser.label(name)) is not None:
                parts.append(f"COALESCE({found}, {EMPTY})" if parser.fills else found)
            if base != name and (found := parser.label(base)) is not None:
                parts.append(f"CASE WHEN {taken} THEN {found} END")
        if base != name and (in_stream := self.stream_label(base)):
            parts.append(f"CASE WHEN {in_stream} IS NOT NULL THEN {self.metadata(base)} END")
        return parts[0] if len(parts) == 1 else f"COALESCE({', '.join(parts)})"

    def taken(self, name: str) -> str:
        """SQL of whether a parsed label of this name gives way to one of the stream or of structured metadata."""
        in_stream = self.stream_label(name)
        in_metadata = f"{self.metadata(name)} IS NOT NULL"
        return f"({in_stream} IS NOT NULL OR {in_metadata})" if in_stream else f"({in_metadata})"

    def metadata(self, key: str) -> str:
        """SQL of one key's structured metadata: a column of the relation, which is told in `keys`."""
        return self.keys.setdefault(key, f'"key.{key}"')

    def may_fail(self, error: str) -> None:
        """A stage gives entries this error."""
        self.error = error if self.error is None else f"COALESCE({error}, {self.error})"

    def where(self, *, lines: bool = True) -> str:
        """The WHERE clause; without `lines`, line filters are left to whoever reads the entries. Raises TooComplex."""
        conditions = [*(self.line_sql if lines else ()), *self.conditions]
        if sum(map(len, (*self.line_sql, *self.conditions, self.error or ""))) > MAX_SQL:
            raise TooComplex("the query is too complex: use fewer label filters, or fewer streams at a time")
        return f" WHERE {' AND '.join(conditions)}" if conditions else ""

    def add(self, stage: Stage) -> None:
        """Put a stage behind the others. Raises Inexpressible, and is as before then, or TooComplex."""
        match stage:
            case LineFilter() if self.line == "line":
                self.line_sql.append(line_filter(stage))
                self.lines.append(stage)
            case Json() | Logfmt() | Regexp() | Pattern() if (
                not (self.dropped or self.relabelled) and self.line == "line"
            ):
                parser = parser_of(stage)
                self.parsers.append(parser)
                if parser.error is not None:
                    self.may_fail(parser.error)
            case LabelFilter():
                self._filter(stage.condition)
            case Drop():
                drop(self, stage)
            case Keep():
                keep(self, stage)
            case LabelFormat():
                label_format(self, stage)
            case LineFormat(template):
                line_format(self, template)
            case _:
                raise Inexpressible(type(stage).__name__)

    def _filter(self, tree: Condition) -> None:
        parts = conjunction(tree)
        for part in parts:
            test(part, self)  # raises before anything is changed
        for part in parts:
            found = test(part, self)  # what was before it may have marked entries
            self.conditions.append(self._passing(part, found))
            if found.fault is not None:
                marked = f"CASE WHEN {found.fault} THEN {literal(FILTER_ERROR)} END"
                self.error = _first(self.error, marked)
                self.marks = _first(self.marks, marked)

    def _passing(self, tree: Condition, found: Test) -> str:
        """SQL of whether an entry passes."""
        if self.error is None or found.marked == found.passes:
            return found.passes
        passes = f"CASE WHEN {self.error} IS NOT NULL THEN {found.marked} ELSE {found.passes} END"
        if len(self.parsers) != 1 or (usual := self.parsers[0].usual) is None:
            return passes
        quick = replace(self, parsers=[usual[1]], error=self.marks)
        return f"CASE WHEN {usual[0]} THEN {quick._passing(tree, test(tree, quick))} ELSE {passes} END"


def _first(before: str | None, error: str) -> str:
    return error if before is None else f"COALESCE({before}, {error})"


def compile_pipeline(query: LogQuery, streams: Streams) -> Pipeline:
    """The pipeline of a log query, up to the first stage that SQL cannot say. Raises TooComplex."""
    if len(query.stages) > MAX_STAGES:
        raise TooComplex(f"the query has {len(query.stages)} stages; at most {MAX_STAGES} are answered")
    pipeline = Pipeline(streams)
    try:
        for stage in query.stages:
            pipeline.add(stage)
    except Inexpressible:
        pipeline.whole = False
    return pipeline


def without_unread(tree: RangeAggregation) -> RangeAggregation:
    """The same without the stages that change a line that nothing reads; as in Loki, they do not run then."""
    read = tree.op.startswith("bytes")
    kept: list[Stage] = []
    for stage in reversed(tree.query.stages):
        if isinstance(stage, (LineFormat, Decolorize)) and not read:
            continue
        if isinstance(stage, LineFormat):
            read = "__line__" in stage.template
        elif isinstance(stage, LabelFormat):
            read = read or any(isinstance(a, Template) and "__line__" in a.template for a in stage.assignments)
        elif not isinstance(stage, (LabelFilter, Drop, Keep)):
            read = True
        kept.append(stage)
    return replace(tree, query=LogQuery(tree.query.selector, tuple(kept[::-1])))


def needs_parsing(query: LogQuery, grouping: Grouping | None) -> bool:
    """Whether a metric query looks at labels at all; when it does not, Loki runs no parser and meets no error."""
    grouped = grouping is None or grouping.without or bool(grouping.labels)
    return grouped or any(isinstance(stage, LabelFilter) for stage in query.stages)
