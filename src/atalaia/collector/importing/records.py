"""Lines of a block -> entries: lines without a time joined to theirs, times made UTC, labels set.

A line's time is its content's own, else that in front of it (a capture's), else that of the line before it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import tzinfo

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from atalaia.collector.entries import Entries, LabelValue
from atalaia.collector.importing import services
from atalaia.collector.importing.kinds import CONTINUED, CONTINUING, KINDS
from atalaia.collector.importing.recognise import FIELDS, NAMES, PLAIN, TIMED, Seen
from atalaia.collector.importing.times import S, difference, to_utc

_SERVICES = pa.array([KINDS[name].service if name in KINDS else None for name in NAMES], pa.utf8())
_OPEN = 2000  # lines at a block's end among which the last entry of a container may go on in the next block


@dataclass(slots=True)
class Clock:
    """What is known of a file's clocks. `zone`: of times without one, as told; None: found out, else UTC.

    `ahead`: by how many seconds the times in front of a capture's lines are ahead of UTC. `assumed`: a time was taken
    as UTC for want of anything better. `last`: the last time of each container (ns), for lines without any.
    """

    zone: tzinfo | None = None
    fallback: int = 0
    ahead: int | None = None
    assumed: bool = False
    last: dict[str | None, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Block:
    """The entries of a block; `kind` int8[N]; `strange` object[N]: the service that is not the container's, or None."""

    entries: Entries
    kind: np.ndarray
    strange: np.ndarray


def times(seen: Seen, clock: Clock) -> tuple[np.ndarray, np.ndarray]:
    """UTC times int64[N], and where there is one bool[N]."""
    own, before = seen.time, seen.before
    ns = own.ns - own.offset * S
    known = own.known.copy()
    bare = own.known & ~own.zoned
    both = own.known & before.known & ~before.zoned if before is not None else None
    if before is not None and both is not None:
        # A container's clock is UTC as a rule: times without a zone are believed last.
        sure = both & own.zoned
        sure = sure if sure.any() or clock.zone is not None or clock.ahead is not None else both
        if clock.zone is None and (found := difference(before.ns[sure], ns[sure])) is not None:
            clock.ahead = found
    if clock.zone is not None and bare.any() and before is None:
        ns[bare] = to_utc(own.ns[bare], clock.zone)
    elif bare.any() and before is None:
        clock.assumed = True
    if before is None:
        return ns, known
    ahead_of = before.ns - before.offset * S
    plain = before.known & ~before.zoned
    if plain.any():
        if clock.zone is not None:
            ahead_of[plain] = to_utc(before.ns[plain], clock.zone)
        elif clock.ahead is not None:
            ahead_of[plain] -= clock.ahead * S
        else:
            clock.assumed = True
    # A bare time next to a known one: its zone is what makes the two agree.
    with_both = bare & before.known
    if with_both.any():
        quarter = 900 * S
        shift = np.round((own.ns[with_both] - ahead_of[with_both]) / quarter).astype(np.int64) * quarter
        ns[with_both] = own.ns[with_both] - shift
    return np.where(known, ns, ahead_of), known | before.known


def build(seen: Seen, clock: Clock, labels: Mapping[str, str], new: int = 0) -> Block:
    """The entries of recognised lines; `first` and `last` are their lines' numbers in the block.

    `new`: the first line that was not imported before; none of those behind it is joined to one before it.
    """
    count = len(seen.content)
    ts, known = times(seen, clock)
    codes, names = _containers(seen)
    order = np.argsort(codes, kind="stable") if len(names) > 1 else np.arange(count)
    starts_new = np.ones(count, bool)
    starts_new[1:] = codes[order][1:] != codes[order][:-1]
    begins = starts_new | ~_continuing(seen)[order]
    if new:
        begins[1:] |= (order[1:] >= new) & (order[:-1] < new)
    starts = np.flatnonzero(begins)
    heads = order[starts]
    ends = np.append(starts[1:], count) - 1 if count else starts
    text = seen.text if len(names) < 2 else seen.text.take(pa.array(order))
    if len(starts) < count:
        offsets = np.append(starts, count).astype(np.int32)
        text = pc.utf8_rtrim(pc.binary_join(pa.ListArray.from_arrays(pa.array(offsets), text), "\n"), "\n")
    moment = _filled(ts[heads], known[heads], codes[heads], names, clock)
    rows = pa.array(heads)
    found: dict[str, LabelValue] = dict(labels)
    if seen.container is not None:
        found["container"] = seen.container.take(rows)
    if (word := seen.fields.get("word")) is not None:
        taken = word.take(rows)
        found["severity"] = pc.if_else(pc.is_in(taken, CONTINUING), "LOG", taken)
    if seen.level.null_count < count:
        found["level"] = seen.level.take(rows)
    metadata: dict[str, LabelValue] = {}
    for name in FIELDS:
        if (value := seen.fields.get(name)) is not None:
            value = value.take(rows)
            metadata[name] = pc.if_else(pc.equal(value, ""), None, value)
    strange = np.full(len(heads), None, object)
    if seen.container is not None:
        strange = _strange(seen, heads, codes, names)
        if any(value is not None for value in strange):
            metadata["recognised"] = pa.array(strange, pa.utf8())
    entries = Entries(text, moment, found, metadata=metadata, first=heads, last=order[ends])
    block = Block(entries, seen.kind[heads], strange)
    return _in_order(block) if len(names) > 1 else block


