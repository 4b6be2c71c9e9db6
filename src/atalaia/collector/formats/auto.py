"""Which format a block of PostgreSQL's or pgBouncer's log has: found out by its first lines, and told once."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache

from atalaia.collector.entries import Entries
from atalaia.collector.formats import pgbouncer, syslogged
from atalaia.collector.formats.csvlog import csvlog
from atalaia.collector.formats.format import Format
from atalaia.collector.formats.jsonlog import jsonlog
from atalaia.collector.formats.prefix import KNOWN, chosen, compile_prefix
from atalaia.collector.formats.stderr import Stderr

log = logging.getLogger("atalaia.collector")
_SAMPLE = 80  # lines
_LONGEST = 300  # characters of a line that are looked at
_TIME = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"
_CSV = re.compile(rf'^{_TIME}\.\d{{3}} [A-Za-z0-9+:_-]+,(?:"(?:[^"]|"")*")?,(?:"(?:[^"]|"")*")?,\d+,', re.MULTILINE)
_SYSLOG, _PGBOUNCER = re.compile(syslogged.PATTERN), re.compile(pgbouncer.PATTERN)
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
        # Python's own expressions here: RE2 would be made anew for each of the few lines that a quiet file has.
        lines = [line[:_LONGEST] for line in text.split("\n")[:-1]]
        headers = [match for line in lines if (match := _SYSLOG.match(line))]
        behind = [match.string[match.end() :] for match in headers if match["program"].startswith("postgres")]
        if behind:
            prefix = self._prefix(behind) or ""
            return f"format=syslog log_line_prefix={prefix!r}", syslogged.Syslogged(Stderr(chosen(prefix), self.zone))
        if any(_PGBOUNCER.match(line) for line in lines):
            return "format=pgbouncer", pgbouncer.PgBouncer(self.zone)
        known = self._prefix(lines)
        if known is None:
            return None
        return f"format=stderr log_line_prefix={known!r}", Stderr(chosen(known), self.zone)

    def _prefix(self, lines: list[str]) -> str | None:
        """The log_line_prefix that most of the lines have; of equals the longest."""
        best, score = None, (0, 0)
        for text in dict.fromkeys([*([] if self.prefix is None else [self.prefix]), *KNOWN]):
            pattern = _compiled(text)
            found = [match for line in lines if (match := pattern.match(line))]
            if not found:
                continue
            # What a person has given wins over a guess, and what says more over what says less: behind %q nothing is
            # said as long as there are no sessions.
            always, _, sessions = text.partition("%q")
            names = set(pattern.groupindex) - set(_compiled(always).groupindex)
            said = any(match[name] for match in found for name in names)
            length = 1000 if text == self.prefix else len(always) + said * len(sessions)
            if (len(found), length) > score:
                best, score = text, (len(found), length)
        return best


@cache
def _compiled(prefix: str) -> re.Pattern[str]:
    return re.compile(compile_prefix(prefix).pattern)
