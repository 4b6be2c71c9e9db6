"""The plan of a collector: its jobs (what is read, as which format, through which stages) and its outputs."""

from __future__ import annotations

import glob
import itertools
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from atalaia.collector.formats.format import Format
from atalaia.collector.stages.stage import Stage, Waiting
from atalaia.environment.connection import Connection


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


# Changes the labels of a target or a received entry; None: it is not collected. Pure: called once a distinct set.
Relabel: TypeAlias = "Callable[[Mapping[str, str]], Mapping[str, str] | None]"


@dataclass(frozen=True, slots=True)
class Job:
    """`format` is a key of pipeline.FORMATS, or a format itself.

    `filename`: whether entries get the path as a label, as Promtail's do.
    `wait`: seconds without news after which a last record that may have more lines is taken as complete.
    """

    name: str
    targets: tuple[Target, ...]
    format: str | Format = "plain"
    stages: tuple[Stage, ...] = ()
    filename: bool = True
    relabel: Relabel | None = None
    encoding: str | None = None
    wait: float = 1.0

    def labels_of(self, target: Target, path: str) -> dict[str, str]:
        """The labels that entries of a file begin with."""
        return {**target.labels, "filename": path} if self.filename else dict(target.labels)

    @property
    def patience(self) -> float:
        """Seconds without news after which what a format or a stage holds back is complete."""
        return max([self.wait, *(stage.wait for stage in self.stages if isinstance(stage, Waiting))])


@dataclass(frozen=True, slots=True)
class Output:
    """Where entries go: the push address of a Loki or of Atalaia's store. Times in seconds.

    `name` tells several outputs apart. `trust`: an environment's own way in, in place of the other credentials.
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
    name: str = ""

    @property
    def base(self) -> str:
        """The server's address without the path of its push."""
        return re.sub(r"/(loki/api/v1|api/prom)/push/?$", "", self.url)


@dataclass(frozen=True, slots=True)
class Plan:
    """All that one collector does. `max_line_size` in bytes, `clock_ahead` in nanoseconds."""

    jobs: tuple[Job, ...]
    outputs: tuple[Output, ...]
    positions: Path
    max_line_size: int = 256 << 10
    clock_ahead: int = 86_400_000_000_000