def open_from(block: Block) -> int:
    """The first line that may belong to an entry which goes on behind the block."""
    first, last = block.entries.first_lines, block.entries.last_lines
    if not len(first):
        return 0
    codes, _ = _encoded(block.entries.labels.get("container"), len(first))
    end = int(last.max()) + 1
    newest = np.full(int(codes.max()) + 1, end)
    newest[codes] = first  # the last one of each container stays
    near = newest[newest >= end - _OPEN]
    held = int(near.min()) if len(near) else end
    held = min(held, int(first[last.argmax()]))
    while len(across := first[(first < held) & (last >= held)]):
        held = int(across.min())
    return held


def _containers(seen: Seen) -> tuple[np.ndarray, list[str | None]]:
    return _encoded(seen.container, len(seen.content))


def _encoded(container: LabelValue | None, count: int) -> tuple[np.ndarray, list[str | None]]:
    if container is None or isinstance(container, str):
        return np.zeros(count, np.int64), [None]
    encoded = container.dictionary_encode(null_encoding="encode")
    return encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64), encoded.dictionary.to_pylist()


def _continuing(seen: Seen) -> np.ndarray:
    """The lines that belong to the line before."""
    count = len(seen.content)
    untimed = seen.kind >= TIMED
    found = np.zeros(count, bool)
    if (word := seen.fields.get("word")) is not None:
        found |= pc.fill_null(pc.is_in(word, CONTINUING), False).to_numpy(zero_copy_only=False)
    if not untimed.any():
        return found
    rows = np.flatnonzero(seen.kind == PLAIN)
    # Without anything in front of them, lines that tell no time belong to the last one that did.
    if seen.container is None and seen.before is None:
        found[rows] = bool((~untimed).any())
        return found
    if seen.bare is not None:
        found[rows] |= seen.bare[rows]
    lines = seen.content.take(pa.array(rows))
    blank = pc.equal(pc.binary_length(lines), 0)
    found[rows] |= pc.or_(pc.match_substring_regex(lines, CONTINUED), blank).to_numpy(zero_copy_only=False)
    return found


def _filled(ts: np.ndarray, known: np.ndarray, codes: np.ndarray, names: list[str | None], clock: Clock) -> np.ndarray:
    """Where there is no time: that of the container's entry before, else of the one behind, else the fallback."""
    result = ts.copy()
    for code, name in enumerate(names):
        rows = np.flatnonzero(codes == code) if len(names) > 1 else np.arange(len(ts))
        if not len(rows):
            continue
        good = known[rows]
        if not good.all():
            places = np.maximum.accumulate(np.where(good, np.arange(len(rows)), -1))
            values = np.where(places >= 0, ts[rows][np.maximum(places, 0)], 0)
            early = places < 0
            if early.any():
                after = ts[rows][good]
                begin = clock.last.get(name, int(after[0]) if len(after) else clock.fallback)
                values[early] = begin
            result[rows] = values
        clock.last[name] = int(result[rows[-1]])
    return result


def _strange(seen: Seen, heads: np.ndarray, codes: np.ndarray, names: list[str | None]) -> np.ndarray:
    """The recognised service of entries whose container's name tells another one; None elsewhere."""
    expected = np.array([services.named(name) for name in names], object)[codes[heads]]
    found = np.full(len(heads), None, object)
    telling = np.flatnonzero([name is not None for name in expected])
    if not len(telling):
        return found
    content = seen.content.take(pa.array(heads[telling]))
    kinds = _SERVICES.take(pa.array(seen.kind[heads[telling]]))
    known = services.recognised(content, kinds)
    other = np.array([a is not None and a != b for a, b in zip(known, expected[telling], strict=True)])
    found[telling[other]] = known[other]
    return found


def _in_order(block: Block) -> Block:
    """The entries in the order of their first lines."""
    order = np.argsort(block.entries.first_lines, kind="stable")
    return Block(block.entries.take(order), block.kind[order], block.strange[order])
