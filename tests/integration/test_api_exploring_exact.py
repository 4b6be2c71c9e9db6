"""Statistics, volumes and patterns: of compacted segments, fresh ones and memory, as brute force finds them."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.conftest import soak
from tests.integration.logs_support import opened, wait_for

from atalaia.logql.parse import parse
from atalaia.logql.patterns import is_like
from atalaia.logql.tree import LogQuery, Selector
from atalaia.query import patterns as patterns_module
from atalaia.query.counting import Window
from atalaia.query.engine import Engine
from atalaia.query.execute import Executor
from atalaia.query.explore import Explorer
from atalaia.query.patterntext import ANY, pattern_of
from atalaia.query.volume import Asked
from atalaia.store import band, compact, held, segment
from atalaia.store.batch import METADATA, SCHEMA, canonical
from atalaia.store.options import Options
from atalaia.store.store import Store
from atalaia.store.templates import masked

TENANT = ("fake",)


@dataclass(frozen=True)
class Stored:
    ts: int
    app: str
    env: str | None
    line: str

    @property
    def labels(self) -> dict[str, str]:
        return {"app": self.app} if self.env is None else {"app": self.app, "env": self.env}


def push(store: Store, entries: list[Stored]) -> None:
    columns = [
        pa.array([e.ts for e in entries], pa.int64()),
        pa.array([canonical(e.labels) for e in entries], pa.utf8()).dictionary_encode(),
        pa.array([e.line for e in entries], pa.utf8()),
        pa.nulls(len(entries), METADATA),
    ]
    assert store.append(pa.Table.from_arrays(columns, schema=SCHEMA), "fake").result(20).rows == len(entries)


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bands, row groups and lists so small that a few entries meet every limit."""
    monkeypatch.setattr(compact, "BAND_BYTES", 60)
    monkeypatch.setattr(band, "_LEAST", 8)
    monkeypatch.setattr(band, "_MOST", 24)
    monkeypatch.setattr(patterns_module, "_BATCH", 3)


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    made = Engine()
    yield made
    made.close()


LINE = st.lists(
    st.sampled_from(["up", "x1", "42", "7.5", "10.0.0.1", ".", " ", ":", "é", "id=", "<b>", "1-2"]), max_size=5
).map("".join)
ENTRIES = st.lists(
    st.builds(Stored, st.integers(0, 40), st.sampled_from("abc"), st.sampled_from([None, "dev", "prod"]), LINE),
    min_size=1,
    max_size=12,
)
SELECTORS = st.sampled_from(['{app=~".+"}', '{app="a"}', '{app!="a", env=~"dev|prod"}', '{app=~"a|b", env=""}'])
WINDOWS = st.builds(
    lambda start, length, step: Window(start, start + length, step),
    st.integers(-5, 40), st.integers(0, 50), st.none() | st.integers(1, 20),
)  # fmt: skip


def selector(text: str) -> Selector:
    tree = parse(text)
    assert isinstance(tree, LogQuery)
    return tree.selector


def selected(entry: Stored, text: str) -> bool:
    env = entry.env or ""
    match text:
        case '{app="a"}':
            return entry.app == "a"
        case '{app!="a", env=~"dev|prod"}':
            return entry.app != "a" and env != ""
        case '{app=~"a|b", env=""}':
            return entry.app in "ab" and env == ""
    return True


