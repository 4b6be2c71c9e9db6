"""Several outputs at once, each with its own positions; a server that becomes another; what is pushed together."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from logs_support import Server, free_port, wait_for
from scripted_server import Reply, Scripted
from tests.integration.test_collector_delivery import count_lines

from atalaia.collector import collector as collector_module
from atalaia.collector.collecting import Collecting, key_of, places
from atalaia.collector.entries import Entries
from atalaia.collector.listeners.opening import listening
from atalaia.collector.listeners.stdin import opener
from atalaia.collector.outputs.access import Access, Tls
from atalaia.collector.plan import Job, Output, Plan, Target
from atalaia.collector.reading.positions import Positions
from atalaia.environment.errors import InputError


class Counting:
    """A stage with state, which counts what it has seen; a stage of another output must not see it."""

    name = "counting"

    def __init__(self) -> None:
        self.seen = 0

    def __call__(self, entries: Entries) -> Entries:
        self.seen += len(entries)
        lines = entries.last_lines
        return entries.later(
            lines, lambda meters, mask: meters.count("logentry_dropped_lines_total", int(mask.sum()), reason="counted")
        )

    def reads(self) -> frozenset[str]:
        return frozenset()


def output(url: str, name: str = "", **options: object) -> Output:
    return Output(url, name=name, min_backoff=0.02, max_backoff=0.1, batch_wait=0.02, **options)  # type: ignore[arg-type]


def plan_of(folder: Path, *outputs: Output) -> Plan:
    job = Job("j", (Target(f"{folder}/*.log", {"job": "j"}),), stages=(Counting(),))
    return Plan((job,), outputs, folder / "positions")


@contextlib.contextmanager
def running(plan: Plan, ready: list[int] | None = None) -> Iterator[Collecting]:
    collecting = Collecting(plan, on_ready=None if ready is None else lambda: ready.append(1))
    errors: list[BaseException] = []

    def run() -> None:
        try:
            collecting.run()
        except BaseException as error:  # noqa: BLE001 - raised in the test's own thread
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield collecting
    finally:
        collecting.stop()
        thread.join(30)
        assert not thread.is_alive(), "it does not stop"
    if errors:
        raise errors[0]


@pytest.fixture
def loki() -> Iterator[Scripted]:
    made = Scripted()
    yield made
    made.close()


def write(folder: Path, *lines: str) -> None:
    with (folder / "a.log").open("a") as file:
        file.writelines(f"{line}\n" for line in lines)


def test_one_output_that_is_away_does_not_hold_the_other(
    tmp_path: Path, loki: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collector_module, "_PATIENCE", 1.0)
    port = free_port()
    away = output(f"http://127.0.0.1:{port}/loki/api/v1/push", "away")
    plan = plan_of(tmp_path, output(loki.url, "here"), away)
    ready: list[int] = []
    write(tmp_path, "1", "2")
    with running(plan, ready):
        wait_for(lambda: loki.lines == ["1", "2"])
        write(tmp_path, "3")
        wait_for(lambda: loki.lines == ["1", "2", "3"])
    assert ready == [1]
    other = Scripted(port=port)
    try:
        write(tmp_path, "4")
        with running(plan) as collecting:
            wait_for(lambda: sorted(other.lines) == ["1", "2", "3", "4"] and "4" in loki.lines)
            # What stages count is counted once: for the first output.
            counted = collecting.meters.registry.get_sample_value("logentry_dropped_lines_total", {"reason": "counted"})
            assert counted == 1
            host = f"127.0.0.1:{port}"
            wait_for(
                lambda: collecting.meters.registry.get_sample_value("promtail_sent_entries_total", {"host": host}) == 4
            )
    finally:
        other.close()
    assert loki.lines == ["1", "2", "3", "4"]
    names = {path.name for path in tmp_path.glob("positions*")}
    assert {"positions", "positions.away", "positions.output"} <= names


def test_what_ends_one_ends_all_and_is_told(tmp_path: Path, loki: Scripted) -> None:
    bad = output("https://127.0.0.1:1/loki/api/v1/push", "bad", access=Access(tls=Tls(tmp_path / "nowhere")))
    collecting = Collecting(plan_of(tmp_path, output(loki.url), bad))
    with pytest.raises(InputError, match="nowhere"):
        collecting.run()
    for name in ("positions", "positions.bad"):
        Positions(tmp_path / name).close()  # they can be had again


def test_positions_that_cannot_be_used_are_told_at_once(tmp_path: Path, loki: Scripted) -> None:
    (tmp_path / "positions.b").write_bytes(b"no database at all" * 100)
    plan = plan_of(tmp_path, output(loki.url, "a"), output(loki.url, "b"))
    with pytest.raises(InputError, match=r"positions\.b"):
        Collecting(plan)
    (tmp_path / "positions.b").unlink()
    with running(plan):  # nothing was left open or locked
        write(tmp_path, "1")
        wait_for(lambda: loki.lines == ["1", "1"])


def test_whose_positions_are_whose(tmp_path: Path) -> None:
    a, b, c = (output(f"http://{name}/push", name) for name in "abc")
    unnamed = output("http://d/push")
    main = tmp_path / "positions"

    def found(*outputs: Output) -> list[str]:
        return [place.name for place in places(plan_of(tmp_path, *outputs))]

    assert found(a) == ["positions"]
    main.touch()
    # A second one comes, even in the first place, and is taken away again.
    assert found(b, a) == ["positions.b", "positions"]
    (tmp_path / "positions.b").touch()
    assert found(a, b) == ["positions", "positions.b"]
    assert found(b) == ["positions.b"]
    assert found(a, b, unnamed) == ["positions", "positions.b", f"positions.{key_of(unnamed)}"]
    # One output alone may move to another address.
    assert found(c) == ["positions"]
    assert found(c, a) == ["positions", "positions.a"]


def test_positions_of_an_older_version_are_the_first_outputs(tmp_path: Path) -> None:
    (tmp_path / "positions").touch()
    plan = plan_of(tmp_path, output("http://a/push", "a"), output("http://b/push", "b"))
    assert [place.name for place in places(plan)] == ["positions", "positions.b"]
    assert [place.name for place in places(plan)] == ["positions", "positions.b"]


def test_few_lines_go_together(tmp_path: Path, loki: Scripted) -> None:
    one = Output(loki.url, batch_wait=0.5)
    with running(plan_of(tmp_path, one)):
        for number in range(40):
            write(tmp_path, str(number))
            time.sleep(0.02)
        wait_for(lambda: len(loki.lines) == 40)
    assert len(loki.asked) <= 5


def test_a_stop_does_not_wait_for_more(tmp_path: Path, loki: Scripted) -> None:
    with running(plan_of(tmp_path, Output(loki.url, batch_wait=60.0))):
        write(tmp_path, "1")
        wait_for(lambda: loki.lines == ["1"])
        write(tmp_path, "2")
        began = time.monotonic()
    assert time.monotonic() - began < 5
    assert loki.lines == ["1", "2"]


def test_a_loki_becomes_a_store_and_a_loki_again(tmp_path: Path) -> None:
    """At the same address; what the first has acknowledged is not sent to the next."""
    port = free_port()
    logs = tmp_path / "logs"
    logs.mkdir()
    with running(plan_of(logs, output(f"http://127.0.0.1:{port}/loki/api/v1/push"))):
        first = Scripted(port=port)
        write(logs, "1", "2")
        wait_for(lambda: first.lines == ["1", "2"])
        time.sleep(0.1)
        first.close()
        server = Server(tmp_path / "store", port)
        try:
            write(logs, "3")
            server.start()
            write(logs, "4")
            wait_for(lambda: sorted(count_lines(server.base)) == ["3", "4"])
        finally:
            server.kill()
        last = Scripted(port=port)
        last.otherwise = lambda asked: Reply(400 if "arrow" in asked.headers["content-type"] else 204)
        try:
            write(logs, "5")
            pushed = lambda: [a for a in last.asked if "arrow" not in a.headers["content-type"]]  # noqa: E731
            wait_for(lambda: pushed())
            wait_for(lambda: Counter(line for asked in pushed() for line in asked.lines) == Counter(["5"]))
        finally:
            last.close()


def test_equal_lines_that_are_read_together_are_as_many_to_a_loki(tmp_path: Path, loki: Scripted) -> None:
    write(tmp_path, *["again"] * 500)
    with running(plan_of(tmp_path, output(loki.url))):
        wait_for(lambda: len(loki.lines) == 500)
    assert len({row["ts"] for asked in loki.asked for row in asked.rows}) == 500


def test_standard_input_ends_it_once_all_is_delivered(tmp_path: Path, loki: Scripted) -> None:
    read_end, write_end = os.pipe()
    job = listening(Job("j", ()), opener({"job": "j"}, read_end), tmp_path / "positions")
    plan = replace(plan_of(tmp_path, output(loki.url, "a"), output(loki.url, "b")), jobs=(job,))
    loki.replies = [Reply(500)] * 5
    collecting = Collecting(plan)
    threading.Timer(0.2, lambda: (os.write(write_end, b"1\n2\n3"), os.close(write_end))).start()
    collecting.run()
    os.close(read_end)
    assert Counter(line for asked in loki.asked for line in asked.lines).keys() == {"1", "2", "3"}
    assert all(count >= 2 for count in Counter(loki.lines).values())


def test_files_that_rotate_before_there_is_a_server_are_read(tmp_path: Path) -> None:
    port = free_port()
    write(tmp_path, "1")
    with running(plan_of(tmp_path, output(f"http://127.0.0.1:{port}/loki/api/v1/push"))) as collecting:
        wait_for(lambda: len(collecting.collectors[0]._files.tails))
        write(tmp_path, "2")
        (tmp_path / "a.log").rename(tmp_path / "a.log.1")
        write(tmp_path, "3")
        time.sleep(0.3)
        loki = Scripted(port=port)
        try:
            wait_for(lambda: sorted(loki.lines) == ["1", "2", "3"])
        finally:
            loki.close()
