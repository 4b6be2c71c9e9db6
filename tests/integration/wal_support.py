"""Streaming in a thread of a test, backups by pg_basebackup, and recoveries from the archive."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import psycopg
from tests.integration.conftest import end, free_port

from atalaia.backup.model import Target
from atalaia.backup.site import Site
from atalaia.backup.wal import receiving, segment, status
from atalaia.backup.wal.archive import Archive, open_archive
from atalaia.backup.wal.feed import Feed, feeding
from atalaia.backup.wal.status import Status
from atalaia.postgres import control
from atalaia.postgres.cluster import Cluster
from atalaia.postgres.connect import connect, environment_variables
from atalaia.postgres.tools import variables


@dataclass
class Streaming:
    """A receiver at work in a thread."""

    site: Site
    server: str
    stop: threading.Event
    told: list[str] = field(default_factory=list)

    @property
    def status(self) -> Status | None:
        return status.load(self.site, self.server)

    def wait(self, condition: Callable[[Status], bool], what: str, seconds: float = 30) -> Status:
        deadline = time.monotonic() + seconds
        while True:
            seen = self.status
            if seen and condition(seen):
                return seen
            assert time.monotonic() < deadline, f"not within {seconds} s: {what}; {seen}; {self.told}"
            time.sleep(0.05)

    def archived(self, position: str, seconds: float = 30) -> Status:
        """Wait until all up to an LSN is archived."""
        wanted = segment.lsn(position)
        return self.wait(
            lambda seen: bool(seen.archived_lsn) and segment.lsn(seen.archived_lsn) >= wanted,
            f"{position} archived",
            seconds,
        )


@contextlib.contextmanager
def streaming(cluster: Cluster, site: Site, every: float = 0.2) -> Iterator[Streaming]:
    made = Streaming(site, cluster.name, threading.Event())
    failed: list[BaseException] = []

    def work() -> None:
        try:
            receiving.receive(cluster, site, made.stop, made.told.append, every=every)
        except BaseException as error:  # noqa: BLE001 - the test must hear of it
            failed.append(error)

    status.path_of(site, cluster.name).unlink(missing_ok=True)
    thread = threading.Thread(target=work)
    thread.start()
    try:
        made.wait(lambda seen: seen.state == "streaming" or bool(failed), "streaming")
        yield made
    finally:
        made.stop.set()
        thread.join(30)
        assert not thread.is_alive()
        assert not failed, failed


def sql(cluster: Cluster, *statements: str) -> Any:
    """Run statements; the first value of the last one."""
    with connect(cluster, autocommit=True) as connection:
        for statement in statements:
            cursor = connection.execute(statement.encode())
        row = cursor.fetchone() if cursor.description else None
    return row[0] if row else None


def flushed(cluster: Cluster) -> str:
    return str(sql(cluster, "SELECT pg_current_wal_flush_lsn()"))


def archive_of(site: Site, cluster: Cluster) -> Archive:
    system = sql(cluster, "SELECT system_identifier::text FROM pg_control_system()")
    found = open_archive(site.repository, cluster.name, system, site.keyring())
    assert found
    return found


def base_backup(cluster: Cluster, folder: Path) -> dict[str, Any]:
    """A copy of the data directory by PostgreSQL's own tool; the details that the physical kind would keep."""
    subprocess.run(
        [
            cluster.installation.program("pg_basebackup"),
            f"--pgdata={folder}",
            "--wal-method=stream",
            "--checkpoint=fast",
        ],
        check=True,
        env=variables(environment_variables(cluster)),
        capture_output=True,
    )
    label = (folder / "backup_label").read_text()
    start = label.split("START WAL LOCATION: ", 1)[1].split(" ", 1)[0]
    timeline = int(label.split("START TIMELINE: ", 1)[1].split("\n", 1)[0])
    ends = list(__import__("json").loads((folder / "backup_manifest").read_text())["WAL-Ranges"])
    return {
        "start_lsn": start,
        "stop_lsn": ends[-1]["End-LSN"],
        "timeline": timeline,
        "system_identifier": sql(cluster, "SELECT system_identifier::text FROM pg_control_system()"),
    }


@contextlib.contextmanager
def recovered(
    site: Site, cluster: Cluster, base: Path, details: dict[str, Any], target: Target, name: str = "recovered"
) -> Iterator[Cluster]:
    """A server recovered from `base` to a target, running."""
    directory = site.restored / name
    shutil.rmtree(directory, ignore_errors=True)
    copy = replace(cluster, name=name, directory=directory, port=free_port())
    directory.mkdir()
    subprocess.run(["cp", "-a", base, copy.data], check=True)
    if copy.account:
        subprocess.run(["chown", "-R", f"{copy.account.uid}:{copy.account.gid}", copy.data], check=True)
        shutil.chown(directory, group=copy.account.gid)
        directory.chmod(0o750)
    copy.data.chmod(0o700)
    told: list[str] = []
    try:
        with feeding(site, cluster.name, copy, details, target, told.append) as feed:
            settings = {**cluster.settings, **_settings(feed), "hot_standby": False}
            copy = replace(copy, settings=settings)
            (copy.data / "recovery.signal").touch()
            if copy.account:
                shutil.chown(copy.data / "recovery.signal", copy.account.uid, copy.account.gid)
            (copy.data / "postgresql.auto.conf").write_text("")
            control.wait_ready(copy, control.start(copy))
            feed.finish()
        yield copy
    finally:
        end(copy)
        shutil.rmtree(directory, ignore_errors=True)


def _settings(feed: Feed) -> dict[str, Any]:
    target = feed.target
    made: dict[str, Any] = {
        "restore_command": feed.restore_command,
        "recovery_target_action": "promote",
        "recovery_target_timeline": target.timeline,
        "recovery_target_inclusive": target.inclusive,
    }
    if target.time:
        made["recovery_target_time"] = target.time.isoformat()
    if target.lsn:
        made["recovery_target_lsn"] = target.lsn
    if target.name:
        made["recovery_target_name"] = target.name
    return made


def rows(cluster: Cluster, query: str) -> list[tuple[Any, ...]]:
    with connect(cluster, autocommit=True) as connection:
        return connection.execute(query.encode()).fetchall()


__all__ = ["archive_of", "base_backup", "flushed", "psycopg", "recovered", "rows", "sql", "streaming"]
