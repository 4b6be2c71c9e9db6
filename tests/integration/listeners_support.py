"""Listeners made as a promtail.yaml makes them, each with a spool of its own."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from atalaia.collector.entries import Entries, column
from atalaia.collector.formats.spool import records
from atalaia.collector.listeners.listener import Opener
from atalaia.collector.listeners.registry import KINDS
from atalaia.collector.listeners.spool import Spool
from atalaia.collector.meters import Meters
from atalaia.collector.plan import Relabel
from atalaia.environment.yamlfile import Reader

CERTIFICATES = Path(__file__).parent / "certificates"


def opener_of(kind: str, text: str) -> tuple[Opener | None, Reader]:
    """What the YAML below a kind's key gives."""
    reader = Reader(Path("promtail.yaml"))
    return KINDS[kind](reader, reader.load(text), "job"), reader


class Opened:
    """A running listener and what it has spooled."""

    def __init__(self, directory: Path, kind: str, text: str, relabel: Relabel | None = None, **bounds: int) -> None:
        opener, reader = opener_of(kind, text)
        assert not reader.problems, reader.problems
        assert opener is not None
        self.meters = Meters()
        self.spool = Spool(directory, "job", relabel, **bounds)
        self.listener: Any = opener(self.spool, self.meters)
        try:
            self.listener.start()
        except BaseException:
            self.spool.close()
            raise

    @property
    def port(self) -> int:
        return int(self.listener.address.rpartition(":")[2])

    def entries(self) -> Entries:
        block = b"".join(path.read_bytes() for path in sorted(self.spool.directory.glob("*.jsonl")))
        return records(block[: block.rfind(b"\n") + 1], {"job": "job"}, self.spool.relabel)

    def lines(self) -> list[str]:
        found: list[str] = self.entries().lines.to_pylist()
        return found

    def labels(self) -> list[dict[str, str]]:
        found = self.entries()
        columns = {name: column(value, len(found)).to_pylist() for name, value in found.labels.items()}
        return [
            {n: values[row] for n, values in columns.items() if values[row] is not None} for row in range(len(found))
        ]

    def counted(self, name: str, **labels: str) -> float:
        return self.meters.registry.get_sample_value(name, labels) or 0.0

    def wait_for(self, count: int, seconds: float = 10.0) -> list[str]:
        """The lines, once there are so many."""
        wait_until(lambda: len(self.lines()) >= count, seconds)
        found = self.lines()
        assert len(found) == count, found[-3:]
        return found

    def close(self) -> None:
        self.listener.stop()
        self.spool.close()


def wait_until(what: Callable[[], bool], seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.01)


@contextmanager
def opened(directory: Path, kind: str, text: str, relabel: Relabel | None = None, **bounds: int) -> Iterator[Opened]:
    found = Opened(directory, kind, text, relabel, **bounds)
    try:
        yield found
    finally:
        found.close()


def shown(*names: str) -> Relabel:
    """A relabelling that shows hidden labels under their last words: `__syslog_message_hostname=host` as `host`."""

    def relabel(labels: Mapping[str, str]) -> Mapping[str, str]:
        named = {short: labels.get(long, "") for long, _, short in (name.partition("=") for name in names)}
        return {**labels, **named}

    return relabel
