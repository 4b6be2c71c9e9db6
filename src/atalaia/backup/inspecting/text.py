"""Reads a normalised text once: takes stray lines out, splits the rest into pieces, sees where and how it ends."""

from __future__ import annotations

import codecs
from dataclasses import dataclass, field

from atalaia.backup.inspecting import stray
from atalaia.backup.inspecting.stray import LONGEST, Stray
from atalaia.backup.inspecting.survey import CLUSTER, DATABASE, Survey
from atalaia.backup.plain.lexer import Lexer

STATEMENT_LIMIT = 64 << 20  # bytes of one statement; more is a quote that was opened by damage
_HEAD = 1 << 16
_NEEDLE = 16  # longest of what is searched, which may be cut by the end of a block
_MANY = 10_000
_STDIO = 4096  # bytes that the C library hands on at a time to a file (setvbuf(3), st_blksize)


@dataclass(frozen=True, slots=True)
class Ending:
    """How a text ends. `whole`: with its closing line. `closing` is what is missing of a closing line that had begun.

    Else `where` says in words what was cut off; `keep` is how many bytes (without stray lines) are whole, and
    `mend` what closes them.
    """

    whole: bool
    where: str = ""
    keep: int = 0
    mend: bytes = b""
    closing: bytes = b""
    trailing: str = ""


