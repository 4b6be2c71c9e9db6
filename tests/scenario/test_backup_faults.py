"""Backups that are killed, crowded and cut off: none that is listed as good is lost or restores to something else."""

from __future__ import annotations

import contextlib
import random
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import soak
from tests.scenario.backup_chaos import Yard, yard
from tests.scenario.backup_work import begin, change

KINDS = ("plain",)


@pytest.fixture
def grounds(reachable: Path, request: pytest.FixtureRequest) -> Iterator[Yard]:
    """A server with some content, and one verified backup of it."""
    with yard(reachable / "env", getattr(request, "param", "plain")) as made:
        begin(made.server)
        made.backup()
        yield made


_STEPS = 60  # about as many as each of these commands takes; a few of these kills come too late
_ACTIONS = ("now", "restore", "verify", "now")


@pytest.mark.timeout(7200 if soak() else 300)
@pytest.mark.parametrize("grounds", KINDS, indirect=True)
def test_killed_at_random_points(grounds: Yard, rng: random.Random) -> None:
    killed = 0
    for number in range(100 if soak() else 4):
        change(grounds.server, rng)
        grounds.record()
        action = _ACTIONS[number % len(_ACTIONS)]
        name = rng.choice(sorted(grounds.recorded))
        arguments = {"now": (), "verify": (name,), "restore": (name, "--to", str(grounds.folder / "restored"))}[action]
        killed += _killed(grounds, rng, action, *arguments)
        grounds.check()
        if action == "restore" and (grounds.folder / "restored").exists():
            # The same command again clears what the killed one has left, or says that all of it is there.
            grounds.run("backup", action, *arguments, code=None)
            assert (grounds.folder / "restored" / "data" / "PG_VERSION").is_file()
            shutil.rmtree(grounds.folder / "restored")
        if soak():
            _goes_on(grounds, rng)
    assert killed >= (50 if soak() else 1)
    _goes_on(grounds, rng)


def _killed(grounds: Yard, rng: random.Random, *arguments: str) -> bool:
    """Kill a command at a step, or after a time; whether it was early enough."""
    if rng.random() < 0.7:
        process = grounds.command("backup", *arguments, at=rng.randrange(1, _STEPS))
    else:
        process = grounds.command("backup", *arguments)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(rng.uniform(0.5, 6))
        process.kill()
    out, err = process.communicate(timeout=300)
    point = grounds.steps()[1] if (grounds.folder / "steps").exists() else "a moment"
    print(f"{arguments[0]}: {process.returncode} at {point}")
    assert "Traceback" not in out + err
    assert process.returncode in (0, -signal.SIGKILL), err
    return process.returncode != 0


def _goes_on(grounds: Yard, rng: random.Random) -> None:
    """The next commands work, tidy up, and a backup of any age restores."""
    grounds.backup()
    grounds.check_tidy()
    grounds.check_restores(rng.choice(sorted(grounds.recorded)))
