"""Which lines of a text are log lines: not where somebody left some out, in a document those of its code blocks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

_SKIPPED = r"^\s*(?:\.\.\.|…|\[\.\.\.\])\s*$"
_NAMED = r"^\s*```+\s*\w"
_LOGS = r"^\s*```+\s*(?:log|logs|text|txt|console|plain)\b"


@dataclass(frozen=True, slots=True)
class Chosen:
    """Of N lines, bool[N] each: `kept`, `around` a document's logs, `skipped`; `opened`: inside of a code block."""

    kept: np.ndarray
    around: np.ndarray
    skipped: np.ndarray
    opened: np.ndarray

    def inside(self, line: int, before: bool) -> bool:
        """Whether `line` begins inside of a code block."""
        return bool(self.opened[line - 1]) if line else before

    def notes(self, line: int) -> Mapping[str, int]:
        """What is to be told of the lines before `line`."""
        notes = {
            "{count} lines around a document's logs were left out": int(self.around[:line].sum()),
            "{count} lines that only say that others were left out (`...`) were passed over": int(
                self.skipped[:line].sum()
            ),
        }
        return {text: count for text, count in notes.items() if count}


def lines_of(lines: pa.Array, inside: bool, document: bool) -> Chosen:
    """`inside`: whether the first line is in a code block already; `document`: the text is Markdown."""
    skipped = pc.match_substring_regex(lines, _SKIPPED).to_numpy(zero_copy_only=False)
    no = np.zeros(len(lines), bool)
    if not document:
        return Chosen(~skipped, no, skipped, no)
    fence = pc.starts_with(pc.utf8_ltrim_whitespace(lines), "```").to_numpy(zero_copy_only=False)
    opened = (np.cumsum(fence) + inside) % 2 == 1
    # A block that says what language it is in is no log.
    foreign = pc.and_not(pc.match_substring_regex(lines, _NAMED), pc.match_substring_regex(lines, _LOGS))
    start = np.maximum.accumulate(np.where(fence & opened, np.arange(len(lines)), -1))
    other = foreign.to_numpy(zero_copy_only=False)[np.maximum(start, 0)] & (start >= 0)
    around = ~(opened & ~fence & ~other)
    return Chosen(~skipped & ~around, around, skipped & ~around, opened)
