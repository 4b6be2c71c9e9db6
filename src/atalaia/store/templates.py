"""Templates of lines: every token that holds a digit replaced by one placeholder, for a whole column at once.

A token is a maximal run of ASCII letters and digits. Real logs have very few templates, so that a filter on lines
becomes a test of a few dozen texts (`store.decide`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

PLACEHOLDER = "\x11"
MOST = 1024  # templates of a segment; one with more has no index
MOST_TEXT = 1 << 20  # characters of all of them, since the catalogue keeps them
_DIGIT, _LETTER = 2, 1
_KIND = bytes(_DIGIT if 48 <= c < 58 else _LETTER if chr(c).isalpha() and c < 128 else 0 for c in range(256))


@dataclass(frozen=True, slots=True)
class Templates:
    """One template a line, and for each template the letters that occur in its variable tokens."""

    column: pa.DictionaryArray
    letters: Mapping[str, frozenset[str]]


def templates(lines: pa.Array) -> Templates:
    """The templates of utf8 `lines` (no nulls)."""
    offsets = np.frombuffer(lines.buffers()[1], np.int32)[lines.offset : lines.offset + len(lines) + 1].astype(np.int64)
    raw = np.frombuffer(lines.buffers()[2] or b"", np.uint8)[offsets[0] : offsets[-1]]
    offsets -= offsets[0]
    kind = np.frombuffer(raw.tobytes().translate(_KIND), np.uint8)
    starts, ends = _variable_tokens(kind, offsets)
    # Of a variable token one byte is kept, and becomes the placeholder.
    step = np.zeros(len(kind) + 1, np.int8)
    step[starts + 1] = 1
    step[ends] ^= 1
    inside = np.bitwise_xor.accumulate(step[:-1]).view(bool) if len(kind) else np.zeros(0, bool)
    masked = raw.copy()
    masked[starts] = ord(PLACEHOLDER)
    dropped = np.zeros(len(starts) + 1, np.int64)
    np.cumsum(ends - starts - 1, out=dropped[1:])
    new_offsets = (offsets - dropped[np.searchsorted(starts, offsets)]).astype(np.int32)
    buffers = [None, pa.py_buffer(new_offsets), pa.py_buffer(masked[~inside])]
    column = pa.Array.from_buffers(pa.utf8(), len(lines), buffers).dictionary_encode()
    return Templates(column, _letters(column, raw, kind, offsets, starts, inside))


def _variable_tokens(kind: np.ndarray, offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where the tokens with a digit begin and end."""
    word = np.zeros(len(kind) + 1, bool)
    np.not_equal(kind, 0, out=word[:-1])
    change = word.copy()
    np.not_equal(word[1:], word[:-1], out=change[1:])
    edges = np.flatnonzero(change)
    # A token ends with its line, even where the next line begins with a letter at once.
    borders = offsets[(offsets > 0) & (offsets < len(kind))]
    borders = np.unique(borders[word[borders] & word[borders - 1]])
    if len(borders):
        edges = np.sort(np.concatenate([edges, borders, borders]))
    digits_before = np.searchsorted(np.flatnonzero(kind == _DIGIT), edges)
    variable = digits_before[1::2] > digits_before[::2]
    return edges[::2][variable], edges[1::2][variable]


def _letters(
    column: pa.DictionaryArray,
    raw: np.ndarray,
    kind: np.ndarray,
    offsets: np.ndarray,
    starts: np.ndarray,
    inside: np.ndarray,
) -> dict[str, frozenset[str]]:
    """Which letters stand in the variable tokens of each template."""
    in_token = inside.copy()
    in_token[starts] = True
    at = np.flatnonzero(in_token & (kind == _LETTER))
    codes = column.indices.to_numpy()[np.searchsorted(offsets, at, side="right") - 1]
    pairs = np.unique(codes.astype(np.int64) * 256 + raw[at])
    found: dict[int, set[str]] = {}
    for pair in pairs.tolist():
        found.setdefault(pair // 256, set()).add(chr(pair % 256))
    return {text: frozenset(found.get(code, ())) for code, text in enumerate(column.dictionary.to_pylist())}
