"""The answer to a metric query: a table, a sketch, or a form for programs."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from atalaia.cli.histogram import bars, series_of, sparklines
from atalaia.cli.moments import show_exact, show_local
from atalaia.cli.output import Form, Sink, Style, columns

_MOST_MOMENTS = 11_000  # what Loki gives a series


def print_samples(data: Mapping[str, Any], form: Form, style: Style, out: Path | None) -> None:
    """Print Loki's `data` of a metric query. Raises OSError."""
    if form is Form.PARQUET:
        from atalaia.cli.parquet import write_samples

        assert out is not None
        write_samples(out, [(ts, labels, float(value)) for ts, labels, value in _samples(data)])
        return
    text = _sketch(data, style) if form is Form.DEFAULT and data["resultType"] == "matrix" else _text(data, form, style)
    sink = Sink(out)
    sink.write(text)
    sink.close()
    if not data["result"]:
        style.note("no samples")


def _samples(data: Mapping[str, Any]) -> list[tuple[int, Mapping[str, str], str]]:
    scalar = data["resultType"] == "scalar"
    series: list[dict[str, Any]] = [{"metric": {}, "value": data["result"]}] if scalar else data["result"]
    found: list[tuple[int, Mapping[str, str], str]] = []
    for one in series:
        for at, value in one["values"] if "values" in one else [one["value"]]:
            found.append((round(float(at) * 1000) * 10**6, one["metric"], value))
    return found


def _sketch(data: Mapping[str, Any], style: Style) -> str:
    series = series_of(data["result"])
    moments = sorted({at for one in series for at in one.samples})
    step = min((b - a for a, b in pairwise(moments)), default=1)
    if moments and (moments[-1] - moments[0]) // step < _MOST_MOMENTS:
        # Those without any sample are seen, too.
        moments = list(range(moments[0], moments[-1] + 1, step))
    if len(series) == 1:
        return bars(series[0], moments, local=style.local)
    return sparklines(series, moments) if series else ""


def _text(data: Mapping[str, Any], form: Form, style: Style) -> str:
    samples = _samples(data)
    if form is Form.JSONL:
        return "".join(_json(*sample, style) for sample in samples)
    names = sorted({name for _, labels, _ in samples for name in labels})
    over_time = data["resultType"] == "matrix"
    if form is Form.CSV:
        return _csv(names, samples, style)
    if form is Form.RAW or data["resultType"] == "scalar":
        return "".join(f"{value}\n" for _, _, value in samples)
    rows = [
        [
            *([show_local(ts, local=style.local)] if over_time else []),
            *(labels.get(name, "") for name in names),
            value,
        ]
        for ts, labels, value in samples
    ]
    return columns([*(["TIME"] if over_time else []), *names, "VALUE"], rows) if rows else ""


def _json(ts: int, labels: Mapping[str, str], value: str, style: Style) -> str:
    found = {"labels": labels, "timestamp": show_exact(ts, local=style.local), "value": value}
    return json.dumps(found, ensure_ascii=False) + "\n"


def _csv(names: Sequence[str], samples: Sequence[tuple[int, Mapping[str, str], str]], style: Style) -> str:
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\r\n")
    rows.writerow(["timestamp", *names, "value"])
    for ts, labels, value in samples:
        rows.writerow([show_exact(ts, local=style.local), *(labels.get(name, "") for name in names), value])
    return text.getvalue()
