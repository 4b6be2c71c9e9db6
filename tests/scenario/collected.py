"""Writers of numbered entries into files that rotate, a collector as a process, and receivers that can be killed."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Protocol

import httpx

from atalaia.wire.push import read_push
from tests.integration.logs_support import free_port

_CONFIG = """
server: {{disable: true}}
positions: {{filename: {folder}/positions}}
clients:
- url: {url}/loki/api/v1/push
  batchwait: 50ms
  backoff_config: {{min_period: 20ms, max_period: 200ms}}
  {more}
scrape_configs:
- job_name: plain
  pipeline_stages: [{{labeldrop: [filename]}}]
  static_configs: [{{labels: {{job: w, __path__: {folder}/logs/plain-*.log*}}}}]
- job_name: regex
  pipeline_stages:
  - regex: {{expression: '^(?P<key>\\S+ \\d+) at (?P<at>\\d+) for (?:-|(?P<tenant>\\S+))'}}
  - timestamp: {{source: at, format: UnixNs}}
  - tenant: {{source: tenant}}
  - labeldrop: [filename]
  static_configs: [{{labels: {{job: w, __path__: {folder}/logs/regex-*.log*}}}}]
- job_name: multi
  pipeline_stages:
  - multiline: {{firstline: '^\\S+-\\d+ \\d+ ', max_wait_time: 700ms}}
  - labeldrop: [filename]
  static_configs: [{{labels: {{job: w, __path__: {folder}/logs/multi-*.log*}}}}]
"""
_STUCK = 30.0  # seconds without any progress
TENANTS = ("", "other")


class Receiver(Protocol):
    """A server that takes pushes, as a process."""

    url: str

    def start(self) -> None: ...

    def kill(self) -> None: ...

    def running(self) -> bool: ...

    def count(self) -> int:
        """How many entries it has, at least roughly: `found` decides."""

    def found(self) -> Counter[str]:
        """How often it has each entry's text."""


class Process:
    """A child that is started again and again; what it says goes to a file."""

    def __init__(self, log: Path, *arguments: str) -> None:
        self.log = log
        self._arguments = arguments
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen([sys.executable, *self._arguments], stdout=log, stderr=log)

    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(20)

    def stop(self) -> int:
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(30)


class StoreReceiver(Process):
    """`atalaia serve`."""

    def __init__(self, folder: Path, _: random.Random) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        given = ("--data", str(folder / "store"), "--listen", f"127.0.0.1:{port}")
        super().__init__(folder / "store.log", "-m", "atalaia", "serve", *given)

    def _ask(self, path: str, parameters: dict[str, Any], tenant: str) -> Any:
        headers = {"X-Scope-OrgID": tenant} if tenant else {}
        with httpx.Client(base_url=self.url, trust_env=False, timeout=30, headers=headers) as http:
            answer = http.get(path, params=parameters)
        assert answer.status_code == 200, answer.text
        return answer.json()["data"]["result"]

    def count(self) -> int:
        counted = 0
        for tenant in TENANTS:
            found = self._ask("/loki/api/v1/query", {"query": 'sum(count_over_time({job="w"}[10h]))'}, tenant)
            counted += int(found[0]["value"][1]) if found else 0
        return counted

    def found(self) -> Counter[str]:
        every: Counter[str] = Counter()
        for tenant in TENANTS:
            given = {"query": '{job="w"}', "start": 0, "end": time.time_ns() + 10**12, "limit": 100_000}
            for stream in self._ask("/loki/api/v1/query_range", given, tenant):
                every.update(_checked(value[1], tenant) for value in stream["values"])
        return every


class LokiReceiver(Process):
    """loki_receiver.py; what came twice with equal times and labels is one entry, as it is to Loki."""

    def __init__(self, folder: Path, rng: random.Random, **options: Any) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self._folder = folder / "pushes"
        self._read = 0
        self._entries: set[tuple[str, str, int, str]] = set()
        self.received = 0
        given = {"seed": rng.randrange(2**32), "faults": 0.2, "json": False} | options
        script = str(Path(__file__).with_name("loki_receiver.py"))
        super().__init__(folder / "loki.log", script, str(self._folder), str(port), json.dumps(given))

    def _update(self) -> None:
        for path in sorted(self._folder.glob("*"))[self._read :] if self._folder.exists() else []:
            head, _, body = path.read_bytes().partition(b"\n")
            told = json.loads(head)
            for row in read_push(body, told["kind"], "").table.to_pylist():
                self._entries.add((told["tenant"], row["labels"], row["ts"], row["line"]))
                self.received += 1
            self._read += 1

    def count(self) -> int:
        self._update()
        return len(self._entries)

    def found(self) -> Counter[str]:
        self._update()
        return Counter(_checked(line, tenant) for tenant, _, _, line in self._entries)


