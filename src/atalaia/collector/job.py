"""A job: which files are read, how their bytes become entries, and which stages those pass."""

from __future__ import annotations

import glob
import itertools
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from atalaia.collector import lines, postgres
from atalaia.collector.entries import Entries
from atalaia.environment.connection import Connection

Parser = Callable[[bytes, int, Mapping[str, str]], Entries]
Stage = Callable[[Entries], Entries]


def plain(block: bytes, now: int, labels: Mapping[str, str]) -> Entries:
    """One entry a line, at the time of reading."""
    found = lines.split(block)
    return Entries(found, np.full(len(found), now, np.int64), labels)


PARSERS: dict[str, Parser] = {"plain": plain, "jsonlog": postgres.jsonlog, "stderr": postgres.stderr}


@dataclass(frozen=True, slots=True)
class Target:
    """Files of one glob (`**`, `{a,b}` as Promtail's) without those of `exclude`, and the labels of their entries."""

    pattern: str
    labels: Mapping[str, str]
    exclude: str | None = None

    def names(self, path: str) -> bool:
        """Whether the glob matches `path`."""
        return any(re.fullmatch(translate(pattern), path) for pattern in _alternatives(self.pattern))

    def paths(self) -> list[str]:
        """The regular files that match now, sorted."""
        excluded = re.compile("|".join(translate(p) for p in _alternatives(self.exclude))) if self.exclude else None
        found = itertools.chain.from_iterable(
            glob.iglob(pattern, recursive=True, include_hidden=True) for pattern in _alternatives(self.pattern)
        )
        return sorted({p for p in found if os.path.isfile(p) and not (excluded and excluded.fullmatch(p))})


def _alternatives(pattern: str) -> list[str]:
    """`a{b,c}` -> ab, ac."""
    match = re.search(r"\{([^{}]*)\}", pattern)
    if not match:
        return [pattern]
    return [
        done
        for word in match[1].split(",")
        for done in _alternatives(pattern[: match.start()] + word + pattern[match.end() :])
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
            text += piece.replace("[!", "[^", 1) if piece.startswith("[") else re.escape(piece)
    return text


@dataclass(frozen=True, slots=True)
class Job:
    """`parser` is a key of PARSERS; `filename` tells whether entries get the path as a label, as Promtail's do."""

    name: str
    targets: tuple[Target, ...]
    parser: str = "plain"
    stages: tuple[Stage, ...] = ()
    filename: bool = True

    def labels_of(self, target: Target, path: str) -> dict[str, str]:
        """The labels that entries of a file begin with."""
        return {**target.labels, "filename": path} if self.filename else dict(target.labels)

    def entries(self, block: bytes, now: int, labels: Mapping[str, str]) -> Entries:
        """The entries of a valid UTF-8 block of whole lines read at `now` (ns), through all stages."""
        entries = PARSERS[self.parser](block, now, labels)
        for stage in self.stages:
            entries = stage(entries)
        return entries


@dataclass(frozen=True, slots=True)
class Output:
    """Where entries go: the push address of a Loki or of Atalaia's store. Times in seconds.

    `trust`: an environment's own way in, in place of the other credentials.
    """

    url: str
    tenant: str | None = None
    external_labels: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    basic_auth: tuple[str, str] | None = None
    bearer_token: str | None = None
    timeout: float = 10.0
    min_backoff: float = 0.5
    max_backoff: float = 300.0
    trust: Connection | None = None

    @property
    def base(self) -> str:
        """The server's address without the path of its push."""
        return re.sub(r"/(loki/api/v1|api/prom)/push/?$", "", self.url)


@dataclass(frozen=True, slots=True)
class Plan:
    """All that one collector does. `max_line_size` in bytes, `clock_ahead` in nanoseconds."""

    jobs: tuple[Job, ...]
    output: Output
    positions: Path
    max_line_size: int = 256 << 10
    clock_ahead: int = 86_400_000_000_000
