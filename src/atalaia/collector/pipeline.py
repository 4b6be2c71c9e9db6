"""A block of lines through its job's format and stages, up to what waits for lines that are not there yet."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from atalaia.collector import lines
from atalaia.collector.entries import Effect, Entries
from atalaia.collector.formats import spool
from atalaia.collector.formats.csvlog import csvlog
from atalaia.collector.formats.format import Format
from atalaia.collector.formats.jsonlog import jsonlog
from atalaia.collector.formats.pgbouncer import PgBouncer
from atalaia.collector.formats.redact import WithoutPasswords
from atalaia.collector.formats.stderr import stderr
from atalaia.collector.meters import Meters
from atalaia.collector.plan import Job


def plain(block: bytes, now: int, labels: Mapping[str, str]) -> Entries:
    """One entry a line, at the time of reading."""
    found = lines.split(block)
    return Entries(found, np.full(len(found), now, np.int64), labels)


FORMATS: dict[str, Format] = {
    "plain": plain,
    "jsonlog": WithoutPasswords(jsonlog),
    "csvlog": WithoutPasswords(csvlog),
    "stderr": WithoutPasswords(stderr),
    "pgbouncer": PgBouncer(),
}


ALL = 1 << 62  # a line behind all others


@dataclass(frozen=True, slots=True)
class Taken:
    """The entries of a block. `lines`: how many of its lines they were made of; the others are to be read again."""

    entries: Entries
    lines: int


def run(job: Job, block: bytes, now: int, labels: Mapping[str, str], flush: int = 0) -> Taken:
    """The entries of a valid UTF-8 block of whole lines, read at `now` (ns), behind all stages of the job.

    `flush`: an entry whose lines are all before this one waits for no further lines (ALL: none does). Effects of the
    stages are not applied yet: see `settle`.
    """
    if job.format == "spool":
        # The labels of what a listener received are known line by line.
        entries = replace(spool.records(block, labels, job.relabel), flush=flush)
    else:
        form = FORMATS[job.format] if isinstance(job.format, str) else job.format
        entries = replace(form(block, now, labels), flush=flush)
    if entries.held is not None and flush >= lines.count(block):
        entries = replace(entries, held=None)  # what the format held back has waited long enough
    # As Promtail does it: stages find the labels that an entry begins with among the extracted values.
    entries = replace(entries, extracted={**entries.labels, **entries.extracted})
    for stage in job.stages:
        entries = stage(entries)
    if entries.held is None:
        return Taken(entries, lines.count(block))
    held = _border(entries, entries.held)
    return Taken(entries.filter(entries.last_lines < held), held)


def _border(entries: Entries, held: int) -> int:
    """The last line at or before `held` that no entry goes across."""
    first, last = entries.first_lines, entries.last_lines
    while len(across := first[(first < held) & (last >= held)]):
        held = int(across.min())
    return held


def settle(taken: Taken, meters: Meters) -> None:
    """Apply what the stages do besides (counting), for the lines that were taken."""
    effects: tuple[Effect, ...] = taken.entries.effects
    for effect in effects:
        mask = effect.lines < taken.lines
        if mask.any():
            effect.apply(meters, mask)