def check(explorer: Explorer, engine: Engine, entries: list[Stored], text: str, window: Window) -> None:
    """All that is asked of one selector and window."""
    some = [e for e in entries if selected(e, text) and window.start <= e.ts < window.end]
    cell = (lambda ts: ts // window.step) if window.step else (lambda ts: 0)

    stats = explorer.stats(TENANT, selector(text), window, engine.ticket())
    wanted = len({canonical(e.labels) for e in some}), len(some), sum(len(e.line.encode()) for e in some)
    assert (stats.streams, stats.entries, stats.bytes) == wanted
    assert stats.chunks >= stats.streams

    for targets, names in ((("env",), ["env"]), ((), ["app", "env"] if "env" in text else ["app"])):
        asked = Asked(selector(text), targets, False, 100)
        found = explorer.volumes(TENANT, asked, window, engine.ticket())
        sizes: dict[str, Counter[int]] = defaultdict(Counter)
        for e in some:
            if not targets or "env" in text or e.env:
                sizes[canonical({n: v for n, v in e.labels.items() if n in names})][cell(e.ts)] += len(e.line.encode())
        assert {canonical(v.labels): dict(zip(v.cells, v.sizes, strict=True)) for v in found} == sizes
        totals = [sum(v.sizes) for v in found]
        assert totals == sorted(totals, reverse=True)
    by_label = explorer.volumes(TENANT, Asked(selector(text), ("app",), True, 100), window, engine.ticket())
    assert [(v.labels, sum(v.sizes)) for v in by_label] == ([({"app": ""}, wanted[2])] if some else [])

    for query, needle in ((text, ""), (f'{text} |= "x1"', "x1"), (f'{text} != "42"', None)):
        tree = parse(query)
        assert isinstance(tree, LogQuery)
        lines = [e for e in some if ("42" not in e.line if needle is None else needle in e.line)]
        counts: dict[str, Counter[int]] = defaultdict(Counter)
        for e in lines:
            (template,) = masked(pa.array([e.line], pa.utf8()))
            counts[pattern_of(template[0].as_py())][cell(e.ts)] += 1
        found_patterns = explorer.patterns(TENANT, tree, window, 100, engine.ticket())
        assert {p.pattern: dict(zip(p.cells, p.lines, strict=True)) for p in found_patterns} == counts
        totals = [sum(p.lines) for p in found_patterns]
        assert totals == sorted(totals, reverse=True)
        for p in found_patterns:
            assert sum(is_like(p.pattern, e.line) for e in lines) >= sum(p.lines)
        # What is beyond the limit is told as one more pattern; no line is lost.
        two = explorer.patterns(TENANT, tree, window, 2, engine.ticket())
        assert sum(sum(p.lines) for p in two) == len(lines)
        assert len(two) <= 2 or ANY in {p.pattern for p in two}


@pytest.mark.usefixtures("tiny")
@settings(max_examples=200 if soak() else 8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(ENTRIES, min_size=3, max_size=3),
    st.lists(st.tuples(SELECTORS, WINDOWS), min_size=2, max_size=2),
    st.booleans(),
)
def test_everywhere_the_same_as_brute_force(
    tmp_path_factory: pytest.TempPathFactory,
    engine: Engine,
    pushes: list[list[Stored]],
    questions: list[tuple[str, Window]],
    delete: bool,
) -> None:
    directory = tmp_path_factory.mktemp("exploring")
    with opened(directory, Options(idle_seconds=0.01)) as store:
        push(store, pushes[0])
        store.flush()
        wait_for(lambda: store.settled and all(s.level == 1 for s in store._shelf.segments))
    with opened(directory) as store:
        push(store, pushes[1])
        store.flush()
        push(store, pushes[2])
        entries = [e for some in pushes for e in some]
        explorer = Explorer(store, engine)
        if delete:
            tree = parse('{app="b"} |= "x1"')
            assert isinstance(tree, LogQuery)
            Executor(store, engine).delete(tree, "fake", 5, 30)
            entries = [e for e in entries if not (e.app == "b" and "x1" in e.line and 5 <= e.ts < 30)]
        for text, window in questions:
            check(explorer, engine, entries, text, window)


@pytest.mark.parametrize("level", [0, 1, None])
def test_too_many_streams_to_be_listed(
    tmp_path: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch, level: int | None
) -> None:
    for module in (held, segment, compact):
        monkeypatch.setattr(module, "MOST", 2)
    monkeypatch.setattr("atalaia.store.snapshot.MOST", 2)
    entries = [Stored(ts, app, None, f"line {ts}") for ts, app in enumerate("abcab" * 3)]
    with opened(tmp_path / "store", Options(idle_seconds=0.01 if level else 60)) as store:
        push(store, entries)
        if level is not None:
            store.flush()
            wait_for(lambda: [s.level for s in store._shelf.segments] == [level])
        with store.snapshot() as snapshot:
            assert [part.held for part in snapshot.parts] == [None]
        explorer = Explorer(store, engine)
        for window in (Window(0, 100), Window(3, 9), Window(3, 9, 2)):
            check(explorer, engine, entries, '{app=~".+"}', window)
        assert explorer.labels(TENANT, [], 0, 1, engine.ticket()) == {"app": ["a", "b"]}
        assert explorer.labels(TENANT, [selector('{app="c"}')], 0, 1, engine.ticket()) == {}


@pytest.mark.parametrize("flushed", [False, True])
def test_a_deleted_stream_is_no_longer_offered(tmp_path: Path, engine: Engine, flushed: bool) -> None:
    with opened(tmp_path / "store", Options(idle_seconds=60)) as store:
        push(store, [Stored(ts, app, None, f"line {ts}") for ts, app in enumerate("abab")])
        if flushed:
            store.flush()
        explorer, executor = Explorer(store, engine), Executor(store, engine)

        def apps() -> list[str]:
            return explorer.labels(TENANT, [], 0, 100, engine.ticket()).get("app", [])

        def delete(query: str, start: int, end: int) -> None:
            tree = parse(query)
            assert isinstance(tree, LogQuery)
            executor.delete(tree, "fake", start, end)

        delete('{app="b"}', 0, 3)  # one of its entries is left
        delete('{app="b"} |= "line"', 3, 4)  # nothing is, but only reading tells
        assert apps() == ["a", "b"]
        delete('{app="b"}', 0, 4)
        assert apps() == ["a"]
        push(store, [Stored(1, "b", None, "again")])
        assert apps() == ["a", "b"]


def test_rare_patterns_are_counted_together(tmp_path: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patterns_module, "_KEPT", 2)
    words = ["one", "two", "three", "four"]
    entries = [Stored(ts, "a", None, f"{words[ts % 4]} {ts}") for ts in range(40) if ts % 4 < 2 or ts < 20]
    with opened(tmp_path / "store") as store:
        push(store, entries)
        tree = parse('{app="a"}')
        assert isinstance(tree, LogQuery)
        found = Explorer(store, engine).patterns(TENANT, tree, Window(0, 100), 100, engine.ticket())
        assert [(p.pattern, sum(p.lines)) for p in found] == [("<_>", 10), ("one <_>", 10), ("two <_>", 10)]
