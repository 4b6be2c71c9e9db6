from __future__ import annotations

import errno
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from tests.conftest import soak
from tests.integration.listeners_support import wait_until

from atalaia.collector.formats.spool import records
from atalaia.collector.listeners.records import placed
from atalaia.collector.listeners.spool import Spool
from atalaia.environment.errors import InputError
from atalaia.store.batch import METADATA, SCHEMA


def table_of(*lines: str, labels: str = '{"job":"j"}') -> pa.Table:
    count = len(lines)
    columns = [
        pa.array(range(count), pa.int64()),
        pa.array([labels] * count).dictionary_encode(),
        pa.array(lines, pa.utf8()),
        pa.nulls(count, METADATA),
    ]
    return pa.Table.from_arrays(columns, schema=SCHEMA)


def lines_of(directory: Path) -> list[str]:
    block = b"".join(path.read_bytes() for path in sorted(directory.glob("*.jsonl")))
    found: list[str] = records(block, {}).lines.to_pylist()
    return found


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    opened = Spool(tmp_path / "s", "j", most=200_000, segment=2_000)
    yield opened
    opened.close()


def test_segments_are_rolled_and_released_once_acknowledged(spool: Spool) -> None:
    for number in range(100):
        assert spool.append(table_of(f"line {number} {'x' * 50}"))
    paths = sorted(spool.directory.glob("*.jsonl"))
    assert len(paths) > 3
    assert [len(line.split()) for line in lines_of(spool.directory)] == [3] * 100
    sizes = {str(path): path.stat().st_size for path in paths}
    spool.release({str(paths[0]): sizes[str(paths[0])] - 1})
    assert sorted(spool.directory.glob("*.jsonl")) == paths
    spool.release(sizes)
    assert sorted(spool.directory.glob("*.jsonl")) == paths[-1:]
    assert spool.size == sizes[str(paths[-1])]


def test_a_full_spool_refuses_and_takes_again_when_there_is_room(
    spool: Spool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    while spool.append(table_of("x" * 10_000)):  # 200 KB fit
        assert spool.size < 250_000
    before = lines_of(spool.directory)
    assert not spool.append(table_of("y" * 10_000), patience=0.05)
    assert lines_of(spool.directory) == before
    assert caplog.text.count("spool_full") == 1
    waiting: list[bool] = []
    thread = threading.Thread(target=lambda: waiting.append(spool.append(table_of("z" * 10_000), patience=20)))
    thread.start()
    spool.release({str(path): path.stat().st_size for path in spool.directory.glob("*.jsonl")})
    thread.join(20)
    assert waiting == [True]
    assert lines_of(spool.directory)[-1] == "z" * 10_000
    assert "spool_has_room" in caplog.text


def test_a_torn_last_line_is_cut_off_and_the_place_of_each_source_known_again(tmp_path: Path) -> None:
    spool = Spool(tmp_path, "j", segment=300)
    for number in range(30):
        spool.append(placed(table_of(f"a {number}"), "a", [str(number)]))
    spool.append(placed(table_of("b"), "b", ["first"]))
    for number in range(30, 40):
        spool.append(placed(table_of(f"a {number}"), "a", [str(number)]))
    spool.forget("a")
    spool.append(placed(table_of("a again"), "a", ["41"]))
    spool.close()
    last = sorted(tmp_path.glob("*.jsonl"))[-1]
    whole = lines_of(tmp_path)
    with last.open("ab") as file:
        file.write(b'{"ts":1,"labels":"{}","line":"torn","source":"a","cursor":"99"')
    spool = Spool(tmp_path, "j", segment=300)
    assert spool.cursors == {"a": "41", "b": "first"}
    assert lines_of(tmp_path) == whole
    spool.append(table_of("next"))
    spool.close()
    assert lines_of(tmp_path) == [*whole, "next"]
    # A segment that has not even its first line: the one before tells the places.
    newest = sorted(tmp_path.glob("*.jsonl"))[-1]
    (tmp_path / f"{int(newest.stem) + 1:08}.jsonl").write_bytes(b'{"curs')
    spool = Spool(tmp_path, "j", segment=300)
    assert spool.cursors["b"] == "first"
    spool.append(table_of("and on"))
    spool.close()
    assert lines_of(tmp_path)[-1] == "and on"


def test_one_collector_at_a_time(spool: Spool) -> None:
    with pytest.raises(InputError, match="another collector uses it"):
        Spool(spool.directory, "j")


def test_many_threads_wait_for_few_syncs(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    go = threading.Event()
    real = os.fdatasync

    def slow(descriptor: int) -> None:
        go.wait(10)
        real(descriptor)
        synced.append(descriptor)

    monkeypatch.setattr(os, "fdatasync", slow)
    kept: list[bool] = []
    threads = [
        threading.Thread(target=lambda n=n: kept.append(spool.append(table_of(f"line {n}"), sync=True)))  # type: ignore[misc]
        for n in range(10)
    ]
    for thread in threads:
        thread.start()
    wait_until(lambda: len(lines_of(spool.directory)) == 10)
    assert not kept
    go.set()
    for thread in threads:
        thread.join()
    assert kept == [True] * 10
    assert len(synced) <= 2


def test_a_full_disk_is_told_and_nothing_of_the_append_stays(
    spool: Spool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    spool.append(table_of("before"))
    real = os.write
    writes = iter([10, None])

    def failing(descriptor: int, data: bytes) -> int:
        if (most := next(writes)) is None:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(descriptor, data[:most])

    monkeypatch.setattr(os, "write", failing)
    assert not spool.append(table_of("lost?"))
    monkeypatch.setattr(os, "write", real)
    assert "No space left" in caplog.text
    assert lines_of(spool.directory) == ["before"]
    assert spool.append(table_of("after"))
    assert lines_of(spool.directory) == ["before", "after"]


_WRITER = """
import sys, itertools
from pathlib import Path
from atalaia.collector.listeners.records import placed
from atalaia.collector.listeners.spool import Spool
from tests.integration.test_spool import table_of
spool = Spool(Path(sys.argv[1]), "j", segment=4000)
first = int(spool.cursors.get("a", "-1")) + 1
for at in itertools.count(first, 7):
    table = placed(table_of(*[f"line {n}" for n in range(at, at + 7)]), "a", [str(n) for n in range(at, at + 7)])
    assert spool.append(table, sync=at % 3 == 0)
    print(at + 6, flush=True)
"""


def test_a_writer_killed_at_any_moment_goes_on_where_it_stood(tmp_path: Path) -> None:
    told = -1
    for round_ in range(20 if soak() else 2):
        writer = subprocess.Popen([sys.executable, "-c", _WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        assert writer.stdout is not None
        with writer.stdout:
            for _ in range(20 + 31 * (round_ % 7)):
                told = int(writer.stdout.readline())
            writer.send_signal(signal.SIGKILL)
            writer.wait()
    Spool(tmp_path, "j").close()
    found = lines_of(tmp_path)
    assert found == [f"line {n}" for n in range(len(found))]
    assert len(found) > told
