"""A server with a repository, backed up by commands that are killed, and what must hold whatever happened to them."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from atalaia.environment.load import load
from atalaia.postgres import control, init
from atalaia.postgres.cluster import Cluster
from atalaia.runtime.process import Process
from atalaia.supervisor import layout
from tests.integration.logs_support import free_port
from tests.integration.object_store import Store
from tests.scenario.backup_oracle import Content, Server, content, differences

DYING = Path(__file__).with_name("backup_dying.py")
USABLE = ("complete", "verified")
Row = dict[str, Any]


class Yard:
    """An environment with one running server, `postgres_a`, its commands, and what each of its backups must hold."""

    def __init__(self, folder: Path, kind: str = "plain", major: int = 16, more: str = "") -> None:
        self.folder = folder
        self.kind = kind
        folder.mkdir()
        folder.chmod(0o755)
        (folder / "temp").mkdir()
        (folder / "temp").chmod(0o711)
        self._text = (
            f"[collection]\ntargets = []\n[servers.postgres_a]\nversion = {major}\nport = {free_port()}\n"
            f'[backups]\nkind = "{kind}"\n{more}\n'
        )
        self._write()
        self.environment = load(folder / "atalaia.toml")
        decided = layout.decide(self.environment)
        self.cluster: Cluster = replace(decided.clusters["postgres_a"], settings={"fsync": False})
        init.initialise(self.cluster, durable=False)
        self.start()
        self.recorded: dict[str, Content] = {}
        self.pruned: set[str] = set()
        self.retained = 0

    def _write(self, more: str = "") -> None:
        (self.folder / "atalaia.toml").write_text(f"{self._text}{more}\n")

    @contextlib.contextmanager
    def retaining(self, last: int) -> Iterator[None]:
        """Only the last backups are to be kept, as long as the block lasts."""
        self._write(f"[backups.retention]\nlast = {last}\n")
        self.retained = last
        try:
            yield
        finally:
            self._write()

    # The server

    def start(self) -> None:
        """Start the server."""
        control.wait_ready(self.cluster, control.start(self.cluster))

    def stop(self, *, kill: bool = False) -> None:
        """Stop the server; `kill` is kill -9 of the postmaster."""
        if process := control.postmaster(self.cluster):
            if kill:
                family = psutil.Process(process.pid).children(recursive=True)
                os.kill(process.pid, signal.SIGKILL)
                assert process.wait(10)
                process.reap()
                _, left = psutil.wait_procs(family, timeout=10)
                for child in left:  # such as a walsender that waits for a receiver that has halted
                    child.kill()
                psutil.wait_procs(left, timeout=10)
            else:
                assert control.stop(process, 30)

    @property
    def server(self) -> Server:
        """How the oracle reads the source."""
        return reading(self.cluster)

    # Commands

    def command(self, *arguments: str, **order: Any) -> subprocess.Popen[str]:
        """`atalaia ARGUMENTS`; `order` as backup_dying.py takes it."""
        told = self.folder / "steps"
        told.unlink(missing_ok=True)
        given = json.dumps({"folder": str(self.folder), "told": str(told), **order})
        return subprocess.Popen(
            [sys.executable, DYING, given, *arguments],
            cwd=self.folder,
            env={**os.environ, "TMPDIR": str(self.folder / "temp"), "PYTHONPATH": os.pathsep.join(sys.path)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str, code: int | None = 0, seconds: float = 300, **order: Any) -> tuple[str, str]:
        """The command to its end: what it printed, what it told. Its exit code must be `code`."""
        process = self.command(*arguments, **order)
        try:
            out, err = process.communicate(timeout=seconds)
        except BaseException:
            process.kill()
            raise
        assert "Traceback" not in out + err, err
        assert "internal error" not in err, err
        assert code is None or process.returncode == code, f"{arguments} -> {process.returncode}\n{out}\n{err}"
        return out, err

    @contextlib.contextmanager
    def halted(self, *arguments: str, match: str, at: int = 1) -> Iterator[subprocess.Popen[str]]:
        """A command that has stopped (SIGSTOP) at a step, and goes on when the block ends."""
        process = self.command(*arguments, match=match, at=at, signal=int(signal.SIGSTOP))
        try:
            state = psutil.Process(process.pid)
            wait_until(lambda: state.status() == psutil.STATUS_STOPPED, lambda: f"it did not halt: {state}", 60)
            yield process
        finally:
            process.send_signal(signal.SIGCONT)

    def refused(self, *arguments: str, **order: Any) -> str:
        """A command that must fail; what it told, which has a remedy."""
        process = self.command(*arguments, **order)
        out, err = process.communicate(timeout=300)
        assert process.returncode in (1, 2), f"{arguments} -> {process.returncode}\n{out}\n{err}"
        check_told(err)
        return err

    def steps(self) -> tuple[int, str]:
        """How many steps the last command took, and which was the last one."""
        count, _, what = (self.folder / "steps").read_text().partition(" ")
        return int(count), what

    def backups(self) -> dict[str, Row]:
        """All backups by id; what was interrupted is cleaned up by this."""
        return {row["id"]: row for row in json.loads(self.run("backup", "list", "--json")[0])}

    def usable(self) -> list[str]:
        """Ids of backups that are listed as good, oldest first."""
        return [name for name, row in self.backups().items() if row["state"] in USABLE]

    def backup(self, *arguments: str, **order: Any) -> str:
        """Make a backup of what the server holds now; its id. It must be verified, unless `--no-verify` is given."""
        self.record()
        made = json.loads(self.run("backup", "now", "--json", *arguments, **order)[0])[0]
        assert made["state"] == ("complete" if "--no-verify" in arguments else "verified")
        self.note(self.backups())
        return str(made["id"])

    # What must hold

    def record(self) -> None:
        """Read what the server holds: the backup that is made next must restore to this."""
        self.now = content(self.server)

    def note(self, found: dict[str, Row]) -> None:
        """New good backups hold what was recorded last."""
        for name, row in found.items():
            if row["state"] in USABLE:
                self.recorded.setdefault(name, self.now)

    def check(self, *, pruning: bool = False) -> dict[str, Row]:
        """After whatever happened: nothing good is lost, nothing is half there; the rows of all backups.

        `pruning`: what retention lets go may be gone, or marked as going, but neither more nor half of it.
        """
        found = self.backups()
        self.note(found)
        good = [name for name, row in found.items() if row["state"] in USABLE]
        lost = {name for name in self.recorded if name not in good} - self.pruned
        if pruning:
            kept = sorted(self.recorded.keys() - self.pruned)[-self.retained :]
            assert not lost & set(kept), f"retention keeps these, and they are lost: {lost & set(kept)}"
            self.pruned |= lost
        else:
            assert not lost, f"good backups are lost: {lost}"
        assert not [name for name, row in found.items() if row["state"] == "running"]
        repository = self.environment.state.root / "backups"
        if repository.is_dir():
            missing = [name for name in good if not (repository / "postgres_a" / name / "manifest.json").is_file()]
            assert not missing, f"listed as good, and not there: {missing}"
        return found

    def check_tidy(self) -> None:
        """Nothing is left of commands that were killed: objects, partial files, servers, processes, sockets, locks."""
        wait_until(lambda: not self.strays(), lambda: f"processes are left: {self.strays()}")
        usable = set(self.usable())
        repository = self.environment.state.root / "backups"
        if repository.is_dir():
            wanted = {f"postgres_a/{name}" for name in usable} | {"postgres_a/wal"}
            there = {
                "/".join(path.relative_to(repository).parts[:2])
                for path in repository.rglob("*")
                if len(path.relative_to(repository).parts) >= 2
            }
            assert there <= wanted, f"left in the repository: {there - wanted}"
            assert not list(repository.rglob("*.partial"))
        assert not list((self.folder / "temp").iterdir()), list((self.folder / "temp").iterdir())
        temporary = self.environment.state.root / "temporary"
        assert not list(temporary.iterdir()), list(temporary.iterdir())
        for lock in self.environment.state.run.glob("backup-*.lock"):
            with lock.open() as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with self.server.connect() as connection:
            slots = connection.execute("SELECT slot_name FROM pg_replication_slots").fetchall()
            assert not slots, f"replication slots are left: {slots}"

    def strays(self) -> list[str]:
        """Processes below this folder that are not the server's."""
        own = control.postmaster(self.cluster)
        family = {os.getpid()} | ({own.pid} if own else set())
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                words = process.cmdline()
                parents = {parent.pid for parent in process.parents()} | {process.pid}
                if not own or own.pid not in parents:
                    about = " ".join([*words, process.cwd()])
                    if str(self.folder) in about and process.pid not in family:
                        found.append(f"{process.pid} {' '.join(words)[:200]}")
        return found

    def check_restores(self, name: str, *, passing: bool = False) -> None:
        """A backup restores by its command into a new server, which holds what was recorded, row by row.

        `passing`: it may have databases and tables besides whose names begin so.
        """
        target = self.environment.state.root / "restored" / f"check-{random.randrange(10**9)}"
        out, _ = self.run("backup", "restore", name, "--to", str(target), "--start", "--json")
        done = json.loads(out)
        try:
            password = Path(done["password_file"]).read_text().strip()
            restored = Server("127.0.0.1", done["port"], self.cluster.installation.bindir, password)
            different = differences(self.recorded[name], content(restored), crashed=self.kind == "physical")
            different = [words for words in different if not (passing and words.startswith("new:") and "pass" in words)]
            assert not different, f"{name} differs: {different[:5]}"
        finally:
            pid = int((target / "data" / "postmaster.pid").read_text().split()[0])
            if process := Process.of(pid):
                control.stop(process, 30)
            shutil.rmtree(target)

    def end(self) -> None:
        """Leave no process and no folder behind, whatever happened."""
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if str(self.folder) in " ".join([*process.cmdline(), process.cwd()]) and process.pid != os.getpid():
                    process.kill()
        wait_until(lambda: not self.strays(), lambda: f"{self.strays()}")
        for link in ("servers", "restored", "temporary"):
            path = self.environment.state.root / link
            if path.is_symlink():
                shutil.rmtree(path.resolve().parent, ignore_errors=True)


