"""Following a query: across kills of the server, behind a proxy without websockets, by a slow reader; the commands."""

from __future__ import annotations

import contextlib
import itertools
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest
from tests.integration.api_support import NOW, Served, Tenant, ended, served, tenant
from tests.integration.logs_support import Server, wait_for

from atalaia.client.follow import follow
from atalaia.client.loki import LogsUnreachable, LokiClient, NotAllowed
from atalaia.client.tail import Followed, Tail
from atalaia.environment.connection import Connection
from atalaia.environment.errors import InputError

__all__ = ["served", "tenant"]
S = 10**9
END = "the end"
# Ctrl-C within a request leaves its socket to the end of the process.
WARNINGS = ("-W", "error", "-W", "ignore::ResourceWarning")


class Follower:
    """Follows in a thread, until the line END."""

    def __init__(self, to: Connection, query: str, limit: int | None = 1000, start: int | None = None) -> None:
        self.lines: list[str] = []
        self.notes: list[str] = []
        self.pause = threading.Event()
        self.pause.set()
        self._client = LokiClient(to)
        begin = time.time_ns() - 3600 * S if start is None else start
        self._entries = follow(self._client, query, start=begin, limit=limit, note=self.notes.append)
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        for entries in self._entries:
            self.lines += [entry.line for entry in entries]
            if END in self.lines:
                break
            self.pause.wait()
        self._entries.close()  # type: ignore[attr-defined]
        self._client.close()

    def finish(self) -> list[str]:
        self._thread.join(60)
        assert not self._thread.is_alive()
        return [line for line in self.lines if line != END]


def push(http: httpx.Client, line: str, tenant: str = "fake") -> bool:
    """Whether it was acknowledged; a line that was not may be stored or not."""
    body = {"streams": [{"stream": {"app": "a"}, "values": [[str(time.time_ns()), line]]}]}
    with contextlib.suppress(httpx.HTTPError):
        return http.post("/loki/api/v1/push", json=body, headers={"X-Scope-OrgID": tenant}).status_code == 204
    return False


