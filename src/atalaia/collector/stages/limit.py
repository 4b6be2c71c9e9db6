"""Stages that let only a part of the entries pass: limit (by rate), sampling (by chance)."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import pyarrow as pa

from atalaia.collector.entries import Entries
from atalaia.collector.meters import Meters
from atalaia.collector.stages.drop import dropped
from atalaia.collector.stages.stage import Build, Stage, StageError
from atalaia.collector.stages.streams import count_of, number_of
from atalaia.environment.yamlfile import Node, Reader

_REASON = "ratelimit_drop_stage"
_BY_LABEL = "logentry_dropped_lines_by_label_total"
_DISTINCT = 10_000  # label values of which the rate is kept, at least, as in Promtail
_QUEUING = 5.0  # seconds that a queue is taken to last on after it was last seen


@dataclass(slots=True)
class Tokens:
    """Permission for entries: `rate` a second come in, at most `burst` are kept. `at` is a monotonic clock's."""

    rate: float
    burst: int
    at: float
    count: float = field(init=False)
    queued: float = field(init=False, default=float("-inf"))

    def __post_init__(self) -> None:
        self.count = self.burst

    def available(self, now: float) -> int:
        """How many entries may pass now. While others queue, what comes in is not capped: they would have used it."""
        count = self.count + max(0.0, now - self.at) * self.rate
        return int(count if now - self.queued < _QUEUING else min(count, self.burst))

    def spend(self, entries: int, now: float) -> None:
        """So many passed at that time."""
        count = self.count + max(0.0, now - self.at) * self.rate
        self.count = (count if now - self.queued < _QUEUING else min(count, self.burst)) - entries
        self.at = max(now, self.at)


@dataclass(slots=True)
class Limit:
    """`limit`: `rate` entries a second and at most `burst` at once pass.

    The others are dropped (`drop`), or left in their file until their time comes; so they are not read further, and
    nothing waits in memory. `label`: each value of this label has its own rate, entries without it none.
    """

    rate: float
    burst: int
    drop: bool = False
    label: str | None = None
    distinct: int = _DISTINCT
    clock: Callable[[], float] = time.monotonic
    _tokens: dict[str, Tokens] = field(init=False, default_factory=dict)
    _older: dict[str, Tokens] = field(init=False, default_factory=dict)
    _forgotten: bool = field(init=False, default=False)
    name: ClassVar[str] = "limit"

    @classmethod
    def build(cls, reader: Reader, node: Node, build: Build) -> Stage:
        """See stage.Builder."""
        body = reader.mapping(node, "limit", {"rate", "burst", "drop", "by_label_name", "max_distinct_labels"})
        label = reader.text(body.get("by_label_name"), "by_label_name") or None
        distinct = count_of(reader, body.get("max_distinct_labels"), "max_distinct_labels")
        return cls(
            number_of(reader, body.get("rate"), "rate") or 0,
            count_of(reader, body.get("burst"), "burst") or 0,
            reader.flag(body.get("drop"), "drop"),
            label,
            max(distinct or 0, _DISTINCT),
        )

    def __post_init__(self) -> None:
        if not 0 < self.rate < float("inf") or self.burst <= 0:
            raise StageError("it needs a rate and a burst of more than 0")
        if self.label is not None and not self.drop:
            raise StageError("by_label_name needs `drop: true`")

    @property
    def wait(self) -> float:
        """See Waiting: what is left in its file is looked at again then."""
        return 0.0 if self.drop else 1.0

    def reads(self) -> frozenset[str]:
        """See Stage."""
        return frozenset()

    def __call__(self, entries: Entries) -> Entries:
        """See the class."""
        if not len(entries):
            return entries
        if self.label is not None:
            return self._by_label(entries, self.label)
        now = self.clock()
        tokens = self._of("")
        allowed = min(len(entries), tokens.available(now))

        def spend(_: Meters, mask: np.ndarray) -> None:
            tokens.spend(int(mask.sum()), now)

        spent = entries.later(entries.last_lines[:allowed], spend)
        if allowed == len(entries):
            return spent
        if self.drop:
            return dropped(spent, np.arange(len(entries)) >= allowed, _REASON)
        tokens.queued = now
        return spent.hold(int(entries.first_lines[allowed:].min()))

    def _by_label(self, entries: Entries, label: str) -> Entries:
        value = entries.labels.get(label)
        if value is None:
            return entries
        column = pa.array([value] * len(entries), pa.utf8()) if isinstance(value, str) else value
        encoded = column.dictionary_encode()
        texts = encoded.dictionary.to_pylist()
        limited = np.flatnonzero(encoded.is_valid().to_numpy(zero_copy_only=False))
        if not len(limited):
            return entries
        codes = encoded.indices.fill_null(0).to_numpy().astype(np.int64)[limited]
        now = self.clock()
        tokens = [self._of(text) for text in texts]
        order = np.argsort(codes, kind="stable")
        begins = np.searchsorted(codes[order], np.arange(len(texts)))
        rank = np.empty(len(codes), np.int64)
        rank[order] = np.arange(len(codes)) - begins[codes[order]]
        passes = rank < np.array([one.available(now) for one in tokens])[codes]

        def settle(meters: Meters, mask: np.ndarray) -> None:
            if self._forgotten:
                meters.forget(_BY_LABEL)
                self._forgotten = False
            spent = np.bincount(codes[mask & passes], minlength=len(texts))
            lost = np.bincount(codes[mask & ~passes], minlength=len(texts))
            for code in np.flatnonzero(spent).tolist():
                tokens[code].spend(int(spent[code]), now)
            for code in np.flatnonzero(lost).tolist():
                meters.count(_BY_LABEL, int(lost[code]), label_name=label, label_value=texts[code])

        rows = np.zeros(len(entries), bool)
        rows[limited] = ~passes
        return dropped(entries.later(entries.last_lines[limited], settle), rows, _REASON)

    def _of(self, text: str) -> Tokens:
        """The tokens of a label's value; those of values that were not seen for long are forgotten."""
        found = self._tokens.get(text) or self._older.pop(text, None) or Tokens(self.rate, self.burst, self.clock())
        if text not in self._tokens and len(self._tokens) >= self.distinct:
            self._older, self._tokens, self._forgotten = self._tokens, {}, True
        self._tokens[text] = found
        return found


@dataclass(slots=True)
class Sampling:
    """`sampling`: each entry passes with the probability `rate`."""

    rate: float
    reason: str = "sampling_stage"
    seed: int | None = None
    _random: np.random.Generator = field(init=False)
    name: ClassVar[str] = "sampling"

    @classmethod
    def build(cls, reader: Reader, node: Node, build: Build) -> Stage:
        """See stage.Builder."""
        body = reader.mapping(node, "sampling", {"rate", "drop_counter_reason"})
        rate = number_of(reader, body.get("rate"), "rate") or 0.0
        return cls(rate, reader.text(body.get("drop_counter_reason"), "drop_counter_reason") or "sampling_stage")

    def __post_init__(self) -> None:
        if not 0 <= self.rate <= 1:
            raise StageError(f"rate is {self.rate:g}; it is a probability from 0 to 1")
        self._random = np.random.default_rng(self.seed)

    def reads(self) -> frozenset[str]:
        """See Stage."""
        return frozenset()

    def __call__(self, entries: Entries) -> Entries:
        """See the class."""
        return dropped(entries, self._random.random(len(entries)) >= self.rate, self.reason)
