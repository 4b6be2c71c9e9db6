from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atalaia.backup.vault.place import Damaged
from atalaia.backup.wal import segment
from atalaia.backup.wal.segment import Fork, Segment
from atalaia.environment.errors import InputError

SIZES = st.sampled_from([1 << power for power in range(20, 31)])


@given(st.integers(0, 2**64 - 1))
def test_an_lsn_is_read_as_it_is_shown(position: int) -> None:
    assert segment.lsn(segment.show(position)) == position


@pytest.mark.parametrize("text", ["", "1", "1/", "/1", "1/G", "1/123456789", "-1/2"])
def test_what_is_no_lsn_is_refused(text: str) -> None:
    with pytest.raises(InputError):
        segment.lsn(text)


@given(st.integers(1, 2**32 - 1), st.integers(0, 2**64 - 1), SIZES)
def test_a_segment_is_read_from_its_name(timeline: int, position: int, size: int) -> None:
    each = segment.at(timeline, position, size)
    assert segment.parse(each.name, size) == each
    assert each.start <= position < each.end
    assert segment.is_segment(each.name)


@given(st.integers(1, 3), st.integers(0, 10**6), st.integers(0, 10**6), SIZES)
def test_names_of_a_timeline_sort_by_position(timeline: int, one: int, other: int, size: int) -> None:
    first, second = Segment(timeline, one, size), Segment(timeline, other, size)
    assert (first.name < second.name) == (one < other)


def test_a_history_tells_where_timelines_were_left() -> None:
    text = b"1\t0/3000110\tno recovery target specified\n\n2\t0/5000000\tbefore 2026-11-23 # x\n"
    assert segment.history(text) == (Fork(1, 0x3000110), Fork(2, 0x5000000))


def test_a_header_says_whose_wal_it_is() -> None:
    page = struct.pack("=HHIQI4xQI", 0xD113, 2, 3, 0x4000000, 0, 7123456789, 16 << 20)
    found = segment.header(page, "x")
    assert (found.timeline, found.position, found.system, found.size) == (3, 0x4000000, "7123456789", 16 << 20)
    with pytest.raises(Damaged):
        segment.header(b"\0" * 40, "x")
    with pytest.raises(Damaged):
        segment.header(page[:30], "x")
