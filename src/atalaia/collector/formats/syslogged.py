"""PostgreSQL's records as syslog writes them to a file: in numbered pieces (`[3-2]`), with tabs as `#011`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from atalaia.collector.entries import Entries, column, concat
from atalaia.collector.formats import records, times
from atalaia.collector.formats.slices import cut, joined, line_bounds
from atalaia.collector.formats.stderr import Stderr
from atalaia.logql.template.gotime import Layout

# RFC 3164's header as rsyslog and syslog-ng write it, or with an ISO time.
PATTERN = (
    r"^(?P<header>(?:<\d+>)?(?:(?P<short>[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d)|"
    r"(?P<iso>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d))) (?P<host>\S+) "
    r"(?P<program>[^\s\[:]*)\[(?P<pid>\d+)\]: (?:\[(?P<number>\d+)-(?P<piece>\d+)\] ?)?)"
)
# A process writes a record's pieces one after the other: few lines of others come in between.
_NEAR = 50
_SHORT, _ISO = Layout("Jan _2 15:04:05"), Layout("RFC3339Nano")


@dataclass(frozen=True, slots=True)
class Syslogged:
    """The format; `inner` reads what the server has written. Records are of programs whose name begins as `program`."""

    inner: Stderr
    program: str = "postgres"

    def __call__(self, block: bytes, now: int, labels: Mapping[str, str]) -> Entries:
        """Entries of a valid UTF-8 block of whole lines; a line of another program is an entry as it stands.

        A time that the record does not tell is the header's. The last record of each process is held back.
        """
        starts, ends = line_bounds(block)
        lines = cut(block, starts, ends)
        if not len(lines):
            return records.plain(lines, now, labels)
        found = pc.extract_regex(lines, PATTERN)
        ours = pc.fill_null(pc.starts_with(pc.struct_field(found, "program"), self.program), False)
        mine = ours.to_numpy(zero_copy_only=False)
        header = _times(found, now)
        rows, others = np.flatnonzero(mine), np.flatnonzero(~mine)
        parts = []
        if len(others):
            strays = records.plain(lines.take(pa.array(others)), now, labels, others)
            parts.append(replace(strays, ts=header[others]))
        if len(rows):
            parts.append(self._records(lines, found, rows, header, now, labels))
        whole = concat(parts)
        if len(parts) == 1:
            return whole
        ordered = whole.take(np.argsort(whole.first_lines, kind="stable"))
        return replace(ordered, held=whole.held)

    def _records(
        self,
        lines: pa.Array,
        found: pa.Array,
        rows: np.ndarray,
        header: np.ndarray,
        now: int,
        labels: Mapping[str, str],
    ) -> Entries:
        """The records of the lines `rows`: put in order by process, then read as stderr's."""
        fields = found.take(pa.array(rows))
        process = pc.binary_join_element_wise(fields.field("host"), fields.field("pid"), " ")
        key = process.dictionary_encode().indices.to_numpy(zero_copy_only=False)
        order = np.argsort(key, kind="stable")
        rows, key = rows[order], key[order]
        fields = fields.take(pa.array(order))
        length = pc.binary_length(fields.field("header")).to_numpy(zero_copy_only=False)
        text = _behind(lines.take(pa.array(rows)), length)
        text = pc.replace_substring(text, "#011", "\t")
        piece = fields.field("piece")
        # A piece that is no new line of the record: syslog's limit has cut a line there.
        later = pc.and_(pc.not_equal(piece, ""), pc.not_equal(piece, "1")).to_numpy(zero_copy_only=False)
        fresh = pc.or_(pc.starts_with(text, "\t"), self._headed(text)).to_numpy(zero_copy_only=False)
        begins = ~(later & ~fresh)
        begins[0] = True
        begins[1:] |= key[1:] != key[:-1]
        at = np.flatnonzero(begins)
        last = np.append(at[1:], len(rows)) - 1
        glued = joined(text, at, "")
        entries, timed = self.inner.parse(_block(glued), now, labels)
        if (key[at[entries.first_lines]] != key[at[entries.last_lines]]).any():
            # The beginning of a process' record is lost, and its rest was taken for another's.
            parts = [self.inner.parse(_block(glued.slice(a, b - a)), now, labels) for a, b in _runs(key[at])]
            moved = zip(parts, _runs(key[at]), strict=True)
            entries = concat([_shifted(part, start) for (part, _), (start, _) in moved])
            timed = np.concatenate([told for _, told in parts])
        # Lines of the inner block -> lines of the file.
        first, final = rows[at[entries.first_lines]], rows[last[entries.last_lines]]
        owner = key[at[entries.first_lines]]
        ends = np.append(owner[1:] != owner[:-1], True) & (final >= len(lines) - _NEAR)
        pid = fields.field("pid").take(pa.array(at[entries.first_lines]))
        told = entries.metadata.get("pid")
        metadata = {"pid": pid if told is None else pc.coalesce(column(told, len(entries)), pid)}
        whole = replace(
            entries,
            ts=np.where(timed, entries.ts, header[first]),
            first=first,
            last=final,
            held=None,
            metadata={**entries.metadata, **metadata},
        ).take(np.argsort(first, kind="stable"))
        return whole.hold(int(first[ends].min())) if ends.any() else whole

    def _headed(self, text: pa.Array) -> pa.Array:
        """Whether a line begins with the server's prefix."""
        found = pc.match_substring_regex(text, self.inner.prefixes[0].pattern)
        for prefix in self.inner.prefixes[1:]:
            found = pc.or_(found, pc.match_substring_regex(text, prefix.pattern))
        return found


def _times(found: pa.Array, now: int) -> np.ndarray:
    """The headers' times (int64 ns); what has none gets the one before it, or `now`."""
    moments = pc.coalesce(_SHORT.parse(_given(found, "short")), _ISO.parse(_given(found, "iso")))
    return times.filled(moments, now)


def _given(found: pa.Array, name: str) -> pa.Array:
    values = pc.struct_field(found, name)
    return pc.if_else(pc.equal(values, ""), None, values)


def _behind(lines: pa.Array, length: np.ndarray) -> pa.Array:
    """The lines without their first `length` bytes."""
    offsets = np.frombuffer(lines.buffers()[1], np.int32)[lines.offset : lines.offset + len(lines) + 1].astype(np.int64)
    return cut(lines.buffers()[2], offsets[:-1] + length, offsets[1:])


def _block(lines: pa.Array) -> bytes:
    whole = pc.binary_join(pa.ListArray.from_arrays(pa.array([0, len(lines)], pa.int32()), lines), "\n")
    return bytes(whole[0].as_buffer()) + b"\n"


def _shifted(entries: Entries, by: int) -> Entries:
    return replace(entries, first=entries.first_lines + by, last=entries.last_lines + by)


def _runs(key: np.ndarray) -> list[tuple[int, int]]:
    """Neighbours of one key: from, to."""
    border = np.flatnonzero(np.diff(key)) + 1
    return list(zip([0, *border.tolist()], [*border.tolist(), len(key)], strict=True))
