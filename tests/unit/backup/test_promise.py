"""Alarm by absence: what is red, and that silence is."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families
from tests.unit.backup.backup_rows import NOW, row

from atalaia.backup.keeping.facts import Facts, Reason, Streaming
from atalaia.backup.keeping.metrics import exposition
from atalaia.backup.keeping.promise import judge
from atalaia.backup.keeping.retention import REMOVED
from atalaia.backup.keeping.schedule import Run, jobs
from atalaia.backup.model import Backup, Copy, State, Verification
from atalaia.environment.backing import BackupsSettings

DAY = timedelta(days=1)
NIGHTLY: dict[str, Any] = {"schedule": {"logical": "0 3 * * *", "prune": "0 5 * * *"}}


def facts(*backups: Backup, settings: dict[str, Any] = NIGHTLY, **values: Any) -> Facts:
    given = BackupsSettings.model_validate(settings)
    servers = ("postgres_a",)
    known = {"service": True, "jobs": tuple(jobs(given.schedule, servers))} | values
    return Facts(NOW, given, servers, backups, **known)


def kinds(*backups: Backup, **values: Any) -> list[str]:
    return [reason.kind for reason in judge(facts(*backups, **values))]


def test_a_fresh_verified_backup_is_good() -> None:
    assert kinds(row("a", DAY)) == []


def test_silence_is_an_alarm() -> None:
    assert kinds() == ["verified"]
    assert kinds(row("a", DAY), service=False) == ["service"]
    broken = Reason("catalogue", "", "it cannot be used", "rebuild it")
    assert judge(facts(row("a", DAY), problem=broken)) == [broken]
    # What nobody promised is not missed.
    assert kinds(settings={}) == []
    assert kinds(settings={"promise": {"verified": "1d"}}) == ["verified"]


@pytest.mark.parametrize(("hours", "red"), [(47, False), (49, True)])
def test_a_schedule_promises_two_of_its_intervals(hours: int, red: bool) -> None:
    assert kinds(row("a", timedelta(hours=hours))) == (["verified"] if red else [])
    given = NIGHTLY | {"promise": {"verified": "3d"}}
    assert kinds(row("a", timedelta(hours=hours)), settings=given) == []


def test_what_is_not_verified_does_not_count() -> None:
    assert kinds(row("a", 3 * DAY), row("b", timedelta(hours=1), State.COMPLETE)) == ["verified"]
    assert kinds(row("a", DAY, State.RUNNING)) == ["verified"]


def test_a_failed_backup_is_told_until_the_next_good_one_of_its_kind() -> None:
    failed = row("b", timedelta(hours=2), State.FAILED, error="no room")
    assert [(r.kind, "no room" in r.text) for r in judge(facts(row("a", DAY), failed))] == [("failed", True)]
    assert kinds(row("a", DAY), failed, row("c")) == []
    assert kinds(row("a", DAY), failed, row("c", kind="physical")) == ["failed"]
    # A kind that is made no more is told for a while.
    old = row("p", 13 * DAY, State.FAILED, kind="plain", error="no room")
    assert kinds(old, row("a", DAY)) == ["failed"]
    assert kinds(replace(old, started=NOW - 15 * DAY), row("a", DAY)) == []
    assert kinds(replace(failed, started=NOW - 15 * DAY), row("a", DAY, kind="physical")) == ["failed"]
    # One that is being removed is none that failed.
    assert kinds(row("a", DAY), replace(failed, error=REMOVED)) == []


def test_a_backup_from_the_future_proves_nothing_but_a_clock_a_little_back_is_no_age() -> None:
    assert kinds(row("a", -400 * DAY)) == ["verified", "clock"]
    assert kinds(row("a", DAY), row("b", -400 * DAY)) == []
    assert kinds(row("a", -timedelta(hours=1))) == []


@pytest.mark.parametrize(
    ("sizes", "red"),
    [
        ([100, 100, 49], True),
        ([100, 100, 51], False),
        ([100, 100, 149], False),
        ([100, 100, 151], True),
        ([100, 10], False),
        ([100, 100, 100, 10, 100], False),
        ([10, 100, 100, 100, 100, 100, 100], False),
        ([0.001, 0.001, 0.5], False),
    ],
)
def test_a_change_of_size_against_what_is_usual(sizes: list[float], red: bool) -> None:
    rows = [row(f"b{n}", DAY - timedelta(minutes=n), raw_size=int(size * 10**6)) for n, size in enumerate(sizes)]
    assert kinds(*rows) == (["change"] if red else [])
    assert kinds(*rows, settings=NIGHTLY | {"promise": {"change": 0}}) == []
    # An incremental backup's size says nothing of the data's.
    assert kinds(*rows, row("last", raw_size=1, parent="b0")) == (["change"] if red else [])


def test_copies_that_are_missing() -> None:
    there = row("a", DAY, copies=(Copy("s3://one/x", NOW), Copy("s3://two/x", NOW, "it is full")))
    (full,) = judge(facts(there, copies=("s3://one/x", "s3://two/x")))
    assert (full.kind, "it is full" in full.text, "backup copy a" in full.remedy) == ("copy", True, True)
    assert kinds(row("a", DAY), copies=("s3://one/x",), settings={}) == ["copy"]
    assert kinds(row("a", DAY), copies=("s3://one/x",), busy=frozenset({"postgres_a"})) == []
    assert kinds(there, copies=("s3://two/x",), busy=frozenset({"postgres_a"})) == ["copy"]


def test_a_run_that_made_no_backup_at_all_is_told() -> None:
    run = Run(NOW - DAY, NOW - DAY, finished=NOW - DAY, code=1, said="it takes no connection")
    (told,) = judge(facts(row("a", DAY), runs={"logical/postgres_a": run}))
    assert (told.kind, told.server, "takes no connection" in told.text) == ("run", "postgres_a", True)
    assert kinds(row("a", DAY), runs={"prune": run}) == ["run"]
    assert kinds(row("a", DAY), runs={"prune": replace(run, code=0)}) == []
    again = replace(run, finished=None, code=None)
    assert kinds(row("a", DAY), runs={"prune": again}) == []
    assert kinds(row("a", DAY), runs={"prune": replace(again, before=run.problem)}) == ["run"], "it is not over yet"
    assert kinds(row("a", DAY), runs={"verify": run}) == [], "it is scheduled no more"
    failed = row("b", DAY - timedelta(minutes=1), State.FAILED, error="x")
    assert kinds(row("a", 1.5 * DAY), failed, runs={"logical/postgres_a": run}) == ["failed"], "told once"


WAL: dict[str, Any] = {"wal": {"stream": True}, "promise": {"wal": "10m"}}


def test_wal_that_is_older_than_promised() -> None:
    def streamed(seen: Streaming | None) -> list[str]:
        return kinds(row("a", DAY), settings=WAL, wal={"postgres_a": seen} if seen else {})

    assert streamed(Streaming(NOW - timedelta(minutes=9))) == []
    assert streamed(Streaming(NOW - timedelta(minutes=11))) == ["wal"]
    assert streamed(None) == ["wal"]
    assert streamed(Streaming(NOW, "the slot was lost")) == ["wal"]
    assert streamed(Streaming(NOW, interruptions=("from 0/1 to 0/2",))) == ["wal"]
    assert kinds(row("a", DAY), settings={"promise": {"wal": "10m"}}) == ["wal"], "promised and not streamed"


@given(
    st.lists(st.tuples(st.integers(-60, 60), st.sampled_from(State), st.integers(0, 10**9)), max_size=8),
    st.booleans(),
)
def test_every_reason_says_what_to_do_and_metrics_say_the_same(
    given_rows: list[tuple[int, State, int]], watched: bool
) -> None:
    ordered = sorted(given_rows, key=lambda one: -one[0])
    passed = Verification(NOW, True, 1.5, "16.14", "")
    rows = [
        row(f"b{n}", days * DAY, state, raw_size=size, verifications=(passed,) if state is State.VERIFIED else ())
        for n, (days, state, size) in enumerate(ordered)
    ]
    known = facts(*rows, settings=NIGHTLY if watched else {})
    reasons = judge(known)
    assert all(reason.text and reason.remedy for reason in reasons)
    assert watched or not reasons
    families = {family.name: family for family in text_string_to_metric_families(exposition(known, reasons).decode())}
    assert families["atalaia_backup_up"].samples[0].value == (not reasons)
    assert sum(sample.value for sample in families["atalaia_backup_alarms"].samples) == len(reasons)
    assert sum(sample.value for sample in families["atalaia_backup_backups"].samples) == len(rows)
    for sample in families["atalaia_backup_last_verified_timestamp_seconds"].samples:
        assert sample.value in {one.started.timestamp() for one in rows if one.state is State.VERIFIED}
