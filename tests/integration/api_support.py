"""A log store served over HTTP for the tests of the API: one a session, a tenant a test."""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

S = 10**9
NOW = 1_700_000_000 * S
HOUR = 3600 * S
Labels = Mapping[str, str]


class Served:
    """`atalaia serve` as a process of its own; what it writes to standard error is kept."""

    def __init__(self, directory: Path, *options: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = int(probe.getsockname()[1])
        self.url = f"http://127.0.0.1:{self.port}"
        listen = f"127.0.0.1:{self.port}"
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-W",
                "error",
                "-m",
                "atalaia",
                "serve",
                "--data",
                directory,
                "--listen",
                listen,
                *options,
            ],
            stderr=subprocess.PIPE,
            text=True,
        )
        self.errors: list[str] = []
        self._listening = threading.Event()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        assert self._listening.wait(20), self.errors

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.errors.append(line)
            if "event=listening" in line:
                self._listening.set()
        self._listening.set()

    def stop(self) -> int:
        """Its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(20)
        finally:
            self.process.kill()
            self._reader.join()
            assert self.process.stderr is not None
            self.process.stderr.close()


@contextlib.contextmanager
def ended(process: subprocess.Popen[Any]) -> Iterator[None]:
    """Leave no child behind, whatever the test did."""
    try:
        yield
    finally:
        process.kill()


def assert_quiet(served: Served) -> None:
    """Nothing went wrong in the server that nobody expected."""
    wrong = [line for line in served.errors if "level=" not in line or "level=error" in line or "Traceback" in line]
    assert not wrong, "".join(served.errors[-50:])


_running: list[Served] = []


@pytest.fixture(scope="session")
def served() -> Iterator[Served]:
    """The server of this session. Each module that imports this fixture has its own copy, all give the same server."""
    if _running:
        yield _running[0]
        return
    directory = Path(tempfile.mkdtemp(prefix="atalaia-api-"))
    server = Served(directory)
    _running.append(server)
    try:
        yield server
    finally:
        code = server.stop()
        _running.clear()
        shutil.rmtree(directory)
    assert code == 0
    assert_quiet(server)


_numbers = itertools.count(1)


@dataclass(frozen=True)
class Tenant:
    """The API as one tenant sees it, with times in seconds around `NOW`."""

    http: httpx.Client
    name: str

    def call(self, path: str, method: str = "GET", **options: Any) -> httpx.Response:
        headers = {"X-Scope-OrgID": self.name, **options.pop("headers", {})}
        return self.http.request(method, path, headers=headers, **options)

    def push(self, labels: Labels, entries: Sequence[Sequence[Any]]) -> None:
        """Entries of one stream: ns, line, and metadata or not."""
        body = {"streams": [{"stream": dict(labels), "values": [[str(ts), *rest] for ts, *rest in entries]}]}
        answer = self.call("/loki/api/v1/push", "POST", json=body)
        assert answer.status_code == 204, answer.text

    def get(self, path: str, headers: Labels | None = None, **parameters: Any) -> Any:
        answer = self.call(f"/loki/api/v1/{path}", params=parameters, headers=headers or {})
        assert answer.status_code == 200, answer.text
        assert answer.json()["status"] == "success"
        return answer.json()["data"]

    def refused(self, path: str, status: int = 400, **parameters: Any) -> str:
        """The text of an answer that refuses."""
        answer = self.call(f"/loki/api/v1/{path}", params=parameters)
        assert (answer.status_code, answer.headers["content-type"]) == (status, "text/plain; charset=utf-8"), (
            answer.text
        )
        return answer.text

    def streams(self, query: str, **parameters: Any) -> list[dict[str, Any]]:
        parameters = {"start": NOW - HOUR, "end": NOW + HOUR, "limit": 5000, **parameters}
        found = self.get("query_range", query=query, **parameters)
        assert found["resultType"] == "streams"
        return list(found["result"])

    def lines(self, query: str, **parameters: Any) -> list[str]:
        """The lines of a query over one stream, in the order of the answer."""
        found = self.streams(query, **parameters)
        assert len(found) <= 1
        return [value[1] for stream in found for value in stream["values"]]

    def vector(self, query: str, at: int = NOW) -> dict[str, float]:
        """Values by the series' labels, written in JSON."""
        found = self.get("query", query=query, time=at)
        assert found["resultType"] == "vector"
        return {json.dumps(s["metric"], sort_keys=True): float(s["value"][1]) for s in found["result"]}


@pytest.fixture
def tenant(served: Served) -> Iterator[Tenant]:
    """A tenant that nobody else uses."""
    with httpx.Client(base_url=served.url, timeout=30, trust_env=False) as client:
        yield Tenant(client, f"test-{os.getpid()}-{next(_numbers)}")


def raw(served: Served, request: bytes, finish: bool = True) -> bytes:
    """Send bytes and read the answer until the server closes or the answer is complete."""
    with socket.create_connection(("127.0.0.1", served.port), timeout=20) as connection:
        connection.sendall(request)
        if finish:
            connection.shutdown(socket.SHUT_WR)
        with contextlib.closing(http.client.HTTPResponse(connection)) as response:
            try:
                response.begin()
                return f"{response.status} ".encode() + response.read()
            except (http.client.HTTPException, ConnectionError):
                return b""
