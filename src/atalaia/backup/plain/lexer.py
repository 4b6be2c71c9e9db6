"""Splits the text of a dump into statements, comments, psql commands and COPY data, while it streams past.

A function's body, a comment or a row may hold any text, also lines that look like `COPY t FROM stdin;`. Only
reading quotes as psql does tells them from real ones. COPY data, the bulk of a dump, is searched and counted
by whole blocks.
"""

from __future__ import annotations

import re
from enum import Enum
from typing import NamedTuple

_TOKEN = re.compile(rb"""'|"|;|--|/\*|\$(?:[A-Za-z_\x80-\xff][A-Za-z0-9_\x80-\xff]*)?\$|^\\""", re.MULTILINE)
_ESCAPED = re.compile(rb"(?:[^'\\]+|\\.|'')*+", re.DOTALL)
_END_OF_COPY = b"\n\\.\n"
_NOT_SPACE = re.compile(rb"\S")
# pg_dump --inserts: one row a statement, or several, each in parentheses. Anything unusual is left to _TOKEN.
_NAME = rb'(?:"[^"\n;]*+"|[^\s".;(\']++)'
_INSERT = re.compile(
    rb"\n*+(INSERT INTO "
    + _NAME
    + rb"(?:\."
    + _NAME
    + rb")?+(?: \([^';\n]*?\))?+(?: OVERRIDING SYSTEM VALUE)?+ VALUES)?+"
    rb"\s*+\((?:[^'\"();E]++|E(?!')|'[^']*+')*+\)(?:(,)|;\n)"
)


class Kind(Enum):
    """What a piece of a dump is."""

    STATEMENT = "statement"
    COMMENT = "comment"
    COMMAND = "command"
    ROWS = "rows"


class Piece(NamedTuple):
    """A piece of the dump from byte `start` to `end`; for ROWS `text` is the COPY statement before them, or the
    beginning of the INSERT statements that they are.

    `rows` and `size` (bytes) are of COPY data or of INSERT statements.
    """

    kind: Kind
    start: int
    end: int
    text: bytes
    rows: int = 0
    size: int = 0


class Lexer:
    """Feed it blocks of any size; it returns the pieces that they complete.

    `inserts`: successive INSERT statements of one table become one piece of ROWS, several times faster.
    """

    def __init__(self, *, inserts: bool = False) -> None:
        self._inserts = inserts
        self._buffer = b""
        self._offset = 0  # of the buffer's first byte in the dump
        self._next = 0  # where in the buffer to look for the next token
        self._copy: Piece | None = None

    def feed(self, block: bytes) -> list[Piece]:
        """The pieces completed by `block`."""
        self._buffer = self._buffer + block if self._buffer else block
        pieces: list[Piece] = []
        while self._rows(pieces) if self._copy else self._text(pieces):
            pass
        return pieces

    @property
    def at_rest(self) -> bool:
        """Whether nothing is unfinished: no statement, no quote, no COPY data."""
        return self._copy is None and not self._buffer.strip()

    @property
    def copying(self) -> Piece | None:
        """The COPY data that it is in, as far as it was read."""
        return self._copy

    @property
    def rest(self) -> bytes:
        """What was fed and has become no piece yet."""
        return self._buffer

    @property
    def read(self) -> int:
        """Bytes of the dump that have become pieces, or rows of the COPY data that it is in."""
        return self._offset

    @property
    def quoted(self) -> bool:
        """Whether what comes next is within a quote or a comment."""
        if self._copy:
            return False
        position = self._next
        while match := _TOKEN.search(self._buffer, position):
            position = _end(self._buffer, match)
            if position < 0:
                return match[0] != b"'" or not _closed(self._buffer, match.start())
        return False

    def _drop(self, count: int) -> None:
        self._buffer = self._buffer[count:]
        self._offset += count
        self._next = 0

    def _rows(self, pieces: list[Piece]) -> bool:
        """Count rows; True when the COPY data has ended and text follows.

        The buffer begins with the line end before the data, so that the end mark is found also as its first
        line. A line end within a value is written as the two characters \\n: each line is a row.
        """
        copy = self._copy
        assert copy
        found = self._buffer.find(_END_OF_COPY)
        size = found if found >= 0 else max(0, len(self._buffer) - len(_END_OF_COPY) + 1)
        rows = copy.rows + self._buffer.count(b"\n", 0, size)
        copy = self._copy = copy._replace(rows=rows, size=copy.size + size)
        if found < 0:
            self._drop(size)
            return False
        self._drop(found + len(_END_OF_COPY))
        pieces.append(copy._replace(end=self._offset))
        self._copy = None
        return True

    def _text(self, pieces: list[Piece]) -> bool:
        """Read text to its end or to the next COPY data; True when COPY data follows."""
        buffer = self._buffer
        begin = 0
        position = self._next
        while True:
            if self._inserts and position == begin and (run := _inserts(buffer, begin)):
                pieces.append(run._replace(start=run.start + self._offset, end=run.end + self._offset))
                begin = position = run.end
            match = _TOKEN.search(buffer, position)
            if not match:
                # A token may be cut in two at the end of the block; a dollar quote's tag has at most 63 bytes.
                position = max(position, len(buffer) - 65)
                break
            token = match[0]
            end = _end(buffer, match)
            if end < 0:
                break
            position = end
            first = _NOT_SPACE.search(buffer, begin)
            alone = first is not None and first.start() == match.start()
            if token == b";":
                assert first
                statement = Piece(
                    Kind.STATEMENT,
                    self._offset + first.start(),
                    self._offset + end,
                    buffer[first.start() : end],
                )
                if statement.text.startswith(b"COPY ") and statement.text.endswith(b" FROM stdin;"):
                    if len(buffer) == end:
                        position = match.start()
                        break  # the line end after it is still to come
                    self._copy = statement._replace(kind=Kind.ROWS)
                    self._drop(end)
                    return True
                pieces.append(statement)
                begin = end
            elif alone and token in (b"--", b"\\"):
                kind = Kind.COMMENT if token == b"--" else Kind.COMMAND
                pieces.append(
                    Piece(
                        kind,
                        self._offset + match.start(),
                        self._offset + end,
                        buffer[match.start() : end - 1],
                    )
                )
                begin = end
        self._next = position
        rest = position - begin
        self._drop(begin)
        self._next = rest
        return False


