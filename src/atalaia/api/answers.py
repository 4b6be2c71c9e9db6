"""Loki's result types, streams, matrix and vector, written as JSON piece by piece."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from atalaia.api.times import show_float, show_moment
from atalaia.logql.entry import Entry
from atalaia.logql.matrix import Matrix

_ENTRIES = 1000  # entries of a piece
_SAMPLES = 50_000  # samples of a piece, or one series


@dataclass(frozen=True, slots=True)
class Answer:
    """The members of `data` but for `stats`, as pieces of JSON; `returned` entries or series are in it."""

    returned: int
    pieces: Iterator[bytes]


def streams(entries: Sequence[Entry], categorised: bool) -> Answer:
    """See stream_list."""
    # Grafana reads the answer from its beginning: kind and flags have to stand before the result.
    flags = b'"encodingFlags":["categorize-labels"],' if categorised else b""
    head = b'"resultType":"streams",' + flags + b'"result":'
    return Answer(len(entries), chain((head,), stream_list(entries, categorised)))


def stream_list(entries: Sequence[Entry], categorised: bool) -> Iterator[bytes]:
    """Entries by stream, streams in the order of their labels, as Loki has them: a list of JSON.

    Categorised, a stream keeps its own labels only, and each entry tells its metadata and parsed labels apart.
    """
    by_stream: dict[bytes, list[list[object]]] = {}
    known: dict[int, bytes] = {}
    for entry in entries:
        if categorised or not (entry.metadata or entry.parsed or entry.fault):
            # The labels of a stream are one object, which lives as long as the entries.
            key = known.get(id(entry.stream)) or known.setdefault(id(entry.stream), _labels(entry.stream))
        else:
            key = _labels(entry.all())
        value: list[object] = [str(entry.ts), entry.line]
        if categorised:
            kinds = (("structuredMetadata", entry.metadata), ("parsed", {**entry.parsed, **entry.fault}))
            value.append({kind: found for kind, found in kinds if found})
        by_stream.setdefault(key, []).append(value)
    return _streams(by_stream)


def _labels(labels: Mapping[str, str]) -> bytes:
    return orjson.dumps(dict(labels), option=orjson.OPT_SORT_KEYS)


def _streams(by_stream: Mapping[bytes, list[list[object]]]) -> Iterator[bytes]:
    yield b"["
    for number, (labels, values) in enumerate(sorted(by_stream.items(), key=lambda item: item[0])):
        yield (b',{"stream":' if number else b'{"stream":') + labels + b',"values":['
        for at in range(0, len(values), _ENTRIES):
            yield (b"," if at else b"") + orjson.dumps(values[at : at + _ENTRIES])[1:-1]
        yield b"]}"
    yield b"]"


def matrix(found: Matrix, start: int, step: int) -> Answer:
    """Series over time; moments without a sample are left out, as are series without any."""
    return Answer(int(found.present.any(axis=1).sum()), _matrix(found, start, step))


def _matrix(found: Matrix, start: int, step: int) -> Iterator[bytes]:
    steps = found.values.shape[1]
    begins = np.array([f'[{orjson.dumps(show_moment(start + i * step)).decode()},"' for i in range(steps)], object)
    moments = pa.array(begins, pa.utf8())
    height = max(1, _SAMPLES // max(1, steps))
    yield b'"resultType":"matrix","result":['
    first = True
    for at in range(0, len(found.labels), height):
        rows = slice(at, at + height)
        for labels, text in zip(
            found.labels[rows], _joined(moments, found.values[rows], found.present[rows]), strict=True
        ):
            if text:
                head = b'{"metric":' if first else b',{"metric":'
                first = False
                yield head + orjson.dumps(dict(labels)) + b',"values":[' + text.encode() + b"]}"
    yield b"]"


def _joined(moments: pa.Array, values: np.ndarray, present: np.ndarray) -> list[str]:
    """The samples of each series, as the inside of a JSON list."""
    series, steps = present.nonzero()
    samples = pc.binary_join_element_wise(moments.take(pa.array(steps)), _floats(values[series, steps]), '"]', "")
    edges = np.searchsorted(series, np.arange(len(values) + 1))
    lists = pa.ListArray.from_arrays(pa.array(edges, pa.int32()), samples)
    return list(pc.binary_join(lists, ",").to_pylist())


def _floats(values: np.ndarray) -> pa.Array:
    """show_float of each."""
    # Arrow writes the same digits, and large and small numbers with an exponent, which Go does not.
    found = pa.array(values, pa.float64()).cast(pa.utf8())
    other = pc.match_substring_regex(found, "[en]")
    if not pc.any(other).as_py():
        return found
    which = other.to_numpy(zero_copy_only=False).nonzero()[0]
    shown = pa.array([show_float(value) for value in values[which].tolist()], pa.utf8())
    return pc.replace_with_mask(found, other, shown)


def vector(found: Matrix, moment: int) -> Answer:
    """Series, or a number, at one moment."""
    at = show_moment(moment)
    if found.scalar:
        sample = orjson.dumps([at, show_float(float(found.values[0, 0]))])
        return Answer(1, iter((b'"resultType":"scalar","result":' + sample,)))
    return Answer(int(found.present[:, 0].sum()), _vector(found, at))


def _vector(found: Matrix, at: float) -> Iterator[bytes]:
    rows = [
        {"metric": dict(labels), "value": [at, show_float(float(values[0]))]}
        for labels, values, present in zip(found.labels, found.values, found.present, strict=True)
        if present[0]
    ]
    yield b'"resultType":"vector","result":['
    for first in range(0, len(rows), _ENTRIES):
        yield (b"," if first else b"") + orjson.dumps(rows[first : first + _ENTRIES])[1:-1]
    yield b"]"
