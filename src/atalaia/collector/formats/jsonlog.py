"""PostgreSQL's jsonlog as entries, in whole blocks. Its keys: PostgreSQL's manual, "Using JSON-Format Log Output"."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from dataclasses import replace

import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pj

from atalaia.collector.entries import Entries, concat
from atalaia.collector.formats import records
from atalaia.collector.lines import count, split

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
    "backtrace",
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
# Our names -> jsonlog's keys.
_COLUMNS = {
    "time": "timestamp",
    "severity": "error_severity",
    "message": "message",
    "detail": "detail",
    "hint": "hint",
    "query": "internal_query",
    "context": "context",
    "backtrace": "backtrace",
    "statement": "statement",
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
_NULL_BEHIND = re.compile(rb"\}[ \t\r]*null")


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


def _records(table: pa.Table, now: int, labels: Mapping[str, str]) -> Entries:
    columns = {name: _column(table, key).cast(pa.utf8()) for name, key in _COLUMNS.items()}
    file, line = _column(table, "file_name"), _column(table, "file_line_num").cast(pa.utf8())
    place = pc.binary_join_element_wise(file, line, ":")
    function = _column(table, "func_name")
    columns["location"] = pc.coalesce(pc.binary_join_element_wise(function, place, ", "), place)
    columns["position"] = pc.coalesce(columns["cursor_position"], _column(table, "internal_position").cast(pa.utf8()))
    return records.entries(columns, now, labels)


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
        parts.append(_records(_read(chunk), now, labels) if good[at] else records.plain(split(chunk), now, labels))
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
