"""Which format a block of PostgreSQL's or pgBouncer's log has: found out by its first lines, and told once."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

from atalaia.collector.entries import Entries
from atalaia.collector.formats import pgbouncer, syslogged
from atalaia.collector.formats.csvlog import csvlog
from atalaia.collector.formats.format import Format
from atalaia.collector.formats.jsonlog import jsonlog
from atalaia.collector.formats.prefix import KNOWN, chosen, compile_prefix
from atalaia.collector.formats.stderr import Stderr

log = logging.getLogger("atalaia.collector")
_SAMPLE = 80  # lines
_TIME = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"
_CSV = re.compile(rf'^{_TIME}\.\d{{3}} [A-Za-z0-9+:_-]+,(?:"(?:[^"]|"")*")?,(?:"(?:[^"]|"")*")?,\d+,', re.MULTILINE)
_JSON = re.compile(r'^\{"timestamp":"', re.MULTILINE)


@dataclass(slots=True)
class Auto:
    """A format that looks at each block again: a file may change when its server is configured anew.

    `name`: what the news is about. `prefix`: a log_line_prefix to be tried first.
    """

    name: str
    prefix: str | None = None
    zone: str | None = None
    _told: set[str] = field(default_factory=set)

    def __call__(self, block: bytes, now: int, labels: Mapping[str, str]) -> Entries:
        """See Format."""
        found = self.detect(block)
        if found is None:
            form: Format = Stderr(chosen(self.prefix), self.zone)
        else:
            told, form = found
            if told not in self._told:
                self._told.add(told)
                log.info("event=format_found job=%s %s", self.name, told)
        return form(block, now, labels)

    def detect(self, block: bytes) -> tuple[str, Format] | None:
        """The format of a block, with how it is told; None when no line of it tells."""
        end = 0
        for _ in range(_SAMPLE):
            end = block.find(b"\n", end) + 1
            if not end:
                end = len(block)
                break
        text = block[:end].decode()
        if _JSON.search(text):
            return "format=jsonlog", jsonlog
        if _CSV.search(text):
            return "format=csvlog", csvlog
        lines = pa.array(text.split("\n")[:-1], pa.utf8())
        if not len(lines):
            return None
        header = pc.extract_regex(lines, syslogged.PATTERN)
        ours = pc.fill_null(pc.starts_with(pc.struct_field(header, "program"), "postgres"), False)
        if pc.any(ours).as_py():
            rows = header.filter(ours)
            length = pc.binary_length(rows.field("header")).to_pylist()
            behind = [line[size:] for line, size in zip(lines.filter(ours).to_pylist(), length, strict=True)]
            prefix = self._prefix(pa.array(behind, pa.utf8())) or ""
            return f"format=syslog log_line_prefix={prefix!r}", syslogged.Syslogged(Stderr(chosen(prefix), self.zone))
        if pc.any(pc.match_substring_regex(lines, pgbouncer.PATTERN)).as_py():
            return "format=pgbouncer", pgbouncer.PgBouncer(self.zone)
        known = self._prefix(lines)
        if known is None:
            return None
        return f"format=stderr log_line_prefix={known!r}", Stderr(chosen(known), self.zone)

    def _prefix(self, lines: pa.Array) -> str | None:
        """The log_line_prefix that most of the lines have; of equals the longest."""
        best, score = None, (0, 0)
        for text in dict.fromkeys([*([] if self.prefix is None else [self.prefix]), *KNOWN]):
            prefix = compile_prefix(text)
            found = pc.extract_regex(lines, prefix.pattern).drop_null()
            if not len(found):
                continue
            # What a person has given wins over a guess, and what says more over what says less: behind %q nothing is
            # said as long as there are no sessions.
            always, _, sessions = text.partition("%q")
            names = set(prefix.names) - set(compile_prefix(always).names)
            said = any(pc.any(pc.not_equal(pc.struct_field(found, name), "")).as_py() for name in names)
            length = 1000 if text == self.prefix else len(always) + said * len(sessions)
            if (len(found), length) > score:
                best, score = text, (len(found), length)
        return best
