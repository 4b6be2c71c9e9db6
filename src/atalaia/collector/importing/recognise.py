"""Each line of a block on its own: which kind it is, its time, its level, its container."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from atalaia.collector.importing import objects
from atalaia.collector.importing.kinds import (
    ENTRYPOINT,
    KINDS,
    LEADING_LEVEL,
    LOGFMT_LEVEL,
    UNTIMED,
    Kind,
    english,
    levels,
)
from atalaia.collector.importing.times import Form, Moments, moments

NAMES: tuple[str, ...] = (*KINDS, objects.NAME, *UNTIMED)
"""The kinds; a line's `kind` is a place in them."""
PLAIN = NAMES.index("plain")
TIMED = PLAIN - len(UNTIMED) + 1
"""Kinds before this one tell a time."""
FIELDS = ("pid", "user", "database", "prefix")
"""What a prefix of PostgreSQL's tells, and all of it behind its time where its parts are not known."""
_COLOURS = r"\x1b\[[0-9;?]*[A-Za-z]"
_COMPOSE = (
    r"^(?:(?P<t>\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d)(?:\.(?P<f>\d{1,9}))?(?P<z>Z|[+-]\d\d:?\d\d)? +)?"
    r"(?P<container>[A-Za-z0-9][A-Za-z0-9_.-]+) +\|(?: (?P<content>[^\n]*))?$"
)
# What `docker logs -t` and `docker compose logs -t` put before a line: always with nine digits.
_STAMP = r"^(?P<t>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)\.(?P<f>\d{9})(?P<z>Z|[+-]\d\d:\d\d) (?P<content>[^\n]*)$"
_IS_STAMPED = r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}(?:Z|[+-]\d\d:\d\d) "
_PID, _USER, _DATABASE = r"\[(?P<v>\d+)\]", r"(?:user=)?(?P<v>[\w.$-]+)(?:@|,db=)", r"(?:@|db=)(?P<v>[\w.$-]+)"


@dataclass(slots=True)
class Seen:
    """N lines: `kind` int8[N], their times, `text` utf8[N] as they are stored, `content` without what stood before it.

    `level`: normalised; `fields`: word, pid, user, database; `container` and `before`, the time in front of the
    content, where a capture's lines have them; `bare` bool[N]: a capture's lines that have not.
    """

    content: pa.Array
    text: pa.Array
    kind: np.ndarray
    time: Moments
    level: pa.Array
    fields: dict[str, pa.Array] = field(default_factory=dict)
    container: pa.Array | None = None
    before: Moments | None = None
    bare: np.ndarray | None = None


