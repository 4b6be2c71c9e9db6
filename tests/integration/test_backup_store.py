"""Backups in an object store, and a store that answers 500, is slow, cuts connections, or is full."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from backup_sample import everything, fill
from tests.conftest import soak
from tests.integration.object_store import Fault, Store, bucket, moto

from atalaia.backup import service
from atalaia.backup.model import State, Untested
from atalaia.backup.site import Site
from atalaia.backup.vault.place import Damaged, Missing, PlaceError
from atalaia.backup.vault.remote import RemotePlace
from atalaia.environment.errors import AtalaiaError
from atalaia.postgres.cluster import Cluster
from atalaia.postgres.connect import connect
from atalaia.postgres.temporary import running

MIB = 1 << 20


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    with moto() as address:
        yield address


@pytest.fixture
def store(s3: str, request: pytest.FixtureRequest) -> Iterator[Store]:
    with bucket(s3, getattr(request, "param", "s3")) as made:
        yield made


each_client = pytest.mark.parametrize("store", ["s3", "gs"], indirect=True)


def place(store: Store, patience: float = 20) -> RemotePlace:
    return RemotePlace(store.address, store.options, patience)


def upload(at: RemotePlace, name: str, blocks: list[bytes]) -> None:
    sink = at.create(name)
    try:
        for block in blocks:
            sink.write(block)
        sink.finish()
    except BaseException:
        sink.abort()
        raise


def blocks(count: int) -> list[bytes]:
    return [os.urandom(4 * MIB) for _ in range(count)]


@each_client
def test_a_store_is_a_place(store: Store) -> None:
    at = place(store)
    assert at.size("a/b") is None
    assert at.folders() == []
    assert list(at.objects()) == []
    with pytest.raises(Missing):
        at.read("a/b")
    at.put("a/b", b"0123456789")
    upload(at, "a/c/large", data := blocks(5))
    upload(at, "a/c/small", [b"x", b"", b"yz"])
    upload(at, "a/c/empty", [])
    assert at.read("a/b") == b"0123456789"
    assert at.read("a/b", 3, 4) == b"3456"
    assert at.read("a/b", 3, 0) == b""
    assert at.read("a/c/large") == b"".join(data)
    assert at.read("a/c/large", 8 * MIB - 5, 10) == b"".join(data)[8 * MIB - 5 : 8 * MIB + 5]
    assert at.read("a/c/small") == b"xyz"
    assert at.read("a/c/empty") == b""
    for offset, length in ((8, 3), (10, 1), (99, 1)):
        with pytest.raises(Damaged, match="bytes too early"):
            at.read("a/b", offset, length)
    assert at.folders() == ["a"]
    assert at.folders("a/") == ["c"]
    assert {found.name: found.size for found in at.objects("a/c/")} == {
        "a/c/empty": 0,
        "a/c/large": 20 * MIB,
        "a/c/small": 3,
    }
    at.delete("a/b")
    at.delete("a/b")
    assert at.size("a/b") is None
    assert store.unfinished() == 0


@each_client
def test_an_upload_given_up_leaves_nothing(store: Store) -> None:
    at = place(store)
    sink = at.create("a/x")
    for block in blocks(6):
        sink.write(block)
    sink.abort()
    assert list(at.objects()) == []
    assert store.unfinished() == 0


@each_client
def test_a_short_outage_passes(store: Store) -> None:
    """Each request is answered 500, cut in its body, cut in its answer, or slow, before it is answered well."""
    seen: dict[str, int] = {}
    faults = (Fault(status=500), Fault(cut_request=True), Fault(cut_answer=True), Fault(status=503, seconds=0.1))

    def fault(method: str, path: str, number: int) -> Fault | None:
        seen[f"{method} {path}"] = times = seen.get(f"{method} {path}", 0) + 1
        return faults[(number + times) % 4] if times <= 2 else None

    store.fault = fault
    at = place(store)
    data = blocks(5)
    upload(at, "a/large", data)
    at.put("a/small", b"small")
    assert at.read("a/small") == b"small"
    assert b"".join(at.read("a/large", n * MIB, MIB) for n in range(20)) == b"".join(data)
    assert at.size("a/large") == 20 * MIB
    assert [found.name for found in at.objects("a/")] == ["a/large", "a/small"]
    at.delete("a/small")
    assert at.size("a/small") is None
    assert max(seen.values()) >= 3
    assert store.unfinished() == 0


OUTAGES = [Fault(status=500), Fault(seconds=30)]
if soak():
    OUTAGES += [Fault(status=507), Fault(cut_request=True)]


@pytest.mark.parametrize("fault", OUTAGES, ids=repr)
def test_a_long_outage_fails_in_bounded_time(store: Store, fault: Fault) -> None:
    at = place(store, patience=1)
    at.put("a/b", b"good")
    data = blocks(6)
    began: list[float] = []

    def late(method: str, path: str, number: int) -> Fault | None:
        # The upload's third part and all after it.
        if method == "PUT" and "partNumber=3" in path and not began:
            began.append(time.monotonic())
        return fault if began else None

    store.fault = late
    with pytest.raises(PlaceError, match=r"s3://backups-\d+/atalaia could not write a/large: ") as told:
        upload(at, "a/large", data)
    assert "very secret" not in str(told.value)
    assert time.monotonic() - began[0] < 20
    calls: list[Callable[[], object]] = [
        lambda: at.read("a/b", 1, 2),
        lambda: at.put("a/c", b""),
        lambda: list(at.objects()),
    ]
    for call in calls:
        start = time.monotonic()
        with pytest.raises(PlaceError, match="could not"):
            call()
        assert time.monotonic() - start < 8
    store.fault = lambda *_: None
    assert [found.name for found in at.objects()] == ["a/b"]
    assert at.read("a/b") == b"good"


@each_client
def test_refusals_say_what_to_do(store: Store) -> None:
    at = place(store)
    store.fault = lambda *_: Fault(status=403)
    with pytest.raises(PlaceError, match="does not permit it") as told:
        at.put("a", b"")
    assert "keys" in told.value.remedy
    store.fault = lambda *_: None
    nowhere = RemotePlace(f"{store.scheme}://no-such-bucket/x", store.options, 5)
    for call in (lambda: nowhere.put("a", b""), lambda: nowhere.read("a")):
        with pytest.raises(PlaceError, match="no such bucket") as gone:
            call()
        assert not isinstance(gone.value, Missing)
    with pytest.raises(PlaceError, match="could not"):
        RemotePlace(store.address, replace(store, endpoint="http://127.0.0.1:1").options, 1).put("a", b"")


INTERRUPTED = """
import sys
from atalaia.backup.vault.remote import RemotePlace
at = RemotePlace(sys.argv[1], {"endpoint": sys.argv[2], "access_key_id": "a", "secret_access_key": "b"})
sink = at.create("a/large")
try:
    for _ in range(20):
        sink.write(bytes(4 << 20))
    sink.finish()
