"""The collector at work: files that grow, rotate and vanish; sinks that fail; restarts. Every line exactly once."""

from __future__ import annotations

import contextlib
import gzip
import http.server
import json
import os
import random
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import httpx
import pyarrow as pa
import pytest
from logs_support import Server, free_port, wait_for

from atalaia.collector import collector as collector_module
from atalaia.collector import pushing as pushing_module
from atalaia.collector.collector import Collector
from atalaia.collector.outputs.connect import connect
from atalaia.collector.outputs.sink import Answer, Delivery, Rows, Sink, Unreachable
from atalaia.collector.plan import Job, Output, Plan, Target
from atalaia.collector.reading import beginning, finding, positions
from atalaia.collector.reading import files as files_module
from atalaia.store.batch import Source, decode, encode
from atalaia.wire.push import read_push


class Memory:
    """A store in memory that counts bytes as the real one does, and fails when told to."""

    plans = False
    linger = 0.0

    def __init__(self) -> None:
        self.entries: list[tuple[str, str, int]] = []
        self.ends: dict[str, int] = {}
        self.pushes = 0
        self.down = False
        self.before: Callable[[Memory], None] = lambda _: None
        self.lost_answers = 0

    def connect(self) -> Sink:
        if self.down:
            raise Unreachable("down")
        return self

    def positions(self, ids: Sequence[str]) -> dict[str, int]:
        return {i: self.ends[i] for i in ids if i in self.ends}

    def prepare(self, batch: pa.Table, sources: Sequence[Source], _rows: Rows) -> Delivery:
        return partial(self.push, batch, sources)

    def push(self, batch: pa.Table, sources: Sequence[Source]) -> Answer:
        if self.down:
            raise Unreachable("down")
        self.pushes += 1
        self.before(self)
        table, found = decode(encode(batch, sources))
        assert list(found) == list(sources)
        if any(self.ends.get(s.id, s.start) != s.start for s in sources):
            return Answer(conflict={s.id: self.ends.get(s.id, s.start) for s in sources})
        self.entries += [(json.loads(r["labels"])["filename"], r["line"], r["ts"]) for r in table.to_pylist()]
        self.ends.update({s.id: s.end for s in sources})
        if self.lost_answers:
            self.lost_answers -= 1
            raise Unreachable("the answer was lost")
        return Answer()

    def close(self) -> None:
        """Stays open: the next collector goes on with it."""

    def lines(self, name: str | None = None) -> list[str]:
        return [line for file, line, _ in self.entries if name is None or os.path.basename(file) == name]


def plan_of(folder: Path, pattern: str = "*.log", url: str = "http://127.0.0.1:1/loki/api/v1/push") -> Plan:
    output = Output(url, min_backoff=0.02, max_backoff=0.05, batch_wait=0.02)
    job = Job("j", (Target(f"{folder}/{pattern}", {"job": "j"}),))
    return Plan((job,), (output,), folder / "positions.db", 4000)


@contextlib.contextmanager
def running(plan: Plan, connector: Callable[[], Sink] | None = None) -> Iterator[Collector]:
    """A collector in a thread; stopped, joined, and its errors raised."""
    errors: list[BaseException] = []
    collector = Collector(plan, connector)

    def run() -> None:
        try:
            collector.run()
        except BaseException as error:  # noqa: BLE001 - raised in the test's own thread
            errors.append(error)

    thread = threading.Thread(target=run, name="collector")
    thread.start()
    try:
        yield collector
    finally:
        collector.stop()
        thread.join(30)
        assert not thread.is_alive(), "the collector does not stop"
    if errors:
        raise errors[0]


