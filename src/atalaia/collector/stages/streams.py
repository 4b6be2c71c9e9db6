"""What several stages need of a batch: which stream each entry belongs to, and how settings are read."""

from __future__ import annotations

import re

import numpy as np
import re2

from atalaia.collector.entries import Entries, label_sets
from atalaia.collector.stages.stage import StageError
from atalaia.environment.yamlfile import Node, Reader
from atalaia.logql import values

_SIZE = re.compile(r"(\d+)\s*([KMGTPE]?)B?", re.IGNORECASE | re.ASCII)


def streams(entries: Entries) -> tuple[np.ndarray, list[str]]:
    """The stream of each entry as a number int64[N], and the label set (canonical JSON) of each number."""
    if not len(entries):
        return np.zeros(0, np.int64), []
    sets = label_sets(entries.labels, len(entries))
    return sets.indices.to_numpy().astype(np.int64), sets.dictionary.to_pylist()


def by_stream(codes: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The rows int64[N] stream by stream, each in its order; and bool[N], where a stream begins in that."""
    order = np.argsort(codes, kind="stable") if count > 1 else np.arange(len(codes))
    sorted_codes = codes[order]
    opens = np.ones(len(codes), bool)
    opens[1:] = sorted_codes[1:] != sorted_codes[:-1]
    return order, opens


def expression_of(text: str) -> str:
    """The same text, known to be an expression that RE2 takes. Raises StageError."""
    try:
        re2.compile(text)
    except re2.error as error:
        message = error.args[0].decode() if error.args and isinstance(error.args[0], bytes) else str(error)
        raise StageError(f"the expression is not RE2: {message}") from error
    return text


def duration_of(reader: Reader, node: Node | None, what: str) -> int | None:
    """Nanoseconds, written as Go's durations are (`3s`, `1h30m`). Raises StageError."""
    text = reader.text(node, what)
    if text is None:
        return None
    found = values.duration(text)
    if found is None:
        raise StageError(f"{what} is {text!r}, not a duration such as 500ms, 3s or 1h30m")
    return found


def size_of(reader: Reader, node: Node | None, what: str) -> int | None:
    """Bytes, written as Promtail's sizes are: whole numbers, and kb is 1024. Raises StageError."""
    text = reader.text(node, what)
    if text is None:
        return None
    match = _SIZE.fullmatch(text.strip())
    if not match:
        raise StageError(f"{what} is {text!r}, not a size such as 262144, 8kb or 1MB")
    power: int = " KMGTPE".index(match[2].upper() or " ")
    return int(match[1]) << 10 * power


def number_of(reader: Reader, node: Node | None, what: str) -> float | None:
    """A number. Raises StageError."""
    text = reader.text(node, what)
    if text is None:
        return None
    found = values.number(text)
    if found is None or found != found:
        raise StageError(f"{what} is {text!r}, not a number")
    return found


def count_of(reader: Reader, node: Node | None, what: str) -> int | None:
    """A whole number from 0 on. Raises StageError."""
    text = reader.text(node, what)
    if text is None:
        return None
    if not re.fullmatch(r"\d{1,18}", text, re.ASCII):
        raise StageError(f"{what} is {text!r}, not a whole number")
    return int(text)
