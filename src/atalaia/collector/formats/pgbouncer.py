"""pgBouncer's log as entries: `TIME [PID] LEVEL C-0x…: database/user@host:port message`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from atalaia.collector.entries import Entries
from atalaia.collector.formats import records, times
from atalaia.collector.formats.slices import cut, line_bounds

_LEVEL = r"(?P<level>LOG|WARNING|ERROR|FATAL|NOISE|DEBUG)"
# Before 1.15 the PID stood without brackets, and times had no zone.
PATTERN = (
    r"^(?P<prefix>(?P<local>\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}) (?:(?P<zone>[A-Za-z0-9+:_-]+) \[(?P<pid>\d+)\]|"
    rf"(?P<bare>\d+)) ){_LEVEL} (?P<text>(?:(?P<socket>[CS])-0x[0-9a-f]+: "
    r"(?P<database>[^/ ]*)/(?P<user>[^@ ]*)@(?P<host>\S*):(?P<port>\d+) )?)"
)


@dataclass(frozen=True, slots=True)
class PgBouncer:
    """The format. `zone`: where the server's zone abbreviations are meant."""

    zone: str | None = None

    def __call__(self, block: bytes, now: int, labels: Mapping[str, str]) -> Entries:
        """Entries of a valid UTF-8 block of whole lines; the line is what follows the PID. NOISE is DEBUG.

        A line of another form is an entry of its own at the time of the one before it, or `now` (ns).
        """
        starts, ends = line_bounds(block)
        lines = cut(block, starts, ends)
        if not len(lines):
            return records.plain(lines, now, labels)
        found = pc.extract_regex(lines, PATTERN)
        known = pc.is_valid(found)

        def field(name: str) -> pa.Array:
            values = pc.struct_field(found, name)
            return pc.if_else(pc.and_(known, pc.not_equal(values, "")), values, None)

        length = pc.fill_null(pc.binary_length(field("prefix")), 0).to_numpy(zero_copy_only=False)
        level = field("level")
        names = {
            "pid": pc.coalesce(field("pid"), field("bare")),
            "user": field("user"),
            "database": field("database"),
            "remote_host": field("host"),
            "remote_port": field("port"),
        }
        nobody = pa.array(["(nodb)", "(nouser)"])
        columns = {name: pc.if_else(pc.is_in(values, nobody), None, values) for name, values in names.items()}
        moments = times.parse(field("local"), field("zone"), self.zone)
        return Entries(
            cut(block, starts + length.astype(np.int64), ends),
            times.filled(moments, now),
            {**labels, "severity": pc.if_else(pc.equal(level, "NOISE"), "DEBUG", level)},
            metadata=records.metadata(columns),
        )