except KeyboardInterrupt:
    sink.abort()
    at.delete("a/manifest.json")
    sys.exit(130)
"""


@pytest.mark.parametrize("part", ["uploads", "partNumber"] if soak() else ["partNumber"])
def test_ctrl_c_is_heard_while_a_store_hangs(store: Store, part: str) -> None:
    hangs = threading.Event()

    def fault(method: str, path: str, number: int) -> Fault | None:
        if part in path:
            hangs.set()
            return Fault(seconds=20)
        return None

    store.fault = fault
    process = subprocess.Popen([sys.executable, "-c", INTERRUPTED, store.address, store.endpoint])
    try:
        assert hangs.wait(60)
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def away(site: Site, store: Store) -> Site:
    """The site with its repository in the store."""
    return replace(site, repository=place(store, patience=2))


@each_client
def test_a_backup_in_a_store_verifies_and_restores(server: Cluster, away: Site, store: Store) -> None:
    fill(server)
    before = everything(server)
    backup = service.backup_now(server, away)
    assert backup.state is State.VERIFIED
    assert store.unfinished() == 0
    restored = service.restore(away, backup.id)
    with running(restored.cluster):
        assert everything(restored.cluster) == before


def big(server: Cluster) -> None:
    """Enough for an upload in parts: it hardly compresses."""
    with connect(server, autocommit=True) as connection:
        connection.execute("CREATE TABLE big AS SELECT i, md5(i::text) FROM generate_series(1, 500000) i")


def test_a_store_that_fails_while_a_backup_is_made(server: Cluster, away: Site, store: Store) -> None:
    earlier = service.backup_now(server, away)
    big(server)
    for fault in (Fault(status=500), Fault(cut_request=True), Fault(status=507)) if soak() else (Fault(status=507),):
        store.fault = lambda method, path, number, fault=fault: fault if "partNumber=2" in path else None
        with pytest.raises(PlaceError, match="could not write"):
            service.backup_now(server, away)
        store.fault = lambda *_: None
        *_, failed = service.list_backups(away)
        assert failed.state is State.FAILED
        assert "could not write" in failed.error
        assert list(away.repository.objects(f"{failed.folder}/")) == []
        assert store.unfinished() == 0
    assert service.verify(away, [earlier.id])[0].state is State.VERIFIED
    store.requests.clear()
    made = service.backup_now(server, away)
    assert made.state is State.VERIFIED
    assert any("partNumber=2" in request for request in store.requests)


def test_the_manifest_alone_that_fails_is_no_backup(server: Cluster, away: Site, store: Store) -> None:
    store.fault = lambda method, path, number: Fault(status=500) if path.endswith("manifest.json") else None
    with pytest.raises(PlaceError, match=r"could not write .*manifest\.json"):
        service.backup_now(server, away)
    store.fault = lambda *_: None
    (failed,) = service.list_backups(away)
    assert failed.state is State.FAILED
    # The store could not remove the manifest either; it never had one.
    assert away.repository.size(f"{failed.folder}/manifest.json") is None


def test_a_store_that_is_away_leaves_states_as_they_are(server: Cluster, away: Site, store: Store) -> None:
    backup = service.backup_now(server, away)
    store.fault = lambda *_: Fault(status=500)
    with pytest.raises(Untested, match="could not be tested"):
        service.verify(away, [backup.id])
    with pytest.raises(AtalaiaError, match="could not"):
        service.restore(away, backup.id)
    assert service.list_backups(away)[0].state is State.VERIFIED
    assert not list(away.restored.iterdir())
    store.fault = lambda *_: None
    service.restore(away, backup.id)


def test_a_cut_or_changed_answer_never_gives_wrong_bytes(server: Cluster, away: Site, store: Store) -> None:
    backup = service.backup_now(server, away)
    # Every answer with the dump's bytes is cut, the first time.
    seen: set[str] = set()

    def once(method: str, path: str, number: int) -> Fault | None:
        first = method == "GET" and path not in seen
        seen.add(path)
        return Fault(cut_answer=True) if first else None

    store.fault = once
    assert service.verify(away, [backup.id])[0].state is State.VERIFIED
    store.fault = lambda method, path, number: Fault(flip_answer=method == "GET" and "dump.sql" in path)
    (judged,) = service.verify(away, [backup.id])
    assert judged.state is State.FAILED
    assert "has changed since it was written" in judged.error
    store.fault = lambda *_: None
    assert service.verify(away, [backup.id])[0].state is State.VERIFIED
