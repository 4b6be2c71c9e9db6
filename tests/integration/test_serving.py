"""TLS from files and the rate of pushes: renewal without a restart, certificates of clients, tails that end."""

from __future__ import annotations

import shutil
import socket
import ssl
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from access_support import CERTIFICATES, access, trusting
from api_support import NOW, Served, assert_quiet

from atalaia.api.server import Address, Front, serve
from atalaia.client.loki import LogsUnreachable, LokiClient, NotAllowed
from atalaia.client.tail import Followed, Tail, TailLost
from atalaia.environment.connection import Connection
from atalaia.environment.errors import InputError
from atalaia.query.engine import QueryLimits
from atalaia.runtime.tls import TlsFiles, server_context
from atalaia.store.options import Options


def _copied(name: str, folder: Path, suffixes: tuple[str, ...] = (".key", ".pem")) -> None:
    for suffix in suffixes:
        shutil.copy(CERTIFICATES / f"{name}{suffix}", folder / f"own{suffix}")


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    """A store whose certificate lies in own.pem and own.key, and which asks who one is."""
    _copied("server", tmp_path)
    file = tmp_path / "access.json"
    (tmp_path / "token").write_text(
        access("add", "ann", "--tenant", "a", "--scope", "read,push", "--access", str(file)) + "\n"
    )
    options = ("--tls-cert", str(tmp_path / "own.pem"), "--tls-key", str(tmp_path / "own.key"), "--access", str(file))
    made = Served(tmp_path / "store", *options)
    made.url = f"https://127.0.0.1:{made.port}"
    try:
        yield made
    finally:
        assert made.stop() == 0
        assert_quiet(made)


