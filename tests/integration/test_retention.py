"""Retention by rules over real stores: what goes, what stays, and that nothing is lost on the way."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import httpx
import pyarrow.parquet as pq
import pytest
from api_support import Served, Tenant
from tests.integration.logs_support import entries, opened, stored, wait_for

from atalaia.store import compact as compaction
from atalaia.store import held, segment
from atalaia.store.options import Options
from atalaia.store.retention import Retention, Rule
from atalaia.store.store import Store

HOUR = 3600 * 10**9
DEBUG, AUDIT, APP = {"level": "debug"}, {"job": "audit"}, {"job": "app"}


def rule(labels: Mapping[str, str], age: float | None = None, size: int | None = None, tenant: str = "") -> Rule:
    def holds(of: str, found: Mapping[str, str]) -> bool:
        return tenant in ("", of) and labels.items() <= found.items()

    return Rule(holds, None if age is None else int(age * HOUR), size)


def eager(retention: Retention | None = None) -> Options:
    return Options(idle_seconds=0.02, retention=retention or Retention())


def push(store: Store, lines: Mapping[str, float], labels: Mapping[str, str] = APP, tenant: str = "fake") -> None:
    """Lines with their ages in hours."""
    now = time.time_ns()
    table = entries(list(lines), [now - int(age * HOUR) for age in lines.values()], labels)
    assert store.append(table, tenant).result(20).rows == len(lines)


def compacted(store: Store) -> bool:
    return store.settled and all(found.level == 1 for found in store._shelf.segments)


def lines(store: Store) -> set[str]:
    return {entry[3] for entry in stored(store)}


def numbers(prefix: str, ages: range) -> dict[str, float]:
    return {f"{prefix} {age}": age for age in ages}


def filled(directory: Path, fill: Callable[[Store], None]) -> None:
    """A store of one compacted segment."""
    with opened(directory, eager()) as store:
        fill(store)
        store.flush()
        wait_for(lambda: compacted(store), what="compacted")
        assert len(store._shelf.segments) == 1


def test_each_stream_has_the_first_rule_for_it_and_the_others_the_age_of_all(tmp_path: Path) -> None:
    def fill(store: Store) -> None:
        push(store, {"debug of dev": 2}, DEBUG, "dev")
        push(store, {"debug": 2, "old debug": 30}, DEBUG)
        push(store, {"audit": 50, "very old audit": 500}, AUDIT)
        push(store, {"app": 20, "old app": 50})

    filled(tmp_path, fill)
    everything = {"debug of dev", "debug", "old debug", "audit", "very old audit", "app", "old app"}
    with opened(tmp_path) as store:
        assert lines(store) == everything
    rules = (rule(DEBUG, 1, tenant="dev"), rule(DEBUG, 3), rule(AUDIT, 100))
    with opened(tmp_path, eager(Retention(age=24 * HOUR, rules=rules))) as store:
        wait_for(lambda: lines(store) == {"debug", "audit", "app"}, what="only what its rule keeps is left")
        # New streams have their rules as soon as they appear; old entries go with the next compaction.
        push(store, {"new debug": 2, "old new debug": 4}, {**DEBUG, "job": "new"})
        store.flush()
        wait_for(lambda: lines(store) == {"debug", "audit", "app", "new debug"})
        wait_for(lambda: store.settled)
        before = [found.name for found in store._shelf.segments]
        store._maintenance.wake()
        wait_for(lambda: store.settled)
        assert [found.name for found in store._shelf.segments] == before, "written again for nothing"


def test_a_rules_size_keeps_the_newest_of_its_streams_alone(tmp_path: Path) -> None:
    def fill(store: Store) -> None:
        push(store, numbers("debug", range(1000)), DEBUG)
        push(store, numbers("app", range(1000)))

    filled(tmp_path, fill)
    with opened(tmp_path) as store:
        (found,) = store._shelf.segments
    share = (found.size + found.index_size) // 2  # lines of both are of about the same length
    with opened(tmp_path, eager(Retention(rules=(rule(DEBUG, size=share // 4),)))) as store:
        wait_for(lambda: store.settled)
        left = lines(store)
    assert {line for line in left if line.startswith("app")} == set(numbers("app", range(1000)))
    count = len(left) - 1000
    assert 200 < count < 300
    assert left - set(numbers("app", range(1000))) == set(numbers("debug", range(count)))


def test_the_size_of_everything_cuts_the_segment_at_its_edge(tmp_path: Path) -> None:
    filled(tmp_path, lambda store: push(store, numbers("app", range(1000))))
    with opened(tmp_path) as store:
        (found,) = store._shelf.segments
    with opened(tmp_path, eager(Retention(size=(found.size + found.index_size) // 2))) as store:
        wait_for(lambda: store.settled)
        left = lines(store)
    assert 400 < len(left) < 600
    assert left == set(numbers("app", range(len(left))))


def test_a_segment_of_very_many_streams_is_read_for_its_rules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (held, segment, compaction):
        monkeypatch.setattr(module, "MOST", 3)

    def fill(store: Store) -> None:
        for number in range(4):
            ages = {f"debug {number}": 2.0, f"debug too {number}": 2.0, f"new debug {number}": 0.5}
            push(store, ages, {**DEBUG, "n": str(number)})
        push(store, {"app": 2})

    filled(tmp_path, fill)
    with opened(tmp_path, eager(Retention(rules=(rule(DEBUG, 1),)))) as store:
        assert store._shelf.parts[0].held is None
        wait_for(lambda: store._shelf.parts[0].rows == 5)
        assert {row["line"] for row in pq.read_table(store._shelf.parts[0].path).to_pylist()} == {
            "app",
            *(f"new debug {number}" for number in range(4)),
        }


def test_a_damaged_segment_stays_until_no_rule_would_keep_it(tmp_path: Path) -> None:
    def fill(store: Store) -> None:
        push(store, {"debug": 2}, DEBUG)
        push(store, {"app": 5})

    filled(tmp_path, fill)
    (path,) = (tmp_path / "segments").glob("*.parquet")
    data = path.read_bytes()
    path.write_bytes(b"\0" * len(data))
    with opened(tmp_path, eager(Retention(age=10 * HOUR, rules=(rule(DEBUG, 1),)))) as store:
        wait_for(lambda: store.state().damaged == (path.name,), what="found damaged and left for `store repair`")
        wait_for(lambda: store.settled)
        assert path.exists()
    with opened(tmp_path, eager(Retention(age=4 * HOUR, rules=(rule(DEBUG, 1),)))) as store:
        wait_for(lambda: not store._shelf.segments, what="given up as a whole")


@pytest.mark.parametrize("where", ["before the catalogue", "after the catalogue"])
def test_a_crash_while_a_segment_is_written_again_loses_nothing(tmp_path: Path, where: str) -> None:
    def fill(store: Store) -> None:
        push(store, {"debug": 2}, DEBUG)
        push(store, {"app": 2})

    filled(tmp_path, fill)
    code = f"""
