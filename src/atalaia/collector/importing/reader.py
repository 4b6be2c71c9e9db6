"""A text in pieces of whole entries: what the importer pushes, and where in the text each piece ends."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import tzinfo

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from atalaia.collector import pipeline
from atalaia.collector.formats.csvlog import csvlog
from atalaia.collector.formats.format import Format
from atalaia.collector.formats.jsonlog import jsonlog
from atalaia.collector.importing import records
from atalaia.collector.importing.content import BLOCK, Content
from atalaia.collector.importing.document import lines_of
from atalaia.collector.importing.files import Given
from atalaia.collector.importing.kinds import KINDS
from atalaia.collector.importing.recognise import PLAIN, Recogniser
from atalaia.collector.importing.records import Block, Clock
from atalaia.collector.importing.summary import Summary
from atalaia.collector.lines import NEWLINE, cut_long, split, valid_utf8
from atalaia.collector.plan import Job
from atalaia.environment.errors import InputError
from atalaia.store.batch import Limits

FORMATS: Mapping[str, tuple[str, ...] | None] = {
    "auto": None,
    "postgresql": ("postgresql", "postgresql with a prefix"),
    "jsonlog": (),
    "csvlog": (),
    "pgbouncer": ("pgbouncer",),
    "json": ("json",),
    "logfmt": ("logfmt", "logfmt behind a time"),
    "nginx": ("nginx", "access log"),
    "apache": ("apache", "access log"),
    "syslog": tuple(name for name in KINDS if name.startswith("syslog")),
    "plain": (),
}
"""What --format takes, and the kinds of lines that are tried then (None: all)."""
_WHOLE: Mapping[str, Format] = {"jsonlog": jsonlog, "csvlog": csvlog}
_LONGEST = 32 << 20  # bytes without a newline that are taken as a line
_MARKDOWN = (".md", ".markdown")
_CSVLOG = rb"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} [A-Z0-9+-]+,(?:[^,]*,){12}"


@dataclass(frozen=True, slots=True)
class Reading:
    """How texts are to be read; see `atalaia import --help`. `since`, `until` in ns."""

    labels: Mapping[str, str]
    format: str = "auto"
    zone: tzinfo | None = None
    year: int | None = None
    since: int | None = None
    until: int | None = None


@dataclass(frozen=True, slots=True)
class Piece:
    """Whole entries, and the bytes of the text up to `end`."""

    entries: pa.Table
    end: int


@dataclass(slots=True)
class TextReader:
    """Reads one text."""

    given: Given
    reading: Reading
    summary: Summary = field(default_factory=Summary)

    def pieces(self, content: Content, done: int) -> Iterator[Piece]:
        """The entries behind the first `done` bytes. Raises InputError for what is no text."""
        form = self._form(content)
        labels = {**self.reading.labels, "filename": self.given.base}
        recogniser = Recogniser(self.given.modified, self.reading.year, FORMATS[form])
        clock = Clock(self.reading.zone, int(self.given.modified.timestamp() * 10**9))
        job = Job("import", (), format=_WHOLE[form], filename=False) if form in _WHOLE else None
        inside, carry, begun = False, b"", False
        while True:
            data = content.read()
            final = not data
            block = carry + data
            if final and not block:
                break
            end = len(block) if final else block.rfind(b"\n") + 1
            if not end and len(block) > _LONGEST:
                end = len(block)
            if not end:
                carry = block
                continue
            whole, carry = block[:end], block[end:]
            if not final and content.position + end + BLOCK <= done:
                content.took(whole)  # the blocks before the last one that is known have nothing to tell
                continue
            text, replaced = valid_utf8(whole if whole.endswith(b"\n") else whole + b"\n")
            if replaced:
                self.summary.notes["invalid bytes were replaced, in {count} places of the text (it is not UTF-8)"] += 1
            lines = split(text)
            # Where each line begins, and where the last one ends: behind its newline, also when it has none.
            ends = np.append(0, np.flatnonzero(np.frombuffer(text, np.uint8) == NEWLINE) + 1)
            if replaced:
                ends[:-1] = np.append(0, np.flatnonzero(np.frombuffer(whole, np.uint8) == NEWLINE) + 1)[: len(lines)]
            kept = np.ones(len(lines), bool)
            if job is None:
                chosen = lines_of(lines, inside, self._document)
                kept = chosen.kept
                if not begun:
                    recogniser.begin(lines.filter(pa.array(kept)).slice(0, 10_000))
                    begun = True
                rows = np.flatnonzero(kept)
                new = int(np.searchsorted(ends[rows], done - content.position)) if done > content.position else 0
                made = records.build(recogniser(lines.take(pa.array(rows))), clock, labels, new)
                held = len(made.kind) and not final and len(whole) < 4 * BLOCK
                taken = records.open_from(made) if held else len(rows)
                line = int(rows[taken]) if taken < len(rows) else len(lines)
                inside = chosen.inside(line, inside)
                self.summary.notes.update(chosen.notes(line))
            else:
                flush = pipeline.ALL if final or len(whole) >= 4 * BLOCK else 0
                found = pipeline.run(job, text, time.time_ns(), labels, flush)
                line = taken = found.lines
                kind = np.full(len(found.entries), PLAIN, np.int8)
                made = Block(found.entries, kind, np.full(len(kind), None, object))
                rows = np.arange(len(lines))
            offset = len(whole) if line == len(lines) else int(ends[line])
            carry = whole[offset:] + carry
            begin = content.position
            content.took(whole[:offset])
            if offset:
                yield Piece(self._chosen(made, taken, begin, ends, rows, done), content.position)
            if final:
                break
        self._tell(clock, recogniser, content)

    @property
    def _document(self) -> bool:
        return self.given.base.lower().endswith(_MARKDOWN)

    def _form(self, content: Content) -> str:
        """The format, told or seen in the first line."""
        if self.reading.format != "auto":
            return self.reading.format
        line = content.first_line
        if line.startswith(b"{") and b'"error_severity"' in line and b'"backend_type"' in line:
            return "jsonlog"
        if re.match(_CSVLOG, line):
            return "csvlog"
        return "auto"

    def _chosen(self, made: Block, taken: int, begin: int, ends: np.ndarray, rows: np.ndarray, done: int) -> pa.Table:
        """The entries of lines before `taken` that are new, not empty and of the time asked for."""
        entries = made.entries
        mask = entries.last_lines < taken
        if begin < done and len(mask):
            mask &= begin + ends[rows[entries.last_lines] + 1] - 1 > done
        mask &= pc.greater(pc.binary_length(entries.lines), 0).to_numpy(zero_copy_only=False)
        for bound, outside in ((self.reading.since, np.less), (self.reading.until, np.greater_equal)):
            if bound is not None and (wrong := outside(entries.ts, bound) & mask).any():
                self.summary.notes["{count} entries are not of the time asked for"] += int(wrong.sum())
                mask &= ~wrong
        chosen = Block(entries.filter(mask), made.kind[mask], made.strange[mask])
        self.summary.add(chosen)
        lines, cut = cut_long(chosen.entries.lines, Limits().line)
        if cut:
            self.summary.notes["{count} lines were longer than the store takes, and were cut"] += cut
        return pa.Table.from_batches([replace(chosen.entries, lines=lines).record_batch()])

    def _tell(self, clock: Clock, recogniser: Recogniser, content: Content) -> None:
        notes = self.summary.notes
        if content.damage:
            notes[f"it is damaged, and was read up to there: {content.damage}"] += 1
        if clock.assumed:
            notes["times without a zone were taken as UTC; --timezone says what they are"] += 1
        elif clock.ahead:
            notes[f"the times in front of the lines are {_shown(clock.ahead)} (found out from the lines' own)"] += 1
        if self.summary.entries and not recogniser.counts and recogniser.forms is None and not recogniser.capture:
            notes["no line tells a time: all have the time when the file was last changed"] += 1


def identity(reading: Reading, zone: str | None, tenant: str, first_line: bytes) -> str:
    """What names a text of this first line, read in this way."""
    import hashlib

    way = [reading.format, dict(sorted(reading.labels.items())), zone, reading.year, reading.since, reading.until]
    return hashlib.sha256(json.dumps([1, tenant, *way]).encode() + b"\n" + first_line).hexdigest()[:32]


def check_format(name: str) -> None:
    """Raises InputError for a format that is not known."""
    if name not in FORMATS:
        raise InputError(f"--format {name!r} is not known", f"there are: {', '.join(FORMATS)}")


def _shown(seconds: int) -> str:
    sign = "-" if seconds < 0 else "+"
    return f"UTC{sign}{abs(seconds) // 3600:02d}:{abs(seconds) // 60 % 60:02d}"
