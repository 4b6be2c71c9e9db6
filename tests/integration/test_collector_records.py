"""Records of many lines through the real commands: written line by line, while the collector ends in every way."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import httpx
import pytest
from logs_support import Server, wait_for

CONFIG = """
server: {{disable: true}}
positions: {{filename: {folder}/positions}}
clients: [{{url: "{url}/loki/api/v1/push", batchwait: 50ms}}]
scrape_configs:
- job_name: records
  pipeline_stages:
  - multiline: {{firstline: '^record ', max_wait_time: 2s}}
  - metrics: {{records: {{type: counter, config: {{match_all: true, action: inc}}}}}}
  static_configs: [{{labels: {{job: records, __path__: {folder}/logs/*.log}}}}]
- job_name: containers
  pipeline_stages:
  - cri: {{}}
  - multiline: {{firstline: '^\\S', max_wait_time: 500ms}}
  - labeldrop: [filename]
  static_configs: [{{labels: {{job: cri, __path__: {folder}/logs/*.cri}}}}]
"""


class Running:
    """`atalaia collect` as a process."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "atalaia", "collect", "--config", str(self._folder / "promtail.yaml")]
        with (self._folder / "collect.log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)

    def end(self, number: int) -> None:
        assert self._process is not None
        assert self._process.poll() is None, (self._folder / "collect.log").read_text()
        self._process.send_signal(number)
        self._process.wait(20)
        self._process = None

    def __enter__(self) -> Running:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self.end(signal.SIGKILL)


def stored(base: str, job: str) -> list[tuple[int, str]]:
    """Time and line of every entry."""
    given = {"query": f'{{job="{job}"}}', "limit": 100_000, "start": 0, "end": time.time_ns() + 10**12}
    answer = httpx.get(f"{base}/loki/api/v1/query_range", params=given, trust_env=False, timeout=20)
    assert answer.status_code == 200, answer.text
    return sorted((int(value[0]), value[1]) for stream in answer.json()["data"]["result"] for value in stream["values"])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "logs").mkdir()
    return tmp_path


def record(file: str, number: int, lines: int) -> list[str]:
    return [f"record {file} {number}", *(f"  {file} {number} line {line}" for line in range(lines))]


def test_each_record_is_stored_whole_and_once_however_the_collector_ends(folder: Path, rng: random.Random) -> None:
    server, stop = Server(folder / "store"), threading.Event()
    written: Counter[str] = Counter()

    def write(name: str, random_: random.Random) -> None:
        with (folder / "logs" / f"{name}.log").open("a", buffering=1) as file:
            for number in range(10_000):
                if stop.is_set():
                    return
                lines = record(name, number, random_.randrange(6))
                for line in lines:
                    file.write(f"{line}\n")
                    stop.wait(random_.random() * 0.01)
                written["\n".join(lines)] += 1

    writers = [threading.Thread(target=write, args=(name, random.Random(rng.random()))) for name in "ab"]
    server.start()
    try:
        (folder / "promtail.yaml").write_text(CONFIG.format(folder=folder, url=server.base))
        with Running(folder) as collector:
            for writer in writers:
                writer.start()
            for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGKILL):
                wait_for(lambda: stored(server.base, "records"), 20)
                time.sleep(0.3 + rng.random() * 0.4)
                collector.end(number)
                collector.start()
            stop.set()
            for writer in writers:
                writer.join()
            wait_for(lambda: len(stored(server.base, "records")) >= len(written), 30)
            collector.end(signal.SIGTERM)
        found = Counter(line for _, line in stored(server.base, "records"))
        assert found == written
        assert max(text.count("\n") for text in found) == 5
    finally:
        stop.set()
        server.stop()


def test_a_stream_that_waits_holds_up_no_other_for_long(folder: Path) -> None:
    server = Server(folder / "store")
    server.start()
    try:
        (folder / "promtail.yaml").write_text(CONFIG.format(folder=folder, url=server.base))
        with Running(folder), (folder / "logs" / "a.cri").open("a", buffering=1) as file:

            def write(stream: str, flag: str, text: str) -> None:
                now = time.time_ns()
                moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now // 10**9))
                file.write(f"{moment}.{now % 10**9:09d}Z {stream} {flag} {text}\n")

            write("stdout", "F", "ready")
            wait_for(lambda: stored(server.base, "cri"), 20)
            write("stderr", "P", "half of a line")
            for number in range(150):  # no moment without news, for longer than cri waits
                write("stdout", "F", f"line {number}")
                time.sleep(0.03)
            soon = [line for _, line in stored(server.base, "cri")]
            assert "half of a line" in soon
            assert "line 20" in soon
            write("stdout", "F", "Traceback")
            write("stdout", "P", " at ")
            write("stderr", "F", "other")
            write("stdout", "F", "home")
            wait_for(lambda: len(stored(server.base, "cri")) == 154, 20)
        found = [line for _, line in stored(server.base, "cri")]
        assert found == [
            *["ready", "half of a line"],
            *(f"line {number}" for number in range(150)),
            *["Traceback\n at home", "other"],
        ]
    finally:
        server.stop()
