"""Compacted segments: the same answers from them, from fresh ones and from memory as brute force gives."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import re2
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.integration.logs_support import entries, opened, stored_lines, wait_for

from atalaia.store import band, compact, maintenance, relation, sql
from atalaia.store.decide import LineCondition, LineTest
from atalaia.store.options import Options
from atalaia.store.relation import Reading
from atalaia.store.store import Store
from atalaia.store.templates import MOST

EAGER = Options(idle_seconds=0.02)
_LINE = st.text(st.sampled_from("aB19 =-\u00e9\n\0\x11'"), max_size=10) | st.lists(
    st.sampled_from(["ERROR", "x1", "42", "7f", "1234567", "a1b2c3", " ", "id = ", "\u00e9"]), max_size=5
).map("".join)
_REGEX = st.sampled_from(
    [r"id = \d+", "ERROR|x1", r"^\w", "12345[67] ?", " 1234567 ", "(?i)error", r"[^ ]$", "a1b2c3 id"]
)


@pytest.fixture
def tiny_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bands and row groups of a few lines, so that a small segment has many."""
    monkeypatch.setattr(compact, "BAND_BYTES", 60)
    monkeypatch.setattr(band, "_LEAST", 8)
    monkeypatch.setattr(band, "_MOST", 24)


def push(store: Store, lines: list[str]) -> None:
    assert store.append(entries(lines), "fake").result(20).rows == len(lines)


def compacted(store: Store) -> bool:
    return store.settled and all(s.level == 1 for s in store._shelf.segments)


def condition(needles: list[str], negated: bool = False, regex: bool = False) -> LineCondition:
    return sql.line_condition(tuple(LineTest(needle, regex) for needle in needles), negated)


def found(store: Store, *conditions: LineCondition, readings: list[Reading] | None = None) -> list[str]:
    with store.snapshot() as snapshot, duckdb.connect() as connection:
        ids = {stream.id for stream in snapshot.streams.of("fake")}
        parts = relation.chosen(snapshot.parts, ids, 0, 2**62)
        source = relation.relation(connection, parts, ids, 0, 2**62, conditions, readings=readings)
        return [row[0] for row in connection.execute(f"SELECT line FROM ({source}) ORDER BY seq").fetchall()]


def passes(line: str, needles: list[str], negated: bool, regex: bool) -> bool:
    return any(bool(re2.search(n, line)) if regex else n in line for n in needles) != negated


_FILTER = st.tuples(st.lists(_LINE, min_size=1, max_size=2), st.booleans(), st.just(False)) | st.tuples(
    st.lists(_REGEX, min_size=1, max_size=2), st.booleans(), st.just(True)
)


@pytest.mark.usefixtures("tiny_groups")
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.lists(_LINE, min_size=1, max_size=12), min_size=3, max_size=3),
    st.lists(_FILTER, min_size=1, max_size=3),
)
def test_line_filters_equal_brute_force(
    tmp_path_factory: pytest.TempPathFactory, pushes: list[list[str]], filters: list[tuple[list[str], bool, bool]]
) -> None:
    directory = tmp_path_factory.mktemp("index")
    with opened(directory, EAGER) as store:
        push(store, pushes[0])
        store.flush()
        wait_for(lambda: compacted(store))
    with opened(directory) as store:
        push(store, pushes[1])
        store.flush()
        push(store, pushes[2])
        wanted = [line for lines in pushes for line in lines if all(passes(line, *one) for one in filters)]
        assert found(store, *(condition(*one) for one in filters)) == wanted


@pytest.mark.usefixtures("tiny_groups")
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(_LINE, min_size=1, max_size=30), st.lists(_FILTER, min_size=1, max_size=2))
def test_a_deletion_hides_at_once_and_then_removes(
    tmp_path_factory: pytest.TempPathFactory, lines: list[str], filters: list[tuple[list[str], bool, bool]]
) -> None:
    directory = tmp_path_factory.mktemp("deletion")
    left = [line for line in lines if not all(passes(line, *one) for one in filters)]
    with opened(directory, EAGER) as store:
        push(store, lines)
        with store.snapshot() as snapshot:
            ids = relation.numbers([stream.id for stream in snapshot.streams.of("fake")])
        store.delete("fake", "{}", 0, 2**62, ids, tuple(condition(*one) for one in filters))
        assert found(store) == left
        push(store, lines)
        assert found(store) == left + lines
        wait_for(lambda: all(deletion.finished for deletion in store.deletions()))
        assert found(store) == left + lines
        assert [deletion.rows for deletion in store.deletions()] == [len(lines) - len(left)]
    with opened(directory) as store:
        assert found(store) == left + lines


