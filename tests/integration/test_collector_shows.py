"""A collector at work: its metrics, targets and configuration, while its output answers and while it does not."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.integration.api_support import Served, served  # noqa: F401  # a fixture
from tests.integration.logs_support import free_port, wait_for

from atalaia.collector import statefile
from atalaia.collector.collecting import Collecting
from atalaia.collector.promtail.load import load
from atalaia.collector.showing import View

CONFIG = """\
server: {{http_listen_address: 127.0.0.1, http_listen_port: 0}}
positions: {{filename: {folder}/positions.yaml}}
clients:
- url: {url}/loki/api/v1/push
  basic_auth: {{username: me, password: hidden-word}}
scrape_configs:
- job_name: app
  static_configs:
  - labels: {{app: shop, __path__: {folder}/*.log}}
  pipeline_stages:
  - drop: {{expression: noise}}
"""


class Collect:
    """`atalaia collect` as a process; the address of its HTTP server is read from its log."""

    def __init__(self, folder: Path, url: str) -> None:
        (folder / "promtail.yaml").write_text(CONFIG.format(folder=folder, url=url))
        command = [sys.executable, "-m", "atalaia", "collect", "--config", str(folder / "promtail.yaml")]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        assert self.process.stderr is not None
        self.lines: list[str] = []
        for line in self.process.stderr:
            self.lines.append(line)
            if found := re.search(r"event=listening address=127\.0\.0\.1 port=(\d+)", line):
                break
        else:
            raise AssertionError(self.lines)
        self._rest = threading.Thread(target=self.process.stderr.read)
        self._rest.start()
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{found[1]}")

    def metric(self, name: str) -> float:
        """The value of a metric, its labels as written; 0 when it is not there."""
        for line in self.http.get("/metrics").text.splitlines():
            if line.startswith(name) and line[len(name)] in " {":
                return float(line.rsplit(" ", 1)[1])
        return 0.0

    def stop(self) -> int:
        self.http.close()
        self.process.terminate()
        try:
            return self.process.wait(20)
        finally:
            self.process.kill()
            self._rest.join()
            assert self.process.stderr is not None
            self.process.stderr.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "a.log").write_text("one\nnoise\ntwo\n")
    return tmp_path


def test_a_collector_process_shows_what_it_does(served: Served, folder: Path) -> None:  # noqa: F811
    collect = Collect(folder, served.url)
    try:
        path = f'{{path="{folder}/a.log"}}'
        wait_for(lambda: collect.metric("promtail_sent_entries_total") == 2)
        wait_for(lambda: collect.metric(f"promtail_file_bytes_total{path}") == 14)
        assert collect.metric(f"promtail_read_bytes_total{path}") == 14
        assert collect.metric(f"promtail_read_lines_total{path}") == 3
        assert collect.metric("logentry_dropped_lines_total") == 1
        assert collect.metric("promtail_files_active_total") == 1
        assert collect.metric("promtail_targets_active_total") == 1
        assert collect.metric("promtail_sent_bytes_total") > 0
        assert collect.metric("promtail_encoded_bytes_total") > 0
        assert collect.metric("promtail_request_duration_seconds_count") >= 1
        assert 0 < collect.metric("promtail_stream_lag_seconds") < 60
        assert collect.metric(f"promtail_file_lag_bytes{path}") == 0
        assert collect.http.get("/ready").status_code == 200
        (target,) = collect.http.get("/targets", params={"format": "json"}).json()
        assert target == {
            "job": "app", "kind": "File", "ready": True, "labels": {"app": "shop"},
            "details": {f"{folder}/a.log": "14"},
        }  # fmt: skip
        config = collect.http.get("/config").text
        assert "job_name: app" in config
        assert "hidden-word" not in config
    finally:
        code = collect.stop()
    assert code == 0


def test_lag_while_the_output_is_away(folder: Path) -> None:
    collect = Collect(folder, f"http://127.0.0.1:{free_port()}")
    try:
        assert collect.http.get("/ready").status_code == 503
        assert collect.metric("promtail_sent_entries_total") == 0
    finally:
        collect.stop()


@pytest.fixture
def collecting(served: Served, folder: Path) -> Iterator[tuple[Collecting, Path]]:  # noqa: F811
    (folder / "promtail.yaml").write_text(CONFIG.format(folder=folder, url=served.url))
    state = folder / "status.json"
    found = Collecting(load(folder / "promtail.yaml"), view=View(state=state))
    thread = threading.Thread(target=found.run)
    thread.start()
    yield found, state
    found.stop()
    thread.join()


def test_the_state_file_follows_and_goes(collecting: tuple[Collecting, Path], folder: Path) -> None:
    found, state = collecting

    def told() -> Any:
        read = statefile.read(state)
        return read.outputs[0] if read else None

    wait_for(lambda: (one := told()) is not None and one.files == 1 and one.files_behind == 0)
    # A line without its end is read, and waits: it is behind.
    with (folder / "a.log").open("a") as file:
        file.write("half")
    wait_for(lambda: (one := told()) is not None and one.bytes_behind == 4)
    assert told().worst[0].path == f"{folder}/a.log"
    with (folder / "a.log").open("a") as file:
        file.write(" a line\n")
    wait_for(lambda: (one := told()) is not None and one.files_behind == 0)
    found.stop()
    wait_for(lambda: not state.exists())


def test_a_taken_port_ends_it_with_a_message(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        text = CONFIG.format(folder=folder, url="http://127.0.0.1:9").replace("port: 0", f"port: {port}")
        (folder / "promtail.yaml").write_text(text)
        command = [sys.executable, "-m", "atalaia", "collect", "--config", str(folder / "promtail.yaml")]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert ended.returncode == 2
    assert f"cannot listen on 127.0.0.1:{port}: Address already in use" in ended.stderr
    assert "http_listen_port" in ended.stderr
