"""`python -m bench`: ingestion and start-up, beside well-known tools on the same file in the same run."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import httpx

from bench import reference

_TICKS = os.sysconf("SC_CLK_TCK")
_CONFIG = """\
clients: [{{url: "http://127.0.0.1:{port}/loki/api/v1/push"}}]
positions: {{filename: {folder}/positions}}
scrape_configs:
- job_name: reference
  static_configs:
  - labels: {{job: reference, __path__: {file}}}
  pipeline_stages:
  - regex: {{expression: '^(?P<time>\\S+ \\S+ \\S+) \\[(?P<pid>\\d+)\\] (?P<user>\\w+)@(?P<db>\\w+) (?P<level>\\w+):'}}
  - timestamp: {{source: time, format: "2006-01-02 15:04:05{fraction} MST"}}
  - labels: {{level: }}
"""
_QUERIES = (
    ("count a phrase", 'sum(count_over_time({job="reference"} |= "invalid length of startup packet" [3650d]))'),
    ("absent string", 'sum(count_over_time({job="reference"} |= "no such text anywhere" [3650d]))'),
    ("regex count", 'sum(count_over_time({job="reference"} |~ "duration: [0-9]{3,}\\\\." [3650d]))'),
    ("needle id = 9245039 AND", 'sum(count_over_time({job="reference"} |= "id = 9245039 AND" [3650d]))'),
    ("part of a token 245039 AND", 'sum(count_over_time({job="reference"} |= "245039 AND" [3650d]))'),
    ("count ERROR:", 'sum(count_over_time({job="reference"} |= "ERROR:" [3650d]))'),
    ("count by level", 'sum by (level) (count_over_time({job="reference"}[3650d]))'),
)


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    what: str
    value: str
    scale: str = ""


def timed(action: Callable[[], object]) -> float:
    """Seconds that an action takes."""
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def running(*arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """A service of ours, stopped at the end."""
    process = subprocess.Popen([sys.executable, "-m", "atalaia", *arguments], stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def used(pid: int) -> tuple[float, float]:
    """CPU seconds and peak memory (MB) of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    peak = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM"))
    return (int(fields[11]) + int(fields[12])) / _TICKS, int(peak.split()[1]) / 1000


def tools(file: Path) -> list[Row]:
    """wc, grep and zstd on the file, which is in the page cache then."""
    size = file.stat().st_size / 1e6
    rows = []
    for name, command in (
        ("wc -l", ["wc", "-l", str(file)]),
        ("grep -c (a phrase)", ["grep", "-c", "invalid length of startup packet", str(file)]),
        ("zstd -1", ["zstd", "-1", "-q", "-c", str(file)]),
    ):
        if shutil.which(command[0]):
            # Into a pipe: grep stops at the first match when it sees that its output goes to /dev/null.
            run = partial(subprocess.run, command, stdout=subprocess.PIPE, check=True)
            seconds = min(timed(run) for _ in range(2))
            rows.append(Row(name, f"{seconds * 1000:,.0f} ms", f"{size / seconds:,.0f} MB/s"))
    return rows


