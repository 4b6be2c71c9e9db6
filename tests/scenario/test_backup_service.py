"""Scheduled backups under the supervisor: they run, are told, survive kill -9, and end cleanly with everything."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import sqlite3
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import psycopg

from tests.scenario.support import Home, wait_for

SETTINGS = """\
[servers.postgres_a]
version = 16
[servers.postgres_b]
version = 16
[collection]
targets = []
[backups]
kind = "plain"
[backups.schedule]
plain = "{cron}"
[backups.retention]
last = 2
[backups.promise]
verified = "1h"
change = 0
"""
OFTEN, NEVER = "*/2 * * * * *", "0 0 29 2 *"


def configure(environment: Home, cron: str) -> None:
    (environment.folder / "atalaia.toml").write_text(SETTINGS.format(cron=cron))


def rows(environment: Home, where: str = "true") -> list[dict[str, Any]]:
    catalogue = f"file:{environment.state / 'backups.sqlite'}?mode=ro"
    with contextlib.closing(sqlite3.connect(catalogue, uri=True)) as connection:
        connection.row_factory = sqlite3.Row
        return [dict(row) for row in connection.execute(f"SELECT * FROM backup WHERE {where} ORDER BY started")]


def verified(environment: Home, server: str) -> int:
    """How many backups were ever verified: those kept and those removed."""
    log = environment.state / "log" / "backup.log"
    return log.read_text().count(f"event=backup_verified backup={server}_") if log.exists() else 0


def service_pid(environment: Home) -> int:
    return int(json.loads((environment.state / "run" / "backup.json").read_text())["pid"])


def children(environment: Home) -> list[psutil.Process]:
    """`backup now` of this environment."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if "backup" in words and "now" in words and str(environment.folder / "atalaia.toml") in words:
            found.append(process)
    return found


@contextlib.contextmanager
def stuck(environment: Home, server: str) -> Iterator[str]:
    """A backup that waits for a lock: its id."""
    waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted"
    # The test may stop the server within.
    with contextlib.suppress(psycopg.OperationalError), environment.connect(server) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS held (a int)")
        with connection.transaction():
            connection.execute("LOCK TABLE held")
            wait_for(lambda: connection.execute(waiting).fetchone() == (1,), "a dump waits for the lock")
            (held,) = running(environment, server)
            yield held


def running(environment: Home, server: str) -> list[str]:
    """Ids of backups under way."""
    return [row["id"] for row in rows(environment, f"state = 'running' AND server = '{server}'")]


def found(environment: Home, event: str, server: str) -> list[str]:
    """As docs/backup-keeping.md asks for it."""
    query = f'{{job="atalaia", service="backup"}} | logfmt | event="{event}" | server="{server}"'
    return [entry.line for entry in environment.stored(query)]


def documented() -> list[str]:
    """The queries of docs/backup-keeping.md."""
    text = (Path(__file__).parents[2] / "docs" / "backup-keeping.md").read_text()
    (block,) = re.findall(r"```logql\n(.*?)```", text, re.S)
    return [line for line in block.splitlines() if not line.startswith("#")]


