"""Range aggregations: SQL's partial states put together, beside each window's samples one by one."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atalaia.logql.overtime import counter_rate, kept, quantile
from atalaia.logql.parse import parse
from atalaia.logql.samples import Samples
from atalaia.logql.slide import slide
from atalaia.logql.tree import RangeAggregation
from atalaia.logql.window import Grid
from atalaia.query.engine import Engine

Sample = tuple[int, int, float]
"""Key, time, value; keys 0 and 1 are of one series."""
VALUES = st.sampled_from([0.0, 1.0, -2.5, 1e9, 3.25, math.nan, math.inf, -math.inf])
SAMPLES = st.lists(st.tuples(st.integers(0, 2), st.integers(-60, 200), VALUES), max_size=30)
GRIDS = st.builds(Grid, st.integers(0, 60), st.integers(1, 30), st.integers(1, 8), st.integers(1, 70))


def tree(op: str) -> RangeAggregation:
    found = parse(f'{op}({{app="a"}} | unwrap x [1m])')
    assert isinstance(found, RangeAggregation)
    return found


def _spread(values: list[float]) -> float:
    mean = math.fsum(values) / len(values) if all(map(math.isfinite, values)) else math.nan
    return math.fsum((v - mean) ** 2 for v in values) / len(values)


def _extreme(choose: Callable[[list[float]], float]) -> Callable[[list[float]], float]:
    def run(values: list[float]) -> float:
        numbers = [v for v in values if not math.isnan(v)]
        return choose(numbers) if numbers else math.nan

    return run


def _sum(values: list[float]) -> float:
    return math.fsum(values) if all(map(math.isfinite, values)) else sum(values)


EXPECTED: dict[str, Callable[[list[float]], float]] = {
    "sum_over_time": _sum,
    "avg_over_time": lambda values: _sum(values) / len(values),
    "min_over_time": _extreme(min),
    "max_over_time": _extreme(max),
    "first_over_time": lambda values: values[0],
    "last_over_time": lambda values: values[-1],
    "stdvar_over_time": _spread,
    "stddev_over_time": lambda values: math.sqrt(_spread(values)),
}


@pytest.mark.parametrize("op", EXPECTED)
@given(GRIDS, SAMPLES)
@settings(max_examples=25, deadline=None)
def test_windows(engine: Engine, op: str, grid: Grid, samples: list[Sample]) -> None:
    states = kept(tree(op))
    assert states is not None
    inside = [(key, ts, seq, v) for seq, (key, ts, v) in enumerate(samples) if grid.first < ts <= grid.last]
    columns = [pa.array(column) for column in zip(*inside, strict=True)] or [pa.array([], pa.int64())] * 4
    table = pa.table([*columns[:3], columns[3].cast(pa.float64())], names=["k0", "ts", "seq", "v"])
    with engine.cursor() as connection:
        connection.register("samples", table)
        relation = Samples("SELECT *, false AS fault FROM samples", 1, lambda row: (("n", str(max(row[0], 1))),))
        sql = relation.aggregated(grid, [column for column, _ in states.columns], 99)
        found = connection.sql(sql).to_arrow_table()
    lists = found.column("kept").combine_chunks()
    series = np.repeat(np.array([max(k, 1) - 1 for k in found.column("k0").to_pylist()], int), np.diff(lists.offsets))
    parts = tuple(part.to_numpy(zero_copy_only=False) for part in lists.flatten().flatten())
    matrix = slide(grid, [(("n", "1"),), (("n", "2"),)], series, parts[0], parts[1:], states)
    for number in range(2):
        own = sorted((ts, seq, v) for key, ts, seq, v in inside if max(key, 1) - 1 == number)
        for step in range(grid.steps):
            end = grid.start + step * grid.step
            window = [v for ts, _, v in own if end - grid.range < ts <= end]
            assert matrix.present[number, step] == bool(window)
            if window:
                expected = EXPECTED[op](window)
                assert matrix.values[number, step] == pytest.approx(expected, rel=1e-9, abs=1e-6, nan_ok=True)


@pytest.mark.parametrize(
    ("q", "values", "expected"),
    [
        (0.5, [3, 1, 2], 2),
        (0.25, [1, 2], 1.25),
        (0, [5, 4], 4),
        (1, [5, 4], 5),
        (1.5, [1], math.inf),
        (-1, [1], -math.inf),
        (0.5, [7], 7),
        (0.5, [math.nan, 1, 2], 1),  # NaN is smaller than all
        (0, [math.nan, 1], math.nan),
        (0.9, [math.nan, math.nan, 1], math.nan),
        (0.5, [math.inf, 0, 1], math.nan),  # as in Prometheus: the neighbour counts with a weight of 0
    ],
)
def test_quantiles(q: float, values: list[float], expected: float) -> None:
    assert quantile(np.array(values, float), q) == pytest.approx(expected, nan_ok=True)


@given(st.lists(st.integers(-9, 9), min_size=1, max_size=9), st.floats(0, 1))
def test_quantiles_are_numpys(values: list[int], q: float) -> None:
    assert quantile(np.array(values, float), q) == pytest.approx(float(np.quantile(values, q)))


@pytest.mark.parametrize(
    ("samples", "expected"),
    [
        ([(30, 5.0)], 0.0),
        ([(30, 90.0), (60, 120.0)], 1.0),  # 30 s before the first sample belong to it too
        ([(30, 90.0), (60, 20.0)], 40 / 60),  # begun anew in between
        ([(30, 10.0), (30, 10.0)], math.nan),
        (
            [(10, 1.0), (20, 2.0), (30, 3.0)],
            2 * (10 + 20 + 5) / 20 / 60,
        ),  # from 0 on, to 5 s behind the last
    ],
)
def test_counters(samples: list[tuple[int, float]], expected: float) -> None:
    ts = np.array([ts * 10**9 for ts, _ in samples])
    values = np.array([value for _, value in samples])
    assert counter_rate(ts, values, 0, 60 * 10**9) == pytest.approx(expected, nan_ok=True)