@dataclass(slots=True)
class TextReader:
    """Feed it blocks of normalised text, then `finish`. Memory is bounded by one statement (64 MiB) and what is listed.

    `bad` is the first line that is not UTF-8, 0 if all is; `stuck` where a quote was opened that nothing closes.
    """

    survey: Survey = field(default_factory=Survey)
    strays: list[Stray] = field(default_factory=list)
    size: int = 0
    lines: int = 0
    bad: int = 0
    bad_table: str = ""
    stuck: int = -1
    beginning: int = -1
    _lexer: Lexer = field(default_factory=lambda: Lexer(inserts=True))
    _pending: bytes = b""
    _line: bytes = b""
    _line_start: int = 0
    _passed: int = 0
    _decoder: codecs.IncrementalDecoder | None = field(default_factory=lambda: codecs.getincrementaldecoder("utf-8")())

    def feed(self, block: bytes) -> None:
        """Take in the next block."""
        self._validate(block)
        data = self._pending + block if self._pending else block
        if self.beginning < 0:
            if len(data) < _HEAD:
                self._pending = data
                return
            data = self._head(data)
        self._pending = b""
        self._read(data, final=False)

    def finish(self) -> Ending:
        """No more comes: how it ends."""
        data, self._pending = self._pending, b""
        if self.beginning < 0:
            data = self._head(data)
        self._read(data, final=True)
        return self._ending()

    def _head(self, data: bytes) -> bytes:
        self.beginning = max(0, stray.first_line(data[:_HEAD]))
        if self.beginning:
            said = data[: self.beginning]
            self.strays.append(
                Stray(0, self.beginning, 1, said.decode(errors="replace").strip(), True, stray.problem(said))
            )
            self._pass_over(said)
        return data[self.beginning :]

    def _read(self, data: bytes, *, final: bool) -> None:
        """Pass `data` to the lexer without its stray lines; what cannot be judged yet waits in `_pending`."""
        done = 0
        stop = len(data) if final else max(0, len(data) - _NEEDLE)
        for at in stray.candidates(data):
            if at < done or at >= stop:
                continue
            end = data.find(b"\n", at, at + LONGEST) + 1
            behind = data.find(b"\n", end, end + LONGEST) if end else -1
            if not final and len(data) - at < 2 * LONGEST and behind < 0:
                stop = at
                break
            if not end and not (final and len(data) - at < LONGEST):
                continue  # no message is that long
            end = end or len(data)
            self._pass(data[done:at])
            done = at
            after = stray.behind(data, end) if end < len(data) else b"\\."
            judged = stray.certain(self._lexer, self._line, data[at : end - 1], after, aligned=self._aligned())
            if judged is None:
                continue
            if len(self.strays) < _MANY:
                text = data[at:end].decode(errors="replace").strip()
                problem = stray.problem(data[at:end])
                self.strays.append(Stray(self.size, self.size + end - at, self.lines + 1, text, judged, problem))
            elif judged:
                continue
            if judged:
                self._pass_over(data[at:end])
                done = end
        if done < stop:
            self._pass(data[done:stop])
            done = stop
        self._pending = data[done:]

    def _aligned(self) -> bool:
        written = self._passed - self.survey.base
        return written > 0 and written % _STDIO == 0 and any(one.certain for one in self.strays)

    def _pass_over(self, said: bytes) -> None:
        self.size += len(said)
        self.lines += said.count(b"\n")

    def _pass(self, data: bytes) -> None:
        self.size += len(data)
        self.lines += data.count(b"\n")
        newline = data.rfind(b"\n")
        if newline >= 0:
            self._line_start = self._passed + newline + 1
        self._passed += len(data)
        line = data[newline + 1 :] if newline >= 0 else self._line + data
        self._line = b"\t" * line.count(b"\t") or line[:1]  # of a line, that is all that is asked
        if self.stuck >= 0:
            return
        for piece in self._lexer.feed(data):
            self.survey.take(piece)
        if self._lexer.copying is None and len(self._lexer.rest) > STATEMENT_LIMIT:
            self.stuck = self._lexer.read
            self._lexer = Lexer()

    def _validate(self, block: bytes) -> None:
        if self._decoder is None or (block.isascii() and not self._decoder.getstate()[0]):
            return
        try:
            self._decoder.decode(block)
        except UnicodeDecodeError as error:
            self.bad = self.lines + 1 + self._pending.count(b"\n") + error.object[: error.start].count(b"\n")
            self.bad_table = self.survey.last_table
            self._decoder = None

    def _ending(self) -> Ending:
        survey, lexer = self.survey, self._lexer
        if self.stuck >= 0:
            return Ending(False, f"behind byte {self.stuck} a quote is opened that nothing closes", self.stuck)
        dump = survey.dump
        rest = lexer.rest
        if dump and dump.closed:
            trailing = rest.strip().decode(errors="replace")[:500].removeprefix("--")
            trailing = "" if trailing == "-" else trailing  # a closing comment that is cut off
            return Ending(
                True, keep=lexer.read + (len(rest) - len(rest.lstrip()) if trailing else len(rest)), trailing=trailing
            )
        if copy := lexer.copying:
            return self._in_rows(copy.text, copy.rows, copy.size)
        if dump and (closing := _closing(dump.scope, rest)):
            return Ending(False, "in its closing line, behind all data", lexer.read + len(rest), b"", closing)
        text = rest.strip()
        if not text or text.startswith(b"--"):
            return Ending(False, f"between two statements, at line {self.lines}", lexer.read)
        first = text.split(b"\n")[0][:80].decode(errors="replace")
        return Ending(False, f"in the statement `{first}…`", lexer.read)

    def _in_rows(self, copy: bytes, rows: int, size: int) -> Ending:
        # Line ends so far: the one behind the COPY statement, and one a whole row. What follows the last is cut off.
        whole = rows + self._lexer.rest.count(b"\n") - 1
        self.survey.rows(copy, max(0, whole), size)
        where = f"in the rows of the table {self.survey.last_table}, of which {max(0, whole)} are whole"
        if whole < 0:  # not even the line of the COPY statement itself is
            return Ending(False, where, self._passed, b"\n\\.\n\n")
        return Ending(False, where, self._line_start, b"\\.\n\n")


def _closing(scope: str, rest: bytes) -> bytes:
    """What is missing of the closing line that `rest` begins, if it does for certain."""
    line = (CLUSTER if scope == "cluster" else DATABASE) + b" complete\n--\n\n"
    text = rest.lstrip()
    certain = len(b"-- PostgreSQL database c")
    for begun in (text, text[text.find(b"\n-- Postgre") + 1 :]):
        if len(begun) >= certain and line.startswith(begun):
            return line[len(begun) :]
    return b""
