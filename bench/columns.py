"""What the generators are made of: random numbers that are the same everywhere, and columns of text made from them.

Only integers are drawn, from PCG64's raw stream: neither NumPy's distributions nor a platform's logarithm have a say.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

BLOCK = 100_000  # lines that are made at once
_HALF_LIFE = 693_147  # of an exponential distribution of mean 1, in millionths


class Draws:
    """Random columns; the same `seed` gives the same ones on every platform and version."""

    def __init__(self, *seed: int) -> None:
        self._stream = np.random.PCG64(list(seed))

    def raw(self, count: int) -> np.ndarray:
        """uint64[count], all bits random."""
        return np.asarray(self._stream.random_raw(count), np.uint64)

    def between(self, low: int, high: int, count: int) -> np.ndarray:
        """int64[count] from `low` to `high`, both included; fewer than 2**31 values."""
        share = (self.raw(count) >> np.uint64(32)) * np.uint64(high - low + 1)
        return (share >> np.uint64(32)).astype(np.int64) + low

    def durations(self, mean: int, count: int) -> np.ndarray:
        """int64[count], close to exponential: half are below the half-life, a quarter in the next one, and so on."""
        raw = self.raw(count)
        # frexp is exact: the exponent of a 32-bit number counts its leading zeros.
        halvings = 32 - np.frexp((raw >> np.uint64(32)).astype(np.float64))[1].astype(np.int64)
        share = (raw & np.uint64(0xFFFFFFFF)).astype(np.int64)
        half = mean * _HALF_LIFE // 1_000_000
        return halvings * half + (share * half >> 32)

    def words(self, words: Sequence[str], count: int) -> pa.Array:
        """One of `words` a row."""
        return pa.array(words, pa.utf8()).take(pa.array(self.between(0, len(words) - 1, count)))

    def hexadecimal(self, count: int) -> pa.Array:
        """16 hexadecimal digits a row."""
        shifts = np.arange(60, -4, -4, dtype=np.uint64)
        digits = np.frombuffer(b"0123456789abcdef", np.uint8)[(self.raw(count)[:, None] >> shifts) & np.uint64(15)]
        offsets = np.arange(0, 16 * count + 1, 16, dtype=np.int32)
        return pa.Array.from_buffers(pa.utf8(), count, [None, pa.py_buffer(offsets), pa.py_buffer(digits.tobytes())])


def number(values: np.ndarray) -> pa.Array:
    """Integers as text."""
    return pa.array(values).cast(pa.utf8())


def padded(values: np.ndarray, width: int) -> pa.Array:
    """Integers with leading zeros."""
    return pc.utf8_lpad(number(values), width, "0")


def decimal(values: np.ndarray, digits: int) -> pa.Array:
    """Integers as decimal fractions of so many digits: 12345 with 3 is 12.345."""
    return join(number(values // 10**digits), ".", padded(values % 10**digits, digits))


def moments(ms: np.ndarray) -> pa.Array:
    """Milliseconds since 1970 as `2024-08-09 00:02:44.192`."""
    return pa.array(ms, pa.timestamp("ms")).cast(pa.utf8())


def join(*parts: pa.Array | str) -> pa.Array:
    """The parts of each row together; at least one is a column."""
    return pc.binary_join_element_wise(*parts, "")


def blocks(lines: int) -> Iterator[tuple[int, int]]:
    """(number, lines) of each block of a log; the last one may be shorter than `BLOCK`."""
    for number, start in enumerate(range(0, lines, BLOCK)):
        yield number, min(BLOCK, lines - start)


def write(path: Path, texts: Iterator[pa.Array]) -> None:
    """Write blocks of lines, each line with its newline."""
    with path.open("wb") as file:
        for text in texts:
            _, offsets, data = text.buffers()
            ends = np.frombuffer(offsets, np.int32)[text.offset :]
            file.write(memoryview(data)[ends[0] : ends[len(text)]])
