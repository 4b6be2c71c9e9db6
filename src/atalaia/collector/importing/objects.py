"""Lines that are JSON objects with a time: the first of the usual names, found by DuckDB."""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass
from datetime import datetime

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from atalaia.collector.importing.kinds import levels
from atalaia.collector.importing.times import Form, Moments, moments

NAME = "json"
_TIMES = ("ts", "time", "timestamp", "@timestamp", "datetime", "date", "t", "eventTime", "asctime")
_LEVELS = ("level", "severity", "lvl", "log.level", "levelname", "loglevel", "error_severity")
_TIME = (
    r"^(?P<t>\d{4}[-/]\d\d[-/]\d\d[T ]\d\d:\d\d:\d\d)(?:[.,](?P<f>\d{1,9}))? ?(?P<z>Z|[A-Z]{2,5}|[+-]\d\d(?::?\d\d)?)?$"
)
_NUMBER = r"^\d{9,19}(?:\.\d+)?$"
_PINO = {"10": "debug", "20": "debug", "30": "info", "40": "warning", "50": "error", "60": "fatal"}


@dataclass(frozen=True, slots=True)
class Objects:
    """N lines' times, and their normalised levels utf8[N]."""

    time: Moments
    level: pa.Array


def scan(lines: pa.Array, latest: datetime) -> Objects:
    """Of lines that begin with "{"; what is no JSON object, or has no time, has no time."""

    def first(names: tuple[str, ...]) -> str:
        parts = [f"json_extract_string(line, '$.\"{name}\"')" for name in names]
        return f"coalesce({', '.join(parts)})"

    columns = f"CASE WHEN good THEN {first(_TIMES)} END AS t, CASE WHEN good THEN {first(_LEVELS)} END AS level"
    with contextlib.closing(duckdb.connect(config={"threads": 1})) as connection:
        connection.register("given", pa.table({"line": lines}))
        found = connection.sql(
            f"SELECT {columns} FROM (SELECT line, json_valid(line) AS good FROM given)"
        ).to_arrow_table()
    text, level = (found.column(name).combine_chunks() for name in ("t", "level"))
    parts = pc.extract_regex(text, _TIME)
    whole = pc.is_valid(parts)
    groups = {name: pc.if_else(whole, parts.field(name), None) for name in ("t", "f", "z")}
    time = moments(groups, Form.ISO, latest, None)
    rows = np.flatnonzero(pc.fill_null(pc.match_substring_regex(text, _NUMBER), False).to_numpy(zero_copy_only=False))
    if len(rows):
        ns = np.array([_since_1970(value) for value in text.take(pa.array(rows)).to_pylist()], np.int64)
        yes = np.ones(len(rows), bool)
        time.put(rows, Moments(ns, yes, np.zeros(len(rows), np.int64), yes))
    return Objects(time, _levels(level))


def _since_1970(text: str) -> int:
    """ns of a number of seconds, ms, µs or ns, by its size."""
    whole, _, fraction = text.partition(".")
    digits = len(whole)
    unit = 9 if digits <= 11 else 6 if digits <= 14 else 3 if digits <= 17 else 0
    ns: int = int(whole) * 10**unit + int((fraction + "0" * 9)[:unit] or "0")
    return min(ns, 2**63 - 1)


def _levels(values: pa.Array) -> pa.Array:
    words = values.dictionary_encode()
    known = [
        _PINO.get(word, None if re.fullmatch(r"\d+", word or "") else word) for word in words.dictionary.to_pylist()
    ]
    return levels(pa.array(known, pa.utf8()).take(words.indices))