@dataclass(slots=True)
class Recogniser:
    """`latest`: no time is after it, for those without a year; `forms`: the only kinds to try. Keeps what was frequent.

    `capture` and `stamped`: whether lines begin as docker compose's do, and with docker's times (see `begin`).
    """

    latest: datetime
    year: int | None = None
    forms: tuple[str, ...] | None = None
    capture: bool = False
    stamped: bool = False
    counts: dict[str, int] = field(default_factory=dict)

    def begin(self, lines: pa.Array) -> None:
        """Decide by a file's first lines what stands in front of all of them."""
        lines = uncoloured(lines)
        if not len(lines):
            return
        found = pc.extract_regex(lines, _COMPOSE)
        self.capture = 2 * (len(lines) - found.null_count) > len(lines)
        content = pc.drop_null(found.field("content")) if self.capture else lines
        self.stamped = 2 * (pc.sum(pc.match_substring_regex(content, _IS_STAMPED)).as_py() or 0) > len(content) > 0

    def __call__(self, lines: pa.Array) -> Seen:
        """The lines of a block, each by itself."""
        lines = uncoloured(lines)
        content, container, before, bare = lines, None, None, None
        if self.capture:
            found = pc.extract_regex(lines, _COMPOSE)
            whole = pc.is_valid(found)
            # A line that somebody has wrapped belongs to the container of the line before.
            container = pc.fill_null_forward(pc.if_else(whole, found.field("container"), None))
            bare = ~whole.to_numpy(zero_copy_only=False)
            content = pc.if_else(whole, found.field("content"), lines)
            groups = {name: pc.if_else(whole, found.field(name), None) for name in ("t", "f", "z")}
            before = moments(groups, Form.ISO, self.latest, self.year)
        if self.stamped:
            found = pc.extract_regex(content, _STAMP)
            whole = pc.is_valid(found)
            content = pc.if_else(whole, found.field("content"), content)
            groups = {name: pc.if_else(whole, found.field(name), None) for name in ("t", "f", "z")}
            stamp = moments(groups, Form.ISO, self.latest, self.year)
            if before is None:
                before = stamp
            else:
                rows = np.flatnonzero(stamp.known)
                before.put(rows, Moments(*(part[rows] for part in _parts(stamp))))
        count = len(lines)
        seen = Seen(content, content, np.full(count, PLAIN, np.int8), Moments.none(count), pa.nulls(count, pa.utf8()))
        seen.container, seen.before, seen.bare = container, before, bare
        self._classify(seen)
        return seen

    def _classify(self, seen: Seen) -> None:
        """Try the kinds, the most frequent first, each on the lines that are left."""
        left = np.arange(len(seen.content))
        words: dict[str, list[tuple[np.ndarray, pa.Array]]] = {}
        left = self._objects(seen, left, words)
        order = sorted(KINDS, key=lambda name: -self.counts.get(name, 0)) if self.forms is None else self.forms
        for name in order:
            if not len(left):
                break
            if name in KINDS:
                left = self._try(KINDS[name], seen, left, words)
        self._untimed(seen, left, words)
        for name, parts in words.items():
            values = _scattered(parts, len(seen.content))
            if name == "level":
                seen.level = values
            else:
                seen.fields[name] = values

    def _objects(self, seen: Seen, left: np.ndarray, words: dict[str, list[tuple[np.ndarray, pa.Array]]]) -> np.ndarray:
        """JSON objects with a time field."""
        if self.forms is not None and objects.NAME not in self.forms:
            return left
        mask = pc.starts_with(seen.content, "{").to_numpy(zero_copy_only=False)
        if not mask.any():
            return left
        rows = np.flatnonzero(mask)
        found = objects.scan(seen.content.take(pa.array(rows)), self.latest)
        rows_in = np.flatnonzero(found.time.known)
        if not len(rows_in):
            return left
        rows = rows[rows_in]
        seen.kind[rows] = NAMES.index(objects.NAME)
        seen.time.put(rows, Moments(*(part[rows_in] for part in _parts(found.time))))
        words.setdefault("level", []).append((rows, found.level.take(pa.array(rows_in))))
        self.counts[objects.NAME] = self.counts.get(objects.NAME, 0) + len(rows)
        return np.setdiff1d(left, rows, assume_unique=True)

    def _try(
        self, kind: Kind, seen: Seen, left: np.ndarray, words: dict[str, list[tuple[np.ndarray, pa.Array]]]
    ) -> np.ndarray:
        lines = seen.content if len(left) == len(seen.content) else seen.content.take(pa.array(left))
        found = pc.extract_regex(lines, kind.pattern)
        if found.null_count == len(lines):
            return left
        hit = pc.is_valid(found).to_numpy(zero_copy_only=False)
        rows = left if hit.all() else left[hit]
        if not hit.all():
            found, lines = found.filter(pa.array(hit)), lines.filter(pa.array(hit))
        groups = {name: found.field(name) for name in kind.groups}
        time = moments(groups, kind.form, self.latest, self.year)
        seen.kind[rows] = NAMES.index(kind.name)
        seen.time.put(rows, time)
        self.counts[kind.name] = self.counts.get(kind.name, 0) + len(rows)
        if kind.text:
            shorter = pc.replace_substring_regex(lines, kind.stripped(), r"\1:  ")
            if not time.known.all():
                shorter = pc.if_else(pa.array(time.known), shorter, lines)
            whole = len(rows) == len(seen.text)
            seen.text = shorter if whole else pc.replace_with_mask(seen.text, _mask(rows, len(seen.text)), shorter)
        if kind.name.startswith("logfmt") and "level" not in groups:
            groups["level"] = pc.extract_regex(lines, LOGFMT_LEVEL).field("level")
        if "word" in groups:
            groups["word"] = english(groups["word"])
        if "rest" in groups:
            groups |= _of_prefix(groups["rest"])
        if "level" in groups:
            groups["level"] = levels(groups["level"])
        for name in ("level", "word", *FIELDS):
            if name in groups:
                words.setdefault(name, []).append((rows, groups[name]))
        rest: np.ndarray = left[~hit]
        return rest

    def _untimed(self, seen: Seen, left: np.ndarray, words: dict[str, list[tuple[np.ndarray, pa.Array]]]) -> None:
        """What tells no time may tell a level."""
        if not len(left) or self.forms is not None:
            return
        lines = seen.content.take(pa.array(left))
        entrypoint = pc.match_substring_regex(lines, ENTRYPOINT).to_numpy(zero_copy_only=False)
        seen.kind[left[entrypoint]] = NAMES.index(UNTIMED[0])
        for name, pattern in (("logfmt", LOGFMT_LEVEL), ("level", LEADING_LEVEL)):
            found = pc.extract_regex(lines, pattern)
            hit = pc.is_valid(found).to_numpy(zero_copy_only=False) & (seen.kind[left] == PLAIN)
            if hit.any():
                seen.kind[left[hit]] = NAMES.index(name, TIMED)
                words.setdefault("level", []).append((left[hit], levels(found.filter(pa.array(hit)).field("level"))))


def uncoloured(lines: pa.Array) -> pa.Array:
    """Lines without terminal colours, and without a carriage return at their end."""
    data = lines.buffers()[2]
    if data is not None and b"\x1b" in data.to_pybytes():
        lines = pc.replace_substring_regex(lines, _COLOURS, "")
    return pc.utf8_rtrim(lines, "\r") if pc.any(pc.ends_with(lines, "\r")).as_py() else lines


def _of_prefix(rest: pa.Array) -> Mapping[str, pa.Array]:
    """What is found in a log_line_prefix behind its time; each distinct one is looked at once."""
    encoded = rest.dictionary_encode()

    def found(pattern: str) -> pa.Array:
        values = pc.extract_regex(encoded.dictionary, pattern)
        return pc.if_else(pc.is_valid(values), values.field("v"), None).take(encoded.indices)

    whole = pc.utf8_trim(rest, " :")
    return {"prefix": whole, "pid": found(_PID), "user": found(_USER), "database": found(_DATABASE)}


def _parts(time: Moments) -> tuple[np.ndarray, ...]:
    return time.ns, time.known, time.offset, time.zoned


def _mask(rows: np.ndarray, count: int) -> pa.Array:
    mask = np.zeros(count, bool)
    mask[rows] = True
    return pa.array(mask)


def _scattered(parts: list[tuple[np.ndarray, pa.Array]], count: int) -> pa.Array:
    """Values at their rows; null elsewhere."""
    if len(parts) == 1 and len(parts[0][0]) == count:
        return parts[0][1]
    values = pa.concat_arrays([values.cast(pa.utf8()) for _, values in parts])
    places = np.full(count, -1)
    places[np.concatenate([rows for rows, _ in parts])] = np.arange(len(values))
    return values.take(pa.array(places, mask=places < 0))
