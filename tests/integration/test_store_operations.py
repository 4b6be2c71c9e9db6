"""check, repair, stats and snapshots of real stores: whatever is damaged is found, and nothing else is lost."""

from __future__ import annotations

import random
import shutil
import sqlite3
import threading
from collections import Counter
from contextlib import closing
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from tests.integration.logs_support import entries, opened, stored_lines
from tests.integration.operations_support import SLOW, TENANTS, Row, batch, contents, make, no_progress, push

from atalaia.environment.errors import AtalaiaError, InputError
from atalaia.store import copying, wal
from atalaia.store.batch import MOST, decode
from atalaia.store.catalogue import OtherFormat, read_beside
from atalaia.store.check import Finding, check
from atalaia.store.copying import snapshot
from atalaia.store.options import Options
from atalaia.store.repair import repair
from atalaia.store.salvage import Repaired
from atalaia.store.stats import stats
from atalaia.store.store import Store


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Row]]:
    """A store, and all that is in it. Never written to: `damaged` is a copy."""
    directory = tmp_path_factory.mktemp("sample") / "store"
    make(directory, random.Random(7))
    return directory, contents(directory, directory.with_name("export"))


@pytest.fixture
def damaged(sample: tuple[Path, list[Row]], tmp_path: Path) -> Path:
    """A copy of the sample, to be damaged."""
    return Path(shutil.copytree(sample[0], tmp_path / "store"))


def checked(directory: Path) -> list[Finding]:
    return list(check(directory, no_progress, patience=0.0))


def repaired(directory: Path) -> list[Repaired]:
    """What a repair did, which is what a dry run said; afterwards the store is undamaged."""
    before = data(directory)
    said = list(repair(directory, True, no_progress))
    assert data(directory) == before, "a dry run changes nothing"
    done = list(repair(directory, False, no_progress))
    assert done == said
    assert checked(directory) == []
    return done


def data(directory: Path) -> dict[Path, bytes]:
    """All files but those of SQLite, which come and go as it is opened, and the lock."""
    found = [path for path in directory.rglob("*") if path.is_file() and path.name != "lock"]
    return {path: path.read_bytes() for path in found if not path.name.endswith(("sqlite", "-wal", "-shm"))}


def files(directory: Path, pattern: str) -> list[Path]:
    found = sorted(directory.glob(pattern))
    assert found, pattern
    return found


def flip(path: Path, rng: random.Random) -> int:
    """Flip a bit; where."""
    data = bytearray(path.read_bytes())
    at = rng.randrange(len(data))
    data[at] ^= 1 << rng.randrange(8)
    path.write_bytes(data)
    return at


def most(path: Path, at: int) -> int:
    """How many entries may go with a byte of a file (docs/store-operations.md)."""
    if path.suffix == ".index":
        return 0
    if path.suffix == ".wal":
        return max(len(decode(record.payload)[0]) for record in wal.intact(path) if isinstance(record, wal.Record))
    footer = pq.read_metadata(path)
    if at >= path.stat().st_size - 8 - footer.serialized_size:
        return int(footer.num_rows)
    return max(footer.row_group(number).num_rows for number in range(footer.num_row_groups))


def lost(before: list[Row], after: list[Row]) -> int:
    """How many entries went; none came."""
    gone, come = Counter(before) - Counter(after), Counter(after) - Counter(before)
    assert not come
    return gone.total()


