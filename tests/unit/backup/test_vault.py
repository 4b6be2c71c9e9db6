"""What is written into a vault is read again, and whatever happens to its objects is told, never read as if whole."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from atalaia.backup.vault.chunks import SIZE
from atalaia.backup.vault.keys import Keyring, WrongKey, new_key
from atalaia.backup.vault.manifest import INDEX, NAME, digest
from atalaia.backup.vault.place import Damaged, Missing, Object, PlaceError
from atalaia.backup.vault.reader import Reader, look, open_backup
from atalaia.backup.vault.remote import RemotePlace
from atalaia.backup.vault.writer import Writer

FOLDER = "postgres_a/postgres_a_2026-11-22T150000Z"
KEYS = Keyring((new_key(),))
BROKEN = (Damaged, Missing, WrongKey)


def memory() -> RemotePlace:
    """A place without I/O; each has a store of its own."""
    return RemotePlace("memory:///")


def block(seed: int, size: int) -> bytes:
    """Bytes that compress a little, and differ from seed to seed."""
    piece = b"".join((seed * 1_000_003 + n).to_bytes(8, "little") for n in range(min(size, 4096) // 8 + 1))
    return (piece * (size // len(piece) + 1))[:size]


def write(place: RemotePlace, members: dict[str, bytes], keyring: Keyring | None, **changes: object) -> None:
    given = {"compression": "zstd", "level": 1, "workers": 2, "pack_size": 1 << 16, **changes}
    with Writer(place, FOLDER, keyring=keyring, **given) as writer:  # type: ignore[arg-type]
        for name, data in members.items():
            member = writer.member(name)
            for start in range(0, len(data), 70_001):
                member.write(data[start : start + 70_001])
            member.facts = {"bytes": len(data)}
        writer.finish({"server": "postgres_a"}, {"contents": {"tables": len(members)}})


@pytest.mark.parametrize("begun", [b"", b"some that waits"])
def test_blocks_given_without_a_copy_are_read_and_counted(begun: bytes) -> None:
    place, given_blocks = memory(), [block(1, SIZE), block(2, 5000), block(3, 1)]
    with Writer(place, FOLDER, compression="zstd", level=1, keyring=None) as writer:
        member = writer.member("a")
        member.write(begun)
        for one in given_blocks:
            member.give(memoryview(one))
        assert writer.raw_size == member.size == len(begun) + sum(map(len, given_blocks))
        writer.finish({"server": "postgres_a"}, {"contents": {}})
    assert open_backup(place, FOLDER, None).read("a") == begun + b"".join(given_blocks)


SIZES = st.sampled_from([0, 1, 2, 70_001, SIZE - 1, SIZE, SIZE + 1, 2 * SIZE]) | st.integers(0, 3 * SIZE)


@settings(max_examples=30, suppress_health_check=[HealthCheck.too_slow])
@given(
    sizes=st.lists(SIZES, max_size=4),
    compression=st.sampled_from(["zstd", "lz4", "none"]),
    keyring=st.sampled_from([None, KEYS]),
    pack_size=st.sampled_from([1, 1 << 16, SIZE, 1 << 30]),
    workers=st.integers(1, 4),
)
def test_what_is_written_is_read(
    sizes: list[int], compression: str, keyring: Keyring | None, pack_size: int, workers: int
) -> None:
    place = memory()
    members = {f"m{n}": block(n, size) for n, size in enumerate(sizes)}
    write(place, members, keyring, compression=compression, pack_size=pack_size, workers=workers)
    reader = open_backup(place, FOLDER, keyring)
    assert list(reader.members) == list(members)
    assert {name: reader.read(name) for name in members} == members
    assert {name: member.size for name, member in reader.members.items()} == {n: len(d) for n, d in members.items()}
    assert all(member.facts == {"bytes": member.size} for member in reader.members.values())
    assert reader.details == {"contents": {"tables": len(members)}}
    assert reader.damage() == []
    listed = {found.name: found.size for found in place.objects(f"{FOLDER}/")}
    assert sum(listed.values()) - listed[f"{FOLDER}/{NAME}"] == reader.manifest.size
    # Only the last pack may be smaller than a pack is to be.
    assert all(pack.size >= pack_size for pack in reader.manifest.packs[:-1])


def test_members_may_be_written_side_by_side() -> None:
    place = memory()
    data = {f"m{n}": block(n, 300_000 + n * 900_001) for n in range(6)}
    with Writer(place, FOLDER, compression="lz4", level=1, keyring=KEYS, workers=3, pack_size=1 << 20) as writer:

        def fill(name: str) -> None:
            member = writer.member(name)
            for start in range(0, len(data[name]), 99_999):
                member.write(data[name][start : start + 99_999])

        threads = [threading.Thread(target=fill, args=(name,)) for name in data]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        with pytest.raises(ValueError, match="a member 'm0' already"):
            writer.member("m0")
        writer.finish({}, {})
        assert writer.raw_size == sum(map(len, data.values()))
    reader = open_backup(place, FOLDER, KEYS)
    assert {name: reader.read(name) for name in data} == data
    # No nonce is used twice.
    used = [chunk.number for member in reader.members.values() for chunk in member.chunks]
    assert len(set(used)) == len(used)


SMALL = {"a": block(1, 5000), "empty": b"", "b": block(2, SIZE + 5000)}


def all_of(place: RemotePlace, keyring: Keyring | None, sha256: str) -> dict[str, bytes]:
    reader = open_backup(place, FOLDER, keyring, sha256)
    return {name: reader.read(name) for name in reader.members}


@cache
def small_objects(keyring: Keyring | None, compression: str) -> dict[str, bytes]:
    place = memory()
    write(place, SMALL, keyring, compression=compression, pack_size=4000)
    return {found.name: place.read(found.name) for found in place.objects()}


def holding(objects: dict[str, bytes]) -> RemotePlace:
    place = memory()
    for name, data in objects.items():
        place.put(name, data)
    return place


@settings(max_examples=120)
@given(
    keyring=st.sampled_from([None, KEYS]),
    compression=st.sampled_from(["zstd", "lz4", "none"]),
    how=st.sampled_from(["flip", "cut", "extend", "remove", "swap"]),
    which=st.integers(0, 10**6),
    where=st.integers(0, 10**9),
    known=st.booleans(),
)
def test_damage_anywhere_is_told(
    keyring: Keyring | None, compression: str, how: str, which: int, where: int, known: bool
) -> None:
    objects = small_objects(keyring, compression)
    place = holding(objects)
    assert all_of(place, keyring, "") == SMALL
    sha256 = digest(look(place, FOLDER)) if known else ""
    names = sorted(objects)
    name = names[which % len(names)]
    old = objects[name]
    at = where % len(old)
    if how == "remove":
        place.delete(name)
    elif how == "flip":
        place.put(name, old[:at] + bytes([old[at] ^ (1 << where % 8)]) + old[at + 1 :])
    elif how == "swap":
        place.put(name, objects[names[(which + 1 + where % (len(names) - 1)) % len(names)]])
    else:
        place.put(name, old[:at] if how == "cut" else old + b"\n")
    read: dict[str, bytes] = {}
    try:
        told = bool(open_backup(place, FOLDER, keyring, sha256).damage())
        read = all_of(place, keyring, sha256)
    except BROKEN:
        told = True
    assert told, f"{how} of {name} is not told"
    assert read in ({}, SMALL)


@pytest.mark.parametrize("compression", ["zstd", "lz4", "none"])
@pytest.mark.parametrize("keyring", [None, KEYS])
def test_a_damaged_chunk_gives_no_bytes(compression: str, keyring: Keyring | None) -> None:
    objects = small_objects(keyring, compression)
    place = holding(objects)
    reader = open_backup(place, FOLDER, keyring)
    chunk = reader.members["b"].chunks[0]
    name = f"{FOLDER}/{reader.manifest.packs[chunk.pack].name}"
    old = objects[name]
    for at in (chunk.offset, chunk.offset + chunk.stored // 2, chunk.offset + chunk.stored - 1):
        place.put(name, old[:at] + bytes([old[at] ^ 1]) + old[at + 1 :])
        with pytest.raises(Damaged):
            reader.read("b")


def test_a_manifest_of_another_backup_is_told() -> None:
    objects = small_objects(None, "zstd")
    place = holding(objects)
    other = "postgres_a/postgres_a_2026-11-22T160000Z"
    for name, data in objects.items():
        place.put(name.replace(FOLDER, other), data)
    with pytest.raises(Damaged, match="is the manifest of postgres_a_2026-11-22T150000Z"):
        open_backup(place, other, None)


def test_keys_that_do_not_fit() -> None:
    place = holding(small_objects(KEYS, "zstd"))
    with pytest.raises(WrongKey, match="there is no key file"):
        open_backup(place, FOLDER, None)
    with pytest.raises(WrongKey, match="not in the key file"):
        open_backup(place, FOLDER, Keyring((new_key(),)))
    # A later key is the current one; the earlier still opens what it wrapped.
    assert open_backup(place, FOLDER, Keyring((*KEYS.keys, new_key()))).read("a") == SMALL["a"]


def test_an_encrypted_backup_tells_no_names_in_clear() -> None:
    place = memory()
    write(place, {"secret_table": b"secret_row" * 1000}, KEYS)
    stored = b"".join(place.read(found.name) for found in place.objects())
    assert b"secret" not in stored


@pytest.mark.parametrize("keyring", [None, KEYS])
def test_an_abandoned_writer_leaves_nothing(keyring: Keyring | None) -> None:
    place = memory()

    def begun() -> None:
        with Writer(place, FOLDER, compression="none", level=1, keyring=keyring, pack_size=1000) as writer:
            member = writer.member("a")
            member.write(b"x" * 3 * SIZE)
            member.close()
            assert list(place.objects())
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        begun()
    assert list(place.objects()) == []


class Full(RemotePlace):
    """Fails the writing of any object but the first `good`."""

    def __init__(self, good: int) -> None:
        super().__init__("memory:///")
        self.good = good

    def put(self, name: str, data: bytes) -> None:
        self.good -= 1
        if self.good < 0:
            raise PlaceError("no room", "make some")
        super().put(name, data)


@pytest.mark.parametrize("good", range(5))
def test_a_place_that_fails_at_any_object_leaves_nothing(good: int) -> None:
    place = Full(good)
    with pytest.raises(PlaceError, match="no room"):
        write(place, {"a": block(1, SIZE * 2 + 1)}, KEYS, compression="none", pack_size=SIZE, workers=1)
    assert list(place.objects()) == []
    place = Full(5)
    write(place, {"a": block(1, SIZE * 2 + 1)}, KEYS, compression="none", pack_size=SIZE)
    assert open_backup(place, FOLDER, KEYS).damage() == []


def test_a_writer_may_begin_anew() -> None:
    place = memory()
    with Writer(place, FOLDER, compression="none", level=1, keyring=KEYS, pack_size=1000) as writer:
        writer.member("a").write(block(1, 2 * SIZE))
        writer.restart()
        writer.member("a").write(block(2, 5000))
        writer.finish({}, {})
    reader = open_backup(place, FOLDER, KEYS)
    assert reader.read("a") == block(2, 5000)
    assert len(list(place.objects())) == 3


@dataclass
class Counted:
    """A place that counts the bytes read from it."""

    inner: RemotePlace
    taken: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def address(self) -> str:
        return self.inner.address

    def read(self, name: str, offset: int = 0, length: int | None = None) -> bytes:
        data = self.inner.read(name, offset, length)
        with self.lock:
            self.taken += len(data)
        return data

    def objects(self, prefix: str = "") -> Iterator[Object]:
        return self.inner.objects(prefix)


def test_a_slow_reader_bounds_what_is_read_ahead() -> None:
    place = memory()
    write(place, {"a": bytes(range(256)) * (SIZE // 256) * 20}, None, compression="none", pack_size=1 << 30)
    counted = Counted(place)
    reader = open_backup(counted, FOLDER, None)  # type: ignore[arg-type]
    before = counted.taken
    stream = reader.stream("a")
    for number in range(1, 15):
        assert len(next(stream)) == SIZE
        assert counted.taken - before <= (number + 6) * SIZE
    stream.close()  # type: ignore[attr-defined]


Harm = Callable[[RemotePlace, str], None]


def flip(place: RemotePlace, name: str) -> None:
    data = place.read(name)
    place.put(name, data[:-1] + bytes([data[-1] ^ 1]))


def drop(place: RemotePlace, name: str) -> None:
    place.delete(name)


class Away(RemotePlace):
    """A store that does not answer."""

    def __init__(self) -> None:
        super().__init__("memory:///")
        self.address = "memory:///away"

    def read(self, name: str, offset: int = 0, length: int | None = None) -> bytes:
        raise PlaceError("it does not answer", "wait")

    def size(self, name: str) -> int | None:
        raise PlaceError("it does not answer", "wait")


@given(harms=st.lists(st.sampled_from([None, (0, flip), (0, drop), (1, flip), (1, drop)]), min_size=12, max_size=12))
def test_two_places_damaged_in_different_objects_make_one_whole_backup(
    harms: list[tuple[int, Harm] | None],
) -> None:
    objects = small_objects(KEYS, "zstd")
    places = (holding(objects), holding(objects))
    places[1].address = "memory:///second"
    headless = set()
    for name, harm in zip(sorted(objects), harms, strict=False):
        if harm:
            which, do = harm
            do(places[which], name)
            headless |= {which} if name.endswith((NAME, INDEX)) else set()
    if headless == {0, 1}:
        # Manifest and index are taken from one place.
        with pytest.raises(BROKEN):
            open_backup(places[0], FOLDER, KEYS, spares=places[1:])
        return
    reader = open_backup(places[0], FOLDER, KEYS, spares=places[1:])
    assert reader.damage() == []
    assert {name: reader.read(name) for name in reader.members} == SMALL


def test_what_is_away_is_not_called_damaged() -> None:
    place = holding(small_objects(KEYS, "zstd"))
    drop(place, f"{FOLDER}/data-00000.pack")
    reader = open_backup(Away(), FOLDER, KEYS, spares=(place,))
    assert isinstance(reader, Reader)
    assert reader.troubles == {"memory:///away": "it does not answer"}
    with pytest.raises(PlaceError, match="does not answer"):
        reader.damage()
    with pytest.raises(PlaceError, match="does not answer"):
        reader.read("a")
    flip(place, f"{FOLDER}/{NAME}")
    with pytest.raises(PlaceError, match="does not answer"):
        open_backup(place, FOLDER, KEYS, spares=(Away(),))
