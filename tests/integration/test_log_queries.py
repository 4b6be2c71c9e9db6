"""Log queries against results written by hand (log_queries/*.yaml), over HTTP: from memory, and again from a segment.

A case has `shows` (what it is about), `entries`, a `query` (what begins with | stands behind `{app="a"}`), parameters,
and what is expected. Entries are lines of the stream {app="a"}, or mappings of `line`, `stream`, `metadata`, `at`
(seconds); each is a second after the one before. An answer is read forward unless the case says otherwise.

    passes:  the lines in the order of their times
    gives:   one entry passes, unchanged: its labels beside app="a"; a null takes a label away
    line:    one entry passes, with this line, and with the labels of `gives`
    streams: all streams in their order, each its labels and lines
    values:  as `streams`, with categorised labels: labels, then [line, {structuredMetadata, parsed}]
    refused: the query is refused (400) with this text
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import httpx
import pytest
import yaml
from api_support import HOUR, NOW, S, Served, Tenant, served

from atalaia.logql.parse import parse
from atalaia.logql.template.functions import FUNCTIONS
from atalaia.logql.tree import LogQuery, Stage

__all__ = ["served"]

FOLDER = Path(__file__).parent / "log_queries"
EXPECTATIONS = ("passes", "gives", "line", "streams", "values", "refused")
FIELDS = frozenset({"shows", "entries", "query", "parameters", "at", *EXPECTATIONS})
Case = dict[str, Any]


def _cases() -> Iterator[tuple[str, Case]]:
    for path in sorted(FOLDER.glob("*.yaml")):
        for case in yaml.safe_load(path.read_text(encoding="utf-8")):
            yield f"{path.stem}: {case['shows']}", case


CASES = dict(_cases())


@dataclass(frozen=True)
class Answers:
    """The server with all entries in one segment, and what it answered when they were in memory."""

    tenant: Tenant
    memory: dict[str, httpx.Response]


def _begin(number: int, case: Case) -> int:
    """Nanoseconds; each case has an hour of its own."""
    return int(case["at"]) * S if "at" in case else NOW + number * HOUR


def _push(tenant: Tenant) -> None:
    streams: dict[str, dict[str, Any]] = {}
    for number, case in enumerate(CASES.values()):
        for n, entry in enumerate(case["entries"]):
            full = {"line": entry} if isinstance(entry, str) else entry
            stream = full.get("stream", {"app": "a"})
            ts = _begin(number, case) + int(float(full.get("at", n)) * S)
            value = [str(ts), full["line"], *([full["metadata"]] if "metadata" in full else [])]
            streams.setdefault(str(sorted(stream.items())), {"stream": stream, "values": []})["values"].append(value)
    answer = tenant.call("/loki/api/v1/push", "POST", json={"streams": list(streams.values())})
    assert answer.status_code == 204, answer.text


def _query(case: Case) -> str:
    query = str(case["query"])
    return f'{{app="a"}} {query}' if query.startswith("|") else query


def _ask(tenant: Tenant, name: str) -> httpx.Response:
    number, case = list(CASES).index(name), CASES[name]
    begin = _begin(number, case)
    asked = {"start": begin, "end": begin + HOUR, "direction": "forward", "limit": 100}
    flags = {"X-Loki-Response-Encoding-Flags": "categorize-labels"} if "values" in case else {}
    parameters = {"query": _query(case), **asked, **case.get("parameters", {})}
    return tenant.call("/loki/api/v1/query_range", "POST", data=parameters, headers=flags)


@pytest.fixture(scope="module")
def answers(served: Served) -> Iterator[Answers]:
    with httpx.Client(base_url=served.url, timeout=30, trust_env=False) as client:
        tenant = Tenant(client, "log-queries")
        _push(tenant)
        memory = {name: _ask(tenant, name) for name in CASES}
        assert tenant.call("/flush", "POST").status_code == 204
        yield Answers(tenant, memory)


@pytest.mark.parametrize("name", CASES)
def test_answer(answers: Answers, name: str) -> None:
    case = CASES[name]
    for where, answer in (("memory", answers.memory[name]), ("segment", _ask(answers.tenant, name))):
        if "refused" in case:
            assert (answer.status_code, case["refused"] in answer.text) == (400, True), f"{where}: {answer.text}"
            continue
        assert answer.status_code == 200, f"{where}: {answer.text}"
        found = answer.json()["data"]
        assert found["resultType"] == "streams"
        _check(case, found["result"], where)


def _check(case: Case, result: list[dict[str, Any]], where: str) -> None:
    if "passes" in case:
        entries = sorted((value for stream in result for value in stream["values"]), key=lambda value: int(value[0]))
        assert [value[1] for value in entries] == case["passes"], where
    if "streams" in case:
        assert [[s["stream"], *[value[1] for value in s["values"]]] for s in result] == case["streams"], where
    if "values" in case:
        assert [[s["stream"], *[value[1:] for value in s["values"]]] for s in result] == case["values"], where
    if "gives" in case or "line" in case:
        first = case["entries"][0]
        line = case.get("line", first if isinstance(first, str) else first["line"])
        labels = {"app": "a", **case.get("gives", {})}
        assert [[s["stream"], *[value[1] for value in s["values"]]] for s in result] == [
            [{name: value for name, value in labels.items() if value is not None}, line]
        ], where


def test_the_cases_are_well_formed() -> None:
    assert len(CASES) >= 300
    for name, case in CASES.items():
        assert case.keys() <= FIELDS, name
        assert any(field in case for field in EXPECTATIONS), name
    read = [case for path in FOLDER.glob("*.yaml") for case in yaml.safe_load(path.read_text(encoding="utf-8"))]
    assert len(read) == len(CASES), "two cases show the same"
    queries = [(c["query"], str(c["entries"]), str(c.get("parameters")), "values" in c) for c in read]
    twice = [query for query, group in itertools.groupby(sorted(queries)) if len(list(group)) > 1]
    assert not twice


def test_every_template_function_has_a_case() -> None:
    templates = " ".join(case["query"] for name, case in CASES.items() if name.startswith("template"))
    missing = {*FUNCTIONS, "__line__", "__timestamp__"} - set(re.findall(r"\w+", templates))
    assert not missing


def test_every_stage_has_a_case() -> None:
    trees = [parse(_query(case)) for case in CASES.values() if "refused" not in case]
    stages = {type(stage) for tree in trees if isinstance(tree, LogQuery) for stage in tree.stages}
    assert stages == {member for part in get_args(Stage) for member in (get_args(part) or (part,))}


@pytest.mark.parametrize("error", ["JSONParserErr", "LogfmtParserErr", "LabelFilterErr", "TemplateFormatErr"])
def test_every_error_has_a_case(error: str) -> None:
    assert any(case.get("gives", {}).get("__error__") == error for case in CASES.values())
