"""What a collector would do: checked, run without sending, and shown stage by stage."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from atalaia.cli.severity import coloured, colourful

if TYPE_CHECKING:
    import pyarrow as pa

    from atalaia.collector.inspecting import Change, Inspected
    from atalaia.collector.plan import Job, Plan
    from atalaia.collector.promtail.load import Loaded

_BLUE, _YELLOW, _GREEN, _RED, _BOLD, _FAINT = "34", "33", "32", "31", "1", "2"
_SECOND = 1_000_000_000


def describe(path: Path, loaded: Loaded) -> Iterator[str]:
    """Lines for `--check`: what the file makes the collector do, and what should be known about it."""
    plan = loaded.plan
    jobs = "1 job" if len(plan.jobs) == 1 else f"{len(plan.jobs)} jobs"
    yield f"{path} is good: {jobs}"
    for job in plan.jobs:
        yield from _job(job, plan)
    for output in plan.outputs:
        yield f"to {output.url}" + (f" as tenant {output.tenant}" if output.tenant else "")
    count = len(loaded.before.offsets)
    yield f"positions in {plan.positions}" + (f"; Promtail's of {count} files will be taken over" if count else "")
    if plan.server is not None:
        yield f"HTTP server on {plan.server.address or '*'}:{plan.server.port}"
    for remark in loaded.remarks:
        yield f"note: {remark}"


def _job(job: Job, plan: Plan) -> Iterator[str]:
    stages = f", stages {', '.join(stage.name for stage in job.stages)}" if job.stages else ""
    yield f"job {job.name}{stages}"
    if plan.stdin is not None:
        yield f"  standard input  {braces(plan.stdin)}"
    elif job.listen is not None:
        yield "  what is sent to it, through a spool on disk"
    else:
        for target in job.targets:
            found = len(target.paths())
            files = "1 file" if found == 1 else f"{found} files"
            without = f" without {target.exclude}" if target.exclude else ""
            yield f"  {target.pattern}{without}  {files}  {braces(target.labels)}"


def try_out(loaded: Loaded, inspect: bool) -> None:
    """Print what the plan would send, until a signal or the end of standard input."""
    from dataclasses import replace

    from atalaia.collector.inspecting import Inspection
    from atalaia.collector.promtail.takeover import enter, enter_cursors
    from atalaia.collector.trial import DryRun, borrowed, stdin_run

    plan = loaded.plan
    colours = colourful()
    printer = _Printer(colours)
    for output in plan.outputs:
        print(f"dry run: nothing is sent to {output.url}", file=sys.stderr)
    if inspect:
        external = plan.outputs[0].external_labels
        inspection = Inspection(lambda one: printer.write("\n".join(story(one, external, colours)) + "\n"))
        plan = replace(plan, jobs=tuple(inspection.job(job) for job in plan.jobs))

    def show(table: pa.Table) -> None:
        if not inspect:
            printer.write("".join(sent(table, colours)))

    with borrowed(plan) as tried:
        if plan.stdin is not None:
            stop = threading.Event()
            printer.stop = stop.set
            stdin_run(tried, show, sys.stdin.fileno(), stop)
        else:
            if loaded.before:
                enter_cursors(tried, loaded.before)
                enter(tried, loaded.before, tried.positions)
            collector = DryRun(tried, show)
            printer.stop = collector.stop
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, lambda *_: collector.stop())
            collector.run()
    if printer.broken:
        raise BrokenPipeError


class _Printer:
    """Writes to standard output from any thread; a reader that went away ends the run."""

    def __init__(self, colours: bool) -> None:
        self.stop: Callable[[], None] = lambda: None
        self.broken = False

    def write(self, text: str) -> None:
        """Write and flush."""
        try:
            sys.stdout.write(text)
            sys.stdout.flush()
        except BrokenPipeError:
            self.broken = True
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            self.stop()


def sent(table: pa.Table, colours: bool) -> Iterator[str]:
    """Time, labels and line of entries, with tabs between, as Promtail's dry run prints them; metadata behind."""
    for row in table.to_pylist():
        labels = braces(json.loads(row["labels"]))
        metadata = f"\t{braces(dict(row['metadata']))}" if row["metadata"] else ""
        yield _entry(row["ts"], labels, row["line"] + metadata, colours) + "\n"


def _entry(ts: int, labels: str, line: str, colours: bool) -> str:
    parts = (_paint(moment(ts), _BLUE, colours), _paint(labels, _YELLOW, colours), line)
    return "\t".join(parts)


def moment(ts: int) -> str:
    """A time in ns as Promtail prints it: local, the fraction without its last zeros, the offset behind."""
    local = datetime.fromtimestamp(ts // _SECOND).astimezone()
    fraction = f"{ts % _SECOND:09d}".rstrip("0")
    return f"{local:%Y-%m-%dT%H:%M:%S}{'.' if fraction else ''}{fraction}{local:%z}"


def braces(labels: Mapping[str, str]) -> str:
    """Labels as LogQL writes them."""
    return "{" + ", ".join(f"{name}={_quoted(value)}" for name, value in sorted(labels.items())) + "}"


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _paint(text: str, code: str, colours: bool) -> str:
    return coloured(text, code) if colours else text


def story(one: Inspected, external: Mapping[str, str], colours: bool) -> Iterator[str]:
    """An entry as it came, what each stage did to it, and what would be sent."""
    yield _entry(one.ts, braces(one.labels), one.line, colours)
    ts, labels, line, gone = one.ts, dict(one.labels), one.line, False
    for stage, changes in one.steps:
        for number, change in enumerate(changes):
            name = _paint(f"{stage:>20}", _BOLD, colours) if not number else " " * 20
            yield f"{name}  {_change(change, colours)}"
            gone = gone or change.what in ("dropped", "joined")
            if change.what == "label" and change.after is None:
                labels.pop(change.name, None)
            elif change.what == "label":
                labels[change.name] = str(change.after)
            elif change.what == "time":
                ts = int(change.after or 0)
            elif change.what == "line":
                line = str(change.after)
        if not changes:
            yield f"{_paint(f'{stage:>20}', _BOLD, colours)}  {_paint('no change', _FAINT, colours)}"
    if not gone:
        yield f"{'=>':>20}  " + _entry(ts, braces(labels | dict(external)), line, colours)


def _change(change: Change, colours: bool) -> str:
    if change.what == "dropped":
        return _paint("- dropped", _RED, colours)
    if change.what == "joined":
        return _paint("+ joined to the entry before", _GREEN, colours)
    before, after = (
        moment(int(value or 0)) if change.what == "time" else _quoted(str(value))
        for value in (change.before, change.after)
    )
    what = f"{change.what} {change.name}".rstrip()
    if change.before is None:
        return _paint(f"+ {what} = {after}", _GREEN, colours)
    if change.after is None:
        return _paint(f"- {what} = {before}", _RED, colours)
    return _paint(f"~ {what}: {before} -> {after}", _YELLOW, colours)
