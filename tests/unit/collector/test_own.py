from __future__ import annotations

from pathlib import Path

import pytest

from atalaia.collector.own import environment_plan
from atalaia.environment.connection import Connection
from atalaia.environment.load import Environment, parse
from atalaia.environment.state import State

FILE = Path("/x/atalaia.toml")


@pytest.mark.parametrize(
    ("text", "longest", "ahead"),
    [
        ("", 256 << 10, 24 * 3600),
        ('[logs.limits]\nline_size = "1KiB"\nclock_ahead = "10m"', 1024, 600),
        ('[logs.limits]\nline_size = "4MiB"\n[collection]\nmax_line_size = "1MiB"', 1 << 20, 24 * 3600),
    ],
)
def test_what_the_store_would_refuse_is_not_sent(text: str, longest: int, ahead: int) -> None:
    settings, lines = parse(text, FILE)
    plan = environment_plan(
        Environment(FILE, settings, State(FILE.parent / ".atalaia"), lines), {}, Connection("http://x")
    )
    assert (plan.max_line_size, plan.clock_ahead) == (longest, ahead * 10**9)
