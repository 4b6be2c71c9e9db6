"""Does what `atalaia query` was asked: lines, samples, names, what comes."""

from __future__ import annotations

import itertools
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from atalaia.cli.common import print_json
from atalaia.cli.labels import spelled
from atalaia.cli.options import Checked, Options
from atalaia.cli.output import Form, Sink, writer
from atalaia.environment.errors import InputError
from atalaia.environment.units import show_size

if TYPE_CHECKING:
    from atalaia.client.entries import LogEntry
    from atalaia.client.loki import LokiClient
    from atalaia.environment.connection import Connection
    from atalaia.logql.tree import Query

_PIECE = 1000
_PAGE = 5000


@dataclass(frozen=True, slots=True)
class Question:
    """Options, the time they mean ([start, end) ns), and the query's tree if there is one."""

    options: Options
    start: int
    end: int
    tree: Query | None
    checked: Checked


def ask(connection: Connection, question: Question) -> None:
    """Ask, and print. Raises InputError, AtalaiaError."""
    from atalaia.client.loki import LokiClient

    client = LokiClient(connection)
    totals: Counter[str] = Counter()
    client.on_stats = lambda stats: _add(totals, stats)
    options = question.options
    try:
        if options.labels:
            _print_names(_names(client, question), options)
        elif options.series:
            _print_series(client, question)
        elif options.explain:
            _print_explained(client, question)
        elif question.checked.metric:
            _print_metric(client, question)
        else:
            _print_lines(client, question)
    except OSError as error:
        if isinstance(error, BrokenPipeError) or options.out is None:
            raise
        raise InputError(f"{options.out} cannot be written: {error.strerror}") from error
    finally:
        client.close()
        if options.stats:
            _tell_stats(totals, options.style.note)


def _names(client: LokiClient, question: Question) -> list[str]:
    between = {"start": question.start, "end": question.end}
    if question.options.logql is None:
        return list(client.get("/loki/api/v1/labels", between) or ())
    name = quote(question.options.logql, safe="")
    return list(client.get(f"/loki/api/v1/label/{name}/values", between) or ())


def _print_names(names: Iterable[str], options: Options) -> None:
    found = sorted(names)
    if options.whole:
        print_json(found)
    else:
        Sink(options.out).write("".join(f"{name}\n" for name in found))
    if not found:
        options.style.note("there are none")


def _print_series(client: LokiClient, question: Question) -> None:
    options = question.options
    parameters = {"match[]": options.logql, "start": question.start, "end": question.end}
    found = client.get("/loki/api/v1/series", parameters) or []
    if options.whole:
        print_json(found)
    else:
        Sink(options.out).write("".join(f"{text}\n" for text in sorted(map(spelled, found))))
    if not found:
        options.style.note("there are none")


def _print_explained(client: LokiClient, question: Question) -> None:
    from atalaia.cli.readings import print_readings

    options, step = question.options, question.checked.step
    parameters = {
        "query": options.logql,
        "start": question.start,
        "end": question.end,
        "direction": "forward" if options.forward else "backward",
        "limit": options.limit or _PAGE,
        **({"step": _seconds(step)} if step is not None else {}),
    }
    readings = client.get("/atalaia/v1/explain", parameters)
    print_json(readings) if question.options.whole else print_readings(readings)


def _print_metric(client: LokiClient, question: Question) -> None:
    from atalaia.cli.histogram import step_for
    from atalaia.cli.samples import print_samples

    options, checked, start, end = question.options, question.checked, question.start, question.end
    logql = options.logql or ""
    if checked.step is None and not options.histogram:
        data = client.query(logql, time=checked.at if checked.at is not None else end)
    else:
        step = checked.step or step_for(start, end)
        data = client.query_range(logql, start=start, end=end, step=_seconds(step))
    if options.whole:
        print_json(data)
    else:
        print_samples(data, options.form, options.style, options.out)


