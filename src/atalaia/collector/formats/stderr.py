"""What PostgreSQL writes to stderr, with any log_line_prefix, as entries: a record with all its lines is one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from atalaia.collector.entries import Entries
from atalaia.collector.formats import records, times, words
from atalaia.collector.formats.prefix import Prefix, chosen
from atalaia.collector.formats.slices import cut, joined, line_bounds

_TAB = 9
OWN_PREFIX = "%m [%p] %q%u@%d "  # log_line_prefix of the servers that Atalaia runs


@dataclass(frozen=True, slots=True)
class Stderr:
    """The format for these prefixes, tried in their order. `zone`: where the server's zone abbreviations are meant."""

    prefixes: tuple[Prefix, ...]
    zone: str | None = None

    def __call__(self, block: bytes, now: int, labels: Mapping[str, str]) -> Entries:
        """Entries of a valid UTF-8 block of whole lines.

        Lines that begin with a tab, and DETAIL and its like, belong to the record before them. A line without a prefix
        is an entry of its own at the time of the record before it, or `now` (ns). The last record is held back.
        """
        return self.parse(block, now, labels)[0]

    def parse(self, block: bytes, now: int, labels: Mapping[str, str]) -> tuple[Entries, np.ndarray]:
        """The entries, and which of them told their time (bool[N])."""
        starts, ends = line_bounds(block)
        if not len(starts):
            return records.plain(pa.array([], pa.utf8()), now, labels), np.zeros(0, bool)
        continued = np.frombuffer(block, np.uint8)[starts] == _TAB
        continued[0] = False
        first = np.flatnonzero(~continued)  # the first line of each piece: a prefix, and what a tab continues
        last = np.append(first[1:], len(starts)) - 1
        heads = cut(block, starts[first], ends[first])
        found = _match(heads, self.prefixes)
        text = cut(block, starts[first] + found.length, ends[last])
        if len(first) < len(starts):
            several = pa.array((last > first) & found.known)  # PostgreSQL's tab is none of the text
            bare = pc.replace_substring(text.filter(several), "\n\t", "\n")
            text = pc.replace_with_mask(text, several, bare)
        group, order = _groups(found)
        begins = np.flatnonzero(np.diff(group, prepend=-1))
        head = order[begins]
        tail = order[np.append(begins[1:], len(order)) - 1]
        if len(begins) < len(order):
            if not _rising(order):
                text = text.take(pa.array(order))
            text = joined(text, begins)
        row = pa.array(head)
        columns = {name: column.take(row) for name, column in found.columns.items()}
        severity = found.severity.take(row)
        text = _without_state(columns, text, group[found.location[order]])
        moments = found.times(self.zone).take(row)
        timed = pc.is_valid(moments).to_numpy(zero_copy_only=False)
        lasts = np.maximum.reduceat(last[order], begins) if len(begins) else tail
        entries = Entries(
            text,
            times.filled(moments, now),
            {**labels, "severity": severity},
            metadata=records.metadata(columns),
            first=first[head],
            last=lasts,
        )
        return entries.hold(int(first[head[np.argmax(lasts)]])), timed


@dataclass(frozen=True, slots=True)
class _Found:
    """Of N pieces: bytes of their prefixes, fields, the English severity, whether each is a DETAIL or its like."""

    length: np.ndarray
    columns: dict[str, pa.Array]
    severity: pa.Array
    part: np.ndarray
    location: np.ndarray
    known: np.ndarray

    def times(self, zone: str | None) -> pa.Array:
        """The pieces' times (int64, null for none)."""
        moments = pa.nulls(len(self.length), pa.int64())
        if "local" in self.columns:
            moments = times.parse(self.columns["local"], self.columns["zone"], zone)
        if "epoch" in self.columns:
            moments = pc.coalesce(moments, times.epoch(self.columns["epoch"]))
        return moments


def _match(heads: pa.Array, prefixes: Sequence[Prefix]) -> _Found:
    count = len(heads)
    length = np.zeros(count, np.int64)
    columns: dict[str, pa.Array] = {}
    word, part = pa.nulls(count, pa.utf8()), pa.nulls(count, pa.utf8())
    left = np.arange(count)
    for prefix in prefixes:
        rows = heads if len(left) == count else heads.take(pa.array(left))
        fields = _fields(rows, prefix)
        hit = pc.is_valid(fields["prefix"]).to_numpy(zero_copy_only=False)
        if not hit.any():
            continue
        size = pc.fill_null(pc.binary_length(fields.pop("prefix")), 0).to_numpy(zero_copy_only=False)
        length[left] = np.where(hit, size + prefix.fixed, 0)
        where = None if len(left) == count else left
        word, part = _put(word, where, fields.pop("word")), _put(part, where, fields.pop("part"))
        for name, values in fields.items():
            columns[name] = _put(columns.get(name, pa.nulls(count, pa.utf8())), where, values)
        left = left[~hit]
        if not len(left):
            break
    word = pc.if_else(pc.equal(word, ""), None, word)
    kinds = words.headings()
    names = pa.array(list(kinds))
    code = pc.index_in(part, names)
    is_part = pc.is_valid(code).to_numpy(zero_copy_only=False)
    location = pc.fill_null(pc.equal(pa.array(list(kinds.values())).take(code), "LOCATION"), False)
    known = np.ones(count, bool)
    known[left] = False
    # A record whose head is lost, at a file's beginning, is as good as any.
    severity = pc.if_else(pa.array(is_part), "LOG", words.english(word))
    return _Found(length, columns, severity, is_part, location.to_numpy(zero_copy_only=False), known)


