"""Each query in two ways: in SQL, and in Python, which a stage without effect at the front makes necessary."""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.unit.logql.strategies import queries

from atalaia.environment.errors import InputError
from atalaia.logql.errors import LogQLError
from atalaia.logql.parse import parse
from atalaia.logql.tree import (
    Binary,
    LabelReplace,
    LogQuery,
    Matcher,
    Query,
    RangeAggregation,
    Selector,
    VectorAggregation,
)
from atalaia.query.engine import Engine
from atalaia.query.execute import Executor
from atalaia.store.batch import METADATA, SCHEMA, canonical
from atalaia.store.store import Options, Store

numbers = itertools.count()
PYTHON = '| drop __error_details__="no such"'
LONG = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@dataclass(frozen=True)
class Stored:
    ts: int
    line: str
    labels: dict[str, str] = field(default_factory=dict)
    metadata: dict[str, str] | None = None


@dataclass
class Place:
    store: Store
    executor: Executor

    def push(self, entries: list[Stored]) -> str:
        """A new tenant with these entries, some of them in a segment."""
        tenant = f"t{next(numbers)}"
        half = len(entries) // 2
        for part in (entries[:half], entries[half:]):
            if part:
                columns = [
                    pa.array([e.ts for e in part], pa.int64()),
                    pa.array([canonical({"app": "a", **e.labels}) for e in part], pa.utf8()).dictionary_encode(),
                    pa.array([e.line for e in part], pa.utf8()),
                    pa.array([e.metadata and list(e.metadata.items()) for e in part], METADATA),
                ]
                assert (
                    self.store.append(pa.Table.from_arrays(columns, schema=SCHEMA), tenant).result(20).refused is None
                )
                if part[0].ts % 2:
                    self.store.flush()
        return tenant

    def metric(self, query: str, tenant: str) -> object:
        """Series by labels, or what the query was refused for."""
        tree = parse(query)
        assert not isinstance(tree, LogQuery)
        try:
            found = self.executor.metric(tree, (tenant,), 20, 7, 5)
        except InputError as error:
            return str(error).partition("'")[0]
        return {
            labels: [_rounded(float(v)) if there else None for v, there in zip(row, has, strict=True)]
            for labels, row, has in zip(found.labels, found.values, found.present, strict=True)
            if has.any()
        }

    def logs(self, query: str, tenant: str, limit: int, backward: bool) -> list[tuple[int, str, dict[str, str]]]:
        tree = parse(query)
        assert isinstance(tree, LogQuery)
        return [(e.ts, e.line, e.all()) for e in self.executor.logs(tree, (tenant,), 0, 100, limit, backward)]


def _rounded(value: float) -> float | str:
    return "NaN" if math.isnan(value) else float(f"{value:.9g}")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    store = Store(tmp_path_factory.mktemp("store"), Options())
    engine = Engine()
    yield Place(store, Executor(store, engine))
    engine.close()
    store.close()


NAMES = st.sampled_from(["x", "y", "x_extracted", "pod"])
VALUES = st.sampled_from(["1", "2.5", "-3", "7", "1e3", "NaN", "+Inf", "2s", "150ms", "3kB", "abc", "10.0.0.7", "é"])
PAIRS = st.dictionaries(NAMES, VALUES, max_size=3)
LINES = st.one_of(
    PAIRS.map(lambda d: " ".join(f"{k}={v}" for k, v in d.items())),
    PAIRS.map(lambda d: "{" + ",".join(f'"{k}":"{v}"' for k, v in d.items()) + "}"),
    st.sampled_from(
        [
            'x="2s" y=1 y=2',
            'x="a\\"b" y',
            '{"x":1.50,"y":{"z":2}}',
            '{"x":{"extracted":3},"y":null,"pod":"\\n"}',
            '{"x":1',
            '{"a":{"x":[1],"x":2},"y":"2s"}',
            "pod-=1 x.extracted=4 é=5",
            'y="x=1" =x x=3',
            "",
            "GET /a 200",
            "GET  200",
            "x",
            "from 10.0.0.7:80",
            '{"_entry":"x=1","pod":"p"}',
            "\x1b[1mx=2\x1b[0m",
        ]
    ),
)
ENTRIES = st.lists(
    st.builds(Stored, st.integers(0, 60), LINES, st.dictionaries(NAMES, VALUES, max_size=1), st.none() | PAIRS),
    min_size=1,
    max_size=12,
)
STAGES = st.lists(
    st.sampled_from(
        [
            "| logfmt", "| logfmt --strict", "| logfmt --keep-empty", '| logfmt y="x"', "| json", '| json x="y"',
            "| unpack", '| regexp "(?P<x>[0-9.]+)(?P<y>s)?"', '| regexp "x=(?P<pod>.*)"', '| pattern "<x>=<y> <_>"',
            '| pattern "GET <x> <y>"', '|> "GET <_> 200"', '|> "<_>=<_>"', '!> "x<_>"', '|= "1"', '!= "x"',
            '|= ip("10.0.0.0/8")', '|= "" != ip("10.0.0.7") or "y"', '|~ "[xy]=.*1"', '| x = ip("10.0.0.0-10.0.0.9")',
            '| y != ip("10.0.0.7")', '| x > 1', "| x <= 2s or y > 1", '| y > 1kB and x = "1"', '| x_extracted != ""',
            '| __error__ = ""', '| __error__ != "LabelFilterErr"', "| drop x", "| drop __error__", "| drop y, pod",
            '| drop x="1"', "| keep x, pod", "| decolorize", "| label_format x=y", '| label_format y="{{.x}}!"',
            '| line_format "x={{.y}}"', '| line_format "{{.pod}} {{.x}}"', '| label_format pod="{{.x}}{{.y}}", y=x',
            '| label_format x=x', "| label_format x=y, y=x", '| keep x="1", y', '| drop pod=~"1.*", y', "| keep y",
            '| label_format z=x, x_extracted="{{.z}}"', "| x >= 150ms", "| y < 3kB", '| json x="a.x", y', "| drop z",
        ]
    ),
    max_size=4,
).map(" ".join)  # fmt: skip
GROUPS = st.sampled_from(["", " by (x)", " by (pod, x_extracted)", " by ()", " without (x)", " without (pod, app)"])
UNWRAPPED = st.tuples(
    st.sampled_from(["avg", "min", "max", "first", "last", "stddev", "stdvar", "quantile"]),
    st.sampled_from(["x", "y", "duration(x)", "bytes(x)", "x_extracted"]),
    st.sampled_from(["", "| x > 1", '| __error__ = ""', '| pod = "" | __error__ = ""', '| y = ip("10.0.0.7")']),
    GROUPS,
)