def _checked(line: str, tenant: str) -> str:
    """The line, which must be there for the tenant that it names."""
    words = line.split()
    named = words[5] if len(words) > 5 and words[4] == "for" else "-"
    assert named.replace("-", "") == tenant, f"{line!r} is tenant {tenant!r}'s"
    return line


class Writer:
    """Writes entries into files that it rotates; `expected` is every one's text."""

    def __init__(self, folder: Path, rng: random.Random, files: int = 20) -> None:
        self.logs = folder / "logs"
        self.logs.mkdir(parents=True)
        self.expected: set[str] = set()
        self.rotations: Counter[str] = Counter()
        self._rng = rng
        self._number = 0
        self._generation = 0
        self._open: dict[str, IO[bytes]] = {}
        self._seen: set[str] = set()  # names whose file was read to its end once
        kinds = ("plain", "regex", "multi")
        for number in range(files):
            self._reopen(f"{kinds[number % 3]}-{number}")

    def _reopen(self, name: str) -> None:
        if name in self._open:
            self._open[name].close()
        self._seen.discard(name)
        self._open[name] = (self.logs / f"{name}.log").open("ab", buffering=0)

    @property
    def names(self) -> list[str]:
        return list(self._open)

    def work(self, seconds: float) -> None:
        """Write, and rotate now and then."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            for _ in range(self._rng.randrange(1, 12)):
                self.write(self._rng.choice(self.names))
            if self._rng.random() < 0.03:
                self.rotate(self._rng.choice(self.names), quiet=False)
            time.sleep(0.004)

    def write(self, name: str) -> None:
        """One entry; at times in two halves, in the middle of a line or of a character."""
        self._number += 1
        line = f"{name} {self._number}"
        if name.startswith("regex"):
            tenant = self._rng.choice(["-", "-", "other"])
            line += f" at {time.time_ns()} for {tenant}"
        line += f" é{'x' * self._rng.randrange(150)}"
        if name.startswith("multi"):
            line += "".join(f"\n  and more {i}" for i in range(self._rng.randrange(4)))
        self.expected.add(line)
        data = f"{line}\n".encode()
        cut = self._rng.randrange(len(data)) if self._rng.random() < 0.05 else len(data)
        self._open[name].write(data[:cut])
        if cut < len(data):
            time.sleep(0.01)
            self._open[name].write(data[cut:])

    def rotate(self, name: str, quiet: bool) -> None:
        """Rotate a file in some way; `quiet`: everything was read, so ways that lose what was not are possible, too."""
        path = self.logs / f"{name}.log"
        self._generation += 1
        kinds = ["rename", "new"]
        if quiet:
            kinds += ["copytruncate", "copytruncate", "delete", "replace"]
        if name in self._seen:
            # A compressed file goes on as the file that it was, if that was ever looked at.
            kinds += ["compress"]
        kind = self._rng.choice(kinds)
        self.rotations[kind] += 1
        if kind == "new":
            self._reopen(f"{name.partition('-')[0]}-{1000 + self._generation}")
        elif kind == "rename":
            path.rename(self.logs / f"{name}.log.{self._generation}")
            self._reopen(name)
        elif kind == "copytruncate":
            shutil.copy(path, self.logs.parent / f"{name}.copy")
            self._open[name].truncate(0)
            self._seen.discard(name)
            for _ in range(self._rng.randrange(60)):
                self.write(name)
        elif kind == "delete":
            path.unlink()
            self._reopen(name)
        elif kind == "replace":
            fresh = self.logs.parent / "fresh"
            fresh.touch()
            fresh.rename(path)
            self._reopen(name)
        else:
            rotated = path.rename(self.logs / f"{name}.log.{self._generation}")
            self._reopen(name)
            for _ in range(self._rng.randrange(4)):
                self.write(name)
            packed = self.logs / f"{rotated.name}.partial"
            packed.write_bytes(gzip.compress(rotated.read_bytes()))
            packed.rename(f"{rotated}.gz")
            rotated.unlink()

    def all_is_read(self) -> None:
        """An empty file is nothing yet that could be known again."""
        self._seen = {name for name, file in self._open.items() if os.fstat(file.fileno()).st_size}

    def close(self) -> None:
        for file in self._open.values():
            file.close()


def config(folder: Path, url: str, more: str = "") -> Path:
    """The collector's configuration."""
    path = folder / "promtail.yaml"
    path.write_text(_CONFIG.format(folder=folder, url=url, more=more))
    return path


