"""Both servers under a real workload: every line that was written is found by LogQL exactly once."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

from tests.conftest import soak
from tests.scenario.support import Home, assert_all_stored_once, wait_for
from tests.scenario.workload import Workload, deadlock, http_request, long_statement, wrong_password

SERVERS = ("postgres_a", "postgres_b")


def _last_numbers_stored(environment: Home, workload: Workload) -> bool:
    for server in SERVERS:
        last = workload.acknowledged[server][-1]
        if not environment.stored(f'{{job="postgres", server="{server}"}} |= "number {server}-{last}-end"'):
            return False
    return all(
        environment.stored(f'{{filename="{environment.varlog / name}"}} |= "line {last}-end"')
        for name, last in workload.written.items()
    )


def _check_files(environment: Home, workload: Workload) -> int:
    """Lines of the stand-in for /var/log, counted by their numbers."""
    total = 0
    for name, last in workload.written.items():
        stored = environment.stored(f'{{job="varlogs", filename="{environment.varlog / name}"}}')
        counted = Counter(e.line for e in stored)
        assert counted == Counter(f"{name} line {n}-end ção" for n in range(1, last + 1))
        total += last
    return total


def _check_servers(environment: Home, workload: Workload) -> int:
    """Every record once; and every message that a client saw confirmed is among them."""
    total = 0
    for server in SERVERS:
        total += assert_all_stored_once(environment, server)
        lines = Counter(
            e.line
            for e in environment.stored(f'{{job="postgres", server="{server}", severity="LOG"}} |= "number {server}-"')
        )
        for number in workload.acknowledged[server]:
            assert sum(lines[line] for line in lines if f"number {server}-{number}-end" in line.split("\n")[0]) == 1
    return total


def test_every_line_is_stored_once(environment: Home) -> None:
    shown = environment.run("up").stdout
    for server in SERVERS:
        assert re.search(rf"^{server}\s+ready", shown, re.M)
        assert f"postgresql://postgres@127.0.0.1:{environment.ports()[server]}/postgres" in shown
    with Workload(environment) as workload:
        for server in SERVERS:
            http_request(environment.ports()[server])
            wrong_password(environment, server)
            deadlock(environment, server)
            long_statement(environment, server)
    wait_for(lambda: _last_numbers_stored(environment, workload), "the last lines are stored")
    total = _check_servers(environment, workload) + _check_files(environment, workload)
    print(f"{total} lines, each stored once")

    def count(query: str) -> int:
        return len(environment.stored(query))

    for server in SERVERS:
        mine = f'job="postgres", server="{server}"'
        assert count(f'{{{mine}, severity="LOG"}} |= "invalid length of startup packet"') == 1
        assert count(f'{{{mine}, severity="FATAL"}} |= "password authentication failed"') == 1
        assert count(f'{{{mine}, severity="ERROR"}} |= "deadlock detected"') == 1
        assert count(f'{{{mine}, severity="LOG"}} |~ "duration: 1[0-9]{{3}}.* pg_sleep"') == 1
        failed = environment.stored(f'{{{mine}, severity="FATAL"}} |= "password authentication failed"')[0]
        assert failed.metadata["sqlstate"] == "28P01"
        assert failed.metadata["remote_host"] == "127.0.0.1"
    # Again after a clean stop, with the servers' last words; nothing comes twice.
    environment.run("down")
    environment.run("up")
    wait_for(lambda: count('{job="postgres"} |= "database system is shut down"') == 2, "the last words are stored")
    total = _check_files(environment, workload)
    for server in SERVERS:
        total += _settled(environment, server)
    print(f"{total} lines after a restart, each stored once")


def _settled(environment: Home, server: str) -> int:
    """Check a server that still writes: what it logs of our own look at it may be under way."""

    def good() -> bool:
        try:
            assert_all_stored_once(environment, server)
        except AssertionError:
            return False
        return True

    wait_for(good, f"all of {server} is stored", 20)
    return assert_all_stored_once(environment, server)


def _pid(environment: Home, name: str) -> int:
    if name == "supervisor":
        return int(json.loads((environment.state / "run" / "supervisor.json").read_text())["pid"])
    return int(environment.service(name)["pid"])


def _kill(environment: Home, part: str) -> None:
    """kill -9 a part and wait until it is back."""
    before = {s["name"]: s["pid"] for s in environment.status()["services"]}
    victim = _pid(environment, part)
    os.kill(victim, signal.SIGKILL)
    if part == "supervisor":
        wait_for(lambda: environment.status()["supervisor"] is None, "the supervisor is gone")
        environment.run("up")
        adopted = {s["name"]: s["pid"] for s in environment.status()["services"]}
        assert adopted == before, "the services that ran are adopted, not started again"
        return

    def back() -> bool:
        seen = environment.service(part)
        return seen["state"] == "ready" and seen["pid"] != victim

    try:
        wait_for(back, f"{part} is back", 120)
    except AssertionError:
        print(json.dumps(environment.service(part), indent=1))
        raise


def test_kill_9_of_every_part_loses_and_repeats_nothing(environment: Home, rng: random.Random) -> None:
    environment.run("up")
    rounds = 5 if soak() else 1
    with Workload(environment) as workload:
        for _ in range(rounds):
            parts = ["store", "collector", "supervisor", *SERVERS]
            rng.shuffle(parts)
            for part in parts:
                _kill(environment, part)
        http_request(environment.ports()["postgres_a"])
    wait_for(lambda: _last_numbers_stored(environment, workload), "the last lines are stored", 120)
    for server in SERVERS:
        _settled(environment, server)
    total = _check_servers(environment, workload) + _check_files(environment, workload)
    print(f"{rounds} rounds, 5 kills each: {total} lines, each stored once")
    environment.run("down")


def test_up_and_down_are_idempotent(environment: Home) -> None:
    environment.run("up")
    first = {s["name"]: s["pid"] for s in environment.status()["services"]}
    environment.run("up")
    assert {s["name"]: s["pid"] for s in environment.status()["services"]} == first
    assert "stopped" in environment.run("down").stdout
    assert "nothing runs" in environment.run("down").stdout
    assert all(s["pid"] is None for s in environment.status()["services"])
    for pid in first.values():
        assert (
            not Path(f"/proc/{pid}").exists()
            or Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
        )


def test_down_while_starting(environment: Home) -> None:
    starting = subprocess.Popen(
        [sys.executable, "-m", "atalaia", "up"],
        cwd=environment.folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    wait_for((environment.state / "run" / "control.sock").exists, "the supervisor listens")
    done = environment.run("down", seconds=60)
    assert "all stopped" in done.stdout
    _, said = starting.communicate(timeout=60)
    assert starting.returncode == 1
    assert b"brought down" in said or b"supervisor ended" in said
    assert b"Traceback" not in said
    assert all(s["pid"] is None for s in environment.status()["services"])
    environment.run("up")
    assert all(s["state"] == "ready" for s in environment.status()["services"])


def test_ctrl_c_is_clean(environment: Home) -> None:
    attached = subprocess.Popen(
        [sys.executable, "-m", "atalaia", "up", "--foreground"],
        cwd=environment.folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_for(lambda: attached.poll() is not None or _all_ready(environment), "all is ready")
    attached.send_signal(signal.SIGINT)
    shown, said = attached.communicate(timeout=90)
    assert attached.returncode == 0
    assert "postgres_a" in shown
    assert "all stopped" in shown
    assert "Traceback" not in said
    following = subprocess.Popen(
        [sys.executable, "-m", "atalaia", "up"], cwd=environment.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    wait_for((environment.state / "run" / "control.sock").exists, "the supervisor listens")
    following.send_signal(signal.SIGINT)
    _, error = following.communicate(timeout=90)
    assert following.returncode in (0, 130)
    assert b"Traceback" not in error
    if following.returncode == 130:
        assert all(s["pid"] is None for s in environment.status()["services"])


def _all_ready(environment: Home) -> bool:
    services = environment.status()["services"]
    return bool(services) and all(s["state"] == "ready" for s in services)
