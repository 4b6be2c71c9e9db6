"""Deletions: hidden at once, gone from every file once they are finished, and recorded."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import HTTPServer, SimpleHTTPRequestHandler
from pathlib import Path

import httpx
import pytest
from api_support import HOUR, NOW, Served, Tenant, assert_quiet, served, tenant
from tests.integration.logs_support import opened, wait_for
from tests.integration.test_retention import assert_gone
from tests.integration.test_store_index import EAGER, compacted, condition, found, push

from atalaia.store.options import Options
from atalaia.store.relation import numbers
from atalaia.store.store import Store

__all__ = ["served", "tenant"]
APP = {"job": "app"}


def delete(store: Store, *needles: str) -> int:
    """Ask for a deletion; its seq."""
    with store.snapshot() as snapshot:
        ids = numbers([stream.id for stream in snapshot.streams.of("fake")])
    return store.delete("fake", "{}", 0, 2**62, ids, tuple(condition([needle]) for needle in needles)).seq


def finished(store: Store) -> bool:
    return all(deletion.finished for deletion in store.deletions())


# -- over HTTP


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Served]:
    """A server of a store of the test's own."""
    server = Served(tmp_path / "store")
    try:
        yield server
    finally:
        code = server.stop()
    assert code == 0
    assert_quiet(server)


@pytest.fixture
def tenants(server: Served) -> Iterator[tuple[Tenant, Tenant]]:
    with httpx.Client(base_url=server.url, timeout=30, trust_env=False) as client:
        yield Tenant(client, "one"), Tenant(client, "two")


def ask(tenant: Tenant, query: str, **parameters: object) -> httpx.Response:
    parameters = {"start": NOW - HOUR, "end": NOW + HOUR, **parameters}
    return tenant.call("/loki/api/v1/delete", "POST", params={"query": query, **parameters})


def record(tenant: Tenant) -> list[dict[str, object]]:
    return list(tenant.call("/loki/api/v1/delete").json())


def test_over_http(tenants: tuple[Tenant, Tenant], server: Served, tmp_path: Path) -> None:
    one, two = tenants
    one.push(APP, [(NOW, "public"), (NOW + 1, "password is swordfish"), (NOW + HOUR, "password is later-than-that")])
    one.push({"customer": "acme-corp"}, [(NOW, "all of it"), (NOW + 1, "all of it too")])
    two.push(APP, [(NOW, "password of the other")])
    one.call("/flush", "POST")
    one.push(APP, [(NOW + 2, "password is hunter2, from memory")])
    assert ask(one, '{job="app"} |= "password"').status_code == 204
    assert ask(one, '{customer="acme-corp"}').status_code == 204
    one.push(APP, [(NOW + 3, "password pushed after it")])

    def check() -> None:
        assert one.lines('{job="app"}', direction="forward", end=NOW + 2 * HOUR) == [
            "public", "password pushed after it", "password is later-than-that",
        ]  # fmt: skip
        assert one.lines('{customer="acme-corp"}') == []
        assert one.vector('sum(count_over_time({job="app"} |= "password"[1h]))', NOW + 3) == {"{}": 1.0}
        assert two.lines('{job="app"}') == ["password of the other"]

    check()
    wait_for(lambda: {one["status"] for one in record(tenants[0])} == {"processed"}, what="both are processed")
    check()
    assert one.get("label/customer/values", start=NOW - HOUR, end=NOW + HOUR) == []
    assert one.get("series", start=NOW - HOUR, end=NOW + HOUR) == [APP]
    for text in (b"swordfish", b"hunter2", b"all of it"):
        assert_gone(tmp_path / "store", text)
    first, second = record(one)
    assert (first["query"], first["removed"], second["removed"]) == ('{job="app"} |= "password"', 2, 2)
    assert abs(float(str(first["finished_at"])) - time.time()) < 60
    assert record(two) == []
    assert server.stop() == 0
    with opened(tmp_path / "store") as store:
        assert [stream.text for stream in store.streams.of("one")] == ['{"job":"app"}']
        assert [deletion.rows for deletion in store.deletions()] == [2, 2]
    for path in (tmp_path / "store").rglob("*"):
        # The record tells what was asked for, which names the stream.
        assert path.is_dir() or path.name == "catalogue.sqlite" or b"acme-corp" not in path.read_bytes()