@contextlib.contextmanager
def yard(folder: Path, kind: str = "plain", major: int = 16, more: str = "") -> Iterator[Yard]:
    """A yard that leaves nothing behind."""
    made = Yard(folder, kind, major, more)
    try:
        yield made
    finally:
        made.end()


def reading(cluster: Cluster) -> Server:
    """How the oracle reads one of our clusters."""
    return Server(cluster.host, cluster.port, cluster.installation.bindir, cluster.password_file.read_text().strip())


@contextlib.contextmanager
def disk(folder: Path, size: int) -> Iterator[Path]:
    """A file system of its own with `size` bytes in a folder, which may exist; only root can do that."""
    before = folder.stat() if folder.exists() else None
    folder.mkdir(exist_ok=True)
    owner = f",uid={before.st_uid},gid={before.st_gid},mode={before.st_mode & 0o777:o}" if before else ""
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}{owner}", "none", folder]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("only root may mount a file system")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


def check_told(err: str) -> None:
    """An error's text is one message for a person: what happened, and below it what to do."""
    assert "Traceback" not in err, err
    assert "internal error" not in err, err
    last = err.rstrip().splitlines()[-1:]
    assert re.search(r"^atalaia: \S", err, re.MULTILINE), f"no message: {err!r}"
    assert last[0].startswith("  "), f"no remedy: {err!r}"


def objects(store: Store) -> list[str]:
    """Names of all objects of a bucket."""
    with urllib.request.urlopen(f"{store.direct}/{store.bucket}?list-type=2") as answer:
        return re.findall(r"<Key>([^<]*)</Key>", answer.read().decode())


def wait_until(condition: Any, told: Any, seconds: float = 30) -> None:
    """Wait for what gives no event: other processes' ends and files."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, told()
        time.sleep(0.02)
