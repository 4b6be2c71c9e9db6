"""Windows (t - range, t] beside counting them one by one."""

from __future__ import annotations

from dataclasses import dataclass

import duckdb
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from atalaia.logql.window import Grid, slide

GRIDS = st.builds(Grid, st.integers(-50, 200), st.integers(1, 30), st.integers(1, 12), st.integers(1, 40))
SAMPLES = st.lists(st.tuples(st.integers(0, 2), st.integers(-60, 400), st.integers(0, 9)), max_size=40)


@dataclass(frozen=True)
class Buckets:
    series: np.ndarray
    numbers: np.ndarray
    values: np.ndarray


def bucketed(grid: Grid, samples: list[tuple[int, int, int]]) -> Buckets:
    inside = [(s, (ts - grid.first - 1) // grid.bucket, v) for s, ts, v in samples if grid.first < ts <= grid.last]
    columns = np.array(inside, np.int64).reshape(-1, 3)
    return Buckets(columns[:, 0], columns[:, 1], columns[:, 2])


@given(GRIDS, SAMPLES)
@settings(max_examples=120)
def test_windows(grid: Grid, samples: list[tuple[int, int, int]]) -> None:
    parts = bucketed(grid, samples)
    labels = [(("n", str(n)),) for n in range(3)]
    found = slide(grid, labels, parts.series, parts.numbers, parts.values)
    for number in range(3):
        for step in range(grid.steps):
            moment = grid.start + step * grid.step
            inside = [v for s, ts, v in samples if s == number and moment - grid.range < ts <= moment]
            assert bool(found.present[number, step]) == bool(inside)
            if inside:
                assert found.values[number, step] == sum(inside)
            else:
                assert np.isnan(found.values[number, step])


@given(GRIDS, st.lists(st.integers(-60, 400), min_size=1, max_size=20))
@settings(max_examples=40, deadline=None)
def test_the_bucket_of_the_sql_is_that_bucket(grid: Grid, moments: list[int]) -> None:
    inside = [ts for ts in moments if grid.first < ts <= grid.last]
    listed = ", ".join(f"({ts})" for ts in [*inside, grid.last])
    sql = f"SELECT {grid.bucket_sql()} FROM (VALUES {listed}) AS t(ts)"
    with duckdb.connect() as connection:
        found = [row[0] for row in connection.execute(sql).fetchall()]
    assert found == [(ts - grid.first - 1) // grid.bucket for ts in [*inside, grid.last]]
    assert min(found) >= 0


def test_an_instant_is_one_bucket() -> None:
    grid = Grid(100, 1, 1, 40)
    assert (grid.bucket, grid.first, grid.last) == (40, 60, 100)


def test_no_samples_no_series() -> None:
    nothing = np.zeros(0, np.int64)
    found = slide(Grid(0, 1, 3, 2), [], nothing, nothing, nothing)
    assert found.values.shape == (0, 3)
