"""The small language of `| pattern` and `|>`: literals and captures, which are searched for without going back."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache

from .sqltext import literal

_CAPTURE = re.compile(r"<([A-Za-z_][A-Za-z0-9_]*)>")


@lru_cache(maxsize=256)
def pieces(pattern: str) -> tuple[tuple[str, bool], ...]:
    """Literal texts, and names of captures with True, in order; no empty texts."""
    found: list[tuple[str, bool]] = []
    end = 0
    for capture in _CAPTURE.finditer(pattern):
        found += [(pattern[end : capture.start()], False), (capture[1], True)]
        end = capture.end()
    return tuple(piece for piece in [*found, (pattern[end:], False)] if piece[0])


def captures(pattern: str, line: str) -> Iterator[tuple[str, str]]:
    """The names and texts of what a pattern captures in a line.

    A capture goes up to the next literal, or where that is missing up to the end, where the captures behind it find
    nothing. The first literal must begin the line.
    """
    if not line:
        return
    parts = pieces(pattern)
    at = 0
    if not parts[0][1]:
        if not line.startswith(parts[0][0]):
            return
        at, parts = len(parts[0][0]), parts[1:]
    for (name, _), (following, _) in zip(parts[::2], [*parts[1::2], ("", False)], strict=False):
        end = line.find(following, at) if following else -1
        if name != "_":
            yield name, line[at:] if end < 0 else line[at:end]
        if end < 0:
            return
        at = end + len(following)


def capture_sql(pattern: str) -> dict[str, str]:
    """The same as SQL, for each name; NULL for nothing."""
    found: dict[str, str] = {}
    rest = "[NULLIF(line, '')]"
    parts = pieces(pattern)
    for number, (text, is_capture) in enumerate(parts):
        if not is_capture:
            rest = _behind(rest, text, ">= 1" if number else "= 1")
        elif text != "_":
            following = parts[number + 1][0] if number + 1 < len(parts) else ""
            found[text] = f"split_part({rest}[1], {literal(following)}, 1)" if following else f"{rest}[1]"
    return found


def _behind(rest: str, text: str, where: str) -> str:
    """SQL of a list of what is behind the first `text` in `rest`, such a list too; NULL where it is somewhere else."""
    at = f"strpos(s, {literal(text)})"
    return f"list_transform({rest}, lambda s: CASE WHEN {at} {where} THEN substr(s, {at} + {len(text)}) END)"


def is_like(pattern: str, line: str) -> bool:
    """The test of `|>`: captures take at least one character, literals stand where they are first found."""
    parts = pieces(pattern)
    if not parts or not line:
        return not parts and not line
    at = 0
    for number, (text, is_capture) in enumerate(parts):
        if is_capture:
            continue
        found = line.find(text, at)
        if found < 0 or (found == at) != (number == 0):
            return False
        at = found + len(text)
    return (at < len(line)) == parts[-1][1]


def like_expression(pattern: str) -> str:
    """A regular expression (RE2) that every line matches that is like the pattern."""
    inside = "".join(r"[\s\S]+" if is_capture else quoted(text) for text, is_capture in pieces(pattern))
    return f"^{inside}$"


def like_sql(pattern: str) -> str:
    """The test of `|>` as SQL: what is left behind each literal in turn, and whether that is something at last."""
    parts = pieces(pattern)
    rest = "[line]"
    for number, (text, is_capture) in enumerate(parts):
        if not is_capture:
            rest = _behind(rest, text, "> 1" if number else "= 1")
    return f"COALESCE({rest}[1] {'<>' if parts and parts[-1][1] else '='} '', false)"


def quoted(text: str) -> str:
    """A regular expression (RE2) of just this text."""
    return re.sub(r"[\\.+*?()|\[\]{}^$]", r"\\\g<0>", text)
