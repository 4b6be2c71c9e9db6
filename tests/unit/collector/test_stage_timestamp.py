from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.collector.stage_support import READ, made

from atalaia.collector.meters import Meters
from atalaia.collector.stages.regex import Regex
from atalaia.collector.stages.stage import StageError
from atalaia.collector.stages.timestamp import Timestamp


def stamped(stage: Timestamp, lines: Sequence[str], labels: Mapping[str, object] | None = None) -> list[int]:
    """The times, all lines being taken for good."""
    entries = stage(Regex(r"^(?P<t>[^ ]*)")(made(lines, labels)))
    for effect in entries.effects:
        effect.apply(Meters(), np.ones(len(effect.lines), bool))
    return entries.ts.tolist()


def test_fudge_gives_the_last_time_and_a_nanosecond_more() -> None:
    stage = Timestamp("t", "Unix")
    assert stamped(stage, ["100 a", "x", "y", "200", "z"]) == [
        100 * 10**9,
        100 * 10**9 + 1,
        100 * 10**9 + 2,
        200 * 10**9,
        200 * 10**9 + 1,
    ]
    # It goes on in the next batches, in order, however long no time comes.
    assert stamped(stage, ["x", "y"]) == [200 * 10**9 + 2, 200 * 10**9 + 3]
    assert stamped(stage, ["x", "150"]) == [200 * 10**9 + 4, 150 * 10**9]
    assert stamped(stage, ["x"]) == [150 * 10**9 + 1]


def test_fudge_without_a_time_before_is_the_time_of_reading() -> None:
    stage = Timestamp("t", "Unix")
    assert stamped(stage, ["x", "y"]) == [READ, READ + 1]
    assert stamped(stage, ["x", "100", "z"]) == [READ, 100 * 10**9, 100 * 10**9 + 1]


def test_fudge_keeps_streams_apart() -> None:
    # Promtail's last known time is that of the same labels: two files of one job do not mix.
    stage = Timestamp("t", "Unix")
    assert stamped(stage, ["100"], {"filename": "a"}) == [100 * 10**9]
    assert stamped(stage, ["x", "y"], {"filename": "b"}) == [READ, READ + 1]
    assert stamped(stage, ["x"], {"filename": "a"}) == [100 * 10**9 + 1]
    streams = {"s": pa.array(["1", "2", "1", None, "2", "1"])}
    assert stamped(Timestamp("t", "Unix"), ["1", "x", "y", "z", "5", "w"], streams) == [
        10**9,
        READ + 1,
        10**9 + 1,
        READ + 3,
        5 * 10**9,
        10**9 + 2,
    ]


def test_lines_that_are_read_again_get_the_same_times() -> None:
    stage = Timestamp("t", "Unix")
    stamped(stage, ["100"])
    entries = stage(made(["x", "200", "y"], t=["x", "200", "y"]))
    assert entries.ts.tolist() == [100 * 10**9 + 1, 200 * 10**9, 200 * 10**9 + 1]
    (effect,) = entries.effects
    effect.apply(Meters(), np.array([True, False, False]))  # the others wait for more
    assert stamped(stage, ["200", "y"]) == [200 * 10**9, 200 * 10**9 + 1]
    stage = Timestamp("t", "Unix")
    stamped(stage, ["100"])
    stage(made(["200"], t=["200"]))
    assert stamped(stage, ["x"]) == [100 * 10**9 + 1]


def test_named_formats_are_in_utc_wherever_the_location_is() -> None:
    assert stamped(Timestamp("t", "ANSIC", location="Asia/Tokyo"), [""]) == [READ]
    stage = Timestamp("t", "ANSIC", location="Asia/Tokyo")
    assert stage(made(["x"], t=["Thu Jan  1 00:00:01 1970"])).ts.tolist() == [10**9]
    stage = Timestamp("t", "Mon Jan _2 15:04:05 2006", location="Asia/Tokyo")
    assert stage(made(["x"], t=["Thu Jan  1 09:00:01 1970"])).ts.tolist() == [10**9]


def test_skip_leaves_the_time_of_reading() -> None:
    stage = Timestamp("t", "Unix", action_on_failure="skip")
    assert stamped(stage, ["100", "x", "200", "y"]) == [100 * 10**9, READ + 1, 200 * 10**9, READ + 3]


def test_fallback_formats_are_tried_in_order() -> None:
    stage = Timestamp("t", "RFC3339", fallback_formats=("UnixMs", "2006-01-02"), action_on_failure="skip")
    assert stamped(stage, ["1970-01-01T00:00:01Z", "5", "1970-01-02", "x"]) == [
        10**9,
        5 * 10**6,
        86400 * 10**9,
        READ + 3,
    ]


def test_location_and_missing_source() -> None:
    stage = Timestamp("t", "2006-01-02", location="Asia/Tokyo")
    assert stamped(stage, ["1970-01-02"]) == [(86400 - 9 * 3600) * 10**9]
    assert stamped(Timestamp("nothing", "Unix"), ["1", "2"]) == [READ, READ + 1]
    assert stamped(stage, []) == []


@pytest.mark.parametrize(
    "arguments",
    [
        {"format": "no layout"},
        {"format": "Unix", "location": "X"},
        {"format": "Unix", "action_on_failure": "x"},
        {"format": "Unix", "fallback_formats": ("bad",)},
    ],
)
def test_wrong_timestamp_settings_are_refused(arguments: dict) -> None:
    with pytest.raises(StageError):
        Timestamp("t", **arguments)


@given(
    st.lists(st.tuples(st.sampled_from(["", "5", "7", "x"]), st.sampled_from([None, "a", "b"])), max_size=12),
    st.integers(0, 12),
)
def test_fudge_is_that_of_one_row_after_the_other(rows: list[tuple[str, str | None]], split: int) -> None:
    stage = Timestamp("t", "Unix")
    last: dict[str | None, int] = {}
    for part in (rows[:split], rows[split:]):
        expected = []
        for at, (text, stream) in enumerate(part):
            if text.isdigit():
                last[stream] = int(text) * 10**9
                expected.append(last[stream])
            elif stream in last:
                last[stream] += 1
                expected.append(last[stream])
            else:
                expected.append(READ + at)
        assert stamped(stage, [t for t, _ in part], {"s": pa.array([s for _, s in part], pa.utf8())}) == expected
