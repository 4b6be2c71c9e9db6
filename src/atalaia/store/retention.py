"""Retention: what is to go by age and by size, whichever comes first. docs/retention.md says it for people.

Entries go when their time has come for sure, and as few segments as possible are written again for it. A rule's streams
leave a segment once all that it has of them is past the age. Where that spans more time than the age, half of the
bytes must be, so that no rule keeps much more than it should; each such step halves what is left. By size the newest
stay; the segment at the edge is cut only when a tenth of the size is beyond, so one of a small part of it never is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rule:
    """Bounds of the streams whose tenant and labels `holds` accepts: ns, and bytes on disk; None for no bound."""

    holds: Callable[[str, Mapping[str, str]], bool]
    age: int | None = None
    size: int | None = None


@dataclass(frozen=True, slots=True)
class Retention:
    """`age` (ns) is of streams that no rule holds for, `size` (bytes on disk) of everything; None for no bound.

    Of several rules the first that holds counts. A rule's number is its place from 1; 0 is no rule.
    """

    age: int | None = None
    size: int | None = None
    rules: tuple[Rule, ...] = ()

    def before(self, now: int) -> dict[int, int]:
        """By rule: the time (ns) before which its entries are too old at `now`."""
        ages = (self.age, *(rule.age for rule in self.rules))
        return {number: now - age for number, age in enumerate(ages) if age is not None}


@dataclass(frozen=True, slots=True)
class Piece:
    """What a segment has of one rule's streams: its share of the bytes, first and last time (ns, both included)."""

    rule: int
    size: int
    min_ts: int
    max_ts: int


@dataclass(frozen=True, slots=True)
class Holding:
    """A segment in its pieces. One that is `fixed` cannot be written again, and goes as a whole or not at all."""

    name: str
    size: int
    min_ts: int
    max_ts: int
    pieces: tuple[Piece, ...]
    fixed: bool = False


@dataclass(frozen=True, slots=True)
class Due:
    """What of a segment is to go: by rule, what is before a time (ns); `whole` when nothing is left then."""

    name: str
    cuts: Mapping[int, int]
    whole: bool


Edge = Callable[[str, int | None, int], int]
"""(segment, rule or None for all, bytes) -> the time (ns) before which are its entries beyond the newest bytes."""


def due(holdings: Sequence[Holding], retention: Retention, now: int, edge: Edge) -> list[Due]:
    """What is to go at `now` (ns), oldest segments first. `edge` is asked rarely, since it reads the segment."""
    newest_first = sorted(holdings, key=lambda h: (h.max_ts, h.name), reverse=True)
    cuts: dict[str, dict[int, int]] = {holding.name: {} for holding in newest_first}
    before = retention.before(now)
    for holding in newest_first:
        for piece in holding.pieces:
            if piece.rule in before and _is_due(holding, piece, before[piece.rule], now, edge):
                cuts[holding.name][piece.rule] = before[piece.rule]
    for number, rule in enumerate(retention.rules, 1):
        if rule.size is not None:
            # What goes by age is not counted: until it is gone, less is removed than could be, never more.
            staying = (h for h in newest_first if number not in cuts[h.name])
            mine = [(h, piece) for h in staying for piece in h.pieces if piece.rule == number]
            mine.sort(key=lambda found: (found[1].max_ts, found[0].name), reverse=True)
            for holding, piece, over in _beyond(mine, rule.size):
                if over == piece.size:
                    _cut(cuts[holding.name], piece, piece.max_ts + 1)
                elif not holding.fixed:
                    _cut(cuts[holding.name], piece, edge(holding.name, number, piece.size - over))
    for holding in newest_first:
        if holding.fixed and not _whole(holding, cuts[holding.name]):
            cuts[holding.name].clear()
    if retention.size is not None:
        _cut_everything(newest_first, cuts, retention.size, edge)
    return [Due(h.name, cuts[h.name], _whole(h, cuts[h.name])) for h in reversed(newest_first) if cuts[h.name]]


def _is_due(holding: Holding, piece: Piece, before: int, now: int, edge: Edge) -> bool:
    if piece.max_ts < before:
        return True
    if piece.min_ts >= before or piece.max_ts - piece.min_ts <= now - before or holding.fixed:
        return False
    return edge(holding.name, piece.rule, piece.size // 2) <= before


def _beyond(newest_first: Sequence[tuple[Holding, Piece]], size: int) -> Iterator[tuple[Holding, Piece, int]]:
    """The pieces with enough beyond the size to be cut, and how many bytes of each."""
    total = 0
    for holding, piece in newest_first:
        total += piece.size
        over = min(piece.size, total - size)
        if over > 0 and over >= min(piece.size, size / 10):
            yield holding, piece, over


def _cut(cuts: dict[int, int], piece: Piece, before: int) -> None:
    if before > piece.min_ts:
        cuts[piece.rule] = max(before, cuts.get(piece.rule, before))


def _cut_everything(newest_first: Sequence[Holding], cuts: dict[str, dict[int, int]], size: int, edge: Edge) -> None:
    """The same for the store as a whole, of which the pieces are the segments."""
    left = []
    for holding in newest_first:
        going = sum(piece.size for piece in holding.pieces if piece.rule in cuts[holding.name])
        left.append((holding, Piece(0, holding.size - going, holding.min_ts, holding.max_ts)))
    for holding, piece, over in _beyond(left, size):
        mine = cuts[holding.name]
        if over == piece.size:
            before = holding.max_ts + 1
        elif holding.fixed or mine:
            continue  # or later, when what is to go by its own rule is gone
        else:
            before = edge(holding.name, None, piece.size - over)
        for one in holding.pieces:
            _cut(mine, one, before)


def _whole(holding: Holding, cuts: Mapping[int, int]) -> bool:
    return all(cuts.get(piece.rule, piece.max_ts) > piece.max_ts for piece in holding.pieces)