def _fields(lines: pa.Array, prefix: Prefix) -> dict[str, pa.Array]:
    """The groups of a prefix (utf8[N]; null: it does not fit), each distinct prefix read once."""
    fixed = prefix.fixed
    colon = pc.find_substring(lines, ":  ").to_numpy(zero_copy_only=False)
    size = pc.binary_length(lines).to_numpy(zero_copy_only=False)
    offsets = np.frombuffer(lines.buffers()[1], np.int32)[lines.offset : lines.offset + len(lines)].astype(np.int64)
    data = lines.buffers()[2]
    begins = offsets + np.minimum(fixed, size)
    ends = np.maximum(begins, offsets + np.where(colon < 0, size, np.minimum(colon + 3, size)))
    encoded = cut(data, begins, ends).dictionary_encode()
    found = pc.extract_regex(encoded.dictionary, prefix.rest if fixed else prefix.pattern)
    fields = {
        found.type.field(at).name: pc.if_else(pc.is_valid(found), found.field(at), None).take(encoded.indices)
        for at in range(found.type.num_fields)
    }
    if fixed:
        local = cut(data, offsets, begins)
        good = pc.match_substring_regex(local, r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(?:\.\d{3})?$")
        fields = {name: pc.if_else(good, values, None) for name, values in fields.items()}
        fields["local"] = pc.if_else(pc.is_valid(fields["prefix"]), local, None)
    return fields


def _put(column: pa.Array, rows: np.ndarray | None, values: pa.Array) -> pa.Array:
    """The column with `values` at `rows` (None: at all), where they are not null."""
    if rows is None:
        return values
    index = np.full(len(column), -1)
    index[rows] = np.arange(len(rows))
    return pc.coalesce(values.take(pa.array(index, mask=index < 0)), column)


def _groups(found: _Found) -> tuple[np.ndarray, np.ndarray]:
    """The pieces in the order of their records (rows), and each one's record's number (rising)."""
    count = len(found.part)
    pid = found.columns.get("pid")
    key = np.zeros(count, np.int64)
    if pid is not None:
        key = pc.fill_null(pid.dictionary_encode().indices, -1).to_numpy(zero_copy_only=False).astype(np.int64)
    before = np.roll(key, 1)
    lost = np.roll(~found.known, 1)
    strange = found.part & ((before != key) | lost)
    if count:
        strange[0] = False
    if not strange.any():
        heads = ~found.part
        if count:
            heads[0] = True
        return np.cumsum(heads) - 1, np.arange(count)
    # Several processes' lines in between each other: a part belongs to its own process' record before it.
    key = np.where(found.known, key, key.max() + 1)
    by_key = np.argsort(key, kind="stable")
    sorted_key = key[by_key]
    heads = ~found.part[by_key] | (np.diff(sorted_key, prepend=sorted_key[0] - 1) != 0)
    record = np.cumsum(heads) - 1
    first = by_key[np.flatnonzero(heads)]  # each record's first piece
    owner = np.empty(count, np.int64)
    owner[by_key] = first[record]
    order = np.lexsort((np.arange(count), owner))
    return np.cumsum(np.diff(owner[order], prepend=-1) != 0) - 1, order


def _rising(order: np.ndarray) -> bool:
    return bool((np.diff(order) > 0).all())


def _without_state(columns: dict[str, pa.Array], text: pa.Array, verbose: np.ndarray) -> pa.Array:
    """The texts; those of the records `verbose` without the SQLSTATE before their message, which becomes metadata.

    Only log_error_verbosity = verbose writes a LOCATION, and it writes the SQLSTATE then.
    """
    if not len(verbose):
        return text
    mask = np.zeros(len(text), bool)
    mask[verbose] = True
    chosen = text.filter(pa.array(mask))
    head = r"^(?P<word>[^:\n]+:  )(?P<state>[0-9A-Z]{5}): "
    state = pc.struct_field(pc.extract_regex(chosen, head), "state")
    whole = _put(pa.nulls(len(text), pa.utf8()), np.flatnonzero(mask), state)
    columns["sqlstate"] = pc.coalesce(columns.get("sqlstate", whole), whole)
    bare = pc.replace_substring_regex(chosen, head, r"\1", max_replacements=1)
    return pc.replace_with_mask(text, pa.array(mask), bare)


def stderr(block: bytes, now: int, labels: Mapping[str, str]) -> Entries:
    """What a server writes with Atalaia's log_line_prefix, or before it has read its settings."""
    return _OWN(block, now, labels)


_OWN = Stderr(chosen(OWN_PREFIX))
