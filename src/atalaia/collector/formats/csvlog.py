"""PostgreSQL's csvlog as entries. Its columns: PostgreSQL's manual, "Using CSV-Format Log Output".

23 columns since 9.0, 24 since 13 (backend type), 26 since 14 (leader, query id). A quoted value may have line ends.
"""

from __future__ import annotations

import csv
import io
import itertools
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pv

from atalaia.collector.entries import Entries, concat
from atalaia.collector.formats import records
from atalaia.collector.formats.slices import cut, line_bounds

_COLUMNS = [
    "time",
    "user",
    "database",
    "pid",
    "connection",
    "session",
    "session_line",
    "command_tag",
    "session_start",
    "virtual_transaction",
    "transaction",
    "severity",
    "sqlstate",
    "message",
    "detail",
    "hint",
    "query",
    "internal_position",
    "context",
    "statement",
    "cursor_position",
    "location",
    "application",
    "backend_type",
    "leader_pid",
    "query_id",
]
_WIDTHS = (26, 24, 23)
_OPEN = -1
_QUOTE = 34
_START = re.compile(rb'\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} [A-Za-z0-9+:_-]+,(?:"|,)')
_DIGITS = np.array([0, 1, 2, 3, 5, 6, 8, 9, 11, 12, 14, 15, 17, 18, 20, 21, 22])
_SIGNS = {4: b"-", 7: b"-", 10: b" ", 13: b":", 16: b":", 19: b".", 23: b" "}


def csvlog(block: bytes, now: int, labels: Mapping[str, str]) -> Entries:
    """Entries of a valid UTF-8 block of whole lines; `now` (ns) stands in where a record has no time.

    A record that the block ends in the middle of is held back. A line that is no part of a record (a torn write) is
    kept as it is, without a severity.
    """
    starts, ends = line_bounds(block)
    if not len(starts):
        return records.plain(pa.array([], pa.utf8()), now, labels)
    quotes = np.flatnonzero(np.frombuffer(block, np.uint8) == _QUOTE)
    # Quotes are doubled within quotes: a line end behind an even number of them ends a record.
    closing = np.searchsorted(quotes, ends) % 2 == 0
    last = np.flatnonzero(closing)
    first = np.append(0, last[:-1] + 1) if len(last) else last
    if not _all_begin(block, starts[first]):
        return _mended(block, now, labels)
    parts = []
    rest = int(last[-1]) + 1 if len(last) else 0
    if len(last):
        whole = block[: ends[last[-1]] + 1]
        table = _read(whole, len(last))
        if table is None:
            return _mended(block, now, labels)
        parts.append(replace(_records(table, now, labels), first=first, last=last))
    if rest < len(starts):
        if not _START.match(block, int(starts[rest])):
            return _mended(block, now, labels)
        lines = np.arange(rest, len(starts))
        parts.append(records.plain(cut(block, starts[lines], ends[lines]), now, labels, lines).hold(rest))
    return concat(parts)


def _all_begin(block: bytes, starts: np.ndarray) -> bool:
    """Whether each of these places looks like the beginning of a record: a time."""
    data = np.frombuffer(block, np.uint8)
    if len(starts) and starts[-1] + 24 > len(data):
        return False
    grid = data[starts[:, None] + np.arange(24)[None, :]]
    digits = grid[:, _DIGITS] - np.uint8(48) <= 9
    return bool(digits.all() and all((grid[:, at] == sign[0]).all() for at, sign in _SIGNS.items()))


def _read(block: bytes, count: int) -> pa.Table | None:
    """The table of a block of whole records; None when it has not `count` records of one width."""
    # A server's release decides the width: a file that an upgrade continues has several.
    for width in _WIDTHS:
        try:
            table = pv.read_csv(
                io.BytesIO(block),
                read_options=pv.ReadOptions(
                    use_threads=False, block_size=len(block) + 1, column_names=_COLUMNS[:width]
                ),
                parse_options=pv.ParseOptions(newlines_in_values=True, ignore_empty_lines=False),
                convert_options=pv.ConvertOptions(
                    column_types=dict.fromkeys(_COLUMNS[:width], pa.utf8()),
                    null_values=[""],
                    strings_can_be_null=True,
                    quoted_strings_can_be_null=False,
                ),
            )
        except pa.ArrowInvalid:
            continue
        return table.combine_chunks() if len(table) == count else None
    return None


def _records(table: pa.Table, now: int, labels: Mapping[str, str]) -> Entries:
    columns = {name: table.column(name).chunk(0) for name in table.column_names}
    connection = columns.pop("connection")
    # "[local]" (behind its colon nothing), "host:port"; an IPv6 address has colons itself.
    parts = pc.extract_regex(connection, r"^(?P<host>.*?)(?::(?P<port>[0-9]*))?$")
    columns["remote_host"], columns["remote_port"] = (
        pc.if_else(pc.is_valid(connection), parts.field(at), None) for at in (0, 1)
    )
    columns["position"] = pc.coalesce(columns["cursor_position"], columns["internal_position"])
    return records.entries(columns, now, labels)


def _mended(block: bytes, now: int, labels: Mapping[str, str]) -> Entries:
    """As `csvlog`, when not all of it is records of one width: told apart one by one, the others as plain lines."""
    parts: list[Entries] = []
    held: int | None = None
    for width, group in itertools.groupby(_pieces(block.split(b"\n")[:-1]), key=lambda piece: piece.width):
        pieces = list(group)
        lines = [line for piece in pieces for line in piece.lines]
        first = np.array([piece.at for piece in pieces])
        table = _read(b"\n".join(lines) + b"\n", len(pieces)) if width else None
        if table is None:
            numbers = np.arange(pieces[0].at, pieces[0].at + len(lines))
            parts.append(records.plain(pa.array([line.decode() for line in lines]), now, labels, numbers))
            if width == _OPEN:
                held = pieces[0].at
        else:
            last = first + np.array([len(piece.lines) for piece in pieces]) - 1
            parts.append(replace(_records(table, now, labels), first=first, last=last))
    whole = concat(parts)
    return whole if held is None else whole.hold(held)


class _Piece(NamedTuple):
    """Lines from `at` on: a record of `width` columns, a line that is none (0), or one without its end (_OPEN)."""

    at: int
    lines: list[bytes]
    width: int


def _pieces(lines: list[bytes]) -> Iterator[_Piece]:
    at = 0
    while at < len(lines):
        end, quotes = at, lines[at].count(b'"')
        begins = _START.match(lines[at])
        while begins and quotes % 2 and end + 1 < len(lines):
            end += 1
            quotes += lines[end].count(b'"')
        piece = lines[at : end + 1]
        width = _width(b"\n".join(piece)) if begins and quotes % 2 == 0 else 0
        if begins and quotes % 2 and not any(_START.match(line) for line in piece[1:]):
            width = _OPEN
        if not width:
            piece = lines[at : at + 1]  # its end is lost: another record begins within
        yield _Piece(at, piece, width)
        at += len(piece)


def _width(record: bytes) -> int:
    """The columns of a record; 0 when they are not as many as PostgreSQL writes."""
    try:
        rows = list(csv.reader(io.StringIO(record.decode(), newline=""), strict=True))
    except csv.Error:
        return 0
    return len(rows[0]) if len(rows) == 1 and len(rows[0]) in _WIDTHS else 0
