"""Promtail's positions file, taken over once: where its files were read to, so that nothing is collected twice.

The format: YAML, `positions: {path: "offset"}`; `journal-JOB` has a cursor, `cursor-KEY` a time, and for a compressed
file the offset counts its lines.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from atalaia.collector.listeners import docker_place, journal, records
from atalaia.collector.listeners.opening import spool_directory
from atalaia.collector.plan import Job, Plan
from atalaia.collector.reading import identity
from atalaia.collector.reading.contents import KINDS, Content
from atalaia.collector.reading.identity import Known
from atalaia.collector.reading.positions import Positions
from atalaia.collector.reading.tails import content_of
from atalaia.environment.errors import ConfigurationError, InputError
from atalaia.environment.state import write_atomically
from atalaia.environment.yamlfile import Reader, read_text

log = logging.getLogger("atalaia.collector")
_PIECE = 1 << 20
_BACK = 1 << 20  # bytes in which the beginning of a line is sought


@dataclass(frozen=True, slots=True)
class Recorded:
    """What a positions file holds: `offsets` by path, journal cursors by job, times (s) by a container's id."""

    offsets: Mapping[str, int] = field(default_factory=dict)
    journals: Mapping[str, str] = field(default_factory=dict)
    cursors: Mapping[str, str] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.offsets or self.journals or self.cursors)


def parse(path: Path, text: str) -> Recorded:
    """A positions file's text. Raises InputError when it is none."""
    reader = Reader(path)
    try:
        found = reader.texts(
            reader.mapping(reader.load(text), "the positions file", {"positions"}).get("positions"), "positions"
        )
    except ConfigurationError as error:
        raise _damaged(path, error.problems[0].message) from error
    offsets, journals, cursors = {}, {}, {}
    for key, value in found.items():
        if key.startswith("journal-"):
            journals[key.removeprefix("journal-")] = value or ""
        elif key.startswith("cursor-"):
            cursors[key.removeprefix("cursor-")] = value or ""
        elif value is None or not (value.isascii() and value.isdigit()):
            reader.problems.clear()
            raise _damaged(path, f"the position of {key} is {value!r}")
        else:
            offsets[key] = int(value)
    if reader.problems:
        raise _damaged(path, reader.problems[0].message)
    return Recorded(offsets, journals, cursors)


def _damaged(path: Path, why: str) -> InputError:
    remedy = "correct it, move it away to read all files anew, or set positions.ignore_invalid_yaml: true"
    return InputError(f"Promtail's positions in {path} cannot be taken over: {why}", remedy)


def recorded(path: Path, ignore_invalid: bool = False) -> Recorded:
    """What Promtail recorded; nothing without a file. Raises InputError when it cannot be read or is damaged."""
    if not path.exists():
        return Recorded()
    try:
        return parse(path, read_text(path))
    except InputError as error:
        if not ignore_invalid:
            raise
        log.warning("event=promtail_positions_ignored file=%s reason=%r", path, error.what)
        return Recorded()


def enter(plan: Plan, found: Recorded, place: Path) -> int:
    """Begin our positions file at `place` with what Promtail recorded of the plan's files; how many there are.

    A file that is shorter than what was read of it is another one, and is left to be read from its beginning.
    """
    known: list[Known] = []
    for path, offset in found.offsets.items():
        for job in plan.jobs:
            if offset and any(target.names(path) for target in job.targets):
                try:
                    known.append(_known(job, path, offset))
                except OSError as error:
                    log.warning("event=promtail_position_unusable file=%s reason=%r", path, str(error))
    kept = Positions(place)
    try:
        for one in known:
            kept.put(one)
        if not kept.save():
            remedy = "allow writing there, or name another place: positions: {filename: FILE}"
            raise InputError(f"Promtail's positions cannot be taken over: {place} cannot be written", remedy)
    finally:
        kept.close()
    log.info("event=promtail_positions_taken files=%d of=%d", len(known), len(found.offsets))
    return len(known)


def enter_cursors(plan: Plan, found: Recorded) -> int:
    """Begin the spools of journal and Docker jobs with where Promtail stood; how many there are. See Spool.cursors.

    Promtail kept whole seconds of a container: lines of its last second come again.
    """
    containers = {
        docker_place.source(container, stream): docker_place.Place(int(moment) * 1_000_000_000).cursor()
        for container, moment in found.cursors.items()
        for stream in ("stdout", "stderr")
        if moment.isascii() and moment.isdigit()
    }
    begun = 0
    for job in plan.jobs:
        place = spool_directory(plan.positions, job.name)
        if job.listen is None or place.exists():
            continue
        journals = [cursor for name, cursor in found.journals.items() if job.name in (name, f"{name} journal")]
        cursors = containers | ({journal.SOURCE: journals[0]} if journals else {})
        if cursors:
            with contextlib.suppress(OSError):  # who opens the spool tells why it cannot be written
                place.mkdir(parents=True)
                write_atomically(place / "00000001.jsonl", records.state(cursors).decode())
                begun += 1
    return begun


def _known(job: Job, path: str, recorded_at: int) -> Known:
    kind = KINDS.get(job.decompression.format or Path(path).suffix[1:]) if job.decompression is not None else None
    content = content_of(os.open(path, os.O_RDONLY | os.O_CLOEXEC), kind)
    try:
        known = identity.begin(job.name, path, os.fstat(content.descriptor), content.read)
        at = _behind(content, recorded_at) if kind else _line_begin(content, recorded_at)
        size = min(at, identity.SPAN)
        return identity.moved(known, at, identity.crc(content.read(size, at - size)))
    finally:
        content.close()


def _line_begin(content: Content, offset: int) -> int:
    """The offset, or the beginning of the line that it stands in. OSError when the file is shorter."""
    if offset > content.size():
        raise OSError(f"it has {content.size()} bytes only: it is another file")
    start = max(0, offset - _BACK)
    before = content.read(offset - start, start)
    # The file may not have been written in UTF-8: the byte of a newline ends no line there, and is left alone.
    if b"\0" in before[-2:]:
        return offset
    found = before.rfind(b"\n") + 1
    return start + found if found or not start else offset


def _behind(content: Content, lines: int) -> int:
    """Where the line behind the first so many begins; the end when there are fewer."""
    at = 0
    while data := content.read(_PIECE, at):
        here = data.count(b"\n")
        if here >= lines:
            ends = [match.end() for match in itertools.islice(re.finditer(b"\n", data), lines)]
            return at + ends[-1]
        at += len(data)
        lines -= here
    return at
