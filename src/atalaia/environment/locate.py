"""Where in a TOML file a key stands, so that a problem can name its line (tomllib keeps no positions)."""

from __future__ import annotations

import re
from collections import Counter

_TABLE = re.compile(r"^\s*(\[\[?)\s*([^\]]+?)\s*\]\]?\s*(?:#.*)?$")
_KEY = re.compile(r"""^\s*((?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*'))*)\s*=""")
_PART = re.compile(r"""[A-Za-z0-9_-]+|"[^"]*"|'[^']*'""")
_TRIPLE = re.compile(r'"""|\'\'\'')


def _parts(dotted: str) -> tuple[str, ...]:
    return tuple(part.strip("\"'") for part in _PART.findall(dotted))


def key_lines(text: str) -> dict[tuple[str, ...], int]:
    """The line (from 1) at which each table or key of a TOML text is first written, by its full path.

    A table of an array has its place in it, from 0, as a part of the path.
    """
    lines: dict[tuple[str, ...], int] = {}
    arrays: Counter[tuple[str, ...]] = Counter()
    table: tuple[str, ...] = ()
    in_string = False
    for number, line in enumerate(text.splitlines(), 1):
        if in_string:
            in_string = len(_TRIPLE.findall(line)) % 2 == 0
            continue
        if header := _TABLE.match(line):
            table = _parts(header[2])
            if header[1] == "[[":
                arrays[table] += 1
                table = (*table, str(arrays[table] - 1))
            for depth in range(1, len(table) + 1):
                lines.setdefault(table[:depth], number)
        elif key := _KEY.match(line):
            path = table + _parts(key[1])
            for depth in range(len(table) + 1, len(path) + 1):
                lines.setdefault(path[:depth], number)
            # Keys of an inline table stand on the same line as the table.
            for inner in re.finditer(r"[{,]\s*([A-Za-z0-9_-]+)\s*=", line):
                lines.setdefault((*path, inner[1]), number)
        in_string = len(_TRIPLE.findall(line)) % 2 == 1
    return lines


def line_of(path: tuple[str | int, ...], lines: dict[tuple[str, ...], int]) -> int:
    """The line of the longest known prefix of `path`; 0 when not even its first part is written."""
    names = tuple(str(part) for part in path)
    for depth in range(len(names), 0, -1):
        if names[:depth] in lines:
            return lines[names[:depth]]
    return 0
