from __future__ import annotations

import sys

import pytest

from atalaia.cli import telling
from atalaia.cli.telling import Teller, line_of


def test_a_line_tells_what_is_done_how_fast_and_how_long_yet() -> None:
    assert line_of("x", 500_000_000, 2_000_000_000, 100e6) == "x: 500.0 MB of 2.0 GB, 100.0 MB/s, about 15 s left"
    assert line_of("x", 10, 0, 5.0) == "x: 10 B, 5 B/s"
    assert line_of("x", 0, 10, 0.0) == "x: 0 B of 10 B, 0 B/s"
    assert line_of("x", 0, 10**9, 10**6).endswith("about 16 min left")
    assert line_of("x", 0, 10**10, 10**6).endswith("about 2 h 46 min left")


def test_lines_come_every_few_seconds_and_a_resumed_work_is_not_faster(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = 100.0
    monkeypatch.setattr(telling.time, "monotonic", lambda: now)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: False)
    with Teller() as teller:
        teller("a line")
        teller.advance("copying", 900, 2000)
        for now in (101.0, 104.9):  # noqa: B007 - the clock that is read
            teller.advance("copying", 950, 2000)
        now = 105.0
        teller.advance("copying", 1000, 2000)
        now = 109.0
        teller.advance("copying", 1500, 2000)
        now = 111.0
        teller.advance("other", 1, 2)
        teller.advance("copying", 2000, 2000)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err == "a line\ncopying: 1.0 kB of 2.0 kB, 20 B/s, about 50 s left\n"
