"""Which backup serves, and what is said of the restore beforehand."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from atalaia.backup import catalogue
from atalaia.backup.model import Backup, Selection, State, Target, Verification, Wanted
from atalaia.backup.restore import directory_of
from atalaia.backup.restoring.plan import check_room, choose, named, plan
from atalaia.backup.site import Site
from atalaia.backup.vault.local import LocalPlace
from atalaia.environment.backing import BackupsSettings
from atalaia.environment.errors import AtalaiaError, InputError

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)


def made(hour: int, kind: str = "physical", server: str = "a", **changes: object) -> Backup:
    at = NOON + timedelta(hours=hour)
    backup = Backup(
        id=f"{server}_{at:%H}_{kind}",
        server=server,
        kind=kind,
        state=State.VERIFIED,
        started=at,
        finished=at + timedelta(minutes=1),
        server_version="16.14",
        client_version="16.14",
        size=1000,
        raw_size=4000,
        contents={"databases": {name: {"tables": {"s.t": [10, size]}} for name, size in (("x", 300), ("y", 100))}},
        details={"stop_time": (at + timedelta(minutes=1)).isoformat(), "stop_lsn": f"0/{hour:X}000000"}
        if kind == "physical"
        else {},
    )
    return replace(backup, **changes)  # type: ignore[arg-type]  # the fields' own types


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Site, list[Backup]]:
    backups: list[Backup] = []
    monkeypatch.setattr(catalogue, "list_backups", lambda _: backups)
    place = LocalPlace(tmp_path / "repository")
    paths = {name: tmp_path / name for name in ("catalogue", "locks", "temporary", "restored", "key_file")}
    return Site(repository=place, account=None, binaries={}, settings=BackupsSettings(), **paths), backups


def test_the_newest_backup_before_the_moment_serves(site: tuple[Site, list[Backup]]) -> None:
    place, backups = site
    backups += [made(1), made(2, "logical"), made(3), made(4, state=State.FAILED), made(5), made(6, "plain")]

    def at(**target: object) -> str:
        return choose(place, None, "a", Wanted(Target(**target))).id  # type: ignore[arg-type]  # the fields' own types

    assert choose(place, None, None, Wanted()).id == "a_18_plain"
    assert at(time=NOON + timedelta(hours=3, minutes=2)) == "a_15_physical"
    assert at(time=NOON + timedelta(hours=3, seconds=30)) == "a_13_physical"
    assert at(lsn="0/3000000") == "a_15_physical"
    assert at(lsn="0/2FFFFFF") == "a_13_physical"
    assert at(name="point") == "a_17_physical"
    with pytest.raises(InputError, match="ended after that: a_13_physical, at 2026-11-23 13:01:00Z"):
        at(time=NOON)
    with pytest.raises(InputError, match="is a logical backup"):
        choose(place, "a_14_logical", None, Wanted(Target()))


def test_what_cannot_be_said_is_asked(site: tuple[Site, list[Backup]]) -> None:
    place, backups = site
    backups += [made(1), made(2, "logical", "b"), made(3, state=State.RUNNING, server="c")]
    for server, said in ((None, "not said what"), ("c", "no backup of c"), ("d", "no backup of d")):
        with pytest.raises(InputError, match=said):
            choose(place, None, server, Wanted())
    with pytest.raises(InputError, match="only those go to any moment"):
        choose(place, None, "b", Wanted(Target()))
    with pytest.raises(InputError, match="is of a, not of b"):
        choose(place, "a_13_physical", "b", Wanted())
    with pytest.raises(InputError, match="is running"):
        choose(place, "c_15_physical", None, Wanted())
    with pytest.raises(InputError, match="no backup of a has z") as error:
        choose(place, None, "a", Wanted(selection=Selection(("z",))))
    assert "x, y" in error.value.remedy


def test_sizes_room_and_duration(site: tuple[Site, list[Backup]], tmp_path: Path) -> None:
    place, backups = site
    proof = Verification(NOON, True, 10.0, "16.14", "")
    backups += [
        made(1, verifications=(proof,)),
        made(2, parent="a_13_physical", raw_size=400, size=100, state=State.COMPLETE),
        made(3, parent="gone"),
    ]
    full, part, orphan = backups
    whole = plan(place, full, Wanted(), tmp_path / "not" / "there")
    assert (whole.reads, whole.needs, whole.seconds) == (1000, 4000, 10.0)
    assert whole.free > 0
    assert whole.remarks == ("what was written after 2026-11-23 13:01:00Z is not in it",)
    chained = plan(place, part, Wanted(), tmp_path)
    assert [one.id for one in chained.chain] == ["a_13_physical", "a_14_physical"]
    assert (chained.reads, chained.needs) == (1100, 4000 + 400 + 4000)
    assert "was never proven to restore" in chained.remarks[0]
    logical = made(4, "logical")
    assert plan(place, logical, Wanted(), tmp_path).needs == 6000
    assert plan(place, logical, Wanted(selection=Selection(("y",))), tmp_path).needs == 1500
    assert plan(place, logical, Wanted(selection=Selection(("y",), ("s",))), tmp_path).needs == 1500
    assert plan(place, logical, Wanted(selection=Selection(("y",), (), ("s.other",))), tmp_path).needs == 6
    with pytest.raises(InputError, match="builds on gone, which is gone"):
        plan(place, orphan, Wanted(), tmp_path)
    with pytest.raises(AtalaiaError, match=r"needs about 4\.0 kB in .*, where 3\.0 kB are free"):
        check_room(replace(whole, free=3000))
    check_room(replace(whole, free=3000), used=1000)


def test_each_moment_and_part_has_a_directory_of_its_own(site: tuple[Site, list[Backup]]) -> None:
    place, _ = site
    backup = made(1)
    wanted = [
        Wanted(),
        Wanted(Target()),
        Wanted(Target(time=NOON)),
        Wanted(Target(time=NOON, inclusive=False)),
        Wanted(Target(lsn="0/1")),
        Wanted(Target(name="../x y")),
        Wanted(selection=Selection(("x/y",))),
    ]
    found = [directory_of(place, backup, one) for one in wanted]
    assert len(set(found)) == len(wanted)
    assert {path.parent for path in found} == {place.restored}


def test_the_only_database_needs_no_name() -> None:
    table = Wanted(selection=Selection(tables=("s.t",)))
    one = made(1, contents={"databases": {"template1": {"tables": {}}, "shop": {"tables": {}}}})
    assert named(one, table).selection == Selection(databases=("shop",), tables=("s.t",))
    assert named(made(1), table) == table
    assert named(one, Wanted()) == Wanted()
