"""Positions: kept as they change, known again after kill -9, taken over, refused when damaged."""

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

from atalaia.collector.reading import identity, positions, tables
from atalaia.collector.reading.identity import Known
from atalaia.collector.reading.positions import Positions
from atalaia.collector.reading.tables import Planned
from atalaia.environment.errors import InputError


def told(caplog: pytest.LogCaptureFixture, event: str) -> list[str]:
    return [r.getMessage() for r in caplog.records if f"event={event}" in r.getMessage()]


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


def test_a_positions_file_that_is_being_made_holds_nothing_yet(tmp_path: Path) -> None:
    path = tmp_path / "positions.db"
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA journal_mode = WAL")
        assert tables.load(path) == ({}, {})
    path.write_bytes(b"not a database at all")
    with pytest.raises(InputError, match="cannot be read"):
        tables.load(path)
