"""The collector's HTTP server: Promtail's addresses, in HTML and JSON; its port."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

import httpx
import pytest

from atalaia.collector.meters import Meters
from atalaia.collector.plan import Server
from atalaia.collector.server import CollectorServer, TargetState
from atalaia.environment.errors import InputError

TARGETS = [
    TargetState(
        "varlogs", "File", True, {"job": "<b>varlogs</b>"}, {"/var/log/a.log": "12"}, {"__path__": "/var/log/*log"}
    ),
    TargetState("syslog", "Syslog", False, {}),
]


@contextlib.contextmanager
def serving(settings: Server, targets: list[TargetState] = TARGETS) -> Iterator[httpx.Client]:
    meters = Meters()
    meters.count("promtail_read_lines_total", 3, path="/var/log/a.log")
    server = CollectorServer(settings, meters, lambda: targets, "clients:\n- url: <secret>\n", lambda: None)
    server.start()
    port = server.port
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
            yield client
    finally:
        server.stop()
    with socket.create_server(("127.0.0.1", port)):
        pass


def test_what_it_shows() -> None:
    with serving(Server("127.0.0.1", 0)) as client:
        assert (client.get("/ready").status_code, client.get("/ready").text) == (200, "Ready\n")
        metrics = client.get("/metrics")
        assert metrics.headers["content-type"].startswith("text/plain; version=0.0.4")
        assert 'promtail_read_lines_total{path="/var/log/a.log"} 3.0' in metrics.text
        assert client.get("/config").text == "clients:\n- url: <secret>\n"
        found = client.get("/targets", params={"format": "json"}).json()
        assert found[0] == {
            "job": "varlogs", "kind": "File", "ready": True, "labels": {"job": "<b>varlogs</b>"},
            "details": {"/var/log/a.log": "12"},
        }  # fmt: skip
        assert client.get("/targets", headers={"Accept": "application/json"}).json() == found
        page = client.get("/targets").text
        assert "/var/log/a.log: 12" in page
        assert "&lt;b&gt;varlogs" in page
        assert "<b>varlogs" not in page
        discovered = client.get("/service-discovery", params={"format": "json"}).json()
        assert discovered[0]["discovered"] == {"__path__": "/var/log/*log"}
        assert "/var/log/*log" in client.get("/service-discovery").text
        assert 'href="/targets"' in client.get("/").text
        assert client.get("/nothing").status_code == 404
        assert client.post("/reload").status_code == 404


def test_not_ready_until_something_is_read() -> None:
    with serving(Server("127.0.0.1", 0), TARGETS[1:]) as client:
        assert client.get("/ready").status_code == 503
        assert "Unable to find any logs" in client.get("/ready").text
    with serving(Server("127.0.0.1", 0, ready_when_reading=False), []) as client:
        assert client.get("/ready").status_code == 200


def test_a_prefix_no_metrics_and_reloading() -> None:
    with serving(Server("127.0.0.1", 0, prefix="/p", reload=True, metrics=False)) as client:
        assert client.get("/p/ready").status_code == 200
        assert client.get("/ready").status_code == 404
        assert client.get("/p/metrics").status_code == 404
        assert client.post("/p/reload").status_code == 200
        assert 'href="/p/targets"' in client.get("/p/").text


def test_a_taken_port_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        server = CollectorServer(Server("127.0.0.1", taken.getsockname()[1]), Meters(), list, "")
        with pytest.raises(InputError, match=r"cannot listen on 127\.0\.0\.1"):
            server.start()


def test_a_file_that_is_gone_is_told_no_longer() -> None:
    meters = Meters()
    for path in ("/a", "/b"):
        meters.count("promtail_read_lines_total", 1, path=path)
        meters.set("promtail_file_lag_bytes", 1, path=path)
    meters.gone("/a")
    meters.gone("/c")
    told = meters.exposition().decode()
    assert 'path="/a"' not in told
    assert told.count('path="/b"') >= 2
