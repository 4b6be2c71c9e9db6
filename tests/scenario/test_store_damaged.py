"""Every kind of file of a store, truncated or with a flipped bit: found, named, and never answered from."""

from __future__ import annotations

import random
import shutil
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from atalaia.environment.errors import AtalaiaError
from atalaia.logql.parse import parse
from atalaia.logql.tree import LogQuery
from atalaia.query.engine import Engine
from atalaia.query.execute import Executor
from atalaia.store.batch import Source, canonical
from atalaia.store.check import check
from atalaia.store.options import Options
from atalaia.store.store import Store
from tests.conftest import soak
from tests.integration.logs_support import entries, free_port, opened, wait_for
from tests.integration.store_reader import Entry, read

S = 10**9
QUIET = Options(idle_seconds=3600.0)
BUSY = Options(idle_seconds=0.02)
TENANTS = ("fake", "other")
Line = tuple[str, str, int, str, str]
"""Tenant, labels, ns, line, metadata."""


@dataclass(frozen=True)
class Original:
    """An undamaged store with files of every kind, none of whose entries are in two of them, and what it holds."""

    directory: Path
    entries: list[Entry]
    files: dict[str, Path]

    def lines(self, without: Path | None = None) -> Counter[Line]:
        """All entries but those of a segment."""
        low, high = 1, 0
        if without is not None:
            with closing(sqlite3.connect(self.directory / "catalogue.sqlite")) as catalogue:
                query = "SELECT first_seq, last_seq FROM segments WHERE name = ?"
                low, high = catalogue.execute(query, (without.name,)).fetchone()
        return lines_of([entry for entry in self.entries if not low <= entry.seq <= high])


def lines_of(found: list[Entry]) -> Counter[Line]:
    return Counter((e.tenant, e.labels, e.ts, e.line, repr(sorted(e.metadata.items()))) for e in found)


def push(store: Store, rng: random.Random, number: int) -> None:
    lines = [f"took {rng.randrange(10**9)} ms, {rng.choice(['done', 'failed'])} {'x' * rng.randrange(99)}"] * 2
    lines += [f"request {rng.randrange(10**9)} of client {n}" for n in range(rng.randrange(1, 40))]
    table = entries(lines, [rng.randrange(60) * S for _ in lines], {"job": rng.choice("abc")}, [("pid", str(number))])
    assert store.append(table, rng.choice(TENANTS), (Source("file", number, number + 1),)).result(20).rows == len(lines)


@pytest.fixture
def original(tmp_path: Path, rng: random.Random) -> Original:
    live, directory = tmp_path / "live", tmp_path / "original"
    with opened(live, BUSY) as store:
        for number in range(10):
            push(store, rng, number)
        store.flush()
        wait_for(lambda: store.settled and [s.level for s in store._shelf.segments] == [1])
    with opened(live, QUIET) as store:
        for number in range(10, 30):
            push(store, rng, number)
            if number in (15, 20):
                store.flush()
        (log,) = (live / "wal").iterdir()
        shutil.copytree(live, directory)
    with closing(sqlite3.connect(directory / "catalogue.sqlite")) as catalogue:
        # What is in SQLite's journal goes into the file.
        catalogue.execute("PRAGMA journal_mode = DELETE")
        levels = dict(catalogue.execute("SELECT level, name FROM segments ORDER BY id").fetchall())
    files = {f"level {level}": directory / "segments" / name for level, name in levels.items()}
    files["index"] = files["level 1"].with_suffix(".index")
    files |= {"log": directory / "wal" / log.name, "catalogue": directory / "catalogue.sqlite"}
    return Original(directory, read(directory).entries, files)


def answers(executor: Executor) -> Counter[Line]:
    """All that LogQL gives, asked for in several ways that must agree."""
    found: Counter[Line] = Counter()
    for tenant in TENANTS:
        some = _logs(executor, tenant, '{job=~".+"}', backward=True)
        assert some == _logs(executor, tenant, '{job=~".+"}', backward=False)
        assert _logs(executor, tenant, '{job=~".+"} |= "failed"', backward=True) == Counter(
            {line: count for line, count in some.items() if "failed" in line[3]}
        )
        found += some
    return found