class Rounds:
    """Rounds of writing, rotating and killing; after each, the receiver must have every entry once."""

    def __init__(self, folder: Path, rng: random.Random, receiver: Any, more: str = "") -> None:
        folder.mkdir(parents=True)
        self.receiver: Receiver = receiver
        self.writer = Writer(folder, rng)
        self._rng = rng
        self._folder = folder
        self.collector = Process(
            folder / "collector.log", "-m", "atalaia", "collect", "--config", str(config(folder, receiver.url, more))
        )
        self.kills: Counter[str] = Counter()
        self.checked = 0

    def round(self) -> None:
        """One of them."""
        stop = threading.Event()
        chaos = threading.Thread(target=self._disturb, args=(stop, random.Random(self._rng.random())))
        chaos.start()
        try:
            self.writer.work(self._rng.uniform(0.5, 1.2))
        finally:
            stop.set()
            chaos.join()
        if self._rng.random() < 0.2 and self.collector.running():
            self.kills["collector stopped"] += 1
            # One that is told so while it loads ends as any program does.
            assert self.collector.stop() in (0, -signal.SIGTERM), self._told()
        self.check()
        # All is read: now come the rotations that would lose what is not.
        if self._rng.random() < 0.5:
            self.kills["collector"] += 1
            self.collector.kill()
        for name in self._rng.sample(self.writer.names, self._rng.randrange(4)):
            self.writer.rotate(name, quiet=True)

    def _disturb(self, stop: threading.Event, rng: random.Random) -> None:
        """Kill and start, until `stop`."""
        processes = {"collector": self.collector, "receiver": self.receiver}
        while not stop.is_set():
            for name, process in processes.items():
                if not process.running():
                    if rng.random() < 0.7:
                        process.start()
                elif rng.random() < 0.4:
                    self.kills[name] += 1
                    process.kill()
            stop.wait(rng.uniform(0.1, 0.9))

    def check(self) -> None:
        """Wait until everything is there, once."""
        deadline, most = time.monotonic() + _STUCK, 0
        while True:
            for process in (self.receiver, self.collector):
                if not process.running():
                    process.start()
            with contextlib.suppress(httpx.TransportError):
                count = self.receiver.count()
                if count >= len(self.writer.expected):
                    break
                if count > most:
                    deadline, most = time.monotonic() + _STUCK, count
            assert time.monotonic() < deadline, self._difference()
            time.sleep(0.05)
        found = self.receiver.found()
        assert found == Counter(self.writer.expected), self._difference()
        self.checked += len(found)
        self.writer.all_is_read()

    def _difference(self) -> str:
        found = self.receiver.found()
        missing = sorted(self.writer.expected - found.keys())
        twice = sorted(text for text, count in found.items() if count > 1)
        foreign = sorted(found.keys() - self.writer.expected)
        return (
            f"missing {len(missing)}: {missing[:5]}; twice {len(twice)}: {twice[:5]}; never written {len(foreign)}: "
            f"{foreign[:5]}; {self._told()}"
        )

    def _told(self) -> str:
        text = self.collector.log.read_text(errors="replace")
        assert "Traceback" not in text, text[-3000:]
        return text[-1500:]

    def close(self) -> None:
        """Leave no process behind."""
        self.collector.kill()
        self.receiver.kill()
        self.writer.close()


@contextlib.contextmanager
def rounds(folder: Path, rng: random.Random, receiver: Any, more: str = "") -> Iterator[Rounds]:
    """Rounds whose processes are ended."""
    made = Rounds(folder, rng, receiver, more)
    try:
        yield made
    finally:
        made.close()