def _serial(served: Served) -> str:
    """The serial number of the certificate that a new connection is shown."""
    context = ssl.create_default_context(cafile=str(CERTIFICATES / "ca.pem"))
    with (
        socket.create_connection(("127.0.0.1", served.port), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as secure,
    ):
        found = secure.getpeercert()
        assert found
        return str(found["serialNumber"])


def _names(client: LokiClient) -> object:
    return client.get("/loki/api/v1/labels", {"start": NOW, "end": NOW + 1})


def test_a_renewed_certificate_is_taken_up_by_server_and_clients(served: Served, tmp_path: Path) -> None:
    token = tmp_path / "token"
    pinned = LokiClient(Connection(served.url, pinned=tmp_path / "own.pem", token_file=token))
    signed = LokiClient(Connection(served.url, ca=CERTIFICATES / "ca.pem", token_file=token))
    try:
        assert (_names(pinned), _names(signed)) == ([], [])
        first = _serial(served)
        _copied("renewed", tmp_path, (".key",))  # half of it: the old pair goes on
        assert _serial(served) == first
        _copied("renewed", tmp_path, (".pem",))
        assert _serial(served) != first
        assert (_names(pinned), _names(signed)) == ([], [])
        # Another name, which the very file makes good, and no signer does.
        _copied("elsewhere", tmp_path)
        assert _names(pinned) == []
        with pytest.raises(httpx.ConnectError), trusting() as client:
            client.get(f"{served.url}/ready")
    finally:
        pinned.close()
        signed.close()


def test_only_what_is_trusted_is_asked(served: Served, tmp_path: Path) -> None:
    for connection in (
        Connection(served.url),
        Connection(served.url, ca=CERTIFICATES / "stranger.pem"),
        Connection(served.url, pinned=CERTIFICATES / "renewed.pem"),
        Connection(served.url, pinned=CERTIFICATES / "stranger.pem"),
        Connection(served.url.replace("https", "http")),
    ):
        client = LokiClient(connection)
        with pytest.raises(LogsUnreachable):
            _names(client)
        client.close()
    client = LokiClient(Connection(served.url, ca=CERTIFICATES / "ca.pem", token="wrong"))
    with pytest.raises(NotAllowed, match="not known here"):
        _names(client)
    client.close()


def test_a_tail_over_tls_ends_when_its_client_may_ask_no_more(served: Served, tmp_path: Path) -> None:
    file = str(tmp_path / "access.json")
    (tmp_path / "eve").write_text(access("add", "eve", "--tenant", "a", "--access", file))
    to = Connection(served.url, ca=CERTIFICATES / "ca.pem", token_file=tmp_path / "eve")

    def push(line: str) -> None:
        body = {"streams": [{"stream": {"app": "a"}, "values": [[str(time.time_ns()), line]]}]}
        token = (tmp_path / "token").read_text().strip()
        with trusting(headers={"Authorization": f"Bearer {token}"}) as client:
            assert client.post(f"{served.url}/loki/api/v1/push", json=body).status_code == 204

    with Tail(to, Followed('{app="a"}', time.time_ns() - 10**9, 10)) as tail:
        seen = iter(tail)
        push("for her")
        assert [entry.line for entry in next(seen)] == ["for her"]
        access("revoke", "eve", "--access", file)
        push("not for her")
        with pytest.raises(TailLost):
            next(seen)
    with pytest.raises(NotAllowed):
        Tail(to, Followed('{app="a"}', 0, 10))


def test_clients_that_must_show_a_certificate(tmp_path: Path) -> None:
    own = CERTIFICATES / "server.pem", CERTIFICATES / "server.key"
    options = ("--tls-cert", str(own[0]), "--tls-key", str(own[1]), "--tls-client-ca", str(CERTIFICATES / "ca.pem"))
    served = Served(tmp_path, *options)
    url, ca = f"https://127.0.0.1:{served.port}", CERTIFICATES / "ca.pem"
    try:
        for shown, good in ((None, False), ("stranger", False), ("client", True)):
            certificate = CERTIFICATES / f"{shown}.pem" if shown else None
            key = CERTIFICATES / f"{shown}.key" if shown else None
            client = LokiClient(Connection(url, ca=ca, certificate=certificate, key=key))
            try:
                if good:
                    assert _names(client) == []
                else:
                    with pytest.raises(LogsUnreachable):
                        _names(client)
            finally:
                client.close()
    finally:
        assert served.stop() == 0
    assert_quiet(served)


def test_who_pushes_too_fast_is_told_when_to_come_again(tmp_path: Path) -> None:
    served = Served(tmp_path, "--http", "push_rate=1KiB")
    try:
        with httpx.Client(base_url=served.url, trust_env=False, timeout=30) as client:

            def push(tenant: str) -> httpx.Response:
                body = {"streams": [{"stream": {"app": "a"}, "values": [[str(NOW), "x" * 30_000]]}]}
                return client.post("/loki/api/v1/push", json=body, headers={"X-Scope-OrgID": tenant})

            assert push("a").status_code == 204  # more than there is, but one gets through
            answer = push("a")
            assert (answer.status_code, 15 < int(answer.headers["retry-after"]) < 25) == (429, True)
            assert "pushes more than 1024 bytes a second" in answer.text
            otlp = client.post("/otlp/v1/logs", json={"resourceLogs": []}, headers={"X-Scope-OrgID": "a"})
            assert (otlp.status_code, "retry-after" in otlp.headers) == (429, True)
            assert push("b").status_code == 204
    finally:
        assert served.stop() == 0
    assert_quiet(served)


def test_files_that_cannot_be_used(tmp_path: Path) -> None:
    good = TlsFiles(CERTIFICATES / "server.pem", CERTIFICATES / "server.key")
    assert server_context(good).minimum_version == ssl.TLSVersion.TLSv1_2
    (tmp_path / "text").write_text("no certificate")
    for wrong in (
        TlsFiles(CERTIFICATES / "server.pem", CERTIFICATES / "renewed.key"),
        TlsFiles(tmp_path / "text", CERTIFICATES / "server.key"),
        TlsFiles(CERTIFICATES / "server.pem", tmp_path / "nowhere"),
        TlsFiles(good.certificate, good.key, tmp_path / "text"),
    ):
        with pytest.raises(InputError):
            server_context(wrong)


def test_nobody_is_served_unasked_beyond_loopback(tmp_path: Path) -> None:
    for front in (None, Front(), Front(access=tmp_path / "nowhere")):
        with pytest.raises(InputError, match="nobody would be asked who they are"):
            serve(tmp_path / "store", Address("0.0.0.0", 1), Options(), QueryLimits(), front)
    (tmp_path / "damaged").write_text("{")
    (tmp_path / "damaged").chmod(0o600)
    with pytest.raises(InputError, match="cannot be read"):
        serve(tmp_path / "store", Address("127.0.0.1", 1), Options(), QueryLimits(), Front(access=tmp_path / "damaged"))
    assert not (tmp_path / "store").exists()