def ingestion(file: Path, folder: Path, fraction: str) -> list[Row]:
    """From a file to durable and queryable, through collector and store."""
    size = file.stat().st_size
    lines = int(subprocess.run(["wc", "-l", str(file)], capture_output=True, text=True, check=True).stdout.split()[0])
    port = free_port()
    config = folder / "promtail.yaml"
    config.write_text(_CONFIG.format(port=port, folder=folder, file=file, fraction=fraction))
    rows = []
    with running("serve", "--data", str(folder / "store"), "--listen", f"127.0.0.1:{port}") as store:
        base = f"http://127.0.0.1:{port}"
        await_true(lambda: answers(base))
        began = time.perf_counter()
        with running("collect", "--config", str(config)) as collector:
            positions = folder / "positions.atalaia"
            await_true(lambda: delivered(positions) >= size, 600)
            found = count(base, _QUERIES[-1][1])
            assert found == lines, f"{found} of {lines} lines"
            seconds = time.perf_counter() - began
            store_cpu, store_peak = used(store.pid)
            collector_cpu, collector_peak = used(collector.pid)
        rows.append(
            Row(
                "file to durable and queryable",
                f"{seconds:.2f} s",
                f"{size / 1e6 / seconds:,.0f} MB/s, {lines / seconds / 1e3:,.0f} k lines/s",
            )
        )
        rows.append(
            Row(
                "CPU for it",
                f"{store_cpu + collector_cpu:.1f} s",
                f"store {store_cpu:.1f}, collector {collector_cpu:.1f}",
            )
        )
        rows.append(
            Row(
                "peak memory",
                f"{store_peak + collector_peak:,.0f} MB",
                f"store {store_peak:,.0f}, collector {collector_peak:,.0f}",
            )
        )
        began = time.perf_counter()
        await_true(lambda: indexed(folder / "store" / "segments"), 300)
        rows.append(
            Row("until indexed by templates", f"{time.perf_counter() - began:.1f} s", "in the background, once idle")
        )
        for name, query in _QUERIES:
            best = min(timed(partial(count, base, query)) for _ in range(3))
            rows.append(Row(f"query: {name}", f"{best * 1000:,.1f} ms", f"{count(base, query):,} lines"))
    disk = sum(p.stat().st_size for p in (folder / "store").rglob("*") if p.is_file())
    rows.append(Row("bytes on disk", f"{disk / 1e6:,.0f} MB", f"1 : {size / disk:.1f}"))
    return rows


def answers(base: str) -> bool:
    """Whether the store is ready."""
    with contextlib.suppress(httpx.HTTPError):
        return httpx.get(f"{base}/ready").status_code == 200
    return False


def delivered(positions: Path) -> int:
    """Bytes that the collector has acknowledged."""
    try:
        return sum(f["offset"] for f in json.loads(positions.read_text())["files"].values())
    except (OSError, ValueError, KeyError):
        return 0


def indexed(segments: Path) -> bool:
    """Whether all segments but the newest (in memory still) have their templates."""
    return all(path.name.endswith("-t.parquet") for path in segments.iterdir())


def count(base: str, query: str) -> int:
    """The sum of an instant query's samples."""
    answer = httpx.get(f"{base}/loki/api/v1/query", params={"query": query}, timeout=120)
    answer.raise_for_status()
    return sum(int(s["value"][1]) for s in answer.json()["data"]["result"])


def await_true(condition: Callable[[], bool], seconds: float = 60) -> None:
    """Wait for something outside."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("nothing came")
        time.sleep(0.05)


def start_up(folder: Path) -> list[Row]:
    """`atalaia up`, cold (two initdb) and warm."""
    folder.chmod(0o755)
    (folder / "atalaia.toml").write_text("[collection]\ntargets = []\n")
    command = [sys.executable, "-m", "atalaia"]

    def run(word: str) -> None:
        subprocess.run([*command, word], cwd=folder, check=True, stdout=subprocess.DEVNULL)

    rows = []
    try:
        rows.append(Row("atalaia up, cold", f"{timed(lambda: run('up')):.1f} s", "two initdb"))
        run("down")
        rows.append(Row("atalaia up, warm", f"{timed(lambda: run('up')):.1f} s"))
        rows.append(Row("atalaia up, running already", f"{timed(lambda: run('up')):.1f} s"))
    finally:
        rows.append(Row("atalaia down", f"{timed(lambda: run('down')):.1f} s"))
    return rows


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--lines", type=int, default=4_000_000, help="lines of the reference log")
    parser.add_argument("--file", type=Path, help="use this log instead of making one")
    parser.add_argument("--only", choices=("up", "ingest"), help="only this part")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="atalaia-bench-") as name:
        folder = Path(name)
        rows: list[Row] = []
        if options.only != "up":
            file = options.file or folder / "reference.log"
            if options.file is None:
                reference.write(file, options.lines)
            file.read_bytes()
            with file.open() as log:
                fraction = ".000" if "." in log.readline()[:24] else ""
            rows.append(Row("reference log", f"{file.stat().st_size / 1e6:,.0f} MB"))
            rows += tools(file) + ingestion(file, folder, fraction)
        if options.only != "ingest":
            home = folder / "home"
            home.mkdir()
            folder.chmod(0o755)
            rows += start_up(home)
    width = max(len(row.what) for row in rows)
    for row in rows:
        print(f"{row.what:<{width}}  {row.value:>12}  {row.scale}")


if __name__ == "__main__":
    main()
