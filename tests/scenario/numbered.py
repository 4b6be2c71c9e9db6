"""Clients that push numbered lines and know what was acknowledged to them, and what must be found of it."""

from __future__ import annotations

import contextlib
import json
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from atalaia.store.batch import CONTENT_TYPE, Source, canonical, encode
from tests.integration.logs_support import entries, free_port
from tests.integration.store_reader import Found

S = 10**9
NOW = 1_700_000_000 * S
_DAY = 86_400 * S


class FaultyServer:
    """faulty_server.py as a child; `port` stays the same over its lives."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None
        self.log = directory.with_name(f"{directory.name}.log")

    def start(self, **faults: Any) -> bool:
        """Whether it answers; a fault may have ended it before."""
        command = [sys.executable, str(Path(__file__).with_name("faulty_server.py"))]
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                [*command, str(self.directory), str(self.port), json.dumps(faults)], stderr=log
            )
        deadline = time.monotonic() + 60
        while self.process.poll() is None:
            with contextlib.suppress(httpx.HTTPError), httpx.Client(trust_env=False, timeout=10) as http:
                if http.get(f"{self.url}/ready").status_code in (200, 503):
                    return True
            assert time.monotonic() < deadline, "it does not answer"
            time.sleep(0.02)
        return False

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait(20)

    def stop(self) -> int:
        assert self.process is not None
        if self.process.poll() is None:
            self.process.terminate()
        return self.process.wait(60)

    def state(self) -> dict[str, Any]:
        return dict(httpx.get(f"{self.url}/atalaia/v1/store", trust_env=False, timeout=20).json())

    def settle(self) -> None:
        """Wait until nothing is left to do in the background."""
        deadline = time.monotonic() + 60
        while not self.state()["settled"]:
            assert time.monotonic() < deadline, "it never settles"
            time.sleep(0.05)


@contextlib.contextmanager
def faulty_server(directory: Path) -> Iterator[FaultyServer]:
    server = FaultyServer(directory)
    try:
        yield server
    finally:
        if server.process is not None:
            server.kill()


@dataclass
class Batch:
    """Lines of one push by their numbers. One that was refused is not stored; one not answered may be."""

    numbers: range
    source: Source | None
    acknowledged: bool = False
    refused: bool = False


@dataclass
class Pusher:
    """One stream of one tenant.

    What was refused is sent again, and with a source also what was not answered; without, that may be there.
    """

    name: str
    tenant: str
    sourced: bool
    late: bool
    rng: random.Random
    batches: list[Batch] = field(default_factory=list)
    lines: list[tuple[int, str]] = field(default_factory=list)
    recognised: int = 0
    refused: list[str] = field(default_factory=list)

    @property
    def labels(self) -> dict[str, str]:
        return {"job": "numbered", "name": self.name}

    def run(self, url: str, stop: threading.Event) -> None:
        """Push until the server is gone or `stop` is set."""
        with httpx.Client(base_url=url, trust_env=False, timeout=30) as http, contextlib.suppress(httpx.TransportError):
            while not stop.is_set():
                self.push(http)

    def push(self, http: httpx.Client) -> None:
        """One push: the last one again when nobody knows whether it was stored, else a new one."""
        last = self.batches[-1] if self.batches else None
        if last is None or last.acknowledged or not (self.sourced or last.refused):
            if last is not None and last.acknowledged and self.sourced and self.rng.random() < 0.1:
                self._send(http, last, repeated=True)
            last = self._new(last)
            self.batches.append(last)
        self._send(http, last, repeated=False)

    def _new(self, last: Batch | None) -> Batch:
        first = len(self.lines)
        for number in range(first, first + self.rng.randrange(1, 20)):
            # Many lines of one moment; those that are late go back by days in no order.
            ts = NOW - self.rng.randrange(30) * _DAY if self.late else NOW + number // 50 * S
            self.lines.append((ts, f"{self.name} took {number} ms {'x' * self.rng.randrange(200)}"))
        start = last.source.end if last is not None and last.source else 0
        source = Source(f"{self.tenant}/{self.name}", start, start + 10 * (len(self.lines) - first))
        return Batch(range(first, len(self.lines)), source if self.sourced else None)

    def _send(self, http: httpx.Client, batch: Batch, repeated: bool) -> None:
        some = [self.lines[number] for number in batch.numbers]
        headers = {"X-Scope-OrgID": self.tenant}
        if batch.source is None:
            values = [[str(ts), line, {"kind": "plain"}] for ts, line in some]
            body = json.dumps({"streams": [{"stream": self.labels, "values": values}]}).encode()
            headers["Content-Type"] = "application/json"
        else:
            table = entries([line for _, line in some], [ts for ts, _ in some], self.labels, [("kind", "sourced")])
            body = encode(table, [batch.source])
            headers["Content-Type"] = CONTENT_TYPE
        batch.refused = False
        answer = http.post("/loki/api/v1/push", content=body, headers=headers)
        if answer.status_code == 503:
            batch.refused = True
            self.refused.append(answer.text)
            time.sleep(0.05)
            return
        if answer.status_code == 409 and batch.source is not None:
            # Whatever became of it before: the store has it, to its last byte.
            assert answer.json()["positions"] == {batch.source.id: batch.source.end}
            self.recognised += 1
        else:
            assert (answer.status_code, repeated) == (204, False), answer.text
        batch.acknowledged = True

    def expected(self, present: set[int]) -> list[int]:
        """The numbers that must be there, where `present` are: all that was acknowledged, and whole pushes only."""
        found: list[int] = []
        for batch in self.batches:
            if batch.acknowledged or (not batch.refused and batch.numbers[0] in present):
                found += batch.numbers
        return found

    def check(self, found: Sequence[tuple[int, str]]) -> int:
        """Every acknowledged line exactly once, in the order of arrival; how many. `found`: (ts, line) by seq."""
        numbers = [int(line.split()[2]) for _, line in found]
        assert numbers == self.expected(set(numbers)), f"{self.name}: lines are lost, doubled or in another order"
        assert list(found) == [self.lines[number] for number in numbers], f"{self.name}: lines were altered"
        return len(found)


def some_pushers(rng: random.Random) -> list[Pusher]:
    """Several streams and tenants, with sources and without, some of them late."""
    kinds = [("a", "fake", True, False), ("a", "other", True, False), ("b", "fake", False, False)]
    kinds += [("c", "fake", True, True), ("d", "other", False, True)]
    return [Pusher(*kind, random.Random(rng.random())) for kind in kinds]


@contextlib.contextmanager
def pushing(pushers: Sequence[Pusher], url: str) -> Iterator[None]:
    """All of them push, each in a thread of its own, until this is left or the server is gone."""
    stop = threading.Event()
    failures: list[BaseException] = []

    def run(pusher: Pusher) -> None:
        try:
            pusher.run(url, stop)
        except BaseException as error:  # noqa: BLE001 - told by the test's own thread
            failures.append(error)

    threads = [threading.Thread(target=run, args=(pusher,)) for pusher in pushers]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    if failures:
        raise failures[0]


def check_files(pushers: Sequence[Pusher], found: Found) -> int:
    """What the files of a store hold, with or without a process that has it open."""
    lines = 0
    for pusher in pushers:
        own = [e for e in found.entries if (e.tenant, e.labels) == (pusher.tenant, canonical(pusher.labels))]
        assert all(e.metadata == {"kind": "sourced" if pusher.sourced else "plain"} for e in own)
        lines += pusher.check([(e.ts, e.line) for e in own])
    assert lines == len(found.entries)
    return lines


def check_answers(pushers: Sequence[Pusher], server: FaultyServer) -> int:
    """What LogQL answers: everything once, equal times in the order of arrival, backward the mirror of forward."""
    lines = 0
    with httpx.Client(base_url=server.url, trust_env=False, timeout=60) as http:
        for pusher in pushers:
            answers = [
                _lines(http, pusher, {"query": f'{{name="{pusher.name}"}}', "direction": direction})
                for direction in ("forward", "backward")
            ]
            assert answers[0] == answers[1][::-1]
            assert answers[0] == sorted(answers[0], key=lambda found: found[0])
            arrived = sorted(answers[0], key=lambda found: int(found[1].split()[2]))
            assert answers[0] == sorted(arrived, key=lambda found: found[0]), "equal times are not in order of arrival"
            lines += pusher.check(arrived)
    return lines


def check_meanwhile(pusher: Pusher, server: FaultyServer) -> int:
    """While it pushes: an answer has all that was acknowledged before the question, and nothing twice."""
    acknowledged = [number for batch in list(pusher.batches) if batch.acknowledged for number in batch.numbers]
    with httpx.Client(base_url=server.url, trust_env=False, timeout=60) as http:
        found = _lines(http, pusher, {"query": f'{{name="{pusher.name}"}}'})
    numbers = [int(line.split()[2]) for _, line in found]
    assert len(set(numbers)) == len(numbers)
    assert not set(acknowledged) - set(numbers)
    return len(numbers)


def _lines(http: httpx.Client, pusher: Pusher, parameters: dict[str, str]) -> list[tuple[int, str]]:
    """(ts, line) of a query's answer."""
    query = parameters | {"start": "0", "end": str(NOW * 2), "limit": "100000"}
    answer = http.get("/loki/api/v1/query_range", params=query, headers={"X-Scope-OrgID": pusher.tenant})
    assert answer.status_code == 200, answer.text
    # The metadata makes one result of the stream.
    found = [(int(ts), line) for stream in answer.json()["data"]["result"] for ts, line in stream["values"]]
    assert len(found) < 100_000
    return found
