"""The stage that reads Kubernetes' container logs: cri."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from atalaia.collector.entries import Entries
from atalaia.collector.stages.groups import Groups
from atalaia.collector.stages.stage import Build, Stage, StageError
from atalaia.collector.stages.streams import by_stream, count_of, size_of, streams
from atalaia.collector.stages.timestamp import Timestamp
from atalaia.environment.yamlfile import Node, Reader

_LINE = r"(?s)^(?P<time>\S+?) (?P<stream>stdout|stderr) (?P<flags>\S+?) (?P<content>.*)$"
_STREAMS = pa.array(["stdout", "stderr"])
_FLAGS = pa.array(["F", "P"])
_PARTS = ("time", "stream", "flags", "content")


@dataclass(slots=True)
class Cri:
    """`cri`: `TIME stdout|stderr F|P TEXT`; the text of lines with the flag P goes on in the stream's next line.

    Label `stream`; the time; `time`, `stream`, `flags`, `content` are extracted; the entry has its last line's. A line
    that is none of CRI's stays as it is. When `most` streams of a file have unfinished lines and another comes, these
    are passed on as they are. Joined lines are cut at `size` bytes (None: not at all).
    """

    most: int = 100
    size: int | None = None
    wait: float = 3.0
    wanted: frozenset[str] | None = None
    _time: Timestamp = field(init=False, default_factory=lambda: Timestamp("time", "RFC3339Nano"))
    name: ClassVar[str] = "cri"

    @classmethod
    def build(cls, reader: Reader, node: Node, build: Build) -> Stage:
        """See stage.Builder."""
        known = {"max_partial_lines", "max_partial_line_size", "max_partial_line_size_truncate"}
        body = reader.mapping(node, "cri", known)
        size = size_of(reader, body.get("max_partial_line_size"), "max_partial_line_size")
        cut = reader.flag(body.get("max_partial_line_size_truncate"), "max_partial_line_size_truncate")
        if cut and not size:
            raise StageError("max_partial_line_size_truncate would leave nothing without max_partial_line_size")
        most = count_of(reader, body.get("max_partial_lines"), "max_partial_lines")
        return cls(most or 100, size if cut else None)

    def reads(self) -> frozenset[str]:
        """See Stage."""
        return frozenset(_PARTS)

    def narrowed(self, wanted: frozenset[str]) -> Stage:
        """See narrow.Narrowing."""
        return replace(self, wanted=wanted)

    def __call__(self, entries: Entries) -> Entries:
        """See the class."""
        if not len(entries):
            return entries
        found = _parsed(entries.lines)
        entries = entries.with_extracted(entries.labels).with_extracted(found)
        stream = found["stream"]
        if stream.null_count and "stream" in entries.labels:
            stream = pc.coalesce(stream, entries.labels["stream"])
        content = found["content"]
        if content.null_count:
            content = pc.coalesce(content, entries.lines)
        entries = self._time(replace(entries.with_labels({"stream": stream}), lines=content))
        flags = entries.source("flags")
        if self.wanted is not None:
            left = {name: v for name, v in entries.extracted.items() if name not in _PARTS or name in self.wanted}
            entries = replace(entries, extracted=left)
        return self._joined(entries, flags)

    def _joined(self, entries: Entries, flags: pa.Array) -> Entries:
        partial = pc.fill_null(pc.equal(flags, "P"), False).to_numpy(zero_copy_only=False)
        if not partial.any():
            return entries
        codes, texts = streams(entries)
        if len(texts) >= self.most:
            order, starts, open_ = _bounded(codes, partial, self.most)
        else:
            order, opens = by_stream(codes, len(texts))
            goes_on = np.zeros(len(order), bool)
            goes_on[1:] = partial[order][:-1]
            starts = opens | ~goes_on
            open_ = np.append(opens[1:], True) & partial[order]
        groups = Groups(entries, order, starts)
        ends = groups.at + groups.lengths - 1
        by_line = np.argsort(groups.first, kind="stable")
        last = order[ends][by_line]
        joined = replace(entries.take(last), first=groups.first[by_line], last=groups.last[by_line])
        several = groups.lengths[by_line] > 1
        texts_of = groups.some(by_line[several], "")
        joined = replace(joined, lines=pc.replace_with_mask(joined.lines, pa.array(several), texts_of))
        if self.size is not None:
            joined = replace(joined, lines=self._cut(joined.lines, several | partial[last]))
        waits = open_[ends] & (groups.last >= entries.flush)
        return joined.hold(int(groups.first[waits].min())) if waits.any() else joined

    def _cut(self, lines: pa.Array, rows: np.ndarray) -> pa.Array:
        """Those rows cut at the size, before a character that would not be whole."""
        long = rows & (pc.binary_length(lines).to_numpy(zero_copy_only=False) > self.size)
        if not long.any():
            return lines
        texts = [
            lines[int(row)].as_py().encode()[: self.size].decode("utf-8", "ignore") for row in np.flatnonzero(long)
        ]
        return pc.replace_with_mask(lines, pa.array(long), pa.array(texts, pa.utf8()))


def _parsed(lines: pa.Array) -> Mapping[str, pa.Array]:
    """time, stream, flags and content as utf8[N], null where a line is none of CRI's."""
    parts = pc.split_pattern(lines, " ", max_splits=3)
    if (np.diff(parts.offsets.to_numpy()) == 4).all():
        at = np.arange(0, 4 * len(lines), 4)
        columns = [parts.flatten().take(pa.array(at + number)) for number in range(4)]
        # RE2's \S is more than what is no blank, and other flags are rare: such lines are left to it.
        usual = pc.and_(pc.is_in(columns[1], _STREAMS), pc.is_in(columns[2], _FLAGS))
        if pc.all(pc.and_(usual, pc.match_substring_regex(columns[0], r"^[^\t\n\f\r]+$"))).as_py():
            return dict(zip(_PARTS, columns, strict=True))
    found = pc.extract_regex(lines, _LINE)
    missed = pc.is_null(found)
    return {name: pc.if_else(missed, None, found.field(name)) for name in _PARTS}


def _bounded(codes: np.ndarray, partial: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Groups as one line after the other gives them, when so many streams may have unfinished lines.

    The rows in the order of groups; whether a group begins there; whether it is unfinished behind this row.
    """
    groups: list[list[int]] = []
    unfinished: dict[int, list[int]] = {}
    for row, code in enumerate(codes.tolist()):
        if partial[row]:
            if len(unfinished) >= most:
                unfinished.clear()
            group = unfinished.setdefault(code, [])
        else:
            group = unfinished.pop(code, [])
        if not group:
            groups.append(group)
        group.append(row)
    order = np.array([row for group in groups for row in group])
    lengths = np.array([len(group) for group in groups])
    starts, open_ = np.zeros(len(order), bool), np.zeros(len(order), bool)
    starts[np.cumsum(lengths) - lengths] = True
    left = {id(group) for group in unfinished.values()}
    open_[np.cumsum(lengths) - 1] = [id(group) in left for group in groups]
    return order, starts, open_