@pytest.fixture(autouse=True)
def brisk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks often, and gives rotated files up soon."""
    monkeypatch.setattr(collector_module, "_IDLE", 0.01)
    monkeypatch.setattr(collector_module, "_PATIENCE", 2.0)
    for name, seconds in (("_LOOK", 0.03), ("_LOOK_WATCHED", 0.1), ("_POLL", 0.01), ("_GATHERED", 0.005)):
        monkeypatch.setattr(files_module, name, seconds)
    monkeypatch.setattr(finding, "_GRACE", 0.2)
    monkeypatch.setattr(beginning, "_AGAIN", 0.05)
    monkeypatch.setattr(beginning, "_COPYING", 0.5)


def write(path: Path, *lines: object) -> None:
    with path.open("a") as file:
        file.writelines(f"{line}\n" for line in lines)


def offsets(folder: Path) -> dict[str, int]:
    """What the positions file says, by file name."""
    return {os.path.basename(k.path): k.offset for k in positions.read(folder / "positions.db").values()}


def test_lines_arrive_in_order_and_positions_are_kept(tmp_path: Path) -> None:
    sink, path = Memory(), tmp_path / "a.log"
    write(path, *range(100))
    with running(plan_of(tmp_path), sink.connect):
        wait_for(lambda: len(sink.lines()) == 100)
        write(path, *range(100, 200))
        wait_for(lambda: len(sink.lines()) == 200)
    assert sink.lines() == [str(i) for i in range(200)]
    assert offsets(tmp_path) == {"a.log": path.stat().st_size}
    with running(plan_of(tmp_path), sink.connect):
        write(path, "next")
        wait_for(lambda: len(sink.lines()) == 201)
    assert sink.lines()[-1] == "next"


def test_a_stop_drains_what_was_written_before_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collector_module, "_IDLE", 30.0)
    monkeypatch.setattr(files_module, "_LOOK_WATCHED", 30.0)
    monkeypatch.setattr(files_module, "_POLL", 30.0)
    sink, path = Memory(), tmp_path / "a.log"
    write(path, "first")
    with running(plan_of(tmp_path), sink.connect):
        wait_for(lambda: sink.lines() == ["first"])
        write(path, *range(1000))
        write(tmp_path / "new.log", "in a new file")
    assert sink.lines("a.log") == ["first", *map(str, range(1000))]
    assert sink.lines("new.log") == ["in a new file"]
    assert offsets(tmp_path)["a.log"] == path.stat().st_size


def test_positions_move_only_after_acknowledgement(tmp_path: Path) -> None:
    sink, path = Memory(), tmp_path / "a.log"
    write(path, *range(10))
    seen = []
    sink.before = lambda _: seen.append(offsets(tmp_path)["a.log"])
    with running(plan_of(tmp_path), sink.connect):
        wait_for(lambda: sink.lines())
    assert seen[0] == 0


@pytest.mark.parametrize("news", [0.0, 3600.0])
def test_an_unreachable_sink_loses_and_doubles_nothing(
    news: float, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pushing_module, "_NEWS", news)
    sink, path = Memory(), tmp_path / "a.log"
    write(path, 0)
    with running(plan_of(tmp_path), sink.connect), caplog.at_level("INFO", "atalaia.collector"):
        wait_for(lambda: sink.lines() == ["0"])
        for outage in range(3):
            sink.down = True
            for i in range(5):
                write(path, f"{outage} {i}")
            time.sleep(0.05)
            sink.down = False
            wait_for(lambda: len(sink.lines()) == 1 + 5 * (outage + 1))  # noqa: B023 - waited for at once
    assert sink.lines() == ["0", *(f"{o} {i}" for o in range(3) for i in range(5))]
    events = [r.getMessage().split()[0] for r in caplog.records]
    # Told once when it goes, and once when it is back; an outage shorter than `_NEWS` is not told.
    assert (1 if news == 0 else 0) <= events.count("event=sink_unreachable") <= (3 if news == 0 else 0)
    assert events.count("event=sink_unreachable") == events.count("event=sink_back")


def test_a_stop_while_the_sink_is_away_ends_and_nothing_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files_module, "_LEAST", 1)
    monkeypatch.setattr(files_module, "BLOCK", 1000)
    monkeypatch.setattr(collector_module, "_PATIENCE", 0.3)
    sink, path = Memory(), tmp_path / "a.log"
    # Far more than fits between the threads.
    write(path, *(f"{i}".ljust(3000) for i in range(400)))
    sink.before = lambda s: setattr(s, "down", True)
    with running(plan_of(tmp_path), sink.connect):
        wait_for(lambda: sink.down)
        time.sleep(0.1)
    delivered = len(sink.lines())
    assert 0 < delivered < 400
    assert offsets(tmp_path)["a.log"] == delivered * 3001
    sink.down, sink.before = False, lambda _: None
    with running(plan_of(tmp_path), sink.connect):
        wait_for(lambda: len(sink.lines()) == 400)
    assert [line.strip() for line in sink.lines()] == [str(i) for i in range(400)]


def test_a_stop_before_there_ever_was_a_sink(tmp_path: Path) -> None:
    sink = Memory()
    sink.down = True
    with running(plan_of(tmp_path), sink.connect):
        time.sleep(0.05)
    assert sink.entries == []


@pytest.mark.parametrize("answers", [1, 3])
def test_lost_answers_are_recognised(tmp_path: Path, answers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files_module, "_LEAST", 1)
    monkeypatch.setattr(files_module, "BLOCK", 1000)
    sink = Memory()
    for name in "abc":
        write(tmp_path / f"{name}.log", *(f"{name} {i}".ljust(200) for i in range(800)))
    sink.lost_answers = answers
    with running(plan_of(tmp_path), sink.connect):
        wait_for(lambda: len(sink.lines()) >= 2400)
    for name in "abc":
        assert [line.strip() for line in sink.lines(f"{name}.log")] == [f"{name} {i}" for i in range(800)]


def test_a_store_that_was_put_back_is_filled_again(tmp_path: Path) -> None:
    sink, path = Memory(), tmp_path / "a.log"
    write(path, *range(20))
    with running(plan_of(tmp_path), sink.connect):
        wait_for(lambda: len(sink.lines()) == 20)
        # The store's disk was restored from a copy of some time ago.
        (key,) = sink.ends
        sink.ends[key] = 10
        del sink.entries[5:]
        write(path, "next")
        wait_for(lambda: sink.lines()[-1:] == ["next"])
    assert sink.lines() == ["0", "1", "2", "3", "4", *map(str, range(5, 20)), "next"]


def test_restarts_in_the_middle_of_it(tmp_path: Path, rng: random.Random, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files_module, "_LEAST", 1)
    monkeypatch.setattr(files_module, "BLOCK", 2000)
    sink = Memory()
    plan = plan_of(tmp_path)
    written = 0
    for round_ in range(6):
        for _ in range(rng.randrange(1, 300)):
            write(tmp_path / f"{written % 3}.log", written)
            written += 1
        if rng.random() < 0.5:
            sink.lost_answers = 1
        kept = (tmp_path / "positions.db").read_bytes() if round_ else None
        with running(plan, sink.connect):
            enough = sink.pushes + rng.randrange(1, 4)
            wait_for(lambda: sink.pushes >= enough or len(sink.lines()) == written)  # noqa: B023 - waited for at once
        # As after kill -9: the positions file is older than what the store has.
        if kept is not None and rng.random() < 0.5:
            (tmp_path / "positions.db").write_bytes(kept)
    with running(plan, sink.connect):
        wait_for(lambda: len(sink.lines()) >= written)
    for name in range(3):
        expected = [str(i) for i in range(written) if i % 3 == name]
        assert sink.lines(f"{name}.log") == expected


def test_two_files_that_are_alike_so_far_are_two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beginning, "_COPYING", 0.2)
    monkeypatch.setattr(beginning, "_AGAIN", 0.05)
    sink = Memory()
    write(tmp_path / "a.log", "started")
    with running(plan_of(tmp_path), sink.connect):
        wait_for(lambda: len(sink.lines()) == 1)
        # It could be a copy of the other one, which is about to be truncated.
        write(tmp_path / "a-2.log", "started")
        wait_for(lambda: len(sink.lines()) == 2)
        write(tmp_path / "a-3.log", "started", "more than a copy has")
        wait_for(lambda: len(sink.lines()) == 4)
    assert sorted(os.path.basename(file) for file, _, _ in sink.entries) == ["a-2.log", "a-3.log", "a-3.log", "a.log"]


@pytest.mark.parametrize("how", ["rename", "rename and create", "copytruncate", "delete and create"])
@pytest.mark.parametrize("while_running", [True, False])
def test_rotation(tmp_path: Path, how: str, while_running: bool) -> None:
    sink, path, old = Memory(), tmp_path / "a.log", tmp_path / "a.log.1"
    plan = plan_of(tmp_path)
    expected: list[str] = []

    def log(*lines: str) -> None:
        write(path, *lines)
        expected.extend(lines)

    def rotate(generation: int) -> None:
        if how == "copytruncate":
            wait_for(lambda: len(sink.lines()) == len(expected))
            shutil.copy(path, old)
            os.truncate(path, 0)
        elif how == "delete and create":
            wait_for(lambda: len(sink.lines()) == len(expected))
            path.unlink()
        else:
            path.rename(tmp_path / f"a.log.{generation}")
        if how == "rename and create":
            path.touch()

    with contextlib.ExitStack() as stack:
        for generation in range(3):
            stack.enter_context(running(plan, sink.connect))
            # The new file is longer, equally long and shorter than the one before.
            log(*(f"{generation} line {i}" for i in range([5, 8, 2][generation])))
            wait_for(lambda: len(sink.lines()) == len(expected))
            if not while_running:
                stack.close()
                if not how.startswith(("copy", "delete")):
                    log("written while nobody looked")
            elif not how.startswith(("copy", "delete")):
                log("just before it was renamed")
            rotate(generation)
            log(f"first of {generation + 1}", *(f"more {generation} {i}" for i in range(9)))
            if while_running:
                wait_for(lambda: len(sink.lines()) == len(expected))
                stack.close()
        stack.enter_context(running(plan, sink.connect))
        wait_for(lambda: len(sink.lines()) >= len(expected))
    assert Counter(sink.lines()) == Counter(expected)


def test_a_truncated_file_that_grew_past_its_old_size_is_read_from_its_beginning(tmp_path: Path) -> None:
    sink, path = Memory(), tmp_path / "a.log"
    plan = plan_of(tmp_path)
    write(path, "short")
    for stopped in (False, True):
        with running(plan, sink.connect):
            wait_for(lambda: sink.lines() and sink.lines()[-1] in ("short", "x 49"))
            if not stopped:
                # Between two looks: cut and written again in one go.
                path.write_text("".join(f"x {i}\n" for i in range(50)))
                wait_for(lambda: sink.lines()[-1] == "x 49")
        if stopped:
            path.write_text("".join(f"y {i}\n" for i in range(99)))
    with running(plan, sink.connect):
        wait_for(lambda: sink.lines()[-1] == "y 98")
    assert sink.lines() == ["short", *(f"x {i}" for i in range(50)), *(f"y {i}" for i in range(99))]


def test_a_writer_that_keeps_a_renamed_file_open_is_followed(tmp_path: Path) -> None:
    sink, path = Memory(), tmp_path / "a.log"
    with running(plan_of(tmp_path), sink.connect) as collector, path.open("a", buffering=1) as writer:
        writer.write("one\n")
        wait_for(lambda: sink.lines() == ["one"])
        path.rename(tmp_path / "a.log.1")
        path.write_text("new file\n")
        wait_for(lambda: len(sink.lines()) == 2)
        time.sleep(0.5)
        # Longer after the rename than a deleted file is watched.
        writer.write("late\nunfinished")
        wait_for(lambda: sink.lines("a.log")[-2:] == ["late", "unfinished"])
        assert len(collector._files.tails) == 2
    assert sink.lines() == ["one", "new file", "late", "unfinished"]


def test_the_unterminated_last_line_of_a_deleted_file(tmp_path: Path) -> None:
    sink, path = Memory(), tmp_path / "a.log"
    path.write_text("one\nunfinished")
    with running(plan_of(tmp_path), sink.connect) as collector:
        wait_for(lambda: sink.lines() == ["one"])
        path.unlink()
        wait_for(lambda: sink.lines() == ["one", "unfinished"])
        wait_for(lambda: not collector._files.tails, what="the deleted file is closed")


def test_many_small_files_and_a_busy_one(tmp_path: Path) -> None:
    sink = Memory()
    for i in range(300):
        write(tmp_path / f"{i}.log", f"only {i}")
    write(tmp_path / "busy.log", *(f"busy {i}" for i in range(20_000)))
    with running(plan_of(tmp_path), sink.connect):
        wait_for(lambda: len(sink.lines()) == 20_300)
    assert Counter(sink.lines()) == Counter([f"only {i}" for i in range(300)] + [f"busy {i}" for i in range(20_000)])
    assert len(offsets(tmp_path)) == 301


def test_odd_bytes_and_long_lines_are_kept_and_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    sink, path = Memory(), tmp_path / "a.log"
    path.write_bytes(b"nul \0 here\n\xff\xfe invalid\n" + b"x" * 5000 + b"\n" + b"y" * 6000 + b"\n\nlast\n")
    with running(plan_of(tmp_path), sink.connect):
        wait_for(lambda: sink.lines()[-1:] == ["last"])
    one, two, three, four, five, _ = sink.lines()
    assert (one, two, five) == ("nul \0 here", "\ufffd\ufffd invalid", "")
    assert three.endswith(" …[cut: 5000 bytes]")
    assert four.endswith(" …[cut: 6000 bytes]")
    assert len(three.encode()) <= 4000
    events = [r.getMessage().split()[0] for r in caplog.records]
    assert (events.count("event=file_not_utf8"), events.count("event=file_line_cut")) == (1, 1)


# -- against the real store


def count_lines(base: str) -> list[str]:
    answer = httpx.get(
        f"{base}/loki/api/v1/query_range",
        params={
            "query": '{job="j"}',
            "limit": 100_000,
            "start": 0,
            "end": time.time_ns() + 10**12,
            "direction": "forward",
        },
        trust_env=False,
        timeout=20,
    )
    assert answer.status_code == 200, answer.text
    return [value[1] for stream in answer.json()["data"]["result"] for value in stream["values"]]


def test_a_killed_store_loses_and_doubles_nothing(tmp_path: Path, rng: random.Random) -> None:
    server = Server(tmp_path / "store")
    logs = tmp_path / "logs"
    logs.mkdir()
    plan = plan_of(logs, url=f"{server.base}/loki/api/v1/push")
    written = 0
    stop = threading.Event()

    def work() -> None:
        nonlocal written
        while not stop.is_set() and written < 4500:
            write(logs / f"{written % 3}.log", *range(written, written + 15))
            written += 15
            stop.wait(0.004)

    writer = threading.Thread(target=work)
    try:
        server.start()
        with running(plan):
            writer.start()
            for _ in range(2):
                time.sleep(0.15 + rng.random() * 0.2)
                server.kill()
                server.start()
            stop.set()
            writer.join()
            write(logs / "0.log", "last")
            wait_for(lambda: sum(offsets(logs).values()) == sum(p.stat().st_size for p in logs.glob("*.log")), 30)
        found = count_lines(server.base)
        assert Counter(found) == Counter([*map(str, range(written)), "last"])
        assert written > 0
    finally:
        stop.set()
        server.stop()


# -- against a Loki


class Loki:
    """An HTTP receiver that takes pushes as Loki does, and fails as it is told."""

    def __init__(self) -> None:
        self.pushes: list[list[tuple[str, str]]] = []
        self.faults: list[str] = []
        self.largest = 0
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.path != "/loki/api/v1/push":
                    self.send_error(404)
                    return
                fault = outer.faults.pop(0) if outer.faults else ""
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                outer.largest = max(outer.largest, len(body))
                if fault != "500":
                    table = read_push(body, self.headers["Content-Type"], "").table
                    outer.pushes.append([(str(row["ts"]), row["line"]) for row in table.to_pylist()])
                if fault == "cut":
                    self.connection.close()
                    return
                self.send_response(int(fault or 204))
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Quiet."""

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign]  # a cut connection is meant
        self.url = f"http://127.0.0.1:{self._server.server_port}/loki/api/v1/push"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def loki() -> Iterator[Loki]:
    made = Loki()
    yield made
    made.close()


