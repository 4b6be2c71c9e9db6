"""Parts of physical backups that need no server: tar streams, holes, journals, settings of a copy, targets."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atalaia.backup.model import Backup, State, Target
from atalaia.backup.physical import contents, copied, files, journal, manifest, targets
from atalaia.backup.physical.tar import File, Follower, Layout
from atalaia.backup.vault.chunks import Codec
from atalaia.backup.vault.place import Damaged
from atalaia.environment.errors import InputError
from atalaia.postgres.binaries import Installation
from atalaia.postgres.cluster import Cluster

NAMES = st.from_regex(r"[a-z]{1,20}(/[a-z0-9_.]{1,20}){0,2}[0-9]", fullmatch=True)


def tar_of(entries: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        folder = tarfile.TarInfo("./some")
        folder.type, folder.mode = tarfile.DIRTYPE, 0o700
        archive.addfile(folder)
        for name, content in entries.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), 0o600
            archive.addfile(member, io.BytesIO(content))
    return stream.getvalue()


@given(st.dictionaries(NAMES, st.binary(max_size=3000), max_size=8), st.lists(st.integers(1, 2000), min_size=1))
def test_files_are_found_in_a_tar_stream_cut_anywhere(entries: dict[str, bytes], cuts: list[int]) -> None:
    stream = tar_of(entries)
    follower, at, number = Follower(), 0, 0
    while at < len(stream):
        size = cuts[number % len(cuts)]
        follower.feed(memoryview(stream)[at : at + size])
        at, number = at + size, number + 1
    layout = follower.layout()
    assert {file.name: stream[file.offset : file.offset + file.size] for file in layout.files} == entries
    assert layout.folders == (("some", 0o700),)
    assert Layout.of(json.loads(json.dumps(layout.facts())), "a backup") == layout


def test_a_stream_that_is_cut_off_or_no_tar_is_refused() -> None:
    stream = tar_of({"a1": b"x" * 5000})
    follower = Follower()
    follower.feed(memoryview(stream)[: 512 + 512 + 1000])
    with pytest.raises(ValueError, match="it ends at byte"):
        follower.layout()
    with pytest.raises(ValueError, match="there is no header at byte 512"):
        Follower().feed(memoryview(stream[:512] + b"y" * 512))


def test_a_size_above_eight_gigabytes_is_read() -> None:
    header = bytearray(tar_of({"big1": b""})[512:1024])
    header[124:136] = b"\x80" + (10 << 30).to_bytes(11, "big")
    header[148:156] = b" " * 8
    header[148:156] = f"{sum(header):06o}\0 ".encode()
    follower = Follower()
    follower.feed(memoryview(header))
    assert follower._files == [File("big1", 512, 10 << 30, 0o600)]


@pytest.mark.parametrize("name", ["../etc/passwd", "/etc/passwd", "base/../../x", "a\0b"])
def test_names_that_lead_out_of_the_directory_are_damage(name: str) -> None:
    facts = Layout((File(name, 512, 1, 0o600),)).facts()
    with pytest.raises(Damaged, match="has a file with the name"):
        Layout.of(facts, "a backup")


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 200_000)), max_size=6), st.integers(0, 70_000))
def test_what_lies_between_holes_is_all_that_is_not_zero(parts: list[tuple[bool, int]], begin: int) -> None:
    raw = b"".join((b"\0" if hole else b"x") * size for hole, size in parts)
    begin = min(begin, len(raw))
    written = bytearray(len(raw) - begin)
    runs = list(files._runs(raw, begin, len(raw)))
    for first, last in runs:
        assert begin <= first < last <= len(raw)
        written[first - begin : last - begin] = raw[first:last]
    assert written == raw[begin:]
    if not any(raw[begin:]):
        assert sum(last - first for first, last in runs) < len(files._HOLE)


@given(st.dictionaries(st.text(min_size=1, max_size=5), st.sets(st.integers(0, 300)), max_size=3))
def test_a_journal_is_read_as_it_was_written(
    tmp_path_factory: pytest.TempPathFactory, done: dict[str, set[int]]
) -> None:
    path = tmp_path_factory.mktemp("journal") / journal.NAME
    noted = journal.Journal(path, "one restore", done=done)
    noted.enter("laid")
    again = journal.resume(path, "one restore")
    assert again
    assert (again.phase, again.done) == ("laid", done)
    assert journal.resume(path, "another restore") is None


def test_a_journal_of_before_the_last_start_of_the_machine_counts_for_nothing(tmp_path: Path) -> None:
    path = tmp_path / journal.NAME
    journal.Journal(path, "one restore").enter("files")
    assert journal.resume(path, "one restore")
    path.write_text(path.read_text().replace('"boot": "', '"boot": "0'))
    assert journal.resume(path, "one restore") is None


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    (tmp_path / "data" / "conf.d").mkdir(parents=True)
    return Cluster(
        name="copy",
        directory=tmp_path,
        port=1,
        listen=(),
        installation=Installation(16, "16.1", tmp_path, "system"),
        account=None,
        settings={},
        password_file=tmp_path / "password",
    )


def test_what_would_hurt_a_copy_is_left_out_of_its_settings(cluster: Cluster) -> None:
    data = cluster.data
    (data / "postgresql.conf").write_text(
        "shared_buffers = 128MB # archive_command\n"
        "#archive_mode = on\n"
        " Archive_Command='cp %p ''/there''/%f'  # send\n"
        "port 5433\n"
        "portable = 1\n"
        "include 'atalaia.conf'\n"
        "include_dir 'conf.d'\n"
        "include_if_exists '/etc/postgresql/shared.conf'\n"
        "include = '../outside.conf'\n"
    )
    (data / "conf.d" / "a.conf").write_text("restore_command = 'fetch'\nwork_mem = 8MB\n")
    (data / "postgresql.auto.conf").write_text(
        "# Do not edit\nprimary_conninfo = 'host=x'\nsynchronous_standby_names = '*'\nwork_mem = '9MB'\n"
        "recovery_target_time = '2020-01-01'\ndata_directory = '/original'\n"
    )

    told = copied.leave_out(cluster)

    assert told == [
        "archive_command = cp %p '/there'/%f",
        "port = 5433",
        "restore_command = fetch",
        "include_if_exists = /etc/postgresql/shared.conf",
        "include = ../outside.conf",
        "primary_conninfo = host=x",
        "synchronous_standby_names = *",
        "recovery_target_time = 2020-01-01",
        "data_directory = /original",
    ]

    def acting(path: Path) -> list[str]:
        return [line for line in path.read_text().splitlines() if line and not line.lstrip().startswith("#")]

    assert acting(data / "postgresql.conf") == [
        "shared_buffers = 128MB # archive_command",
        "portable = 1",
        "include 'atalaia.conf'",
        "include_dir 'conf.d'",
    ]
    assert acting(data / "conf.d" / "a.conf") == ["work_mem = 8MB"]
    assert acting(data / "postgresql.auto.conf") == ["work_mem = '9MB'"]
    assert copied.leave_out(cluster) == []


STOP = datetime(2026, 11, 23, 10, 0, tzinfo=UTC)
BACKUP = Backup(
    id="a_1",
    server="a",
    kind="physical",
    state=State.VERIFIED,
    started=STOP - timedelta(minutes=5),
    server_version="16.1",
    client_version="16.1",
    details={"stop_lsn": "1/2000100", "stop_time": STOP.isoformat()},
)


@pytest.mark.parametrize(
    "target",
    [Target(time=STOP - timedelta(seconds=1)), Target(lsn="1/20000FF"), Target(lsn="0/FFFFFFFF")],
)
def test_a_target_before_the_end_of_the_backup_is_refused_with_what_can_be_reached(target: Target) -> None:
    with pytest.raises(InputError, match=r"2026-11-23 10:00:00.000000 UTC \(LSN 1/2000100\)"):
        targets.check(BACKUP, target)


@pytest.mark.parametrize("target", [Target(time=STOP), Target(lsn="1/2000100"), Target(lsn="2/0"), Target(name="x")])
def test_a_target_from_the_end_of_the_backup_on_is_taken(target: Target) -> None:
    targets.check(BACKUP, target)


@pytest.mark.parametrize(
    ("target", "problem"),
    [
        (Target(time=STOP.replace(tzinfo=None)), "no time zone"),
        (Target(time=STOP, name="x"), "more than one target"),
        (Target(lsn="12"), "is no LSN"),
    ],
)
def test_a_target_that_is_none_is_refused(target: Target, problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        targets.check(BACKUP, target)


def test_recovery_is_told_one_target_alone() -> None:
    always = {"recovery_target_action", "recovery_target_inclusive", "recovery_target_timeline"}
    assert set(targets.settings(None)) == always | {"recovery_target"}
    assert set(targets.settings(Target(timeline="3"))) == always
    local = STOP.astimezone(tz=None)
    assert targets.settings(Target(time=local))["recovery_target_time"] == "2026-11-23 10:00:00.000000+00"
    assert targets.settings(Target(name="x", inclusive=False))["recovery_target_inclusive"] is False


@pytest.fixture
def laid(tmp_path: Path) -> Path:
    """A directory with a manifest that fits."""
    for folder in ("global", "pg_wal", "pg_tblspc", "place"):
        (tmp_path / "data" / folder).mkdir(parents=True)
    data = tmp_path / "data"
    (data / "place").rename(tmp_path / "place")
    (data / "pg_tblspc" / "16400").symlink_to(tmp_path / "place")
    contents: dict[str, bytes] = {"PG_VERSION": b"18\n", "global/pg_control": b"c" * 80, "pg_tblspc/16400/1": b"x"}
    for name, content in contents.items():
        (data / name).write_bytes(content)
    (data / "pg_wal" / "000000010000000000000001").write_bytes(b"wal")
    listed: list[dict[str, Any]] = [
        *({"Path": name, "Size": len(content)} for name, content in contents.items()),
        {"Encoded-Path": "ff31", "Size": 1},
    ]
    (data / b"\xff1".decode(errors="surrogateescape")).write_bytes(b"?")
    text = json.dumps({"PostgreSQL-Backup-Manifest-Version": 2, "Files": listed})[:-1].encode() + b",\n"
    own = hashlib.sha256(text).hexdigest()
    (data / "backup_manifest").write_bytes(text + f'"Manifest-Checksum": "{own}"}}\n'.encode())
    return data


def test_files_that_fit_their_manifest_are_right(laid: Path) -> None:
    assert manifest.problem(laid) == ""


def test_files_that_do_not_fit_their_manifest_are_named(laid: Path) -> None:
    (laid / "PG_VERSION").unlink()
    (laid / "global" / "pg_control").write_bytes(b"c" * 79)
    (laid / "pg_tblspc" / "16400" / "2").write_bytes(b"")
    problem = manifest.problem(laid)
    assert "PG_VERSION is missing" in problem
    assert "global/pg_control has 79 bytes in place of 80" in problem
    assert "pg_tblspc/16400/2 is not in backup_manifest" in problem


def test_a_changed_manifest_is_damaged(laid: Path) -> None:
    path = laid / "backup_manifest"
    path.write_bytes(path.read_bytes().replace(b'"Size": 80', b'"Size": 81'))
    assert manifest.problem(laid) == "backup_manifest is damaged: its own checksum is wrong"


def test_only_what_nobody_reads_of_other_databases_is_left_out(tmp_path: Path) -> None:
    room = files.Room(tmp_path, tmp_path, None, frozenset({16390}))
    assert room.left_out("base/16390/2619")
    assert room.left_out("PG_16_202307071/16390/16391.1")
    assert not room.left_out("base/16390/PG_VERSION")
    assert not room.left_out("base/16390/pg_filenode.map")
    assert not room.left_out("base/16391/2619")
    assert not room.left_out("global/1262")
    assert not room.left_out("pg_wal/000000010000000000016390")
    assert not replace(room, without=frozenset()).left_out("base/16390/2619")


@given(st.binary(max_size=5000), st.sampled_from(["zstd", "lz4", "none"]), st.booleans())
def test_a_chunk_is_opened_into_a_buffer_used_before(raw: bytes, compression: Any, encrypted: bool) -> None:
    codec = Codec(compression, 1, b"k" * 32 if encrypted else None, "id")
    buffer = bytearray(b"?" * 6000)
    stored = codec.seal(7, raw)
    codec.open_into(7, stored, len(raw), buffer)
    assert buffer == raw + b"?" * (6000 - len(raw))
    with pytest.raises(Damaged, match="chunk 7 of id"):
        codec.open_into(7, stored, len(raw) + 1, buffer)
    if encrypted:
        with pytest.raises(Damaged, match="chunk 8 of id is damaged"):
            codec.open_into(8, stored, len(raw), buffer)


def content(**databases: tuple[int, dict[str, str]]) -> dict[str, Any]:
    found = {name: {"oid": oid, "tables": {}, "objects": objects} for name, (oid, objects) in databases.items()}
    return {"databases": found, "roles": {"role a": "1"}}


def test_only_what_was_there_all_the_time_is_compared() -> None:
    before = content(a=(1, {"table x": "1", "table dropped": "1", "table changed": "1"}), b=(2, {"table y": "1"}))
    after = content(a=(1, {"table x": "1", "table changed": "2", "table new": "1"}), b=(3, {"table y": "1"}))
    expected = contents.stable(before, after)
    assert expected["databases"]["a"]["objects"] == {"table x": "1"}
    assert expected["databases"]["b"]["objects"] == {}
    assert contents.count(expected) == 2
    # What came and went meanwhile is of no concern; what was there and is not, or otherwise, is told.
    assert contents.differences(expected, content(a=(1, {"table x": "1", "table between": "1"}))) == []
    found = content(a=(1, {"table x": "2"})) | {"roles": {}}
    assert contents.differences(expected, found) == ["the role a is missing", "the table x of 'a' is different"]
    assert contents.differences(expected, content()) == ["the database 'a' is missing"]


def test_without_a_look_at_the_server_nothing_is_compared() -> None:
    nothing: dict[str, Any] = {"databases": {}, "roles": {}}
    after = content(a=(1, {"table x": "1"}))
    assert contents.differences(contents.stable(nothing, after), nothing) == []
    assert contents.differences(contents.stable(after, nothing), nothing) == []
