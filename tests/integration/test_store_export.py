"""Exports and imports: what comes out goes in again as it was, whenever either is killed."""

from __future__ import annotations

import gzip
import hashlib
import json
import random
import shutil
import signal
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.integration.logs_support import Server, child, entries, opened
from tests.integration.operations_support import SLOW, TENANTS, Row, contents, exported, make, no_progress, push, rows

from atalaia.cli import main
from atalaia.client.importing import Imported, import_file, inputs
from atalaia.client.pusher import Pusher
from atalaia.environment.errors import AtalaiaError, InputError
from atalaia.store import export as export_module
from atalaia.store.decide import LineTest
from atalaia.store.manifest import Kind, Manifest, load
from atalaia.store.sql import line_condition


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with everything in it; an export of it leaves it as it is."""
    directory = tmp_path_factory.mktemp("sample") / "store"
    make(directory, random.Random(11))
    return directory


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A running store without entries."""
    made = Server(tmp_path / "served")
    made.start()
    yield made
    made.stop()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A running store for tests that do not look at what is in it."""
    made = Server(tmp_path_factory.mktemp("shared") / "served")
    made.start()
    yield made
    made.stop()


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export_module, "PART_BYTES", 100_000)
    monkeypatch.setattr(export_module, "_PIECE_BYTES", 20_000)


def read(directory: Path) -> list[Row]:
    """The entries of an export, of whichever kind, its manifest verified."""
    made = load(directory)
    assert made
    assert made.complete
    assert {part.name for part in made.parts} | {"manifest.json"} == {path.name for path in directory.iterdir()}
    for part in made.parts:
        data = (directory / part.name).read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (part.bytes, part.sha256)
    paths = [directory / part.name for part in made.parts]
    if made.wanted.kind is Kind.PARQUET:
        return rows(paths)
    found = []
    for path in paths:
        for text in path.read_text().split("\n")[:-1]:
            row = json.loads(text)
            labels = json.dumps(row["labels"], ensure_ascii=False, separators=(",", ":"), sort_keys=True)
            metadata = None if row["metadata"] is None else tuple(sorted(row["metadata"].items()))
            found.append((row["tenant"], row["ts"], labels, row["line"], metadata))
    return found


def imported(server: Server, *paths: Path, tenant: str = "fake") -> list[Imported]:
    pusher = Pusher(server.base)
    try:
        return [import_file(one, pusher, tenant, no_progress) for one in inputs(paths)]
    finally:
        pusher.close()


@pytest.mark.parametrize("kind", list(Kind))
@pytest.mark.usefixtures("small_parts")
def test_what_is_imported_is_what_was_exported(kind: Kind, sample: Path, server: Server, tmp_path: Path) -> None:
    made = exported(sample, tmp_path / "first", kind)
    assert len(made.parts) > 5
    before = read(tmp_path / "first")
    assert before == sorted(before, key=lambda row: row[1])
    assert {row[0] for row in before} == set(TENANTS)
    done = imported(server, tmp_path / "first")
    assert sum(one.stored for one in done) == made.rows == len(before)
    again = imported(server, tmp_path / "first")
    assert sum(one.known for one in again) == made.rows
    assert all(one.stored == one.refused == 0 for one in again)
    exported(server.directory, tmp_path / "second", kind)
    # A tenant's entries of one time keep their order; those of two tenants have none between them.
    after = read(tmp_path / "second")
    for tenant in TENANTS:
        assert [row for row in after if row[0] == tenant] == [row for row in before if row[0] == tenant]
    assert len(after) == len(before)


def test_both_kinds_hold_the_same(sample: Path, tmp_path: Path) -> None:
    exported(sample, tmp_path / "parquet")
    exported(sample, tmp_path / "jsonl", Kind.JSONL)
    assert read(tmp_path / "parquet") == read(tmp_path / "jsonl")


def test_a_part_of_the_entries(sample: Path, tmp_path: Path) -> None:
    exported(sample, tmp_path / "all")
    exported(sample, tmp_path / "part", start=2 * 10**9 + 10, end=4 * 10**9 + 5, tenant="other")
    assert read(tmp_path / "part") == [
        row for row in read(tmp_path / "all") if row[0] == "other" and 2 * 10**9 + 10 <= row[1] < 4 * 10**9 + 5
    ]
    exported(sample, tmp_path / "nothing", tenant="nobody")
    assert read(tmp_path / "nothing") == []


def test_deleted_entries_are_not_exported(sample: Path, tmp_path: Path) -> None:
    store = Path(shutil.copytree(sample, tmp_path / "store"))
    before = contents(store, tmp_path / "before")
    with opened(store, SLOW) as opened_store:
        streams = np.array([stream.id for stream in opened_store.streams.of("fake")], np.int32)
        condition = line_condition((LineTest("entry"),), False)
        opened_store.delete("fake", '{job=~".+"} |= "entry"', 0, 3 * 10**9, streams, (condition,))
        assert contents(store, tmp_path / "after") == [
            row for row in before if not (row[0] == "fake" and row[1] < 3 * 10**9 and "entry" in row[3])
        ]


KILLED = """
import os, signal, sys
from pathlib import Path
from atalaia.store import export
from atalaia.store.manifest import Kind, Manifest, Wanted

