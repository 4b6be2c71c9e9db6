from __future__ import annotations

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from atalaia.collector import pipeline
from atalaia.collector.entries import Entries
from atalaia.collector.meters import Meters
from atalaia.collector.plan import Job
from atalaia.collector.stages.bounds import FewStreams, LongLines
from atalaia.collector.stages.stage import Stage


def through(
    stage: Stage, lines: list[str], labels: list[str | None] | None = None
) -> tuple[list[str], dict[str, float]]:
    """The lines that are left, and how many were dropped, by reason."""
    columns = {} if labels is None else {"l": pa.array(labels, pa.utf8())}
    entries = stage(Entries(pa.array(lines, pa.utf8()), np.arange(len(lines)), {"job": "j"} | columns))
    meters = Meters()
    pipeline.settle(pipeline.Taken(entries, len(lines)), meters)
    counted = {
        sample.labels["reason"]: sample.value
        for family in meters.registry.collect()
        for sample in family.samples
        if sample.name == "logentry_dropped_lines_total"
    }
    return entries.lines.to_pylist(), counted


def test_lines_of_too_many_bytes_are_dropped_and_counted() -> None:
    assert through(LongLines(4), ["abcd", "abcde", "éé", "ééx", ""]) == (["abcd", "éé", ""], {"line_too_long": 2})
    assert through(LongLines(9), ["abcd"]) == (["abcd"], {})
    assert through(LongLines(9), []) == ([], {})


def test_the_first_streams_of_a_block_are_kept() -> None:
    labels = ["b", "a", "b", None, "a", "c"]
    assert through(FewStreams(2), list("123456"), labels) == (["1", "2", "3", "5"], {"stream_limited": 2})
    assert through(FewStreams(3), list("123456"), labels) == (["1", "2", "3", "4", "5"], {"stream_limited": 1})
    assert through(FewStreams(4), list("123456"), labels) == (list("123456"), {})
    assert through(FewStreams(1), ["1", "2"]) == (["1", "2"], {})
    assert through(FewStreams(1), [], []) == ([], {})


@given(st.lists(st.sampled_from(["a", "b", "c", "d"])), st.integers(1, 5))
def test_it_is_as_promtail_would_do_it_entry_by_entry(labels: list[str], most: int) -> None:
    kept, seen = [], set()
    for number, label in enumerate(labels):
        if label in seen or len(seen) < most:
            seen.add(label)
            kept.append(str(number))
    found, counted = through(FewStreams(most), [str(number) for number in range(len(labels))], list(labels))
    assert found == kept
    assert counted == ({"stream_limited": len(labels) - len(kept)} if len(kept) < len(labels) else {})


def test_a_held_line_is_not_counted_twice() -> None:
    class Holds:
        name = "holds"

        def reads(self) -> frozenset[str]:
            return frozenset()

        def __call__(self, entries: Entries) -> Entries:
            return entries.hold(1)

    taken = pipeline.run(Job("j", (), stages=(Holds(), LongLines(1))), b"long\nlong\n", 0, {})
    meters = Meters()
    pipeline.settle(taken, meters)
    assert b'logentry_dropped_lines_total{reason="line_too_long"} 1.0' in meters.exposition()
