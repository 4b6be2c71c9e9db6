"""A spool's records: entries as JSON lines, made of whole columns; docs/sources.md tells the format."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping

import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pj

from atalaia.store.batch import METADATA, SCHEMA

# Beside the columns of `SCHEMA` a table may have the place of each entry in its source, to go on from after a crash.
PLACED = SCHEMA.append(pa.field("source", pa.utf8())).append(pa.field("cursor", pa.utf8()))
_ROWS = 1 << 16  # of a piece, so that no column outgrows Arrow's 32-bit offsets
_CURSORS = pa.schema([("source", pa.utf8()), ("cursor", pa.utf8()), ("cursors", pa.utf8())])


def encode(table: pa.Table) -> Iterator[bytes]:
    """Whole JSON lines of the entries of `SCHEMA` or `PLACED`, in pieces."""
    for at in range(0, len(table), _ROWS):
        piece = table.slice(at, _ROWS).combine_chunks()
        yield _encoded(piece)


def state(cursors: Mapping[str, str], number: int = 1) -> bytes:
    """The line that a segment begins with: its number, so that no two begin alike, and the cursors until there."""
    return orjson.dumps({"segment": number, "cursors": orjson.dumps(dict(cursors)).decode()}) + b"\n"


def cursors_of(block: bytes) -> dict[str, str]:
    """The last cursor of each source in whole lines of a spool."""
    found: dict[str, str] = {}
    wanted = b"\n".join(line for line in block.split(b"\n") if b'"cursor' in line)
    if not wanted:
        return found
    try:
        options = pj.ReadOptions(use_threads=False, block_size=len(wanted) + 2)
        parse = pj.ParseOptions(explicit_schema=_CURSORS, unexpected_field_behavior="ignore")
        rows = pj.read_json(io.BytesIO(wanted + b"\n"), options, parse).to_pylist()
    except pa.ArrowInvalid:
        rows = list(filter(None, map(_record, wanted.split(b"\n"))))
    for row in rows:
        if row.get("cursors"):
            found |= orjson.loads(row["cursors"])
        elif row.get("cursor") is not None:
            found[row.get("source") or ""] = row["cursor"]
    return found


def _record(line: bytes) -> dict[str, str] | None:
    try:
        found = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    return found if isinstance(found, dict) else None


def _encoded(table: pa.Table) -> bytes:
    labels = pc.cast(_chunk(table, "labels"), pa.dictionary(pa.int32(), pa.utf8()))
    parts = [
        '{"ts":',
        pc.cast(_chunk(table, "ts"), pa.utf8()),
        ',"labels":"',
        quoted(labels.dictionary).take(labels.indices),
        '","line":"',
        quoted(_chunk(table, "line")),
        '"',
        _metadata(_chunk(table, "metadata")),
    ]
    for name in ("source", "cursor"):
        if name in table.column_names:
            value = pc.binary_join_element_wise(f',"{name}":"', quoted(_chunk(table, name)), '"', "")
            parts.append(pc.fill_null(value, ""))
    whole = pc.binary_join_element_wise(*parts, "}\n", "")
    return bytes(whole.buffers()[2])[: pc.sum(pc.binary_length(whole)).as_py()]


def _chunk(table: pa.Table, name: str) -> pa.Array:
    column = table.column(name)
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def quoted(texts: pa.Array) -> pa.Array:
    """What stands between the quotes of a JSON text, for each of utf8[N]."""
    found = pc.replace_substring(pc.replace_substring(texts, "\\", "\\\\"), '"', '\\"')
    if not pc.any(pc.match_substring_regex(found, r"[\x00-\x1f]")).as_py():
        return found
    for raw, escape in (("\n", "\\n"), ("\t", "\\t"), ("\r", "\\r")):
        found = pc.replace_substring(found, raw, escape)
    rest = pc.fill_null(pc.match_substring_regex(found, r"[\x00-\x1f]"), False)
    if not pc.any(rest).as_py():
        return found
    others = [orjson.dumps(text)[1:-1].decode() for text in texts.filter(rest).to_pylist()]
    return pc.replace_with_mask(found, rest, pa.array(others, pa.utf8()))


def _metadata(column: pa.Array) -> pa.Array | str:
    """The rest of a record where an entry has metadata, nothing elsewhere; keys and values as Arrow reads a map."""
    if column.null_count == len(column):
        return ""
    # A slice's pairs begin where its offsets say.
    offsets = column.offsets
    first, last = offsets[0].as_py(), offsets[len(offsets) - 1].as_py()
    keys, values = column.keys.slice(first, last - first), column.items.slice(first, last - first)
    pairs = pc.binary_join_element_wise('{"key":"', quoted(keys), '","value":"', quoted(values), '"}', "")
    lists = pa.ListArray.from_arrays(pc.subtract(offsets, first), pairs)
    texts = pc.binary_join_element_wise(',"metadata":[', pc.binary_join(lists, ","), "]", "")
    none = pc.fill_null(pc.equal(pc.list_value_length(lists), 0), True)
    return pc.if_else(pc.or_(none, pc.is_null(column)), "", texts)


def placed(table: pa.Table, source: str, cursors: list[str]) -> pa.Table:
    """Entries of one source with the place of each."""
    return table.append_column("source", pa.array([source] * len(table), pa.utf8())).append_column(
        "cursor", pa.array(cursors, pa.utf8())
    )


def no_metadata(count: int) -> pa.Array:
    """The metadata of entries that have none."""
    return pa.nulls(count, METADATA)
