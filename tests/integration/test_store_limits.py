"""Limits as a person sets them, met by a real store: a disk floor, and `atalaia serve --limit`."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from logs_support import Server, child, entries, opened, small_disk, stored_lines, wait_for

from atalaia.environment.state import State
from atalaia.store.commit import StoreUnavailable
from atalaia.store.options import Options
from atalaia.store.store import Store

PUSH = "/loki/api/v1/push"


def answers(server: Server) -> bool:
    with contextlib.suppress(httpx.HTTPError):
        return httpx.get(f"{server.base}/ready", trust_env=False, timeout=2).status_code == 200
    return False


def take(store: Store, line: str) -> bool:
    """Whether the store takes a line."""
    try:
        store.append(entries([line]), "fake").result(20)
    except StoreUnavailable:
        return False
    return True


def test_below_the_floor_pushes_are_refused_queries_go_on_and_with_room_pushes_do(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 32 << 20) as disk, opened(disk / "store", Options(disk_floor=8 << 20)) as store:
        assert take(store, "before")
        ballast = disk / "ballast"
        with open(ballast, "wb") as file:
            os.posix_fallocate(file.fileno(), 0, 26 << 20)
        wait_for(lambda: not take(store, "while there is room"), what="the floor is met")
        taken = stored_lines(store)
        with pytest.raises(StoreUnavailable) as caught:
            store.append(entries(["refused"]), "fake").result(20)
        free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
        assert caught.value.what == f"{free} bytes are free at {disk / 'store'}, less than the floor of {8 << 20}"
        assert "disk_floor" in caught.value.remedy
        assert store.space.shortage() is not None
        assert stored_lines(store) == taken
        ballast.unlink()
        wait_for(lambda: take(store, "after"), what="pushes are taken again")
        assert stored_lines(store) == [*taken, "after"]


def test_a_floor_above_any_disk_refuses_and_a_lower_one_takes(tmp_path: Path) -> None:
    with (
        opened(tmp_path, Options(disk_floor=10**15)) as store,
        pytest.raises(StoreUnavailable, match=r"floor of 10{15}\n"),
    ):
        store.append(entries(["refused"]), "fake").result(20)
    with opened(tmp_path, Options(disk_floor=0)) as store:
        assert stored_lines(store) == []
        assert take(store, "taken")


def test_the_limits_of_serve_are_those_of_its_answers(tmp_path: Path) -> None:
    server = Server(tmp_path, limits=["line_size=128", "metadata_keys=1"])
    try:
        server.start()
        values = [["1", "x" * 128], ["2", "x" * 129], ["3", "m", {"a": "1", "b": "2"}], ["4", "m", {"a": "1"}]]
        streams = [{"stream": {"a": "b"}, "values": values}]
        answer = httpx.post(server.base + PUSH, json={"streams": streams}, trust_env=False)
        assert answer.status_code == 400
        assert (
            answer.text == "2 entries refused, 2 stored; entry 1 at 2: its line is 129 bytes long; the limit is 128\n"
        )
    finally:
        server.stop()
    server = Server(tmp_path, limits=["disk_floor=1000TB"])
    try:
        server.start()
        answer = httpx.post(server.base + PUSH, json={"streams": streams}, trust_env=False)
        assert answer.status_code == 503
        assert "less than the floor of 1000000000000000" in answer.text
        found = httpx.get(
            f"{server.base}/loki/api/v1/query_range",
            params={"query": '{a="b"}', "start": "0", "end": "10"},
            trust_env=False,
        )
        (stream,) = (s for s in found.json()["data"]["result"] if s["stream"] == {"a": "b"})
        assert stream["values"] == [["1", "x" * 128]]
    finally:
        server.stop()


def test_the_limits_of_a_file_are_those_of_its_store(tmp_path: Path) -> None:
    (tmp_path / "atalaia.toml").write_text('[logs.limits]\nlabel_value_size = "3B"\n')
    server = Server(tmp_path / ".atalaia" / "store")
    State(tmp_path / ".atalaia").create()
    State(tmp_path / ".atalaia").remember(ports={"store": server.port})
    with child(["-m", "atalaia", "serve", "--environment", str(tmp_path / "atalaia.toml")]):
        wait_for(lambda: answers(server), what="the server answers")
        body = {"streams": [{"stream": {"a": "çç"}, "values": [["1", "x"]]}]}
        answer = httpx.post(server.base + PUSH, json=body, trust_env=False)
    assert answer.status_code == 400
    assert "entry 0 at 1: label a is 4 bytes long; the limit is 3" in answer.text


def test_a_limit_that_is_none_is_told_and_nothing_starts(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "atalaia", "serve", "--data", str(tmp_path / "d"), "--limit", "line_size=5"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert done.returncode == 2
    assert "--limit line_size=5: '5' is not from 128 B to 64 MiB" in done.stderr
    assert not (tmp_path / "d").exists()
