"""Clients that say little, slowly or nothing, or read nothing: they are ended, and meanwhile others are answered."""

from __future__ import annotations

import contextlib
import socket
import ssl
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import psutil
import pytest
from access_support import CERTIFICATES, Secured
from api_support import NOW, Served, assert_quiet
from tests.conftest import soak

QUICK = (
    "connections=100",
    "header_time=800ms",
    "body_idle=800ms",
    "body_time=2s",
    "answer_idle=1500ms",
    "answer_time=4s",
    "keep_alive=1s",
)
OPTIONS = tuple(word for text in QUICK for word in ("--http", text))
PUSH = b"POST /loki/api/v1/push HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n"


@pytest.fixture(scope="module")
def hurried(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server that waits for nobody."""
    served = Served(tmp_path_factory.mktemp("hurried"), *OPTIONS)
    try:
        yield served
    finally:
        assert served.stop() == 0
        assert_quiet(served)


def _connected(served: Served, said: bytes = b"") -> socket.socket:
    made = socket.create_connection(("127.0.0.1", served.port), timeout=15)
    if said:
        made.sendall(said)
    return made


def _answers(served: Served, seconds: float = 5.0) -> None:
    """Whether somebody else is answered, over a connection of their own."""
    began = time.monotonic()
    assert httpx.get(f"{served.url}/ready", trust_env=False, timeout=seconds).text == "ready\n"
    assert time.monotonic() - began < seconds


def _ended(connection: socket.socket, drip: bytes = b"", seconds: float = 10.0) -> float:
    """Seconds until the server ends a connection, which is sent a byte of `drip` now and then."""
    began = time.monotonic()
    connection.settimeout(0.1)
    at = 0
    while time.monotonic() - began < seconds:
        try:
            if drip:
                connection.sendall(drip[at : at + 1])
                at += 1
            if not connection.recv(65536):
                return time.monotonic() - began
        except TimeoutError:
            continue
        except OSError:
            return time.monotonic() - began
    raise AssertionError("the connection stays open")


def test_two_hundred_that_say_nothing(hurried: Served) -> None:
    with contextlib.ExitStack() as stack:
        silent = [stack.enter_context(_connected(hurried)) for _ in range(200)]
        _answers(hurried)
        for connection in silent:
            _ended(connection)
        _answers(hurried)


READY = b"GET /ready HTTP/1.1\r\nHost: x\r\n\r\n"
CHUNKED = PUSH.replace(b"Content-Length: 1000", b"Transfer-Encoding: chunked")
# What a client says at once, what it says byte by byte, and within how many seconds it is ended.
SLOW = {
    "a head byte by byte": (b"", b"GET /ready HTTP/1.1\r\nX-Slow: " + b"x" * 1000, 0.6, 4.0),
    "half a head": (READY[:-2], b"", 0.6, 4.0),
    "no body": (PUSH, b"", 0.6, 4.0),
    "a body byte by byte": (PUSH, b"x" * 1000, 1.6, 6.0),
    "a chunk byte by byte": (CHUNKED, b"3E8\r\n" + b"x" * 1000, 1.6, 6.0),
    "nothing after an answer": (READY, b"", 0.8, 5.0),
    "half a head after an answer": (READY + READY[:20], b"", 0.6, 5.0),
    "a body that nobody asked for": (b"POST /ready HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n", b"", 0.6, 4.0),
}


def test_who_is_too_slow_is_ended(hurried: Served) -> None:
    def waited(said: bytes, drip: bytes) -> float:
        with _connected(hurried, said) as connection:
            return _ended(connection, drip)

    with ThreadPoolExecutor(len(SLOW)) as threads:
        found = {name: threads.submit(waited, said, drip) for name, (said, drip, _, _) in SLOW.items()}
        while not all(future.done() for future in found.values()):
            _answers(hurried)
    seconds = {name: future.result() for name, future in found.items()}
    assert {name: at for name, at in seconds.items() if not SLOW[name][2] < at < SLOW[name][3]} == {}


def test_a_head_without_end_is_refused(hurried: Served) -> None:
    with _connected(hurried, b"GET /ready HTTP/1.1\r\n") as connection:
        with contextlib.suppress(OSError):
            for _ in range(9):
                connection.sendall(b"X-Long: " + b"x" * 8000 + b"\r\n")
        assert connection.recv(65536).startswith(b"HTTP/1.1 400 ")
        _ended(connection)


def test_slow_but_steady_clients_are_served(hurried: Served) -> None:
    with _connected(hurried) as connection:
        for piece in (b"GET /ready HTTP/1.1\r\n", b"Host: x\r\n\r\n") * 2:
            time.sleep(0.3)
            connection.sendall(piece)
            if piece.endswith(b"\r\n\r\n"):
                answer = b""
                while not answer.endswith(b"ready\n"):
                    answer += connection.recv(65536)


def test_answers_that_nobody_reads(tmp_path: Path) -> None:
    """Four clients, or forty, ask for 30 MB each and read none of it."""
    served = Served(tmp_path, *OPTIONS)
    try:
        with httpx.Client(base_url=served.url, trust_env=False, timeout=60) as client:
            values = [[str(NOW + number), f"{number} " + "x" * 3000] for number in range(10_000)]
            body = {"streams": [{"stream": {"app": "large"}, "values": values}]}
            assert client.post("/loki/api/v1/push", json=body).status_code == 204
        process = psutil.Process(served.process.pid)
        query = f"GET /loki/api/v1/query_range?query=%7Bapp%3D%22large%22%7D&limit=10000&start={NOW}&end={NOW + 10**9}"
        request = f"{query} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
        before = process.memory_info().rss
        with contextlib.ExitStack() as stack:
            idle = []
            for _ in range(40 if soak() else 4):
                connection = stack.enter_context(socket.socket())
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                connection.connect(("127.0.0.1", served.port))
                connection.sendall(request)
                idle.append(connection)
            most, deadline = before, time.monotonic() + (240 if soak() else 60)
            while any(_established(process, connection) for connection in idle):
                assert time.monotonic() < deadline, "a client that reads nothing is kept"
                _answers(served)
                time.sleep(0.05)
                most = max(most, process.memory_info().rss)
        assert most - before < 700 << 20
        _answers(served)
    finally:
        assert served.stop() == 0
    assert_quiet(served)


def _established(server: psutil.Process, connection: socket.socket) -> bool:
    """Whether the server still holds its end."""
    port = connection.getsockname()[1]
    return any(other.raddr and other.raddr.port == port for other in server.net_connections("tcp"))


def test_handshakes_that_nobody_finishes(tmp_path: Path) -> None:
    served = Secured(tmp_path, *OPTIONS)
    context = ssl.create_default_context(cafile=str(CERTIFICATES / "ca.pem"))
    try:
        with contextlib.ExitStack() as stack:
            silent = [stack.enter_context(_connected(served)) for _ in range(150)]
            silent.append(stack.enter_context(_connected(served, b"GET /ready HTTP/1.1\r\n\r\n")))  # no TLS at all
            for _ in range(2):
                assert httpx.get(f"{served.url}/ready", verify=context, trust_env=False, timeout=5).status_code == 200
            for connection in silent:
                _ended(connection)
        with context.wrap_socket(_connected(served), server_hostname="127.0.0.1") as secure:
            assert _ended(secure, b"GET /ready HTTP/1.1\r\nX-Slow: " + b"x" * 1000) < 4
    finally:
        assert served.stop() == 0
    assert_quiet(served)
