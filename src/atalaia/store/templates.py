"""Templates of lines: every token that holds a digit replaced by one placeholder, for a whole column at once.

A token is a maximal run of ASCII letters and digits. Real logs have very few templates, so that a filter on lines
becomes a test of a few dozen texts (`store.decide`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from atalaia.store import tokens

PLACEHOLDER = "\x11"
MOST = 1024  # templates of a band; one with more has none
MOST_TEXT = 1 << 20  # bytes of all of them
_PART = 4 << 20
_DIGIT, _LETTER = 2, 1
_KIND = bytes(_DIGIT if 48 <= c < 58 else _LETTER if chr(c).isalpha() and c < 128 else 0 for c in range(256))


@dataclass(frozen=True, slots=True, eq=False)
class Templates:
    """The templates of some lines, and their longer variable tokens.

    `codes` has a position in `texts` for each line, and is None where there are too many; `letters` has for each text
    the letters that occur in its variable tokens. `token_rows` and `token_hashes` have one element a token.
    """

    codes: np.ndarray | None
    texts: list[str]
    letters: list[frozenset[str]]
    token_rows: np.ndarray
    token_hashes: np.ndarray


def templates(lines: pa.Array) -> Templates:
    """The templates of utf8 `lines` (no nulls)."""
    numbers: dict[str, int] = {}
    letters: dict[int, set[str]] = {}
    codes, rows, hashes = [], [], []
    many = False
    first = 0
    for part in _slices(lines):
        some = _templates(part)
        rows.append(some.token_rows + first)
        hashes.append(some.token_hashes)
        first += len(part)
        many = many or some.codes is None
        if many:
            continue
        known = np.array([numbers.setdefault(text, len(numbers)) for text in some.texts], np.int32)
        for number, held in zip(known.tolist(), some.letters, strict=True):
            letters.setdefault(number, set()).update(held)
        codes.append(known[some.codes] if len(known) else np.zeros(0, np.int32))
        many = len(numbers) > MOST
    found = np.concatenate(rows), np.concatenate(hashes)
    if many:
        return Templates(None, [], [], *found)
    return Templates(np.concatenate(codes), list(numbers), [frozenset(letters[n]) for n in range(len(numbers))], *found)


def _slices(lines: pa.Array) -> Iterator[pa.Array]:
    """Parts of about `_PART` bytes, so that what is made of them meanwhile stays small."""
    ends = np.frombuffer(lines.buffers()[1], np.int32)[lines.offset : lines.offset + len(lines) + 1]
    at = 0
    while at < len(lines) or not at:
        until = max(at + 1, int(np.searchsorted(ends, ends[at] + _PART)))
        yield lines.slice(at, until - at)
        at = until


@dataclass(frozen=True, slots=True, eq=False)
class _Masked:
    """Some lines: `column` has the template of each, dictionary-encoded; `raw` and `kind` an element a byte.

    `offsets` are where lines begin and end in `raw`, `starts` and `ends` the same of variable tokens; `inside` are
    the bytes of those but the first.
    """

    column: pa.DictionaryArray
    raw: np.ndarray
    kind: np.ndarray
    offsets: np.ndarray
    starts: np.ndarray
    ends: np.ndarray
    inside: np.ndarray


def masked(lines: pa.Array) -> Iterator[pa.DictionaryArray]:
    """The template of each of utf8 `lines` (no nulls), however many there are, a part of the lines at a time."""
    return (_masked(part).column for part in _slices(lines))


def _masked(lines: pa.Array) -> _Masked:
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
    hidden = raw.copy()
    hidden[starts] = ord(PLACEHOLDER)
    dropped = np.zeros(len(starts) + 1, np.int64)
    np.cumsum(ends - starts - 1, out=dropped[1:])
    new_offsets = (offsets - dropped[np.searchsorted(starts, offsets)]).astype(np.int32)
    buffers = [None, pa.py_buffer(new_offsets), pa.py_buffer(hidden[~inside])]
    column = pa.Array.from_buffers(pa.utf8(), len(lines), buffers).dictionary_encode()
    return _Masked(column, raw, kind, offsets, starts, ends, inside)


def _templates(lines: pa.Array) -> Templates:
    found = _masked(lines)
    long = np.flatnonzero(found.ends - found.starts >= tokens.SHORTEST)
    token_rows = np.searchsorted(found.offsets, found.starts[long], side="right") - 1
    token_hashes = tokens.hashes(found.raw, found.starts[long], found.ends[long])
    texts = found.column.dictionary
    if len(texts) > MOST or texts.nbytes > MOST_TEXT:
        return Templates(None, [], [], token_rows, token_hashes)
    codes = found.column.indices.to_numpy()
    return Templates(codes, texts.to_pylist(), _letters(found, codes), token_rows, token_hashes)


def _variable_tokens(kind: np.ndarray, offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where the tokens with a digit begin and end."""
    if not len(kind):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    word = kind != 0
    first, last = word.copy(), word.copy()
    first[1:] &= ~word[:-1]
    last[:-1] &= ~word[1:]
    # A token ends with its line, even where the next line begins with a letter at once.
    borders = offsets[(offsets > 0) & (offsets < len(kind))]
    first[borders] = word[borders]
    last[borders - 1] = word[borders - 1]
    starts, ends = np.flatnonzero(first), np.flatnonzero(last) + 1
    if not len(starts):
        return starts, ends
    # What follows a token up to the next one has no kind, so that the highest kind is the token's own.
    variable = np.maximum.reduceat(kind, starts) == _DIGIT
    return starts[variable], ends[variable]


def _letters(found: _Masked, codes: np.ndarray) -> list[frozenset[str]]:
    """Which letters stand in the variable tokens of each template."""
    in_token = found.inside.copy()
    in_token[found.starts] = True
    at = np.flatnonzero(in_token & (found.kind == _LETTER))
    seen = np.zeros((len(found.column.dictionary), 128), bool)
    seen[codes[np.searchsorted(found.offsets, at, side="right") - 1], found.raw[at]] = True
    return [frozenset(map(chr, np.flatnonzero(row).tolist())) for row in seen]