@pytest.mark.parametrize(
    ("query", "parameters", "message"),
    [
        ("sum(rate({a=\"b\"}[1m]))", {}, "not by a metric query"),
        ('{a="b"} | json', {}, "a deletion takes a selector, and filters of lines"),
        ('{a="b"} |> "<_>x"', {}, "a deletion takes a selector, and filters of lines"),
        ('{a="b"} |= ip("127.0.0.1")', {}, "a deletion takes a selector, and filters of lines"),
        ('{a="b"', {}, "line 1, col"),
        ('{a="b"}', {"start": ""}, "the parameter 'start' is missing"),
        ('{a="b"}', {"start": NOW, "end": NOW}, "start is not before end"),
    ],
)  # fmt: skip
def test_what_is_refused(tenant: Tenant, query: str, parameters: dict[str, object], message: str) -> None:
    answer = ask(tenant, query, **parameters)
    assert answer.status_code == 400
    assert message in answer.text
    assert record(tenant) == []


def test_a_deletion_cannot_be_cancelled(tenant: Tenant) -> None:
    tenant.push(APP, [(NOW, "gone")])
    assert ask(tenant, '{job="app"}').status_code == 204
    answer = tenant.call("/loki/api/v1/delete", "DELETE", params={"request_id": record(tenant)[0]["request_id"]})
    assert answer.status_code == 400
    assert "a deletion cannot be cancelled" in answer.text
    assert tenant.lines('{job="app"}') == []


# -- the store


def test_what_a_deletion_meets_is_decided_by_the_order_of_arrival_whatever_else_goes_on(tmp_path: Path) -> None:
    stop = threading.Event()
    with opened(tmp_path, Options(flush_bytes=20_000, idle_seconds=0.02)) as store:
        pushed: list[str] = []

        def write() -> None:
            while not stop.is_set():
                lines = [f"{kind} {len(pushed) + n}" for n in range(25) for kind in ("odd", "even")]
                push(store, lines)
                pushed.extend(lines)

        thread = threading.Thread(target=write)
        thread.start()
        seqs = []
        try:
            for _ in range(4):
                size = len(pushed)
                wait_for(lambda size=size: len(pushed) > size + 1000)  # type: ignore[misc]
                seqs.append(delete(store, "odd"))
                assert len([line for line in found(store) if line.startswith("odd")]) <= len(pushed)
        finally:
            stop.set()
            thread.join()
        # An entry's seq is its place in the order of arrival, from 1.
        left = [line for seq, line in enumerate(pushed, 1) if seq > seqs[-1] or not line.startswith("odd")]
        assert found(store) == left
        wait_for(lambda: finished(store) and store.settled)
        assert found(store) == left
        assert sum(deletion.rows for deletion in store.deletions()) == len(pushed) - len(left)
    with opened(tmp_path) as store:
        assert found(store) == left


