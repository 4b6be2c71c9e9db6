"""pgBackRest and Barman of Debian's packages on the bench's server; one that is missing is left out, and says so."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from atalaia.environment.errors import AtalaiaError
from atalaia.postgres.cluster import Cluster
from atalaia.postgres.connect import environment_variables
from bench import usage
from bench.backup_server import started
from bench.usage import Usage

JOBS = 2


@dataclass(frozen=True, slots=True)
class Rival:
    """One tool's backup and restore of the whole server; `stored` in bytes."""

    name: str
    backup: Usage
    restore: Usage
    stored: int


def measure(cluster: Cluster, folder: Path) -> Iterator[Rival | str]:
    """What each tool took, or which one is missing."""
    for name, program, work in (("pgBackRest", "pgbackrest", _pgbackrest), ("Barman", "barman", _barman)):
        if not shutil.which(program):
            yield f"{name} is not installed: `apt-get install {program}`"
            continue
        place = folder / program
        place.mkdir()
        _give(place, cluster)
        yield work(name, cluster, place)
        shutil.rmtree(place)


def _pgbackrest(name: str, cluster: Cluster, place: Path) -> Rival:
    """Full, with two processes, zstd 3, AES-256-CBC, checksums, and the WAL that it needs."""
    user, repository = _user(cluster), place / "repository"
    config = place / "pgbackrest.conf"
    config.write_text(
        f"[global]\nrepo1-path={repository}\nrepo1-retention-full=9\nrepo1-cipher-type=aes-256-cbc\n"
        f"repo1-cipher-pass=bench-{'x' * 40}\nlog-path={place}\nlock-path={place}/lock\nspool-path={place}/spool\n"
        f"process-max={JOBS}\ncompress-type=zst\ncompress-level=3\nstart-fast=y\nlog-level-file=off\n"
        f"[bench]\npg1-path={cluster.data.resolve()}\npg1-port={cluster.port}\n"
    )
    command = ["pgbackrest", f"--config={config}", "--stanza=bench"]
    archive = " ".join([*command, "archive-push", "%p"])
    settings = {**cluster.settings, "archive_mode": "on", "archive_command": archive}
    with _reachable(replace(cluster, settings=settings), place) as variables:
        # It names no host but a socket's directory; PGHOST leads libpq to our address.
        usage.run([*command, "stanza-create"], variables, user=user)
        made = [usage.run([*command, "--type=full", "backup"], variables, user=user) for _ in range(2)]
    restored = []
    for _ in range(2):
        target = place / "restored"
        subprocess.run(["install", "-d", "-m", "700", "-o", user or str(os.getuid()), target], check=True)
        restored.append(usage.run([*command, f"--pg1-path={target}", "restore"], user=user))
        shutil.rmtree(target)
    return Rival(name, _best(made), _best(restored), _size(repository / "backup") // 2)


def _barman(name: str, cluster: Cluster, place: Path) -> Rival:
    """pg_basebackup's own zstd with two workers, WAL streamed beside, no encryption (this Barman has none)."""
    user = _user(cluster)
    config = place / "barman.conf"
    address = f"host={cluster.host} port={cluster.port} user=postgres dbname=postgres"
    config.write_text(
        f"[barman]\nbarman_user = {user or 'root'}\nbarman_home = {place}\nbarman_lock_directory = {place}\n"
        f"log_file = {place}/barman.log\nconfiguration_files_directory = {place}/barman.d\n"
        f"[bench]\ndescription = bench\nconninfo = {address}\nstreaming_conninfo = {address}\n"
        f"backup_method = postgres\nstreaming_archiver = on\nslot_name = barman\ncreate_slot = auto\n"
        f"path_prefix = {cluster.installation.bindir}\nbackup_compression = zstd\nbackup_compression_level = 3\n"
        f"backup_compression_workers = {JOBS}\nimmediate_checkpoint = true\nrecovery_staging_path = {place}\n"
    )
    command = ["barman", "-q", "-c", str(config)]
    with _reachable(cluster, place) as variables:
        usage.run([*command, "receive-wal", "--create-slot", "bench"], variables, user=user)
        receiver = subprocess.Popen(
            [*command, "receive-wal", "bench"], env={**os.environ, **variables}, cwd="/", user=user,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            _wait(lambda: any((place / "bench" / "streaming").glob("*.partial")))
            usage.run([*command, "switch-wal", "--force", "bench"], variables, user=user)
            # It makes no backup before WAL has come once.
            _wait(lambda: usage.run([*command, "archive-wal", "bench"], variables, user=user) and _archived(place))
            made = [usage.run([*command, "backup", "bench"], variables, user=user) for _ in range(2)]
        finally:
            receiver.terminate()
            receiver.wait()
            usage.run([*command, "receive-wal", "--drop-slot", "bench"], variables, user=user)
    stored = _size(place / "bench" / "base") // 2
    restored = []
    for _ in range(2):
        restored.append(usage.run([*command, "recover", "bench", "latest", place / "restored"], variables, user=user))
        shutil.rmtree(place / "restored")
    return Rival(name, _best(made), _best(restored), stored)


def _archived(place: Path) -> bool:
    return any(path.is_file() and len(path.name) == 24 for path in (place / "bench" / "wals").rglob("*"))


def _wait(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        if time.monotonic() > deadline:
            raise AtalaiaError("Barman received no WAL within a minute", "see its log; or uninstall it")
        time.sleep(0.2)


@contextmanager
def _reachable(cluster: Cluster, place: Path) -> Iterator[dict[str, str]]:
    """The server started; what programs of its account need to reach it."""
    given = environment_variables(cluster)
    passwords = place / "pgpass"
    passwords.write_text(Path(given["PGPASSFILE"]).read_text())
    passwords.chmod(0o600)
    _give(passwords, cluster)
    with started(cluster):
        yield given | {"PGPASSFILE": str(passwords), "HOME": str(place)}


def _give(path: Path, cluster: Cluster) -> None:
    if cluster.account:
        os.chown(path, cluster.account.uid, cluster.account.gid)


def _user(cluster: Cluster) -> str | None:
    return cluster.account.name if cluster.account else None


def _best(runs: list[Usage]) -> Usage:
    return min(runs, key=lambda run: run.seconds)


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
