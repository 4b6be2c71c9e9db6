"""The stage that counts entries and their values: metrics."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from atalaia.collector.entries import Entries
from atalaia.collector.families import Family, Kind
from atalaia.collector.meters import Meters
from atalaia.collector.stages.stage import Build, Stage, StageError
from atalaia.collector.stages.streams import duration_of, number_of, streams
from atalaia.environment.yamlfile import Node, Reader
from atalaia.logql import values

_ACTIONS = {"counter": ("inc", "add"), "gauge": ("set", "inc", "dec", "add", "sub"), "histogram": ("observe",)}
_CONFIG = {
    "counter": {"match_all", "count_entry_bytes", "value", "action"},
    "gauge": {"value", "action"},
    "histogram": {"value", "buckets"},
}
_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)  # Prometheus' own
_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_WORDS = {"true": 1.0, "false": 0.0}


@dataclass(frozen=True, slots=True)
class Count:
    """One metric of the stage: which entries (`match_all`, or `source` was extracted and is `value`) do what to it."""

    family: Family
    source: str
    action: str
    value: str | None = None
    match_all: bool = False
    count_bytes: bool = False

    def __call__(self, entries: Entries, codes: np.ndarray, texts: list[str]) -> Entries:
        """The entries with the counting of those that are taken."""
        if self.match_all:
            rows = np.arange(len(entries) if self.action == "inc" or self.count_bytes else 0)
            amounts = pc.binary_length(entries.lines).to_numpy(zero_copy_only=False).astype(float)
        else:
            source = entries.source(self.source)
            wanted = pc.is_valid(source) if self.value is None else pc.fill_null(pc.equal(source, self.value), False)
            rows = np.flatnonzero(wanted.to_numpy(zero_copy_only=False))
            amounts = np.ones(len(rows))
            if self.action not in ("inc", "dec"):
                amounts, known = numbers(source.take(pa.array(rows)))
                if self.family.kind == "counter":
                    known &= ~(amounts < 0)  # Promtail ends there
                rows, amounts = rows[known], amounts[known]
        if self.action == "inc":
            amounts = np.ones(len(rows))
        if not len(rows):
            return entries
        codes = codes[rows]

        def count(meters: Meters, mask: np.ndarray) -> None:
            self._count(meters, codes[mask], amounts[mask], texts)

        return entries.later(entries.last_lines[rows], count)

    def _count(self, meters: Meters, codes: np.ndarray, amounts: np.ndarray, texts: list[str]) -> None:
        if self.action == "set":
            present, at = np.unique(codes[::-1], return_index=True)
            for code, value in zip(present.tolist(), amounts[::-1][at].tolist(), strict=True):
                meters.families.set(self.family, texts[code], value)
            return
        sums = np.bincount(codes, amounts, len(texts))
        width = len(self.family.buckets) + 1
        if self.action == "observe":
            within = np.searchsorted(np.array(self.family.buckets), amounts)
            buckets = np.bincount(codes * width + within, minlength=width * len(texts)).reshape(-1, width)
        for code in np.unique(codes).tolist():
            if self.action == "observe":
                meters.families.observe(self.family, texts[code], buckets[code], float(sums[code]))
            else:
                change = -sums[code] if self.action in ("dec", "sub") else sums[code]
                meters.families.add(self.family, texts[code], float(change))


@dataclass(frozen=True, slots=True)
class Metrics:
    """`metrics`: counters, gauges and histograms of what was extracted, with the entry's labels."""

    counts: tuple[Count, ...]
    name: ClassVar[str] = "metrics"

    @classmethod
    def build(cls, reader: Reader, node: Node, build: Build) -> Stage:
        """See stage.Builder."""
        if node.value is None:
            raise StageError("it has no metrics")
        found = []
        for name, one in reader.mapping(node, "metrics").items():
            try:
                found.append(_count(reader, name, one))
            except StageError as error:
                reader.problem(one, f"the metric {name}: {error}", "see docs/stages.md for what a metric can have")
        return cls(tuple(found))

    def reads(self) -> frozenset[str]:
        """See Stage."""
        return frozenset(count.source for count in self.counts if not count.match_all)

    def __call__(self, entries: Entries) -> Entries:
        """See the class."""
        if not len(entries):
            return entries
        codes, texts = streams(entries)
        for count in self.counts:
            entries = count(entries, codes, texts)
        return entries


