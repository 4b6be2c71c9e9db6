"""A whole environment in a folder of its own, driven as a user would, and what its logs must hold."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg

from atalaia.client.entries import LogEntry
from atalaia.client.loki import LokiClient

Line = tuple[str, str, str]  # server, severity, text


class Home:
    """An environment's folder. `varlog` stands in for /var/log."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.varlog = folder / "varlog"
        self.varlog.mkdir(parents=True)
        self.state = folder / ".atalaia"
        (folder / "atalaia.toml").write_text('[collection]\ntargets = ["varlog/*log"]\n')

    def run(self, *arguments: str, code: int | None = 0, seconds: float = 180) -> subprocess.CompletedProcess[str]:
        """Run `atalaia`; its exit code must be `code`."""
        done = subprocess.run(
            [sys.executable, "-m", "atalaia", *arguments],
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
        assert code is None or done.returncode == code, (
            f"{arguments} -> {done.returncode}\n{done.stdout}\n{done.stderr}"
        )
        assert "Traceback" not in done.stdout + done.stderr
        return done

    def status(self) -> dict[str, Any]:
        return dict(json.loads(self.run("status", "--json", code=None).stdout))

    def service(self, name: str) -> dict[str, Any]:
        return next(s for s in self.status()["services"] if s["name"] == name)

    def ports(self) -> dict[str, int]:
        return dict(json.loads((self.state / "state.json").read_text())["ports"])

    def password(self, server: str) -> str:
        return (self.state / "secrets" / f"{server}.password").read_text().strip()

    def connect(self, server: str, **options: Any) -> psycopg.Connection[Any]:
        given = {
            "host": "127.0.0.1",
            "port": self.ports()[server],
            "user": "postgres",
            "dbname": "postgres",
            "password": self.password(server),
        }
        return psycopg.connect(**{**given, "autocommit": True, "connect_timeout": 10, **options})

    def logs(self) -> LokiClient:
        return LokiClient(f"http://127.0.0.1:{self.ports()['store']}")

    def stored(self, query: str) -> list[LogEntry]:
        client = self.logs()
        try:
            return list(client.entries(query, start=0, end=time.time_ns() + 10**12))
        finally:
            client.close()

    def stop_everything(self) -> None:
        """Whatever the test did, leave no process behind."""
        with contextlib.suppress(AssertionError, subprocess.TimeoutExpired):
            self.run("down", code=None, seconds=120)
        pids = set()
        for file in (self.state / "run").glob("*.json"):
            with contextlib.suppress(ValueError, KeyError, OSError):
                pids.add(int(json.loads(file.read_text())["pid"]))
        for file in (self.state / "servers").glob("*/data/postmaster.pid"):
            with contextlib.suppress(ValueError, OSError):
                pids.add(int(file.read_text().splitlines()[0]))
        for pid in pids:
            command = Path(f"/proc/{pid}/cmdline")
            with contextlib.suppress(OSError):
                text = command.read_bytes()
                if b"atalaia" in text or str(self.state).encode() in text:
                    os.kill(pid, signal.SIGKILL)
        for link in (self.state / "servers", self.state / "restored", self.state / "temporary"):
            if link.is_symlink():
                shutil.rmtree(link.resolve().parent, ignore_errors=True)


@contextlib.contextmanager
def home(folder: Path) -> Iterator[Home]:
    made = Home(folder)
    try:
        yield made
    finally:
        made.stop_everything()


def wait_for(condition: Callable[[], bool], what: str, seconds: float = 60) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.1)


_PREFIX = re.compile(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} \w+ \[\d+\] (?:[^@ ]*@[^ ]* )?")
_WORDS = (
    ("DETAIL", "detail"),
    ("HINT", "hint"),
    ("QUERY", "internal_query"),
    ("CONTEXT", "context"),
    ("STATEMENT", "statement"),
)


def written_records(home: Home, server: str) -> Counter[Line]:
    """Every record in the server's jsonlog files, read without Atalaia's own code."""
    found: Counter[Line] = Counter()
    for path in sorted((home.state / "servers" / server / "log").glob("*.json")):
        for raw in path.read_bytes().split(b"\n")[:-1]:
            record = json.loads(raw)
            where = record.get("cursor_position") or record.get("internal_position")
            at = f" at character {where}" if where else ""
            parts = [f"{record['error_severity']}:  {record['message']}{at}"]
            parts += [f"{word}:  {record[key]}" for word, key in _WORDS if key in record]
            found[server, record["error_severity"], "\n".join(parts)] += 1
    return found


def written_stderr(home: Home, server: str) -> Counter[str]:
    """Every physical line of what the server said outside its jsonlog."""
    folder = home.state / "servers" / server
    found: Counter[str] = Counter()
    for path in [folder / "stderr.log", *(folder / "log").glob("*.log")]:
        found.update(_PREFIX.sub("", line) for line in path.read_text().split("\n")[:-1])
    return found


def assert_all_stored_once(home: Home, server: str) -> int:
    """Every line that the server wrote is stored exactly once, with the right server and severity; how many."""
    records = written_records(home, server)
    lines = written_stderr(home, server)
    stored = home.stored(f'{{job="postgres", server="{server}"}}')
    left = Counter((e.labels["server"], e.labels.get("severity", ""), e.line) for e in stored)
    missing = records - left
    assert not missing, f"{sum(missing.values())} records of {server} are missing, such as {next(iter(missing))}"
    rest = left - records
    rest_lines: Counter[str] = Counter()
    for (_, _, text), count in rest.items():
        for line in text.split("\n"):
            rest_lines[line] += count
    assert rest_lines == lines, (
        f"{server}: stored and not written {rest_lines - lines}; written and not stored {lines - rest_lines}"
    )
    return sum(records.values()) + sum(lines.values())