def test_check_takes_a_record_of_any_size_that_the_store_took(tmp_path: Path) -> None:
    """A JSON push may unpack to a larger batch than one of Arrow may; what was taken once is no damage."""
    lines = ["a" * (1 << 20)] * (MOST // (1 << 20) + 1)
    with opened(tmp_path / "store", Options(idle_seconds=3600.0, flush_bytes=1 << 30)) as store:
        assert store.append(entries(lines), "fake").result(60).rows == len(lines)
        assert checked(tmp_path / "store") == []


def test_the_sample_has_everything(sample: tuple[Path, list[Row]]) -> None:
    directory, rows = sample
    assert len(files(directory, "segments/*.parquet")) == 3
    assert len(files(directory, "segments/*.index")) == 1
    assert len(files(directory, "wal/*.wal")) == 1
    assert len(rows) == 2 * (2500 + 2 * 1100 + 3 * 40)
    assert {row[0] for row in rows} == set(TENANTS)


def test_a_healthy_store_has_no_findings(damaged: Path) -> None:
    seen: list[tuple[int, int]] = []
    assert list(check(damaged, lambda done, total: seen.append((done, total)))) == []
    assert seen[-1][0] == seen[-1][1] > 0
    assert repaired(damaged) == []
    with opened(damaged) as store:
        assert checked(damaged) == [], "also while it is open"
        assert len(stored_lines(store))


@pytest.mark.parametrize("pattern", ["segments/*.parquet", "segments/*.index", "wal/*.wal"])
def test_a_flipped_bit_is_found_named_and_repaired(
    pattern: str, damaged: Path, sample: tuple[Path, list[Row]], rng: random.Random, tmp_path: Path
) -> None:
    for number in range(6):
        shutil.rmtree(damaged)
        shutil.copytree(sample[0], damaged)
        path = rng.choice(files(damaged, pattern))
        at = flip(path, rng)
        name = str(path.relative_to(damaged))
        findings = checked(damaged)
        assert {(found.file, found.damage) for found in findings} == {(name, True)}, (at, findings)
        done = repaired(damaged)
        assert {one.file for one in done} == {name}, at
        gone = lost(sample[1], contents(damaged, tmp_path / f"after {number}"))
        assert all(one.lost in (None, gone) for one in done), (at, done, gone)
        assert gone <= most(sample[0] / name, at), (at, done)
        assert files(damaged, "damaged/*"), "what was damaged is kept"


def test_repair_loses_one_row_group_only(damaged: Path, sample: tuple[Path, list[Row]], tmp_path: Path) -> None:
    for path in files(damaged, "segments/*.parquet"):
        group = pq.read_metadata(path).row_group(1)
        data = bytearray(path.read_bytes())
        column = group.column(0)
        data[column.data_page_offset + column.total_compressed_size - 2] ^= 1
        path.write_bytes(data)
        (one,) = repaired(damaged)
        assert one.lost == group.num_rows
        assert one.start is not None
        assert one.end is not None
        kept = contents(damaged, tmp_path / path.name)
        gone = Counter(sample[1]) - Counter(kept)
        assert gone.total() == group.num_rows
        assert {row[1] for row in gone} <= set(range(one.start, one.end + 1))
        assert {row[2] for row in gone} == set(one.streams)
        shutil.rmtree(damaged)
        shutil.copytree(sample[0], damaged)


@pytest.mark.parametrize("pattern", ["segments/*.parquet", "segments/*.index"])
def test_a_missing_file(pattern: str, damaged: Path, sample: tuple[Path, list[Row]], tmp_path: Path) -> None:
    path = files(damaged, pattern)[0]
    path.unlink()
    assert [(found.file, found.problem) for found in checked(damaged)] == [
        (str(path.relative_to(damaged)), "it is missing")
    ]
    (done,) = repaired(damaged)
    assert lost(sample[1], contents(damaged, tmp_path / "after")) == done.lost


def test_a_file_that_the_disk_does_not_give(damaged: Path, tmp_path: Path) -> None:
    """A directory stands for a bad sector here: reading fails with an OSError."""
    for pattern in ("segments/*.parquet", "segments/*.index", "wal/*.wal"):
        path = files(damaged, pattern)[0]
        path.unlink()
        path.mkdir()
        assert str(path.relative_to(damaged)) in {found.file for found in checked(damaged) if found.damage}
    with pytest.raises(AtalaiaError, match="cannot go on"):
        list(repair(damaged, False, no_progress))
    with pytest.raises(AtalaiaError):
        contents(damaged, tmp_path / "export")


def test_a_store_of_another_format_is_not_damaged(damaged: Path) -> None:
    with closing(sqlite3.connect(damaged / "catalogue.sqlite")) as db:
        db.execute("UPDATE store SET value = 1 WHERE key = 'format'")
        db.commit()
    for run in (lambda: checked(damaged), lambda: list(repair(damaged, False, no_progress)), lambda: [stats(damaged)]):
        with pytest.raises(OtherFormat, match="format 1"):
            run()


def test_an_unknown_file_is_no_damage(damaged: Path) -> None:
    (damaged / "segments" / "00000000000000000001-0000000000000099.parquet").write_bytes(b"left of a crash")
    (found,) = checked(damaged)
    assert not found.damage


@pytest.mark.parametrize("how", ["gone", "garbage", "first page"])
def test_a_catalogue_is_made_anew(how: str, damaged: Path, sample: tuple[Path, list[Row]], tmp_path: Path) -> None:
    path = damaged / "catalogue.sqlite"
    if how == "gone":
        path.unlink()
    elif how == "garbage":
        path.write_bytes(b"no database" * 1000)
    else:
        path.write_bytes(b"\0" * 4096 + path.read_bytes()[4096:])
    if how != "gone":
        (finding,) = checked(damaged)
        assert finding.file == "catalogue.sqlite"
    done = repaired(damaged)
    assert all(one.lost == 0 for one in done)
    after = contents(damaged, tmp_path / "after")
    # The files do not tell tenants, and both have the same labels here; the log does tell them.
    assert Counter(row[1:] for row in after) == Counter(row[1:] for row in sample[1])
    assert {row[0] for row in after} == {"fake", "unknown-2", "other"}
    assert [row for row in after if row[0] == "fake"] == [row for row in sample[1] if row[0] == "fake"]
    with closing(read_beside(damaged)) as catalogue:
        assert catalogue.number >= 3


def test_a_catalogue_made_anew_keeps_what_can_be_read(
    damaged: Path, sample: tuple[Path, list[Row]], tmp_path: Path
) -> None:
    path = damaged / "catalogue.sqlite"
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA journal_mode = DELETE")
        ((page, size),) = db.execute(
            "SELECT rootpage, page_size FROM sqlite_master, pragma_page_size WHERE name = 'segments'"
        ).fetchall()
    data = bytearray(path.read_bytes())
    data[(page - 1) * size : page * size] = b"\xff" * size
    path.write_bytes(data)
    done = repaired(damaged)
    assert all(one.lost == 0 for one in done)
    assert contents(damaged, tmp_path / "after") == sample[1]
    with closing(read_beside(damaged)) as catalogue:
        assert catalogue.sources()["file fake"] == 7


def test_leftovers_of_a_compaction_are_not_taken_twice(
    damaged: Path, sample: tuple[Path, list[Row]], tmp_path: Path
) -> None:
    """Inputs and outputs lie side by side, and the catalogue that told them apart is gone."""
    closed = sample[0].with_name("store.closed")
    for path in closed.glob("segments/*"):
        target = damaged / "segments" / path.name
        if not target.exists():
            shutil.copy(path, target)
    first = files(damaged, "segments/*.parquet")[0]
    shutil.copy(first, first.with_name(first.name[:21] + "0000000000000098.parquet"))
    (damaged / "catalogue.sqlite").unlink()
    repaired(damaged)
    after = contents(damaged, tmp_path / "after")
    assert Counter(row[1:] for row in after) == Counter(row[1:] for row in sample[1])


def test_the_catalogue_is_compared_with_the_segments(
    damaged: Path, sample: tuple[Path, list[Row]], tmp_path: Path
) -> None:
    with closing(sqlite3.connect(damaged / "catalogue.sqlite")) as db:
        db.execute("UPDATE segments SET rows = rows + 1, keys = '[]' WHERE level = 1")
        db.execute("""UPDATE streams SET labels = '{"job":"z"}' WHERE id = 2""")
        db.commit()
    problems = {found.problem for found in checked(damaged)}
    assert any("rows" in problem for problem in problems), problems
    assert any("stream 2" in problem for problem in problems), problems
    assert all(one.lost == 0 for one in repaired(damaged))
    assert contents(damaged, tmp_path / "after") == sample[1]


def test_any_damage_to_the_catalogue_is_survived(
    damaged: Path, sample: tuple[Path, list[Row]], rng: random.Random, tmp_path: Path
) -> None:
    """SQLite has no checksums: not every flipped bit is found. But nothing is lost with one that is."""
    found = 0
    for number in range(12):
        shutil.rmtree(damaged)
        shutil.copytree(sample[0], damaged)
        path = damaged / "catalogue.sqlite"
        with closing(sqlite3.connect(path)) as db:
            # A bit of what is there, not of free space; from the header to the segments' rows.
            ((size, count),) = db.execute("SELECT page_size, page_count FROM pragma_page_size, pragma_page_count")
        data = bytearray(path.read_bytes())
        page = rng.randrange(count) * size
        at = page + rng.choice([i for i in range(size) if data[page + i]] or [0])
        data[at] ^= 1 << rng.randrange(8)
        path.write_bytes(data)
        if findings := checked(damaged):
            found += 1
            assert {finding.file for finding in findings if finding.damage}
            try:
                list(repair(damaged, False, no_progress))
            except OtherFormat:
                continue  # it was that number
            assert checked(damaged) == [], at
            after = contents(damaged, tmp_path / f"after {number}")
            assert Counter(row[1:] for row in after) == Counter(row[1:] for row in sample[1]), at
    assert found > 0


def test_a_stream_is_missing_and_a_segment_is_damaged(
    damaged: Path, sample: tuple[Path, list[Row]], tmp_path: Path
) -> None:
    """What is salvaged brings the labels of its streams along, in the midst of others."""
    with closing(sqlite3.connect(damaged / "catalogue.sqlite")) as db:
        db.execute("DELETE FROM streams WHERE id = 2")
        db.execute("""UPDATE streams SET labels = '{"job":"z"}' WHERE id = 3""")
        db.commit()
    path = files(damaged, "segments/*.parquet")[0]
    data = bytearray(path.read_bytes())
    column = pq.read_metadata(path).row_group(0).column(0)
    data[column.data_page_offset + column.total_compressed_size - 2] ^= 1
    path.write_bytes(data)
    done = repaired(damaged)
    gone = Counter(sample[1]) - Counter(contents(damaged, tmp_path / "after"))
    assert gone.total() == sum(one.lost or 0 for one in done) > 0


def test_a_stream_with_a_number_far_beyond_the_others(
    damaged: Path, sample: tuple[Path, list[Row]], tmp_path: Path
) -> None:
    with closing(sqlite3.connect(damaged / "catalogue.sqlite")) as db:
        db.execute("UPDATE streams SET id = 4611686018427387904 WHERE id = 3")
        db.commit()
    (finding,) = checked(damaged)
    assert "4611686018427387904" in finding.problem
    assert all(one.lost == 0 for one in repaired(damaged))
    after = contents(damaged, tmp_path / "after")
    assert Counter(row[1:] for row in after) == Counter(row[1:] for row in sample[1])


def test_repair_wants_the_store_for_itself(damaged: Path) -> None:
    with opened(damaged), pytest.raises(AtalaiaError, match="another process"):
        list(repair(damaged, False, no_progress))


def test_what_is_no_store(tmp_path: Path) -> None:
    for run in (check, lambda d, p: repair(d, False, p), lambda d, p: [stats(d)], lambda d, p: [snapshot(d, d / "s")]):
        with pytest.raises(InputError, match="no log store"):
            list(run(tmp_path, no_progress))
    assert list(tmp_path.iterdir()) == []


class Pusher(threading.Thread):
    """Pushes numbered lines until `stop`ped; `acknowledged` counts them."""

    def __init__(self, store: Store) -> None:
        super().__init__()
        self.acknowledged = 0
        self._store = store
        self._stop_wanted = threading.Event()

    def run(self) -> None:
        while not self._stop_wanted.is_set():
            lines = [f"line {self.acknowledged + n}" for n in range(50)]
            assert self._store.append(entries(lines), "fake").result(20).rows == 50
            self.acknowledged += 50

    def stop(self) -> None:
        self._stop_wanted.set()
        self.join(20)


BUSY = Options(flush_bytes=60_000, idle_seconds=0.001)


def test_snapshots_while_pushes_and_compaction_run(tmp_path: Path) -> None:
    known: list[int] = []
    with opened(tmp_path / "store", BUSY) as store:
        pusher = Pusher(store)
        pusher.start()
        try:
            for number in range(12):
                known.append(pusher.acknowledged)
                snapshot(tmp_path / "store", tmp_path / f"copy {number}")
                assert not [found for found in check(tmp_path / "store", no_progress, 2.0) if found.damage]
        finally:
            pusher.stop()
    for number, least in enumerate(known):
        copy = tmp_path / f"copy {number}"
        assert checked(copy) == []
        with opened(copy, SLOW) as store:
            lines = stored_lines(store)
            assert lines == [f"line {n}" for n in range(len(lines))], "a beginning of all that was pushed"
            assert len(lines) >= least
    assert known[-1] > 0


def test_a_snapshot_and_its_store_go_their_own_ways(tmp_path: Path) -> None:
    with opened(tmp_path / "store") as store:
        assert store.append(entries(["one"]), "fake").result(20).rows == 1
        snapshot(tmp_path / "store", tmp_path / "copy")
        assert store.append(entries(["two"]), "fake").result(20).rows == 1
        with opened(tmp_path / "copy") as copy:
            assert copy.append(entries(["three"]), "fake").result(20).rows == 1
            assert stored_lines(copy) == ["one", "three"]
        assert stored_lines(store) == ["one", "two"]


def test_a_snapshot_has_no_part_of_a_record(damaged: Path, sample: tuple[Path, list[Row]], tmp_path: Path) -> None:
    """A record that is being written while its log is copied."""
    (log,) = files(damaged, "wal/*.wal")
    whole = log.read_bytes()
    for number, more in enumerate((1, 20, 500)):
        log.write_bytes(whole + whole[8:][:more])
        snapshot(damaged, tmp_path / f"copy {number}")
        assert checked(tmp_path / f"copy {number}") == []
        assert contents(tmp_path / f"copy {number}", tmp_path / f"after {number}") == sample[1]


def test_a_snapshot_is_made_where_nothing_is(damaged: Path, tmp_path: Path) -> None:
    snapshot(damaged, tmp_path / "copy")
    with pytest.raises(InputError, match="exists already"):
        snapshot(damaged, tmp_path / "copy")
    files(damaged, "segments/*.parquet")[0].unlink()
    with pytest.raises(AtalaiaError, match="missing"):
        snapshot(damaged, tmp_path / "other")
    assert not [path for path in tmp_path.iterdir() if path.name.startswith("other")]


def test_a_snapshot_on_another_file_system_is_a_copy(
    damaged: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def link(source: Path, target: Path) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(copying.os, "link", link)
    made = snapshot(damaged, tmp_path / "copy")
    assert made.linked == 0
    assert made.copied > sum(path.stat().st_size for path in files(damaged, "segments/*.parquet"))
    assert checked(tmp_path / "copy") == []


def test_stats(damaged: Path, sample: tuple[Path, list[Row]]) -> None:
    found = stats(damaged)
    rows = sample[1]
    assert found.entries + found.log_entries == len(rows)
    assert found.log_entries == 2 * 3 * 40
    assert found.levels == {0: 2, 1: 1}
    assert found.oldest == min(row[1] for row in rows)
    assert found.streams == 6
    in_segments = [row for row in rows if row[1] < 4 * 10**9]
    assert found.line_bytes == sum(len(row[3].encode()) for row in in_segments)
    assert {tenant.tenant: tenant.entries for tenant in found.tenants} == Counter(row[0] for row in in_segments)
    assert sum(day.entries for day in found.days) == found.entries
    assert found.untold == 0
    compacted = [row[3] for row in rows if row[1] < 2 * 10**9]
    assert found.top[0].entries == sum(line.startswith("entry") for line in compacted)
    assert found.top[0].example in compacted


def test_stats_of_an_empty_store(tmp_path: Path) -> None:
    with opened(tmp_path):
        found = stats(tmp_path)
    assert (found.entries, found.log_entries, found.oldest, found.tenants, found.top) == (0, 0, None, [], [])


def test_new_entries_of_a_repaired_store(
    damaged: Path, rng: random.Random, tmp_path: Path, sample: tuple[Path, list[Row]]
) -> None:
    """Numbers are not given twice, and what comes afterwards is kept beside what was saved."""
    flip(files(damaged, "segments/*.parquet")[0], rng)
    flip(files(damaged, "wal/*.wal")[0], rng)
    repaired(damaged)
    kept = contents(damaged, tmp_path / "before")
    with opened(damaged, Options(idle_seconds=0.02)) as store:
        push(store, batch(rng, 100, 9), "fake")
        store.flush()
    assert checked(damaged) == []
    after = contents(damaged, tmp_path / "after")
    assert after[: len(kept)] == kept
    assert len(after) == len(kept) + 100