export.PART_BYTES, export._PIECE_BYTES = 100_000, 20_000
count, after = 0, int(sys.argv[3])

def seen(*_):
    global count
    count += 1
    if count == after:
        os.kill(os.getpid(), signal.SIGKILL)

for name in ("open", "link", "rename", "replace", "fsync"):
    def counted(*arguments, _real=getattr(os, name), **options):
        seen()
        return _real(*arguments, **options)
    setattr(os, name, counted)
export.export(Path(sys.argv[1]), Path(sys.argv[2]), Wanted(kind=Kind.PARQUET), seen)
"""


@pytest.mark.usefixtures("small_parts")
def test_an_export_that_is_killed_goes_on(sample: Path, tmp_path: Path, rng: random.Random) -> None:
    """Killed before any system call that writes, it has all parts in the end, and none is written twice."""
    exported(sample, tmp_path / "whole")
    whole = read(tmp_path / "whole")
    target = tmp_path / "killed"
    kills = 0
    finished: dict[str, bytes] = {}
    while True:
        with child(["-c", KILLED, str(sample), str(target), str(rng.randrange(1, 120))]) as process:
            ended = process.wait(60)
        made = load(target) if target.exists() else None
        for part in made.parts if made else ():
            data = (target / part.name).read_bytes()
            assert finished.setdefault(part.name, data) == data, "a finished part is not touched again"
        if made and made.complete:
            break
        assert ended == -signal.SIGKILL
        kills += 1
        assert kills < 200
    if (target / ".snapshot").exists():
        with pytest.raises(InputError, match="complete already"):
            exported(sample, target)
    assert read(target) == whole
    assert kills > 0


@pytest.mark.usefixtures("small_parts")
def test_an_export_goes_on_with_what_was_there_when_it_began(sample: Path, tmp_path: Path) -> None:
    store = Path(shutil.copytree(sample, tmp_path / "store"))
    before = contents(store, tmp_path / "before")

    class Enough(Exception):
        pass

    def stop(done: int, total: int) -> None:
        if done > total * 0.9:
            raise Enough

    wanted = export_module.Wanted(kind=Kind.PARQUET)
    with pytest.raises(Enough):
        export_module.export(store, tmp_path / "export", wanted, stop)
    begun = load(tmp_path / "export")
    assert begun
    assert begun.parts
    assert not begun.complete
    with pytest.raises(InputError, match="not complete"):
        inputs([tmp_path / "export"])
    with pytest.raises(InputError, match="other options"):
        exported(store, tmp_path / "export", Kind.JSONL)
    with opened(store) as changed:
        push(changed, entries(["later"]), "fake")
    exported(store, tmp_path / "export")
    assert read(tmp_path / "export") == before


def test_where_an_export_may_go(sample: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").touch()
    with pytest.raises(InputError, match="not an empty directory"):
        exported(sample, tmp_path / "mine")
    exported(sample, tmp_path / "export")
    with pytest.raises(InputError, match="complete already"):
        exported(sample, tmp_path / "export")
    (tmp_path / "export" / "manifest.json").write_text('{"format": 1}')
    with pytest.raises(InputError, match="not the manifest"):
        exported(sample, tmp_path / "export")


def test_an_import_goes_on_behind_what_the_store_has(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An answer that was lost on its way, and a command that was killed."""
    lines = [f"line {n}" for n in range(20_000)]
    path = tmp_path / "lines.jsonl"
    path.write_text(
        "".join(json.dumps({"ts": n, "labels": {"a": "b"}, "line": line}) + "\n" for n, line in enumerate(lines))
    )
    monkeypatch.setattr("atalaia.client.filerows._PIECE_BYTES", 100_000)
    real = Pusher.push
    pushed = 0

    class Lost(Exception):
        pass

    def push_and_die(self: Pusher, *arguments: object) -> object:
        nonlocal pushed
        answer = real(self, *arguments)  # type: ignore[arg-type]
        pushed += 1
        if pushed == 3:
            raise Lost
        return answer

    monkeypatch.setattr(Pusher, "push", push_and_die)
    with pytest.raises(Lost):
        imported(server, path)
    (done,) = imported(server, path)
    assert done.known > 0
    assert done.stored + done.known == len(lines)
    assert [row[3] for row in contents(server.directory, tmp_path / "export")] == lines


