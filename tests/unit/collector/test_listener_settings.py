from __future__ import annotations

from pathlib import Path

import pytest

from atalaia.collector.listeners.given import Address, parse_address
from atalaia.collector.listeners.opening import listening, spool_directory
from atalaia.collector.listeners.registry import KINDS
from atalaia.collector.plan import Job
from atalaia.environment.yamlfile import Reader


def problems_of(kind: str, text: str) -> list[tuple[int, str]]:
    reader = Reader(Path("promtail.yaml"))
    opener = KINDS[kind](reader, reader.load(text), "job")
    assert opener is not None or reader.problems
    return [(problem.line, problem.message) for problem in reader.problems]


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("syslog", "listen_address: 0.0.0.0:1514"),
        (
            "syslog",
            "listen_address: :1514\nlisten_protocol: udp\nsyslog_format: {type: rfc3164}\nmax_message_length: 0",
        ),
        ("syslog", "listen_address: '[::1]:1514'\nidle_timeout: 60s\nlabel_structured_data: yes\nlabels: {job: s}"),
        ("loki_push_api", "server: {http_listen_port: 3500, grpc_listen_port: 3600}\nlabels: {a: b}"),
        ("gelf", "listen_address: 0.0.0.0:12201"),
        ("gelf", "{}"),
        ("journal", "json: false\nmax_age: 12h\npath: /var/log/journal\nmatches: _SYSTEMD_UNIT=a.service PRIORITY=3"),
        ("docker_sd_configs", "- host: unix:///var/run/docker.sock\n  refresh_interval: 5s\n  follow_redirects: true"),
    ],
)
def test_what_promtail_takes_is_taken(kind: str, text: str) -> None:
    assert problems_of(kind, text) == []


@pytest.mark.parametrize(
    ("kind", "text", "line", "message"),
    [
        ("syslog", "{}", 1, "has no listen_address"),
        ("syslog", "listen_address: nowhere", 1, "not HOST:PORT"),
        ("syslog", "listen_address: :1\nlisten_protocol: sctp", 2, "listen_protocol is 'sctp'"),
        ("syslog", "listen_address: :1\nsyslog_format: rfc1", 2, "syslog_format is 'rfc1'"),
        ("syslog", "listen_address: :1\nmax_message_length: -1", 2, "max_message_length"),
        ("syslog", "listen_address: :1\nidle_timeout: soon", 2, "idle_timeout"),
        ("syslog", "listen_address: :1\nunknown: 1", 2, "'unknown' is not known"),
        ("syslog", "listen_address: :1\ntls_config: {cert_file: /x.pem}", 2, "a certificate and a key"),
        ("syslog", "listen_address: :1\ntls_config:\n  cert_file: /x.pem\n  key_file: /y.pem", 3, "no such file"),
        ("loki_push_api", "server:\n  http_listen_port: 99999", 2, "is no port"),
        ("loki_push_api", "labels: {bad-name: x}", 1, "is not a label name"),
        ("gelf", "listen_address: 12201", 1, "not HOST:PORT"),
        ("journal", "matches: ssh.service", 1, "'ssh.service'"),
        ("docker_sd_configs", "- host: https://docker:2376", 1, "host is"),
        ("docker_sd_configs", "- {}", 1, "host is ''"),
        ("docker_sd_configs", "- host: tcp://docker:2375\n  basic_auth: {}", 2, "'basic_auth' is not known"),
    ],
)
def test_what_cannot_be_used_is_told_with_its_line(kind: str, text: str, line: int, message: str) -> None:
    found = problems_of(kind, text)
    assert [at for at, _ in found][:1] == [line]
    assert message in found[0][1]


@pytest.mark.parametrize("text", ["", "host", "host:", "host:x", "host:70000", "[nonsense:1]:5"])
def test_addresses_that_are_none(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_address(text)


def test_addresses() -> None:
    assert parse_address(":1514") == Address("", 1514)
    assert str(parse_address("[::1]:1514")) == "[::1]:1514"


def test_a_listening_job_reads_its_spool_whatever_its_name() -> None:
    positions = Path("/var/lib/pos[1].db")
    job = listening(Job("a/b *", ()), lambda spool, meters: pytest.fail("not opened here"), positions)
    (target,) = job.targets
    place = spool_directory(positions, "a/b *")
    assert place.parent == Path("/var/lib/pos[1].db.spool")
    assert target.names(str(place / "00000001.jsonl"))
    assert not target.names(str(place / "deeper" / "00000001.jsonl"))
    assert (job.format, job.filename) == ("spool", False)
