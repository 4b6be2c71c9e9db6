from __future__ import annotations

import functools
import shutil
import socket
import ssl
import subprocess
import threading
from pathlib import Path

import pytest
from tests.integration.listeners_support import CERTIFICATES, Opened, opened, shown, wait_until

from atalaia.collector.formats.spool import records
from atalaia.collector.listeners import worker
from atalaia.collector.listeners.inbox import Inbox
from atalaia.environment.errors import InputError

PEM = {"cert_file": "server.pem", "key_file": "server.key", "ca_file": "ca.pem"}
HEADER = "<34>1 2026-11-22T22:14:15.003Z host app 12 ID47 - "


def sent(port: int, data: bytes) -> None:
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(data)


def test_tcp_takes_both_framings_and_labels_as_promtail_names_them(tmp_path: Path) -> None:
    relabel = shown(
        "__syslog_message_hostname=host",
        "__syslog_message_severity=severity",
        "__syslog_connection_ip_address=ip",
        "__syslog_message_sd_ex_32473_iut=iut",
    )
    text = """
        listen_address: 127.0.0.1:0
        idle_timeout: 60s
        label_structured_data: yes
        use_incoming_timestamp: true
        labels: {job: syslog, host: overwritten}
    """
    with opened(tmp_path, "syslog", text, relabel) as found:
        framed = f"{HEADER.replace(' - ', ' [ex@32473 iut=', 1)}"
        framed = '<165>1 2026-11-22T22:14:16Z other app - - [ex@32473 iut="3"] counted\nmessage'
        sent(found.port, f"{HEADER}first\n{len(framed)} {framed}{HEADER}last".encode())
        assert found.wait_for(3) == ["first", "counted\nmessage", "last"]
        assert found.labels() == [
            {"job": "syslog", "host": "host", "severity": "critical", "ip": "127.0.0.1"},
            {"job": "syslog", "host": "other", "severity": "notice", "ip": "127.0.0.1", "iut": "3"},
            {"job": "syslog", "host": "host", "severity": "critical", "ip": "127.0.0.1"},
        ]
        assert found.entries().ts.tolist()[1] == 1795385656 * 10**9
        assert found.counted("promtail_syslog_target_entries_total") == 3
        assert found.listener.targets()[0]["job"] == "syslog"


def test_bad_and_empty_messages_are_counted_and_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with opened(tmp_path, "syslog", "{listen_address: '127.0.0.1:0', labels: {a: b}}") as found:
        sent(found.port, f"<34>no header\n{HEADER}\n{HEADER}good \xff\n".encode("latin-1"))
        assert found.wait_for(1) == ["good \ufffd"]
        assert found.counted("promtail_syslog_target_parsing_errors_total") == 1
        assert found.counted("promtail_syslog_empty_messages_total") == 1
    assert "<34>no header" in caplog.text


def test_the_whole_message_is_kept_when_asked_for_and_old_ones_by_their_format(tmp_path: Path) -> None:
    with opened(tmp_path / "1", "syslog", "{listen_address: '127.0.0.1:0', use_rfc5424_message: true}") as found:
        sent(found.port, f"{HEADER}text\n".encode())
        assert found.wait_for(1) == [f"{HEADER}text"]
        assert found.labels() == [{"job": "job"}]
    relabel = shown("__syslog_message_app_name=app")
    with opened(tmp_path / "2", "syslog", "{listen_address: '127.0.0.1:0', syslog_format: rfc3164}", relabel) as found:
        sent(found.port, b"<34>Oct 11 22:14:15 mymachine su[7]: 'su root' failed\n")
        assert found.wait_for(1) == ["'su root' failed"]
        assert found.labels() == [{"app": "su", "job": "job"}] or found.labels() == [{"app": "su"}]


def test_udp_loses_nothing_that_the_kernel_can_hold(tmp_path: Path) -> None:
    with opened(tmp_path, "syslog", "{listen_address: '127.0.0.1:0', listen_protocol: udp}") as found:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            for number in range(3000):
                sender.sendto(f"{HEADER}datagram {number}\n".encode(), ("127.0.0.1", found.port))
        assert found.wait_for(3000) == [f"datagram {number}" for number in range(3000)]


@pytest.fixture
def small_inbox(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "Inbox", functools.partial(Inbox, 1 << 20))


@pytest.mark.usefixtures("small_inbox")
def test_what_udp_cannot_keep_is_counted_and_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    text = "{listen_address: '127.0.0.1:0', listen_protocol: udp}"
    found = Opened(tmp_path, "syslog", text, most=2_000_000, segment=1_000_000)
    try:
        sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with sender:
            count = 0
            while "messages_dropped" not in caplog.text:
                for _ in range(500):
                    sender.sendto(HEADER.encode() + b"x" * 8000, ("127.0.0.1", found.port))
                count += 500
                assert count < 50_000
    finally:
        found.close()
    lost = sum(
        found.counted("promtail_listener_dropped_messages_total", job="job", reason=reason)
        for reason in ("spool_full", "socket_buffer")
    )
    assert lost > 0
    assert len(found.lines()) + lost == count


