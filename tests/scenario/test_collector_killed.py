"""Whatever is killed, rotated and away: the store has each entry exactly once, and a Loki has each at least once.

The number of a failing test's seed is printed; ATALAIA_SEED takes it back.
"""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest

from tests.conftest import soak
from tests.scenario.collected import LokiReceiver, StoreReceiver, rounds

_ROUNDS = {"atalaia": (4, 200), "loki": (1, 200), "loki json": (1, 100)}  # in `make test`, in `make soak`
_LIVES = 10  # rounds with one set of files; then another one is begun, so that what is to be checked stays small


@pytest.mark.timeout(7200 if soak() else 280)
@pytest.mark.parametrize("kind", ["atalaia", "loki", "loki json"])
def test_every_entry_is_there_once(tmp_path: Path, rng: random.Random, kind: str) -> None:
    wanted = _ROUNDS[kind][soak()]
    began, done, checked, longest = time.monotonic(), 0, 0, 0.0
    while done < wanted:
        folder = tmp_path / str(done)
        folder.mkdir()
        receiver = (
            StoreReceiver(folder, rng) if kind == "atalaia" else LokiReceiver(folder, rng, json=kind == "loki json")
        )
        with rounds(folder / "work", rng, receiver) as made:
            for _ in range(min(_LIVES, wanted - done)):
                before = time.monotonic()
                made.round()
                longest = max(longest, time.monotonic() - before)
                done += 1
            checked += made.checked
        if isinstance(receiver, LokiReceiver):
            print(f"{receiver.received} entries acknowledged or kept, {receiver.count()} of them distinct")
        print(f"{done} rounds: {dict(made.kills)} {dict(made.writer.rotations)}, longest {longest:.1f} s")
    print(f"{done} rounds, {checked} entries checked, {time.monotonic() - began:.0f} s")
