from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from atalaia.store.held import Held
from atalaia.store.ledger import Ledger
from atalaia.store.retention import Due, Retention, Rule
from atalaia.store.segment import Segment
from atalaia.store.snapshot import Part
from atalaia.store.streams import Streams


def part(name: str, size: int, *held: tuple[int, int, int, int, int]) -> Part:
    """A segment with rows, bytes of lines, first and last time of each stream."""
    streams, rows, sizes, lows, highs = (np.array(column, np.int64) for column in zip(*held, strict=True))
    low, high = int(lows.min()), int(highs.max())
    found = Segment(name, 1, int(rows.sum()), size - 10, int(sizes.sum()), low, high, 1, 1, 0, index_size=10)
    return Part(int(rows.sum()), low, high, 1, Held(streams.astype(np.int32), rows, sizes, lows, highs), None, found)


def test_each_stream_is_asked_about_once_and_has_the_first_rule_that_holds() -> None:
    asked: list[tuple[str, str]] = []

    def holds(tenant: str, labels: Mapping[str, str]) -> bool:
        asked.append((tenant, labels["n"]))
        return labels["n"] in "13"

    streams = Streams()
    ledger = Ledger(Retention(rules=(Rule(holds, 1), Rule(lambda tenant, labels: tenant == "b", 1))), streams)
    for tenant, number in (("a", "1"), ("a", "2")):
        streams.number(tenant, f'{{"n":"{number}"}}')
    oldest = ledger.oldest({0: 5, 1: 6, 2: 7})
    assert oldest(np.array([2, 1, 1])).tolist() == [5, 6, 6]
    for tenant, number in (("b", "3"), ("b", "4")):
        streams.number(tenant, f'{{"n":"{number}"}}')
    assert oldest(np.array([1, 2, 3, 4])).tolist() == [6, 5, 6, 7]
    assert asked == [("a", "1"), ("a", "2"), ("b", "3"), ("b", "4")]


def test_a_rules_share_is_that_of_its_lines() -> None:
    streams = Streams()
    for number in "123":
        streams.number("a", f'{{"n":"{number}"}}')
    first = Rule(lambda tenant, labels: labels["n"] == "1", size=150)
    # Of each 100 bytes on disk the first stream has 25, an entry counting a byte besides its line.
    parts = [
        part(f"s{at}", 100, (1, 5, 20, at, at), (2, 10, 40, at, at + 1), (3, 5, 20, at, at + 2))
        for at in range(0, 80, 10)
    ]
    assert Ledger(Retention(rules=(first,)), streams).due(parts, 100, set()) == [
        Due("s0", {1: 1}, False),
        Due("s10", {1: 11}, False),
    ]
    # What cannot be written again goes as a whole or not at all.
    assert Ledger(Retention(rules=(first,)), streams).due(parts, 100, None) == []
    assert Ledger(Retention(size=700, rules=(first,)), streams).due(parts, 100, None) == [Due("s0", {0: 3, 1: 3}, True)]
