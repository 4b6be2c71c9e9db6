"""Edits the beginning of a dump, where roles and tablespaces stand, as it streams past; all else passes
untouched.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from atalaia.backup.plain.lexer import Kind, Lexer

_TABLESPACE = re.compile(rb"(CREATE TABLESPACE (?:\"(?:[^\"]|\"\")*\"|\S+) .*LOCATION )'(?:[^']|'')*';", re.DOTALL)


class Head:
    """Passes each statement before the first `\\connect` through `edit`."""

    def __init__(self, edit: Callable[[bytes], bytes]) -> None:
        self._edit = edit
        self._lexer = Lexer()
        self._kept = b""
        self._changes: list[tuple[int, int, bytes]] = []
        self._open = True

    def feed(self, block: bytes) -> bytes:
        """What may be passed on after this block: nothing until the beginning is whole, then all."""
        if not self._open:
            return block
        self._kept += block
        for piece in self._lexer.feed(block):
            if piece.kind is Kind.STATEMENT:
                changed = self._edit(piece.text)
                if changed != piece.text:
                    self._changes.append((piece.start, piece.end, changed))
            elif piece.kind is Kind.COMMAND and piece.text.startswith(b"\\connect "):
                return self.finish()
        return b""

    def finish(self) -> bytes:
        """What is still held back: something only for a dump that ends before its first `\\connect`."""
        if not self._open:
            return b""
        self._open = False
        parts = []
        position = 0
        for start, end, changed in self._changes:
            parts += [self._kept[position:start], changed]
            position = end
        rest, self._kept = self._kept[position:], b""
        return b"".join([*parts, rest])


def tolerant(superuser: str) -> Callable[[bytes], bytes]:
    """An edit that lets `CREATE ROLE superuser;` pass where initdb has made that role already.

    With it `psql -v ON_ERROR_STOP=1` restores a dump into a new server, and its exit status tells the truth.
    """
    plain = f"CREATE ROLE {superuser};".encode()
    instead = b"DO $atalaia$BEGIN " + plain + b" EXCEPTION WHEN duplicate_object THEN NULL; END$atalaia$;"
    return lambda statement: instead if statement == plain else statement


def relocated(place: Callable[[int], str]) -> Callable[[bytes], bytes]:
    """An edit that makes the n-th tablespace (from 0) in the directory `place(n)`, not in the original
    server's.
    """
    count = 0

    def edit(statement: bytes) -> bytes:
        nonlocal count
        match = _TABLESPACE.fullmatch(statement)
        if not match:
            return statement
        literal = place(count).replace("'", "''").encode()
        count += 1
        return match[1] + b"'" + literal + b"';"

    return edit
