"""Archives of pg_dump (-Fc, -Ft, -Fd): what a terminal did to one, and its SQL text, as pg_restore writes it."""

from __future__ import annotations

import contextlib
import re
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from atalaia.backup.inspecting.recognise import ARCHIVE
from atalaia.backup.inspecting.source import BLOCK, Source
from atalaia.environment.errors import AtalaiaError, InputError
from atalaia.postgres.binaries import Installation, available
from atalaia.postgres.tools import run, variables

_MESSAGE = re.compile(rb"pg_dump: (?:warning|error|detail|hint|info): [\x20-\x7e\x80-\xff]{1,2000}\n")
ENOUGH = 8  # line ends; that so many bytes 10 all follow a 13 by chance has the probability 256^-8
# No fault of the archive: this pg_restore was built without the library.
_UNABLE = re.compile(r"does not support|not supported by this build|unsupported version|requires? .* support")
_DATA = re.compile(r"^(\d+); \d+ \d+ (TABLE DATA|BLOBS|BLOB METADATA) (.*)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Damage:
    """What was done to an archive: `ends` CRLF among all its `lines` LF, messages on standard error within it.

    `head` bytes stand before its beginning.
    """

    ends: int
    lines: int
    head: int
    messages: tuple[str, ...]
    replaced: bool

    @property
    def terminal(self) -> bool:
        """Whether a terminal wrote it."""
        return self.lines >= ENOUGH and self.ends == self.lines

    @property
    def repairable(self) -> bool:
        """Whether there is something to take out again."""
        return self.terminal or bool(self.messages) or self.head > 0


def examine(source: Source) -> Damage:
    """Read an archive through."""
    lines = ends = replaced = 0
    head = source.head()
    terminal = b"\r\n" in head and head.count(b"\n") == head.count(b"\r\n")
    plain = head.replace(b"\r\n", b"\n") if terminal else head
    begin = max(0, plain.find(ARCHIVE)) if not head.startswith(b"toc.dat") else 0
    messages: list[str] = [line.decode(errors="replace") for line in plain[:begin].split(b"\n") if line.strip()]
    last = b""
    for block in source.blocks():
        lines += block.count(b"\n")
        ends += block.count(b"\r\n") + (last == b"\r" and block.startswith(b"\n"))
        replaced += block.count(b"\xef\xbf\xbd")
        last = block[-1:]
        if b"pg_dump: " in block:
            text = block.replace(b"\r\n", b"\n") if terminal else block
            messages += [found[0].decode(errors="replace").strip() for found in _MESSAGE.finditer(text)]
    return Damage(ends, lines, begin, tuple(dict.fromkeys(messages)), replaced > max(4, source.size // 100))


def repaired(source: Source, damage: Damage) -> Iterator[bytes]:
    """The archive's bytes without what a terminal and standard error added."""
    head, carry = damage.head, b""
    for block in source.blocks():
        data = carry + block
        # A CR, or the beginning of a message, may be at the end of a block.
        at = data.rfind(b"pg_dump: ") if damage.messages else -1
        keep = len(data) - at if 0 <= len(data) - at <= 4096 and at >= 0 and b"\n" not in data[at:] else 16
        data, carry = data[:-keep], data[-keep:]
        if data.endswith(b"\r"):
            data, carry = data[:-1], b"\r" + carry
        text, head = _clean(data, damage, head)
        yield text
    text, _ = _clean(carry, damage, head)
    yield text


def _clean(data: bytes, damage: Damage, head: int) -> tuple[bytes, int]:
    if damage.terminal:
        data = data.replace(b"\r\n", b"\n")
    if head:
        data, head = data[head:], max(0, head - len(data))
    if damage.messages:
        data = _MESSAGE.sub(b"", data)
    return data, head


def installations(client_version: str) -> list[Installation]:
    """The installations whose pg_restore may read it: that of its own major first, then the newest."""
    digits = re.match(r"\d+", client_version)
    first = int(digits[0]) if digits else 0
    found = available()
    return [found[major] for major in sorted(found, key=lambda major: (major != first, -major))]


def versions(head: bytes) -> tuple[str, str]:
    """The server's and pg_dump's version in an archive's header; empty where it cannot be read."""
    found = re.findall(rb"\x00([1-9]\d?(?:\.\d+|devel|beta\d|rc\d)[^\x00]{0,60})\x00?", head[:400])
    texts = [text.decode(errors="replace").split(" ")[0] for text in found]
    return (texts[0], texts[1]) if len(texts) > 1 else ("", "")


def header(path: Path, form: str, head: bytes) -> bytes:
    """The bytes in which the versions stand."""
    if form == "directory":
        with open(path / "toc.dat", "rb") as file:
            return file.read(4096)
    return head[512:] if form == "tar" else head


def missing(path: Path, installation: Installation) -> list[str]:
    """Which data files a -Fd folder lacks, with what was in them."""
    done = run([installation.program("pg_restore"), "-l", path])
    lacking = []
    for number, kind, what in _DATA.findall(done.stdout):
        names = (f"{number}.dat",) if kind == "TABLE DATA" else (f"blobs_{number}.toc", "blobs.toc")
        if not any((path / f"{name}{ending}").exists() for name in names for ending in ("", ".gz", ".lz4", ".zst")):
            lacking.append(f"{names[0]} ({kind} {what.rsplit(' ', 1)[0]})")
    return lacking


class Unable(AtalaiaError):
    """This pg_restore cannot read such archives; it says nothing of the archive."""


@contextlib.contextmanager
def script(
    installation: Installation, path: Path, feed: Iterator[bytes] | None
) -> Iterator[tuple[Iterator[bytes], Callable[[], str]]]:
    """pg_restore's SQL text of an archive in blocks, and what went wrong (empty: nothing), after the last block.

    `feed`: the archive's bytes, when `path` itself is damaged or compressed.
    """
    with tempfile.TemporaryFile() as errors:
        try:
            process = subprocess.Popen(
                [installation.program("pg_restore"), "--file=-", *(() if feed is not None else (path,))],
                stdin=subprocess.PIPE if feed is not None else subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=variables(),
                start_new_session=True,
            )
        except OSError as error:
            raise AtalaiaError(f"pg_restore could not be started: {error}", "see `atalaia doctor`") from error
        assert process.stdout
        feeder = threading.Thread(target=_feed, args=(process, feed), name="feed pg_restore", daemon=True)
        if feed is not None:
            feeder.start()

        def outcome() -> str:
            status = process.wait()
            errors.seek(0)
            said = errors.read(65_536).decode(errors="replace").strip()
            if status and _UNABLE.search(said):
                raise Unable(said.splitlines()[0], "install PostgreSQL of the version that made it")
            return (said.splitlines()[0] if said else f"pg_restore ended with status {status}") if status else ""

        try:
            yield iter(lambda: process.stdout.read(BLOCK), b""), outcome  # type: ignore[union-attr] # it is a pipe
        finally:
            if process.poll() is None:
                process.kill()
            process.stdout.close()
            process.wait()
            if feed is not None:
                feeder.join()


def _feed(process: subprocess.Popen[bytes], feed: Iterator[bytes] | None) -> None:
    assert process.stdin
    assert feed is not None
    with contextlib.suppress(OSError, InputError, ValueError), process.stdin:
        for block in feed:
            process.stdin.write(block)