@pytest.mark.parametrize(("limit", "ends"), [(1000, ["kill"]), (None, ["stop"])])
def test_nothing_is_lost_or_repeated_when_the_server_ends(tmp_path: Path, limit: int | None, ends: list[str]) -> None:
    server = Server(tmp_path / "store")
    server.start()
    acknowledged = []
    try:
        with httpx.Client(base_url=server.base, trust_env=False, timeout=5) as http:
            assert push(http, "first")
            follower = Follower(Connection(server.base), '{app="a"}', limit)
            wait_for(lambda: follower.lines == ["first"], what="the history is told")
            numbers = itertools.count()
            for end in ends:
                for number in itertools.islice(numbers, 40):
                    if push(http, f"line {number}"):
                        acknowledged.append(f"line {number}")
                wait_for(lambda: len(follower.lines) > len(acknowledged) // 2, what="some is told")
                server.kill() if end == "kill" else server.stop()
                for number in itertools.islice(numbers, 2):
                    assert not push(http, f"never {number}")
                server.start()
                for number in itertools.islice(numbers, 40):
                    if push(http, f"line {number}"):
                        acknowledged.append(f"line {number}")
            assert push(http, END)
            shown = follower.finish()
        client = LokiClient(server.base)
        stored = [entry.line for entry in client.entries('{app="a"}', start=0, end=time.time_ns() + S)]
        client.close()
    finally:
        server.stop()
    assert Counter(shown) == Counter(line for line in stored if line != END)
    assert set(acknowledged) <= set(shown)
    assert len(acknowledged) == 80 * len(ends)
    assert sum("trying again" in note for note in follower.notes) == len(ends)


@pytest.fixture
def proxied(served: Served) -> Iterator[str]:
    """The address of a proxy that knows no websockets, as many are."""

    class Proxy(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            headers = {k: v for k, v in self.headers.items() if k.lower() not in ("upgrade", "connection", "host")}
            with httpx.Client(trust_env=False) as http:
                answer = http.get(served.url + self.path, headers=headers)
            self.send_response(answer.status_code)
            self.send_header("Content-Length", str(len(answer.content)))
            self.end_headers()
            self.wfile.write(answer.content)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Proxy) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def test_without_a_tail_it_asks_again(tenant: Tenant, proxied: str) -> None:
    for i in range(5):
        assert push(tenant.http, f"old {i}", tenant.name)
    follower = Follower(Connection(proxied, tenant=tenant.name), '{app="a"}', limit=3)
    wait_for(lambda: len(follower.lines) == 3, what="the history is told")
    for line in ("new", "new", "newer", END):
        assert push(tenant.http, line, tenant.name)
    assert follower.finish() == ["old 2", "old 3", "old 4", "new", "new", "newer"]
    assert follower.notes == ["the server has no tail: it is asked every second"]


def test_a_slow_reader_loses_nothing(served: Served, tenant: Tenant) -> None:
    """The server leaves out what it cannot keep for us; that is asked for again."""
    follower = Follower(Connection(served.url, tenant=tenant.name), '{app="a"}')
    tenant.push({"app": "a"}, [(time.time_ns(), "0")])
    follower.pause.clear()
    wait_for(lambda: follower.lines == ["0"], what="the first line is told")
    many, size = 30, 1000
    for i in range(many):
        now = time.time_ns()
        tenant.push({"app": "a"}, [(now + j, f"{i * size + j + 1:<1000}") for j in range(size)])
    follower.pause.set()
    wait_for(lambda: len(follower.lines) > many * size, 60, "all is told")
    tenant.push({"app": "a"}, [(time.time_ns(), END)])
    assert sorted(int(line) for line in follower.finish()) == list(range(many * size + 1))
    assert any("left entries out" in note for note in follower.notes)


def test_the_first_question_says_what_is_wrong(served: Served, tenant: Tenant) -> None:
    client = LokiClient(Connection(served.url, tenant=tenant.name))
    with pytest.raises(InputError, match="line 1"):
        next(follow(client, '{app="a"', start=0, limit=5))
    client.close()
    gone = LokiClient("http://127.0.0.1:9")
    with pytest.raises(LogsUnreachable):
        next(follow(gone, '{app="a"}', start=0, limit=5))
    gone.close()


def test_only_those_who_may(tmp_path: Path) -> None:
    """A tail is let in, or not, as any question is; the client shows its token."""
    access = tmp_path / "access.toml"
    command = [sys.executable, "-m", "atalaia", "access", "add", "reader", "--tenant", "mine", "--access", access]
    token = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    server = Served(tmp_path / "store", "--access", str(access))
    try:
        for connection in (Connection(server.url), Connection(server.url, "other", token=token)):
            client = LokiClient(connection)
            with pytest.raises(NotAllowed):
                next(follow(client, '{app="a"}', start=0, limit=5))
            client.close()
        with pytest.raises(NotAllowed):
            Tail(Connection(server.url, token="wrong"), Followed('{app="a"}', 0, 5))
        with Tail(Connection(server.url, token=token), Followed('{app="a"}', 0, 5)):
            pass
    finally:
        assert server.stop() == 0


@pytest.mark.parametrize("form", ["default", "jsonl"])
def test_the_command(served: Served, tenant: Tenant, tmp_path: Path, form: str) -> None:
    tenant.push({"app": "a"}, [(NOW, "old")])
    arguments = ["query", '{app="a"}', "-f", "-o", form, "--from", str(NOW - S), "--url", served.url]
    with (
        subprocess.Popen(
            [sys.executable, *WARNINGS, "-m", "atalaia", *arguments, "--tenant", tenant.name],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
        ) as process,
        ended(process),
    ):
        assert process.stdout
        assert process.stderr
        assert "old" in process.stdout.readline()
        tenant.push({"app": "a"}, [(NOW + S, "new")])
        assert "new" in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130
        said = process.stderr.read()
        assert "Traceback" not in said


def test_the_servers_logs(served: Served, tenant: Tenant, tmp_path: Path) -> None:
    """`atalaia logs -f` goes on over the same tail; here with a log store elsewhere."""
    (tmp_path / "atalaia.toml").write_text(
        f'[servers.postgres_a]\n[servers.postgres_b]\n[logs]\nurl = "{served.url}"\ntenant = "{tenant.name}"\n'
    )
    labels = {"job": "postgres", "server": "postgres_b"}
    tenant.push(labels, [(time.time_ns(), "LOG:  old")])
    with (
        subprocess.Popen(
            [sys.executable, *WARNINGS, "-m", "atalaia", "logs", "-f"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
        ) as process,
        ended(process),
    ):
        assert process.stdout
        assert process.stderr
        assert process.stdout.readline().endswith("postgres_b  LOG:  old\n")
        tenant.push(labels, [(time.time_ns(), "LOG:  new")])
        assert process.stdout.readline().endswith("postgres_b  LOG:  new\n")
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130
        assert "Traceback" not in process.stderr.read()
