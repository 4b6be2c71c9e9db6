"""Lines in a dump that are not of the dump: what pg_dump, its server, the shell or Docker said on standard error.

Through a terminal they stand between lines. With `> file 2>&1` they stand anywhere, also within a line, because
standard output is written by blocks. A table of log messages may hold the very same words: in rows the number of
columns decides, within quotes nothing can be taken out for certain.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from atalaia.backup.plain.lexer import Lexer

_NEEDLES = (b"pg_dump: ", b"pg_dumpall: ", b"WARNING:  ", b"DETAIL:  ", b"HINT:  ", b"NOTICE:  ")
_LINE_START_ONLY = frozenset(_NEEDLES[2:])
_COLUMNS = re.compile(rb'"(?:[^"]|"")*"|,')
_PROBLEM = re.compile(rb"pg_dump(?:all)?: (?:error|fatal)|FATAL:  |ERROR:  ")
LONGEST = 8192
# Lines that may stand before a dump's first line or behind its last one.
_AROUND = re.compile(
    rb"(?:pg_dump(?:all)?: |[A-Z]{4,9}:  |could not change directory|perl: warning|Password|Error|error|OCI runtime|"
    rb"Cannot connect|the input device|What's next|time=|WARN|"
    rb"Unable to use a TTY|Defaulted container|Warning|bash: |sh: |"
    rb"sudo|docker|Emulate Docker|nohup: |\s+\S)[^\n]*"
)


@dataclass(frozen=True, slots=True)
class Stray:
    """A line of standard error in the text from byte `start` to `end`; `line` counts from 1.

    `certain` False: it may be data, and stays. `problem`: it tells of an error, not only of a warning.
    """

    start: int
    end: int
    line: int
    text: str
    certain: bool
    problem: bool


def first_line(head: bytes) -> int:
    """Where the dump begins in a text's first bytes: behind lines that programs said before it.

    -1 when nothing there looks like the beginning of a dump.
    """
    match = re.search(
        rb"^(?:--\n-- PostgreSQL database |--\n-- (?:Roles|Name:|Data for)|SET [a-z_]+ = |\\restrict )", head, re.M
    )
    if not match:
        match = re.search(rb"^(?:CREATE|COPY|INSERT INTO|ALTER|BEGIN|DROP|--|/\*|\\connect)", head, re.M)
    return match.start() if match else -1


def likely(text: bytes) -> bool:
    """Whether a text consists of such lines alone."""
    return all(_AROUND.fullmatch(line) for line in text.split(b"\n") if line.strip())


def candidates(block: bytes) -> Iterator[int]:
    """Where in a block words of standard error begin, in order."""
    found = []
    for needle in _NEEDLES:
        at = block.find(needle)
        while at >= 0:
            if needle not in _LINE_START_ONLY or at == 0 or block[at - 1] == 10:
                found.append(at)
            at = block.find(needle, at + 1)
    return iter(sorted(found))


def problem(text: bytes) -> bool:
    """Whether such a line tells of an error."""
    return _PROBLEM.match(text) is not None


def certain(lexer: Lexer, before: bytes, message: bytes, after: bytes) -> bool | None:
    """Whether a message is no part of the dump; None: it is data for certain.

    `lexer` has read all before it; `before` is what stands before it in its line, `after` the line behind it.
    """
    if copy := lexer.copying:
        wanted = _columns(copy.text) - 1
        if wanted <= 0:
            return False
        tabs, behind = before.count(b"\t"), after.count(b"\t")
        whole = tabs + message.count(b"\t") == wanted
        joined = bool(before) and not after.startswith(b"\\.") and tabs + behind == wanted
        if whole:  # a row as it stands, unless what is behind it can be no row by itself
            return (behind != wanted or None) if joined else None
        return joined or not before
    if lexer.quoted:
        comment = lexer.rest.rfind(b"\n--") >= lexer.rest.rfind(b"\n")
        return None if comment or before else False
    return True


def _columns(copy: bytes) -> int:
    begin, end = copy.find(b"("), copy.rfind(b")")
    if copy.startswith(b'COPY "') or b'"' in copy[: max(begin, 0)]:
        names = re.match(rb'COPY (?:"(?:[^"]|"")*"|[^\s".(]+)(?:\.(?:"(?:[^"]|"")*"|[^\s".(]+))?\s*\(', copy)
        begin = names.end() - 1 if names else -1
    if begin < 0 or end < begin:
        return 0
    return sum(1 for part in _COLUMNS.finditer(copy, begin + 1, end) if part[0] == b",") + 1
