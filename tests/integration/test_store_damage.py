"""Damaged files in an opened store: found before they are read, left out, told; everything else goes on."""

from __future__ import annotations

import shutil
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import duckdb
import pytest
from tests.integration.logs_support import LABELS, Server, entries, opened, parquet_files, wait_for

from atalaia.cli.checks import store_check
from atalaia.client.loki import LokiClient
from atalaia.environment.errors import AtalaiaError
from atalaia.environment.load import load
from atalaia.environment.state import State
from atalaia.logql.parse import parse
from atalaia.logql.tree import LogQuery
from atalaia.query.engine import Engine, QueryLimits
from atalaia.query.execute import Executor
from atalaia.query.ticket import QueryTooExpensive
from atalaia.store import intact, relation
from atalaia.store.commit import StoreUnavailable
from atalaia.store.options import Options
from atalaia.store.store import Store
from atalaia.store.wal import LogFile

LAZY = Options(idle_seconds=3600.0)
EAGER = Options(idle_seconds=0.02)


def write(directory: Path, *pushes: list[str]) -> list[Path]:
    """A closed store with a fresh segment a push; their files."""
    with opened(directory, LAZY) as store:
        for second, lines in enumerate(pushes):
            store.append(entries(lines, ts=[second * 10**9] * len(lines)), "fake").result(20)
            store.flush()
    return parquet_files(directory)


