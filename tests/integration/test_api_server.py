"""The server as a process: what it listens on, how it starts and ends, and that it ends in silence."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from api_support import NOW, Served, Tenant, assert_quiet

from atalaia.api.server import Address, bind
from atalaia.environment.errors import InputError


def test_a_restarted_server_answers_as_before_and_ends_in_silence(tmp_path: Path) -> None:
    for start, number in enumerate((signal.SIGTERM, signal.SIGINT)):
        server = Served(tmp_path)
        try:
            with httpx.Client(base_url=server.url, trust_env=False) as http:
                tenant = Tenant(http, "t")
                if not start:
                    tenant.push({"app": "a"}, [(NOW, "x=1", {"k": "v"}), (NOW, '{"x":{"y":2}}')])
                assert tenant.lines('{app="a"} | logfmt | x=1') == ["x=1"]
                assert tenant.vector('sum by (x_y) (count_over_time({app="a"} | json | __error__="" [1m]))') == {
                    '{"x_y": "2"}': 1
                }
                assert "JSONParserErr" in tenant.refused(
                    "query", query='count_over_time({app="a"} | json [1m])', time=NOW
                )
            server.process.send_signal(number)
            assert server.process.wait(20) == 0
        finally:
            server.stop()
        # Registered functions make DuckDB's binding complain at the end of a process unless it is closed well.
        assert_quiet(server)


def test_a_directory_is_served_once(tmp_path: Path) -> None:
    server = Served(tmp_path)
    try:
        second = subprocess.run(
            [sys.executable, "-m", "atalaia", "serve", "--data", tmp_path, "--listen", "127.0.0.1:1"],
            capture_output=True,
            text=True,
            check=False,
        )
        taken = subprocess.run(
            [sys.executable, "-m", "atalaia", "serve", "--data", tmp_path, "--listen", f"127.0.0.1:{server.port}"],
            capture_output=True,
            text=True,
            check=False,
        )
    finally:
        server.stop()
    assert second.stderr.startswith("atalaia: ")
    assert len(second.stderr.splitlines()) == 2
    assert (taken.returncode, taken.stderr.startswith("atalaia: cannot listen on")) == (2, True)
    assert len(taken.stderr.splitlines()) == 2


def test_the_socket_names_its_protocol() -> None:
    listening = bind(Address("127.0.0.1", 0))
    with listening:
        # asyncio sets TCP_NODELAY on the connections of such a socket only; answers took 40 ms without.
        assert listening.proto == socket.IPPROTO_TCP
        with pytest.raises(InputError, match="cannot listen on"):
            bind(Address("127.0.0.1", listening.getsockname()[1]))
