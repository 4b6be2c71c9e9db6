"""What a dump's files hold, passed on by whole chunks, counted and digested in native code."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import xxhash

from atalaia.backup.vault.chunks import SIZE
from atalaia.backup.vault.writer import MemberWriter, Writer
from atalaia.environment.errors import AtalaiaError

END = b"\\.\n\n\n"  # what pg_dump writes behind a table's rows


@dataclass(frozen=True, slots=True)
class Text:
    """A file of a dump: lines and bytes without END, and the XXH3-128 of all of it."""

    rows: int
    size: int
    digest: str


class Output(Protocol):
    """Takes a stream in blocks."""

    def write(self, block: memoryview) -> Future[Any] | None:
        """Append a block: of one chunk's size but for the last. It may be used again once the future is done."""

    def close(self, facts: dict[str, Any]) -> None:
        """The stream has ended."""


Outputs = Callable[[str], Output]
"""The output of a file of the dump."""


class Nowhere:
    """An output for who only wants to know."""

    def write(self, block: memoryview) -> Future[Any] | None:
        """Nothing."""
        return None

    def close(self, facts: dict[str, Any]) -> None:
        """Nothing."""


class Kept:
    """An output that becomes a member of a backup."""

    def __init__(self, writer: Writer, name: str) -> None:
        self._member: MemberWriter = writer.member(name)

    def write(self, block: memoryview) -> Future[Any] | None:
        """Append."""
        return self._member.give(block)

    def close(self, facts: dict[str, Any]) -> None:
        """Note what is known of it."""
        self._member.facts = facts


class Blocks:
    """Blocks of one chunk's size, used again and again: new memory costs more than copying; and counting in them."""

    def __init__(self) -> None:
        self._free: list[bytearray] = []
        self._same = bytearray(SIZE)

    def take(self) -> bytearray:
        """A block with anything in it."""
        return self._free.pop() if self._free else bytearray(SIZE)

    def back(self, block: bytearray, used: Future[Any] | None) -> None:
        """A block is free again, once it is no longer used."""
        if used is None:
            self._free.append(block)
        else:
            used.add_done_callback(lambda _: self._free.append(block))

    def lines(self, block: memoryview) -> int:
        """Line ends in a block of at most SIZE bytes."""
        import numpy as np  # not above: it takes 0.1 s, and commands that dump nothing do without

        found = np.frombuffer(self._same, np.bool_, len(block))
        np.equal(np.frombuffer(block, np.uint8), 10, out=found)
        return int(np.count_nonzero(found))


class Stream:
    """One stream on its way from a descriptor to its output."""

    def __init__(self, output: Output, blocks: Blocks) -> None:
        self.size = 0
        self._output, self._blocks = output, blocks
        self._rows = 0
        self._digest = xxhash.xxh3_128()
        self._block = bytearray()  # made when something comes: many streams wait at once
        self._filled = 0
        self._tail = b""

    def read(self, descriptor: int) -> int:
        """Take what is there, at most to the end of the chunk; bytes, 0 at the end. Raises BlockingIOError."""
        if not self._block:
            self._block = self._blocks.take()
        count = os.readv(descriptor, [memoryview(self._block)[self._filled :]])
        self._filled += count
        self.size += count
        if self._filled == SIZE:
            self._pass_on()
        return count

    def append(self, path: Path) -> tuple[int, str]:
        """Take all of a file; its size and the XXH3-128 of it alone."""
        before, own = self.size, xxhash.xxh3_128()
        with path.open("rb", buffering=0) as file:
            while block := file.read(SIZE):
                own.update(block)
                self.write(block)
        return self.size - before, own.hexdigest()

    def write(self, data: bytes) -> None:
        """Append."""
        view = memoryview(data)
        self.size += len(view)
        while view:
            self._block = self._block or self._blocks.take()
            taken = view[: SIZE - self._filled]
            self._block[self._filled : self._filled + len(taken)] = taken
            self._filled += len(taken)
            view = view[len(taken) :]
            if self._filled == SIZE:
                self._pass_on()

    def finish(self, name: str, *, table: bool = True, facts: dict[str, Any] | None = None) -> Text:
        """The stream has ended. Raises AtalaiaError when a table's rows have not ended as pg_dump ends them."""
        if self._filled:
            self._pass_on()
        if table and self._tail[-len(END) :] != END:
            raise AtalaiaError(f"the rows in {name} of the dump are cut off", "no backup was made; try again")
        rows, size = (self._rows - END.count(b"\n"), self.size - len(END)) if table else (self._rows, self.size)
        text = Text(rows, size, self._digest.hexdigest())
        self._output.close({"rows": text.rows, "bytes": text.size, "xxh3": text.digest} if table else facts or {})
        return text

    def _pass_on(self) -> None:
        whole, self._block = self._block, bytearray()
        block, self._filled = memoryview(whole)[: self._filled], 0
        self._rows += self._blocks.lines(block)
        self._digest.update(block)
        self._tail = (self._tail + bytes(block[-len(END) :]))[-len(END) :]
        self._blocks.back(whole, self._output.write(block))