def test_what_is_deleted_is_gone_from_the_files(tmp_path: Path) -> None:
    with opened(tmp_path, EAGER) as store:
        push(store, ["keep this", "the secret-word 12345678 was here", "and this"])
        store.flush()
        wait_for(lambda: compacted(store))
        with store.snapshot() as snapshot:
            ids = relation.numbers([stream.id for stream in snapshot.streams.of("fake")])
        store.delete("fake", '{} |= "secret-word"', 0, 2**62, ids, (condition(["secret-word 12345678"]),))
        wait_for(lambda: all(deletion.finished for deletion in store.deletions()) and store.settled)
        assert found(store) == ["keep this", "and this"]
        assert [deletion.rows for deletion in store.deletions()] == [1]
    parquet = [pq.read_table(path) for path in (tmp_path / "segments").glob("*.parquet")]
    assert sorted(line for table in parquet for line in table.column("line").to_pylist()) == ["and this", "keep this"]
    for path in tmp_path.rglob("*"):
        if path.is_file() and path.suffix != ".sqlite":
            assert b"secret-word" not in path.read_bytes(), path


def test_a_compacted_segment_has_the_documented_form(tmp_path: Path) -> None:
    with opened(tmp_path, EAGER) as store:
        push(store, ["took 12 ms", "took 7 ms", "x9y failed"])
        store.flush()
        wait_for(lambda: compacted(store))
        files = sorted(path.suffix for path in (tmp_path / "segments").iterdir())
        assert files == [".index", ".parquet"]
        table = pq.read_table(next((tmp_path / "segments").glob("*.parquet")))
        documented = ["block", "template", "ts", "seq", "stream_id", "labels", "line", "metadata"]
        assert table.column_names == documented
        assert table.column("template").to_pylist() == ["took \x11 ms", "took \x11 ms", "\x11 failed"]
        assert found(store, condition(["failed"])) == ["x9y failed"]
    with opened(tmp_path) as store:
        assert [found.level for found in store._shelf.segments] == [1]
        assert found(store, condition(["took"])) == ["took 12 ms", "took 7 ms"]


@pytest.mark.usefixtures("tiny_groups")
def test_only_row_groups_that_may_matter_are_read(tmp_path: Path) -> None:
    lines = [f"{kind} number {n * 1234577} end" for n in range(20) for kind in ("alpha", "beta")]
    with opened(tmp_path, EAGER) as store:
        push(store, lines)
        store.flush()
        wait_for(lambda: compacted(store))
        for needle, reason in (("gamma", "templates"), (" 2469154 ", "tokens")):
            readings: list[Reading] = []
            assert found(store, condition([needle]), readings=readings) == [line for line in lines if needle in line]
            assert readings[0].passed_over.get(reason, 0) > readings[0].groups // 2


