"""Copies in further repositories: whole or told, tried again, and read when the first repository cannot be."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.integration.backup_made import flip, judged, make, objects, whole

from atalaia.backup import catalogue, copies, evidence, rebuild, rotation, service, sources, verify
from atalaia.backup.model import Backup, State
from atalaia.backup.site import Site
from atalaia.backup.vault import keys
from atalaia.backup.vault.local import LocalPlace
from atalaia.backup.vault.place import Place, PlaceError
from atalaia.backup.wal import sealed
from atalaia.environment.errors import AtalaiaError, InputError
from atalaia.postgres.cluster import Cluster
from atalaia.postgres.connect import connect
from atalaia.postgres.temporary import running


class Away(LocalPlace):
    """A folder that does not answer while `down` is there."""

    __slots__ = ()

    def _ask(self) -> None:
        if (self.root.parent / "down").exists():
            raise PlaceError(f"{self.root} does not answer", "wait")

    def read(self, name: str, offset: int = 0, length: int | None = None) -> bytes:
        self._ask()
        return super().read(name, offset, length)

    def size(self, name: str) -> int | None:
        self._ask()
        return super().size(name)

    def objects(self, prefix: str = ""):  # type: ignore[no-untyped-def]
        self._ask()
        return super().objects(prefix)

    def create(self, name: str):  # type: ignore[no-untyped-def]
        self._ask()
        return super().create(name)


@pytest.fixture
def three(site: Site, folder: Path) -> Site:
    """The site with encryption and two further repositories, the first of which can be `away`."""
    settings = site.settings.model_copy(update={"encryption": True})
    rotation.new(site.key_file)
    return replace(site, settings=settings, copies=(Away(folder / "second"), LocalPlace(folder / "third")))


def now(site: Site, backup: Backup) -> Backup:
    return catalogue.get(site.catalogue, backup.id)


def problems(site: Site, backup: Backup) -> dict[str, str]:
    return {Path(copy.repository).name: copy.problem for copy in now(site, backup).copies}


def backed(site: Site) -> dict[str, bytes]:
    return {name: data for name, data in objects(site.repository).items() if not name.endswith("proof.json")}


def same(site: Site, place: Place) -> bool:
    return {n: d for n, d in objects(place).items() if not n.endswith("proof.json")} == backed(site)


def test_copies_are_the_same_and_noted(three: Site) -> None:
    first, second = make(three), make(three, 1)
    told: list[str] = []
    done = copies.copy_backups(three, told.append)
    assert [backup.id for backup in done] == [first.id, second.id]
    assert all(same(three, place) for place in three.copies)
    assert problems(three, first) == problems(three, second) == {"second": "", "third": ""}
    assert len([line for line in told if "copied to" in line]) == 4
    # Nothing is left to do.
    told.clear()
    copies.copy_backups(three, told.append)
    assert told == []


def test_one_that_fails_does_not_fail_the_others_and_is_tried_again(three: Site, folder: Path) -> None:
    first, second = make(three), make(three, 1)
    (folder / "down").touch()
    told: list[str] = []
    copies.copy_backups(three, told.append)
    assert same(three, three.copies[1])
    assert "does not answer" in problems(three, first)["second"]
    assert "does not answer" in problems(three, second)["second"]
    assert any(f"{first.id}: NOT in {folder}/second" in line and "backup copy" in line for line in told)
    assert now(three, first).state is State.COMPLETE
    (folder / "down").unlink()
    copies.copy_backups(three, told.append)
    assert same(three, three.copies[0])
    assert problems(three, second) == {"second": "", "third": ""}


def test_a_copy_that_was_cut_short_is_finished(three: Site) -> None:
    """Whatever of a copy is there, the next makes it whole."""
    backup = make(three)
    copies.copy_backups(three, lambda _: None)
    target = three.copies[1]
    for missing in objects(target):
        target.delete(missing)
        if missing.endswith("manifest.json"):
            assert not whole(three, backup, target)
        copies.copy_backups(three, lambda _: None, [backup.id])
        assert same(three, target)


def test_what_an_incremental_is_built_on_goes_first(three: Site) -> None:
    full = make(three)
    middle = make(three, 1, parent=full.id)
    last = make(three, 2, parent=middle.id)
    done = copies.copy_backups(three, lambda _: None, [last.id])
    assert [backup.id for backup in done] == [full.id, middle.id, last.id]


def test_failed_backups_are_not_copied(three: Site) -> None:
    judged(three, make(three), "a row is missing")
    assert copies.copy_backups(three, lambda _: None) == []
    assert objects(three.copies[0]) == {}


def test_damage_is_not_copied_and_mended_from_where_it_is_whole(three: Site) -> None:
    backup = make(three)
    name = f"{backup.folder}/data-00001.pack"
    original = three.repository.read(name)
    flip(three.repository, name)
    copies.copy_backups(three, lambda _: None)
    assert "has changed since it was written" in problems(three, backup)["third"]
    assert not any(n.endswith("manifest.json") for n in objects(three.copies[1]))
    three.repository.put(name, original)
    copies.copy_backups(three, lambda _: None)
    # Now the first repository and one copy are damaged, in different objects.
    flip(three.repository, name)
    other = f"{backup.folder}/data-00000.pack"
    flip(three.copies[0], other)
    told: list[str] = []
    assert set(verify.check(three, now(three, backup), told.append)) == {
        three.repository.address,
        three.copies[0].address,
    }
    assert now(three, backup).state is State.COMPLETE
    assert set(filter(None, problems(three, backup).values())) != set()
    copies.copy_backups(three, told.append)
    assert three.repository.read(name) == original
    assert same(three, three.copies[0])
    assert not any(problems(three, backup).values())
    assert verify.check(three, now(three, backup), told.append) == {}


HARMS: dict[str, Callable[[bytes], bytes | None]] = {
    "flipped": lambda data: data[:-9] + bytes([data[-9] ^ 4]) + data[-8:],
    "cut": lambda data: data[:-9],
    "empty": lambda data: b"",
    "removed": lambda data: None,
}


@pytest.mark.parametrize("harm", HARMS)
def test_harm_to_any_object_anywhere_is_told_and_mended(three: Site, harm: str) -> None:
    backup = make(three, size=30_000)
    copies.copy_backups(three, lambda _: None)
    names = [name for name in objects(three.repository) if not name.endswith("proof.json")]
    assert len(names) == 4
    for place in (three.repository, three.copies[1]):
        for name in names:
            whole_one = place.read(name)
            harmed = HARMS[harm](whole_one)
            place.delete(name) if harmed is None else place.put(name, harmed)
            assert list(verify.check(three, now(three, backup), lambda _: None)) == [place.address]
            assert now(three, backup).state is State.COMPLETE
            reader = sources.opened(three, now(three, backup), lambda _: None)
            assert reader.damage() == []
            assert len(reader.read("second")) == 30_000
            copies.copy_backups(three, lambda _: None)
            assert place.read(name) == whole_one
            assert verify.check(three, now(three, backup), lambda _: None) == {}


def test_a_backup_is_read_from_a_copy_when_it_must_be(three: Site, folder: Path) -> None:
    backup = make(three)
    copies.copy_backups(three, lambda _: None)
    backup = now(three, backup)
    content = sources.opened(three, backup, lambda _: None).read("first")
    for name in [n for n in objects(three.repository) if n.startswith(backup.folder)]:
        three.repository.delete(name)
        told: list[str] = []
        reader = sources.opened(three, backup, told.append)
        assert reader.damage() == []
        assert reader.read("first") == content
    assert "repository is not there" in told[0]
    assert str(folder / "second") in told[0]
    alone = sources.only(three, str(folder / "third"))
    assert alone.repository == three.copies[1]
    assert sources.opened(alone, backup, told.append).read("first") == content
    with pytest.raises(AtalaiaError):
        sources.opened(sources.only(three, three.repository.address), backup, told.append)


class Killed(BaseException):
    """The end of a process, as far as what it has written goes."""


def once(put: Callable[..., None]) -> Callable[..., None]:
    def ending(place: Place, name: str, data: bytes) -> None:
        put(place, name, data)
        raise Killed

    return ending


def test_keys_are_rotated_and_everything_opens_at_every_moment(three: Site) -> None:
    made = [make(three, number) for number in range(3)]
    copies.copy_backups(three, lambda _: None)
    before = keys.load(three.key_file).current
    key = rotation.rotate(three.key_file)
    made.append(make(three, 3))
    copies.copy_backups(three, lambda _: None)

    # Ended after each manifest, all of them open; the next goes on.
    for _ in range(9):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(LocalPlace, "put", once(LocalPlace.put))
            with pytest.raises(Killed):
                rotation.rewrap(three, lambda _: None)
        for backup in made:
            assert all(whole(three, backup, place) for place in (three.repository, *three.copies))
    again = rotation.rewrap(three, lambda _: None)
    assert (again.changed, again.unchanged, again.problems) == (0, 12, ())
    # Now the new key alone opens all; the earlier one none.
    keys.save(three.key_file, keys.Keyring((key,)))
    assert all(whole(three, backup, place) for backup in made for place in three.copies)
    assert {check.problem for check in rotation.check(three)} == {""}
    keys.save(three.key_file, keys.Keyring((before,)))
    assert not any(whole(three, backup, place) for backup in made for place in three.copies)
    checks = rotation.check(three)
    assert len(checks) == 6
    assert all("not in the key file" in check.problem for check in checks)
    with pytest.raises(AtalaiaError, match="not in the key file"):
        sources.opened(three, made[0], lambda _: None)


def test_key_files_are_joined_and_never_overwritten(three: Site, folder: Path) -> None:
    kept = folder / "kept.keys"
    kept.write_bytes(three.key_file.read_bytes())
    with pytest.raises(InputError, match="is there already"):
        rotation.new(three.key_file)
    assert three.key_file.read_bytes() == kept.read_bytes()
    assert three.key_file.stat().st_mode & 0o777 == 0o600
    backup = make(three)
    three.key_file.unlink()
    with pytest.raises(InputError, match=r"key file .* is missing") as told:
        make(three, 1)
    assert "backup key new" in told.value.remedy
    other = rotation.new(three.key_file)
    with pytest.raises(AtalaiaError, match="not in the key file"):
        sources.opened(three, backup, lambda _: None)
    (added,) = rotation.join(three.key_file, kept)
    assert rotation.join(three.key_file, kept) == []
    assert {key.id for key in keys.load(three.key_file).keys} == {other.id, added.id}
    assert sources.opened(three, backup, lambda _: None)
    kept.write_text("not a key file")
    with pytest.raises(InputError, match="is not a key file"):
        rotation.join(three.key_file, kept)


def test_a_lost_catalogue_is_made_again(three: Site) -> None:
    made = [make(three, 0), judged(three, make(three, 1)), judged(three, make(three, 2))]
    judged(three, make(three, 3), "table public.secret has 1 rows in place of 2")
    copies.copy_backups(three, lambda _: None)
    before = catalogue.list_backups(three.catalogue)
    for backup in before:
        evidence.publish(three, backup)
    assert b"secret" not in b"".join(objects(three.repository).values())
    three.catalogue.unlink()
    told: list[str] = []
    done = rebuild.rebuild(three, told.append)
    assert (len(done.found), done.known, done.problems) == (4, 0, [])
    after = catalogue.list_backups(three.catalogue)
    assert [b.state.value for b in after] == ["complete", "verified", "verified", "failed"]
    for old, new in zip(before[:3], after[:3], strict=True):
        assert replace(new, copies=()) == replace(old, copies=())
        assert {c.repository for c in new.copies if not c.problem} == {p.address for p in three.copies}
    assert [b.id for b in made] == [b.id for b in after[:3]]
    # Again, nothing is new; what is there stays.
    judged(three, after[0])
    again = rebuild.rebuild(three, told.append)
    assert (len(again.found), again.known) == (0, 4)
    assert now(three, made[0]).state is State.VERIFIED


def test_a_catalogue_is_made_again_from_what_is_left(three: Site, folder: Path) -> None:
    """Without the first repository, with damage and without a key: what can be read is found, the rest is told."""
    made = [make(three, number) for number in range(3)]
    copies.copy_backups(three, lambda _: None)
    three.catalogue.unlink()
    (folder / "repository").rename(folder / "elsewhere")
    flip(three.copies[0], f"{made[0].folder}/manifest.json")
    three.copies[1].delete(f"{made[1].folder}/index")
    done = rebuild.rebuild(three, lambda _: None)
    assert [backup.id for backup in done.found] == [backup.id for backup in made]
    assert len(done.problems) == 2
    for backup in catalogue.list_backups(three.catalogue):
        assert sources.opened(three, backup, lambda _: None).damage() == []
        assert three.repository.address in {copy.repository for copy in backup.copies if copy.problem}
    # All repositories become whole again.
    copies.copy_backups(three, lambda _: None, [backup.id for backup in made])
    for place in (three.repository, *three.copies):
        assert all(whole(three, backup, place) for backup in made)
    three.catalogue.unlink()
    three.key_file.rename(folder / "kept")
    done = rebuild.rebuild(three, lambda _: None)
    assert done.found == []
    assert len(done.problems) == 9
    assert all("there is no key file" in problem for problem in done.problems)


def test_dumps_of_an_earlier_atalaia_are_told(site: Site) -> None:
    old = site.repository.root / "postgres_a" / "postgres_a_2026-11-22T150000Z.sql.zst"  # type: ignore[attr-defined]
    old.parent.mkdir(parents=True)
    old.write_bytes(b"a dump")
    (old.parent.parent / "catalogue.sqlite").write_bytes(b"a catalogue")
    told: list[str] = []
    assert service.list_backups(site, told.append) == []
    assert old.name in told[0]
    assert "zstd -dc" in told[0]
    told.clear()
    assert rebuild.rebuild(site, told.append).found == []
    assert any(old.name in line and "zstd -dc" in line for line in told)
    assert old.read_bytes() == b"a dump"


def test_wal_is_copied_and_a_broken_segment_does_not_spoil_its_copy(three: Site) -> None:
    def segment(name: str, raw: bytes) -> bytes:
        return sealed.seal(name, "7", raw, None, "zstd", 1, datetime.now(UTC))

    folder = "postgres_a/wal/7"
    names = [f"{number:024X}" for number in range(3)]
    for name in names:
        three.repository.put(f"{folder}/{name}", segment(name, os.urandom(100)))
    assert copies.copy_wal(three, "postgres_a", lambda _: None) == {}
    assert objects(three.copies[1]) == objects(three.repository)
    three.repository.put(f"{folder}/{names[2]}", segment(names[2], os.urandom(102)))
    three.repository.put(f"{folder}/{3:024X}.open", segment(f"{3:024X}.partial", b"beginning"))
    assert copies.copy_wal(three, "postgres_a", lambda _: None) == {}
    assert objects(three.copies[1]) == objects(three.repository)
    three.repository.delete(f"{folder}/{3:024X}.open")
    three.repository.put(f"{folder}/{3:024X}", segment(f"{3:024X}", b"whole"))
    assert copies.copy_wal(three, "postgres_a", lambda _: None) == {}
    sound = objects(three.repository)
    assert objects(three.copies[1]) == sound
    # A segment breaks where it was made: its copies stay, and what is new is copied all the same.
    broken = bytearray(three.repository.read(f"{folder}/{names[1]}"))
    broken[-1] ^= 1
    three.repository.put(f"{folder}/{names[1]}", bytes(broken))
    three.repository.put(f"{folder}/{4:024X}", new := segment(f"{4:024X}", b"new"))
    told = copies.copy_wal(three, "postgres_a", lambda _: None)
    assert all("has changed since it was written" in problem for problem in told.values())
    assert len(told) == 2
    assert objects(three.copies[1]) == sound | {f"{folder}/{4:024X}": new}


def test_a_server_is_backed_up_into_all_and_comes_back_from_the_last(server: Cluster, three: Site) -> None:
    with connect(server) as connection:
        connection.execute("CREATE TABLE t AS SELECT generate_series(1, 1000) i")
    told: list[str] = []
    backup = service.backup_now(server, three, told.append)
    assert backup.state is State.VERIFIED
    assert len(backup.copies) == 2
    subprocess.run(["rm", "-r", three.repository.address, three.copies[0].address], check=True)
    restored = service.restore(three, backup.id, progress=told.append)
    with running(restored.cluster), connect(restored.cluster) as connection:
        assert connection.execute("SELECT count(*) FROM t").fetchone() == (1000,)
    assert any(f"it is read from {three.copies[1].address}" in line for line in told)
    # Proven from the copy, and where it is not is noted.
    (again,) = service.verify(three, [backup.id], told.append)
    assert again.state is State.VERIFIED
    assert verify.verify_copy(three, again, three.copies[1].address, told.append) == ""
    copies.copy_backups(three, told.append)
    assert all(whole(three, again, place) for place in (three.repository, *three.copies))