@pytest.mark.usefixtures("small_inbox")
def test_tcp_senders_wait_while_the_spool_is_full_and_lose_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    text = "{listen_address: '127.0.0.1:0', max_message_length: 200000}"
    with opened(tmp_path, "syslog", text, most=5_000_000, segment=500_000) as found:
        count = 300
        data = [f"{HEADER}{number} {'x' * 100_000}\n".encode() for number in range(count)]
        sender = threading.Thread(target=lambda: sent(found.port, b"".join(data)))
        sender.start()
        wait_until(lambda: "spool_full" in caplog.text)
        seen: list[str] = []

        def read_some() -> bool:
            # What the outputs do: acknowledge whole segments, which are deleted then.
            paths = sorted(tmp_path.glob("*.jsonl"))[:-1]
            for path in paths:
                seen.extend(line.split()[0] for line in records(path.read_bytes(), {}).lines.to_pylist())
            found.spool.release({str(path): path.stat().st_size for path in paths})
            return len(seen) + len(found.lines()) == count

        wait_until(read_some, 30)
        sender.join()
        assert [*seen, *(line.split()[0] for line in found.lines())] == [str(number) for number in range(count)]


def talk(connection: ssl.SSLSocket) -> None:
    """Send, and hear what TLS 1.3 tells only then; a connection that is just closed is an error too."""
    with connection:
        connection.sendall(f"{HEADER}never\n".encode())
        if not connection.recv(1):
            raise ConnectionResetError


def test_tls_asks_for_a_certificate_where_authorities_are_named(tmp_path: Path) -> None:
    files = ", ".join(f"{key}: {CERTIFICATES}/{name}" for key, name in PEM.items())
    text = f"{{listen_address: '127.0.0.1:0', tls_config: {{{files}}}}}"
    with opened(tmp_path, "syslog", text) as found:
        good = ssl.create_default_context(cafile=str(CERTIFICATES / "ca.pem"))
        good.check_hostname = False
        good.load_cert_chain(CERTIFICATES / "client.pem", CERTIFICATES / "client.key")
        with (
            socket.create_connection(("127.0.0.1", found.port)) as plain,
            good.wrap_socket(plain) as connection,
        ):
            connection.sendall(f"{HEADER}secret\n".encode())
        assert found.wait_for(1) == ["secret"]
        nobody = ssl.create_default_context(cafile=str(CERTIFICATES / "ca.pem"))
        nobody.check_hostname = False
        with (
            socket.create_connection(("127.0.0.1", found.port)) as plain,
            pytest.raises((ssl.SSLError, ConnectionError)),
        ):
            talk(nobody.wrap_socket(plain))
        sent(found.port, f"{HEADER}no TLS at all\n".encode())
    assert found.lines() == ["secret"]


def test_an_idle_connection_is_closed(tmp_path: Path) -> None:
    with opened(tmp_path, "syslog", "{listen_address: '127.0.0.1:0', idle_timeout: 100ms}") as found:
        with socket.create_connection(("127.0.0.1", found.port)) as connection:
            connection.sendall(f"{HEADER}text".encode())
            assert connection.recv(1) == b""
        assert found.wait_for(1) == ["text"]


def test_a_taken_port_is_told_before_anything_runs(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match="cannot listen on"):
            Opened(tmp_path, "syslog", f"listen_address: 127.0.0.1:{port}")


@pytest.mark.skipif(shutil.which("logger") is None, reason="util-linux has no logger here")
def test_a_real_logger_sends_both_rfcs(tmp_path: Path) -> None:
    relabel = shown("__syslog_message_app_name=app", "__syslog_message_severity=severity")
    text = "{listen_address: '127.0.0.1:0', syslog_format: auto, use_incoming_timestamp: true}"
    with opened(tmp_path / "tcp", "syslog", text, relabel) as found:
        for number, flags in enumerate((["--rfc5424"], ["--rfc3164"], ["--rfc5424", "--octet-count"])):
            base = ["logger", "--server", "127.0.0.1", "--port", str(found.port), "--tcp", "-p", "user.err", "-t", "me"]
            subprocess.run([*base, *flags, f"message {number}"], check=True, timeout=20)
        assert sorted(found.wait_for(3)) == ["message 0", "message 1", "message 2"]
        assert all((one["app"], one["severity"]) == ("me", "error") for one in found.labels())
    with opened(tmp_path / "udp", "syslog", text.replace("{", "{listen_protocol: udp, "), relabel) as found:
        for flag in ("--rfc5424", "--rfc3164"):
            base = ["logger", "--server", "127.0.0.1", "--port", str(found.port), "--udp", "-t", "me"]
            subprocess.run([*base, flag, f"by {flag}"], check=True, timeout=20)
        assert sorted(found.wait_for(2)) == ["by --rfc3164", "by --rfc5424"]
