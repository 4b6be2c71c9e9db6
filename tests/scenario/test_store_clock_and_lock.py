"""A store whose machine's clock is set back, and one that two processes want."""

from __future__ import annotations

import subprocess
import time
from contextlib import ExitStack
from pathlib import Path

import httpx

from atalaia.store.batch import CONTENT_TYPE, Source, encode
from tests.conftest import soak
from tests.integration.logs_support import child, entries, free_port, wait_for
from tests.integration.store_reader import read
from tests.scenario.numbered import FaultyServer, faulty_server

_DAY = 86_400
_NS = 10**9
_STAGES = (0, -2, -200, 0, 0)  # days by which the clock is wrong, one after the other
_LINES = 50


def push(server: FaultyServer, stage: int, lines: list[tuple[int, str]]) -> httpx.Response:
    """The lines of a stage; their source is the stage's own."""
    body = encode(
        entries([line for _, line in lines], [ts for ts, _ in lines]), [Source(f"stage {stage}", 0, len(lines))]
    )
    url = f"{server.url}/loki/api/v1/push"
    return httpx.post(url, content=body, headers={"Content-Type": CONTENT_TYPE}, trust_env=False, timeout=60)


def test_a_clock_that_is_set_back(tmp_path: Path) -> None:
    clock, stages = tmp_path / "clock", []
    with faulty_server(tmp_path / "store") as server:
        for stage, days in enumerate(_STAGES):
            clock.write_text(str(days * _DAY))
            assert server.start(clock=str(clock), retention_age=300 * _DAY * _NS)
            now = time.time_ns() + days * _DAY * _NS
            lines = [(now + number // 10, f"line {stage} {number}") for number in range(_LINES)]
            assert push(server, stage, lines).status_code == 204
            stages.append(lines)
            httpx.post(f"{server.url}/flush", trust_env=False, timeout=60).raise_for_status()
            server.settle()
            everything = [line for lines in stages for line in lines]
            answer = httpx.get(
                f"{server.url}/loki/api/v1/query_range",
                params={
                    "query": '{job="test"}',
                    "start": "0",
                    "end": str(2**62),
                    "direction": "forward",
                    "limit": 5000,
                },
                trust_env=False,
                timeout=60,
            ).json()
            found = [(int(ts), line) for ts, line in answer["data"]["result"][0]["values"]]
            assert found == sorted(everything, key=lambda entry: entry[0]), "equal times are in order of arrival"
            for before, lines in enumerate(stages):
                assert push(server, before, lines).json() == {"positions": {f"stage {before}": _LINES}}
            server.kill()
            assert [(entry.ts, entry.line) for entry in read(tmp_path / "store").entries] == everything
    print(f"{_LINES * sum(range(1, len(_STAGES) + 1)) * 2} lines checked")


def test_of_two_processes_at_one_moment_exactly_one_has_the_store(tmp_path: Path) -> None:
    rounds = 30 if soak() else 3
    for number in range(rounds):
        # Every other time it is there already.
        directory = tmp_path / str(number // 2)
        ports = [free_port(), free_port()]
        command = ["-m", "atalaia", "serve", "--data", str(directory), "--listen"]
        with ExitStack() as ending:
            both = [
                ending.enter_context(child([*command, f"127.0.0.1:{port}"], stderr=subprocess.PIPE)) for port in ports
            ]
            wait_for(lambda both=both: any(one.poll() is not None for one in both), 60, "one is refused")
            lost, won = sorted(both, key=lambda one: one.poll() is None)
            assert lost.stderr is not None
            assert lost.stderr.read().decode().splitlines() == [
                f"atalaia: another process has the store at {directory} open",
                "  stop it first (`atalaia status` shows it), or give another directory",
            ]
            assert lost.returncode == 1
            url = f"http://127.0.0.1:{ports[both.index(won)]}"
            wait_for(lambda url=url: _answers(url), 60, "the other one answers")
            streams = {"streams": [{"stream": {"a": "b"}, "values": [["1", "x"]]}]}
            assert httpx.post(f"{url}/loki/api/v1/push", json=streams, trust_env=False).status_code == 204
            won.terminate()
            assert won.wait(60) == 0
        assert len(read(directory).entries) == number % 2 + 1
    print(f"{rounds} times two processes")


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/ready", trust_env=False, timeout=5).status_code == 200
    except httpx.HTTPError:
        return False