import os, sys, threading
sys.path.insert(0, {str(Path(__file__).parent)!r})
from pathlib import Path
from tests.integration.test_retention import *
from atalaia.store.catalogue import Catalogue
replace = Catalogue.replace
def die(*given):
    if {where!r} == "after the catalogue": replace(*given)
    os._exit(9)
Catalogue.replace = die
store = Store(Path({str(tmp_path)!r}), eager(Retention(rules=(rule(DEBUG, 1),))))
threading.Event().wait(20)
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert result.returncode == 9, result.stderr
    with opened(tmp_path) as store:
        assert lines(store) == ({"app"} if where == "after the catalogue" else {"debug", "app"})
        assert len(list((tmp_path / "segments").glob("*.parquet"))) == 1
    with opened(tmp_path, eager(Retention(rules=(rule(DEBUG, 1),)))) as store:
        wait_for(lambda: lines(store) == {"app"})


def test_labels_of_streams_without_entries_are_forgotten_and_their_numbers_stay_theirs(tmp_path: Path) -> None:
    with opened(tmp_path, eager()) as store:
        push(store, {"app": 2})
        push(store, {"secret": 2}, {"customer": "secret-label"})
    with opened(tmp_path, eager(Retention(rules=(rule({"customer": "secret-label"}, 1),)))) as store:
        wait_for(lambda: lines(store) == {"app"})
    with opened(tmp_path) as store:
        assert [stream.text for stream in store.streams.of("fake")] == ['{"job":"app"}']
        push(store, {"in the log only": 0}, {"customer": "other"})
        assert {stream.id for stream in store.streams.of("fake")} == {1, 3}
        assert_gone(tmp_path, b"secret-label")
    with opened(tmp_path) as store:
        push(store, {"again": 0}, {"customer": "secret-label"})
        push(store, {"and again": 0})
        found = {stream.id: stream.text for stream in store.streams.of("fake")}
        assert found == {1: '{"job":"app"}', 3: '{"customer":"other"}', 4: '{"customer":"secret-label"}'}
        expected = {"app": APP, "in the log only": {"customer": "other"}, "and again": APP}
        expected["again"] = {"customer": "secret-label"}
        assert {line: labels for _, _, labels, line in stored(store)} == {
            line: "{" + ",".join(f'"{k}":"{v}"' for k, v in labels.items()) + "}" for line, labels in expected.items()
        }


