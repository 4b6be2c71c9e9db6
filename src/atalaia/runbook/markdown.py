"""Markdown (GitHub's) whose content cannot become markup: log lines and names are written by anybody."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from atalaia.diagnosis.fill import visible

# An underscore inside a word is no emphasis (GFM 6.4), and postgres_a reads better than postgres\_a.
_SPECIAL = re.compile(r"([\\`*\[\]<>|~#&]|(?<![^\W_])_|_(?![^\W_]))")
_CODE_SPAN = re.compile(r"`[^`\n]+`")


def plain(text: str) -> str:
    """`text` on one line, with every sign that Markdown knows taken literally."""
    return _SPECIAL.sub(r"\\\1", " ".join(visible(text).split()))


def prose(text: str) -> str:
    """A sentence whose `code` between backquotes is meant, and nothing else in it."""
    line = " ".join(visible(text).split())
    pieces = []
    position = 0
    for span in _CODE_SPAN.finditer(line):
        pieces += [_SPECIAL.sub(r"\\\1", line[position : span.start()]), span[0]]
        position = span.end()
    return "".join([*pieces, _SPECIAL.sub(r"\\\1", line[position:])])


def code(text: str) -> str:
    """`text` as inline code, whatever backquotes it holds (CommonMark 6.1)."""
    line = " ".join(visible(text).split())
    ticks = "`" * (_longest_run(line) + 1)
    space = " " if line.startswith("`") or line.endswith("`") else ""
    return f"{ticks}{space}{line}{space}{ticks}"


def block(lines: Iterable[str], language: str = "") -> str:
    """A fenced block that no line of `lines` can close (CommonMark 4.5)."""
    text = visible("\n".join(lines))
    fence = "`" * max(3, _longest_run(text) + 1)
    return f"{fence}{language}\n{text}\n{fence}"


def table(heading: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of cells that are Markdown already (`plain`, `code`); only `|` inside code is still escaped
    here.
    """
    shown = [heading, ["---"] * len(heading), *rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in row) + " |" for row in shown)


def _cell(text: str) -> str:
    return re.sub(r"(?<!\\)\|", r"\\|", text.replace("\n", " "))


def _longest_run(text: str) -> int:
    return max((len(run) for run in re.findall(r"`+", text)), default=0)
