"""Lines in the forms that `query --output` has: for people, jsonl, csv, Parquet, a table."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import IO, Protocol

import typer

from atalaia.cli.interrupt import whole
from atalaia.cli.labels import Common, Shown, spelled
from atalaia.cli.moments import show_exact, show_local
from atalaia.cli.severity import code_of, coloured, colourful, severity_of
from atalaia.client.entries import LogEntry

_CONTROL = re.compile(r"\x1b\[[0-9;]*m|[\x00-\x08\x0b-\x1f\x7f]")


class Form(StrEnum):
    """The forms."""

    DEFAULT = "default"
    RAW = "raw"
    JSONL = "jsonl"
    CSV = "csv"
    PARQUET = "parquet"
    TABLE = "table"


@dataclass(frozen=True, slots=True)
class Style:
    """What is shown, and how. `note` takes what is told beside the lines."""

    shown: Shown
    local: bool = False
    note: Callable[[str], object] = lambda _: None


class Writer(Protocol):
    """Takes entries, some at a time; what was written is whole after each call."""

    def write(self, entries: Sequence[LogEntry]) -> None:
        """Write entries."""

    def close(self) -> None:
        """Write what is left, also when the command is interrupted."""


def writer(form: Form, style: Style, out: Path | None) -> Writer:
    """A writer to a file, or to standard output. Raises OSError."""
    if form is Form.PARQUET:
        from atalaia.cli.parquet import LinesToParquet

        assert out is not None
        return LinesToParquet(out)
    if form is Form.TABLE:
        return Table(style, Sink(out))
    show: dict[Form, Callable[[Sequence[LogEntry]], str]] = {
        Form.DEFAULT: ForPeople(style, out is None and colourful()),
        Form.RAW: raw,
        Form.JSONL: JsonLines(style),
        Form.CSV: Csv(style),
    }
    return ToText(show[form], Sink(out))


class Sink:
    """A file or standard output, written whole lines at a time."""

    def __init__(self, out: Path | None) -> None:
        self._file: IO[str] = out.open("w", encoding="utf-8", newline="") if out else sys.stdout
        self._own = out is not None

    def write(self, text: str) -> None:
        """Write and flush. Raises typer.Exit when nobody reads standard output any more."""
        if text:
            try:
                with whole():
                    self._file.write(text)
                    self._file.flush()
            except BrokenPipeError:
                # The reader of our output has seen enough (`| head`). Typer would end with 1.
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
                raise typer.Exit from None

    def close(self) -> None:
        """Close a file."""
        if self._own:
            self._file.close()


class ToText:
    """Entries as text, whichever way `show` makes it."""

    def __init__(self, show: Callable[[Sequence[LogEntry]], str], sink: Sink) -> None:
        self._show = show
        self._sink = sink

    def write(self, entries: Sequence[LogEntry]) -> None:
        """See Writer."""
        self._sink.write(self._show(entries))

    def close(self) -> None:
        """See Writer."""
        self._sink.close()


def raw(entries: Sequence[LogEntry]) -> str:
    """The lines alone."""
    return "".join(f"{entry.line}\n" for entry in entries)


class ForPeople:
    """Time, the labels that are not common to all, the line."""

    def __init__(self, style: Style, coloured: bool) -> None:
        self._style = style
        self._coloured = coloured
        self._common = Common()

    def __call__(self, entries: Sequence[LogEntry]) -> str:
        """The text of some entries."""
        labels = [self._style.shown.of(entry) for entry in entries]
        if (told := self._common.narrow(labels)) is not None:
            self._style.note(f"Common labels: {spelled(told)}")
        return "".join(map(self._line, entries, map(self._common.rest, labels)))

    def _line(self, entry: LogEntry, labels: Mapping[str, str]) -> str:
        time = show_local(entry.ts, local=self._style.local)
        shown = f"{spelled(labels)} " if labels else ""
        if not self._coloured:
            return f"{time} {shown}{entry.line}\n"
        code = code_of(severity_of({**entry.metadata, **entry.labels}, entry.line))
        return (
            f"{coloured(time, '2')} {coloured(shown, '36') if shown else ''}{coloured(printable(entry.line), code)}\n"
        )


def printable(line: str) -> str:
    """A line that a terminal may show: what would move its cursor or change its title is made visible."""
    return _CONTROL.sub(lambda m: m[0] if len(m[0]) > 1 else chr(0x2400 + ord(m[0])) if m[0] < "\x7f" else "␡", line)


class JsonLines:
    """An object a line: labels, line, timestamp, as logcli has; ts in ns and metadata, as `store import` reads."""

    def __init__(self, style: Style) -> None:
        self._style = style
        shown = style.shown
        self._all = not (shown.include or shown.exclude or shown.none)

    def __call__(self, entries: Sequence[LogEntry]) -> str:
        """The text of some entries."""
        return "".join(self._line(entry) for entry in entries)

    def _line(self, entry: LogEntry) -> str:
        found = {
            "labels": dict(entry.labels) if self._all else self._style.shown.of(entry),
            "line": entry.line,
            "timestamp": show_exact(entry.ts, local=self._style.local),
            "ts": entry.ts,
            "metadata": dict(entry.metadata),
        }
        return json.dumps(found, ensure_ascii=False) + "\n"


class Csv:
    """RFC 4180; the same columns whatever comes: timestamp, labels (JSON) or the included ones, line, metadata."""

    def __init__(self, style: Style) -> None:
        self._style = style
        self._named = style.shown.include
        self._begun = False

    def __call__(self, entries: Sequence[LogEntry]) -> str:
        """The text of some entries."""
        text = io.StringIO()
        rows = csv.writer(text, lineterminator="\r\n")
        if not self._begun:
            labels = [] if self._style.shown.none else list(self._named) or ["labels"]
            rows.writerow(["timestamp", *labels, "line", *([] if self._named else ["metadata"])])
            self._begun = True
        rows.writerows(map(self._row, entries))
        return text.getvalue()

    def _row(self, entry: LogEntry) -> list[str]:
        time = show_exact(entry.ts, local=self._style.local)
        labels = self._style.shown.of(entry)
        if self._named:
            return [time, *(labels.get(name, "") for name in self._named), entry.line]
        text = json.dumps(labels, ensure_ascii=False, sort_keys=True)
        metadata = json.dumps(dict(entry.metadata), ensure_ascii=False, sort_keys=True)
        return [time, *([] if self._style.shown.none else [text]), entry.line, metadata]


class Table:
    """A column a label; printed at the end, since only then the columns are known."""

    def __init__(self, style: Style, sink: Sink) -> None:
        self._style = style
        self._sink = sink
        self._entries: list[LogEntry] = []

    def write(self, entries: Sequence[LogEntry]) -> None:
        """See Writer."""
        self._entries += entries

    def close(self) -> None:
        """See Writer."""
        labels = [self._style.shown.of(entry) for entry in self._entries]
        names = sorted({name for some in labels for name in some})
        rows = [
            [show_local(entry.ts, local=self._style.local), *(some.get(name, "") for name in names), entry.line]
            for entry, some in zip(self._entries, labels, strict=True)
        ]
        self._sink.write(columns(["TIME", *(name.upper() for name in names), "LINE"], rows))
        self._sink.close()


def columns(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Text in columns; the last one may be as long as it likes."""
    widths = [max(len(row[i]) for row in [heads, *rows]) for i in range(len(heads) - 1)]
    lines = ("  ".join([*(c.ljust(w) for c, w in zip(row, widths, strict=False)), row[-1]]) for row in [heads, *rows])
    return "".join(f"{line.rstrip()}\n" for line in lines)