def _inserts(buffer: bytes, begin: int) -> Piece | None:
    """The INSERT statements of one table at `begin`, if there are any that are whole."""
    match = _INSERT.match(buffer, begin)
    if not match or not match[1]:
        return None
    head, start = match[1], match.start(1)
    end = rows = whole = 0
    scanner = _INSERT.scanner(buffer, begin)  # type: ignore[attr-defined] # documented nowhere, there since 2.0
    inside = True
    while (match := scanner.match()) and (inside if match[1] is None else match[1] == head):
        rows += 1
        inside = match[2] is not None
        if not inside:
            end, whole = match.end(), rows
    return Piece(Kind.ROWS, start, end, head, whole, end - start) if whole else None


def _closed(buffer: bytes, quote: int) -> bool:
    """Whether the quote that opens at `quote` closes with the last byte of `buffer`, as far as one can see."""
    if _is_escaped(buffer, quote):
        closed = _ESCAPED.match(buffer, quote + 1)
        return closed is not None and closed.end() + 1 == len(buffer)
    return False


def _end(buffer: bytes, match: re.Match[bytes]) -> int:
    """Where what `match` opens has ended; -1 when that lies beyond the buffer."""
    token, after = match[0], match.end()
    if token == b";":
        return after
    if token == b"'" and _is_escaped(buffer, match.start()):
        closed = _ESCAPED.match(buffer, after)
        assert closed
        # The character behind the quote must be known: another quote would continue the string.
        return closed.end() + 1 if closed.end() + 1 < len(buffer) else -1
    closing = {b"--": b"\n", b"\\": b"\n", b"/*": b"*/"}.get(token, token)
    found = buffer.find(closing, after)
    return found + len(closing) if found >= 0 else -1


def _is_escaped(buffer: bytes, quote: int) -> bool:
    """Whether the string that opens at `quote` is E'…', in which a backslash escapes."""
    if quote == 0 or buffer[quote - 1 : quote] not in (b"E", b"e"):
        return False
    before = buffer[quote - 2 : quote - 1] if quote > 1 else b""
    return not (before.isalnum() or before == b"_" or before >= b"\x80")