def assert_gone(directory: Path, text: bytes) -> None:
    """No file of the store has these bytes, in any column of any segment either."""
    for path in directory.rglob("*"):
        if path.is_file():
            assert text not in path.read_bytes(), path
        if path.suffix == ".parquet":
            for column in pq.read_table(path).columns:
                assert text.decode() not in str(column.to_pylist()), path


def test_serve_takes_rules(tmp_path: Path) -> None:
    options = ("--retention-age", "10h", "--retention-rule", 'age=1h tenant=one {level="debug"}')
    server = Served(tmp_path / "store", *options)
    now = time.time_ns()
    try:
        with httpx.Client(base_url=server.url, timeout=30, trust_env=False) as client:
            for name in ("one", "two"):
                Tenant(client, name).push(DEBUG, [(now - 2 * HOUR, "debug")])
                Tenant(client, name).push(APP, [(now - 2 * HOUR, "app"), (now - 11 * HOUR, "too old")])
            Tenant(client, "one").call("/flush", "POST")
            times = {"start": now - 24 * HOUR, "end": now + 1}

            def left(name: str) -> set[str]:
                tenant = Tenant(client, name)
                selectors = ('{level="debug"}', '{job="app"}')
                return {line for selector in selectors for line in tenant.lines(selector, **times)}

            wait_for(lambda: (left("one"), left("two")) == ({"app"}, {"debug", "app"}), what="the rule is kept")
    finally:
        assert server.stop() == 0


def test_a_selector_that_is_none_is_told_before_anything_starts(tmp_path: Path) -> None:
    (tmp_path / "atalaia.toml").write_text('[[logs.retention]]\nage = "1d"\nselector = "level=debug"\n')
    for command in (["up"], ["serve", "--data", "x", "--retention-rule", "age=1d {level=debug}"]):
        result = subprocess.run(
            [sys.executable, "-m", "atalaia", *command], cwd=tmp_path, capture_output=True, text=True, timeout=60
        )
        assert result.returncode == 2
        assert "give a selector of streams" in result.stderr
        assert ("atalaia.toml:3: logs.retention.selector = 'level=debug': parse error at line 1" in result.stderr) == (
            command == ["up"]
        )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["atalaia.toml"]
