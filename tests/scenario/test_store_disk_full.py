"""A store whose disk is full refuses pushes, answers queries, and goes on with nothing lost once there is room."""

from __future__ import annotations

import os
import random
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from atalaia.store.check import check
from tests.conftest import soak
from tests.integration.logs_support import free_port, small_disk, wait_for
from tests.integration.store_reader import read
from tests.scenario.numbered import (
    FaultyServer,
    Pusher,
    check_answers,
    check_files,
    check_meanwhile,
    faulty_server,
    pushing,
    some_pushers,
)

_SIZE = 24 << 20
_ROOM = 300 << 10  # bytes; a segment, its index and a growing catalogue fit into that, or some of them
_FAILED = re.compile(r"event=(segment_failed|compaction_failed|maintenance_failed|no_new_wal)")


def free(disk: Path) -> int:
    found = os.statvfs(disk)
    return found.f_bavail * found.f_frsize


def fill(disk: Path, room: int) -> Path:
    """A file that leaves `room` bytes of the disk."""
    ballast = disk / "ballast"
    with open(ballast, "wb") as file:
        os.posix_fallocate(file.fileno(), 0, max(1, free(disk) - room))
    return ballast


def failures(server: FaultyServer) -> Counter[str]:
    return Counter(_FAILED.findall(server.log.read_text()))


def acknowledged(pusher: Pusher) -> int:
    return sum(batch.acknowledged for batch in pusher.batches)


def await_more(pushers: Sequence[Pusher]) -> None:
    """Wait until each of them was acknowledged something more."""
    before = [acknowledged(pusher) for pusher in pushers]
    wait_for(
        lambda: all(acknowledged(pusher) > count for pusher, count in zip(pushers, before, strict=True)),
        60,
        "pushes are taken again",
    )


@pytest.mark.timeout(3600 if soak() else 300)
def test_a_disk_that_fills_up_at_any_moment(tmp_path: Path, rng: random.Random) -> None:
    began, checked, rounds = time.monotonic(), 0, 60 if soak() else 4
    pushers = some_pushers(rng)
    with small_disk(tmp_path / "disk", _SIZE) as disk, faulty_server(disk / "store") as server:
        server.log = tmp_path / "log"
        assert server.start()
        for _ in range(rounds):
            with pushing(pushers, server.url):
                time.sleep(rng.uniform(0, 0.3))
                ballast = fill(disk, rng.randrange(_ROOM))
                for pusher in pushers:
                    pusher.refused.clear()
                wait_for(lambda: all(pusher.refused for pusher in pushers), 60, "every push is refused")
                assert all("free disk space" in text for pusher in pushers for text in pusher.refused)
                checked += sum(check_meanwhile(pusher, server) for pusher in pushers)
                ballast.unlink()
                await_more(pushers)
            server.settle()
            checked += check_answers(pushers, server)
        assert list(check(disk / "store", lambda *_: None)) == []
        assert server.stop() == 0
        checked += check_files(pushers, read(disk / "store"))
        met = failures(server)
    print(f"{rounds} times full, {checked} lines checked, {dict(met)}, {time.monotonic() - began:.0f} s")


@pytest.mark.parametrize("end", ["killed", "stopped"])
def test_a_disk_that_is_full_at_the_start(tmp_path: Path, rng: random.Random, end: str) -> None:
    """Either the store starts and answers, or it says why not; with room it starts as if nothing had been."""
    pushers = some_pushers(rng)
    with small_disk(tmp_path / "disk", _SIZE) as disk, faulty_server(disk / "store") as server:
        assert server.start()
        with pushing(pushers, server.url):
            await_more(pushers)
        server.kill() if end == "killed" else server.stop()
        ballast = fill(disk, 0)
        command = [sys.executable, "-m", "atalaia", "serve", "--data", str(disk / "store")]
        if server.start():
            checked = check_answers(pushers, server)
            with pushing(pushers, server.url):
                wait_for(lambda: all(pusher.refused for pusher in pushers), 60, "every push is refused")
            server.kill()
        else:
            done = subprocess.run(
                [*command, "--listen", f"127.0.0.1:{free_port()}"], capture_output=True, text=True, timeout=60
            )
            assert done.returncode == 1
            what, remedy = done.stderr.splitlines()
            assert what.startswith(f"atalaia: {disk / 'store'}")
            assert remedy == "  see that its disk has room and that you may write there"
            checked = 0
        ballast.unlink()
        checked += check_files(pushers, read(disk / "store"))
        assert server.start()
        with pushing(pushers, server.url):
            await_more(pushers)
        checked += check_answers(pushers, server)
        assert server.stop() == 0
        checked += check_files(pushers, read(disk / "store"))
    print(f"{checked} lines checked")
