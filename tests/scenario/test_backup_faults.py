"""Backups that are killed, crowded and cut off: none that is listed as good is lost or restores to something else."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from atalaia.backup.kinds import KINDS
from tests.conftest import soak
from tests.integration.object_store import Fault, Store, bucket, moto
from tests.scenario.backup_chaos import Yard, check_told, disk, objects, yard
from tests.scenario.backup_work import begin, change

KIND = os.environ.get("ATALAIA_KIND") or ("logical" if "logical" in KINDS else "plain")
_ROWS = 150_000  # of one table: more than a chunk, so that something is stored while more is read
_PASSING = (
    "CREATE DATABASE passing TEMPLATE template0",
    "ALTER DATABASE passing RENAME TO passed",
    "DROP DATABASE IF EXISTS passed WITH (FORCE)",
    "DROP DATABASE IF EXISTS passing WITH (FORCE)",
    "CREATE TABLE passing (a int)",
    "DROP TABLE passing",
)
_STORING = r"open .*(\.pack|\.zst|\.sealed)\..*partial"  # the first chunk is there


@pytest.fixture(scope="module")
def grounds(request: pytest.FixtureRequest) -> Iterator[Yard]:
    """A server with some content, and one verified backup of it; every test leaves it in order."""
    with tempfile.TemporaryDirectory(prefix="atalaia-test-", ignore_cleanup_errors=True) as name:
        Path(name).chmod(0o755)
        with yard(Path(name, "env"), getattr(request, "param", KIND)) as made:
            begin(made.server, _ROWS)
            made.backup()
            yield made
            _goes_on(made, random.Random(1))


_STEPS = 60  # about as many as each of these commands takes; a few of these kills come too late
_ACTIONS = ("now", "restore", "prune", "verify", "now")


@pytest.mark.timeout(7200 if soak() else 300)
@pytest.mark.parametrize("grounds", sorted(KINDS) if soak() else [KIND], indirect=True)
def test_killed_at_random_points(grounds: Yard, rng: random.Random) -> None:
    killed = number = 0
    rounds = 100 if soak() else len(_ACTIONS) - 1
    while number < rounds or (not killed and number < 5 * rounds):  # a few may all come too late
        change(grounds.server, rng)
        grounds.record()
        action = _ACTIONS[number % len(_ACTIONS)]
        number += 1
        killed += _action(grounds, rng, action)
        if soak():
            _goes_on(grounds, rng)
    assert killed >= (50 if soak() else 1)


def _action(grounds: Yard, rng: random.Random, action: str) -> bool:
    """Kill a command somewhere, and see that the next one ends or clears what it began; whether it was killed."""
    if action == "prune":
        with grounds.retaining(2):
            killed = _killed(grounds, rng, "prune")
            grounds.check(pruning=True)
            grounds.run("backup", "prune")
            assert len(grounds.check(pruning=True).keys() & grounds.recorded.keys()) <= 2
        return killed
    name = rng.choice(sorted(grounds.recorded.keys() - grounds.pruned))
    target = grounds.folder / "restored"
    arguments = {"now": (), "verify": (name,), "restore": (name, "--to", str(target))}[action]
    killed = _killed(grounds, rng, action, *arguments)
    grounds.check()
    if action == "restore" and killed and target.exists():
        # Without that file it is whole, or nothing of it is there yet.
        if (target / "restoring").exists() or not (target / "data").exists():
            grounds.run("backup", action, *arguments)
        assert (target / "data" / "PG_VERSION").is_file()
    shutil.rmtree(target, ignore_errors=True)
    return killed


def _killed(grounds: Yard, rng: random.Random, *arguments: str) -> bool:
    """Kill a command at a step, or after a time; whether it was early enough."""
    if rng.random() < 0.7:
        process = grounds.command("backup", *arguments, at=rng.randrange(1, _STEPS))
    else:
        process = grounds.command("backup", *arguments)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(rng.uniform(0.5, 6))
        process.kill()
    return _ended(grounds, process, arguments[0])


def _ended(grounds: Yard, process: subprocess.Popen[str], action: str) -> bool:
    out, err = process.communicate(timeout=300)
    point = grounds.steps()[1] if (grounds.folder / "steps").exists() else "a moment"
    print(f"{action}: {process.returncode} at {point}")
    assert "Traceback" not in out + err
    assert process.returncode in (0, -signal.SIGKILL), err
    return process.returncode != 0


@pytest.mark.timeout(7200 if soak() else 300)
def test_killed_while_it_uploads(rng: random.Random) -> None:
    with contextlib.ExitStack() as stack:
        store = stack.enter_context(bucket(stack.enter_context(moto())))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="atalaia-test-")))
        folder.chmod(0o755)
        options = ", ".join(f'{key} = "{value}"' for key, value in store.options.items())
        more = f'repository = "{store.address}"\noptions = {{ {options} }}'
        grounds = stack.enter_context(yard(folder / "env", KIND, more=more))
        begin(grounds.server, _ROWS)
        grounds.backup()
        length = len(store.requests)
        for _ in range(40 if soak() else 1):
            change(grounds.server, rng)
            grounds.record()
            _kill_at_request(grounds, store, rng.randrange(1, length + 1))
            grounds.check()
        grounds.backup()
        there = {path.split("/")[2] for path in objects(store)}
        assert there == set(grounds.usable()), "objects of killed backups are left"
        for name in sorted(grounds.recorded) if soak() else ():
            grounds.check_restores(name)


def _kill_at_request(grounds: Yard, store: Store, number: int) -> None:
    """Kill a backup when the store gets its n-th request, before it is answered."""
    began, process = len(store.requests), grounds.command("backup", "now")

    def fault(method: str, path: str, count: int) -> Fault | None:
        if len(store.requests) - began >= number:
            process.kill()
        return None

    store.fault = fault
    try:
        _ended(grounds, process, f"now, {number} requests")
    finally:
        store.fault = lambda method, path, count: None


def _settle(grounds: Yard, rng: random.Random) -> None:
    """In a soak after each fault, else once at the end of all."""
    if soak():
        _goes_on(grounds, rng)


def _goes_on(grounds: Yard, rng: random.Random) -> None:
    """The next commands work, tidy up, and a backup of any age restores. (The fixture's end does it in any case.)"""
    grounds.backup()
    grounds.check_tidy()
    grounds.check_restores(rng.choice(sorted(grounds.recorded.keys() - grounds.pruned)))


def test_a_second_backup_at_the_same_time_is_refused_and_the_first_goes_on(grounds: Yard, rng: random.Random) -> None:
    grounds.record()
    with grounds.halted("backup", "now", match=_STORING) as first:
        assert "already running" in grounds.refused("backup", "now")
        assert [row["state"] for row in grounds.backups().values()].count("running") == 1
    assert first.communicate(timeout=120)[1].count("verified") == 1
    assert first.returncode == 0
    grounds.check()
    _settle(grounds, rng)


@pytest.mark.parametrize("kill", [True, False], ids=["kill -9", "restart"])
def test_a_server_that_restarts_during_a_backup(grounds: Yard, rng: random.Random, kill: bool) -> None:
    change(grounds.server, rng)
    grounds.record()
    with grounds.halted("backup", "now", match=_STORING) as process:
        grounds.stop(kill=kill)
        grounds.start()
    _, err = process.communicate(timeout=120)
    if process.returncode:
        check_told(err)
    else:  # all of it had been sent already
        assert "verified" in err
    grounds.check()
    _settle(grounds, rng)


def test_a_clock_that_was_set_back(grounds: Yard, rng: random.Random) -> None:
    today = grounds.usable()[-1]
    change(grounds.server, rng)
    yesterday = grounds.backup(clock=-86_400)
    assert yesterday < today
    grounds.check()
    if soak():
        grounds.run("backup", "verify", clock=-90_000)
        change(grounds.server, rng)
        assert grounds.backup(clock=-7_200) < today
        grounds.check_restores(today)
    grounds.check_restores(yesterday)
    _settle(grounds, rng)


def test_databases_that_come_go_and_change_their_names_during_a_backup(grounds: Yard, rng: random.Random) -> None:
    grounds.record()
    done = threading.Event()

    def work() -> None:
        with grounds.server.connect() as connection:
            while not done.is_set():
                for statement in _PASSING:
                    # A dump that is connected to a database is in the way of this; the next round comes through.
                    with contextlib.suppress(psycopg.errors.ObjectInUse, psycopg.errors.InvalidCatalogName):
                        connection.execute(statement.encode())

    worker = threading.Thread(target=work)
    worker.start()
    try:
        grounds.run("backup", "now")
    finally:
        done.set()
        worker.join(60)
    name = sorted(grounds.usable())[-1]
    grounds.recorded[name] = grounds.now
    grounds.check_restores(name, passing=True)
    _settle(grounds, rng)


def test_no_room_for_the_restore_test_leaves_a_good_backup_that_is_not_proven(
    grounds: Yard, rng: random.Random
) -> None:
    grounds.record()
    with disk(grounds.environment.state.root / "temporary", 67 << 20):  # a dump passes through it
        grounds.refused("backup", "now")
    found = grounds.check()
    last = list(found.values())[-1]
    assert last["state"] == "complete", f"no room says nothing of the backup: {last['error']}"
    _settle(grounds, rng)


def test_a_repository_that_is_full_or_read_only(grounds: Yard, rng: random.Random) -> None:
    repository = grounds.folder / ".atalaia" / "backups"
    kept = grounds.folder / "kept"
    before = grounds.usable()
    repository.rename(kept)
    try:
        with disk(repository, 200 << 10):
            assert "No space left" in grounds.refused("backup", "now")
            assert not [path for path in repository.rglob("*") if path.is_file()]
            subprocess.run(["mount", "-o", "remount,ro", repository], check=True)
            assert "Read-only" in grounds.refused("backup", "now")
            grounds.refused("backup", "restore", before[-1])
    finally:
        repository.rmdir()
        kept.rename(repository)
    assert grounds.usable() == before
    _settle(grounds, rng)


def test_a_catalogue_that_another_process_holds(grounds: Yard, rng: random.Random) -> None:
    grounds.record()
    holder = sqlite3.connect(grounds.environment.state.backup_catalogue, isolation_level=None, check_same_thread=False)
    with contextlib.closing(holder):
        with grounds.halted("backup", "now", match=_STORING) as process:
            holder.execute("BEGIN EXCLUSIVE")
            letting_go = threading.Timer(40 if soak() else 3, holder.execute, ["ROLLBACK"])
            letting_go.start()
        _, err = process.communicate(timeout=120)
        letting_go.join()
    if soak():
        check_told(err)
        assert "another process" in err
        assert "rebuild" not in err
    else:
        assert process.returncode == 0, err
    grounds.check()
    _settle(grounds, rng)


def test_what_uses_backups_and_what_removes_them_at_once(grounds: Yard, rng: random.Random) -> None:
    change(grounds.server, rng)
    oldest = grounds.usable()[0]
    for _ in range(2):
        grounds.backup()
    target = grounds.folder / "restored"
    for action in ("verify", "restore"):
        arguments = (action, oldest, *(("--to", str(target)) if action == "restore" else ()))
        with grounds.retaining(2):
            with grounds.halted("backup", *arguments, match="subprocess.Popen .*(initdb|bin/postgres)") as process:
                _, told = grounds.run("backup", "prune")
                assert "in use" in told
                assert oldest in grounds.usable()
            assert process.communicate(timeout=120)
            assert process.returncode == 0, "it lost what it worked with"
    shutil.rmtree(target)
    with grounds.retaining(2):
        grounds.run("backup", "prune")
        assert oldest not in grounds.check(pruning=True)
    _settle(grounds, rng)
