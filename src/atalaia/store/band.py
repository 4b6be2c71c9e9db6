"""One band of a compacted segment: its entries ordered by stream and template, and cut into row groups."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from atalaia.store import metadata, tokens
from atalaia.store.index import MOST_STREAMS, Group
from atalaia.store.memory import SCHEMA
from atalaia.store.segment import LABELS, labels_of
from atalaia.store.streams import Streams
from atalaia.store.templates import Templates, templates

_LEAST, _MOST = 512 << 10, 2 << 20  # bytes of lines of a row group
_STREAMS_FIRST = 64  # with more streams in a band, its entries are ordered by template first
_TEXT = pa.dictionary(pa.int32(), pa.utf8())


class Layout:
    """What the bands of one segment have in common, and the templates that were met so far, with their letters."""

    def __init__(self, number: int, keys: tuple[str, ...], streams: Streams) -> None:
        self.number = number
        self.keys = keys
        self.streams = streams
        self.templates: dict[str, set[str]] = {}
        self.groups: list[Group] = []
        self.schema = pa.schema(
            [
                ("block", pa.int64()),
                ("template", _TEXT),
                *(SCHEMA.field(name) for name in ("ts", "seq", "stream_id")),
                ("labels", LABELS),
                *((metadata.PREFIX + key, _TEXT) for key in keys),
                *(SCHEMA.field(name) for name in ("line", "metadata")),
            ]
        )

    def learn(self, made: Templates) -> np.ndarray:
        """The positions of a band's templates among all of the segment."""
        numbers = {text: number for number, text in enumerate(self.templates)}
        for text, letters in zip(made.texts, made.letters, strict=True):
            numbers.setdefault(text, len(numbers))
            self.templates.setdefault(text, set()).update(letters)
        return np.array([numbers[text] for text in made.texts], np.int32)


@dataclass(frozen=True, slots=True)
class _Order:
    """The rows of a band in their new order, and where row groups begin and end in it."""

    rows: np.ndarray
    cuts: np.ndarray


def groups(table: pa.Table, band: int, layout: Layout) -> Iterator[pa.Table]:
    """The row groups of a band: entries of memory.SCHEMA, in the order of (ts, seq). `layout` learns what they hold."""
    lines = table.column("line").combine_chunks()
    streams = table.column("stream_id").to_numpy()
    made = templates(lines)
    order = _ordered(streams, made.codes, pc.binary_length(lines).to_numpy())
    positions = layout.learn(made)
    hashes = _hashes_by_group(made, order)
    rest, own = metadata.split(table.column("metadata").combine_chunks(), layout.keys)
    columns = {name: table.column(name).combine_chunks() for name in ("ts", "seq", "stream_id")}
    columns |= {metadata.PREFIX + key: column for key, column in own.items()} | {"line": lines, "metadata": rest}
    rows = pa.array(order.rows)
    columns = {name: column.take(rows) for name, column in columns.items()}
    codes = None if made.codes is None else made.codes[order.rows]
    for number, (start, end) in enumerate(zip(order.cuts[:-1].tolist(), order.cuts[1:].tolist(), strict=True)):
        part = {name: column.slice(start, end - start) for name, column in columns.items()}
        used, texts = _template_column(end - start, None if codes is None else codes[start:end], made.texts)
        part["block"] = pa.repeat(pa.scalar((layout.number << 20) + len(layout.groups), pa.int64()), end - start)
        part["template"] = texts
        part["labels"] = labels_of(part["stream_id"], layout.streams)
        part |= {metadata.PREFIX + key: part[metadata.PREFIX + key].dictionary_encode() for key in layout.keys}
        ts = part["ts"].to_numpy()
        held = np.unique(part["stream_id"].to_numpy())
        layout.groups.append(
            Group(
                band,
                end - start,
                int(ts.min()),
                int(ts.max()),
                held.tolist() if len(held) <= MOST_STREAMS else None,
                None if used is None else positions[used].tolist(),
                tokens.bloom(hashes[number]),
            )
        )
        yield pa.Table.from_arrays([part[name] for name in layout.schema.names], schema=layout.schema)


def _ordered(streams: np.ndarray, codes: np.ndarray | None, sizes: np.ndarray) -> _Order:
    ids, ranks = np.unique(streams, return_inverse=True)
    if codes is None:
        codes = np.zeros(len(streams), np.int32)
    if len(ids) <= _STREAMS_FIRST:
        key = ranks * (int(codes.max()) + 1) + codes
    else:
        key = codes.astype(np.int64) * len(ids) + ranks
    rows = np.argsort(key, kind="stable")
    return _Order(rows, _cuts(key[rows], np.cumsum(sizes[rows], dtype=np.int64)))


def _cuts(key: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Where row groups begin and end: at a new `key` once they have _LEAST bytes, and before they have _MOST.

    What is too much at the end of a run is cut evenly, so that all groups but the first have only its key.
    """
    cuts, base = [0], 0
    for run_end in [*(np.flatnonzero(np.diff(key)) + 1).tolist(), len(key)]:
        while (size := int(ends[run_end - 1]) - base) > _MOST:
            even = np.searchsorted(ends, base + size / -(-size // _MOST), "right")
            enough = min(np.searchsorted(ends, base + _LEAST) + 1, np.searchsorted(ends, base + _MOST, "right"))
            cuts.append(max(cuts[-1] + 1, int(even), int(enough)))
            base = int(ends[cuts[-1] - 1])
        if run_end > cuts[-1] and (size >= _LEAST or run_end == len(key)):
            cuts.append(run_end)
            base = int(ends[run_end - 1])
    return np.array(cuts)


def _hashes_by_group(made: Templates, order: _Order) -> list[np.ndarray]:
    """The hashes of the tokens of each row group's lines."""
    count = len(order.cuts) - 1
    group_of = np.empty(len(order.rows), np.int64)
    group_of[order.rows] = np.repeat(np.arange(count), np.diff(order.cuts))
    groups_of_tokens = group_of[made.token_rows]
    by_group = np.argsort(groups_of_tokens, kind="stable")
    return np.split(made.token_hashes[by_group], np.searchsorted(groups_of_tokens[by_group], np.arange(1, count)))


def _template_column(rows: int, codes: np.ndarray | None, texts: list[str]) -> tuple[np.ndarray | None, pa.Array]:
    """The templates that some rows use, and the column; nulls when the band has too many templates."""
    if codes is None:
        return None, pa.nulls(rows, _TEXT)
    used = np.unique(codes)
    indices = pa.array(np.searchsorted(used, codes).astype(np.int32))
    return used, pa.DictionaryArray.from_arrays(indices, pa.array([texts[code] for code in used], pa.utf8()))
