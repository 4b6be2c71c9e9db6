"""LogQL over a store: entries in memory, in segments, and in both, beside reading them one by one."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from atalaia.environment.errors import InputError
from atalaia.logql.parse import parse
from atalaia.logql.tree import LogQuery
from atalaia.query import execute, ranges
from atalaia.query.engine import Engine, QueryLimits
from atalaia.query.execute import Executor
from atalaia.query.explore import Explorer
from atalaia.query.ticket import QueryTooExpensive
from atalaia.store import policy
from atalaia.store.batch import METADATA, SCHEMA
from atalaia.store.options import Options
from atalaia.store.store import Store

numbers = itertools.count()
QUICK = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@dataclass
class Place:
    store: Store
    engine: Engine

    @property
    def executor(self) -> Executor:
        return Executor(self.store, self.engine)

    def push(self, tenant: str, entries: list[tuple[int, str, str]]) -> None:
        """Entries: time, the stream's app, line."""
        table = pa.Table.from_arrays(
            [
                pa.array([ts for ts, _, _ in entries], pa.int64()),
                pa.array([f'{{"app":"{app}"}}' for _, app, _ in entries], pa.utf8()).dictionary_encode(),
                pa.array([line for _, _, line in entries], pa.utf8()),
                pa.nulls(len(entries), METADATA),
            ],
            schema=SCHEMA,
        )
        assert self.store.append(table, tenant).result(20).refused is None

    def lines(self, query: str, tenant: str, start: int, end: int, limit: int, backward: bool) -> list[str]:
        tree = parse(query)
        assert isinstance(tree, LogQuery)
        return [row.line for row in self.executor.logs(tree, (tenant,), start, end, limit, backward)]

    def series(self, query: str, tenant: str, start: int, step: int, steps: int) -> dict[str, list[float | None]]:
        """Samples by app; a series without any sample is none."""
        tree = parse(query)
        assert not isinstance(tree, LogQuery)
        found = self.executor.metric(tree, (tenant,), start, step, steps)
        return {
            dict(labels).get("app", ""): [float(v) if there else None for v, there in zip(row, has, strict=True)]
            for labels, row, has in zip(found.labels, found.values, found.present, strict=True)
            if has.any()
        }


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    # Nothing is compacted: tests count the segments that they made.
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(policy, "_BACKLOG", 10**6)
        store = Store(tmp_path_factory.mktemp("store"), Options(idle_seconds=3600))
        engine = Engine()
        yield Place(store, engine)
        engine.close()
        store.close()


# Several pushes; after each one either a segment is made of all that is in memory, or not.
PUSHES = st.lists(
    st.tuples(st.lists(st.tuples(st.integers(0, 60), st.sampled_from("ab")), min_size=1, max_size=12), st.booleans()),
    min_size=1,
    max_size=5,
)


def fill(place: Place, pushes: list[tuple[list[tuple[int, str]], bool]]) -> tuple[str, list[tuple[int, str, str]]]:
    """A new tenant with these entries; lines count them in the order of their arrival."""
    tenant = f"t{next(numbers)}"
    stored: list[tuple[int, str, str]] = []
    for entries, flush in pushes:
        some = [(ts, app, str(len(stored) + n)) for n, (ts, app) in enumerate(entries)]
        place.push(tenant, some)
        stored += some
        if flush:
            place.store.flush()
    return tenant, stored


@given(PUSHES, st.integers(0, 60), st.integers(1, 61), st.integers(1, 30), st.booleans(), st.sampled_from(["a", "a|b"]))
@QUICK
def test_logs_are_exact(
    place: Place,
    pushes: list[tuple[list[tuple[int, str]], bool]],
    start: int,
    end: int,
    limit: int,
    backward: bool,
    app: str,
) -> None:
    tenant, stored = fill(place, pushes)
    ordered = sorted((e for e in stored if start <= e[0] < end and e[1] in app), key=lambda entry: entry[0])
    expected = [line for _, _, line in (ordered[::-1] if backward else ordered)][:limit]
    assert place.lines(f'{{app=~"{app}"}}', tenant, start, end, limit, backward) == expected
    filtered = [line for _, _, line in (ordered[::-1] if backward else ordered) if "1" in line][:limit]
    assert place.lines(f'{{app=~"{app}"}} |= "1"', tenant, start, end, limit, backward) == filtered


