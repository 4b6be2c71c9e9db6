"""What `status` says of the collector, from the file that it writes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from atalaia.cli.collected import lag_lines, with_lag
from atalaia.collector.lagging import FileLag
from atalaia.collector.statefile import StateFile, summed
from atalaia.environment.load import Environment, load


@pytest.fixture
def environment(tmp_path: Path) -> Environment:
    file = tmp_path / "atalaia.toml"
    file.write_text("")
    found = load(file, lambda _: None)
    found.state.collector.mkdir(parents=True)
    return found


def report(pid: int | None) -> dict[str, Any]:
    return {"services": [{"name": "store", "pid": 1}, {"name": "collector", "pid": pid}]}


def test_it_names_the_files_that_are_furthest_behind(environment: Environment) -> None:
    lags = [FileLag(f"/var/log/{n}.log", "job", 10_000, n * 1000, n / 2) for n in range(8)]
    StateFile(environment.state.collector / "status.json").write([summed("http://a", lags)])
    told = lag_lines(environment, report(os.getpid()))
    assert told[0] == "collector: reads 8 files, 28.0 kB behind in 7 of them, the oldest of it for 4 s"
    assert told[1] == "  /var/log/7.log: 7.0 kB behind for 4 s"
    assert told[-1] == "  and 2 more files"
    assert len(told) == 7
    found = with_lag(environment, report(os.getpid()))["collector"]
    assert found["outputs"][0]["bytes_behind"] == 28_000


def test_several_outputs_are_told_apart(environment: Environment) -> None:
    state = StateFile(environment.state.collector / "status.json")
    state.write([summed("http://a", []), summed("loki", [FileLag("/x", "job", 5, 0, 0.0)])])
    assert lag_lines(environment, report(os.getpid())) == [
        "collector to http://a: reads 0 files, all delivered",
        "collector to loki: reads 1 files, all delivered",
    ]


def test_what_another_process_wrote_is_not_told(environment: Environment) -> None:
    StateFile(environment.state.collector / "status.json").write([summed("http://a", [])])
    assert lag_lines(environment, report(None)) == []
    assert with_lag(environment, report(os.getpid() + 1))["collector"] is None
