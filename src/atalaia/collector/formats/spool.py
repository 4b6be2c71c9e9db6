"""A spool's records -> entries: what a listener wrote, with its labels through the job's relabelling."""

from __future__ import annotations

import io
import logging
from collections.abc import Mapping

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pj

from atalaia.collector.entries import Entries, LabelValue
from atalaia.collector.lines import count
from atalaia.collector.meters import Meters
from atalaia.collector.plan import Relabel

log = logging.getLogger("atalaia.collector")
_PAIRS = pa.list_(pa.struct([("key", pa.utf8()), ("value", pa.utf8())]))
_SCHEMA = pa.schema([("ts", pa.int64()), ("labels", pa.utf8()), ("line", pa.utf8()), ("metadata", _PAIRS)])
_NO_LABELS = "{}"


def records(block: bytes, labels: Mapping[str, str], relabel: Relabel | None = None) -> Entries:
    """Entries of a block of whole records. `labels`: those of an entry that has none of its own.

    Labels that begin with `__` are dropped behind `relabel`; so are entries that it refuses.
    """
    table = _table(block)
    rows = np.flatnonzero(pc.is_valid(table.column("ts")))  # a segment's first line has cursors only
    if len(rows) < len(table):
        table = table.take(pa.array(rows))
    texts = pc.fill_null(_column(table, "labels"), _NO_LABELS).dictionary_encode()
    sets = [_behind(text, labels, relabel) for text in texts.dictionary.to_pylist()]
    refused = np.array([one is None for one in sets], bool)[texts.indices.to_numpy()]
    some = next((one for one in sets if one is not None), {})
    entries = Entries(
        pc.fill_null(_column(table, "line"), ""),
        _column(table, "ts").to_numpy(zero_copy_only=False),
        _columns([some if one is None else one for one in sets], texts.indices),
        metadata=_metadata(_column(table, "metadata")),
        first=rows,
        last=rows,
    )
    if refused.any():
        entries = entries.later(rows[refused], _count_refused)
    return entries.filter(~refused)


def _count_refused(meters: Meters, mask: np.ndarray) -> None:
    meters.count("logentry_dropped_lines_total", int(mask.sum()), reason="relabel")


def _behind(text: str, none: Mapping[str, str], relabel: Relabel | None) -> dict[str, str] | None:
    """A record's label set as its entry has it; None: the entry is not wanted."""
    found: Mapping[str, str] | None = _labels(text)
    if relabel is not None and found is not None:
        found = relabel(found)
    if found is None:
        return None
    return {name: value for name, value in found.items() if value and not name.startswith("__")} or dict(none)


def _labels(text: str) -> dict[str, str]:
    """The label set; none when it is damaged, as the line may still be good."""
    try:
        found = orjson.loads(text)
        return {str(name): str(value) for name, value in found.items()}
    except (orjson.JSONDecodeError, AttributeError):
        log.warning("event=spool_damaged labels=%r", text[:200])
        return {}


def _columns(sets: list[dict[str, str]], codes: pa.Array) -> dict[str, LabelValue]:
    """The labels by name: one text where all sets agree, a column elsewhere."""
    found: dict[str, LabelValue] = {}
    for name in dict.fromkeys(name for one in sets for name in one):
        values = [one.get(name) for one in sets]
        first = values[0]
        same = first is not None and all(value == first for value in values)
        found[name] = first if same and first is not None else pa.array(values, pa.utf8()).take(codes)
    return found


def _metadata(column: pa.Array) -> dict[str, LabelValue]:
    """Lists of pairs as columns by key; null where an entry lacks the key."""
    if column.null_count == len(column):
        return {}
    entry = pc.list_parent_indices(column).to_numpy()
    pairs_of = column.flatten()
    keys, items = pairs_of.field("key").dictionary_encode(), pairs_of.field("value")
    codes = keys.indices.to_numpy()
    found: dict[str, LabelValue] = {}
    for code, key in enumerate(keys.dictionary.to_pylist()):
        pairs = np.flatnonzero(codes == code)
        place = np.full(len(column), -1)
        place[entry[pairs]] = pairs
        found[key] = items.take(pa.array(place, mask=place < 0))
    return found


def _column(table: pa.Table, name: str) -> pa.Array:
    column = table.column(name)
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _table(block: bytes) -> pa.Table:
    lines = count(block)
    # Arrow's reader ends the process at some texts outside of an object: it gets only what looks like our records.
    if lines == block.count(b'\n{"') + block.startswith(b'{"') == block.count(b"}\n"):
        options = pj.ReadOptions(use_threads=False, block_size=len(block) + 1)
        parse = pj.ParseOptions(explicit_schema=_SCHEMA, newlines_in_values=False, unexpected_field_behavior="ignore")
        try:
            table = pj.read_json(io.BytesIO(block), read_options=options, parse_options=parse)
        except pa.ArrowInvalid:
            return _mended(block)
        if len(table) == lines:
            return table
    return _mended(block)


def _mended(block: bytes) -> pa.Table:
    """The records of a damaged block; what is not one becomes a line without a time, which is no entry."""
    columns: dict[str, list[object]] = {name: [] for name in _SCHEMA.names}
    bad = 0
    for line in block.split(b"\n")[:-1]:
        record = _record(line)
        bad += record is None
        for name in columns:
            columns[name].append((record or {}).get(name))
    if bad:
        log.warning("event=spool_damaged records=%d", bad)
    return pa.table({name: pa.array(columns[name], _SCHEMA.field(name).type) for name in columns})


def _record(line: bytes) -> dict[str, object] | None:
    try:
        found = orjson.loads(line)
        if not isinstance(found, dict) or "cursors" in found:
            return {} if isinstance(found, dict) else None
        pairs = found.get("metadata")
        kept = [{"key": str(pair["key"]), "value": str(pair["value"])} for pair in pairs] if pairs else None
        return {"ts": int(found["ts"]), "labels": str(found["labels"]), "line": str(found["line"]), "metadata": kept}
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
        return None
