"""PostgreSQL's logs as entries: jsonlog in whole blocks, and what reaches stderr only.

jsonlog's keys: PostgreSQL's manual, "Using JSON-Format Log Output". The line is what stderr would show, without
its prefix.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pj

from atalaia.collector.entries import Entries, concat
from atalaia.collector.lines import count, split
from atalaia.logql.template.gotime import Layout

_TEXTS = [
    "timestamp",
    "user",
    "dbname",
    "remote_host",
    "session_id",
    "ps",
    "session_start",
    "vxid",
    "error_severity",
    "state_code",
    "message",
    "detail",
    "hint",
    "internal_query",
    "context",
    "statement",
    "func_name",
    "file_name",
    "application_name",
    "backend_type",
]
_NUMBERS = [
    "pid",
    "remote_port",
    "line_num",
    "txid",
    "internal_position",
    "cursor_position",
    "file_line_num",
    "leader_pid",
    "query_id",
]
_SCHEMA = pa.schema([(name, pa.utf8()) for name in _TEXTS] + [(name, pa.int64()) for name in _NUMBERS])
_METADATA = {
    "pid": "pid",
    "user": "user",
    "database": "dbname",
    "application": "application_name",
    "remote_host": "remote_host",
    "remote_port": "remote_port",
    "sqlstate": "state_code",
    "session": "session_id",
    "session_line": "line_num",
    "session_start": "session_start",
    "backend_type": "backend_type",
    "command_tag": "ps",
    "virtual_transaction": "vxid",
    "transaction": "txid",
    "query_id": "query_id",
    "leader_pid": "leader_pid",
    "cursor_position": "cursor_position",
}
_ZERO_IS_NONE = ("txid", "query_id")  # PostgreSQL writes 0 for "no transaction", "no query id"
_PARTS = (
    ("DETAIL", "detail"),
    ("HINT", "hint"),
    ("QUERY", "internal_query"),
    ("CONTEXT", "context"),
    ("STATEMENT", "statement"),
)
_NULL_BEHIND = re.compile(rb"\}[ \t\r]*null")
_TIME = Layout("2006-01-02 15:04:05.000 MST")


def jsonlog(block: bytes, now: int, labels: Mapping[str, str]) -> Entries:
    """Entries of a valid UTF-8 block of whole jsonlog lines; `now` (ns) stands in where a record has no time.

    A line that is not a jsonlog record (a torn write) is kept as it is, without a severity.
    """
    # Arrow's reader ends the process at a `null` outside of an object (seen in 26.0.1), passes over blank lines and
    # takes two objects in one line: it gets only lines that look like objects, and must give one record for each.
    lines = count(block)
    objects = lines == block.count(b"\n{") + block.startswith(b"{")
    if not objects or _NULL_BEHIND.search(block):
        return _mended(block, now, labels)
    try:
        table = _read(block)
    except pa.ArrowInvalid:
        return _mended(block, now, labels)
    if len(table) != lines:
        return _mended(block, now, labels)
    return _records(table, now, labels)


def _read(block: bytes) -> pa.Table:
    options = pj.ReadOptions(use_threads=False, block_size=len(block) + 1)
    parse = pj.ParseOptions(explicit_schema=_SCHEMA, newlines_in_values=False, unexpected_field_behavior="ignore")
    return pj.read_json(io.BytesIO(block), read_options=options, parse_options=parse).combine_chunks()


def _column(table: pa.Table, name: str) -> pa.Array:
    column = table.column(name)
    return column.chunk(0) if column.num_chunks else pa.nulls(0, column.type)


def _set(column: pa.Array, key: str) -> pa.Array:
    """The column with null where PostgreSQL writes a value that stands for none."""
    if key in _ZERO_IS_NONE:
        return pc.if_else(pc.equal(column, 0), None, column)
    return pc.if_else(pc.equal(column, ""), None, column) if column.type == pa.utf8() else column


def _records(table: pa.Table, now: int, labels: Mapping[str, str]) -> Entries:
    severity = _column(table, "error_severity")
    lines = [
        pc.binary_join_element_wise(pc.fill_null(severity, "LOG"), pc.fill_null(_column(table, "message"), ""), ":  ")
    ]
    lines += [pc.binary_join_element_wise(word, _column(table, name), ":  ") for word, name in _PARTS]
    joined = pc.binary_join_element_wise(*lines, "\n", null_handling="skip")
    ts = pc.fill_null(_TIME.parse(_column(table, "timestamp")), now).to_numpy(zero_copy_only=False)
    metadata = {name: _set(_column(table, key), key).cast(pa.utf8()) for name, key in _METADATA.items()}
    return Entries(joined, ts, {**labels, "severity": severity}, metadata=metadata)


def _mended(block: bytes, now: int, labels: Mapping[str, str]) -> Entries:
    """As `jsonlog`, when at least one line is not a record: the good ones together, the others as plain lines."""
    lines = block.split(b"\n")[:-1]
    good = [_is_record(line) for line in lines]
    parts = []
    at = 0
    while at < len(lines):
        end = at
        while end < len(lines) and good[end] == good[at]:
            end += 1
        chunk = b"\n".join(lines[at:end]) + b"\n"
        parts.append(_records(_read(chunk), now, labels) if good[at] else _plain(chunk, now, labels))
        at = end
    return replace(concat(parts), first=None, last=None)  # one line an entry, numbered through


def _is_record(line: bytes) -> bool:
    """Whether this line alone is read; each is tried as the block was, so that the two cannot disagree."""
    try:
        if not isinstance(orjson.loads(line), dict):
            return False
        return len(_read(line + b"\n")) == 1
    except (orjson.JSONDecodeError, pa.ArrowInvalid):
        return False


def _plain(block: bytes, now: int, labels: Mapping[str, str]) -> Entries:
    lines = split(block)
    return Entries(lines, np.full(len(lines), now, np.int64), {**labels, "severity": pa.nulls(len(lines), pa.utf8())})


_PREFIX = (
    r"^(?P<ts>\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} [A-Z0-9+-]+) \[(?P<pid>\d+)\] "
    r"(?:(?P<user>[^@ ]*)@(?P<database>[^ ]*) )?(?P<word>[A-Z0-9]+):  "
)
_CONTINUING = pa.array(["DETAIL", "HINT", "QUERY", "CONTEXT", "STATEMENT", "LOCATION"])


def stderr(block: bytes, now: int, labels: Mapping[str, str]) -> Entries:
    """Entries of what a server writes to stderr with Atalaia's log_line_prefix; anything else is a line of its own.

    `now` (ns) is the time of what has none.
    """
    lines = split(block)
    found = pc.extract_regex(lines, _PREFIX)
    known = pc.is_valid(found)
    word = pc.if_else(known, found.field("word"), None)
    # DETAIL and its like, and lines that begin with a tab, belong to the record before them.
    continuing = pc.or_(pc.fill_null(pc.is_in(word, _CONTINUING), False), pc.starts_with(lines, "\t")).to_numpy(
        zero_copy_only=False
    )
    if len(continuing):
        continuing[0] = False
    text = pc.if_else(known, pc.replace_substring_regex(lines, _PREFIX.replace("?P<word>", ""), r"\5:  "), lines)
    starts = np.flatnonzero(~continuing)
    if len(starts) < len(lines):
        offsets = np.append(starts, len(lines)).astype(np.int32)
        text = pc.binary_join(pa.ListArray.from_arrays(pa.array(offsets), text), "\n")
    first = pa.array(starts)
    moment = _TIME.parse(pc.if_else(known, found.field("ts"), None)).take(first)
    taken = word.take(first)
    severity = pc.if_else(pc.is_in(taken, _CONTINUING), "LOG", taken)
    head = known.take(first)
    fields = {name: pc.if_else(head, found.field(name).take(first), None) for name in ("pid", "user", "database")}
    metadata = {name: pc.if_else(pc.equal(value, ""), None, value) for name, value in fields.items()}
    times = pc.fill_null(moment, now).to_numpy(zero_copy_only=False)
    last = np.append(starts[1:], len(lines)) - 1
    return Entries(text, times, {**labels, "severity": severity}, metadata=metadata, first=starts, last=last)
