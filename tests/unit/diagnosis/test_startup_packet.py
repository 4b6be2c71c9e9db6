"""Stories of connections that do not begin as PostgreSQL's do: the seed's error."""

import random

import pytest

from atalaia.diagnosis.clients import decode_protocol, first_bytes
from atalaia.diagnosis.render import render_text
from atalaia.diagnosis.startup_packet import place_of

from .fakelogs import LENGTH, bad_start, entry, told


def test_seed_story_an_http_probe_every_ten_seconds():
    chance = random.Random(1)
    found, logs = told(*(bad_start(10 * n + chance.uniform(-0.2, 0.2), port=40000 + 3 * n) for n in range(40)))
    (incident,) = found.unusual
    assert (incident.kind, incident.server, incident.count) == ("startup_packet_length", "postgres_a", 40)
    assert incident.pattern.shape == "periodic"
    assert incident.pattern.period == pytest.approx(10, rel=0.01)
    assert "HTTP" in incident.suspects[0].name
    text = render_text(found)
    assert "`pg_isready -h 127.0.0.1 -p 5432 -U postgres -d postgres`" in text
    assert "127.0.0.1" in text
    assert "40000–40117 (40)" in text
    assert "every 10.0 s (± 1" in text
    assert text.count(LENGTH) == 3
    assert not any("connection received" in query for query in logs.asked), "the metadata has the host already"


def test_prometheus_comes_first_at_its_usual_interval():
    found, _ = told(*(bad_start(15 * n, host="10.1.2.3") for n in range(10)))
    assert found.unusual[0].suspects[0].client == "prometheus"


def test_one_curl():
    found, _ = told(bad_start(0, port=52114), language="pt-BR")
    (incident,) = found.unusual
    assert incident.pattern.shape == "single"
    assert incident.suspects[0].client == "http"
    assert "curl" in incident.suspects[0].name
    notes = " ".join(incident.notes)
    assert "portas do cliente 52114" in notes
    assert "própria máquina do servidor" in notes
    assert "1.195.725.856" in incident.suspects[0].why


def test_a_scanner_burst_from_the_internet():
    scan = [bad_start(n / 10, host="8.8.4.4", port=30000 + 7 * n) for n in range(12)]
    found, _ = told(*scan)
    (incident,) = found.unusual
    assert incident.pattern.shape == "burst"
    assert incident.suspects[0].client == "scanner"
    assert any("public Internet address" in note for note in incident.notes)


def test_other_nonsense_of_the_same_host_betrays_a_scanner():
    smb = "FATAL:  unsupported frontend protocol 65363.19778: server supports 3.0 to 3.0"
    found, _ = told(
        bad_start(0, host="10.9.9.9"), entry(smb, 1, sqlstate="0A000", remote_host="10.9.9.9", remote_port="4")
    )
    by_kind = {incident.kind: incident for incident in found.unusual}
    assert by_kind["startup_packet_length"].suspects[0].client == "scanner"
    assert any("how a scanner looks" in note for note in by_kind["startup_packet_length"].notes)
    assert any("SMB version 1" in note for note in by_kind["protocol_unsupported"].notes)


@pytest.mark.parametrize("host", ["172.17.0.1", "172.18.0.1", "172.31.0.1", "192.168.65.1", "10.88.0.1"])
def test_a_docker_gateway_is_said_to_be_one(host):
    found, _ = told(bad_start(0, host=host))
    (note,) = [n for n in found.unusual[0].notes if "gateway" in n]
    assert host in note
    assert "--dport 5432" in note


def received(at, pid, host, port, server="postgres_a"):
    return entry(f"LOG:  connection received: host={host} port={port}", at, pid=pid, server=server)


def test_a_missing_host_is_found_by_the_same_pid_just_before():
    """The seed's line has neither host nor port; another client of the PID long before must not be taken."""
    found, logs = told(
        received(-5000, "97", "192.0.2.66", 1),
        received(-0.2, "98", "192.0.2.77", 2),
        received(-0.1, "97", "192.0.2.66", 3, server="postgres_b"),
        received(-0.1, "97", "127.0.0.1", 40123),
        entry(LENGTH, 0, pid="97"),
        received(0.1, "97", "192.0.2.88", 4),
    )
    (incident,) = found.unusual
    assert incident.fields == {"remote_host": "127.0.0.1"}
    notes = " ".join(incident.notes)
    assert "from 127.0.0.1, client ports 40123" in notes
    assert "same PID" in notes
    assert [query for query in logs.asked if "connection received" in query] == [
        '{job="postgres", server="postgres_a", severity="LOG"} |= `connection received: host=` | pid=~"97"'
    ]


@pytest.mark.parametrize("metadata", [{}, {"pid": "97"}])
def test_no_host_anywhere_is_said(metadata):
    found, _ = told(entry(LENGTH, 0, **metadata))
    (incident,) = found.unusual
    assert any("does not tell where it came from" in note for note in incident.notes)
    assert any("HTTP" in suspect.name for suspect in incident.suspects)


def test_hosts_are_told_apart():
    found, _ = told(bad_start(0), bad_start(1, host="::1"), bad_start(2, server="postgres_b"))
    assert len(found.unusual) == 3


@pytest.mark.parametrize(
    ("host", "place"),
    [
        *[("127.0.0.1", "loopback"), ("::1", "loopback"), ("::ffff:127.0.0.1", "loopback"), ("10.0.0.5", "private")],
        *[("172.17.0.1", "gateway"), ("8.8.8.8", "public"), ("fe80::1%eth0", "private"), ("[local]", "local")],
        ("db.example", "unknown"),
    ],
)
def test_places(host, place):
    assert place_of(host) == place


def test_first_bytes_really_make_an_impossible_length():
    """ProcessStartupPacket accepts 8 to 10,004 (MAX_STARTUP_PACKET_LENGTH and its own four bytes)."""
    assert all(not 8 <= row.length <= 10_004 for row in first_bytes())
    assert {row.length for row in first_bytes()} >= {1195725856, 1347375956, 369295616, 1397966893, 707857674}


@pytest.mark.parametrize(
    ("pair", "scanner"),
    [("65363.19778", True), ("65107.19778", True), ("27265.28208", True), ("18.3", False), ("2.0", False)],
)
def test_protocols_are_decoded(pair, scanner):
    protocol = decode_protocol(*pair.split("."))
    assert protocol
    assert protocol.scanner is scanner


@pytest.mark.parametrize("pair", ["9.9", "99999.1", "123456789.0", "x.y"])
def test_unknown_protocols_stay_unknown(pair):
    assert decode_protocol(*pair.split(".")) is None


def test_an_unknown_protocol_shows_its_bytes():
    found, _ = told(
        entry("FATAL:  unsupported frontend protocol 258.772: server supports 3.0 to 3.0", sqlstate="0A000")
    )
    assert any("01 02 03 04" in note for note in found.unusual[0].notes)


def test_many_pids_are_asked_in_pieces():
    stored = [entry(LENGTH, n, pid=str(1000 + n)) for n in range(450)]
    stored += [received(n - 0.01, str(1000 + n), "10.0.0.9", 50000 + n) for n in range(450)]
    found, logs = told(*stored)
    assert sum("connection received" in query for query in logs.asked) == 3
    assert found.unusual[0].fields == {"remote_host": "10.0.0.9"}
    assert found.unusual[0].pattern.period == pytest.approx(1)