@given(PUSHES, st.integers(0, 80), st.integers(1, 20), st.integers(1, 9), st.integers(1, 40), st.integers(-15, 15))
@QUICK
def test_windows_are_exact(
    place: Place,
    pushes: list[tuple[list[tuple[int, str]], bool]],
    start: int,
    step: int,
    steps: int,
    width: int,
    offset: int,
) -> None:
    tenant, stored = fill(place, pushes)
    query = f'{{app=~"a|b"}} [{width}ns] offset {offset}ns'
    counts = place.series(f"count_over_time({query})", tenant, start, step, steps)
    sizes = place.series(f"bytes_over_time({query})", tenant, start, step, steps)
    rates = place.series(f"rate({query})", tenant, start, step, steps)
    total = place.series(f"sum(count_over_time({query}))", tenant, start, step, steps)
    windows = [(start - offset + n * step - width, start - offset + n * step) for n in range(steps)]
    inside = {app: [[e for e in stored if low < e[0] <= high and e[1] == app] for low, high in windows] for app in "ab"}
    expected = {
        app: [float(len(window)) if window else None for window in row] for app, row in inside.items() if any(row)
    }
    assert counts == expected
    assert sizes == {
        app: [float(sum(len(line) for _, _, line in w)) if w else None for w in inside[app]] for app in expected
    }
    assert rates == {
        app: [None if count is None else pytest.approx(count / (width / 1e9)) for count in row]
        for app, row in expected.items()
    }
    both = [sum(filter(None, column)) or None for column in zip(*expected.values(), strict=True)]
    assert total == ({"": both} if expected else {})


