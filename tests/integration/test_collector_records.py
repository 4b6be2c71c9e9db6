"""Records of many lines through the real commands: written line by line, while the collector ends in every way."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from api_support import Tenant, served, tenant
from logs_support import wait_for
from test_collector_delivery import Memory, plan_of, running, write

from atalaia.collector.stages.limit import Limit
from atalaia.collector.stages.multiline import Multiline

__all__ = ["served", "tenant"]

CONFIG = """
server: {{disable: true}}
positions: {{filename: {folder}/positions}}
clients: [{{url: "{url}/loki/api/v1/push", tenant_id: {tenant}, batchwait: 50ms}}]
scrape_configs:
- job_name: records
  pipeline_stages:
  - multiline: {{firstline: '^record ', max_wait_time: 1s}}
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


def stored(tenant: Tenant, job: str) -> list[str]:
    """The line of every entry, by time."""
    streams = tenant.streams(f'{{job="{job}"}}', start=0, end=time.time_ns() + 10**12)
    return [line for _, line in sorted((int(ts), line) for stream in streams for ts, line in stream["values"])]


@pytest.fixture
def folder(tmp_path: Path, tenant: Tenant) -> Path:
    (tmp_path / "logs").mkdir()
    text = CONFIG.format(folder=tmp_path, url=str(tenant.http.base_url).rstrip("/"), tenant=tenant.name)
    (tmp_path / "promtail.yaml").write_text(text)
    return tmp_path


def record(file: str, number: int, lines: int) -> list[str]:
    return [f"record {file} {number}", *(f"  {file} {number} line {line}" for line in range(lines))]


def test_each_record_is_stored_whole_and_once_however_the_collector_ends(
    folder: Path, tenant: Tenant, rng: random.Random
) -> None:
    stop = threading.Event()
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
    try:
        with Running(folder) as collector:
            for writer in writers:
                writer.start()
            for number in (signal.SIGKILL, signal.SIGTERM):
                wait_for(lambda: stored(tenant, "records"), 20)
                time.sleep(0.3 + rng.random() * 0.4)
                collector.end(number)
                collector.start()
            stop.set()
            for writer in writers:
                writer.join()
            wait_for(lambda: len(stored(tenant, "records")) >= len(written), 30)
    finally:
        stop.set()
    found = Counter(stored(tenant, "records"))
    assert found == written
    assert max(text.count("\n") for text in found) == 5


def test_a_stream_that_waits_holds_up_no_other_for_long(folder: Path, tenant: Tenant) -> None:
    with Running(folder), (folder / "logs" / "a.cri").open("a", buffering=1) as file:

        def write(stream: str, flag: str, text: str) -> None:
            now = time.time_ns()
            moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now // 10**9))
            file.write(f"{moment}.{now % 10**9:09d}Z {stream} {flag} {text}\n")

        log = folder / "collect.log"
        wait_for(lambda: log.exists() and "event=collecting" in log.read_text(), 20)
        write("stderr", "P", "half of a line")
        for number in range(130):  # no moment without news, for longer than cri waits
            write("stdout", "F", f"line {number}")
            write("stdout", "P", " goes")
            write("stdout", "F", " on")
            time.sleep(0.03)
        soon = stored(tenant, "cri")
        assert "half of a line" in soon
        assert "line 20\n goes on" in soon
        wait_for(lambda: len(stored(tenant, "cri")) == 131, 20)
    assert stored(tenant, "cri") == ["half of a line", *(f"line {number}\n goes on" for number in range(130))]


def test_a_stop_leaves_a_record_that_is_not_finished_to_the_next_start(tmp_path: Path) -> None:
    sink, path = Memory(), tmp_path / "a.log"
    plan = plan_of(tmp_path)
    plan = replace(plan, jobs=(replace(plan.jobs[0], stages=(Multiline("^record ", wait=30.0),)),))
    write(path, "record 1", " a", "record 2", " b")
    with running(plan, sink.connect):
        wait_for(lambda: sink.lines() == ["record 1\n a"])
    assert sink.lines() == ["record 1\n a"]
    write(path, " c", "record 3")
    with running(plan, sink.connect):
        wait_for(lambda: len(sink.lines()) == 2)
    assert sink.lines() == ["record 1\n a", "record 2\n b\n c"]


def test_a_stop_delivers_what_a_format_waits_for(tmp_path: Path) -> None:
    sink, path = Memory(), tmp_path / "a.log"
    plan = plan_of(tmp_path)
    plan = replace(plan, jobs=(replace(plan.jobs[0], format="stderr", wait=30.0),))
    stamp = "2024-08-09 01:06:43.242 UTC [1]"
    write(path, f"{stamp} LOG:  first", f"{stamp} LOG:  database system is shut down")
    with running(plan, sink.connect):
        wait_for(lambda: sink.lines() == ["LOG:  first"])
    assert sink.lines() == ["LOG:  first", "LOG:  database system is shut down"]


def test_a_limit_leaves_lines_in_their_file_and_stops_at_once(tmp_path: Path) -> None:
    sink, path = Memory(), tmp_path / "a.log"
    plan = plan_of(tmp_path)
    plan = replace(plan, jobs=(replace(plan.jobs[0], stages=(Limit(rate=1, burst=3),)),))
    write(path, *range(9))
    with running(plan, sink.connect):
        wait_for(lambda: len(sink.lines()) >= 4)
        began = time.monotonic()
    assert time.monotonic() - began < 1.5
    assert 4 <= len(sink.lines()) <= 6
    with running(replace(plan, jobs=(replace(plan.jobs[0], stages=(Limit(rate=1, burst=9),)),)), sink.connect):
        wait_for(lambda: len(sink.lines()) == 9)
    assert sink.lines() == [str(number) for number in range(9)]
