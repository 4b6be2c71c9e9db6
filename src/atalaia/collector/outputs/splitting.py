"""A batch that is too large for one push, as several; each takes whole lines of its sources."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from atalaia.collector.outputs.sink import Origin, Rows
from atalaia.store.batch import Source


@dataclass(frozen=True, slots=True)
class Piece:
    """Rows, the bytes of the sources that they were made of, and where each row comes from."""

    table: pa.Table
    sources: tuple[Source, ...]
    rows: Rows


def split(piece: Piece, most: int) -> list[Piece]:
    """Pieces of at most `most` bytes in memory, as far as their lines can be parted."""
    if piece.table.nbytes <= most or len(piece.table) < 2:
        return [piece]
    halves = _between_sources(piece) if len(piece.sources) > 1 else _between_lines(piece)
    return [piece] if halves is None else [part for half in halves for part in split(half, most)]


def _between_sources(piece: Piece) -> tuple[Piece, Piece]:
    middle = len(piece.sources) // 2
    row = sum(len(origin) for origin in piece.rows.origins[:middle])
    origins = piece.rows.origins
    return _parted(piece, row, (piece.sources[:middle], piece.sources[middle:]), (origins[:middle], origins[middle:]))


def _between_lines(piece: Piece) -> tuple[Piece, Piece] | None:
    """Two halves of one source's rows; None when no two rows can be parted."""
    (origin,), (source,) = piece.rows.origins, piece.sources
    # A border is good when all rows before it end before those behind it begin.
    ends = np.maximum.accumulate(origin.last)[:-1]
    begins = np.minimum.accumulate(origin.first[::-1])[::-1][1:]
    borders = np.flatnonzero(ends < begins) + 1
    if not len(borders):
        return None
    row = int(borders[np.abs(borders - len(origin) // 2).argmin()])
    offset = origin.offset_of(int(ends[row - 1]) + 1)
    sources = ((replace(source, end=offset),), (replace(source, start=offset),))
    halves = tuple(
        (replace(origin, first=origin.first[part], last=origin.last[part]),) for part in (slice(row), slice(row, None))
    )
    return _parted(piece, row, sources, (halves[0], halves[1]))


def _parted(
    piece: Piece,
    row: int,
    sources: tuple[tuple[Source, ...], tuple[Source, ...]],
    origins: tuple[tuple[Origin, ...], tuple[Origin, ...]],
) -> tuple[Piece, Piece]:
    tenants = piece.rows.tenants
    before, behind = (None, None) if tenants is None else (tenants.slice(0, row), tenants.slice(row))
    return (
        Piece(piece.table.slice(0, row), sources[0], Rows(origins[0], before)),
        Piece(piece.table.slice(row), sources[1], Rows(origins[1], behind)),
    )