def _logs(executor: Executor, tenant: str, text: str, backward: bool) -> Counter[Line]:
    query = parse(text)
    assert isinstance(query, LogQuery)
    found = executor.logs(query, (tenant,), 0, 2**62, 100_000, backward)
    return Counter((tenant, canonical(e.stream), e.ts, e.line, repr(sorted(e.metadata.items()))) for e in found)


def damage(path: Path, how: str, rng: random.Random) -> str:
    """Flip a bit of a file or cut it; what was done."""
    data = bytearray(path.read_bytes())
    at = rng.randrange(len(data))
    if how == "flipped":
        bit = rng.randrange(8)
        data[at] ^= 1 << bit
        path.write_bytes(data)
        return f"bit {bit} of byte {at} flipped"
    path.write_bytes(data[:at])
    return f"cut to {at} of {len(data)} bytes"


@pytest.mark.timeout(3600 if soak() else 300)
@pytest.mark.parametrize("how", ["flipped", "cut"])
@pytest.mark.parametrize("kind", ["level 0", "level 1", "index", "log", "catalogue"])
def test_damage_is_found_and_never_answered_from(
    tmp_path: Path, rng: random.Random, original: Original, kind: str, how: str
) -> None:
    began, checked, refused = time.monotonic(), 0, 0
    rounds = 40 if soak() else 3
    engine = Engine()
    try:
        for number in range(rounds):
            directory = tmp_path / str(number)
            shutil.copytree(original.directory, directory)
            path = directory / original.files[kind].relative_to(original.directory)
            done = damage(path, how, rng)
            print(f"{path.name}: {done}")
            count = _examine(original, kind, path, directory, engine)
            checked, refused = checked + count, refused + (not count)
            shutil.rmtree(directory)
    finally:
        engine.close()
    seconds = time.monotonic() - began
    print(f"{kind} {how}: {rounds} times, {refused} refused, {checked} lines checked, {seconds:.0f} s")


def _examine(original: Original, kind: str, path: Path, directory: Path, engine: Engine) -> int:
    """Check a store of which one file is damaged, and ask it; how many lines it answered, 0 when it is not opened."""
    named = {finding.file for finding in check(directory, lambda *_: None, patience=0.0) if finding.damage}
    whole = original.lines()
    expected = whole
    if kind.startswith("level"):
        expected = original.lines(without=path)
        assert f"segments/{path.name}" in named
    elif kind == "index":
        assert named == {f"segments/{path.name}"}
    elif kind == "log" and path.read_bytes().startswith(b"ATLWAL\0\1"):
        # The reader that was written from the document alone ends it where it has to end.
        left = read(directory)
        expected = lines_of(left.entries)
        assert bool(left.torn) == (f"wal/{path.name}" in named)
    before = {found: found.read_bytes() for found in (directory / "segments").iterdir()}
    try:
        store = Store(directory, BUSY)
    except AtalaiaError:
        # Without a catalogue nobody knows what is stored; a log that does not begin as one may be of another program.
        assert kind == "catalogue" or path.read_bytes()[:8] != original.files[kind].read_bytes()[:8]
        assert path.name in named or f"wal/{path.name}" in named
        _assert_refused_clearly(directory, path)
        assert {found: found.read_bytes() for found in (directory / "segments").iterdir()} == before
        return 0
    try:
        executor = Executor(store, engine)
        found = answers(executor)
        wait_for(lambda: store.settled)
        assert answers(executor) == found, "compaction changed what is answered"
        assert not _texts(found) - _texts(whole), "a line was altered"
        if kind == "catalogue":
            assert found == whole or named
        else:
            assert found == expected
        if kind.startswith("level"):
            assert store.state().damaged == (path.name,)
        return found.total()
    finally:
        store.close()


def _texts(found: Counter[Line]) -> Counter[tuple[int, str]]:
    texts: Counter[tuple[int, str]] = Counter()
    for (_, _, ts, line, _), count in found.items():
        texts[ts, line] += count
    return texts


def _assert_refused_clearly(directory: Path, path: Path) -> None:
    command = [sys.executable, "-m", "atalaia", "serve", "--data", str(directory)]
    done = subprocess.run(
        [*command, "--listen", f"127.0.0.1:{free_port()}"], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 2, done.stderr
    assert done.stderr.startswith(f"atalaia: {path}")