def test_an_import_waits_for_the_store(tmp_path: Path) -> None:
    server = Server(tmp_path / "served")
    (tmp_path / "a.jsonl").write_text('{"ts": 1, "labels": {"a": "b"}, "line": "x"}\n')
    (given,) = inputs([tmp_path / "a.jsonl"])
    pauses: list[float] = []
    pusher = Pusher(server.base, pauses.append)
    with pytest.raises(AtalaiaError, match="does not take pushes"):
        import_file(given, pusher, "fake", no_progress)
    pusher.close()
    assert pauses == sorted(pauses) != []
    pusher = Pusher(server.base, lambda _: server.start())
    try:
        assert import_file(given, pusher, "fake", no_progress).stored == 1
    finally:
        pusher.close()
        server.stop()


def test_plain_files(server: Server, tmp_path: Path) -> None:
    """What other programs write: timestamps, maps, no metadata, no tenant."""
    with duckdb.connect() as connection:
        connection.execute(
            "COPY (SELECT make_timestamp_ns(1700000000000000001 + i) AS ts, MAP {'job': 'x', 'a': 'b'} AS labels,"
            f" 'line ' || i AS line FROM range(3) r(i)) TO '{tmp_path}/times.parquet'"
        )
        connection.execute(
            "COPY (SELECT 5 AS ts, {'job': 'x'} AS labels, 'struct' AS line, MAP {'k': 'v'} AS metadata, 't' AS tenant)"
            f" TO '{tmp_path}/struct.parquet'"
        )
    (tmp_path / "plain.jsonl").write_text(
        '{"ts": 7, "labels": {"job": "x", "a": "b"}, "line": "seven", "more": 1}\n'
        '{"line": "8", "ts": "8", "labels": {"b": "é"}}\n'
    )
    with gzip.open(tmp_path / "packed.jsonl.gz", "wt") as file:
        file.write('{"ts": 9, "labels": {"b": "é"}, "line": "nine"}\n')
    with duckdb.connect() as connection:
        connection.execute(
            "COPY (SELECT 10 AS ts, {'b': 'é'} AS labels, 'ten' AS line)"
            f" TO '{tmp_path}/packed.jsonl.zst' (FORMAT json, COMPRESSION zstd)"
        )
    names = ("times.parquet", "struct.parquet", "plain.jsonl", "packed.jsonl.gz", "packed.jsonl.zst")
    done = imported(server, *(tmp_path / name for name in names), tenant="u")
    assert [one.stored for one in done] == [3, 1, 2, 1, 1]
    assert contents(server.directory, tmp_path / "export") == [
        ("t", 5, '{"job":"x"}', "struct", (("k", "v"),)),
        ("u", 7, '{"a":"b","job":"x"}', "seven", None),
        ("u", 8, '{"b":"é"}', "8", None),
        ("u", 9, '{"b":"é"}', "nine", None),
        ("u", 10, '{"b":"é"}', "ten", None),
        *(("u", 1700000000000000001 + n, '{"a":"b","job":"x"}', f"line {n}", None) for n in range(3)),
    ]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.jsonl", '{"ts": 1, "labels": {"a": "b"}, "line": "x"}\n{"ts": 2,\n', "Malformed JSON"),
        (
            "a.jsonl",
            '{"ts": 1, "labels": {"a": "b"}, "line": "x"}\n{"ts": 2, "labels": {"a": "b"}}\n',
            "row 2 of .* no line",
        ),
        ("a.jsonl", '{"ts": "yesterday", "labels": {"a": "b"}, "line": "x"}\n', "cannot be read"),
        ("a.jsonl", '{"ts": 1, "labels": {"a": "b"}, "line": "x", "metadata": {"k": "1", "k": "2"}}\n', "unique"),
        ("a.jsonl", '{"ts": 1, "labels": {"a": "b"}, "line": "x", "metadata": {"k": null}}\n', "without a value"),
        ("a.parquet", "PAR1 not", "cannot be read"),
    ],
)
def test_files_that_cannot_be_imported(name: str, text: str, message: str, shared: Server, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=message):
        imported(shared, tmp_path / name)


