"""Files that are more than a name and text: links, archives, other encodings, many at a time, none at all."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import socket
import time
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cramjam
import pytest
from logs_support import wait_for
from test_collector_delivery import Memory, brisk, offsets, plan_of, running, write

from atalaia.collector.plan import Decompression, Job, Limits, Plan, Target
from atalaia.collector.reading import positions, tails
from atalaia.collector.reading.contents import Compressed
from atalaia.collector.reading.files import Files
from atalaia.collector.reading.tables import Planned

__all__ = ["brisk"]  # a fixture of all tests here


def zstd(data: bytes) -> bytes:
    return bytes(cramjam.zstd.compress(data))


PACKED: dict[str, Callable[[bytes], bytes]] = {
    "gz": gzip.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "zst": zstd,
    "z": zlib.compress,
}


def with_job(plan: Plan, **changes: object) -> Plan:
    return replace(plan, jobs=(replace(plan.jobs[0], **changes),))  # type: ignore[arg-type]


def events(caplog: pytest.LogCaptureFixture, event: str) -> list[str]:
    return [r.getMessage() for r in caplog.records if f"event={event} " in r.getMessage()]


# -- names


def test_a_file_of_two_jobs_goes_through_both(tmp_path: Path) -> None:
    sink = Memory()
    plan = plan_of(tmp_path)
    other = Job("k", (Target(f"{tmp_path}/a*", {"job": "k"}),))
    plan = replace(plan, jobs=(*plan.jobs, other))
    write(tmp_path / "a.log", "one")
    for number in range(2):
        with running(plan, sink.connect):
            write(tmp_path / "a.log", f"more {number}")
            wait_for(lambda: len(sink.entries) >= 2 * (number + 2))  # noqa: B023 - waited for at once
    assert Counter(sink.lines()) == Counter(["one", "more 0", "more 1"] * 2)
    assert len(positions.read(tmp_path / "positions.db")) == 2


def test_several_names_of_a_file_are_read_once(tmp_path: Path) -> None:
    sink, path = Memory(), tmp_path / "a.log"
    write(path, "one")
    os.link(path, tmp_path / "b.log")
    (tmp_path / "c.log").symlink_to(path)
    with running(plan_of(tmp_path), sink.connect):
        wait_for(lambda: sink.lines() == ["one"])
        write(tmp_path / "b.log", "through the other name")
        wait_for(lambda: len(sink.lines()) == 2)
        write(tmp_path / "c.log", "through the link")
        wait_for(lambda: len(sink.lines()) == 3)
        # The name that it was found by goes; the others are left.
        path.unlink()
        write(tmp_path / "b.log", "last")
        wait_for(lambda: sink.lines()[-1] == "last")
    assert len(sink.lines()) == 4


def test_a_link_that_is_pointed_elsewhere(tmp_path: Path) -> None:
    sink, link = Memory(), tmp_path / "current.log"
    store = tmp_path / "data"
    store.mkdir()
    write(store / "1", "first")
    link.symlink_to(store / "1")
    with running(plan_of(tmp_path), sink.connect):
        wait_for(lambda: sink.lines() == ["first"])
        # Events come from where the file is, not from where the link is.
        write(store / "1", "second")
        wait_for(lambda: len(sink.lines()) == 2)
        write(store / "2", "third")
        (tmp_path / "new").symlink_to(store / "2")
        write(store / "1", "the old one's last")
        (tmp_path / "new").replace(link)
        wait_for(lambda: len(sink.lines()) == 4)
    assert sorted(sink.lines()) == ["first", "second", "the old one's last", "third"]


def test_what_is_no_file_is_told_and_left_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    sink = Memory()
    os.mkfifo(tmp_path / "pipe.log")
    (tmp_path / "folder.log").mkdir()
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "s.log"))
        write(tmp_path / "a.log", "one")
        with running(plan_of(tmp_path), sink.connect) as collector:
            wait_for(lambda: sink.lines() == ["one"])
            for _ in range(3):
                collector._files._next_look = 0.0
                time.sleep(0.05)
    assert len(events(caplog, "file_special")) == 2


def test_a_folder_that_vanishes_and_comes_back(tmp_path: Path) -> None:
    sink = Memory()
    folder = tmp_path / "logs" / "deep"
    with running(with_job(plan_of(tmp_path), targets=(Target(f"{folder}/*.log", {"job": "j"}),)), sink.connect):
        for number in range(3):
            folder.mkdir(parents=True)
            write(folder / "a.log", number)
            wait_for(lambda: len(sink.lines()) == number + 1)  # noqa: B023 - waited for at once
            (folder / "a.log").unlink()
            folder.rmdir()
            folder.parent.rmdir()
    assert sink.lines() == ["0", "1", "2"]


def test_a_binary_file_that_becomes_text_is_read(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    sink, path = Memory(), tmp_path / "lastlog.log"
    path.write_bytes(b"\0" * 292)
    with running(plan_of(tmp_path), sink.connect):
        wait_for(lambda: events(caplog, "file_binary"))
        path.write_text("text now\n")
        wait_for(lambda: sink.lines() == ["text now"])
    assert len(events(caplog, "file_binary")) == 1


# -- archives


@pytest.mark.parametrize("kind", PACKED)
def test_what_is_compressed_is_read_as_it_grows(tmp_path: Path, kind: str) -> None:
    first = "".join(f"{i} of the first\n" for i in range(20_000)).encode()
    second = b"" if kind == "z" else b"".join(b"%d of the second\n" % i for i in range(20_000))
    whole = PACKED[kind](first) + (PACKED[kind](second) if second else b"")
    path = tmp_path / "archive"
    path.write_bytes(whole[: len(whole) // 3])
    content = Compressed(os.open(path, os.O_RDONLY), kind)
    found = b""
    for cut in (len(whole) // 3, len(whole) - 3, len(whole)):
        path.write_bytes(whole[:cut])
        while piece := content.read(5000, len(found)):
            found += piece
        assert (first + second).startswith(found)
        assert content.whole() == (cut == len(whole))
        assert content.broken is None
    assert found == first + second
    assert content.size() == len(found)
    assert content.read(70, 100) == found[100:170]
    content.close()


@pytest.mark.parametrize("kind", PACKED)
def test_a_damaged_archive_gives_what_can_be_read(tmp_path: Path, kind: str) -> None:
    data = os.urandom(300_000).hex().encode()
    packed = bytearray(PACKED[kind](data))
    packed[len(packed) // 2 : len(packed) // 2 + 60] = b"\xff" * 60
    path = tmp_path / "archive"
    path.write_bytes(packed)
    content = Compressed(os.open(path, os.O_RDONLY), kind)
    found = b""
    while piece := content.read(1 << 20, len(found)):
        found += piece
    # A format without checks may pass over it; what comes is not more than there was.
    assert content.broken or kind in ("z", "zst")
    assert not content.whole() or len(found) == len(data)
    assert data.startswith(found[: len(found) // 2])
    content.close()


@pytest.mark.parametrize("how", ["by its name", "enabled", "not wanted"])
def test_archives_are_read_where_that_is_wanted(tmp_path: Path, how: str, caplog: pytest.LogCaptureFixture) -> None:
    sink = Memory()
    lines = [f"{i} {'x' * 50}" for i in range(3000)]
    for kind, pack in PACKED.items():
        (tmp_path / f"{kind}.log.{kind}").write_bytes(pack("".join(f"{kind} {x}\n" for x in lines).encode()))
    plan = plan_of(tmp_path, "*.log.{gz,bz2,xz,zst,z}" if how == "by its name" else "*")
    if how == "by its name":
        plan = with_job(plan, targets=tuple(Target(f"{tmp_path}/*.{kind}", {"job": "j"}) for kind in PACKED))
    else:
        plan = with_job(plan, targets=(Target(f"{tmp_path}/*.log.*", {"job": "j"}),))
    if how == "enabled":
        plan = with_job(plan, decompression=Decompression())
    expected = Counter() if how == "not wanted" else Counter(f"{kind} {x}" for kind in PACKED for x in lines)
    for _ in range(2):
        with running(plan, sink.connect):
            if how == "not wanted":
                wait_for(lambda: len(events(caplog, "file_compressed")) >= 4)
            else:
                wait_for(lambda: len(sink.lines()) >= len(expected))
    found = Counter(line for line in sink.lines() if line[0].isalpha() and line[:3].isascii() and "x" * 50 in line)
    assert found == expected
    if how != "not wanted":
        assert all(k.whole for k in positions.read(tmp_path / "positions.db").values())


# -- encodings


@pytest.mark.parametrize("name", ["utf-16le", "utf-16", "iso-8859-1", "shift_jis", "gbk"])
def test_files_in_other_encodings(tmp_path: Path, name: str) -> None:
    sink, path = Memory(), tmp_path / "a.log"
    text = {"iso-8859-1": "café", "utf-16le": "ऊ ☕", "utf-16": "Ċ ☕"}.get(name, "表示")
    codec = "utf-16-be" if name == "utf-16" else name
    lines = [f"{i} {text * 5}" for i in range(3000)]
    data = ("\ufeff" * name.startswith("utf") + "".join(f"{x}\n" for x in lines)).encode(codec)
    path.write_bytes(data[:7001])
    plan = with_job(plan_of(tmp_path), encoding=name)
    with running(plan, sink.connect):
        wait_for(lambda: len(sink.lines()) > 50)
    with path.open("ab") as file:
        file.write(data[7001:])
    with running(plan, sink.connect):
        wait_for(lambda: len(sink.lines()) == len(lines))
        # An overlong line, and one without an end.
        with path.open("ab") as file:
            file.write(("y" * 9000 + "\nlast").encode(codec))
        wait_for(lambda: "cut" in sink.lines()[-1])
        path.unlink()
        wait_for(lambda: sink.lines()[-1] == "last")
    assert sink.lines()[: len(lines)] == lines
    assert sink.lines()[-2].startswith("yyyy")


def test_utf16_that_nobody_told_of_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    sink = Memory()
    (tmp_path / "a.log").write_bytes("\ufefftext\n".encode("utf-16-le"))
    with running(plan_of(tmp_path), sink.connect):
        wait_for(lambda: events(caplog, "file_binary"))
    assert "encoding: utf-16le" in events(caplog, "file_binary")[0]


# -- many, and slowly


def test_more_files_than_may_be_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tails, "_BUDGET", 8)
    sink = Memory()
    for number in range(60):
        write(tmp_path / f"{number}.log", f"{number} first")
    with running(plan_of(tmp_path), sink.connect) as collector:
        wait_for(lambda: len(sink.lines()) == 60)
        assert len(collector._files.tails._open) <= 8
        for number in range(0, 60, 3):
            write(tmp_path / f"{number}.log", f"{number} second")
        wait_for(lambda: len(sink.lines()) == 80)
        # One that is closed is renamed, and is written to and truncated afterwards.
        (tmp_path / "1.log").rename(tmp_path / "1.old")
        write(tmp_path / "1.old", "1 last")
        (tmp_path / "2.log").write_text("2 again\n")
        wait_for(lambda: len(sink.lines()) == 82)
    assert max(Counter(sink.lines()).values()) == 1


def test_a_rate_is_kept_and_nothing_is_lost(tmp_path: Path) -> None:
    sink = Memory()
    write(tmp_path / "a.log", *range(300))
    plan = replace(plan_of(tmp_path), limits=Limits(rate=400.0, burst=50))
    began = time.monotonic()
    with running(plan, sink.connect):
        wait_for(lambda: len(sink.lines()) == 300)
    assert time.monotonic() - began > 0.5
    assert sink.lines() == [str(i) for i in range(300)]


def test_lines_beyond_a_rate_are_dropped_only_where_that_is_wanted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sink, path = Memory(), tmp_path / "a.log"
    write(path, *range(3000))
    plan = replace(plan_of(tmp_path), limits=Limits(rate=1.0, burst=50, drop=True))
    with running(plan, sink.connect):
        wait_for(lambda: offsets(tmp_path).get("a.log") == path.stat().st_size)
    assert sink.lines()[:50] == [str(i) for i in range(50)]
    assert 50 <= len(sink.lines()) < 60
    assert len(events(caplog, "file_rate_dropped")) == 1


# -- positions


def test_new_files_wait_while_their_ids_cannot_be_written(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(positions, "_RETRY", 0.01)
    sink = Memory()
    logs = tmp_path / "logs"
    logs.mkdir()
    write(logs / "a.log", "one")
    (tmp_path / "state").write_text("in the way")
    plan = replace(plan_of(logs), positions=tmp_path / "state" / "positions.db")
    with running(plan, sink.connect):
        wait_for(lambda: events(caplog, "positions_not_written"))
        time.sleep(0.1)
        assert sink.lines() == []
        (tmp_path / "state").unlink()
        wait_for(lambda: sink.lines() == ["one"])
    assert len(events(caplog, "positions_not_written")) == 1


def test_planned_chunks_are_read_again_as_they_were(tmp_path: Path) -> None:
    write(tmp_path / "a.log", *range(100))
    plan = plan_of(tmp_path)
    files = Files(plan)
    files.look()
    ((tail, chunk),) = files.gather()
    ends = [chunk.offset_of(lines) for lines in (10, 40, 100)]
    starts = [0, *ends[:2]]
    known = chunk.known_id
    assert files.plan([Planned(known, a, b, 1000 + a) for a, b in zip(starts, ends, strict=True)])
    files.acknowledged(known, tail.hold(chunk, 10))
    files.close()
    write(tmp_path / "a.log", "more")
    files = Files(plan)
    files.look()
    again = [found for _ in range(3) for _, found in files.gather()]
    assert [(c.known_id, c.start, c.end) for c in again[:2]] == [
        (known, a, b) for a, b in zip(starts, ends, strict=True)
    ][1:]
    assert [c.read_at for c in again[:2]] == [1000 + starts[1], 1000 + starts[2]]
    assert all(c.flush for c in again[:2])
    assert again[2].block == b"more\n"
    assert again[2].read_at > 10**18
    files.close()


def test_lags_tell_how_far_behind_each_file_is(tmp_path: Path) -> None:
    write(tmp_path / "a.log", "one", "two")
    files = Files(plan_of(tmp_path))
    files.look()
    ((tail, chunk),) = files.gather()
    (lag,) = files.lags()
    assert (lag.path, lag.job, lag.size, lag.behind) == (str(tmp_path / "a.log"), "j", 8, 8)
    assert lag.seconds >= 0
    files.acknowledged(chunk.known_id, tail.hold(chunk, 2))
    (lag,) = files.lags()
    assert (lag.behind, lag.seconds) == (0, 0.0)
    files.close()