@pytest.mark.parametrize("backward", [False, True])
def test_a_limit_over_many_segments_stops_early(place: Place, monkeypatch: pytest.MonkeyPatch, backward: bool) -> None:
    tenant = f"t{next(numbers)}"
    for part in range(20):
        place.push(tenant, [(part * 10 + n, "a", str(part * 10 + n)) for n in range(10)])
        place.store.flush()
    read: list[int] = []
    original = execute.relation

    def counted(connection: duckdb.DuckDBPyConnection, parts: list[object], *rest: object, **named: object) -> str:
        read.append(len(parts))
        return original(connection, parts, *rest, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(execute, "relation", counted)
    found = place.lines('{app="a"}', tenant, 0, 1000, 15, backward)
    expected = [str(n) for n in range(200)]
    assert found == (expected[::-1] if backward else expected)[:15]
    assert sum(read) <= 3
    read.clear()
    assert place.lines('{app="a"} |= "x"', tenant, 0, 1000, 15, backward) == []
    assert sum(read) == 20


def test_nothing_stored_nothing_found(place: Place) -> None:
    assert place.lines('{app="a"}', "nobody", 0, 100, 10, True) == []
    assert place.series('count_over_time({app="a"}[1m])', "nobody", 0, 1, 3) == {}
    assert Explorer(place.store, place.engine).series(("nobody",), [], 0, 100, place.engine.ticket()) == []


def test_a_query_beyond_its_time_fails_and_the_next_one_works(place: Place) -> None:
    tenant = f"t{next(numbers)}"
    place.push(tenant, [(1, "a", "x" * 100)] * 40_000)
    impatient = Engine(QueryLimits(seconds=0.001))
    slow = 'count_over_time({app="a"} | json | y_z="1" [1m])'
    tree = parse(slow)
    assert not isinstance(tree, LogQuery)
    with pytest.raises(QueryTooExpensive, match=r"more than 0\.001 s\n  ask for a shorter time"):
        Executor(place.store, impatient).metric(tree, (tenant,), 1, 1, 1)
    with impatient.cursor() as connection:
        assert connection.execute("SELECT 1").fetchall() == [(1,)]
    # Python waits for what SQL lets through.
    behind = parse(slow.replace("[1m]", '| label_format b="{{ .c | ToUpper }}" | b!="q" [1m]'))
    assert not isinstance(behind, LogQuery)
    with pytest.raises(QueryTooExpensive, match=r"more than 0\.001 s\n  ask for a shorter time"):
        Executor(place.store, impatient).metric(behind, (tenant,), 1, 1, 1)
    impatient.close()
    assert place.series('count_over_time({app="a"}[1m])', tenant, 1, 1, 1) == {"a": [40_000.0]}


def test_a_query_beyond_its_memory_fails_and_the_next_one_works(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    tenant = f"t{next(numbers)}"
    place.push(tenant, [(1, "a", f"{n:05d} " + "x" * 2000) for n in range(25_000)])
    small = Engine(QueryLimits(memory=48 << 20))
    modest = Place(place.store, small)
    with pytest.raises(QueryTooExpensive, match="more than 24 MiB of memory\n  ask for a shorter time"):
        modest.lines('{app="a"}', tenant, 0, 10, 25_000, True)
    assert modest.lines('{app="a"}', tenant, 0, 10, 2, True) == [f"{n} " + "x" * 2000 for n in (24999, 24998)]
    small.close()
    assert list(tmp_path.iterdir()) == []
    assert len(place.lines('{app="a"}', tenant, 0, 10, 25_000, True)) == 25_000


@pytest.mark.parametrize("stages", ["| json", "| json | drop __error_details__=`x`"])  # in SQL, in Python
def test_a_query_of_too_many_series_or_samples_is_refused(
    place: Place, monkeypatch: pytest.MonkeyPatch, stages: str
) -> None:
    tenant = f"t{next(numbers)}"
    place.push(tenant, [(n, "a", f'{{"x":"{n % 9}","v":"{n}"}}') for n in range(90)])
    counts, last = (
        f'count_over_time({{app="a"}} {stages} | drop v [1m])',
        "sum(quantile_over_time(1, {} | unwrap v [1m]))",
    )
    quantile = last.format(f'{{app="a"}} {stages}')
    assert place.series(f"sum({counts})", tenant, 100, 1, 3) == {"": [90.0] * 3}
    assert place.series(quantile, tenant, 100, 1, 1) == {"": [sum(range(81, 90))]}
    monkeypatch.setattr(ranges, "MAX_SERIES", 8)
    with pytest.raises(InputError, match=r"more than 8 series\n  group by fewer labels"):
        place.series(counts, tenant, 100, 1, 1)
    assert place.series(f"sum({counts})", tenant, 100, 1, 1) == {"": [90.0]}
    monkeypatch.setattr(ranges, "MAX_SERIES", 9)
    monkeypatch.setattr(ranges, "MAX_POINTS", 26)
    with pytest.raises(InputError, match=r"9 series of 3 points; at most 26 points"):
        place.series(counts, tenant, 100, 1, 3)
    monkeypatch.setattr(ranges, "MAX_SAMPLES", 89)
    with pytest.raises(InputError, match="quantile_over_time looks at more than 89 samples at once"):
        place.series(quantile, tenant, 100, 1, 1)


def test_a_query_of_too_many_points_in_all_its_parts_is_refused(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    tenant = f"t{next(numbers)}"
    place.push(tenant, [(n, "a", "x") for n in range(9)])
    count = 'count_over_time({app="a"}[1m])'
    monkeypatch.setattr(execute, "MAX_POINTS_IN_ALL", 9)
    assert place.series(f"{count} + {count} + {count}", tenant, 100, 1, 3) == {"a": [27.0] * 3}
    with pytest.raises(InputError, match="more than 9 points in all"):
        place.series(f"{count} + {count} + {count}", tenant, 100, 1, 4)


def test_python_reads_many_entries_in_parts(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranges, "_BATCH", 2048)
    tenant = f"t{next(numbers)}"
    place.push(tenant, [(n, "a", f"v={n}") for n in range(10_000)])
    expected = {"sum": sum(range(10_000)), "last": 9999, "first": 0, "avg": 4999.5, "quantile": 4999.5}
    for op, value in expected.items():
        parameter = "0.5, " if op == "quantile" else ""
        query = f'{op}_over_time({parameter}{{app="a"}} | label_format z=y | logfmt | unwrap v [1m])'
        assert place.series(query, tenant, 10_000, 1, 1) == {"a": [value]}
    query = '{app="a"} | line_format "{{__line__}}!" |= "99!"'
    assert place.lines(query, tenant, 0, 20_000, 3, True) == ["v=9999!", "v=9899!", "v=9799!"]
    assert len(place.lines(query, tenant, 0, 20_000, 500, False)) == 100


def test_a_template_beyond_its_time_ends_the_query(place: Place) -> None:
    tenant = f"t{next(numbers)}"
    place.push(tenant, [(n, "a", "x") for n in range(1000)])
    impatient = Engine(QueryLimits(seconds=0.2))
    hurried = Place(place.store, impatient)
    slow = '| line_format "{{range 40000}}{{end}}"'
    with pytest.raises(QueryTooExpensive, match=r"more than 0\.2 s"):
        hurried.series(f'bytes_over_time({{app="a"}} {slow} [1m])', tenant, 1000, 1, 1)
    with pytest.raises(QueryTooExpensive, match=r"more than 0\.2 s"):
        hurried.lines(f'{{app="a"}} {slow} |= "y"', tenant, 0, 9999, 5, True)
    impatient.close()