def test_a_loki_that_fails_at_times_gets_every_line_with_the_same_times(tmp_path: Path, loki: Loki) -> None:
    loki.faults = ["500", "cut", "", "500", "cut", "cut", "500"] * 3
    with running(plan_of(tmp_path, url=loki.url)):
        for i in range(30):
            write(tmp_path / "a.log", *(f"{i} {j}" for j in range(20)))
            time.sleep(0.01)
        # A time and a line identify an entry: what came twice is one entry to Loki.
        wait_for(lambda: len({e for p in loki.pushes for e in p}) >= 600 and not loki.faults)
    entries = [e for p in loki.pushes for e in p]
    distinct = set(entries)
    assert sorted(line for _, line in distinct) == sorted(f"{i} {j}" for i in range(30) for j in range(20))
    assert len(entries) > len(distinct), "something was sent twice"
    # Entries of one stream and one time keep their order of arrival.
    assert list(dict.fromkeys(line for _, line in entries)) == [f"{i} {j}" for i in range(30) for j in range(20)]


def test_a_loki_gets_pushes_that_its_limits_allow(tmp_path: Path, loki: Loki, caplog: pytest.LogCaptureFixture) -> None:
    lines = [f"{i} ".ljust(3000, "x") for i in range(1500)]
    write(tmp_path / "a.log", *lines)
    loki.faults = ["", "500", "500", "", "cut", "400"]
    with running(plan_of(tmp_path, url=loki.url)):
        wait_for(lambda: offsets(tmp_path).get("a.log") == (tmp_path / "a.log").stat().st_size)
    assert loki.largest < 2 << 20
    assert list(dict.fromkeys(line for p in loki.pushes for _, line in p)) == lines
    # What was taken before a failure is not sent again; a refusal for its content is told.
    sent = Counter(line for p in loki.pushes for _, line in p)
    assert sent[lines[0]] == 1
    assert sum(count - 1 for count in sent.values()) < 500
    assert any("event=entries_refused" in r.getMessage() for r in caplog.records)


def test_a_server_that_is_no_store_of_ours_is_taken_for_a_loki(loki: Loki) -> None:
    sink = connect(Output(loki.url))
    try:
        assert type(sink).__name__ == "LokiSink"
        assert sink.positions(["a"]) == {}
    finally:
        sink.close()


def test_no_server_at_all_is_no_loki() -> None:
    with pytest.raises(Unreachable):
        connect(Output(f"http://127.0.0.1:{free_port()}/loki/api/v1/push"))
