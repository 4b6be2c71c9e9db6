"""Files: whole lines of one, whatever its bytes; and which files there are."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from atalaia.collector.plan import Job, Output, Plan, Target
from atalaia.collector.reading import contents, identity
from atalaia.collector.reading.chunk import BLOCK, Chunk
from atalaia.collector.reading.contents import Plain, looks_binary
from atalaia.collector.reading.files import Files
from atalaia.collector.reading.tail import Replaced, Tail

JOB = Job("j", (Target("*", {"job": "j"}),))
LONGEST = 1000


def tail_of(path: Path, longest: int = LONGEST, encoding: str | None = None) -> Tail:
    content = Plain(os.open(path, os.O_RDONLY))
    begun = identity.begin("j", str(path), path.stat(), content.read)
    return Tail(replace(JOB, encoding=encoding), {}, begun, content, longest)


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

    monkeypatch.setattr(contents.os, "pread", pread)
    opened = tail_of(path)
    (chunk,) = drain(opened, BLOCK)
    assert chunk.block == b"before\n"
    with path.open("ab") as file:
        file.write(b"tail\nafter\n")
    cut, after = drain(opened, BLOCK)
    assert cut.cut == size + 4
    assert cut.block.startswith(b"head\0")
    assert len(cut.block) <= LONGEST + 1
    assert (cut.start, cut.end) == (7, 7 + size + 5)
    assert after.block == b"after\n"
    assert largest <= BLOCK
    opened.close()


def test_a_file_cut_off_inside_an_overlong_line_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_bytes(b"x" * 5000)
    opened = tail_of(path)
    assert drain(opened, most=1000) == []
    assert drain(opened, most=1000) == []
    path.write_bytes(b"new\n")
    with pytest.raises(Replaced):
        opened.read(1000)
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
def test_binary_files_are_recognised(content: bytes, binary: bool) -> None:
    assert looks_binary(content) is binary


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
        files.look(everywhere=True)
        files.gather()
    assert [os.path.basename(t.known.path) for t in files.tails if not t.fresh] == ["a.log"]
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
            files.look(everywhere=True)
    assert not len(files.tails)
    (message,) = told(caplog, "file_unreadable")
    assert "Permission denied" in message
    files.look(everywhere=True)
    assert len(files.tails) == 1
    files.close()


def test_a_quiet_file_is_not_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "quiet.log").write_text("text\n")
    files = files_of(tmp_path)
    files.look()
    ((opened, chunk),) = files.gather()
    files.acknowledged(chunk.known_id, opened.hold(chunk, 1))
    files.save()
    now, later = time.time(), time.monotonic() + 40 * 86_400
    monkeypatch.setattr(time, "time", lambda: now + 40 * 86_400)
    monkeypatch.setattr(time, "monotonic", lambda: later)
    files.look()
    files.close()
    files = files_of(tmp_path)
    files.look()
    assert [t.position for t in files.tails] == [5]
    files.close()


def test_a_rotated_file_gets_the_labels_of_its_own_target(tmp_path: Path) -> None:
    targets = (Target(f"{tmp_path}/{{x,y}}/*.log", {"t": "1"}), Target(f"{tmp_path}/**/deep/*.log", {"t": "2"}))
    plan = Plan((Job("j", targets),), (Output("http://x"),), tmp_path / "positions.db")
    for name in ("y/a.log", "z/deep/b.log"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text("one\n")
    files = Files(plan)
    files.look()
    assert len(files.gather()) == 2
    files.close()
    for name in ("y/a.log", "z/deep/b.log"):
        (tmp_path / name).rename(tmp_path / f"{name}.1")
    files = Files(plan)
    files.resume({})
    files.look()
    found = {Path(t.known.path).name: t.labels["t"] for t in files.tails}
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


def test_a_fingerprint_is_taken_of_what_was_read_and_not_of_what_stands_there_later(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_bytes(b"")
    opened = tail_of(path)
    path.write_bytes(b"the first\n")
    (chunk,) = drain(opened)
    opened.hold(chunk, 1)
    path.write_bytes(b"quite another content, and longer\n")
    opened.acknowledged(chunk.end)
    assert opened.known.begins(lambda count, at: b"the first\n"[at : at + count])
    assert opened.known.head_size == 10
    with pytest.raises(Replaced):
        opened.read()
    opened.close()
