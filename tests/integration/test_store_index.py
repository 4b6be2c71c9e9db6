"""The template index in a store: the same answers from indexed segments, others and memory as brute force gives."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.integration.logs_support import entries, opened, stored_lines, wait_for

from atalaia.logql.plan import line_filter
from atalaia.logql.tree import LineFilter, LineMatch
from atalaia.store import relation as relation_module
from atalaia.store import store as store_module
from atalaia.store.decide import LineCondition, LineTest
from atalaia.store.relation import chosen, relation
from atalaia.store.store import Options, Store
from atalaia.store.templates import MOST

EAGER = Options(idle_seconds=0.02)
_LINE = st.text(st.sampled_from("aB19 =-\u00e9\n\0\x11'"), max_size=10) | st.lists(
    st.sampled_from(["ERROR", "x1", "42", "7f", " ", "id = ", "\u00e9"]), max_size=5
).map("".join)


def push(store: Store, lines: list[str]) -> None:
    assert store.append(entries(lines), "fake").result(20).rows == len(lines)


def all_indexed(store: Store) -> bool:
    with store.snapshot() as snapshot:
        return all(part.templates is not None for part in snapshot.parts if part.path)


def condition(needles: list[str], negated: bool) -> LineCondition:
    stage = LineFilter("!=" if negated else "|=", tuple(LineMatch(needle) for needle in needles))
    return LineCondition(line_filter(stage), tuple(LineTest(needle) for needle in needles), negated)


def found(store: Store, *conditions: LineCondition) -> list[str]:
    with store.snapshot() as snapshot, duckdb.connect() as connection:
        ids = {stream.id for stream in snapshot.streams.of("fake")}
        source = relation(connection, chosen(snapshot.parts, ids, 0, 2**62), ids, 0, 2**62, conditions)
        return [row[0] for row in connection.execute(f"SELECT line FROM ({source}) ORDER BY seq").fetchall()]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.lists(_LINE, min_size=1, max_size=8), min_size=3, max_size=3),
    st.lists(st.tuples(st.lists(_LINE, min_size=1, max_size=2), st.booleans()), min_size=1, max_size=3),
)
def test_line_filters_equal_brute_force(
    tmp_path_factory: pytest.TempPathFactory, pushes: list[list[str]], filters: list[tuple[list[str], bool]]
) -> None:
    directory = tmp_path_factory.mktemp("index")
    with opened(directory, EAGER) as store:
        push(store, pushes[0])
        store.flush()
        wait_for(lambda: all_indexed(store))
    with opened(directory) as store:
        push(store, pushes[1])
        store.flush()
        push(store, pushes[2])
        wanted = [
            line
            for lines in pushes
            for line in lines
            if all(any(needle in line for needle in needles) != negated for needles, negated in filters)
        ]
        assert found(store, *(condition(*one) for one in filters)) == wanted


def test_an_indexed_segment_has_the_documented_form(tmp_path: Path) -> None:
    with opened(tmp_path, EAGER) as store:
        push(store, ["took 12 ms", "took 7 ms", "x9y failed"])
        store.flush()
        wait_for(lambda: all_indexed(store))
        files = list((tmp_path / "segments").iterdir())
        assert [path.name.endswith("-t.parquet") for path in files] == [True]
        table = pq.read_table(files[0])
        assert table.column_names == ["ts", "seq", "stream_id", "labels", "line", "template", "metadata"]
        assert table.column("template").to_pylist() == ["took \x11 ms", "took \x11 ms", "\x11 failed"]
        assert found(store, condition(["failed"], False)) == ["x9y failed"]
    with opened(tmp_path) as store:
        assert all_indexed(store)
        assert found(store, condition(["took"], False)) == ["took 12 ms", "took 7 ms"]


def test_a_segment_with_too_many_templates_is_scanned(tmp_path: Path) -> None:
    def word(number: int) -> str:
        return "".join(chr(97 + number // 26**i % 26) for i in range(3))

    with opened(tmp_path, EAGER) as store:
        push(store, [word(n) for n in range(MOST + 1)])
        store.flush()
        wait_for(lambda: store._segments[0][0].templates is not None)
        assert store._segments[0][0].templates == {}
        assert not all_indexed(store)
        assert found(store, condition([word(5)], False)) == [word(5)]
        assert [path.name.endswith("-t.parquet") for path in (tmp_path / "segments").iterdir()] == [False]


@pytest.mark.parametrize("bound", ["_LIST_MOST", "_TEXT_MOST"])
def test_very_many_templates_are_not_listed_in_sql(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bound: str) -> None:
    monkeypatch.setattr(relation_module, bound, 2)
    with opened(tmp_path, EAGER) as store:
        push(store, ["alpha x1", "beta x1", "gamma 7x", "delta x7"])
        store.flush()
        wait_for(lambda: all_indexed(store))
        assert found(store, condition(["a x"], False), condition(["alpha"], True)) == ["beta x1", "delta x7"]
        assert found(store, condition(["omega"], False)) == []


def test_a_segment_that_cannot_be_indexed_stays_readable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store_module, "indexed", full)
    with opened(tmp_path, EAGER) as store:
        push(store, ["one", "two"])
        store.flush()
        wait_for(lambda: store._unindexable)
        assert found(store, condition(["two"], False)) == ["two"]
        push(store, ["three"])
        store.flush()
        assert stored_lines(store) == ["one", "two", "three"]


def test_a_crash_between_file_and_catalogue_keeps_the_old_segment(tmp_path: Path) -> None:
    with opened(tmp_path, EAGER) as store:
        # The new file is written, its catalogue row is not: what a kill -9 there leaves behind.
        store._catalogue.put_index = lambda *_: (_ for _ in ()).throw(RuntimeError("killed"))  # type: ignore[method-assign]
        push(store, ["one 1", "two 2"])
        store.flush()
        wait_for(lambda: store._unindexable)
        assert len(list((tmp_path / "segments").iterdir())) == 2
    with opened(tmp_path) as store:
        assert stored_lines(store) == ["one 1", "two 2"]
        assert len(list((tmp_path / "segments").iterdir())) == 1


def test_a_snapshot_keeps_the_file_that_was_indexed_meanwhile(tmp_path: Path) -> None:
    with opened(tmp_path, EAGER) as store:
        push(store, ["one 1"])
        with store.snapshot():
            store.flush()
        with store.snapshot() as snapshot:
            held = [part.path for part in snapshot.parts]
            wait_for(lambda: all_indexed(store))
            assert all(path and path.exists() for path in held)
        assert len(list((tmp_path / "segments").iterdir())) == 1


def test_what_a_burst_leaves_in_memory_is_indexed_once_it_is_quiet(tmp_path: Path) -> None:
    def in_segments(store: Store) -> bool:
        with store.snapshot() as snapshot:
            return all(part.path for part in snapshot.parts)

    with opened(tmp_path, Options(flush_bytes=8 << 10, idle_seconds=0.05)) as store:
        push(store, [f"line {n}" for n in range(100)])
        wait_for(lambda: in_segments(store) and all_indexed(store))
        push(store, ["a single line"])
        assert not in_segments(store)
        assert len(stored_lines(store)) == 101
