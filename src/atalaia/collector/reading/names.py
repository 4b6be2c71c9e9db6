"""Names of files: which folders a glob looks into, and which names a rotation gives."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from atalaia.collector.plan import Job, Target, alternatives, translate

_MAGIC = re.compile(r"[*?\[]")
_SUFFIX = re.compile(r"\.(?:gz|bz2|xz|zst|zstd|z)$", re.IGNORECASE)
_NUMBERS = re.compile(r"(?:[.-]\d+)+$")


def folders(target: Target) -> Iterator[str]:
    """Each folder in which a name that comes or goes may change what the glob finds; the nearest one that exists."""
    for pattern in alternatives(target.pattern):
        parts = pattern.split("/")
        plain = next((i for i, part in enumerate(parts) if _MAGIC.search(part)), len(parts) - 1)
        base = "/".join(parts[:plain]) or ("/" if pattern.startswith("/") else ".")
        while not os.path.isdir(base) and os.path.dirname(base) not in ("", base):
            base = os.path.dirname(base)
        yield base
        for depth in range(plain + 1, len(parts)):
            found = glob.iglob("/".join(parts[:depth]) + "/", recursive=True, include_hidden=True)
            yield from (folder.rstrip("/") or "/" for folder in found)


@dataclass(frozen=True, slots=True)
class Matcher:
    """All jobs' globs, compiled: which targets name a path."""

    any: re.Pattern[str]
    each: Sequence[tuple[Job, Target, re.Pattern[str], re.Pattern[str] | None]]

    def targets(self, path: str) -> list[tuple[Job, Target]]:
        """The first target of each job that names `path`."""
        if not self.any.fullmatch(path):
            return []
        found: dict[str, tuple[Job, Target]] = {}
        for job, target, wanted, excluded in self.each:
            if job.name not in found and wanted.fullmatch(path) and not (excluded and excluded.fullmatch(path)):
                found[job.name] = job, target
        return list(found.values())


def matcher(jobs: Iterable[Job]) -> Matcher:
    """The globs of these jobs as they are now."""
    each = []
    for job in jobs:
        for target in job.targets:
            excluded = re.compile(_regex(target.exclude)) if target.exclude else None
            each.append((job, target, re.compile(_regex(target.pattern)), excluded))
    return Matcher(re.compile("|".join(dict.fromkeys(one[2].pattern for one in each)) or "(?!)"), each)


def _regex(pattern: str) -> str:
    return "|".join(translate(one) for one in alternatives(pattern))


def base(name: str) -> str:
    """The name that a file had before it was rotated, as far as one can tell: a.log.2.gz -> a.log."""
    return _NUMBERS.sub("", _SUFFIX.sub("", name))


def origins(name: str) -> set[str]:
    """The names that a file may have had before a rotation gave it this one.

    Those that it begins with (a.log.1, a.log-20240101, a.log1, a.log.1.gz), and those with the same extension
    (a-20240101.log). What was added begins with a mark, or is a number: 10.log was never 1.log.
    """
    plain = _SUFFIX.sub("", name)
    stem, extension = os.path.splitext(plain)
    found = {name[:end] for end in range(1, len(name)) if not name[end].isalnum() or _numbered(name, end)}
    return (
        found | {name, base(name)} | {stem[:end] + extension for end in range(1, len(stem)) if not stem[end].isalnum()}
    )


def _numbered(name: str, end: int) -> bool:
    rest = _SUFFIX.sub("", name[end:])
    return rest.isdigit() and name[end - 1].isalpha()
