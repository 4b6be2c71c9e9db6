"""Lines in a dump that are not of the dump: what pg_dump, its server, the shell or Docker said on standard error.

Through a terminal they stand between lines. With `> file 2>&1` they stand anywhere, also within a line, because
standard output is written by blocks. A table of log messages may hold the very same words: in rows the number of
columns decides, within quotes nothing can be taken out for certain.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from atalaia.backup.plain.contents import identifier
from atalaia.backup.plain.lexer import Lexer

# What libpq prints of a server's messages; two spaces stand behind the colon.
_LEVEL = re.compile(rb"(?:\A|\n)(WARNING|NOTICE|DETAIL|HINT):\Z")
_LONGEST_LEVEL = 10
_MESSAGE = re.compile(rb"pg_dump(?:all)?: |(?:WARNING|NOTICE|DETAIL|HINT):  ")
_COLUMNS = re.compile(rb'"(?:[^"]|"")*"|,')
_PROBLEM = re.compile(rb"pg_dump(?:all)?: (?:error|fatal)|FATAL:  |ERROR:  ")
LONGEST = 8192
_FIRST = re.compile(
    rb"^(?:--|/\*|SET [a-z_]+ = |\\(?:restrict|connect) |(?:CREATE|COPY|INSERT INTO|ALTER|BEGIN|DROP|SELECT) ?)", re.M
)
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
    match = _FIRST.search(head)
    return match.start() if match else -1


def likely(text: bytes) -> bool:
    """Whether a text consists of such lines alone."""
    return all(_AROUND.fullmatch(line) for line in text.split(b"\n") if line.strip())


def candidates(block: bytes) -> list[int]:
    """Where in a block words of standard error begin, in order."""
    found = []
    at = block.find(b"pg_dump")
    while at >= 0:
        if block.startswith((b": ", b"all: "), at + len(b"pg_dump")):
            found.append(at)
        at = block.find(b"pg_dump", at + 1)
    at = block.find(b":  ")
    while at >= 0:
        if level := _LEVEL.search(block, max(0, at - _LONGEST_LEVEL), at + 1):
            found.append(level.start(1))
        at = block.find(b":  ", at + 1)
    return sorted(found)


def behind(block: bytes, end: int) -> bytes:
    """The line at `end`, or the first one behind it that is no message itself."""
    while True:
        newline = block.find(b"\n", end, end + LONGEST)
        line = block[end : newline if newline >= 0 else end + LONGEST]
        if newline < 0 or not _MESSAGE.match(line):
            return line
        end = newline + 1


def problem(text: bytes) -> bool:
    """Whether such a line tells of an error."""
    return _PROBLEM.match(text) is not None


def certain(lexer: Lexer, before: bytes, message: bytes, after: bytes, *, aligned: bool) -> bool | None:
    """Whether a message is no part of the dump; None: it is data for certain.

    `lexer` has read all before it; `before` is what stands before it in its line, `after` the line behind it.
    `aligned`: it stands where pg_dump has handed on a whole number of blocks, in a dump that has other messages.
    """
    if copy := lexer.copying:
        wanted = _columns(copy.text) - 1
        if wanted <= 0:
            # It names the very table in whose rows it stands: no table's own rows do.
            return aligned or message == b'pg_dump: dumping contents of table "%s"' % _table(copy.text)
        tabs, behind = before.count(b"\t"), after.count(b"\t")
        whole = tabs + message.count(b"\t") == wanted
        joined = bool(before) and not after.startswith(b"\\.") and tabs + behind == wanted
        if whole:  # a row as it stands, unless what is behind it can be no row by itself
            return (behind != wanted or None) if joined else None
        return joined or not before
    if lexer.quoted:
        comment = lexer.rest.rfind(b"\n--") >= lexer.rest.rfind(b"\n")
        return True if aligned else None if comment or before else False
    return True


def _table(copy: bytes) -> bytes:
    return identifier(copy[len(b"COPY ") :], 2).encode()


def _columns(copy: bytes) -> int:
    begin, end = copy.find(b"("), copy.rfind(b")")
    if copy.startswith(b'COPY "') or b'"' in copy[: max(begin, 0)]:
        names = re.match(rb'COPY (?:"(?:[^"]|"")*"|[^\s".(]+)(?:\.(?:"(?:[^"]|"")*"|[^\s".(]+))?\s*\(', copy)
        begin = names.end() - 1 if names else -1
    if begin < 0 or end < begin:
        return 0
    return sum(1 for part in _COLUMNS.finditer(copy, begin + 1, end) if part[0] == b",") + 1
