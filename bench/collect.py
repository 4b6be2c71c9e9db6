"""The collector beside `wc -l` and a loop of Python: pipelines, many files, the cost of waiting, memory."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from atalaia.collector.lines import split
from bench.ingest import collected
from bench.logs import Log
from bench.service import collecting, serving
from bench.table import Row

_BLOCK = 8 << 20
_FASTEST, _OTHERS, _MEMORY, _IDLE = 120.0, 50.0, 250.0, 1.0  # targets: MB/s, MB/s, MB, % of a core
_IDLE_SECONDS = 60.0
_TRACE = "\tat com.example.shop.Cart.add(Cart.java:42)"
_JSON = """
  - json: {expressions: {ts: , level: , path: }}
  - timestamp: {source: ts, format: RFC3339Nano}
  - labels: {level: }"""
_LOGFMT = """
  - logfmt: {mapping: {ts: , level: , queue: }}
  - timestamp: {source: ts, format: RFC3339Nano}
  - labels: {level: }"""
_CRI = """
  - cri: {}"""
_DOCKER = """
  - docker: {}"""
_MULTILINE = r"""
  - multiline: {firstline: '^\d{4}-\d\d-\d\d ', max_wait_time: 500ms}
  - regex: {expression: '^(?P<time>\S+ \S+ \S+) \[(?P<pid>\d+)\] (?P<user>\w+)@(?P<db>\w+) (?P<level>\w+):'}
  - timestamp: {source: time, format: "2006-01-02 15:04:05FRACTION MST"}
  - labels: {level: }"""


def measure(folder: Path, logs: tuple[Log, ...], files: int) -> list[Row]:
    """Everything; `logs` as bench.logs.make gives them, `files` of a million lines, 1,000 times as many idle ones."""
    folder.mkdir(parents=True)
    reference, web, worker = logs
    rows = _beside(reference)
    made = [
        ("collect: regex, time, label", reference, None, _FASTEST),
        ("collect: json", web, _JSON, _OTHERS),
        ("collect: logfmt", worker, _LOGFMT, _OTHERS),
        ("collect: multiline", _other(folder, reference, "multiline", _with_traces), _MULTILINE, _OTHERS),
        ("collect: cri", _other(folder, reference, "cri", _as_cri), _CRI, _OTHERS),
        ("collect: docker", _other(folder, reference, "docker", _as_docker), _DOCKER, _OTHERS),
    ]
    for what, log, stages, target in made:
        with serving(folder / "store") as store:
            found = collected(store, log, folder, stages, counted=stages is None)
        shutil.rmtree(folder / "store")
        rows.append(Row(what, found.speed, "MB/s", target, note=found.note))
        if log is reference:
            rows.append(Row("  memory of the collector", found.collected, "MB", _MEMORY))
    return [*rows, *_many(folder, reference, files), *_idle(folder, files * 1000)]


def _beside(log: Log) -> list[Row]:
    """`wc -l`, and Python going through the lines."""
    (file,) = log.files
    began = time.perf_counter()
    subprocess.run(["wc", "-l", str(file)], check=True, stdout=subprocess.DEVNULL)
    wc = time.perf_counter() - began
    began = time.perf_counter()
    lines = 0
    with file.open("rb") as opened:
        for _ in opened:
            lines += 1
    loop = time.perf_counter() - began
    note = f"{lines / loop / 1e3:,.0f} k lines/s, doing nothing with them"
    return [
        Row("wc -l", log.size / 1e6 / wc, "MB/s"),
        Row("for line in file: pass", log.size / 1e6 / loop, "MB/s", note=note),
    ]


def _other(folder: Path, log: Log, job: str, change: Callable[[pa.Array, pa.Array], pa.Array]) -> Log:
    """The first quarter of the reference log in another form."""
    path = folder / f"{job}.log"
    left = log.size // 4
    with log.files[0].open("rb") as source, path.open("wb") as made:
        rest = b""
        while left > 0 and (data := source.read(_BLOCK)):
            whole, _, rest = (rest + data).rpartition(b"\n")
            left -= len(data)
            lines = split(whole + b"\n")
            text = change(pc.utf8_slice_codeunits(lines, 0, 10), lines)
            made.write("\n".join(text.to_pylist()).encode() + b"\n")
    return Log(job, job, (path,), "", servers=False)


def _with_traces(_: pa.Array, lines: pa.Array) -> pa.Array:
    return pc.binary_join_element_wise(lines, _TRACE, _TRACE, "\n")


def _as_cri(day: pa.Array, lines: pa.Array) -> pa.Array:
    moment = pc.utf8_slice_codeunits(lines, 11, 23)
    return pc.binary_join_element_wise(day, "T", moment, "456789Z stdout F ", lines, "")


def _as_docker(day: pa.Array, lines: pa.Array) -> pa.Array:
    moment = pc.utf8_slice_codeunits(lines, 11, 23)
    text = pc.replace_substring(pc.replace_substring(lines, "\\", "\\\\"), '"', '\\"')
    return pc.binary_join_element_wise('{"log":"', text, '\\n","stream":"stderr","time":"', day, "T", moment, 'Z"}', "")


def _many(folder: Path, log: Log, files: int) -> list[Row]:
    """Files of a million lines each, all there at the start, served in turn."""
    place = folder / "many"
    place.mkdir()
    head = _first_lines(log.files[0], 1_000_000)
    paths = []
    for number in range(files):
        paths.append(place / f"{number}.log")
        paths[-1].write_bytes(b"2024-08-09 00:00:00.000 UTC [1] a@b LOG:  file %d\n" % number + head)
    many = Log("many", "many", tuple(paths), log.stages, servers=False)
    with serving(folder / "store") as store:
        found = collected(store, many, folder, counted=False)
    shutil.rmtree(folder / "store")
    shutil.rmtree(place)
    what = f"collect: {files} files of 1 M lines"
    return [
        Row(what, found.speed, "MB/s", _FASTEST, note=found.note),
        Row("  memory of the collector", found.collected, "MB", _MEMORY),
    ]


def _first_lines(file: Path, count: int) -> bytes:
    with file.open("rb") as opened:
        return b"".join(line for _, line in zip(range(count), opened, strict=False))


def _idle(folder: Path, files: int) -> list[Row]:
    """Nothing to do, with many files: percent of a core, and how soon a new file's line is there."""
    place = folder / "idle"
    place.mkdir()
    for number in range(files):
        (place / f"{number}.log").write_text("once\n")
    positions, config = folder / "idle.positions", folder / "idle.yaml"
    with serving(folder / "store") as store:
        target = f"static_configs: [{{labels: {{job: idle, __path__: '{place}/*.log'}}}}]"
        config.write_text(
            f"clients: [{{url: '{store.base}/loki/api/v1/push'}}]\npositions: {{filename: '{positions}'}}\n"
            f"scrape_configs: [{{job_name: idle, {target}}}]\n"
        )
        kept = Path(f"{positions}.atalaia")
        with collecting(config) as collector:
            collector.wait(lambda: store.held(kept) >= 5 * files, 600, "the files are read")
            time.sleep(5)
            before, began = collector.cpu, time.monotonic()
            time.sleep(_IDLE_SECONDS)
            used = (collector.cpu - before) / (time.monotonic() - began) * 100
            began = time.monotonic()
            (place / "new.log").write_text("new!\n")
            collector.wait(lambda: store.held(kept) >= 5 * files + 5, 60, "a new file is read")
            soon = time.monotonic() - began
            peak = collector.peak
    shutil.rmtree(folder / "store")
    shutil.rmtree(place)
    note = f"over {_IDLE_SECONDS:.0f} s; a new file's line was stored after {soon:.2f} s"
    return [
        Row(f"collect: {files:,} idle files", used, "% of a core", _IDLE, note=note),
        Row("  memory of the collector", peak, "MB", _MEMORY),
    ]
