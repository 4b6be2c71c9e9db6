"""`timestamp`: the time of an extracted value."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np
import pyarrow.compute as pc

from atalaia.collector.entries import Entries, label_sets
from atalaia.collector.meters import Meters
from atalaia.collector.stages.stage import Build, Stage, StageError, needed
from atalaia.environment.yamlfile import Node, Reader
from atalaia.logql.template.gotime import NAMED, Layout, LayoutError
from atalaia.store.batch import canonical

_REMEMBERED = 10_000  # label sets whose last time is kept, as many as Promtail keeps


@dataclass(slots=True)
class Timestamp:
    """`timestamp`: the time of an extracted value.

    What cannot be parsed is left with the time of reading (`skip`), or gets the time of the entry before it of the
    same labels plus one nanosecond (`fudge`, the default), as Promtail does. Which one that was is remembered of lines
    that were taken for good only, so that lines that are read again get the same times.
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
        keys = {"source", "format", "location", "fallback_formats", "action_on_failure"}
        body = reader.mapping(node, "timestamp", keys)
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
            Layout("2006", self.location)
            # As in Promtail, times of the named formats that do not say their zone are always UTC.
            self._layouts = tuple(
                Layout(text, None if text in NAMED else self.location) for text in (self.format, *self.fallback_formats)
            )
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
            return self._fudged(entries, ts, known)
        return replace(entries, ts=ts if known.all() else np.where(known, ts, entries.ts))

    def _fudged(self, entries: Entries, ts: np.ndarray, known: np.ndarray) -> Entries:
        constant = {name: value for name, value in entries.labels.items() if isinstance(value, str)}
        if len(constant) == len(entries.labels):
            streams = [(canonical(constant), np.arange(len(ts)))]
        else:
            sets = label_sets(entries.labels, len(entries))
            codes = sets.indices.to_numpy()
            order = np.argsort(codes, kind="stable")
            parts = np.split(order, np.flatnonzero(np.diff(codes[order])) + 1)
            streams = [(sets.dictionary[int(codes[rows[0]])].as_py(), rows) for rows in parts]
        filled = ts if known.all() else ts.copy()
        begun = np.ones(len(ts), bool)
        for labels, rows in streams:
            if not known[rows].all():
                last = self._last.get(labels)
                filled[rows], begun[rows] = _filled(last, entries.ts[rows], ts[rows], known[rows])

        def remember(_: Meters, taken: np.ndarray) -> None:
            for labels, rows in streams:
                kept = rows[taken[rows] & begun[rows]]
                if len(kept):
                    self._last.pop(labels, None)
                    self._last[labels] = int(filled[kept[-1]])
                    if len(self._last) > _REMEMBERED:
                        del self._last[next(iter(self._last))]

        return replace(entries, ts=filled).later(entries.last_lines, remember)


def _filled(last: int | None, read_at: np.ndarray, ts: np.ndarray, known: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each unknown time as the last known one plus one ns a row; and where there is one.

    Without any before, and without a `last` of earlier batches, it stays the time of reading.
    """
    rows = np.arange(len(ts))
    before = np.maximum.accumulate(np.where(known, rows, -1))
    first = before < 0
    start = read_at if last is None else last + 1 + rows
    return np.where(first, start, ts[np.maximum(before, 0)] + (rows - before)), ~first | (last is not None)
