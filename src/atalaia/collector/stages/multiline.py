"""The stage that makes one entry of the lines of a record: multiline."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np
import pyarrow.compute as pc

from atalaia.collector.entries import Entries, concat
from atalaia.collector.meters import Meters
from atalaia.collector.stages.groups import Groups, blank
from atalaia.collector.stages.stage import Build, Stage, needed
from atalaia.collector.stages.streams import by_stream, count_of, duration_of, expression_of, streams
from atalaia.environment.yamlfile import Node, Reader

_REMEMBERED = 10_000  # label sets whose record's beginning is kept
_WHOLE = 8  # entries of a record that are waited for together, so that a restart finds its beginning again


@dataclass(slots=True)
class Multiline:
    """`multiline`: the lines from one that matches `firstline` up to the next such become one entry.

    It has the first line's time, labels and extracted values. Lines before any first line stay as they are; a record
    of more than `max_lines` (0: any number) goes on as another entry with the same time. `wait` in seconds. Each
    stream (label set) has its own records. The last record of a stream is held until a further one begins or it has
    waited long enough; what comes then without a first line goes with the record before, as in Promtail.
    """

    firstline: str
    wait: float = 3.0
    max_lines: int = 128
    _begun: dict[str, tuple[Entries, int]] = field(init=False, default_factory=dict)
    name: ClassVar[str] = "multiline"

    @classmethod
    def build(cls, reader: Reader, node: Node, build: Build) -> Stage:
        """See stage.Builder."""
        body = reader.mapping(node, "multiline", {"firstline", "max_wait_time", "max_lines"})
        wait = duration_of(reader, body.get("max_wait_time"), "max_wait_time")
        most = count_of(reader, body.get("max_lines"), "max_lines")
        return cls(
            expression_of(needed(reader, "multiline", body, "firstline")),
            3.0 if wait is None else max(0.0, wait / 1e9),
            128 if most is None else most,
        )

    def reads(self) -> frozenset[str]:
        """See Stage."""
        return frozenset()

    def __call__(self, entries: Entries) -> Entries:
        """See the class."""
        if not len(entries):
            return entries
        codes, texts = streams(entries)
        order, opens = by_stream(codes, len(texts))
        codes = codes[order]
        matches = pc.match_substring_regex(entries.lines, self.firstline)
        begins = matches.to_numpy(zero_copy_only=False)[order]
        alone = self._headless(begins, opens) & ~np.array([text in self._begun for text in texts])[codes]
        records = Groups(entries, order, begins | opens | alone)
        within = np.arange(len(order)) - np.repeat(records.at, records.lengths)
        parts = Groups(entries, order, within % self.max_lines == 0 if self.max_lines else within == 0)
        record = np.searchsorted(records.at, parts.at, side="right") - 1
        joined = self._entries(entries, order[records.at[record]], parts)
        goes_on = ~begins[records.at] & ~alone[records.at]
        if goes_on.any():
            joined = self._continued(joined, goes_on[record], [texts[code] for code in codes[parts.at]])
        if len(texts) > 1:
            joined = joined.take(np.argsort(parts.first, kind="stable"))
        joined = self._held(joined, entries.flush, records, parts, codes, alone)
        known = np.flatnonzero(begins[records.at])
        streams_of = codes[records.at[known]]

        def remember(_: Meters, mask: np.ndarray) -> None:
            taken = np.flatnonzero(mask)
            latest = taken[np.append(np.diff(streams_of[taken]) != 0, True)]
            heads = replace(blank(entries).take(order[records.at[known[latest]]]), effects=(), held=None)
            for number, code in enumerate(streams_of[latest]):
                self._begun.pop(texts[code], None)
                self._begun[texts[code]] = heads, number
            for text in list(self._begun)[: max(0, len(self._begun) - _REMEMBERED)]:
                del self._begun[text]

        return joined.later(records.first[known], remember)

    @staticmethod
    def _headless(begins: np.ndarray, opens: np.ndarray) -> np.ndarray:
        """Whether a row comes before any first line of its stream."""
        seen = np.cumsum(begins)
        at = np.flatnonzero(opens)
        before = (seen - begins)[at]
        found: np.ndarray = seen == np.repeat(before, np.diff(np.append(at, len(begins))))
        return found

    @staticmethod
    def _entries(entries: Entries, heads: np.ndarray, parts: Groups) -> Entries:
        return replace(blank(entries).take(heads), lines=parts.joined("\n"), first=parts.first, last=parts.last)

    def _continued(self, joined: Entries, rows: np.ndarray, texts: Sequence[str]) -> Entries:
        """Those rows belong to records that were given up as complete: they go on with the time these began at."""
        others, going = np.flatnonzero(~rows), np.flatnonzero(rows)
        pieces = [joined.take(others)]
        for row in going:
            heads, number = self._begun[texts[int(row)]]
            one = joined.take(np.array([row]))
            head = heads.take(np.array([number]))
            pieces.append(
                replace(head, lines=one.lines, first=one.first, last=one.last, flush=joined.flush, effects=())
            )
        whole = concat(pieces)
        return whole.take(np.argsort(np.concatenate([others, going])))

    def _held(
        self, joined: Entries, flush: int, records: Groups, parts: Groups, codes: np.ndarray, alone: np.ndarray
    ) -> Entries:
        """With the line from which on records wait, which no record goes across."""
        stream = codes[records.at]
        waits = np.append(stream[1:] != stream[:-1], True) & ~alone[records.at] & (records.last >= flush)
        if not waits.any():
            return joined
        begin = records.first.copy()
        if self.max_lines:
            # Of a record without end only what makes no entry yet is waited for.
            long = np.flatnonzero(records.lengths > _WHOLE * self.max_lines)
            ends = np.append(records.at[1:], len(codes))[long]
            begin[long] = parts.first[np.searchsorted(parts.at, ends, side="left") - 1]
        held = int(begin[waits].min())
        while len(across := begin[(begin < held) & (records.last >= held)]):
            held = int(across.min())
        return joined.hold(held)
