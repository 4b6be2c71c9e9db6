"""Tails inside one process: no gap and no repetition while the store flushes and compacts underneath; their cost."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from tests.integration.logs_support import entries, opened, parquet_files, wait_for

from atalaia.logql.parse import parse
from atalaia.logql.tree import LogQuery
from atalaia.query.engine import Engine
from atalaia.query.execute import Executor
from atalaia.query.tail import Question, Tail
from atalaia.query.tails import Tails
from atalaia.store.options import Options
from atalaia.store.store import Store

MANY = 1_000_000


@contextmanager
def tails_of(store: Store) -> Iterator[Tails]:
    engine = Engine()
    try:
        yield Tails(store, Executor(store, engine))
    finally:
        engine.close()


def question(text: str, tenant: str = "one") -> Question:
    tree = parse(text)
    assert isinstance(tree, LogQuery)
    return Question(tree, (tenant,))


class Reader:
    """Reads a tail as the API does: woken, never polling."""

    def __init__(self, tails: Tails, tail: Tail) -> None:
        self._tails = tails
        self._tail = tail
        self._came = threading.Event()
        self._done = threading.Event()
        self.woken = 0
        self.lines: list[str] = []
        tail.wake = self._wake
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _wake(self) -> None:
        self.woken += 1
        self._came.set()

    def _read(self) -> None:
        executor = self._tail._executor
        self.lines += [entry.line for entry in self._tail.history(0, MANY, executor.ticket())]
        while True:
            batches, dropped = self._tail.take()
            assert not dropped
            if batches:
                self._came.set()
                self.lines += [one.entry.line for one in self._tail.entries(batches, executor.ticket())]
            elif self._done.is_set():
                return
            self._came.wait()
            self._came.clear()

    def finish(self) -> list[str]:
        self._done.set()
        self._came.set()
        self._thread.join(30)
        self._tails.close(self._tail)
        return self.lines


def test_each_entry_once_while_segments_are_made(tmp_path: Path) -> None:
    """Writers, flushes and compactions at once; tails begin at any moment and see every line exactly once."""
    rng = random.Random(7)
    options = replace(Options(), flush_bytes=64 << 10, idle_seconds=0.05)
    with opened(tmp_path, options) as store, tails_of(store) as tails:
        written: list[list[str]] = [[], []]

        def write(writer: int, sizes: list[int]) -> None:
            for i, size in enumerate(sizes):
                lines = [f"{writer}-{i}-{j} {'x' * 20}" for j in range(size)]
                times = [rng.randrange(10**9, 2 * 10**9) for _ in lines]
                store.append(entries(lines, times, {"job": f"w{writer}", "n": str(i % 7)}), "one").result(30)
                store.append(entries(["no"], labels={"job": "other"}), "one").result(30)
                written[writer] += lines

        sizes = [[rng.choice([1, 3, 50, 1500]) for _ in range(30)] for _ in written]
        writers = [threading.Thread(target=write, args=(i, some)) for i, some in enumerate(sizes)]
        readers: list[Reader] = []
        for thread in writers:
            thread.start()
        while any(thread.is_alive() for thread in writers):
            if len(readers) < 6:
                readers.append(Reader(tails, tails.open(question('{job=~"w.*"} |= "x"'))))
            store.flush()
            writers[0].join(0.05)
        wait_for(lambda: store.settled, what="all is compacted")
        assert parquet_files(tmp_path)
        expected = sorted(line for some in written for line in some)
        wait_for(lambda: all(len(reader.lines) >= len(expected) for reader in readers), what="all is told")
        for reader in readers:
            assert sorted(reader.finish()) == expected
        assert len(readers) > 3
        assert not len(tails)
        assert store.listener is None


def test_tails_sleep_when_nothing_matches(tmp_path: Path) -> None:
    """A hundred tails of other streams: none is woken, none is asked again for a stream that is known."""
    with opened(tmp_path) as store, tails_of(store) as tails:
        others = [Reader(tails, tails.open(question(f'{{job="none{i}"}} | json'))) for i in range(100)]
        mine = Reader(tails, tails.open(question('{job="test"}')))
        asked = []
        for reader in others:
            selects = reader._tail.selects
            reader._tail.selects = lambda stream, selects=selects: asked.append(stream) or selects(stream)  # type: ignore
        for i in range(50):
            store.append(entries([f"line {i}"]), "one").result(30)
        wait_for(lambda: len(mine.lines) == 50, what="all is told")
        assert [reader.woken for reader in others] == [0] * 100
        assert len(asked) == 100
        assert mine.finish() == [f"line {i}" for i in range(50)]
        for reader in others:
            assert reader.finish() == []


def test_what_does_not_fit_is_dropped_and_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pipeline that is slower than the pushes: the pushes do not wait, the tail says what it left out."""
    monkeypatch.setattr("atalaia.query.tail._MOST_BYTES", 1 << 20)
    with opened(tmp_path) as store, tails_of(store) as tails:
        tail = tails.open(question('{job="test"}'))
        assert tail.take() == ([], [])
        lines = ["x" * 400 + str(i) for i in range(2000)]
        for _ in range(4):
            store.append(entries(lines), "one").result(30)
        wait_for(lambda: not tails._bytes, what="all is handed out")
        batches, dropped = tail.take()
        assert [len(batch) for batch, _ in batches] == [2000]
        assert len(dropped) == 1000
        assert {(str(one.labels), one.ts) for one in dropped} == {("{'job': 'test'}", 10**9)}
        store.append(entries(["again"]), "one").result(30)
        came = threading.Event()
        tail.wake = came.set
        store.append(entries(["again"]), "one").result(30)
        assert came.wait(20)
        tails.close(tail)
