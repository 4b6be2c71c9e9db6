from __future__ import annotations

import contextlib
import os
import random
import resource
import sqlite3
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import wait as wait_futures
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from logs_support import child, entries, opened, parquet_files, sql, stored, stored_lines, wait_for

from atalaia.environment.errors import AtalaiaError
from atalaia.store import recovery, segment
from atalaia.store.batch import Limits, Source, encode
from atalaia.store.catalogue import Catalogue
from atalaia.store.commit import StoreUnavailable
from atalaia.store.held import Held
from atalaia.store.options import Options
from atalaia.store.retention import Retention
from atalaia.store.store import Store
from atalaia.store.wal import LogFile

LINES = [f"line {i}" for i in range(5)]


def append(store: Store, table: pa.Table, *sources: Source) -> object:
    return store.append(table, "fake", sources).result(20)


def test_what_is_acknowledged_is_there_before_and_after_everything(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        append(store, entries(LINES))
        assert stored_lines(store) == LINES
        store.flush()
        assert stored_lines(store) == LINES
        append(store, entries(["more"]))
        before = stored(store)
    with opened(tmp_path) as store:
        assert stored(store) == before
        append(store, entries(["again"]))
        assert stored_lines(store) == [*LINES, "more", "again"]


def test_a_push_of_nothing_may_come_first(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        assert store.append(entries([]), "fake", (Source("file", 0, 7),)).result(20).rows == 0
        assert stored(store) == []
        assert store.append(entries(["one"]), "fake").result(20).rows == 1
        assert stored_lines(store) == ["one"]
        assert store.position("file") == 7
    with opened(tmp_path) as store:
        assert stored_lines(store) == ["one"]
        assert store.position("file") == 7


def test_close_makes_a_segment_of_what_is_in_memory(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        append(store, entries(LINES))
    assert len(parquet_files(tmp_path)) == 1
    assert sum(p.stat().st_size for p in (tmp_path / "wal").iterdir()) == 8
    with opened(tmp_path) as store:
        assert store.recovered.replayed == 0


def test_a_segment_has_the_documented_form(tmp_path: Path) -> None:
    ts = [30, 10, 20, 10, 30]
    with opened(tmp_path) as store:
        append(store, entries(LINES, ts, {"b": "2", "a": "1"}, [("k", "v\0"), ("é", "")]))
        append(store, entries(["\0 zero", "ünïcode\nnext"], [10, 5], {"a": "other"}))
    (path,) = parquet_files(tmp_path)
    assert path.name == f"{5:020d}-{1:016d}.parquet"
    table = pq.read_table(path, page_checksum_verification=True)
    assert [(f.name, str(f.type)) for f in table.schema] == [
        ("ts", "int64"),
        ("seq", "int64"),
        ("stream_id", "int32"),
        ("labels", "string"),
        ("line", "string"),
        ("metadata", "map<string, string ('metadata')>"),
    ]
    rows = table.to_pylist()
    assert [(r["ts"], r["line"]) for r in rows] == [
        (5, "ünïcode\nnext"),
        (10, "line 1"),
        (10, "line 3"),
        (10, "\0 zero"),
        (20, "line 2"),
        (30, "line 0"),
        (30, "line 4"),
    ]
    assert [r["seq"] for r in rows if r["ts"] == 10] == sorted(r["seq"] for r in rows if r["ts"] == 10)
    assert rows[0]["metadata"] is None
    assert rows[1]["metadata"] == [("k", "v\0"), ("é", "")]
    assert rows[0]["labels"] == '{"a":"other"}'
    assert rows[1]["labels"] == '{"a":"1","b":"2"}'
    column = pq.ParquetFile(path).metadata.row_group(0).column(4)
    assert column.compression == "LZ4"
    assert sql(f"SELECT ts, line, labels FROM '{path}' ORDER BY ts, seq LIMIT 1") == [
        (5, "ünïcode\nnext", '{"a":"other"}')
    ]
    assert sql(f"SELECT count(*), max(metadata['k']) FROM '{path}'") == [(7, "v\0")]


def test_page_checksums_find_a_flipped_bit(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        append(store, entries([f"line {i} {i * 7919 % 1013}" for i in range(2000)]))
    (path,) = parquet_files(tmp_path)
    column = pq.ParquetFile(path).metadata.row_group(0).column(4)
    data = bytearray(path.read_bytes())
    data[column.data_page_offset + column.total_compressed_size // 2] ^= 4
    path.write_bytes(data)
    with pytest.raises(OSError, match=r"(?i)crc"):
        pq.read_table(path, page_checksum_verification=True)


def test_the_catalogue_describes_the_segment(tmp_path: Path) -> None:
    import zlib

    with opened(tmp_path) as store:
        append(store, entries(["abc", "é"], [7, 3]), Source("s", 0, 9))
    (path,) = parquet_files(tmp_path)
    db = sqlite3.connect(tmp_path / "catalogue.sqlite")
    try:
        row = db.execute(
            "SELECT name, rows, bytes, line_bytes, min_ts, max_ts, first_seq, last_seq, crc32 FROM segments"
        ).fetchone()
        data = path.read_bytes()
        assert row == (path.name, 2, len(data), 5, 3, 7, 1, 2, zlib.crc32(data))
        held = Held.decode(db.execute("SELECT held FROM segments").fetchone()[0])
        columns = (held.streams, held.rows, held.line_bytes, held.min_ts, held.max_ts)
        assert [column.tolist() for column in columns] == [[1], [2], [5], [3], [7]]
        assert db.execute("SELECT id, tenant, labels FROM streams").fetchall() == [(1, "fake", '{"job":"test"}')]
        assert db.execute("SELECT id, position FROM sources").fetchall() == [("s", 9)]
        assert dict(db.execute("SELECT key, value FROM store")) == {
            "format": 2,
            "generation": 1,
            "last_seq": 2,
            "number": 1,
        }
    finally:
        db.close()


def test_large_segments_have_several_row_groups_in_order(tmp_path: Path, rng: random.Random) -> None:
    count = 3000
    ts = [rng.randrange(1000) for _ in range(count)]
    with opened(tmp_path) as store:
        for at in range(0, count, 1000):
            append(store, entries([f"{i} ".ljust(20_000, "x") for i in range(at, at + 1000)], ts[at : at + 1000]))
    (path,) = parquet_files(tmp_path)
    assert pq.ParquetFile(path).metadata.num_row_groups > 2
    rows = sql(f"SELECT ts, seq FROM read_parquet('{path}')")
    assert rows == sorted(rows)
    assert [t for t, _ in sorted(rows, key=lambda r: r[1])] == ts


def test_bad_entries_are_refused_alone(tmp_path: Path) -> None:
    options = Options(limits=Limits(line=10))
    table = entries(["good", "x" * 11, "also good"])
    with opened(tmp_path, options) as store:
        appended = store.append(table, "fake", (Source("s", 0, 30),), encode(table)).result(20)
        assert (appended.rows, appended.refused.count) == (2, 1)
        assert "line is 11 bytes long; the limit is 10" in appended.refused.message
        # Nothing left of a push: its source moves all the same, or it would be sent for ever.
        appended = store.append(entries(["x" * 11]), "fake", (Source("s", 30, 41),)).result(20)
        assert (appended.rows, appended.refused.count) == (0, 1)
        assert store.position("s") == 41
        assert stored_lines(store) == ["good", "also good"]
    with opened(tmp_path, options) as store:
        assert stored_lines(store) == ["good", "also good"]
        assert store.position("s") == 41


def test_a_push_without_entries_moves_its_source(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        append(store, entries([]), Source("s", 0, 5))
        store.flush()
        append(store, entries([]), Source("s", 5, 6))
        assert store.position("s") == 6
    with opened(tmp_path) as store:
        assert store.position("s") == 6
        assert stored(store) == []


# -- idempotent sources


@pytest.mark.parametrize("between", ["nothing", "flush", "reopen"])
def test_repeated_overlapping_and_gapped_pushes_are_not_stored(tmp_path: Path, between: str) -> None:
    store = Store(tmp_path)
    try:
        assert append(store, entries(["a"]), Source("f", 0, 10), Source("g", 0, 5)).rows == 1
        if between == "flush":
            store.flush()
        if between == "reopen":
            store.close()
            store = Store(tmp_path)
        for start, end in ((0, 10), (5, 15), (11, 20), (0, 20), (9, 10)):
            answer = append(store, entries(["wrong"]), Source("f", start, end))
            assert (answer.rows, dict(answer.conflict or {})) == (0, {"f": 10})
        # One source that stands elsewhere holds back the whole batch, and both are told.
        answer = append(store, entries(["wrong"]), Source("f", 10, 20), Source("g", 0, 5), Source("new", 0, 3))
        assert answer.conflict == {"f": 10, "g": 5, "new": 0}
        assert store.position("new") is None
        assert append(store, entries(["b"]), Source("f", 10, 20), Source("g", 5, 6)).rows == 1
        assert stored_lines(store) == ["a", "b"]
        assert (store.position("f"), store.position("g")) == (20, 6)
    finally:
        store.close()


def test_an_unknown_source_may_begin_anywhere(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        assert append(store, entries(["a"]), Source("f", 100, 110)).rows == 1
        assert append(store, entries(["a"]), Source("f", 100, 110)).conflict == {"f": 110}


def test_of_many_equal_pushes_at_once_one_is_stored(tmp_path: Path) -> None:
    with opened(tmp_path) as store, ThreadPoolExecutor(8) as pool:
        pushes = [pool.submit(store.append, entries(["a"]), "fake", (Source("f", 0, 10),)) for _ in range(40)]
        answers = [p.result().result(20) for p in pushes]
        assert sum(a.rows for a in answers) == 1
        assert all(a.conflict == {"f": 10} for a in answers if not a.rows)
        assert stored_lines(store) == ["a"]


# -- concurrency


def test_every_entry_of_many_threads_is_stored_once(tmp_path: Path) -> None:
    options = Options(flush_bytes=50_000)
    with opened(tmp_path, options) as store:

        def work(thread: int) -> None:
            futures = [
                store.append(entries([f"{thread} {i} {j}" for j in range(50)], labels={"t": str(thread)}), "fake")
                for i in range(40)
            ]
            for future in futures:
                assert future.result(20).rows == 50

        with ThreadPoolExecutor(6) as pool:
            list(pool.map(work, range(6)))
        append(store, entries(["last"]))
        store.flush()
        assert len(parquet_files(tmp_path)) > 1
        found = stored(store)
        # Each thread's entries arrived in the order of its pushes.
        for thread in range(6):
            mine = [line for _, _, labels, line in found if labels == f'{{"t":"{thread}"}}']
            assert mine == [f"{thread} {i} {j}" for i in range(40) for j in range(50)]
        assert len(found) == 6 * 40 * 50 + 1
    with opened(tmp_path, options) as store:
        assert stored(store) == found


def test_a_snapshot_sees_each_acknowledged_entry_once_while_segments_are_made(tmp_path: Path) -> None:
    stop = threading.Event()
    with opened(tmp_path, Options(flush_bytes=20_000)) as store:
        counted = [0]

        def write() -> None:
            while not stop.is_set():
                append(store, entries([str(counted[0] + i) for i in range(100)]))
                counted[0] += 100

        thread = threading.Thread(target=write)
        thread.start()
        try:
            looks = 0
            while looks < 30 or len(parquet_files(tmp_path)) < 3:
                least = counted[0]
                found = stored_lines(store)
                assert len(found) >= least
                assert found == [str(i) for i in range(len(found))]
                looks += 1
        finally:
            stop.set()
            thread.join()


def test_a_snapshot_does_not_change_and_keeps_its_files(tmp_path: Path) -> None:
    with opened(tmp_path, Options(retention=Retention(size=0))) as store:
        append(store, entries(["memory only"]))
        with store.snapshot() as snapshot:
            append(store, entries(["later"]))
            assert [p.rows for p in snapshot.parts] == [1]
        with store.snapshot() as snapshot:
            pass
        # Retention of size 0 removes each segment as it is made, but not under a reader's hands.
        with store.snapshot():
            store.flush()
            wait_for(lambda: not stored(store), what="the segment is given up")
            (path,) = parquet_files(tmp_path)
            with store.snapshot():
                pass
            assert sql(f"SELECT count(*) FROM '{path}'") == [(2,)]
        assert not parquet_files(tmp_path)


# -- retention


def test_retention_by_age_and_size_lasts_over_reopening(tmp_path: Path) -> None:
    now = time.time_ns()
    hour = 3600 * 10**9
    with opened(tmp_path) as store:
        for age in (30, 3, 2, 1):
            append(store, entries([f"{age} hours"], [now - age * hour]))
            store.flush()
    size = max(p.stat().st_size for p in parquet_files(tmp_path))
    with opened(tmp_path, Options(retention=Retention(age=24 * hour, size=2 * size + size // 2))) as store:
        append(store, entries(["now"], [now]))
        store.flush()
        wait_for(lambda: len(parquet_files(tmp_path)) == 2, what="old segments are removed")
        assert stored_lines(store) == ["1 hours", "now"]
    with opened(tmp_path) as store:
        assert stored_lines(store) == ["1 hours", "now"]
        seqs = [seq for _, seq, _, _ in stored(store)]
        append(store, entries(["next"]))
        assert stored(store)[-1][1] > max(seqs)


def test_a_seq_is_never_given_again_after_everything_expired(tmp_path: Path) -> None:
    with opened(tmp_path, Options(retention=Retention(size=0))) as store:
        append(store, entries(LINES))
        store.flush()
        wait_for(lambda: not parquet_files(tmp_path), what="the segment is given up")
    with opened(tmp_path) as store:
        assert stored(store) == []
        append(store, entries(["next"]))
        assert [seq for _, seq, _, _ in stored(store)] == [6]


# -- two processes, foreign directories


def test_a_second_process_is_refused(tmp_path: Path) -> None:
    code = f"from atalaia.store.store import Store; from pathlib import Path; Store(Path({str(tmp_path)!r}))"
    with opened(tmp_path) as store:
        append(store, entries(["mine"]))
        result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
        assert result.returncode == 1
        assert "another process has the store at" in result.stderr
        with pytest.raises(AtalaiaError, match="another process has the store"):
            Store(tmp_path)
        append(store, entries(["still mine"]))
    with opened(tmp_path) as store:
        assert stored_lines(store) == ["mine", "still mine"]


def test_a_newer_format_is_refused_and_nothing_stays_open(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        append(store, entries(LINES))
    change(tmp_path, "UPDATE store SET value = 3 WHERE key = 'format'")
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(2):
        with pytest.raises(AtalaiaError, match="has format 3; this Atalaia knows format 2"):
            Store(tmp_path)
    assert len(os.listdir("/proc/self/fd")) == before
    change(tmp_path, "UPDATE store SET value = 2 WHERE key = 'format'")
    with opened(tmp_path) as store:
        assert stored_lines(store) == LINES


def change(directory: Path, statement: str) -> None:
    db = sqlite3.connect(directory / "catalogue.sqlite")
    with db:
        db.execute(statement)
    db.close()


def test_a_damaged_catalogue_is_named(tmp_path: Path) -> None:
    (tmp_path / "catalogue.sqlite").write_bytes(b"this is not a database, at all" * 40)
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(AtalaiaError, match=r"catalogue\.sqlite cannot be opened"):
        Store(tmp_path)
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("damage", ["missing", "cut short"])
def test_a_damaged_segment_is_named_and_left_out_until_it_is_back(tmp_path: Path, damage: str) -> None:
    with opened(tmp_path) as store:
        append(store, entries(LINES))
    (path,) = parquet_files(tmp_path)
    with opened(tmp_path) as store:
        append(store, entries(["more"]))
    data = path.read_bytes()
    path.unlink() if damage == "missing" else os.truncate(path, len(data) - 1)
    with opened(tmp_path) as store:
        assert store.recovered.damaged == [path.name]
        assert stored_lines(store) == ["more"]
    path.write_bytes(data)
    with opened(tmp_path) as store:
        assert store.recovered.damaged == []
        assert stored_lines(store) == [*LINES, "more"]


def test_files_without_a_catalogue_row_are_removed(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        append(store, entries(LINES))
    (path,) = parquet_files(tmp_path)
    for name in ("0-9.parquet", "0-9.parquet.partial"):
        path.with_name(name).write_bytes(path.read_bytes())
    with opened(tmp_path) as store:
        assert list((tmp_path / "segments").iterdir()) == [path]
        assert stored_lines(store) == LINES


def test_a_folder_among_the_segments_is_left_alone(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        append(store, entries(LINES))
    (tmp_path / "segments" / "notes").mkdir()
    with opened(tmp_path) as store:
        assert stored_lines(store) == LINES
    assert (tmp_path / "segments" / "notes").is_dir()


# -- pushes and their callers


def test_a_caller_that_gives_up_does_not_harm_the_store(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        futures = [store.append(entries([str(i)]), "fake") for i in range(50)]
        assert not any(future.cancel() for future in futures)
        wait_futures(futures, 20)
        assert stored_lines(store) == [str(i) for i in range(50)]


def test_pushes_after_close_are_refused_and_none_hangs(tmp_path: Path) -> None:
    store = Store(tmp_path)
    futures = []
    begun = threading.Event()

    def push() -> None:
        for i in range(400):
            futures.append(store.append(entries([str(i)]), "fake"))
            if i == 20:
                begun.set()

    thread = threading.Thread(target=push)
    thread.start()
    begun.wait(20)
    store.close()
    thread.join(20)
    assert not wait_futures(futures, 20).not_done
    refused = [f for f in futures if f.exception()]
    assert all(isinstance(f.exception(), StoreUnavailable) for f in refused)
    with opened(tmp_path) as store:
        assert len(stored(store)) == len(futures) - len(refused)


# -- disks


def fill_disk(monkeypatch: pytest.MonkeyPatch, full: threading.Event, suffix: str) -> None:
    """While `full` is set, files that end in `suffix` take 20 bytes a write and then no more."""
    real = os.write

    def write(descriptor: int, data: bytes) -> int:
        if full.is_set() and os.readlink(f"/proc/self/fd/{descriptor}").endswith(suffix):
            if len(data) <= 20:
                raise OSError(28, "No space left on device")
            return real(descriptor, memoryview(data)[: len(data) - 20])
        return real(descriptor, data)

    monkeypatch.setattr(os, "write", write)


def test_a_full_disk_refuses_pushes_clearly_and_later_ones_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = threading.Event()
    fill_disk(monkeypatch, full, ".wal")
    with opened(tmp_path) as store:
        append(store, entries(["before"]), Source("f", 0, 5))
        full.set()
        for _ in range(3):
            with pytest.raises(StoreUnavailable, match="No space left") as caught:
                append(store, entries(["during"]), Source("f", 5, 9))
            assert "free disk space" in caught.value.remedy
        assert store.position("f") == 5
        assert stored_lines(store) == ["before"]
        full.clear()
        append(store, entries(["after"]), Source("f", 5, 9))
        before = stored(store)
    with opened(tmp_path) as store:
        assert stored(store) == before
        assert [line for _, _, _, line in before] == ["before", "after"]


def test_a_file_size_limit_of_the_system_is_survived(tmp_path: Path) -> None:
    code = f"""
import resource, signal, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from pathlib import Path
from logs_support import *
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, resource.RLIM_INFINITY))
store = Store(Path({str(tmp_path)!r}))
taken = 0
try:
    while True:
        store.append(entries([f"{{taken}} " + os.urandom(2000).hex()]), "fake").result(20)
        taken += 1
except AtalaiaError as error:
    assert "File too large" in str(error), error
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
store.append(entries(["after"]), "fake").result(20)
print(taken, flush=True)
os._exit(0)
"""
    code = code.replace("from pathlib", "from atalaia.environment.errors import AtalaiaError\nfrom pathlib", 1)
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr
    taken = int(result.stdout)
    assert taken > 3
    with opened(tmp_path) as store:
        assert store.recovered.cuts == []
        assert [line.split()[0] for line in stored_lines(store)] == [*map(str, range(taken)), "after"]
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 60_000


def test_when_segments_cannot_be_written_pushes_are_refused_and_close_returns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = threading.Event()
    real = segment.write

    def write(*arguments: object) -> object:
        if broken.is_set():
            raise OSError(28, "No space left on device")
        return real(*arguments)

    monkeypatch.setattr(segment, "write", write)
    taken = []
    store = Store(tmp_path, Options(flush_bytes=1000))
    try:
        broken.set()
        refused = None
        for i in range(2000):
            try:
                append(store, entries([f"{i}".ljust(300)]))
            except StoreUnavailable as error:
                refused = error
                break
            taken.append(str(i))
        assert refused is not None
        assert "cannot be written to a segment: [Errno 28]" in str(refused)
        assert [line.strip() for line in stored_lines(store)] == taken
        with pytest.raises(StoreUnavailable, match="No space left"):
            store.flush(0.2)
        # It heals without a restart.
        broken.clear()
        wait_for(lambda: store._failure is None, what="segments are written again")
        store.flush()
        append(store, entries(["healed"]))
        taken.append("healed")
        broken.set()
        with contextlib.suppress(StoreUnavailable):
            for i in range(2000):
                append(store, entries([f"x{i}".ljust(300)]))
                taken.append(f"x{i}")
        assert 0 < len(taken) < 2000
    finally:
        began = time.monotonic()
        store.close()
        assert time.monotonic() - began < 15
    broken.clear()
    with opened(tmp_path) as store:
        assert [line.strip() for line in stored_lines(store)] == taken


def test_a_segment_that_the_catalogue_could_not_take_is_written_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each further try would leave a file, and fill the disk that is full already."""
    tries = threading.Semaphore(0)

    def full(*_: object) -> None:
        tries.release()
        raise sqlite3.OperationalError("database or disk is full")

    with opened(tmp_path) as store:
        append(store, entries(LINES))
        with monkeypatch.context() as patched:
            patched.setattr(Catalogue, "add", full)
            with pytest.raises(StoreUnavailable, match="disk is full"):
                store.flush(0.1)
            for _ in range(2):
                assert tries.acquire(timeout=20)
            assert len(parquet_files(tmp_path)) == 1
        store.flush()
        append(store, entries(["more"]))
        store.flush()
        assert stored_lines(store) == [*LINES, "more"]
        assert len(parquet_files(tmp_path)) == 2


def test_flush_waits_for_the_segment_even_when_the_next_log_is_slow_or_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fails = threading.Event()
    entered = threading.Event()
    real = LogFile.__init__

    def slow(self: LogFile, path: Path) -> None:
        entered.set()
        if fails.is_set():
            raise OSError(28, "No space left on device")
        time.sleep(0.3)
        real(self, path)

    with opened(tmp_path) as store:
        monkeypatch.setattr(LogFile, "__init__", slow)
        append(store, entries(["a"]))
        store._flush_wanted = True
        store._committer.wake()
        assert entered.wait(20)
        store.flush()
        assert len(parquet_files(tmp_path)) == 1
        append(store, entries(["b"]))
        fails.set()
        with pytest.raises(StoreUnavailable, match="No space left"):
            store.flush(5)
        fails.clear()
        store.flush()
        assert len(parquet_files(tmp_path)) == 2


def test_a_failing_retention_does_not_stop_segments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(tmp_path, Options(retention=Retention(size=0))) as store:

        def fails(*_: object) -> None:
            raise sqlite3.OperationalError("disk I/O error")

        with monkeypatch.context() as patched:
            patched.setattr(store._catalogue, "replace", fails)
            append(store, entries(["a"]))
            store.flush()
        append(store, entries(["b"]))
        store.flush(10)
        wait_for(lambda: not parquet_files(tmp_path), what="retention works again")


# -- crashes between the steps


@pytest.mark.parametrize("where", ["before the segment", "before the catalogue", "before the log is removed"])
def test_a_crash_at_each_step_of_a_flush_loses_and_doubles_nothing(tmp_path: Path, where: str) -> None:
    code = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from pathlib import Path
from logs_support import *
from atalaia.store import recovery, segment
from atalaia.store.batch import Source
from atalaia.store.catalogue import Catalogue
store = Store(Path({str(tmp_path)!r}))
for i in range(20):
    store.append(entries([f"{{i}} a", f"{{i}} b"], [i % 3, 5]), "fake", (Source("f", i, i + 1),)).result(20)
def die(*_, **__): os._exit(9)
where = {where!r}
if where == "before the segment": segment.FileSink.flush = die
if where == "before the catalogue": Catalogue.add = die
if where == "before the log is removed": Path.unlink = die
store.flush()
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert result.returncode == 9, result.stderr
    files = {p.name for p in (tmp_path / "segments").iterdir()}
    assert len(files) == 1
    logs = sorted(p.name for p in (tmp_path / "wal").iterdir())
    assert logs == [f"{1:016d}.wal", f"{2:016d}.wal"]
    with opened(tmp_path) as store:
        assert stored_lines(store) == [f"{i} {x}" for i in range(20) for x in "ab"]
        assert store.position("f") == 20
        if where == "before the log is removed":
            assert store.recovered.replayed == 0
            assert {p.name for p in (tmp_path / "segments").iterdir()} == files
            assert not (tmp_path / "wal" / logs[0]).exists()
        else:
            assert store.recovered.replayed == 40
        append(store, entries(["next"]), Source("f", 20, 21))
    with opened(tmp_path) as store:
        assert len(stored(store)) == 41
        assert not list((tmp_path / "segments").glob("*.partial"))


KILLED = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from pathlib import Path
from logs_support import *
from atalaia.store.batch import Source
store = Store(Path(sys.argv[1]), Options(flush_bytes=60_000))
at = store.position("f") or 0
print(f"open {{at}}", flush=True)
while True:
    lines = [f"{{i}}" for i in range(at, at + 20)]
    store.append(entries(lines), "fake", (Source("f", at, at + 20),)).result(20)
    at += 20
    os.write(1, f"{{at}}\\n".encode())
"""


def test_killed_while_appending_every_acknowledged_line_is_there_once(tmp_path: Path, rng: random.Random) -> None:
    acknowledged = 0
    for _ in range(4):
        with child(["-c", KILLED, str(tmp_path)], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert process.stdout.readline().startswith(b"open ")
            for _ in range(rng.randrange(30, 250)):
                acknowledged = int(process.stdout.readline())
            process.kill()
            for line in process.stdout.read().splitlines():
                acknowledged = int(line)
            process.wait(10)
    with opened(tmp_path) as store:
        found = stored_lines(store)
        assert found == [str(i) for i in range(len(found))]
        assert len(found) >= acknowledged
        assert store.position("f") == len(found)
    assert len(parquet_files(tmp_path)) > 1


def test_a_torn_tail_is_cut_and_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with opened(tmp_path) as store:
        append(store, entries(LINES))
        copy = tmp_path / "copy"
        for folder in ("wal", "segments"):
            (copy / folder).mkdir(parents=True)
        path = recovery.log_path(tmp_path, 1)
        recovery.log_path(copy, 1).write_bytes(path.read_bytes() + b"ATWR torn")
    with opened(copy) as store:
        assert [(c.lost, c.path.name) for c in store.recovered.cuts] == [(9, f"{1:016d}.wal")]
        assert stored_lines(store) == LINES
    assert "event=wal_cut" in caplog.text
    assert not (copy / "damaged").exists()


def test_a_log_damaged_in_the_middle_is_kept_aside(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    copy = tmp_path / "copy"
    with opened(tmp_path) as store:
        for line in LINES:
            append(store, entries([line]))
        for folder in ("wal", "segments"):
            (copy / folder).mkdir(parents=True)
        data = bytearray(recovery.log_path(tmp_path, 1).read_bytes())
    data[len(data) // 2] ^= 1
    recovery.log_path(copy, 1).write_bytes(data)
    with opened(copy) as store:
        assert stored_lines(store) == LINES[:2]
    (kept,) = (copy / "damaged").iterdir()
    assert kept.read_bytes() == data
    assert "event=wal_damaged" in caplog.text
    assert "whole_records_behind=2" in caplog.text
