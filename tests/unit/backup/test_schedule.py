"""What runs when: one run for any number of missed times, each time once, whatever the clock does."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atalaia.backup.keeping import runs
from atalaia.backup.keeping.runs import Runs
from atalaia.backup.keeping.schedule import (
    ATTEMPTS,
    INTERRUPTED,
    Due,
    Job,
    Run,
    interval,
    jobs,
    last_tick,
    next_start,
    tick,
)
from atalaia.environment.backing import ScheduleSettings

BERLIN = ZoneInfo("Europe/Berlin")
NIGHTLY = Job("logical", "postgres_a", "30 2 * * *")
CRONS = st.sampled_from(
    [
        "30 2 * * *",
        "*/15 * * * *",
        "0 3 * * 1-5",
        "0 0 1 * *",
        "0 */6 * * *",
        "7 1-3 * * *",
        "59 23 L * *",
        "0 2 29 2 *",
    ]
)
MOMENTS = st.datetimes(datetime(2026, 1, 1), datetime(2027, 12, 31), timezones=st.just(UTC))  # noqa: DTZ001 - hypothesis adds it


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def ask(now: datetime, seen: datetime, run: Run | None = None, job: Job = NIGHTLY, jitter: int = 0) -> Due:
    found = next_start(job, seen, run, now, timedelta(seconds=jitter), BERLIN)
    assert found
    return found


def done(due: Due, now: datetime, code: int | None = 0) -> Run:
    return Run(due.scheduled, now, due.attempt, now + timedelta(minutes=1), code)


def test_a_new_schedule_waits_for_its_time() -> None:
    now = at("2026-11-22T12:00:00+01:00")
    assert ask(now, now).at == at("2026-11-23T02:30:00+01:00")


def test_what_was_slept_through_runs_once() -> None:
    seen, woken = at("2026-11-01T12:00+01:00"), at("2026-11-22T09:00+01:00")
    due = ask(woken, seen)
    assert due.at <= woken
    assert due.scheduled == at("2026-11-22T02:30+01:00")
    assert ask(woken + timedelta(minutes=2), seen, done(due, woken)).at == at("2026-11-23T02:30+01:00")


def test_an_hour_that_does_not_exist_and_one_that_comes_twice() -> None:
    def nights(first: str, count: int) -> list[datetime]:
        found = [at(first)]
        for _ in range(count):
            following = tick(NIGHTLY.cron, found[-1], BERLIN)
            assert following
            found.append(following)
        return found[1:]

    # In spring 2:30 is skipped: cron runs such a job right after the change. In autumn it comes twice and runs once.
    assert [night.isoformat() for night in nights("2026-03-28T12:00+01:00", 2)] == [
        "2026-03-29T01:00:00+00:00",
        "2026-03-30T00:30:00+00:00",
    ]
    assert [night.isoformat() for night in nights("2026-10-24T12:00+02:00", 2)] == [
        "2026-10-25T00:30:00+00:00",
        "2026-10-26T01:30:00+00:00",
    ]


def test_a_clock_that_was_set_back_stops_nothing_and_repeats_nothing() -> None:
    run = done(Due(NIGHTLY, at("2030-01-01T02:30+01:00"), at("2030-01-01T02:30+01:00")), at("2030-01-01T02:31+01:00"))
    now = at("2026-11-22T12:00+01:00")
    assert ask(now, at("2029-12-01T00:00+01:00"), run).at == at("2026-11-23T02:30+01:00")
    # A step of seconds does not run it again.
    again = replace(run, scheduled=at("2026-11-22T02:30+01:00"))
    assert ask(at("2026-11-22T02:29:58+01:00"), now - timedelta(days=9), again).at == at("2026-11-23T02:30+01:00")


def test_a_failed_run_is_tried_again_but_not_for_ever_and_not_what_was_asked_wrongly() -> None:
    now = at("2026-11-22T02:30+01:00")
    seen = now - timedelta(days=1)
    run = None
    starts = []
    for _ in range(ATTEMPTS):
        due = ask(now, seen, run)
        starts.append(due.at)
        assert due.scheduled == starts[0]
        now = max(now, due.at)
        run = done(due, now, 1)
    assert run
    now += timedelta(minutes=2)
    assert all(timedelta(0) < later - earlier < timedelta(hours=1) for earlier, later in pairwise(starts))
    assert ask(now + timedelta(hours=2), seen, run).scheduled == at("2026-11-23T02:30+01:00")
    assert ask(now, seen, replace(run, code=INTERRUPTED, attempt=1)).at <= now
    assert ask(now, seen, replace(run, code=2, attempt=1)).scheduled == at("2026-11-23T02:30+01:00")


@settings(deadline=None)
@given(cron=CRONS, now=MOMENTS)
def test_the_last_time_is_the_one_before_the_next(cron: str, now: datetime) -> None:
    last = last_tick(cron, now, BERLIN)
    assert last
    assert last <= now
    # Forward from just before it, the first is itself, and the second is after now.
    assert tick(cron, last - timedelta(seconds=1), BERLIN) == last
    following = tick(cron, last, BERLIN)
    assert following
    assert following > now


@settings(deadline=None, max_examples=60)
@given(cron=CRONS, start=MOMENTS, sleeps=st.lists(st.integers(1, 400_000), max_size=30), jitter=st.integers(0, 3600))
def test_however_it_is_asked_each_time_runs_once_and_in_order(
    cron: str, start: datetime, sleeps: list[int], jitter: int
) -> None:
    job, run, now, ran = Job("plain", "a", cron), None, start, []
    for seconds in sleeps:
        now += timedelta(seconds=seconds)
        due = ask(now, start, run, job, jitter)
        missed = last_tick(cron, now - timedelta(seconds=jitter), BERLIN)
        if due.at <= now:
            ran.append(due.scheduled)
            run = done(due, now)
        else:
            assert due.scheduled <= due.at <= due.scheduled + timedelta(seconds=jitter)
            assert not missed or missed <= (run.scheduled if run else start), "a time was passed over"
    assert all(earlier < later for earlier, later in pairwise(ran))
    assert all(last_tick(cron, one, BERLIN) == one for one in ran)


def test_jitter_spreads_servers_and_is_the_same_each_time_it_is_asked() -> None:
    now = at("2026-11-22T12:00+01:00")
    starts = {server: ask(now, now, None, replace(NIGHTLY, server=server), 3600).at for server in ("a", "b", "c", "d")}
    assert len(set(starts.values())) == 4
    assert starts["a"] == ask(now + timedelta(hours=1), now, None, replace(NIGHTLY, server="a"), 3600).at


@pytest.mark.parametrize(
    ("crons", "hours"),
    [(["0 3 * * *"], 24), (["0 3 * * 1-5"], 72), (["0 3 * * 0", "0 */6 * * *"], 6), (["0 2 * * *", "0 1 1 * *"], 24)],
)
def test_how_long_it_is_quiet_at_most(crons: list[str], hours: int) -> None:
    assert interval(crons, at("2026-11-22T12:00+01:00"), UTC) == timedelta(hours=hours)
    assert interval([], at("2026-11-22T12:00+01:00"), UTC) is None


def test_every_server_has_its_jobs() -> None:
    found = jobs(ScheduleSettings(logical="0 3 * * *", physical="0 4 * * 0", prune="0 5 * * *"), ["a", "b"])
    assert [job.name for job in found] == ["logical/a", "physical/a", "logical/b", "physical/b", "prune"]


def test_what_ran_is_kept_and_a_damaged_file_is_told(tmp_path: Path) -> None:
    path = tmp_path / "runs.json"
    assert runs.read(path) == Runs()
    now = at("2026-11-22T12:00+01:00")
    kept = Runs(port=3110)
    kept.notice([NIGHTLY], now)
    kept.last[NIGHTLY.name] = Run(now, now, 2, now, 1, "said: é", 12, 34)
    runs.write(path, kept)
    assert runs.read(path) == kept
    # Another expression begins anew, the same goes on.
    kept.notice([NIGHTLY], now + timedelta(days=1))
    assert kept.since(NIGHTLY, now) == now
    changed = replace(NIGHTLY, cron="* * * * *")
    assert kept.since(changed, now + timedelta(days=2)) == now + timedelta(days=2)
    for text in ("", "[]", '{"seen": {}, "last": {"x": {}}, "port": 1}'):
        path.write_text(text)
        assert str(path) in runs.read(path).problem