def _print_lines(client: LokiClient, question: Question) -> None:
    from atalaia.cli.progress import Meter

    options = question.options
    if options.histogram:
        _print_histogram(client, question)
    lines = size = 0
    began = time.monotonic()
    # Lines on the terminal show by themselves how far it is.
    seen = options.out is None and sys.stdout.isatty()
    export = not (options.quiet or options.follow or seen) and (options.limit == 0 or options.limit > _PAGE)
    done = False
    with ExitStack() as closing:
        to = writer(options.form, options.style, options.out)
        meter = closing.enter_context(Meter("reading", "B")) if export else None
        closing.callback(to.close)
        try:
            to.write([])
            for entries in _pieces(client, question):
                to.write(entries)
                lines += len(entries)
                size += sum(len(entry.line.encode()) for entry in entries) if export else 0
                if meter:
                    meter.update(size, also=f"{lines:,} lines")
            done = True
        finally:
            if meter and (lines or not done):
                closing.callback(_tell_export, options.style.note, done, lines, size, time.monotonic() - began)
    if not lines and done:
        options.style.note("no lines")


def _tell_export(note: Callable[[str], object], done: bool, lines: int, size: int, seconds: float) -> None:
    what = "" if done else "not all: "
    note(f"{what}{lines:,} lines, {show_size(size)} in {seconds:.1f} s ({show_size(size / max(seconds, 0.001))}/s)")


def _pieces(client: LokiClient, question: Question) -> Iterator[list[LogEntry]]:
    options, start, end = question.options, question.start, question.end
    logql, limit = options.logql or "", options.limit or None
    if options.follow:
        from atalaia.client.follow import follow

        note = options.style.note
        yield from follow(client, logql, start=start, limit=limit, delay=options.delay_for, note=note)
    elif options.interval is not None:
        yield client.page(
            logql,
            start=start,
            end=end,
            limit=limit or _PAGE,
            newest_first=not options.forward,
            interval=options.interval,
        )
    else:
        entries = client.entries(logql, start=start, end=end, limit=limit, newest_first=not options.forward)
        while piece := list(itertools.islice(entries, _PIECE)):
            yield piece


def _print_histogram(client: LokiClient, question: Question) -> None:
    """Lines by time and severity, above the lines; beside them where they are for a program."""
    from atalaia.cli.histogram import series_of, stacked, step_for
    from atalaia.cli.severity import LABELS, colourful

    options = question.options
    step = question.checked.step or step_for(question.start, question.end)
    # Lines that a stage cannot read are counted as well.
    counted = f"{options.logql} | drop __error__, __error_details__" if "|" in (options.logql or "") else options.logql
    first = question.start // step * step + step
    last = -(-question.end // step) * step
    logql = f"sum by ({', '.join(LABELS)}) (count_over_time({counted} [{step // 10**9}s]))"
    data = client.query_range(logql, start=first, end=last, step=_seconds(step))
    style, plain = options.style, options.form is Form.DEFAULT and options.out is None
    text = stacked(
        series_of(data["result"]), range(first, last + 1, step), step, local=style.local, colours=plain and colourful()
    )
    if plain:
        Sink(None).write(f"{text}\n")
    else:
        style.note(text)


def _seconds(ns: int) -> str:
    return f"{ns // 10**9}" if ns % 10**9 == 0 else f"{ns / 10**9:.9f}"


_STATS = {
    "totalBytesProcessed": "bytes read",
    "totalLinesProcessed": "lines read",
    "totalEntriesReturned": "lines returned",
    "execTime": "seconds of work",
    "queueTime": "seconds of waiting",
}


def _add(totals: Counter[str], stats: Mapping[str, Any]) -> None:
    totals["answers"] += 1
    summary = stats.get("summary") or {}
    for name in _STATS:
        totals[name] += summary.get(name) or 0


def _tell_stats(totals: Counter[str], note: Callable[[str], object]) -> None:
    if not totals:
        note("the server tells no statistics")
        return
    for name, text in _STATS.items():
        value = totals[name]
        note(f"{text}: {value:,.3f}" if "Time" in name else f"{text}: {value:,}")
    note(f"answers: {totals['answers']:,}")