def flip(path: Path, at: int = -1) -> None:
    """Change one bit; by default in the middle of the file."""
    data = bytearray(path.read_bytes())
    data[at if at >= 0 else len(data) // 2] ^= 4
    path.write_bytes(data)


def found(store: Store) -> list[str]:
    with store.snapshot() as snapshot, duckdb.connect() as connection:
        ids = {stream.id for stream in snapshot.streams.of("fake")}
        parts = relation.chosen(snapshot.parts, ids, 0, 2**62)
        source = relation.relation(connection, parts, ids, 0, 2**62)
        return [row[0] for row in connection.execute(f"SELECT line FROM ({source}) ORDER BY seq").fetchall()]


def test_a_flipped_bit_is_found_before_the_segment_is_read(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, third = write(tmp_path, ["one"], ["two"], ["three"])
    flip(second)
    read: list[str] = []
    checksum = intact.checksum
    monkeypatch.setattr(intact, "checksum", lambda path: (read.append(path.name), checksum(path))[1])
    with opened(tmp_path, LAZY) as store:
        assert store.state().damaged == ()
        assert found(store) == ["one", "three"]
        assert store.state().damaged == (second.name,)
        assert store.state().rows == 2
        assert found(store) == ["one", "three"]
        assert sorted(read) == [first.name, second.name, third.name], "each is verified once"
        told = [record.getMessage() for record in caplog.records if "event=segment_damaged" in record.getMessage()]
        assert len(told) == 1
        assert f'file={second.name} reason="its CRC-32 is not the catalogue\'s"' in told[0]
        assert "atalaia store repair" in told[0]
        store.append(entries(["four"], ts=[4 * 10**9]), "fake").result(20)
        store.flush()
        assert found(store) == ["one", "three", "four"]
        assert len(read) == 3, "what this process wrote is not verified"
    assert second.exists()


def test_a_file_that_vanishes_while_the_store_is_open_is_left_out(tmp_path: Path) -> None:
    first, _ = write(tmp_path, ["one"], ["two"])
    with opened(tmp_path, LAZY) as store:
        first.unlink()
        assert found(store) == ["two"]
        assert store.state().damaged == (first.name,)


def test_many_queries_at_once_verify_a_segment_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (path,) = write(tmp_path, ["one"])
    flip(path)
    read: list[str] = []
    together = threading.Barrier(4)
    checksum = intact.checksum
    monkeypatch.setattr(intact, "checksum", lambda path: (read.append(path.name), checksum(path))[1])

    def query(store: Store) -> list[str]:
        together.wait(20)
        return found(store)

    with opened(tmp_path, LAZY) as store, ThreadPoolExecutor(4) as pool:
        assert list(pool.map(query, [store] * 4)) == [[]] * 4
        assert read == [path.name]
        assert store.state().damaged == (path.name,)


def test_compaction_takes_nothing_from_a_damaged_segment(tmp_path: Path) -> None:
    _, second, _ = write(tmp_path, ["one"], ["two"], ["three"])
    flip(second)
    damaged = second.read_bytes()
    with opened(tmp_path, EAGER) as store:
        wait_for(lambda: store.settled)
        assert [segment.level for segment in store._shelf.segments] == [1]
        assert found(store) == ["one", "three"]
        assert store.state().damaged == (second.name,)
    assert second.read_bytes() == damaged


def test_a_deletion_is_not_finished_while_a_segment_is_damaged(tmp_path: Path) -> None:
    first, second = write(tmp_path, ["one"], ["two"])
    whole = first.read_bytes()
    flip(first)
    with opened(tmp_path, EAGER) as store:
        wait_for(lambda: store.settled)
        ids = relation.numbers({stream.id for stream in store.streams.of("fake")})
        store.delete("fake", "{}", 0, 2**62, ids, ())
        wait_for(lambda: store.deletions()[0].rows == 1 and store.settled)
        assert store.deletions()[0].finished is None
    # Once it is repaired, here by a copy, what was deleted does not come back.
    first.write_bytes(whole)
    with opened(tmp_path, EAGER) as store:
        assert found(store) == []
        wait_for(lambda: store.deletions()[0].finished)
        assert store.deletions()[0].rows == 2
        assert found(store) == []
    assert not second.exists()


def test_a_query_whose_time_goes_by_in_verifying_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, ["one"])
    query = parse('{job="test"}')
    assert isinstance(query, LogQuery)
    began, goes_on = threading.Event(), threading.Event()
    checksum = intact.checksum

    def slow(path: Path) -> tuple[int, int]:
        began.set()
        assert goes_on.wait(20)
        return checksum(path)

    monkeypatch.setattr(intact, "checksum", slow)
    engine = Engine(QueryLimits(seconds=0.3))
    try:
        with opened(tmp_path, LAZY) as store, ThreadPoolExecutor(1) as pool:
            answer = pool.submit(Executor(store, engine).logs, query, ("fake",), 0, 2**62, 10, True)
            assert began.wait(20)
            ticket = engine.ticket()
            wait_for(lambda: ticket.over)
            goes_on.set()
            with pytest.raises(QueryTooExpensive):
                answer.result(20)
            engine.limits = QueryLimits()
            assert [entry.line for entry in Executor(store, engine).logs(query, ("fake",), 0, 2**62, 10, True)] == [
                "one"
            ]
    finally:
        engine.close()


@pytest.mark.parametrize("how", ["missing", "empty"])
def test_without_a_catalogue_no_segment_is_removed(tmp_path: Path, how: str) -> None:
    (path,) = write(tmp_path, ["one"])
    (tmp_path / "catalogue.sqlite").unlink()
    if how == "empty":
        (tmp_path / "catalogue.sqlite").touch()
    with pytest.raises(AtalaiaError, match="is missing or empty, and there are segments") as caught:
        Store(tmp_path)
    assert "atalaia store repair" in caught.value.remedy
    assert path.exists()


def test_a_catalogue_that_contradicts_itself_removes_no_file(tmp_path: Path) -> None:
    (path,) = write(tmp_path, ["one"])
    with sqlite3.connect(tmp_path / "catalogue.sqlite") as db:
        db.execute("PRAGMA journal_mode = DELETE")
    db.close()
    catalogue = tmp_path / "catalogue.sqlite"
    data = catalogue.read_bytes()
    # The name stands in the row and in an index.
    assert data.count(path.name.encode()) == 2
    catalogue.write_bytes(data.replace(path.name.encode(), path.name.replace("0", "1", 1).encode(), 1))
    with pytest.raises(AtalaiaError, match=r"catalogue\.sqlite cannot be opened"):
        Store(tmp_path)
    assert path.exists()


def test_the_check_of_doctor_and_status_tells_of_damage(tmp_path: Path) -> None:
    (path,) = write(tmp_path / ".atalaia" / "store", ["one"])
    (tmp_path / "atalaia.toml").touch()
    flip(path)
    server = Server(tmp_path / ".atalaia" / "store")
    State(tmp_path / ".atalaia").remember(ports={"store": server.port})
    environment = load(tmp_path / "atalaia.toml")
    assert store_check(environment).good, "what does not run is told by another check"
    try:
        server.start()
        assert store_check(environment).good, "nothing was read yet"
        client = LokiClient(server.base)
        assert list(client.entries('{job="test"}', start=0, end=2**62)) == []
        client.close()
        checked = store_check(environment)
        assert not checked.good
        assert path.name in checked.found
        assert "atalaia store repair" in checked.remedy
    finally:
        server.stop()


def test_a_deletion_still_hides_after_a_crash_that_followed_a_failed_push(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The failed push gave its stream a number, so that those behind it have others than a replay would give."""

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with opened(tmp_path / "store", LAZY) as store:
        with monkeypatch.context() as patched:
            patched.setattr(LogFile, "append", full)
            with pytest.raises(StoreUnavailable):
                store.append(entries(["lost"], labels={"job": "other"}), "fake").result(20)
        store.append(entries(["deleted"]), "fake").result(20)
        store.append(entries(["kept"], labels={"job": "kept"}), "fake").result(20)
        monkeypatch.setattr(Store, "_rotate", lambda _: None)
        ids = relation.numbers({s.id for s in store.streams.of("fake") if s.labels == LABELS})
        store.delete("fake", "{}", 0, 2**62, ids, ())
        assert found(store) == ["kept"]
        shutil.copytree(tmp_path / "store", tmp_path / "crashed")
        monkeypatch.undo()
    with opened(tmp_path / "crashed", LAZY) as store:
        assert found(store) == ["kept"]
