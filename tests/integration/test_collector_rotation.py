"""Rotation of every kind, at random, while the collector runs, stops and is killed: each line arrives exactly once."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import lzma
import os
import random
import shutil
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from logs_support import wait_for
from test_collector_delivery import Memory, brisk, plan_of, running
from tests.conftest import soak

from atalaia.collector.collector import Collector
from atalaia.collector.plan import Decompression, Plan
from atalaia.collector.reading import files as files_module
from atalaia.collector.reading import positions

__all__ = ["brisk"]  # a fixture of all tests here
UNSEEN = ("compress", "copytruncate", "copytruncate and compress")
PACKED: dict[str, Callable[[bytes], bytes]] = {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress}


def killed(collector: Collector, sink: Memory) -> None:
    """As kill -9 leaves it: nothing more is sent, and what was acknowledged last is not in the positions."""
    kept = collector._files._positions

    def close() -> None:
        with contextlib.suppress(sqlite3.Error):
            assert kept._db is not None
            kept._db.close()
        if kept._lock is not None:
            os.close(kept._lock)

    kept.close = close  # type: ignore[method-assign]
    sink.down = True
    collector._give_up_at = time.monotonic()


class Writer:
    """A program that writes numbered lines to a few files, and what rotates them."""

    def __init__(self, folder: Path, sink: Memory, rng: random.Random, whole: bool) -> None:
        self.folder, self.sink, self.rng, self.whole = folder, sink, rng, whole
        self.written: list[str] = []
        self.rotations = 0
        self.running = False
        self.mortal = False  # whether the collector is to be killed: it may then not come to see what happens
        self.once: set[str] = set()  # files that were rotated while nobody looked
        self.done: list[str] = []

    def line(self) -> str:
        self.written.append(f"{len(self.written)} {'x' * self.rng.choice([0, 3, 40, 700])}")
        return self.written[-1]

    def append(self, path: Path) -> None:
        lines = [self.line() for _ in range(self.rng.choice([1, 2, 5, 60]))]
        text = "".join(f"{line}\n" for line in lines)
        cut = self.rng.randrange(len(text))
        with path.open("a") as file:
            file.write(text[:cut])
            file.flush()
            file.write(text[cut:])

    def begun(self, path: Path) -> bool:
        """Whether the collector knows what is in the file now."""
        status, content = path.stat(), path.read_bytes()
        kept = positions.read(self.folder / "positions.db").values()
        same = [k for k in kept if k.identity == (status.st_dev, status.st_ino)]
        return not content or any(k.head_size and k.begins(lambda count, at: content[at : at + count]) for k in same)

    def delivered(self) -> bool:
        return len(self.sink.entries) >= len(self.written)

    def act(self, name: str) -> None:
        path = self.folder / name
        kinds = ["append"] * 6
        if path.exists() and path.stat().st_size:
            kinds += ["rename", "rename and create", "copytruncate", "compress"]
            if self.running:
                kinds += ["delete", "move over", "copytruncate and compress"]
        kind = self.rng.choice(kinds)
        if kind != "append" and not self.running:
            if name in self.once:
                # Its name before, which alone the globs know, was never seen by anyone.
                kind = "append"
            self.once.add(name)
        seldom = kind in UNSEEN or self.mortal or not self.running
        if kind != "append" and seldom and not self.begun(path):
            # What was never seen, and is then to be found under a name that no glob knows, is not known by anyone.
            if not self.running:
                kind = "append"
            else:
                wait_for(lambda: self.begun(path), what="the file is known")
        at = len(self.written)
        getattr(self, kind.replace(" ", "_"))(path)
        self.done.append(f"{kind} {name} {at}-{len(self.written)}")

    def rename(self, path: Path) -> Path:
        if self.rng.random() < 0.3:
            # The last rotation moves on.
            for old in sorted(self.folder.glob(f"{path.name}.r*"), reverse=True)[:1]:
                if not old.name.endswith(tuple(PACKED)):
                    old.rename(f"{old}.1")
        self.rotations += 1
        return path.rename(self.folder / f"{path.name}.r{self.rotations}")

    def rename_and_create(self, path: Path) -> None:
        self.rename(path)
        path.touch()
        self.append(path)

    def copytruncate(self, path: Path) -> Path:
        self.rotations += 1
        old = self.folder / f"{path.name}.r{self.rotations}"
        shutil.copy(path, old)
        os.truncate(path, 0)
        if self.rng.random() < 0.5:
            self.append(path)
        return old

    def compress(self, path: Path) -> None:
        self.pack(self.rename(path))

    def copytruncate_and_compress(self, path: Path) -> None:
        self.pack(self.copytruncate(path))

    def pack(self, old: Path) -> None:
        extension = self.rng.choice(list(PACKED))
        packed = PACKED[extension](old.read_bytes())
        with Path(f"{old}.{extension}").open("wb") as file:
            for at in range(0, len(packed), 200):
                file.write(packed[at : at + 200])
                file.flush()
        old.unlink()

    def delete(self, path: Path) -> None:
        wait_for(self.delivered)
        path.unlink()

    def move_over(self, path: Path) -> None:
        wait_for(self.delivered)
        new = self.folder / "new"
        self.append(new)
        new.replace(path)


@contextlib.contextmanager
def at_work(plan: Plan, sink: Memory, writer: Writer, kill: bool) -> Iterator[None]:
    with running(plan, sink.connect) as collector:
        wait_for(lambda: collector._files._looked is not None)
        writer.running, writer.mortal = True, kill
        writer.once.clear()
        yield
        if kill:
            killed(collector, sink)
        writer.running = False
    sink.down = False


def one_round(folder: Path, rng: random.Random) -> None:
    folder.mkdir()
    sink = Memory()
    whole = rng.random() < 0.5
    writer = Writer(folder, sink, rng, whole)
    # Either the globs know the rotated names, or only the first one.
    pattern = "*.log*" if whole else "*.log"
    plan = plan_of(folder, pattern)
    if rng.random() < 0.3:
        plan = replace(plan, jobs=(replace(plan.jobs[0], decompression=Decompression()),))
    names = [f"{i}.log" for i in range(3)]
    try:
        for _ in range(3):
            kill = rng.random() < 0.5
            writer.done.append(f"-- start {kill=}")
            with at_work(plan, sink, writer, kill=kill):
                for name in names:
                    if (folder / name).exists():
                        # Nothing is told of a file before it is known.
                        continue
                    writer.append(folder / name)
                    writer.done.append(f"begin {name}")
                wait_for(lambda: all(writer.begun(folder / name) for name in names))
                for _ in range(8):
                    if rng.random() < 0.1:
                        sink.lost_answers = 1
                    writer.act(rng.choice(names))
                    if rng.random() < 0.3:
                        time.sleep(rng.random() * 0.03)
            writer.done.append("-- stop")
            for _ in range(3):
                writer.act(rng.choice(names))
        with at_work(plan, sink, writer, kill=False):
            wait_for(lambda: len(sink.entries) >= len(writer.written))
            time.sleep(0.02)
        assert Counter(sink.lines()) == Counter(writer.written)
    except BaseException:
        found, expected = Counter(sink.lines()), Counter(writer.written)
        print("glob", pattern, "\n".join(writer.done))
        print("missing", [line[:12] for line in (expected - found)][:20], "twice", [x[:12] for x in (found - expected)])
        print(*sorted(f"{p.name} {p.stat().st_size}" for p in folder.iterdir()), sep="\n")
        raise


@pytest.mark.timeout(3600 if soak() else 300)
def test_each_line_of_rotated_files_arrives_exactly_once(
    tmp_path: Path, rng: random.Random, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files_module, "BLOCK", 3000)
    monkeypatch.setattr(files_module, "_LEAST", 500)
    for number in range(500 if soak() else 20):
        one_round(tmp_path / str(number), rng)
        shutil.rmtree(tmp_path / str(number))
