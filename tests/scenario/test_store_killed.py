"""A store that is killed while it takes, writes and compacts has all that it acknowledged, once, in order."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from atalaia.store import recovery
from atalaia.store.check import check
from atalaia.store.compact import index_path
from tests.conftest import soak
from tests.integration.store_reader import read
from tests.scenario.faulty_server import POINTS
from tests.scenario.numbered import (
    FaultyServer,
    Pusher,
    check_answers,
    check_files,
    faulty_server,
    pushing,
    some_pushers,
)

_LIVES = 20  # of one store; then another one is begun, so that what is to be checked stays small


@pytest.mark.timeout(3600 if soak() else 300)
def test_killed_at_random_moments(tmp_path: Path, rng: random.Random) -> None:
    moments = [rng.uniform(0, 0.8) for _ in range(200 if soak() else 6)]
    _survive(tmp_path, rng, moments)


@pytest.mark.timeout(3600 if soak() else 300)
def test_killed_at_every_kind_of_step(tmp_path: Path, rng: random.Random) -> None:
    steps = [f"{point} {number}" for point in POINTS for number in (1, 2, 4, 7)]
    _survive(tmp_path, rng, rng.sample(steps, len(steps) if soak() else 6))


def _survive(folder: Path, rng: random.Random, deaths: Sequence[float | str]) -> None:
    """Let a store die at moments (seconds of work) and steps; check its files and its answers after each death."""
    began, checked, recognised = time.monotonic(), 0, 0
    for first in range(0, len(deaths), _LIVES):
        pushers = some_pushers(rng)
        checked += _lives(folder / str(first), rng, deaths[first : first + _LIVES], pushers)
        recognised += sum(pusher.recognised for pusher in pushers)
    assert recognised
    seconds = time.monotonic() - began
    print(f"{len(deaths)} kills, {checked} lines checked, {recognised} pushes recognised, {seconds:.0f} s")


def _lives(directory: Path, rng: random.Random, deaths: Sequence[float | str], pushers: list[Pusher]) -> int:
    checked = 0
    with faulty_server(directory) as server:
        for death in deaths:
            if server.start(**({"die": death} if isinstance(death, str) else {})):
                try:
                    checked += check_answers(pushers, server)
                except httpx.TransportError:
                    assert isinstance(death, str), "only a step that was met ends the server here"
                _work(server, pushers, death)
            assert server.process is not None
            assert server.process.wait(30) == -9
            checked += check_files(pushers, read(directory))
            if rng.random() < 0.5:
                _assert_tidy_once_recovered(directory)
        assert server.start()
        with pushing([pusher for pusher in pushers if pusher.sourced], server.url):
            time.sleep(0.2)
        server.settle()
        checked += check_answers(pushers, server)
        assert list(check(directory, lambda *_: None)) == []
        assert server.stop() == 0
        checked += check_files(pushers, read(directory))
    return checked


def _work(server: FaultyServer, pushers: Sequence[Pusher], death: float | str) -> None:
    """Push until the server dies."""
    assert server.process is not None
    with pushing(pushers, server.url):
        if isinstance(death, float):
            time.sleep(death)
            server.kill()
        else:
            server.process.wait(60)


def _assert_tidy_once_recovered(directory: Path) -> None:
    """What opening does leaves nothing behind that the catalogue does not know; it may be done any number of times."""
    with closing(recovery.open_catalogue(directory)) as catalogue:
        recovery.recover(directory, catalogue, catalogue.load_streams())
        segments = [made.segment for made in catalogue.segments()]
        known = {found.name for found in segments}
        known |= {index_path(directory, found).name for found in segments if found.index_size}
        assert {path.name for path in (directory / "segments").iterdir()} == known
        assert all(int(path.stem) > catalogue.generation for path in (directory / "wal").iterdir())
