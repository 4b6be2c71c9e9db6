"""Loki's result types: streams, matrix, vector."""

from __future__ import annotations

import orjson

from atalaia.api.times import show_float, show_moment
from atalaia.logql.entry import Entry
from atalaia.logql.literals import quote
from atalaia.logql.matrix import Matrix


def streams(entries: list[Entry], categorised: bool) -> dict[str, object]:
    """Entries by stream, streams in the order of their labels as they are written, like Loki's.

    Categorised, a stream keeps its own labels only, and each entry tells its metadata and parsed labels apart.
    """
    by_stream: dict[str, tuple[dict[str, str], list[list[object]]]] = {}
    for entry in entries:
        labels = dict(entry.stream) if categorised else entry.all()
        key = orjson.dumps(labels, option=orjson.OPT_SORT_KEYS).decode()
        value: list[object] = [str(entry.ts), entry.line]
        if categorised:
            kinds = (("structuredMetadata", entry.metadata), ("parsed", {**entry.parsed, **entry.fault}))
            value.append({kind: found for kind, found in kinds if found})
        by_stream.setdefault(key, (labels, []))[1].append(value)
    ordered = sorted(by_stream.values(), key=lambda stream: _written(stream[0]))
    result = [{"stream": labels, "values": values} for labels, values in ordered]
    # Grafana reads the answer from its beginning: kind and flags have to stand before the result.
    flags = {"encodingFlags": ["categorize-labels"]} if categorised else {}
    return {"resultType": "streams", **flags, "result": result, "stats": {}}


def _written(labels: dict[str, str]) -> str:
    # The bracket counts in the order: a comma comes before it.
    return ", ".join(f"{name}={quote(labels[name])}" for name in sorted(labels)) + "}"


def matrix(found: Matrix, start: int, step: int) -> dict[str, object]:
    """Series over time; moments without a sample are left out."""
    moments = [show_moment(start + i * step) for i in range(found.values.shape[1])]
    result = []
    for labels, values, present in zip(found.labels, found.values, found.present, strict=True):
        samples = [[moments[i], show_float(value)] for i, value in enumerate(values.tolist()) if present[i]]
        if samples:
            result.append({"metric": dict(labels), "values": samples})
    return {"resultType": "matrix", "result": result, "stats": {}}


def vector(found: Matrix, moment: int) -> dict[str, object]:
    """Series, or a number, at one moment."""
    at = show_moment(moment)
    if found.scalar:
        return {"resultType": "scalar", "result": [at, show_float(float(found.values[0, 0]))], "stats": {}}
    rows = zip(found.labels, found.values, found.present, strict=True)
    result = [
        {"metric": dict(labels), "value": [at, show_float(float(values[0]))]}
        for labels, values, present in rows
        if present[0]
    ]
    return {"resultType": "vector", "result": result, "stats": {}}
