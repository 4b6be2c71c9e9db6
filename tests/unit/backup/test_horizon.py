"""From where on archived WAL is needed."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st
from tests.unit.backup.backup_rows import NOW, row

from atalaia.backup.keeping.horizon import horizon, position
from atalaia.backup.model import Backup, State
from atalaia.environment.backing import RetentionSettings


def base(number: int, days: int, state: State = State.VERIFIED, system: str = "7", lsn: str = "") -> Backup:
    details = {"start_lsn": lsn or f"0/{number}000028", "system_identifier": system}
    return row(f"b{number}", timedelta(days=days), state, kind="physical", details=details)


BASES = [base(2, 20), base(3, 10), base(4, 5, State.COMPLETE), base(5, 1)]


def lsn(bases: list[Backup], **rules: object) -> str | None:
    found = horizon(bases, RetentionSettings(**rules), NOW)  # type: ignore[arg-type]
    return found.lsn if found else None


def test_without_a_window_all_that_stay_can_be_rolled_forward() -> None:
    assert lsn(BASES, last=3) == "0/2000028"
    assert lsn(BASES) is None
    assert lsn([], last=3) is None
    assert lsn([row("b9")], last=3) is None


def test_the_window_needs_a_verified_backup_from_before_it() -> None:
    assert lsn(BASES, wal="7d") == "0/3000028"
    assert lsn(BASES, wal="3d") == "0/3000028", "one that was never proven bears no window"
    assert lsn(BASES, wal="12h") == "0/5000028"
    assert lsn(BASES, wal="30d") == "0/2000028", "nothing is older than the window: all is needed"


def test_a_server_made_anew_loses_no_wal_to_the_old_one() -> None:
    anew = base(9, 2, system="8", lsn="0/1000028")
    assert lsn([*BASES, anew], wal="12h") == "0/1000028"


@given(st.lists(st.tuples(st.integers(0, 60), st.sampled_from([State.COMPLETE, State.VERIFIED])), max_size=8))
def test_every_moment_of_the_window_stays_reachable(ages: list[tuple[int, State]]) -> None:
    ordered = sorted(ages, reverse=True, key=lambda pair: pair[0])
    bases = [base(n + 2, days, state) for n, (days, state) in enumerate(ordered)]
    found = horizon(bases, RetentionSettings(wal="14d"), NOW)
    if found is None:
        assert not bases
        return
    # Any verified backup that could be rolled forward to a moment of the window before pruning still can, or a later
    # one can reach that moment.
    for days in range(15):
        moment = NOW - timedelta(days=days)
        before = [b for b in bases if b.state is State.VERIFIED and b.finished and b.finished <= moment]
        able = [b for b in before if position(b.details["start_lsn"]) >= position(found.lsn)]
        assert bool(before) == bool(able)
