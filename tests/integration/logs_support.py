"""What the tests of the store and the collector share: entries, open stores, child processes that are always ended."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import duckdb
import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from atalaia.store.batch import METADATA, SCHEMA, canonical
from atalaia.store.options import Options
from atalaia.store.store import Store

LABELS = {"job": "test"}


def entries(
    lines: Sequence[str], ts: Sequence[int] | None = None, labels: Mapping[str, str] = LABELS, metadata: object = None
) -> pa.Table:
    """A batch of one stream; by default all at 1 s."""
    count = len(lines)
    columns = [
        pa.array(list(ts) if ts is not None else [10**9] * count, pa.int64()),
        pa.array([canonical(labels)] * count, pa.utf8()).dictionary_encode(),
        pa.array(list(lines), pa.utf8()),
        pa.array([metadata] * count, METADATA),
    ]
    return pa.Table.from_arrays(columns, schema=SCHEMA)


@contextlib.contextmanager
def opened(directory: Path, options: Options | None = None) -> Iterator[Store]:
    """An open store, closed at the end."""
    store = Store(directory, options)
    try:
        yield store
    finally:
        store.close()


def stored(store: Store) -> list[tuple[int, int, str, str]]:
    """(ts, seq, labels, line) of every entry, in the order of seq."""
    found: list[tuple[int, int, str, str]] = []
    with store.snapshot() as snapshot:
        for part in snapshot.parts:
            table = pq.read_table(part.path) if part.path else pa.Table.from_batches(part.batches)
            assert len(table) == part.rows
            rows = table.select(["ts", "seq", "stream_id", "line"]).to_pylist()
            assert min(r["ts"] for r in rows) == part.min_ts
            assert max(r["ts"] for r in rows) == part.max_ts
            assert part.held is not None
            assert int(part.held.rows.sum()) == part.rows
            found += [(r["ts"], r["seq"], snapshot.streams[r["stream_id"]].text, r["line"]) for r in rows]
    found.sort(key=lambda e: e[1])
    assert len({e[1] for e in found}) == len(found), "a seq was given twice"
    return found


def stored_lines(store: Store) -> list[str]:
    """The line of every entry, in the order of their arrival."""
    return [entry[3] for entry in stored(store)]


def parquet_files(directory: Path) -> list[Path]:
    return sorted((directory / "segments").glob("*.parquet"))


def sql(query: str) -> list[tuple]:
    with duckdb.connect() as connection:
        return connection.sql(query).fetchall()


def wait_for(condition: Callable[[], object], seconds: float = 20.0, what: str = "") -> None:
    """Poll until `condition` holds; fails after `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"never happened: {what or condition}"
        time.sleep(0.01)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def small_disk(folder: Path, size: int) -> Iterator[Path]:
    """A file system of its own with `size` bytes."""
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip("only root may mount a file system")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


@contextlib.contextmanager
def child(arguments: Sequence[str], **options: object) -> Iterator[subprocess.Popen[bytes]]:
    """A Python child process, killed and reaped at the end."""
    process = subprocess.Popen([sys.executable, *arguments], **options)  # type: ignore[call-overload]
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(10)
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                stream.close()


class Server:
    """The real store server, which can be killed and started again on the same port."""

    def __init__(self, directory: Path, port: int | None = None, limits: Sequence[str] = ()) -> None:
        self.directory = directory
        self.port = port or free_port()
        self._limits = [argument for limit in limits for argument in ("--limit", limit)]
        self.base = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "atalaia", "serve", "--data", str(self.directory)]
        self._process = subprocess.Popen(
            [*command, "--listen", f"127.0.0.1:{self.port}", *self._limits],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait_for(self._ready, 30, "the server answers")

    def _ready(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, "the server ended"
        try:
            return httpx.get(f"{self.base}/ready", trust_env=False, timeout=2).status_code in (200, 503)
        except httpx.HTTPError:
            return False

    def kill(self) -> None:
        """As a power cut would end it."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def _end(self, number: int) -> None:
        if self._process is not None:
            if self._process.poll() is None:
                os.kill(self._process.pid, number)
            self._process.wait(20)
            self._process = None
