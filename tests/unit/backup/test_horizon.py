"""From where on archived WAL is needed."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st
from tests.unit.backup.backup_rows import NOW, row

from atalaia.backup.keeping.horizon import Horizon, horizons, position
from atalaia.backup.keeping.retention import Fate
from atalaia.backup.model import Backup, State
from atalaia.environment.backing import RetentionSettings


def base(number: int, days: int, state: State = State.VERIFIED, system: str = "7", lsn: str = "") -> Backup:
    details = {"start_lsn": lsn or f"0/{number}000028", "system_identifier": system}
    return row(f"b{number}", timedelta(days=days), state, kind="physical", details=details)


BASES = [base(2, 20), base(3, 10), base(4, 5, State.COMPLETE), base(5, 1)]


def begins(bases: list[Backup], going: Sequence[Backup] = (), **rules: object) -> list[Horizon]:
    fates = [Fate(backup, ("stays",)) for backup in bases] + [Fate(backup, ()) for backup in going]
    return horizons(fates, RetentionSettings(**rules), NOW)  # type: ignore[arg-type]


def lsn(bases: list[Backup], **rules: object) -> str | None:
    found = begins(bases, **rules)
    return found[0].lsn if found else None


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


def test_a_server_made_anew_is_judged_by_itself() -> None:
    anew = base(9, 2, system="8", lsn="0/1000028")
    assert begins([*BASES, anew], wal="12h") == [Horizon("7", "0/5000028", "b5"), Horizon("8", "0/1000028", "b9")]
    # With its last backup all WAL of the old system goes, but never that of the newest one.
    assert begins([anew], BASES[:2], last=1) == [Horizon("8", "0/1000028", "b9"), Horizon("7", None)]
    assert begins(BASES[:2], [anew], last=1) == [Horizon("7", "0/2000028", "b2")]
    assert begins([], BASES, last=1) == []


@given(st.lists(st.tuples(st.integers(0, 60), st.sampled_from([State.COMPLETE, State.VERIFIED])), max_size=8))
def test_every_moment_of_the_window_stays_reachable(ages: list[tuple[int, State]]) -> None:
    ordered = sorted(ages, reverse=True, key=lambda pair: pair[0])
    bases = [base(n + 2, days, state) for n, (days, state) in enumerate(ordered)]
    first = lsn(bases, wal="14d")
    if first is None:
        assert not bases
        return
    # Any verified backup that could be rolled forward to a moment of the window before pruning still can, or a later
    # one can reach that moment.
    for days in range(15):
        moment = NOW - timedelta(days=days)
        before = [b for b in bases if b.state is State.VERIFIED and b.finished and b.finished <= moment]
        able = [b for b in before if position(b.details["start_lsn"]) >= position(first)]
        assert bool(before) == bool(able)
