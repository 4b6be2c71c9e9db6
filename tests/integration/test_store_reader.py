"""A reader written from docs/store-format.md finds in a store's files what was pushed, and the document to be right."""

from __future__ import annotations

import ast
import random
import shutil
import string
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from tests.integration import store_reader
from tests.integration.logs_support import entries, opened, wait_for

from atalaia.store import sql
from atalaia.store.batch import Source, canonical
from atalaia.store.decide import LineTest
from atalaia.store.maintenance import Maintenance
from atalaia.store.options import Options
from atalaia.store.store import Store

S = 10**9
LAZY = Options(idle_seconds=3600.0, flush_bytes=1 << 30)
EAGER = Options(idle_seconds=0.02, flush_bytes=1 << 30)
Pushed = tuple[str, str, int, str, dict[str, str]]
_WORDS = ["id=", "took", "1234567", "a1b2c3", "12.5", "ERROR", "7f", "é", "\n", "\0", "\x11", " "]


class Pusher:
    """Pushes, and keeps what was acknowledged in the order of its arrival."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.pushed: list[Pushed] = []

    def push(
        self,
        lines: Sequence[str],
        ts: Sequence[int],
        tenant: str = "fake",
        labels: dict[str, str] | None = None,
        metadata: dict[str, str] | None = None,
        sources: tuple[Source, ...] = (),
    ) -> None:
        labels = labels or {"job": "test"}
        table = entries(lines, ts, labels, list(metadata.items()) if metadata else None)
        assert self.store.append(table, tenant, sources).result(20).rows == len(lines)
        self.pushed += [(tenant, canonical(labels), t, line, metadata or {}) for t, line in zip(ts, lines, strict=True)]

    def some(self, rng: random.Random, count: int) -> None:
        """Pushes of all kinds."""
        for _ in range(count):
            lines = ["".join(rng.choices(_WORDS, k=rng.randrange(8))) for _ in range(rng.randrange(1, 30))]
            labels = {"job": rng.choice("ab"), "name": rng.choice(["x", "ç€", '"quoted\\"'])}
            metadata = {rng.choice(["pid", "user", "trace"]): str(rng.randrange(9)), "k.1": "v"}
            ts = [rng.randrange(50) * S for _ in lines]
            self.push(lines, ts, rng.choice(["fake", "other"]), labels, rng.choice([None, metadata]))


def seen(found: store_reader.Found) -> list[Pushed]:
    return [(e.tenant, e.labels, e.ts, e.line, e.metadata) for e in found.entries]


def test_the_reader_knows_nothing_of_atalaia() -> None:
    tree = ast.parse(Path(store_reader.__file__).read_text())
    modules = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    modules |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert not any("atalaia" in name for name in modules)


def test_all_that_was_pushed_is_in_the_files(
    tmp_path: Path, rng: random.Random, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory, copy = tmp_path / "store", tmp_path / "copy"
    with opened(directory, EAGER) as store:
        pusher = Pusher(store)
        pusher.some(rng, 40)
        store.flush()
        wait_for(lambda: store.settled and [s.level for s in store._shelf.segments] == [1])
    # Whether a deletion is applied to the files is decided here, not by chance.
    monkeypatch.setattr(Maintenance, "_erase", lambda _: False)
    with opened(directory, LAZY) as store:
        pusher.store = store
        pusher.some(rng, 20)
        pusher.push(["of a source"] * 5, [60 * S] * 5, sources=(Source("file", 10, 70),))
        store.flush()
        pusher.some(rng, 20)
        pusher.push(["of a source"] * 2, [60 * S] * 2, sources=(Source("file", 70, 90), Source("ç", 0, 0)))
        kept = pusher.pushed
        for condition in (
            sql.line_condition((LineTest("took"), LineTest(r"^id=\d", regex=True)), negated=False),
            sql.line_condition((LineTest("7f"),), negated=True),
        ):
            ids = np.array([stream.id for stream in store.streams.of("other")], np.int32)
            store.delete("other", "{…}", 20 * S, 40 * S, ids, (condition,))
        # Deletions ask for a segment of what is in memory; what comes behind them is not theirs.
        store.flush()
        pusher.pushed = [entry for entry in kept if not _deleted(entry)]
        pusher.some(rng, 20)
        shutil.copytree(directory, copy)
        assert store.state().rows_in_memory
    found = store_reader.read(copy)
    assert seen(found) == pusher.pushed
    assert found.sources == {"file": 90, "ç": 0}
    assert found.levels[0] >= 2
    assert found.levels[1] == 1
    assert found.logged
    assert found.hidden
    found = store_reader.read(directory)
    assert (seen(found), found.logged) == (pusher.pushed, 0)
    monkeypatch.undo()
    with opened(directory, EAGER) as store:
        wait_for(lambda: store.settled and all(d.finished for d in store.deletions()))
    found = store_reader.read(directory)
    assert (seen(found), found.hidden, found.levels[0]) == (pusher.pushed, 0, 0)
    print(f"{len(found.entries)} lines checked")


def _deleted(entry: Pushed) -> bool:
    tenant, _, ts, line, _ = entry
    first = "took" in line or line.startswith(tuple(f"id={digit}" for digit in "0123456789"))
    return tenant == "other" and 20 * S <= ts < 40 * S and (first or "7f" not in line)


def test_bands_row_groups_and_indexes_are_as_documented(tmp_path: Path, rng: random.Random) -> None:
    with opened(tmp_path, EAGER) as store:
        pusher = Pusher(store)
        filler = "".join(rng.choices(string.ascii_letters, k=3000))
        for second in range(60):
            name = rng.choice("abc")
            lines = [
                f"{rng.choice(['took', 'waited', 'failed'])} {rng.randrange(10**9)} {filler[: rng.randrange(3000)]}"
                for _ in range(200)
            ]
            pusher.push(lines, [second * S] * 200, labels={"job": name}, metadata={"pid": str(second)})
        for stream in range(300):
            lines = ["".join(rng.choices(string.ascii_letters, k=600)) for _ in range(10)]
            pusher.push(lines, [100 * S] * 10, labels={"job": "d", "stream": str(stream)})
        store.flush(120)
        wait_for(lambda: store.settled and [s.level for s in store._shelf.segments] == [1], 120)
    found = store_reader.read(tmp_path)
    assert seen(found) == pusher.pushed
    assert found.bands == 2
    assert found.groups > 10
    print(f"{len(found.entries)} lines in {found.groups} row groups of {found.bands} bands checked")
