"""`logfmt`: values of key=value pairs, read as go-logfmt does, on which Promtail builds (its decode.go).

What is usual is read for a whole block at once with NumPy: where pairs begin and end, and which have a wanted key.
A line with anything that go-logfmt might take as a fault goes alone through `pairs`. This is not LogQL's reading
(`logql/scan_logfmt`): there the first of equal keys stays, and a fault does not end the line.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from atalaia.collector.entries import Entries
from atalaia.collector.stages.stage import Build, Stage, StageError
from atalaia.collector.stages.values import buffers, fix, put, sliced, source_of, true
from atalaia.environment.yamlfile import Node, Reader

_KEY = re.compile(r'[^\x00-\x20="]+')
_BARE = re.compile(r'[^\x00-\x20="]*')
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_GARBAGE = re.compile(r"[\x00-\x20]*")
_ODD = '[\n\ufffd]|\\\\(?:[^"/bfnrt]|$)'  # with other escapes than these
_QUOTE, _EQUAL, _BACKSLASH = ord('"'), ord("="), ord("\\")


def pairs(text: str) -> Iterator[tuple[str, str]]:
    """Keys and values up to the first fault; a key without a value has an empty one. No value goes across lines."""
    for line in text.split("\n"):
        if not (yield from _pairs(line)):
            return


def _pairs(line: str) -> Generator[tuple[str, str], None, bool]:
    """The same of one line; whether it is without fault."""
    at = _begin(line, 0)
    while at < len(line):
        key = _KEY.match(line, at)
        if not key or "\ufffd" in key[0]:
            return False
        at = key.end()
        value = ""
        if line.startswith('"', at):
            return False
        if line.startswith("=", at):
            at += 1
            if line.startswith('"', at):
                quoted = _QUOTED.match(line, at)
                if not quoted:
                    return False
                found = _unescaped(quoted[1])
                if found is None:
                    return False
                value, at = found, quoted.end()
            else:
                bare = _BARE.match(line, at)
                assert bare  # it matches nothing too
                value, at = bare[0], bare.end()
                if line[at : at + 1] in ("=", '"'):
                    return False
        yield key[0], value
        at = _begin(line, at)
    return True


def _begin(line: str, at: int) -> int:
    return _GARBAGE.match(line, at).end()  # type: ignore[union-attr]  # it matches nothing too


def _unescaped(text: str) -> str | None:
    """What stands between quotes, with JSON's escapes and \\'; None where one is none or a control character stands."""
    if "\\" not in text:
        return text
    text = re.sub(r"\\(.)", lambda m: "'" if m[1] == "'" else m[0], text, flags=re.DOTALL)
    try:
        found = orjson.loads(f'"{text}"')
    except ValueError:
        if not re.search(r"\\u[dD][89a-fA-F]", text):
            return None
        halves = re.sub(r"\\u[dD][89abAB]..(?!\\u[dD][c-fC-F])|(?<!\\u[dD][89abAB]..)\\u[dD][c-fC-F]..", "\ufffd", text)
        try:
            found = orjson.loads(f'"{halves}"')
        except ValueError:
            return None
    return str(found)


@dataclass(frozen=True, slots=True)
class Logfmt:
    """`logfmt`: the values of `mapping`'s keys (new name -> key of the line, None: the same) become extracted values.

    Of equal keys the last one counts; a key that is not there leaves what was there. The pairs before a fault count.
    """

    mapping: Mapping[str, str | None]
    source: str | None = None
    name: ClassVar[str] = "logfmt"

    def __post_init__(self) -> None:
        if not self.mapping:
            raise StageError("logfmt mapping is required")

    @classmethod
    def build(cls, reader: Reader, node: Node, build: Build) -> Stage:
        """See stage.Builder."""
        body = reader.mapping(node, "logfmt", {"mapping", "source"})
        return cls(reader.texts(body.get("mapping"), "logfmt.mapping"), source_of(reader, "logfmt", body))

    def reads(self) -> frozenset[str]:
        """See Stage."""
        return frozenset({self.source} if self.source else ())

    def narrowed(self, wanted: frozenset[str]) -> Stage:
        """See narrow.Narrowing."""
        kept = {name: key for name, key in self._names().items() if name in wanted}
        return Logfmt(kept, self.source) if kept else self

    def _names(self) -> dict[str, str]:
        return {name: key or name for name, key in self.mapping.items()}

    def __call__(self, entries: Entries) -> Entries:
        """See the class."""
        text = entries.source(self.source)
        names = self._names()
        found, odd = scanned(text, list(names.values()))
        columns = dict(zip(names, found, strict=True))
        rows = np.flatnonzero(odd)
        if len(rows):
            read = [dict(pairs(line)) for line in text.take(pa.array(rows)).to_pylist()]
            for name, key in names.items():
                columns[name] = fix(columns[name], rows, [one.get(key) for one in read])
        for name, values in columns.items():
            there = true(pc.is_valid(values))
            if there.any():
                entries = put(entries, {name: values}, there)
        return entries


def scanned(text: pa.Array, keys: list[str]) -> tuple[list[pa.Array], np.ndarray]:
    """The values of some keys (utf8[N] each, null for none), and the mask bool[N] of rows to be read one by one.

    A pair ends at a blank that is not between quotes; quotes come in twos, one behind `=`, one at the pair's end.
    """
    offsets, data = buffers(text)
    data, offsets = data[offsets[0] : offsets[-1]], (offsets - offsets[0]).astype(np.int64)
    special = [bool((data == byte).any()) for byte in (_BACKSLASH, 10, 0xEF)]
    odd = true(pc.match_substring_regex(text, _ODD)) if any(special) else np.zeros(len(text), bool)
    quotes, blanks, equals = (np.flatnonzero(found) for found in (data == _QUOTE, data <= 32, data == _EQUAL))
    escaped = quotes[:0]
    if special[0] and len(quotes):
        hidden = (data[quotes - 1] == _BACKSLASH) & (quotes > 0)
        quotes, escaped = quotes[~hidden], quotes[hidden]
        odd |= true(pc.and_(pc.match_substring(text, "\\"), pc.match_substring_regex(text, "[\x00-\x1f]")))
    if len(quotes):
        # Where the number of quotes since the line's beginning is odd, a blank belongs to a value.
        before = np.searchsorted(quotes, offsets)
        odd |= (np.diff(before) & 1).astype(bool)
        since = np.cumsum(np.bincount(np.searchsorted(blanks, quotes), minlength=len(blanks))[: len(blanks)])
        since -= np.repeat(before[:-1], np.diff(np.searchsorted(blanks, offsets)))
        blanks = blanks[since & 1 == 0]
    # Pieces lie between the borders: blanks outside of quotes, beginnings and ends of lines.
    starts, ends = np.concatenate([blanks + 1, offsets[:-1]]), np.concatenate([blanks, offsets[1:]])
    starts.sort(kind="stable")
    ends.sort(kind="stable")
    real = ends > starts
    starts, ends = starts[real], ends[real]
    row = np.repeat(np.arange(len(text)), np.diff(np.searchsorted(starts, offsets)))
    signs, inside = _firsts(equals, starts, ends)
    opening, marks = _firsts(quotes, starts, ends)
    closing = ends - 1
    in_quotes = (marks == 2) & (opening == signs + 1) & (data[closing] == _QUOTE) & (closing > opening)
    odd[row[~((signs > starts) & (in_quotes | ((marks == 0) & (inside <= 1))))]] = True
    if len(escaped):
        place = np.searchsorted(starts, escaped, side="right") - 1
        wrong = ~in_quotes[place] | (escaped == closing[place])
        odd[row[place[wrong]]] = True
    pieces = _Pieces(data, starts, ends, signs, in_quotes, row)
    return [_values(pieces, key.encode(), odd) for key in keys], odd


def _firsts(marks: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The first of some places in each piece, its end for none; and how many are in it."""
    counts = np.bincount(np.searchsorted(starts, marks, side="right") - 1, minlength=len(starts))
    first = ends.copy()
    some = counts > 0
    first[some] = marks[(np.cumsum(counts) - counts)[some]]
    return first, counts


