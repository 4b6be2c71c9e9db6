"""Stages that set labels and the time: labels, static_labels, timestamp."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from atalaia.collector.entries import Entries, LabelValue, label_sets
from atalaia.collector.promtail.values import labels_from
from atalaia.collector.stages.stage import Build, Stage, StageError, needed
from atalaia.environment.yamlfile import Node, Reader
from atalaia.logql.template.gotime import Layout, LayoutError
from atalaia.store.batch import canonical

_REMEMBERED = 10_000  # label sets whose last time is kept, as many as Promtail keeps


@dataclass(frozen=True, slots=True)
class Labels:
    """`labels`: extracted values become labels, under their own or another name."""

    names: Mapping[str, str | None]
    name: ClassVar[str] = "labels"

    @classmethod
    def build(cls, reader: Reader, node: Node, build: Build) -> Stage:
        """See stage.Builder."""
        return cls(labels_from(reader, node, "labels"))

    def reads(self) -> frozenset[str]:
        """See Stage."""
        return frozenset(source or label for label, source in self.names.items())

    def __call__(self, entries: Entries) -> Entries:
        """See the class."""
        found: dict[str, LabelValue] = {}
        for label, source in self.names.items():
            value = entries.extracted.get(source or label)
            if value is None:
                continue
            before = entries.labels.get(label)
            if before is not None and isinstance(value, pa.Array) and value.null_count:
                value = pc.coalesce(value, before)
            found[label] = value
        return entries.with_labels(found)


@dataclass(frozen=True, slots=True)
class StaticLabels:
    """`static_labels`: the same labels for every entry."""

    values: Mapping[str, str]
    name: ClassVar[str] = "static_labels"

    @classmethod
    def build(cls, reader: Reader, node: Node, build: Build) -> Stage:
        """See stage.Builder."""
        return cls({name: value for name, value in labels_from(reader, node, "static_labels").items() if value})

    def reads(self) -> frozenset[str]:
        """See Stage."""
        return frozenset()

    def __call__(self, entries: Entries) -> Entries:
        """See the class."""
        return entries.with_labels(self.values)


@dataclass(slots=True)
class Timestamp:
    """`timestamp`: the time of an extracted value.

    What cannot be parsed is left with the time of reading (`skip`), or gets the time of the entry before it of the
    same labels plus one nanosecond (`fudge`, the default), as Promtail does.
    """

    source: str
    format: str
    location: str | None = None
    fallback_formats: tuple[str, ...] = ()
    action_on_failure: str = "fudge"
    _layouts: tuple[Layout, ...] = field(init=False)
    _last: dict[str, int] = field(init=False, default_factory=dict)  # by label set, the latest used at the end
    name: ClassVar[str] = "timestamp"

    @classmethod
    def build(cls, reader: Reader, node: Node, build: Build) -> Stage:
        """See stage.Builder."""
        known = {"source", "format", "location", "fallback_formats", "action_on_failure"}
        body = reader.mapping(node, "timestamp", known)
        listed = reader.sequence(body.get("fallback_formats"), "fallback_formats")
        return cls(
            needed(reader, "timestamp", body, "source"),
            needed(reader, "timestamp", body, "format"),
            reader.text(body.get("location"), "timestamp.location"),
            tuple(text for one in listed if (text := reader.text(one, "fallback_formats"))),
            reader.text(body.get("action_on_failure"), "timestamp.action_on_failure") or "fudge",
        )

    def reads(self) -> frozenset[str]:
        """See Stage."""
        return frozenset({self.source})

    def __post_init__(self) -> None:
        if self.action_on_failure not in ("fudge", "skip"):
            raise StageError(f"action_on_failure is {self.action_on_failure!r}; it can be fudge or skip")
        try:
            self._layouts = tuple(Layout(text, self.location) for text in (self.format, *self.fallback_formats))
        except LayoutError as error:
            raise StageError(str(error)) from error

    def __call__(self, entries: Entries) -> Entries:
        """See the class."""
        if not len(entries):
            return entries
        text = entries.source(self.source)
        found = self._layouts[0].parse(text)
        for layout in self._layouts[1:]:
            if not found.null_count:
                break
            found = pc.coalesce(found, layout.parse(text))
        known = pc.is_valid(found).to_numpy(zero_copy_only=False)
        ts = pc.fill_null(found, 0).to_numpy(zero_copy_only=False)
        if self.action_on_failure == "fudge":
            ts = self._fudged(entries, ts, known)
        elif not known.all():
            ts = np.where(known, ts, entries.ts)
        return replace(entries, ts=ts)

    def _fudged(self, entries: Entries, ts: np.ndarray, known: np.ndarray) -> np.ndarray:
        constant = {name: value for name, value in entries.labels.items() if isinstance(value, str)}
        if len(constant) == len(entries.labels):
            return self._fudged_stream(canonical(constant), entries.ts, ts, known)
        sets = label_sets(entries.labels, len(entries))
        if len(sets.dictionary) == 1:
            return self._fudged_stream(sets.dictionary[0].as_py(), entries.ts, ts, known)
        codes = sets.indices.to_numpy()
        filled = ts.copy()
        order = np.argsort(codes, kind="stable")
        for rows in np.split(order, np.flatnonzero(np.diff(codes[order])) + 1):
            text = sets.dictionary[int(codes[rows[0]])].as_py()
            filled[rows] = self._fudged_stream(text, entries.ts[rows], ts[rows], known[rows])
        return filled

    def _fudged_stream(self, labels: str, read_at: np.ndarray, ts: np.ndarray, known: np.ndarray) -> np.ndarray:
        """Each unknown time is the last known one plus one ns a row; without any before, the time of reading."""
        last = self._last.pop(labels, None)
        if not known.all():
            rows = np.arange(len(ts))
            before = np.maximum.accumulate(np.where(known, rows, -1))
            first = before < 0
            start = read_at if last is None else last + 1 + rows
            ts = np.where(first, start, ts[np.maximum(before, 0)] + (rows - before))
        if last is not None or known.any():
            self._last[labels] = int(ts[-1])
            if len(self._last) > _REMEMBERED:
                del self._last[next(iter(self._last))]
        return ts
