"""The plan of a collector: its jobs (what is read, as which format, through which stages) and its outputs."""

from __future__ import annotations

import glob
import itertools
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from atalaia.collector.formats.format import Format
from atalaia.collector.outputs.access import Access
from atalaia.collector.stages.stage import Stage, Waiting
from atalaia.environment.connection import Connection

if TYPE_CHECKING:
    from atalaia.collector.listeners.listener import Opener


@dataclass(frozen=True, slots=True)
class Target:
    """Files of one glob (`**`, `{a,b}` as Promtail's) without those of `exclude`, and the labels of their entries."""

    pattern: str
    labels: Mapping[str, str]
    exclude: str | None = None

    def names(self, path: str) -> bool:
        """Whether the glob matches `path`."""
        return any(re.fullmatch(translate(pattern), path) for pattern in alternatives(self.pattern))

    def paths(self) -> list[str]:
        """The regular files that match now, sorted."""
        return [path for path in self.found() if os.path.isfile(path)]

    def found(self) -> list[str]:
        """All that matches now, folders and devices as well, sorted."""
        excluded = re.compile("|".join(translate(p) for p in alternatives(self.exclude))) if self.exclude else None
        found = itertools.chain.from_iterable(
            glob.iglob(pattern, recursive=True, include_hidden=True) for pattern in alternatives(self.pattern)
        )
        return sorted({p for p in found if not (excluded and excluded.fullmatch(p))})


def alternatives(pattern: str) -> list[str]:
    """`a{b,c}` -> ab, ac."""
    match = re.search(r"\{([^{}]*)\}", pattern)
    if not match:
        return [pattern]
    return [
        done
        for word in match[1].split(",")
        for done in alternatives(pattern[: match.start()] + word + pattern[match.end() :])
    ]


def translate(pattern: str) -> str:
    """A glob as a regular expression: `**` crosses folders, `*` and `?` do not."""
    text = ""
    for piece in re.findall(r"\*\*/?|\*|\?|\[[^\]]*\]|.", pattern):
        if piece == "**/":
            text += "(?:.*/)?"
        elif piece == "**":
            text += ".*"
        elif piece == "*":
            text += "[^/]*"
        elif piece == "?":
            text += "[^/]"
        else:
            text += _class(piece) if piece.startswith("[") else re.escape(piece)
    return text


def _class(piece: str) -> str:
    """`[!a-z]` of a glob as a regular expression's."""
    inner = piece[1:].replace("[", "\\[")
    return "[" + (f"^{inner[1:]}" if inner.startswith("!") else inner)


_RECORD = 32 << 20  # bytes

# Changes the labels of a target or a received entry; None: it is not collected. Pure: called once a distinct set.
Relabel: TypeAlias = "Callable[[Mapping[str, str]], Mapping[str, str] | None]"


@dataclass(frozen=True, slots=True)
class Decompression:
    """Files of a job are compressed: as `format` (gz, bz2, z, xz, zst) or, without one, as their names say.

    `delay`: seconds that a new file is left alone, so that its writer can finish.
    """

    format: str | None = None
    delay: float = 0.0


@dataclass(frozen=True, slots=True)
class Job:
    """`format`: a key of pipeline.FORMATS, or a format itself. `filename`: whether entries get the path as a label.

    `targets` may change while the collector runs (file_sd_configs): go through them anew at each look for files; there
    may be none. `wait`: seconds without news after which a last record that may have more lines is taken as complete.
    `listen`: what receives the entries of a job that reads a spool (see listeners/opening.py); None: it reads files.
    """

    name: str
    targets: Sequence[Target]
    format: str | Format = "plain"
    stages: tuple[Stage, ...] = ()
    filename: bool = True
    relabel: Relabel | None = None
    encoding: str | None = None
    decompression: Decompression | None = None
    wait: float = 1.0
    listen: Opener | None = None

    def labels_of(self, target: Target, path: str) -> dict[str, str]:
        """The labels that entries of a file begin with."""
        return {**target.labels, "filename": path} if self.filename else dict(target.labels)

    @property
    def patience(self) -> float:
        """Seconds without news after which what a format or a stage holds back is complete."""
        return max([self.wait, *(stage.wait for stage in self.stages if isinstance(stage, Waiting))])

    @property
    def resumes(self) -> bool:
        """Whether a stop leaves what a stage waits for in its file, where the next start finds the whole of it."""
        return self.format != "spool" and any(stage.wait > 0 for stage in self.stages if isinstance(stage, Waiting))


@dataclass(frozen=True, slots=True)
class Output:
    """Where entries go: the push address of a Loki or of Atalaia's store. Times in seconds, sizes in bytes.

    `name` tells several outputs apart. `trust`: an environment's own way in, in place of `access`. `max_retries`: how
    often a Loki is asked before a batch is given up; None: until it takes it. `format`: protobuf or json.
    """

    url: str
    tenant: str | None = None
    external_labels: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    access: Access = field(default_factory=Access)
    timeout: float = 10.0
    min_backoff: float = 0.5
    max_backoff: float = 5.0
    trust: Connection | None = None
    name: str = ""
    batch_wait: float = 1.0
    batch_size: int = 1 << 20
    max_retries: int | None = None
    drop_rate_limited: bool = False
    format: str = "protobuf"

    @property
    def base(self) -> str:
        """The server's address without the path of its push."""
        return re.sub(r"/(loki/api/v1|api/prom)/push/?$", "", self.url)


@dataclass(frozen=True, slots=True)
class Limits:
    """`rate`: how many lines a second are read, None for any number; `burst` of them at once.

    Lines beyond wait in their files, or are dropped and counted where that was asked for (`drop`).
    """

    rate: float | None = None
    burst: int = 10_000
    drop: bool = False


@dataclass(frozen=True, slots=True)
class Server:
    """The collector's own HTTP server. `port` 0 takes any; an empty `address` is every one.

    `prefix` stands before each path. `reload`: whether POST /reload reads the configuration again.
    `ready_when_reading`: whether /ready says no until a file is read, as Promtail's does.
    """

    address: str = ""
    port: int = 80
    prefix: str = ""
    reload: bool = False
    metrics: bool = True
    ready_when_reading: bool = True
    certificate: Path | None = None
    key: Path | None = None
    client_ca: Path | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """All that one collector does. `max_line_size` in bytes, `clock_ahead` in nanoseconds.

    `spool_size`: bytes that each listener's spool may have.

    `server`: None for no HTTP server. `stdin`: the labels of standard input, which the first job reads, and with which
    the collector ends; None: files and listeners.
    """

    jobs: tuple[Job, ...]
    outputs: tuple[Output, ...]
    positions: Path
    max_line_size: int = 256 << 10
    clock_ahead: int = 86_400_000_000_000
    limits: Limits = Limits()
    server: Server | None = None
    stdin: Mapping[str, str] | None = None
    spool_size: int = 1 << 30

    def longest(self, job: Job) -> int:
        """Bytes of a file's line that are read. A spool's record is longer than its line, which alone is cut."""
        return _RECORD if job.format == "spool" else self.max_line_size
