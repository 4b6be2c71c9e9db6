"""The collector is killed while others send to it: what it has taken is delivered once."""

from __future__ import annotations

import contextlib
import random
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.conftest import soak
from tests.integration.docker_server import Container, DockerServer
from tests.integration.logs_support import free_port, wait_for
from tests.scenario.collected import Process, StoreReceiver
from tests.unit.api.bodies import json_push, protobuf

_CONFIG = """
server: {{disable: true}}
positions: {{filename: {folder}/positions}}
clients:
- url: {url}/loki/api/v1/push
  batchwait: 50ms
  backoff_config: {{min_period: 20ms, max_period: 200ms}}
scrape_configs:
- job_name: push
  loki_push_api:
    server: {{http_listen_address: 127.0.0.1, http_listen_port: {push}}}
    labels: {{from: push}}
    use_incoming_timestamp: true
- job_name: syslog
  syslog: {{listen_address: "127.0.0.1:{syslog}", labels: {{from: syslog}}}}
  relabel_configs:
  - {{source_labels: [__syslog_message_hostname], target_label: host}}
- job_name: docker
  docker_sd_configs: [{{host: "unix://{folder}/docker.sock", refresh_interval: 50ms}}]
  relabel_configs:
  - {{target_label: from, replacement: docker}}
  - {{source_labels: [__meta_docker_container_log_stream], target_label: stream}}
"""


_JSON = {"Content-Type": "application/json"}


class Senders:
    """Threads that send numbered lines. Each push is tried once: `acknowledged` are those that were answered 204."""

    def __init__(self, push: int, syslog: int, container: Container) -> None:
        self._push, self._syslog, self._container = push, syslog, container
        self.acknowledged: list[str] = []
        self.docker: list[str] = []
        self.syslog = 0
        self._stop = threading.Event()
        works = (self._push_all, self._syslog_all, self._docker_all)
        self._threads = [threading.Thread(target=work) for work in works]

    def __enter__(self) -> Senders:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def go_on(self) -> None:
        """Wait until more of everything was sent, and taken."""
        pushes, messages, lines = len(self.acknowledged), self.syslog, len(self.docker)
        wait_for(lambda: len(self.acknowledged) > pushes + 50 and self.syslog > messages and len(self.docker) > lines)

    def _push_all(self) -> None:
        with httpx.Client(base_url=f"http://127.0.0.1:{self._push}", trust_env=False, timeout=5) as http:
            number = 0
            while not self._stop.wait(0.005):
                lines = [f"push {number} {at}" for at in range(random.Random(number).randrange(1, 30))]
                entries = [(time.time_ns(), line) for line in lines]
                as_json = number % 2 == 0
                body = json_push({"app": "a"}, entries) if as_json else protobuf({'{app="a"}': entries})
                kind = "application/json" if as_json else "application/x-protobuf"
                with contextlib.suppress(httpx.HTTPError):
                    answer = http.post("/loki/api/v1/push", content=body, headers={"Content-Type": kind})
                    if answer.status_code == 204:
                        self.acknowledged += lines
                number += 1

    def _syslog_all(self) -> None:
        while not self._stop.is_set():
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self._syslog), 1) as connection:
                while not self._stop.wait(0.002):
                    connection.sendall(f"<13>1 - host app - - - syslog {self.syslog}\n".encode())
                    self.syslog += 1
            self._stop.wait(0.02)

    def _docker_all(self) -> None:
        moment = time.time_ns()
        while not self._stop.wait(0.003):
            line = f"docker {len(self.docker)}"
            moment += len(self.docker) % 3  # some lines have the same time
            self._container.write(line, moment, stream=1 + len(self.docker) % 2)
            self.docker.append(line)


@pytest.fixture
def docker(tmp_path: Path) -> Iterator[DockerServer]:
    server = DockerServer(tmp_path / "docker.sock")
    server.start()
    yield server
    server.stop()


def found_in(store: StoreReceiver) -> Counter[str]:
    every: Counter[str] = Counter()
    for source in ("push", "syslog", "docker"):
        given = {"query": f'{{from="{source}"}}', "start": 0, "end": time.time_ns() + 10**12, "limit": 100_000}
        with contextlib.suppress(httpx.HTTPError):  # it is starting
            for stream in store._ask("/loki/api/v1/query_range", given, ""):
                every.update(value[1] for value in stream["values"])
    return every


@pytest.mark.timeout(900 if soak() else 120)
def test_what_was_taken_is_delivered_once(tmp_path: Path, rng: random.Random, docker: DockerServer) -> None:
    push, syslog = free_port(), free_port()
    store = StoreReceiver(tmp_path, rng)
    config = tmp_path / "promtail.yaml"
    config.write_text(_CONFIG.format(folder=tmp_path, url=store.url, push=push, syslog=syslog))
    collector = Process(tmp_path / "collector.log", "-m", "atalaia", "collect", "--config", str(config))
    container = docker.add(Container("c1", "web"))
    big = '"' * 200_000  # twice as long in the spool
    store.start()
    collector.start()
    try:
        senders = Senders(push, syslog, container)
        with senders:
            for round_ in range(60 if soak() else 3):
                senders.go_on()
                time.sleep(rng.uniform(0, 0.4))
                victims = [collector] if round_ % 3 else [collector, store]
                for victim in victims:
                    victim.kill()
                for victim in victims:
                    victim.start()
            senders.go_on()
        body = json_push({"app": "a"}, [(time.time_ns(), big)])
        answer = httpx.post(f"http://127.0.0.1:{push}/loki/api/v1/push", content=body, headers=_JSON)
        assert answer.status_code == 204
        expected = {*senders.acknowledged, *senders.docker, big}
        last = f"syslog {senders.syslog - 1}"
        wait_for(lambda: expected | {last} <= found_in(store).keys(), 40, "everything is delivered")
        found = found_in(store)
        assert [line for line, times in found.items() if times > 1] == []
        assert len(senders.acknowledged) > 100
        assert collector.stop() == 0
        assert found_in(store) == found
    except BaseException:
        print((tmp_path / "collector.log").read_text()[-6000:])
        with contextlib.suppress(Exception):
            missing = sorted({*senders.acknowledged, *senders.docker} - found_in(store).keys())
            spooled = "".join(path.read_text() for path in tmp_path.glob("positions*/*/*.jsonl"))
            print(f"missing {len(missing)}: {missing[:5]} … {missing[-5:]}")
            lost = [line for line in missing if f'"{line}"' not in spooled]
            print(f"not even in a spool {len(lost)}: {lost[:5]}")
        raise
    finally:
        collector.kill()
        store.kill()