def numbers(texts: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """Texts (no nulls) as float64[N], durations in seconds, true as 1; and bool[N], which of them are numbers."""
    plain = pc.match_substring_regex(texts, r"^-?\d{1,15}(\.\d{1,15})?$")
    found = pc.if_else(plain, texts, None).cast(pa.float64())
    if not found.null_count:
        return found.to_numpy(zero_copy_only=False), np.ones(len(texts), bool)
    rest = texts.filter(pc.invert(plain)).dictionary_encode()
    read = pa.array([_number(text) for text in rest.dictionary.to_pylist()], pa.float64())
    found = pc.replace_with_mask(found, pc.invert(plain), read.take(rest.indices))
    known = pc.is_valid(found).to_numpy(zero_copy_only=False)
    return pc.fill_null(found, 0.0).to_numpy(zero_copy_only=False), known


def _number(text: str) -> float | None:
    if text in _WORDS:
        return _WORDS[text]
    number = values.number(text)
    if number is not None:
        return number
    duration = values.duration(text)
    return None if duration is None else duration / 1e9


def _count(reader: Reader, name: str, node: Node) -> Count:
    """Raises StageError."""
    body = reader.mapping(node, name, {"type", "description", "source", "prefix", "max_idle_duration", "config"})
    kind = (reader.text(body.get("type"), "type") or "").lower()
    if kind not in _ACTIONS:
        raise StageError(f"type is {kind!r}; it can be counter, gauge or histogram")
    full = (reader.text(body.get("prefix"), "prefix") or "promtail_custom_") + name
    if not _NAME.fullmatch(full):
        raise StageError(f"{full!r} cannot be a metric's name")
    idle = duration_of(reader, body.get("max_idle_duration"), "max_idle_duration")
    if idle is not None and idle < 10**9:
        raise StageError("max_idle_duration is less than 1s")
    config = reader.mapping(body.get("config"), "config", _CONFIG[kind])
    action = (reader.text(config.get("action"), "action") or "").lower() if kind != "histogram" else "observe"
    if action not in _ACTIONS[kind]:
        raise StageError(f"config.action is {action!r}; it can be {', '.join(_ACTIONS[kind])}")
    value = reader.text(config.get("value"), "value")
    match_all = reader.flag(config.get("match_all"), "match_all")
    count_bytes = reader.flag(config.get("count_entry_bytes"), "count_entry_bytes")
    if match_all and value is not None:
        raise StageError("match_all and value exclude each other")
    if count_bytes and not (match_all and action == "add"):
        raise StageError("count_entry_bytes needs `match_all: true` and `action: add`")
    buckets = _buckets(reader, config.get("buckets")) if kind == "histogram" else ()
    description = reader.text(body.get("description"), "description") or ""
    family = Family(full, cast("Kind", kind), description, 300.0 if idle is None else float(idle // 10**9), buckets)
    source = reader.text(body.get("source"), "source")
    return Count(family, name if source is None else source, action, value, match_all, count_bytes)


def _buckets(reader: Reader, node: Node | None) -> tuple[float, ...]:
    found = [number_of(reader, one, "buckets") for one in reader.sequence(node, "buckets")]
    bounds = [bound for bound in found if bound is not None and bound != float("inf")]
    if any(right <= left for left, right in pairwise(bounds)):
        raise StageError("its buckets do not rise")
    return tuple(bounds) or _BUCKETS
