"""What retention removes, against a reading of its rules that looks at each backup alone."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.backup.backup_rows import NOW, row

from atalaia.backup.keeping.retention import FAILED_FOR, REMOVED, decide, kept_until
from atalaia.backup.model import Backup, State
from atalaia.environment.backing import RetentionSettings

ZONE = ZoneInfo("America/Sao_Paulo")
RULES = st.builds(
    RetentionSettings,
    last=st.none() | st.integers(1, 4),
    age=st.none() | st.sampled_from(["1h", "1d", "10d", "1y"]),
    daily=st.integers(0, 4),
    weekly=st.integers(0, 3),
    monthly=st.integers(0, 3),
    yearly=st.integers(0, 2),
)


@st.composite
def catalogues(draw: st.DrawFn) -> list[Backup]:
    """Backups of two servers and kinds, some of them built on others, some from the future."""
    rows: list[Backup] = []
    for number in range(draw(st.integers(0, 14))):
        state = draw(st.sampled_from([*State, State.VERIFIED, State.COMPLETE]))
        backup = row(
            f"b{number:02}",
            timedelta(minutes=draw(st.integers(-2000, 800_000))),
            state,
            server=draw(st.sampled_from(["a", "b"])),
            kind=draw(st.sampled_from(["logical", "physical"])),
            keep=draw(st.sampled_from(["", "", "", "forever", "2026-11-22", "2026-11-21"])),
            error=draw(st.sampled_from(["", REMOVED])) if state is State.FAILED else "",
        )
        parents = [
            r.id
            for r in rows
            if (r.server, r.kind, "physical") == (backup.server, backup.kind, backup.kind) and r.error != REMOVED
        ]
        rows.append(replace(backup, parent=draw(st.sampled_from(["", *parents]))))
    return rows


def stays(backup: Backup, rows: list[Backup], rules: RetentionSettings) -> bool:
    """The documented rules, one backup at a time."""
    if backup.error == REMOVED:
        return False
    if any(child.parent == backup.id and stays(child, rows, rules) for child in rows):
        return True
    if backup.keep == "forever" or (backup.keep and date.fromisoformat(backup.keep) >= NOW.astimezone(ZONE).date()):
        return True
    if backup.started > NOW or backup.state is State.RUNNING or not rules.any:
        return True
    past = [r for r in rows if (r.server, r.kind) == (backup.server, backup.kind) and r.started <= NOW]

    def newer(state: tuple[State, ...]) -> list[Backup]:
        return [r for r in past if r.state in state and (r.started, r.id) > (backup.started, backup.id)]

    good = (State.COMPLETE, State.VERIFIED)
    if backup.state is State.FAILED:
        assert backup.finished
        return not newer((State.VERIFIED,)) or NOW - backup.finished <= FAILED_FOR
    if not newer(good) or (backup.state is State.VERIFIED and not newer((State.VERIFIED,))):
        return True
    if rules.last and len(newer(good)) < rules.last:
        return True
    ages = {"1h": 60, "1d": 1440, "10d": 14400, "1y": 525_600}
    if rules.age and NOW - backup.started < timedelta(minutes=ages[rules.age]):
        return True
    for count, shape in (
        (rules.daily, "%Y %j"), (rules.weekly, "%G %V"), (rules.monthly, "%Y %m"), (rules.yearly, "%Y")
    ):  # fmt: skip

        def period(r: Backup, shape: str = shape) -> str:
            return r.started.astimezone(ZONE).strftime(shape)

        mine = [r for r in past if r.usable and period(r) == period(backup)]
        proven = [r for r in mine if r.state is State.VERIFIED] or mine
        first = max(proven, key=lambda r: (r.started, r.id)) == backup
        later = {period(r) for r in past if r.usable and period(r) > period(backup)}
        if first and len(later) < count:
            return True
    return False


@settings(max_examples=400, deadline=None)
@given(rows=catalogues(), rules=RULES, seed=st.randoms(use_true_random=False))
def test_it_is_what_the_rules_say(rows: list[Backup], rules: RetentionSettings, seed: object) -> None:
    shuffled = list(rows)
    seed.shuffle(shuffled)  # type: ignore[attr-defined]
    fates = decide(shuffled, rules, NOW, ZONE)
    assert {f.backup.id for f in fates if f.stays} == {r.id for r in rows if stays(r, rows, rules)}
    assert sorted(f.backup.id for f in fates) == sorted(r.id for r in rows)


@settings(max_examples=200, deadline=None)
@given(rows=catalogues(), rules=RULES)
def test_what_is_never_removed(rows: list[Backup], rules: RetentionSettings) -> None:
    kept = {f.backup.id: f.backup for f in decide(rows, rules, NOW, ZONE) if f.stays}
    for backup in kept.values():
        assert not backup.parent or backup.parent in kept, "a chain was broken"
    for server, kind in {(r.server, r.kind) for r in rows}:
        past = [r for r in rows if (r.server, r.kind) == (server, kind) and r.started <= NOW]
        for good in ([r for r in past if r.state is State.VERIFIED], [r for r in past if r.usable]):
            assert not good or max(good, key=lambda r: (r.started, r.id)).id in kept
    assert all(r.id in kept for r in rows if r.state is State.RUNNING)
    # What was removed leaves the others' fates as they were: the next prune removes nothing more.
    assert {f.backup.id for f in decide(kept.values(), rules, NOW, ZONE) if f.stays} == kept.keys()


def why(rows: list[Backup], **rules: object) -> dict[str, tuple[str, ...]]:
    return {f.backup.id: f.why for f in decide(rows, RetentionSettings(**rules), NOW, ZONE)}  # type: ignore[arg-type]


def test_reasons_are_told() -> None:
    rows = [
        row("full", timedelta(days=30), kind="physical"),
        row("increment", timedelta(days=29), kind="physical", parent="full", keep="2026-12-24"),
        row("old", timedelta(days=3), kind="physical"),
        row("new", timedelta(days=1), kind="physical"),
        row("unproven", timedelta(hours=1), State.COMPLETE, kind="physical"),
        row("ahead", -timedelta(days=400), kind="physical"),
    ]
    assert why(rows, last=1) == {
        "full": ("increment builds on it",),
        "increment": ("marked to be kept until 2026-12-24",),
        "old": (),
        "new": ("the last verified one",),
        "unproven": ("the newest one", "last 1"),
        "ahead": ("from the future: the clock was set back, or was wrong",),
    }
    assert all(reasons == ("no retention is configured",) for reasons in list(why(rows).values())[2:3])


def test_a_day_is_a_day_here_and_its_verified_backup_stands_for_it() -> None:
    rows = [
        row("yesterday", timedelta(hours=9, minutes=30)),  # 23:30 in Sao Paulo
        row("today", timedelta(hours=8, minutes=30)),  # 00:30 of the 22nd
        row("today_unproven", timedelta(hours=1), State.COMPLETE),
    ]
    found = why(rows, daily=2)
    assert found["yesterday"] == ("daily 2026-11-21",)
    assert found["today"] == ("the last verified one", "daily 2026-11-22")
    assert found["today_unproven"] == ("the newest one",)
    in_utc = decide(rows, RetentionSettings(daily=2), NOW, UTC)
    assert in_utc[0].why == ()


@pytest.mark.parametrize("seconds", [0, 1])
def test_a_mark_holds_through_the_end_of_its_day(seconds: int) -> None:
    end = datetime(2026, 11, 22, 23, 59, 59, tzinfo=ZONE) + timedelta(seconds=seconds)
    assert kept_until("2026-11-22", end, ZONE) is (seconds == 0)
    assert kept_until("forever", end)
    assert not kept_until("", end)