@dataclass(frozen=True, slots=True)
class _Pieces:
    """P pieces of `data`, their `=` (`ends` for none), whether their value is quoted, and their line's number."""

    data: np.ndarray
    starts: np.ndarray
    ends: np.ndarray
    signs: np.ndarray
    in_quotes: np.ndarray
    rows: np.ndarray


def _values(pieces: _Pieces, key: bytes, odd: np.ndarray) -> pa.Array:
    """The values of one key, the last of each row (utf8[N])."""
    fits = np.flatnonzero(pieces.signs - pieces.starts == len(key))
    for at, byte in enumerate(key):
        fits = fits[pieces.data[pieces.starts[fits] + at] == byte]
    last = np.full(len(odd), -1)
    last[pieces.rows[fits]] = fits  # pieces are in order: the last one stays
    there = (last >= 0) & ~odd
    piece = last[there]
    end, quoted = pieces.ends[piece], pieces.in_quotes[piece]
    low = np.minimum(pieces.signs[piece] + 1 + quoted, end)
    values = sliced(pieces.data, low, np.maximum(end - quoted, low), there)
    if quoted.any():
        escaped = true(pc.match_substring(values, "\\"))
        escaped[there] &= quoted
        if escaped.any():
            texts = values.filter(pa.array(escaped)).to_pylist()
            read = orjson.loads('["' + '","'.join(texts) + '"]')
            values = pc.replace_with_mask(values, pa.array(escaped), pa.array(read, pa.utf8()))
    return values
