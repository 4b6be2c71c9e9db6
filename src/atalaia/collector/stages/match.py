"""The stage that leaves a part of the entries to other stages, or drops it: match."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import ClassVar, TypeAlias

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from atalaia.collector.entries import Entries, concat
from atalaia.collector.stages.drop import dropped
from atalaia.collector.stages.narrow import narrowed
from atalaia.collector.stages.stage import Build, Stage, StageError, Waiting, needed
from atalaia.collector.stages.streams import streams
from atalaia.environment.yamlfile import Node, Reader
from atalaia.logql.errors import LogQLError
from atalaia.logql.linefilters import line_test
from atalaia.logql.parse import parse
from atalaia.logql.select import matcher_tests
from atalaia.logql.tree import LineFilter, LogQuery, Selector

Test: TypeAlias = "Callable[[pa.Array], pa.Array]"
_FILLER = '{__match__="x",'  # a matcher that makes any selector one that a query may have


@dataclass(slots=True)
class Match:
    """`match`: entries that a selector with line filters selects go through `stages`, or are dropped.

    The others stay as they are, and the order of all is kept. Inside, labels are found among the extracted values.
    """

    selector: str
    stages: tuple[Stage, ...] = ()
    action: str = "keep"
    reason: str = "match_stage"
    _labels: Sequence[tuple[str, Callable[[str], bool]]] = field(init=False, repr=False)
    _filters: Sequence[Test] = field(init=False, repr=False)
    name: ClassVar[str] = "match"

    @classmethod
    def build(cls, reader: Reader, node: Node, build: Build) -> Stage:
        """See stage.Builder."""
        known = {"selector", "pipeline_name", "action", "drop_counter_reason", "stages"}
        body = reader.mapping(node, "match", known)
        if reader.text(body.get("pipeline_name"), "pipeline_name") == "":
            raise StageError("pipeline_name can be left out, but it cannot be empty")
        nodes = reader.sequence(body.get("stages"), "stages")
        action = reader.text(body.get("action"), "action") or "keep"
        if action == "keep" and not nodes:
            raise StageError("it needs stages, or `action: drop`")
        if action == "drop" and nodes:
            raise StageError("what is dropped goes through no stages: leave out `stages` or `action: drop`")
        return cls(
            needed(reader, "match", body, "selector"),
            build(nodes),
            action,
            reader.text(body.get("drop_counter_reason"), "drop_counter_reason") or "match_stage",
        )

    def __post_init__(self) -> None:
        if self.action not in ("keep", "drop"):
            raise StageError(f"action is {self.action!r}; it can be keep or drop")
        query = _read(self.selector)
        self._labels = matcher_tests(query.selector)
        self._filters = [_filter(stage) for stage in query.stages if isinstance(stage, LineFilter)]
        if len(self._filters) < len(query.stages):
            raise StageError("its selector can have line filters (|= != |~ !~) only")

    @property
    def wait(self) -> float:
        """See Waiting."""
        return max([0.0, *(stage.wait for stage in self.stages if isinstance(stage, Waiting))])

    def reads(self) -> frozenset[str] | None:
        """See Stage."""
        found: frozenset[str] = frozenset()
        for stage in self.stages:
            reads = stage.reads()
            if reads is None:
                return None
            found |= reads
        return found

    def narrowed(self, wanted: frozenset[str]) -> Stage:
        """See narrow.Narrowing."""
        return replace(self, stages=narrowed(self.stages, wanted))

    def __call__(self, entries: Entries) -> Entries:
        """See the class."""
        if not len(entries):
            return entries
        rows = self._selected(entries)
        if self.action == "drop":
            return dropped(entries, rows, self.reason)
        if not rows.any():
            return entries
        if rows.all():
            return self._inside(entries)
        others = entries.take(np.flatnonzero(~rows))
        whole = concat([others, self._inside(replace(entries.take(np.flatnonzero(rows)), effects=(), held=None))])
        return whole.take(np.lexsort((whole.last_lines, whole.first_lines)))

    def _inside(self, entries: Entries) -> Entries:
        entries = entries.with_extracted(entries.labels)
        for stage in self.stages:
            entries = stage(entries)
        return entries

    def _selected(self, entries: Entries) -> np.ndarray:
        """Whether each entry is selected: labels once a label set, lines all at once."""
        codes, texts = streams(entries)
        sets = [orjson.loads(text) for text in texts]
        agree = [all(test(labels.get(name, "")) for name, test in self._labels) for labels in sets]
        found: np.ndarray = np.array(agree)[codes]
        for test in self._filters:
            if found.any():
                found &= test(entries.lines).to_numpy(zero_copy_only=False)
        return found


def _read(selector: str) -> LogQuery:
    """The selector's tree. Unlike a query, it may select by what is not there (`{level!="debug"}`)."""
    try:
        query = parse(selector)
    except LogQLError as error:
        try:
            query = parse(selector.replace("{", _FILLER, 1))
        except LogQLError:
            raise StageError(f"the selector cannot be read: {error}") from error
        if isinstance(query, LogQuery):
            query = replace(query, selector=Selector(query.selector.matchers[1:]))
    if not isinstance(query, LogQuery):
        raise StageError("its selector is a metric query; it can be a stream selector with line filters")
    return query


def _filter(stage: LineFilter) -> Test:
    """A line filter over many lines."""
    if len(stage.alternatives) > 1 or stage.alternatives[0].ip or stage.op not in ("|=", "!=", "|~", "!~"):
        # Not Promtail's; what LogQL has beyond is answered line by line.
        test = line_test(stage)
        return lambda lines: pa.array([test(line) for line in lines.to_pylist()], pa.bool_())
    value = stage.alternatives[0].value
    match = pc.match_substring if stage.op in ("|=", "!=") else pc.match_substring_regex
    return partial(_tested, match, value, stage.op.startswith("!"))


def _tested(match: Callable[[pa.Array, str], pa.Array], value: str, negated: bool, lines: pa.Array) -> pa.Array:
    found = match(lines, value)
    return pc.invert(found) if negated else found
