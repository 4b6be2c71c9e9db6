"""promtail.yaml files as they are found in the world: what each stage makes of good and bad lines, checked by hand.

A shape (promtail_shapes/*.yaml) has the file as its users have it, the lines of a log, and for each stage what it
changes: everything else must stay as it was.
"""

from __future__ import annotations

import copy
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from atalaia.collector import pipeline
from atalaia.collector.entries import Entries, column
from atalaia.collector.meters import Meters
from atalaia.collector.pipeline import ALL, Taken
from atalaia.collector.plan import Job
from atalaia.collector.promtail.load import load
from atalaia.collector.stages.registry import BUILDERS, build_stages
from atalaia.environment.yamlfile import Reader
from atalaia.logql.template.gotime import Layout

SHAPES = sorted((Path(__file__).parent / "promtail_shapes").glob("*.yaml"))
_TIME = Layout("2006-01-02T15:04:05.999999999Z07:00")


class _Loader(yaml.SafeLoader):
    """Times stay text: YAML's have no nanoseconds."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in found if tag != "tag:yaml.org,2002:timestamp"]
    for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def shape_of(path: Path) -> dict[str, Any]:
    return yaml.load(path.read_text(), _Loader)


def nanoseconds(text: str) -> int:
    import pyarrow as pa

    value = _TIME.parse(pa.array([text]))[0].as_py()
    assert value is not None, text
    return int(value)


def state_of(entries: Entries) -> dict[int, dict[str, Any]]:
    """Each entry by its last line: all that is known of it."""

    def rows(values: Any) -> list[dict[str, str]]:
        columns = {name: column(value, len(entries)).to_pylist() for name, value in values.items()}
        return [{n: c[row] for n, c in columns.items() if c[row] is not None} for row in range(len(entries))]

    parts = zip(
        entries.first_lines.tolist(),
        entries.last_lines.tolist(),
        entries.lines.to_pylist(),
        entries.ts.tolist(),
        rows(entries.labels),
        rows(entries.extracted),
        rows(entries.metadata),
        strict=True,
    )
    return {
        first: {"first": first, "last": last, "line": line, "ts": ts, "labels": labels, "extracted": ex, "metadata": md}
        for first, last, line, ts, labels, ex, md in parts
    }


def changed(before: dict[int, dict[str, Any]], changes: dict[int, Any]) -> dict[int, dict[str, Any]]:
    after = copy.deepcopy(before)
    for row, change in changes.items():
        state = after.pop(row)
        if change == "gone":
            continue
        for key, value in change.items():
            if key == "time":
                state["ts"] = nanoseconds(value)
            elif key in ("labels", "extracted", "metadata"):
                merged = {**state[key], **value}
                state[key] = {name: found for name, found in merged.items() if found is not None}
            else:
                state[key] = value
        after[state["first"]] = state
    return after


def shown(states: dict[int, dict[str, Any]]) -> dict[int, dict[str, Any]]:
    """Without empty labels, which Loki drops."""
    return {
        row: {**state, "labels": {name: value for name, value in state["labels"].items() if value}}
        for row, state in states.items()
    }


def samples(text: str) -> dict[tuple[str, str], float]:
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = {k: str(float(v)) if k == "le" else v for k, v in sample.labels.items()}
            found[sample.name, orjson.dumps(labels, option=orjson.OPT_SORT_KEYS).decode()] = sample.value
    return found


def job_of(path: Path, shape: dict[str, Any], folder: Path) -> Job:
    file = folder / "promtail.yaml"
    file.write_text(shape["promtail"])
    (job,) = load(file).jobs
    (target,) = job.targets
    assert target.names(shape["file"]), "the shape's file is not one that its promtail.yaml collects"
    return job


@pytest.mark.parametrize("path", SHAPES, ids=lambda path: path.stem)
def test_each_stage_does_what_promtail_does(path: Path, tmp_path: Path) -> None:
    shape = shape_of(path)
    job = job_of(path, shape, tmp_path)
    nodes = yaml.safe_load(shape["promtail"])["scrape_configs"][0].get("pipeline_stages", [])
    assert [next(iter(node)) for node in nodes] == [next(iter(after)) for after in shape["after"]]
    # Stages as written: `narrowed` leaves out what no later stage reads.
    reader = Reader(tmp_path / "promtail.yaml")
    stages = build_stages(reader, _pipeline(reader, shape))
    assert reader.problems == []
    block = "".join(f"{line}\n" for line in shape["lines"]).encode()
    read_at = time.time_ns() if shape.get("now") else nanoseconds("2026-03-04T05:06:07Z")
    labels = job.labels_of(job.targets[0], shape["file"])
    entries = replace(pipeline.plain(block, read_at, labels), flush=ALL, extracted=dict(labels))
    state = state_of(entries)
    for stage, after in zip(stages, shape["after"], strict=True):
        ((name, changes),) = after.items()
        assert stage.name == name
        entries = stage(entries)
        state = changed(state, changes)
        assert shown(state_of(entries)) == shown(state), name
    # The whole, as the collector runs it, gives the same.
    whole = pipeline.run(job, block, read_at, labels, flush=ALL)
    assert whole.lines == len(shape["lines"])
    finally_ = {row: {**found, "extracted": None} for row, found in shown(state).items()}
    assert {row: {**found, "extracted": None} for row, found in shown(state_of(whole.entries)).items()} == finally_
    meters = Meters()
    pipeline.settle(Taken(entries, len(shape["lines"])), meters)
    found = samples(meters.exposition().decode())
    for name, value in samples(shape.get("metrics", "")).items():
        assert found.get(name) == value, name


def _pipeline(reader: Reader, shape: dict[str, Any]) -> list[Any]:
    root = reader.mapping(reader.load(shape["promtail"]), "promtail.yaml")
    job = reader.mapping(reader.sequence(root["scrape_configs"], "scrape_configs")[0], "job")
    return reader.sequence(job.get("pipeline_stages"), "pipeline_stages")


def test_each_stage_has_a_shape() -> None:
    used: set[str] = set()

    def look(stages: list[dict[str, Any]]) -> None:
        for stage in stages:
            ((name, body),) = stage.items()
            used.add(name)
            if name in ("match", "pipeline"):
                look((body or {}).get("stages") or [])

    for path in SHAPES:
        job = yaml.safe_load(shape_of(path)["promtail"])["scrape_configs"][0]
        look(job.get("pipeline_stages", []))
    assert len(SHAPES) >= 20
    assert set(BUILDERS) - used == {"geoip", "non_indexed_labels"}, "one needs a database, the other is an old name"


def test_what_is_expected_can_fail(tmp_path: Path) -> None:
    """A wrong expectation is noticed: the comparison is not empty."""
    before = {0: {"first": 0, "last": 0, "line": "a", "ts": 1, "labels": {}, "extracted": {}, "metadata": {}}}
    assert changed(before, {0: {"line": "b"}}) != before
    assert changed(before, {0: "gone"}) == {}
    assert np.array_equal([1], [nanoseconds("1970-01-01T00:00:00.000000001Z")])
