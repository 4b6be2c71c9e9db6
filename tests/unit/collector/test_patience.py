from __future__ import annotations

from atalaia.collector.patience import Patience
from atalaia.collector.reading.tail import Chunk


def chunk(start: int, lines: int) -> Chunk:
    """Lines of ten bytes."""
    return Chunk("f", start, start + 10 * lines, b"123456789\n" * lines, 0)


def test_lines_have_waited_since_they_were_first_read() -> None:
    now = 0.0
    patience = Patience(lambda: now)
    assert patience.waited(chunk(0, 3), 3) == 0
    patience.settle(chunk(0, 3), 10)  # the first is taken, two wait
    now = 2.0
    assert patience.waited(chunk(10, 4), 3) == 0
    patience.settle(chunk(10, 4), 10)
    now = 3.0
    assert patience.waited(chunk(10, 5), 3) == 2
    now = 5.0
    assert patience.waited(chunk(10, 5), 3) == 4
    patience.settle(chunk(10, 5), 50)
    now = 6.0
    assert patience.waited(chunk(50, 1), 3) == 0


def test_what_is_taken_is_forgotten() -> None:
    patience = Patience(lambda: 0.0)
    patience.settle(chunk(0, 3), 0)
    patience.settle(chunk(0, 3), 30)
    assert patience.waited(chunk(0, 3), 0) == 0


def test_a_steady_trickle_costs_no_memory_and_waits_no_longer() -> None:
    now = 0.0
    patience = Patience(lambda: now)
    for lines in range(1, 1001):
        now += 0.01
        patience.settle(chunk(0, lines), 0)
    assert len(patience._read["f"]) <= 120
    assert 680 <= patience.waited(chunk(0, 1000), 3.0) <= 700
