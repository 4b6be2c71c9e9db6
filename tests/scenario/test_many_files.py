"""Very many files: few open, little memory, next to no work while nothing happens, and news at once."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import psutil
import pyarrow as pa

from atalaia.collector.collector import Collector
from atalaia.collector.outputs.sink import Answer, Delivery, Rows
from atalaia.collector.plan import Job, Output, Plan, Target
from atalaia.store.batch import Source
from tests.conftest import soak


class Counted:
    """A sink that counts, and notes when a line came."""

    plans = False
    linger = 0.0

    def __init__(self) -> None:
        self.lines = 0
        self.came: dict[str, float] = {}

    def positions(self, _ids: Sequence[str]) -> dict[str, int]:
        return {}

    def prepare(self, batch: pa.Table, _sources: Sequence[Source], _rows: Rows) -> Delivery:
        return partial(self._push, batch)

    def _push(self, batch: pa.Table) -> Answer:
        now = time.monotonic()
        for line in batch.column("line").to_pylist():
            if line.startswith("news"):
                self.came[line] = now
        self.lines += batch.num_rows
        return Answer()

    def close(self) -> None:
        """Nothing is open."""

    def until(self, count: int, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while self.lines < count:
            assert time.monotonic() < deadline, f"{self.lines} of {count} lines"
            time.sleep(0.02)

    def after(self, line: str, began: float) -> float:
        """Seconds until a line came."""
        while line not in self.came:
            assert time.monotonic() - began < 60, f"{line} never came"
            time.sleep(0.005)
        return self.came[line] - began


def test_very_many_files(tmp_path: Path) -> None:
    files = 10_000 if soak() else 1_500
    logs = tmp_path / "logs"
    for number in range(files):
        folder = logs / f"pod{number % 50}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number}.log").write_text(f"only line of {number}\n")
    job = Job("j", (Target(f"{logs}/**/*.log", {"job": "j"}),))
    plan = Plan((job,), (Output("http://nowhere"),), tmp_path / "positions.db")
    for round_ in range(2):
        sink = Counted()
        collector = Collector(plan, lambda: sink)  # noqa: B023 - asked at once
        thread = threading.Thread(target=collector.run)
        thread.start()
        try:
            if round_ == 0:
                sink.until(files, 120)
            began = time.monotonic()
            (logs / "pod1" / f"new{round_}.log").write_text(f"news file {round_}\n")
            # The second start comes to it only after it has looked at all. Other tests may keep the machine busy.
            assert sink.after(f"news file {round_}", began) < (2.0 if round_ == 0 else 60)
            process = psutil.Process()
            # Only its own: what the test runner itself writes to may be called *.log as well.
            assert len([f for f in process.open_files() if Path(f.path).is_relative_to(logs)]) <= 512
            began = time.monotonic()
            with (logs / "pod3" / "3.log").open("a") as file:
                file.write(f"news line {round_}\n")
            assert sink.after(f"news line {round_}", began) < 2.0
            used, began = time.process_time(), time.monotonic()
            time.sleep(20 if soak() else 1.5)
            share = (time.process_time() - used) / (time.monotonic() - began)
            assert share < (0.01 if soak() else 0.05), f"{share:.1%} of a core while nothing happens"
            # Nothing is read twice after the start.
            assert sink.lines == (files if round_ == 0 else 0) + 2
        finally:
            collector.stop()
            thread.join(30)
        assert not thread.is_alive()
