"""Processes: recognised by PID and start time, whoever started them and however they ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from atalaia.environment.errors import AtalaiaError
from atalaia.runtime import process as processes
from atalaia.runtime.process import Process


def test_a_program_that_ends_at_once_is_an_ended_process(tmp_path: Path) -> None:
    """A postmaster that finds its predecessor's backends still there ends within a moment; it is to be tried again."""
    for _ in range(300):
        process = processes.start(["/bin/sh", "-c", "exit 3"], output=tmp_path / "out")
        assert process.wait(20)
        assert not process.alive()
        assert process.reap() == 3


def test_a_program_that_does_not_exist_is_told(tmp_path: Path) -> None:
    with pytest.raises(AtalaiaError, match="could not be started"):
        processes.start([tmp_path / "nothing"], output=tmp_path / "out")


def test_a_process_is_found_again_and_stopped_by_whoever_did_not_start_it(tmp_path: Path) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", "import time; print(1, flush=True); time.sleep(100)"], stdout=subprocess.PIPE
    )
    try:
        assert child.stdout
        assert child.stdout.readline() == b"1\n"
        process = Process.of(child.pid)
        assert process is not None
        process.save(tmp_path / "p.json")
        assert Process.read(tmp_path / "p.json") == process
        assert not Process(process.pid, process.started + 1).alive(), "a PID used again is another process"
        assert not process.wait(0.01)
        assert processes.stop(process, ((signal.SIGTERM, 20.0),))
        assert Process.read(tmp_path / "p.json") is None
    finally:
        child.kill()
        child.wait()
        child.stdout.close()


def test_stopping_goes_from_gentle_to_rough(tmp_path: Path) -> None:
    script = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1, flush=True); time.sleep(100)"
    output = tmp_path / "out"
    process = processes.start([sys.executable, "-c", script], output=output)
    try:
        while not output.read_text():
            assert process.alive()
        assert processes.stop(process, ((signal.SIGTERM, 0.1), (signal.SIGKILL, 20.0)))
    finally:
        process.send(signal.SIGKILL)
    assert not process.alive()
    assert os.getsid(0) != process.pid
