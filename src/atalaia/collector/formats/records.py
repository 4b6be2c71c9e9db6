"""Records of PostgreSQL as entries: the line is what stderr would show without its prefix; the rest is metadata."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from atalaia.collector.entries import Entries, LabelValue
from atalaia.collector.formats import times, words

# The structured metadata of an entry, in their order; not every format has them all.
METADATA = (
    "pid",
    "user",
    "database",
    "application",
    "remote_host",
    "remote_port",
    "sqlstate",
    "session",
    "session_line",
    "session_start",
    "backend_type",
    "command_tag",
    "virtual_transaction",
    "transaction",
    "query_id",
    "leader_pid",
    "cursor_position",
)
# PostgreSQL writes these for "no transaction", "no query id", "no error".
_NONE = {"transaction": "0", "query_id": "0", "sqlstate": "00000"}
_NAMES = ("user", "database", "application")
_PARTS = ("detail", "hint", "query", "context", "location", "backtrace", "statement")


def metadata(columns: Mapping[str, pa.Array]) -> dict[str, LabelValue]:
    """Columns (utf8) as an entry's metadata: null where PostgreSQL writes a value that stands for none."""
    found: dict[str, LabelValue] = {}
    for name in METADATA:
        column = columns.get(name)
        if column is None or column.null_count == len(column):
            continue
        if name in _NAMES:
            column = words.without_unknown(column)
        else:
            column = pc.if_else(pc.is_in(column, pa.array(["", _NONE.get(name, "")])), None, column)
        found[name] = column
    return found


def entries(columns: Mapping[str, pa.Array], now: int, labels: Mapping[str, str], zone: str | None = None) -> Entries:
    """Entries of columns (utf8[N], null: not given) named as METADATA, `time`, `severity`, `message` and _PARTS.

    `now` (ns) stands in where a record has no time.
    """
    severity = columns["severity"]
    count = len(severity)
    message = pc.fill_null(columns["message"], "")
    position = columns.get("position")
    if position is not None and position.null_count < count:
        shown = pc.binary_join_element_wise(message, position, " at character ")
        message = pc.if_else(pc.is_valid(position), shown, message)
    lines = [pc.binary_join_element_wise(pc.fill_null(severity, "LOG"), message, ":  ")]
    for name in _PARTS:
        part = columns.get(name)
        if part is not None and part.null_count < count:
            lines.append(pc.binary_join_element_wise(name.upper(), part, ":  "))
    line = pc.binary_join_element_wise(*lines, "\n", null_handling="skip") if len(lines) > 1 else lines[0]
    ts = pc.fill_null(times.parse_whole(columns["time"], zone), now).to_numpy(zero_copy_only=False)
    return Entries(line, ts, {**labels, "severity": words.english(severity)}, metadata=metadata(columns))


def plain(lines: pa.Array, now: int, labels: Mapping[str, str], first: np.ndarray | None = None) -> Entries:
    """Lines that are no record, as they are, without a severity."""
    made = Entries(lines, np.full(len(lines), now, np.int64), {**labels, "severity": pa.nulls(len(lines), pa.utf8())})
    return made if first is None else replace(made, first=first, last=first)
