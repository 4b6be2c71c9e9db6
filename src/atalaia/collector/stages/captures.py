"""What all matches of an expression capture, for whole columns: marks are put around it, and texts are cut there."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from atalaia.collector.stages.values import buffers, sliced, true

_PART = re.compile(
    r"\\Q.*?(?:\\E|$)|\\.|\[\^?\]?(?:\\.|\[:\w+:\]|[^\]\\])*\]|\(\?P?<\w+>|\(\?[a-zA-Z-]*[:)]|\(|\)|\||.", re.DOTALL
)
_BEGIN, _END = 1, 2  # marks; a text that has them already is left to others
_MOST = 4  # groups: RE2 rewrites with nine parts


@dataclass(frozen=True, slots=True)
class Captures:
    """Texts cut in pieces: between captures, captured, between, … and behind the last one.

    `rows` bool[N]: those that were cut. `pieces` utf8[P] of all of these, `counts` int64[M]: how many of each.
    """

    rows: np.ndarray
    pieces: pa.Array
    counts: np.ndarray


def marking(expression: str) -> tuple[str, str] | None:
    """An expression and a replacement that put marks around each group; None where groups are in others or may fail."""
    flags = re.match(r"(?:\(\?[a-zA-Z]+\))*", expression)
    assert flags  # it matches nothing too
    parts, depth, inside = [""], 0, False
    pieces = _PART.findall(expression, flags.end())
    for at, piece in enumerate(pieces):
        if (piece.startswith("(") and not piece.startswith("(?")) or re.match(r"\(\?P?<", piece):
            if depth:
                return None
            depth, inside = 1, True
            parts.append("")
        elif piece.startswith("(?") and piece.endswith(")"):
            return None  # flags for what follows
        elif piece == ")" and depth == 1 and inside:
            if at + 1 < len(pieces) and pieces[at + 1] in "?*+{":
                return None
            depth, inside = 0, False
            parts.append("")
        elif piece == "|" and not depth:
            return None
        else:
            depth += piece.startswith("(") - (piece == ")")
            parts[-1] += piece
    groups = len(parts) // 2
    if not 1 <= groups <= _MOST:
        return None
    # The first part, and behind it in turn the mark of a beginning and of an end, and the next part.
    replacement = "\\1" + "".join(
        f"{chr(_BEGIN if number % 2 else _END)}\\{number + 1}" for number in range(1, len(parts))
    )
    return flags[0] + "".join(f"({part})" for part in parts), replacement


def cut(texts: pa.Array, expression: str, replacement: str) -> Captures:
    """Cut texts that match; not those with marks of their own, with empty captures, or with captures that touch."""
    marked = pc.replace_substring_regex(texts, expression, replacement)
    rows = true(pc.is_valid(texts)) & ~true(pc.match_substring_regex(texts, f"[{chr(_BEGIN)}{chr(_END)}]"))
    rows &= ~true(pc.match_substring_regex(marked, f"{chr(_BEGIN)}{chr(_END)}|{chr(_END)}{chr(_BEGIN)}"))
    rows &= true(pc.match_substring(marked, chr(_BEGIN)))
    chosen = marked.filter(pa.array(rows))
    offsets, data = buffers(chosen)
    data, offsets = data[offsets[0] : offsets[-1]], (offsets - offsets[0]).astype(np.int64)
    places = np.flatnonzero((data == _BEGIN) | (data == _END))
    starts, ends = np.concatenate([places + 1, offsets[:-1]]), np.concatenate([places, offsets[1:]])
    starts.sort(kind="stable")
    ends.sort(kind="stable")
    # A line that ends with a mark has an empty piece there, and one that begins with it, too: they are kept.
    counts = np.diff(np.searchsorted(places, offsets)) + 1
    return Captures(rows, sliced(data, starts, ends), counts)


def joined(found: Captures, texts: pa.Array) -> pa.Array:
    """The M texts anew, with others (utf8, one for each capture) for what was captured."""
    size = len(found.pieces)
    ends = np.cumsum(found.counts)
    inner = np.arange(size) - np.repeat(ends - found.counts, found.counts)  # the number of a piece in its text
    captured = inner % 2 == 1
    place = np.arange(size)
    place[captured] = size + np.arange(int(captured.sum()))
    offsets = np.concatenate([[0], ends]).astype(np.int32)
    pieces = pa.concat_arrays([found.pieces, texts.cast(pa.utf8())]).take(pa.array(place))
    return pc.binary_join(pa.ListArray.from_arrays(pa.array(offsets), pieces), "")


def captured(found: Captures) -> pa.Array:
    """What was captured (utf8), text by text."""
    inner = np.arange(len(found.pieces)) - np.repeat(np.cumsum(found.counts) - found.counts, found.counts)
    return found.pieces.filter(pa.array(inner % 2 == 1))
