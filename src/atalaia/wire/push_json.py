"""Loki's JSON pushes as a table of entries: today's form, and the one of /api/prom/push."""

from __future__ import annotations

import re
from typing import Any

import orjson
import pyarrow as pa

from atalaia.environment.errors import InputError
from atalaia.store.batch import METADATA, SCHEMA, BatchError, canonical
from atalaia.wire.bounds import MOST_ENTRIES, check_count, check_json, check_streams
from atalaia.wire.labels import stream_text
from atalaia.wire.times import parse_time

_NANOSECONDS = re.compile(r"-?[0-9]{1,20}")
_Columns = tuple[list[Any], list[Any], list[Any]]  # times, lines, metadata
_Entry = tuple[int, str, list[tuple[str, str]] | None]


def read_json(body: bytes) -> pa.Table:
    """Entries of {"streams": [{"stream": {…}, "values": [["<ns>", "<line>", {…}?], …]}]}.

    A stream of /api/prom/push has {"labels": "{…}", "entries": [{"ts": "<RFC 3339>", "line": "…"}]} instead.
    Raises BatchError, NoStreams, or TooLarge when there are too many entries.
    """
    check_json(body)
    try:
        data = orjson.loads(body)
        streams = data["streams"]
        if not isinstance(streams, list):
            raise TypeError("streams is not a list")
    except (orjson.JSONDecodeError, KeyError, TypeError) as error:
        raise BatchError(
            f"not a JSON push: {error}", 'send {"streams": [{"stream": {…}, "values": [["<ns>", "<line>"]]}]}'
        ) from error
    check_streams(len(streams))
    entries, indices, texts = _entries(streams)
    ts, lines, metadata = entries
    try:
        columns = [
            pa.array(ts, pa.int64()),
            pa.DictionaryArray.from_arrays(pa.array(indices, pa.int32()), pa.array(list(texts), pa.utf8())),
            pa.array(lines, pa.utf8()),
            pa.array(metadata, METADATA),
        ]
    except (pa.ArrowException, OverflowError, UnicodeEncodeError) as error:
        raise BatchError(
            f"the push has a value that cannot be stored: {error}",
            "timestamps are nanoseconds, lines are UTF-8",
        ) from error
    return pa.Table.from_arrays(columns, schema=SCHEMA)


def _entries(streams: list[Any]) -> tuple[_Columns, list[int], dict[str, int]]:
    """The entries' columns, the number of each one's stream, and the streams' labels by number."""
    columns: _Columns = [], [], []
    indices: list[int] = []
    texts: dict[str, int] = {}
    for number, stream in enumerate(streams):
        before = len(columns[2])
        try:
            index = texts.setdefault(_stream(stream), len(texts))
            values = _list(stream["entries" if "entries" in stream else "values"])
            if not ("entries" not in stream and _add_plain(values, columns)):
                read = _old_entry if "entries" in stream else _entry
                for value in values:
                    for column, one in zip(columns, read(value), strict=True):
                        column.append(one)
        except (InputError, KeyError, TypeError, ValueError, AttributeError) as error:
            why = f"{error} is missing" if isinstance(error, KeyError) else str(error)
            raise BatchError(
                f"stream {number}, entry {len(columns[2]) - before}: {why}",
                'an entry is ["<nanoseconds>", "<line>", {metadata}?]',
            ) from error
        indices += [index] * (len(columns[2]) - before)
        check_count("entries", len(indices), MOST_ENTRIES)
    return columns, indices, texts


def _add_plain(values: list[Any], columns: _Columns) -> bool:
    """Add entries of a time and a line, all at once; False, and none added, when any is something else."""
    if set(map(type, values)) != {list} or set(map(len, values)) != {2}:
        return False
    times, lines = [value[0] for value in values], [value[1] for value in values]
    if set(map(type, times)) != {str} or set(map(type, lines)) != {str}:
        return False
    if not all(map(_NANOSECONDS.fullmatch, times)):
        return False
    found = list(map(int, times))
    if min(found) <= -(2**63) or max(found) >= 2**63:
        return False
    columns[0].extend(found)
    columns[1].extend(lines)
    columns[2].extend([None] * len(lines))
    return True


def _stream(stream: Any) -> str:
    if not isinstance(stream, dict):
        raise TypeError("it is not an object")
    if "stream" not in stream:
        return stream_text(_text(stream["labels"]))
    return canonical({name: _text(value) for name, value in stream["stream"].items()})


def _entry(value: Any) -> _Entry:
    if not isinstance(value, list) or not 2 <= len(value) <= 3:
        raise TypeError(f"{str(value)[:100]!r} is not a time, a line, and metadata or not")
    if len(value) == 2:
        return _timestamp(value[0]), _text(value[1]), None
    if not isinstance(value[2], dict):
        raise TypeError(f"metadata {str(value[2])[:100]!r} is not an object")
    return _timestamp(value[0]), _text(value[1]), [(name, _text(one)) for name, one in value[2].items()] or None


def _old_entry(entry: Any) -> _Entry:
    if not isinstance(entry, dict):
        raise TypeError(f'{str(entry)[:100]!r} is not {{"ts": "…", "line": "…"}}')
    return parse_time(_text(entry["ts"]), "ts"), _text(entry["line"]), None


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError(f"{str(value)[:100]!r} is not a list")
    return value


def _timestamp(value: object) -> int:
    # A number is refused, as Loki does: JavaScript's, for one, have no nanoseconds.
    if isinstance(value, str) and _NANOSECONDS.fullmatch(value) and abs(found := int(value)) < 2**63:
        return found
    raise TypeError(f"{str(value)[:100]!r} is not a time in nanoseconds, written as a string")


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{str(value)[:100]!r} is not a string")
    return value