def test_what_the_store_refuses_is_counted(shared: Server, tmp_path: Path) -> None:
    lines = [{"ts": 1, "labels": {"a": "b"}, "line": "good"}, {"ts": 2, "labels": {"a": 1}, "line": "bad"}]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(line) + "\n" for line in [*lines, {**lines[0], "labels": {}}]))
    (done,) = imported(shared, tmp_path / "a.jsonl")
    assert (done.stored, done.refused) == (1, 2)
    assert done.message
    assert "not a JSON object of strings" in done.message
    (again,) = imported(shared, tmp_path / "a.jsonl")
    assert (again.stored, again.known, again.refused) == (0, 3, 0)


def test_a_part_that_was_changed(sample: Path, shared: Server, tmp_path: Path) -> None:
    made: Manifest = exported(sample, tmp_path / "export", Kind.JSONL)
    with open(tmp_path / "export" / made.parts[0].name, "a") as file:
        file.write("\n")
    with pytest.raises(InputError, match="SHA-256"):
        imported(shared, tmp_path / "export")
    with pytest.raises(InputError, match=r"no manifest\.json"):
        inputs([tmp_path])
    with pytest.raises(InputError, match="not a file"):
        inputs([tmp_path / "nothing"])


def test_the_commands(
    sample: Path,
    shared: Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def run(*arguments: object) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["atalaia", "store", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main.run()
        shown = capsys.readouterr()
        assert "internal error" not in shown.err
        return int(ended.value.code or 0), shown.out + shown.err

    monkeypatch.chdir(tmp_path)
    store = Path(shutil.copytree(sample, tmp_path / "store"))
    assert run("check", "--data", store)[0] == 0
    assert json.loads(run("check", "--data", store, "--json")[1]) == []
    assert json.loads(run("stats", "--data", store, "--json")[1])["streams"] == 6
    assert "templates" in run("stats", "--data", store)[1]
    assert run("snapshot", "copy", "--data", store)[0] == 0
    assert run("snapshot", "copy", "--data", store)[0] == 2
    assert run("export", "out", "--data", store, "--format", "jsonl", "--tenant", "fake")[0] == 0
    code, shown = run("import", "out", "--url", shared.base, "--json")
    assert code == 0
    assert [one["refused"] for one in json.loads(shown)] == [0]
    assert "KNOWN BEFORE" in run("import", "out", "--url", shared.base)[1]
    assert run("repair", "--data", store) == (0, "nothing is damaged\n")
    path = next((store / "segments").glob("*.parquet"))
    path.write_bytes(path.read_bytes()[:-100])
    code, shown = run("check", "--data", store)
    assert code == 1
    assert path.name in shown
    assert "would be done" in run("repair", "--data", store, "--dry-run")[1]
    assert "entries are lost" in run("repair", "--data", store)[1]
    assert run("check", "--data", store)[0] == 0
    for wrong in (
        ("export", "x", "--data", store, "--format", "csv"),
        ("export", "x", "--data", store, "--from", "2020-01-01T00:00:00Z", "--to", "2019-01-01T00:00:00Z"),
        ("check", "--data", "nothing"),
        ("import", "nothing", "--url", shared.base),
    ):
        assert run(*wrong)[0] == 2, wrong


def test_counts_of_a_sample_are_right(sample: Path, tmp_path: Path) -> None:
    made = exported(sample, tmp_path / "export")
    assert made.rows == Counter(row[0] for row in read(tmp_path / "export")).total()
    table = pq.read_table(tmp_path / "export" / made.parts[0].name)
    assert table.schema.field("ts").type == pa.int64()
    assert [made.parts[-1].last[0]] == table.column("ts").to_pylist()[-1:]