@given(
    ENTRIES,
    STAGES,
    st.sampled_from([5, 7, 9, 20]),
    st.sampled_from(["count_over_time", "bytes_rate", "absent_over_time"]),
)
@LONG
def test_counting(place: Place, entries: list[Stored], stages: str, width: int, op: str) -> None:
    tenant = place.push(entries)
    for outer in ("", "sum by (x)", "sum without (pod)", "sum"):
        queries = [f'{outer}({op}({{app="a"}} {front} {stages} [{width}ns]))' for front in ("", PYTHON)]
        assert place.metric(queries[0], tenant) == place.metric(queries[1], tenant), queries[0]


@given(ENTRIES, STAGES, st.sampled_from([5, 7, 9, 20]), UNWRAPPED)
@LONG
def test_unwrapping(
    place: Place, entries: list[Stored], stages: str, width: int, unwrapped: tuple[str, str, str, str]
) -> None:
    tenant = place.push(entries)
    op, label, filters, group = unwrapped
    parameter = "0.3, " if op == "quantile" else ""
    for name, grouping in ((f"{op}_over_time", group), ("sum_over_time", ""), ("rate_counter", "")):
        queries = [
            f'{name}({parameter if name.startswith("quantile") else ""}{{app="a"}} {front} {stages}'
            f" | unwrap {label} {filters} [{width}ns]){grouping}"
            for front in ("", PYTHON)
        ]
        assert place.metric(queries[0], tenant) == place.metric(queries[1], tenant), queries[0]


@given(ENTRIES, STAGES, st.integers(1, 9), st.booleans())
@LONG
def test_logs(place: Place, entries: list[Stored], stages: str, limit: int, backward: bool) -> None:
    tenant = place.push(entries)
    found = place.logs(f'{{app="a"}} {stages}', tenant, limit, backward)
    assert found == place.logs(f'{{app="a"}} {PYTHON} {stages}', tenant, limit, backward)
    assert found == place.logs(f'{{app="a"}} {stages}', tenant, 99, backward)[:limit]


def test_a_label_left_out_of_metadata_still_takes_its_name(place: Place) -> None:
    tenant = place.push([Stored(1, "pod=p", {}, {"pod": "m"}), Stored(2, "pod=p", {}, {"pod": "n"})])
    expected = {(("app", "a"), ("pod_extracted", "p")): [2.0, None, None, None, None]}
    for front in ("", PYTHON):
        assert (
            place.metric(f'sum without (pod) (count_over_time({{app="a"}} {front} | logfmt [20ns]))', tenant)
            == expected
        )


EVERY = Selector((Matcher("app", "=~", ".+"),))


def _over_what_is_stored(query: Any) -> Any:
    """The same query of all streams, with ranges that can be stored in."""
    match query:
        case LogQuery():
            return replace(query, selector=EVERY)
        case RangeAggregation():
            range_ns = min(query.range_ns, 10**15)
            return replace(query, query=_over_what_is_stored(query.query), range_ns=range_ns, offset_ns=0)
        case Binary():
            return replace(query, left=_over_what_is_stored(query.left), right=_over_what_is_stored(query.right))
        case VectorAggregation() | LabelReplace():
            return replace(query, inner=_over_what_is_stored(query.inner))
        case _:
            return query


@given(ENTRIES, queries().map(_over_what_is_stored))
@LONG
def test_every_query_is_answered_or_refused(place: Place, entries: list[Stored], query: Query) -> None:
    tenant = place.push(entries)
    with contextlib.suppress(LogQLError, InputError):
        if isinstance(query, LogQuery):
            place.executor.logs(query, (tenant,), 0, 100, 5, True)
        else:
            place.executor.metric(query, (tenant,), 20, 7, 5)
