from __future__ import annotations

import contextlib
import json
import os
import shutil
import sqlite3
import time
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from atalaia.collector.plan import Job, Output, Plan, Target
from atalaia.collector.reading import identity, positions, tables, tail
from atalaia.collector.reading.files import Files
from atalaia.collector.reading.identity import Known
from atalaia.collector.reading.positions import Positions
from atalaia.collector.reading.tables import Planned
from atalaia.collector.reading.tail import Chunk, Tail, looks_binary
from atalaia.environment.errors import InputError

JOB = Job("j", (Target("*", {"job": "j"}),))
LONGEST = 1000


def tail_of(path: Path, longest: int = LONGEST) -> Tail:
    descriptor = os.open(path, os.O_RDONLY)
    begun = identity.begin("j", str(path), os.fstat(descriptor), partial(os.pread, descriptor))
    return Tail(JOB, {}, begun, descriptor, longest)


def drain(opened: Tail, most: int = 1 << 16, final: bool = False) -> list[Chunk]:
    chunks = []
    while chunk := opened.read(most, final):
        chunks.append(chunk)
    return chunks


def test_chunks_are_whole_lines_and_an_unfinished_one_waits(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_bytes(b"one\ntwo\nthr")
    opened = tail_of(path)
    (chunk,) = drain(opened)
    assert (chunk.block, chunk.start, chunk.end) == (b"one\ntwo\n", 0, 8)
    assert drain(opened) == []
    with path.open("ab") as file:
        file.write(b"ee\n\0\xff\n")
    (chunk,) = drain(opened)
    assert (chunk.block, chunk.start, chunk.end) == (b"three\n\0\xff\n", 8, 17)
    opened.close()


def test_the_last_line_of_a_finished_file_needs_no_newline(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_bytes(b"one\ntwo")
    opened = tail_of(path)
    chunks = drain(opened, final=True)
    assert [(c.block, c.start, c.end) for c in chunks] == [(b"one\n", 0, 4), (b"two\n", 4, 7)]
    opened.close()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(
    data=st.lists(st.sampled_from([b"\n", b"a", b"\0", b"\xff", "é".encode(), b"x" * 40, b"y" * 150]), max_size=30),
    most=st.sampled_from([1, 7, 64, 100, 5000]),
    final=st.booleans(),
)
def test_any_bytes_are_passed_on_once_and_only_too_long_lines_are_cut(
    tmp_path: Path, data: list[bytes], most: int, final: bool
) -> None:
    path = tmp_path / "a.log"
    content = b"".join(data)
    path.write_bytes(content)
    opened = tail_of(path, longest=100)
    chunks = drain(opened, most, final)
    opened.close()
    at = 0
    for chunk in chunks:
        assert chunk.start == at
        at = chunk.end
        if chunk.cut:
            assert chunk.cut > 100
            line = chunk.block.removesuffix(b"\n")
            assert len(line) <= 100
            assert line.decode().endswith(f" …[cut: {chunk.cut} bytes]")
            assert len(content[chunk.start : chunk.end].removesuffix(b"\n")) == chunk.cut
        else:
            assert chunk.block.removesuffix(b"\n") == content[chunk.start : chunk.end].removesuffix(b"\n")
            assert chunk.block.endswith(b"\n")
    assert at == (len(content) if final else content.rfind(b"\n") + 1)


def test_a_line_that_may_be_so_long_is_never_cut_for_want_of_room(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    line = b"x" * 200_000 + b"\n"
    path.write_bytes(line)
    opened = tail_of(path, longest=256 << 10)
    (chunk,) = drain(opened, most=1 << 16)
    assert (chunk.block, chunk.cut) == (line, 0)
    opened.close()


def test_a_line_of_50_mb_is_cut_without_being_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.log"
    size = 50_000_000
    with path.open("wb") as file:
        file.write(b"before\nhead")
        file.truncate(7 + size)
    largest = 0
    real = os.pread

    def pread(descriptor: int, count: int, at: int) -> bytes:
        nonlocal largest
        largest = max(largest, count)
        return real(descriptor, count, at)

    monkeypatch.setattr(tail.os, "pread", pread)
    opened = tail_of(path)
    (chunk,) = drain(opened, tail.BLOCK)
    assert chunk.block == b"before\n"
    with path.open("ab") as file:
        file.write(b"tail\nafter\n")
    cut, after = drain(opened, tail.BLOCK)
    assert cut.cut == size + 4
    assert cut.block.startswith(b"head\0")
    assert len(cut.block) <= LONGEST + 1
    assert (cut.start, cut.end) == (7, 7 + size + 5)
    assert after.block == b"after\n"
    assert largest <= tail.BLOCK
    opened.close()


def test_a_file_cut_off_inside_an_overlong_line_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_bytes(b"x" * 5000)
    opened = tail_of(path)
    assert drain(opened, most=1000) == []
    assert not opened.truncated()
    path.write_bytes(b"new\n")
    assert opened.truncated()
    opened.close()


@pytest.mark.parametrize(
    ("content", "binary"),
    [
        (b"", False),
        (b"text\n", False),
        (b"text with one \0 in it\n", False),
        (b"\0" * 292 * 3, True),
        (b"\x7fELF\0\0\0", True),
    ],
)
def test_binary_files_are_recognised(tmp_path: Path, content: bytes, binary: bool) -> None:
    path = tmp_path / "lastlog"
    path.write_bytes(content)
    descriptor = os.open(path, os.O_RDONLY)
    assert looks_binary(descriptor) is binary
    os.close(descriptor)


# -- positions


def known(**changes: object) -> Known:
    values = {
        "id": "ab",
        "job": "j",
        "path": "/x/ç",
        "device": 1,
        "inode": 2,
        "offset": 3,
        "head_size": 4,
        "head_crc": 5,
    }
    return Known(**{**values, "seen": int(time.time()), **changes})  # type: ignore[arg-type]


def rows(path: Path) -> tuple[dict[str, Known], dict[str, list[Planned]]]:
    opened = Positions(path)
    opened.close()
    return opened.known, opened.planned


def test_positions_come_back(tmp_path: Path) -> None:
    path = tmp_path / "below" / "positions.db"
    assert positions.read(path) == {}
    files = {"ab": known(), "cd": known(id="cd", offset=2**60, mark_at=7, mark_size=8, mark_crc=9)}
    opened = Positions(path)
    for value in files.values():
        opened.put(value)
    assert not opened.durable("ab")
    assert positions.read(path) == {}
    assert opened.save()
    assert opened.durable("ab")
    # Beside the collector, as `atalaia status` reads them.
    assert positions.read(path) == files
    opened.put(known(id="old", seen=1))
    opened.put(known(id="gone", device=0, inode=0, seen=int(time.time()) - 3 * 86_400))
    opened.put(known(offset=77))
    opened.forget("cd")
    opened.close()
    assert rows(path)[0] == {"ab": known(offset=77)}
    assert positions.read(path) == {"ab": known(offset=77)}


def test_what_is_planned_is_there_until_its_bytes_are_acknowledged(tmp_path: Path) -> None:
    path = tmp_path / "positions.db"
    opened = Positions(path)
    opened.put(known(offset=0))
    chunks = [Planned("ab", 0, 10, 1), Planned("ab", 10, 25, 2), Planned("cd", 0, 5, 3)]
    assert opened.plan(chunks)
    assert opened.durable("ab")
    # kill -9: nothing is closed; SQLite finds its log again.
    for name in ("positions.db", "positions.db-wal"):
        shutil.copy(tmp_path / name, tmp_path / f"killed-{name}")
    assert rows(tmp_path / "killed-positions.db")[1] == {"ab": chunks[:2], "cd": chunks[2:]}
    opened.put(known(offset=10))
    opened.close()
    assert rows(path)[1] == {"ab": chunks[1:2], "cd": chunks[2:]}


def test_two_collectors_do_not_share_positions(tmp_path: Path) -> None:
    opened = Positions(tmp_path / "positions.db")
    with pytest.raises(InputError, match="another collector"):
        Positions(tmp_path / "positions.db")
    opened.close()
    Positions(tmp_path / "positions.db").close()


OLD = {"job": "j", "path": "/x", "device": 1, "inode": 2, "offset": 3, "head_size": 4, "head_crc": 5}


@pytest.mark.parametrize("name", ["positions.json", "promtail.positions.atalaia"])
def test_what_an_older_version_wrote_is_taken_over(tmp_path: Path, name: str) -> None:
    old = {**OLD, "seen": int(time.time())}
    (tmp_path / name).write_text(json.dumps({"version": 1, "files": {"ab": old}}))
    path = tmp_path / ("positions.db" if name == "positions.json" else name)
    expected = {"ab": Known(**{**old, "id": "ab", "real": "/x"})}  # type: ignore[arg-type]
    assert positions.read(path) == expected
    assert rows(path)[0] == expected
    if path.name != name:
        (tmp_path / name).unlink()
    assert rows(path)[0] == expected


@pytest.mark.parametrize(
    "content",
    [
        b"{",
        b"[]",
        b"nothing like it",
        b"SQLite format 3\0" + b"x" * 4096,
        b'{"version": 1}',
        b'{"version": 1, "files": []}',
        b'{"version": 1, "files": {"a": 5}}',
        b'{"version": 1, "files": {"a": {"job": "j"}}}',
        json.dumps({"version": 1, "files": {"a": {**OLD, "inode": "x", "seen": 1}}}).encode(),
    ],
)
def test_a_damaged_positions_file_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "positions.db"
    path.write_bytes(content)
    for action in (positions.read, Positions):
        with pytest.raises(InputError, match=r"the positions file .*positions\.db cannot be read") as caught:
            action(path)
        assert "move it away" in caught.value.remedy
    assert path.read_bytes() == content


def test_a_positions_file_with_a_damaged_page_is_named(tmp_path: Path) -> None:
    path = tmp_path / "positions.db"
    opened = Positions(path)
    for number in range(500):
        opened.put(known(id=f"{number:016}"))
    opened.close()
    data = bytearray(path.read_bytes())
    data[4096 * 3 : 4096 * 5] = b"\xa5" * 8192
    path.write_bytes(data)
    with pytest.raises(InputError, match="cannot be read"):
        Positions(path)


@pytest.mark.parametrize("how", ["json", "sqlite"])
def test_a_newer_positions_file_is_refused(tmp_path: Path, how: str) -> None:
    path = tmp_path / "positions.db"
    if how == "json":
        path.write_text('{"version": 3, "files": {}}')
    else:
        Positions(path).close()
        with contextlib.closing(sqlite3.connect(path)) as db, db:
            db.execute("UPDATE about SET value = 3")
    for action in (positions.read, Positions):
        with pytest.raises(InputError, match="has version 3"):
            action(path)


def test_a_place_that_cannot_be_written_is_told_once_and_tried_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(positions, "_RETRY", 0.0)
    (tmp_path / "below").write_text("in the way")
    opened = Positions(tmp_path / "below" / "positions.db")
    opened.put(known())
    assert [opened.save(), opened.save(), opened.durable("ab")] == [False, False, False]
    (tmp_path / "below").unlink()
    assert opened.save()
    assert opened.durable("ab")
    opened.close()
    assert rows(tmp_path / "below" / "positions.db")[0] == {"ab": known()}
    assert len(told(caplog, "positions_not_written")) == 1


def test_a_full_disk_keeps_what_was_put_until_there_is_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(positions, "_RETRY", 0.0)
    opened = Positions(tmp_path / "positions.db")
    opened._db.execute("PRAGMA max_page_count = 8")  # type: ignore[union-attr]  # SQLite then says what it says of a full disk
    for number in range(2000):
        opened.put(known(id=f"{number:016}"))
    assert not opened.save()
    opened._db.execute("PRAGMA max_page_count = 100000")  # type: ignore[union-attr]
    assert opened.save()
    opened.close()
    assert len(positions.read(tmp_path / "positions.db")) == 2000


def test_lag_is_what_is_there_and_not_acknowledged(tmp_path: Path) -> None:
    path, log = tmp_path / "positions.db", tmp_path / "a.log"
    log.write_text("one\ntwo\n")
    status = log.stat()
    opened = Positions(path)
    opened.put(known(path=str(log), device=status.st_dev, inode=status.st_ino, offset=4, seen=int(time.time()) - 60))
    opened.put(known(id="gone", path=str(tmp_path / "gone")))
    opened.close()
    (found,) = positions.lag(path)
    assert (found.path, found.size, found.behind) == (str(log), 8, 4)
    assert 0 <= found.seconds <= 61


def test_a_fingerprint_does_not_grow_over_other_contents(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_bytes(b"one\n")
    with path.open("rb") as file:
        read = partial(os.pread, file.fileno())
        begun = identity.begin("j", str(path), os.fstat(file.fileno()), read)
        path.write_bytes(b"other, longer contents\n")
        assert not identity.grown(identity.moved(begun, 4), read).begins(read)


def test_the_mark_tells_contents_with_the_same_beginning_apart() -> None:
    first, second = b"same first line\nbut then this\n", b"same first line\nand then that, longer\n"

    def reader(content: bytes) -> Callable[[int, int], bytes]:
        return lambda size, at: content[at : at + size]

    begun = known(offset=0, head_size=16, head_crc=zlib.crc32(first[:16]))
    moved = identity.moved(begun, len(first), identity.crc(first))
    assert moved.holds(reader(first))
    assert moved.holds(reader(first + b"more\n"))
    assert moved.begins(reader(second))
    assert not moved.holds(reader(second))
    # The store was ahead of the positions: no mark there, the older one still speaks.
    assert not identity.moved(moved, len(first) + 5).holds(reader(second))
    assert identity.moved(moved, 3).mark_size == 0


# -- files


def files_of(folder: Path, pattern: str = "*log*") -> Files:
    job = Job("j", (Target(f"{folder}/{pattern}", {"job": "j"}),))
    return Files(Plan((job,), (Output("http://x"),), folder / "positions.db"))


def told(caplog: pytest.LogCaptureFixture, event: str) -> list[str]:
    return [r.getMessage() for r in caplog.records if f"event={event}" in r.getMessage()]


def test_a_binary_file_is_skipped_and_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "lastlog").write_bytes(b"\0" * 292)
    (tmp_path / "a.log").write_text("text\n")
    files = files_of(tmp_path)
    for _ in range(3):
        files.discover()
    assert [os.path.basename(t.known.path) for t in files.tails.values()] == ["a.log"]
    assert len(told(caplog, "file_binary")) == 1
    files.close()


def test_an_unreadable_file_is_told_once_and_tried_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.log").write_text("text\n")
    files = files_of(tmp_path)
    real = os.open

    def denied(path: str, *rest: object, **more: object) -> int:
        if str(path).endswith("a.log"):
            raise PermissionError(13, "Permission denied")
        return real(path, *rest, **more)  # type: ignore[arg-type]

    with monkeypatch.context() as patched:
        patched.setattr(os, "open", denied)
        for _ in range(3):
            files.discover()
    assert not files.tails
    (message,) = told(caplog, "file_unreadable")
    assert "Permission denied" in message
    files.discover()
    assert len(files.tails) == 1
    files.close()


def test_a_quiet_file_is_not_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "quiet.log").write_text("text\n")
    files = files_of(tmp_path)
    files.discover()
    (opened,) = files.tails.values()
    files.acknowledged(opened, 5)
    files.save()
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 40 * 86_400)
    files.discover()
    files.close()
    files = files_of(tmp_path)
    files.discover()
    assert [t.position for t in files.tails.values()] == [5]
    files.close()


def test_a_rotated_file_gets_the_labels_of_its_own_target(tmp_path: Path) -> None:
    targets = (Target(f"{tmp_path}/{{x,y}}/*.log", {"t": "1"}), Target(f"{tmp_path}/**/deep/*.log", {"t": "2"}))
    plan = Plan((Job("j", targets),), (Output("http://x"),), tmp_path / "positions.db")
    for name in ("y/a.log", "z/deep/b.log"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text("one\n")
    files = Files(plan)
    files.discover()
    files.close()
    for name in ("y/a.log", "z/deep/b.log"):
        (tmp_path / name).rename(tmp_path / f"{name}.1")
    files = Files(plan)
    files.resume({})
    files.discover()
    found = {Path(t.known.path).name: t.labels["t"] for t in files.tails.values()}
    assert found == {"a.log": "1", "b.log": "2"}
    files.close()


def test_globs_find_what_they_should(tmp_path: Path) -> None:
    names = ["a.log", "b.log", "sub/c.log", "sub/deep/d.log", ".hidden.log", "e.txt", "sub.log/x"]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")

    def found(pattern: str, exclude: str | None = None) -> list[str]:
        target = Target(f"{tmp_path}/{pattern}", {}, f"{tmp_path}/{exclude}" if exclude else None)
        paths = target.paths()
        assert all(target.names(path) for path in paths)
        return [os.path.relpath(path, tmp_path) for path in paths]

    assert found("*.log") == [".hidden.log", "a.log", "b.log"]
    assert found("**/*.log") == [".hidden.log", "a.log", "b.log", "sub/c.log", "sub/deep/d.log"]
    assert found("{a,sub/c}.log") == ["a.log", "sub/c.log"]
    assert found("**/*.log", "**/c.log") == [".hidden.log", "a.log", "b.log", "sub/deep/d.log"]
    assert found("*.log", "[!a]*.log") == ["a.log"]
    assert found("nothing*") == []


def test_a_positions_file_that_is_being_made_holds_nothing_yet(tmp_path: Path) -> None:
    path = tmp_path / "positions.db"
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA journal_mode = WAL")
        assert tables.load(path) == ({}, {})
    path.write_bytes(b"not a database at all")
    with pytest.raises(InputError, match="cannot be read"):
        tables.load(path)