def test_a_band_with_too_many_templates_is_scanned(tmp_path: Path) -> None:
    def word(number: int) -> str:
        return "".join(chr(97 + number // 26**i % 26) for i in range(3))

    with opened(tmp_path, EAGER) as store:
        push(store, [word(n) for n in range(MOST + 1)])
        store.flush()
        wait_for(lambda: compacted(store))
        part = store._shelf.parts[0]
        assert part.index is not None
        assert not part.index.has_templates.any()
        assert found(store, condition([word(5)])) == [word(5)]


@pytest.mark.parametrize(
    ("module", "bound"), [(sql, "LIST_MOST"), (relation, "_TEXT_MOST"), (relation, "_BLOCKS_MOST")]
)
@pytest.mark.usefixtures("tiny_groups")
def test_very_many_templates_or_groups_are_not_listed_in_sql(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: object, bound: str
) -> None:
    monkeypatch.setattr(module, bound, 1)
    with opened(tmp_path, EAGER) as store:
        push(store, ["alpha x1", "beta x1", "gamma 7x", "delta x7"])
        store.flush()
        wait_for(lambda: compacted(store))
        assert found(store, condition(["a x"]), condition(["alpha"], True)) == ["beta x1", "delta x7"]
        assert found(store, condition(["omega"])) == []


def test_compaction_goes_on_once_the_disk_has_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = threading.Event()

    def full(*_: object) -> None:
        tried.set()
        raise OSError(28, "No space left on device")

    with opened(tmp_path, EAGER) as store:
        with monkeypatch.context() as patched:
            patched.setattr(maintenance, "compact", full)
            push(store, ["one", "two"])
            store.flush()
            assert tried.wait(20)
        wait_for(lambda: compacted(store))
        assert found(store) == ["one", "two"]


def test_a_segment_that_cannot_be_compacted_stays_readable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreadable(*_: object) -> None:
        raise pa.ArrowInvalid("not a Parquet file")

    monkeypatch.setattr(maintenance, "compact", unreadable)
    with opened(tmp_path, EAGER) as store:
        push(store, ["one", "two"])
        store.flush()
        wait_for(lambda: store._maintenance._failed)
        assert found(store, condition(["two"])) == ["two"]
        push(store, ["three"])
        store.flush()
        assert stored_lines(store) == ["one", "two", "three"]


@pytest.mark.parametrize("where", ["before the index", "before the catalogue", "before the old files are removed"])
def test_a_crash_at_each_step_of_a_compaction_loses_and_doubles_nothing(tmp_path: Path, where: str) -> None:
    code = f"""
import os, sys, threading
sys.path.insert(0, {str(Path(__file__).parent)!r})
from pathlib import Path
from logs_support import *
from atalaia.store import segment, shelf
from atalaia.store.catalogue import Catalogue
def die(*_, **__): os._exit(9)
if {where!r} == "before the index": segment.FileSink.discard = die
if {where!r} == "before the index":
    finish = segment.FileSink.finish
    def killed(self):
        if self._path.suffix == ".index": die()
        finish(self)
    segment.FileSink.finish = killed
if {where!r} == "before the catalogue": Catalogue.replace = die
store = Store(Path({str(tmp_path)!r}), Options(idle_seconds=0.02))
if {where!r} == "before the old files are removed": shelf.remove = die
store.append(entries(["one 1", "two 2"]), "fake").result(20)
store.flush()
threading.Event().wait(20)
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert result.returncode == 9, result.stderr
    assert len(list((tmp_path / "segments").iterdir())) > 1
    with opened(tmp_path) as store:
        assert stored_lines(store) == ["one 1", "two 2"]
        files = 2 if where == "before the old files are removed" else 1
        assert len(list((tmp_path / "segments").iterdir())) == files


def test_a_snapshot_keeps_the_files_that_were_compacted_meanwhile(tmp_path: Path) -> None:
    with opened(tmp_path, EAGER) as store:
        push(store, ["one 1"])
        store.flush()
        with store.snapshot() as snapshot:
            held = [part.path for part in snapshot.parts]
            wait_for(lambda: compacted(store))
            assert all(path and path.exists() for path in held)
            with store.snapshot():
                pass
            assert all(path and path.exists() for path in held)
        assert len(list((tmp_path / "segments").iterdir())) == 2


def test_what_a_burst_leaves_in_memory_is_compacted_once_it_is_quiet(tmp_path: Path) -> None:
    def in_segments(store: Store) -> bool:
        with store.snapshot() as snapshot:
            return all(part.path for part in snapshot.parts)

    with opened(tmp_path, Options(flush_bytes=8 << 10, idle_seconds=0.05)) as store:
        push(store, [f"line {n}" for n in range(100)])
        wait_for(lambda: in_segments(store) and compacted(store))
        push(store, ["a single line"])
        assert not in_segments(store)
        assert len(stored_lines(store)) == 101