@pytest.mark.parametrize("where", ["in memory", "before the catalogue", "after the catalogue", "before it is finished"])
def test_a_killed_deletion_goes_on(tmp_path: Path, where: str) -> None:
    code = f"""
import os, sys, threading
sys.path.insert(0, {str(Path(__file__).parent)!r})
from tests.integration.test_store_index import *
from atalaia.store.relation import numbers
from atalaia.store.commit import Committer
from atalaia.store.catalogue import Catalogue
replace = Catalogue.replace
store = Store(Path({str(tmp_path)!r}), EAGER)
# A number that was given to a stream whose entries were never stored.
store.streams.number("fake", '{{"burned":"number"}}')
push(store, ["keep", "the secret-word"])
store.append(entries(["other secret-word"], labels={{"other": "stream"}}), "fake").result(20)
if {where!r} != "in memory": store.flush()
def before(*given):
    if any(given[3:]): os._exit(9)
    replace(*given)
def after(*given):
    replace(*given)
    if any(given[3:]): os._exit(9)
if {where!r} == "before the catalogue": Catalogue.replace = before
if {where!r} == "after the catalogue": Catalogue.replace = after
if {where!r} == "before it is finished": Catalogue.finish_deletion = lambda *_: os._exit(9)
if {where!r} == "in memory": Committer.wake = lambda *_: os._exit(9)
wait_for(lambda: {where!r} == "in memory" or compacted(store))
ids = numbers([s.id for s in store.streams.of("fake") if "job" in s.labels])
store.delete("fake", "{{}}", 0, 2**62, ids, (condition(["secret"]),))
threading.Event().wait(20)
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert result.returncode == 9, result.stderr
    with opened(tmp_path, EAGER) as store:
        assert found(store) == ["keep", "other secret-word"]
        wait_for(lambda: finished(store))
        assert found(store) == ["keep", "other secret-word"]
        assert [deletion.rows for deletion in store.deletions()] == [1]
        assert_gone(tmp_path, b"the secret-word")


def test_it_is_not_finished_while_a_query_reads_the_old_file(tmp_path: Path) -> None:
    with opened(tmp_path, EAGER) as store:
        push(store, ["keep", "secret-word"])
        store.flush()
        wait_for(lambda: compacted(store))
        with store.snapshot() as snapshot:
            (path,) = (part.path for part in snapshot.parts)
            delete(store, "secret")
            wait_for(lambda: [part.rows for part in store._shelf.parts] == [1])
            assert path is not None
            assert path.exists()
            assert not finished(store)
        wait_for(lambda: finished(store))
        assert_gone(tmp_path, b"secret-word")


def test_it_is_not_finished_while_a_damaged_segment_may_have_some_of_it(tmp_path: Path) -> None:
    with opened(tmp_path, EAGER) as store:
        push(store, ["secret-word in a damaged file"])
        store.flush()
        wait_for(lambda: compacted(store))
        push(store, ["other"])
    (first, *_) = sorted((tmp_path / "segments").glob("*.parquet"), key=lambda path: path.name.rpartition("-")[2])
    first.write_bytes(first.read_bytes()[:-10])
    with opened(tmp_path, EAGER) as store:
        assert found(store) == ["other"]
        delete(store, "secret")
        wait_for(lambda: store.settled)
        assert not finished(store)


# -- the commands


def atalaia(server: Served, *arguments: str, answer: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "atalaia", *arguments, "--url", server.url],
        input=answer, capture_output=True, text=True, timeout=60, env={**os.environ, "COLUMNS": "300"},
    )  # fmt: skip


def test_the_commands_of_deletion(tenants: tuple[Tenant, Tenant], server: Served) -> None:
    one, _ = tenants
    one.push(APP, [(NOW + n, f"{kind} {n}") for n in range(10) for kind in ("keep", "drop")])
    wanted = ("store", "delete", '{job="app"} |= "drop"  # these', "--from", "0", "--tenant", "one")
    for answer in ("n\n", ""):
        refused = atalaia(server, *wanted, answer=answer)
        assert refused.returncode == 130, refused.stderr
        assert "delete 10 entries from 1970-01-01 00:00:00.000 to " in refused.stderr
    assert record(one) == []
    done = atalaia(server, *wanted, "--to", str(NOW + 5), answer="y\n")
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stderr
    assert "delete 5 entries" in done.stderr
    assert len(one.lines('{job="app"} |= "drop"')) == 5
    assert atalaia(server, *wanted, "--yes").returncode == 0
    assert len(one.lines('{job="app"}')) == 10
    again = atalaia(server, *wanted)
    assert (again.returncode, again.stderr) == (0, "there are no such entries; nothing was deleted\n")
    wait_for(lambda: {found["status"] for found in record(one)} == {"processed"})
    listed = atalaia(server, "store", "deletions", "--tenant", "one")
    rows = [re.split(r" {2,}", line.strip()) for line in listed.stdout.splitlines()]
    assert rows[0] == ["ID", "ASKED FOR", "FINISHED", "REMOVED", "FROM", "TO", "QUERY"]
    assert [(row[0], row[3], row[6]) for row in rows[1:]] == [(str(n), "5", '{job="app"} |= "drop"') for n in (1, 2)]
    assert json.loads(atalaia(server, "store", "deletions", "--tenant", "one", "--json").stdout) == record(one)
    assert atalaia(server, "store", "deletions").stderr == "nothing was ever deleted\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (('{job="app"', "--from", "0"), "line 1, col"),
        (('rate({job="app"}[1m])', "--from", "0"), "not by a metric query"),
        (('{job="app"} | json', "--from", "0", "--yes"), "a deletion takes a selector"),
        (('{job="app"}', "--from", "2", "--to", "1"), "--from is not before --to"),
        (('{job="app"}', "--from", "soon"), "--from='soon' is not a time"),
        (('{job="app"}',), "Missing option '--from'"),
    ],
)
def test_commands_that_are_refused(served: Served, arguments: tuple[str, ...], message: str) -> None:
    result = atalaia(served, "store", "delete", *arguments)
    assert result.returncode == 2
    assert message in result.stderr


def test_explain(tenants: tuple[Tenant, Tenant], server: Served) -> None:
    tenant = Tenant(tenants[0].http, "fake")
    tenant.push(APP, [(NOW + n, f"took {n} ms") for n in range(10)])
    tenant.call("/flush", "POST")
    wait_for(lambda: tenant.call("/atalaia/v1/store").json()["settled"], what="compacted")
    tenant.push(APP, [(NOW, "in memory")])
    command = ("query", '{job="app"} |= "failed"', "--from", str(NOW - HOUR), "--to", str(NOW + HOUR), "--explain")
    lines = atalaia(server, *command).stdout.splitlines()
    assert lines[0] == '{job="app"} |= "failed"'
    assert any(line.startswith("SELECT ") and "memory_entries" in line for line in lines), "the SQL that was run"
    assert re.fullmatch(r"0 entries passed, in [0-9.,]+ ms", lines[-1])
    begin = next(number for number, line in enumerate(lines) if "SEGMENT" in line)
    rows = [re.split(r" {2,}", line.strip()) for line in lines[begin:-1]]
    assert rows[0][:4] == ["SEGMENT", "ROW GROUPS", "READ", "ENTRIES"]
    assert rows[0][4:] == ["PASSED OVER: TIME", "STREAMS", "TEMPLATES", "TOKENS"]
    assert rows[1][0].endswith(".parquet")
    assert rows[1][1:] == ["1", "0", "0", "0", "0", "1", "0"]
    assert rows[2:] == [["memory", "-", "-", "1", "0", "0", "0", "0"], ["total", "1", "0", "1", "0", "0", "1", "0"]]
    told = json.loads(atalaia(server, *command, "--json").stdout)
    assert [one["rows"] for one in told["readings"]] == [0, 1]
    assert told["failed"] is None
    options = {"query": 'sum(count_over_time({job="app"} |= "took" [1h]))', "start": NOW - HOUR, "end": NOW + HOUR}
    explained = tenant.call("/atalaia/v1/explain", params={**options, "step": 60}).json()["data"]
    assert explained["query"] == options["query"]
    assert explained["passed"] > 0
    assert "GROUP BY" in explained["statements"][0]
    assert tenant.call("/atalaia/v1/explain", params={**options, "step": "1ms"}).status_code == 400


def test_a_server_that_is_not_atalaia_is_told_so() -> None:
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Quiet) as http:
        thread = threading.Thread(target=http.serve_forever)
        thread.start()
        try:
            url = f"http://127.0.0.1:{http.server_port}"
            command = [sys.executable, "-m", "atalaia", "query", '{a="b"}', "--explain", "--url", url]
            result = subprocess.run(command, capture_output=True, text=True, timeout=60)
        finally:
            http.shutdown()
            thread.join()
    assert result.returncode == 1
    assert f"{url} has no /atalaia/v1/explain\n  Atalaia's own log store has it" in result.stderr