def test_scheduled_backups_run_are_told_and_survive_kill_9(environment: Home) -> None:
    configure(environment, OFTEN)
    environment.run("up")
    wait_for(lambda: min(verified(environment, s) for s in ("postgres_a", "postgres_b")) >= 2, "both are backed up")
    status = json.loads(environment.run("status", "--json").stdout)
    assert status["backups"]["good"]
    assert status["backups"]["servers"]["postgres_a"]["verified"]
    # Of each server the last two are kept.
    wait_for(
        lambda: len(rows(environment, "state = 'verified' AND server = 'postgres_a'")) == 2, "retention is applied"
    )

    # kill -9 in the middle of a backup: it goes on, the service comes back, and begins no second one meanwhile.
    with stuck(environment, "postgres_a") as held:
        before = service_pid(environment)
        os.kill(before, signal.SIGKILL)
        wait_for(lambda: environment.service("backup")["restarts"] == 1, "the service is back")
        wait_for(lambda: environment.service("backup")["state"] == "ready", "the service is ready")
        assert service_pid(environment) != before
        others = verified(environment, "postgres_b")
        wait_for(lambda: verified(environment, "postgres_b") > others, "the other server's go on")
        assert running(environment, "postgres_a") == [held]
    wait_for(lambda: held in "".join(found(environment, "backup_verified", "postgres_a")), "it is found in the store")

    # A backup that fails: something is in its way.
    folder = environment.state / "backups" / "postgres_b"
    folder.rename(environment.folder / "aside")
    folder.write_text("in the way")
    wait_for(lambda: bool(rows(environment, "state = 'failed' AND server = 'postgres_b'")), "a backup fails")
    red = json.loads(environment.run("backup", "status", "--json", code=1).stdout)
    assert {(reason["kind"], reason["server"]) for reason in red["reasons"]} >= {("failed", "postgres_b")}
    assert "postgres_b: the last plain backup" in environment.run("status", code=1).stdout
    assert "the last plain backup" in environment.run("doctor", code=1).stdout
    wait_for(lambda: "Not a directory" in "".join(found(environment, "backup_failed", "postgres_b")), "it is found")
    for query in documented():
        assert environment.run("query", query).stdout.strip(), query
    port = json.loads((environment.state / "backup-runs.json").read_text())["port"]
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    assert "atalaia_backup_up 0.0" in text
    assert 'atalaia_backup_alarms{reason="failed",server="postgres_b"} 1.0' in text
    shown = json.loads(environment.run("backup", "schedule", "--json").stdout)
    assert "Not a directory" in {one["server"]: one["last"]["problem"] for one in shown}["postgres_b"]
    folder.unlink()
    (environment.folder / "aside").rename(folder)

    # Everything is brought down in the middle of a backup.
    with stuck(environment, "postgres_a") as held:
        environment.run("down")
    assert not children(environment)
    (ended,) = rows(environment, f"id = '{held}'")
    assert ended["state"] == "failed"
    assert "interrupted" in ended["error"]
    assert not (environment.state / "backups" / "postgres_a" / ended["id"]).exists()
    red = json.loads(environment.run("backup", "status", "--json", code=1).stdout)
    assert "service" in {reason["kind"] for reason in red["reasons"]}


def test_silence_is_red_from_the_first_moment(environment: Home) -> None:
    """Without anything running: exit codes, one line a reason, metrics for a textfile."""
    assert environment.run("backup", "status").stdout.endswith("atalaia.toml do that\n")
    configure(environment, NEVER)
    said = environment.run("backup", "status", code=1).stdout
    for line in (
        "RED  backups are scheduled or streamed, and their service does not run; run `atalaia up`",
        "RED  postgres_a: it was never backed up; `atalaia backup now postgres_a` makes one and proves it",
    ):
        assert line in said.splitlines()
    assert "atalaia_backup_up 0.0" in environment.run("backup", "status", "--metrics").stdout
    environment.state.mkdir()
    (environment.state / "backups.sqlite").write_text("this is no database " * 100)
    said = environment.run("backup", "status", code=1).stdout
    assert said.startswith("RED  the catalogue ")
    assert "atalaia backup rebuild" in said
    schedule = json.loads(environment.run("backup", "schedule", "--json").stdout)
    assert [(one["task"], one["server"], one["next"][:10]) for one in schedule] == [
        ("plain", "postgres_a", "2028-02-29"),
        ("plain", "postgres_b", "2028-02-29"),
    ]


def test_commands_say_what_is_wrong(environment: Home) -> None:
    assert "there is no backup 'x'" in environment.run("backup", "keep", "x", code=2).stderr
    assert "is not a date" in environment.run("backup", "keep", "x", "--until", "tomorrow", code=2).stderr
    assert "nothing is scheduled" in environment.run("backup", "schedule").stderr
    assert json.loads(environment.run("backup", "prune", "--json").stdout)["backups"] == []
    assert (
        "never started"
        in environment.run("backup", "serve", "--environment", str(environment.folder / "atalaia.toml"), code=2).stderr
    )
