from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atalaia.collector.listeners.docker_frames import LONGEST, PART, FrameError, Line, Multiplexed, Terminal
from atalaia.collector.listeners.docker_labels import label_sets
from atalaia.collector.listeners.docker_place import Place, since

STAMP = b"2026-11-23T01:02:03.%09dZ"


def frame(stream: int, data: bytes) -> bytes:
    return bytes([stream, 0, 0, 0]) + len(data).to_bytes(4, "big") + data


def frames_of(stream: int, number: int, line: bytes) -> bytes:
    """A line as Docker sends it: in parts of 16 KiB, each with its time."""
    whole = line + b"\n"
    parts = [whole[at : at + PART] for at in range(0, len(whole), PART)]
    return b"".join(frame(stream, STAMP % (number + at) + b" " + part) for at, part in enumerate(parts))


LINE = st.binary(max_size=30).map(lambda line: line.replace(b"\n", b"").replace(b"\r", b""))
LONG = st.integers(PART - 2, 3 * PART).map(lambda size: b"x" * size)


@given(st.lists(st.tuples(st.sampled_from([1, 2]), LINE | LONG), max_size=5), st.lists(st.integers(1, 40), max_size=9))
def test_lines_come_out_of_frames_whatever_their_pieces(lines: list[tuple[int, bytes]], sizes: list[int]) -> None:
    data = b"".join(frames_of(stream, 10 * number, line) for number, (stream, line) in enumerate(lines))
    reader = Multiplexed()
    found: list[Line] = []
    for size in [*sizes, len(data) + 1]:
        found += reader.feed(data[:size])
        data = data[size:]
    assert reader.end() == []
    names = {1: "stdout", 2: "stderr"}
    assert found == [Line(names[stream], STAMP % (10 * n), line) for n, (stream, line) in enumerate(lines)]


def test_parts_of_both_streams_may_stand_between_each_other() -> None:
    data = b"".join(
        [
            frame(1, STAMP % 1 + b" " + b"a" * PART),
            frame(2, STAMP % 2 + b" error\n"),
            frame(1, STAMP % 3 + b" " + b"b\n"),
            frame(1, STAMP % 4 + b" last without newline"),
        ]
    )
    reader = Multiplexed()
    assert reader.feed(data) == [Line("stderr", STAMP % 2, b"error"), Line("stdout", STAMP % 1, b"a" * PART + b"b")]
    assert reader.end() == [Line("stdout", STAMP % 4, b"last without newline")]


def test_endless_lines_are_cut_and_frames_checked() -> None:
    reader = Multiplexed()
    for _ in range(3 * LONGEST // PART):
        assert reader.feed(frame(1, STAMP % 1 + b" " + b"x" * PART)) == []
    (line,) = reader.feed(frame(1, STAMP % 2 + b" end\n"))
    assert len(line.raw) <= LONGEST
    assert b"cut:" in line.raw[-40:]
    with pytest.raises(FrameError):
        reader.feed(b"HTTP/1.1 200 OK")


@given(st.lists(LINE | LONG, max_size=5), st.lists(st.integers(1, 40), max_size=9))
def test_lines_of_a_terminal(lines: list[bytes], sizes: list[int]) -> None:
    data = b""
    for number, line in enumerate(lines):
        parts = [line[at : at + PART] for at in range(0, len(line), PART)] or [b""]
        data += b"".join(STAMP % (10 * number + at) + b" " + part for at, part in enumerate(parts)) + b"\r\n"
    reader = Terminal()
    found: list[Line] = []
    for size in [*sizes, len(data) + 1]:
        found += reader.feed(data[:size])
        data = data[size:]
    assert found == [Line("stdout", STAMP % (10 * number), line) for number, line in enumerate(lines)]
    assert reader.end() == []


@given(st.lists(st.integers(0, 3), max_size=30), st.integers(0, 30))
def test_each_line_passes_once_however_often_the_log_is_read_again(steps: list[int], stop: int) -> None:
    moments = [sum(steps[: at + 1]) for at in range(len(steps))]
    first = Place()
    taken = [at for at, moment in enumerate(moments[:stop]) if first.passes(moment)]
    cursor = first.cursor() if taken else None
    again = Place.read(cursor)
    from_there = [at for at, moment in enumerate(moments) if moment >= first.moment]
    taken += [at for at in from_there if again.passes(moments[at])]
    assert taken == list(range(len(moments)))


def test_a_log_is_read_again_from_the_stream_that_is_behind() -> None:
    assert since({}, "c") is None
    both = {"c/stdout": "1500000000123456789 1", "c/stderr": "1400000000000000000 2", "d/stdout": "1 1"}
    assert since(both, "c") == "1400000000.000000000"
    assert since({"c/stdout": "1500000000123456789 1"}, "c") == "1499999999.123456789"


CONTAINER = {
    "Id": "c1",
    "Names": ["/web"],
    "Labels": {"com.docker.compose.service": "web"},
    "HostConfig": {"NetworkMode": "app_default"},
    "State": "running",
    "Ports": [
        {"IP": "0.0.0.0", "PrivatePort": 80, "PublicPort": 8080, "Type": "tcp"},
        {"PrivatePort": 53, "Type": "udp"},
    ],
    "NetworkSettings": {
        "Networks": {
            "b": {"IPAddress": "10.1.0.2", "NetworkID": "n2"},
            "a": {"IPAddress": "10.0.0.2", "NetworkID": "n1"},
        }
    },
}
NETWORK = {"Id": "n1", "Name": "a", "Scope": "local", "Internal": False, "Ingress": False, "Labels": {"x.y": "z"}}


def test_labels_of_a_container_are_those_of_prometheus() -> None:
    ((id_, sets),) = label_sets([CONTAINER], [NETWORK])
    assert id_ == "c1"
    assert sets == [
        {
            "__meta_docker_container_id": "c1",
            "__meta_docker_container_name": "/web",
            "__meta_docker_container_network_mode": "app_default",
            "__meta_docker_container_label_com_docker_compose_service": "web",
            "__meta_docker_network_id": "n1",
            "__meta_docker_network_name": "a",
            "__meta_docker_network_scope": "local",
            "__meta_docker_network_internal": "false",
            "__meta_docker_network_ingress": "false",
            "__meta_docker_network_label_x_y": "z",
            "__meta_docker_network_ip": "10.0.0.2",
            "__meta_docker_port_private": "80",
            "__meta_docker_port_public": "8080",
            "__meta_docker_port_public_ip": "0.0.0.0",
            "__address__": "10.0.0.2:80",
        }
    ]
    ((_, several),) = label_sets([CONTAINER], [], match_first_network=False)
    assert [one["__address__"] for one in several] == ["10.0.0.2:80", "10.1.0.2:80"]


def test_containers_without_ports_or_networks_have_an_address_where_they_can() -> None:
    host = {**CONTAINER, "Id": "h", "Ports": [], "HostConfig": {"NetworkMode": "host"}}
    shared = {
        **CONTAINER,
        "Id": "s",
        "Ports": [],
        "HostConfig": {"NetworkMode": "container:c1"},
        "NetworkSettings": None,
    }
    alone = {**shared, "Id": "n", "HostConfig": {"NetworkMode": "none"}}
    found = dict(label_sets([CONTAINER, host, shared, alone], [], port=9999))
    assert found["h"][0]["__address__"] == "localhost"
    assert found["s"][0]["__address__"] == "10.0.0.2:9999"
    assert "__address__" not in found["n"][0]
