"""Windows (t - range, t] as runs of cells, beside looking at every sample of every window."""

from __future__ import annotations

import duckdb
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from atalaia.logql.window import Grid, State, fold

GRIDS = st.builds(Grid, st.integers(-50, 200), st.integers(1, 30), st.integers(1, 12), st.integers(1, 150))


@given(GRIDS, st.lists(st.integers(-210, 600), max_size=20))
@settings(max_examples=60, deadline=None)
def test_a_window_is_a_run_of_cells(grid: Grid, moments: list[int]) -> None:
    inside = [grid.first + 1, *(ts for ts in moments if grid.first < ts <= grid.last), grid.last]
    listed = ", ".join(f"({ts})" for ts in inside)
    sql = f"SELECT {grid.cell_sql()}, {grid.gap_sql() or 'true'} FROM (VALUES {listed}) AS t(ts)"
    with duckdb.connect() as connection:
        found = connection.execute(sql).fetchall()
    assert all(0 <= cell < grid.cells for cell, _ in found)
    for ts, (cell, in_any) in zip(inside, found, strict=True):
        windows = [n for n in range(grid.steps) if grid.first + n * grid.step < ts <= grid.start + n * grid.step]
        assert [n for n in range(grid.steps) if 0 <= cell - n * grid.stride < grid.width] == windows
        assert in_any == bool(windows)


def test_cells_are_few_however_odd_the_range() -> None:
    assert Grid(0, 60, 1000, 3601).cells <= 2 * (1000 + 61)
    assert (Grid(0, 60, 1000, 3600).cells, Grid(0, 60, 1000, 60).width) == (1059, 1)
    assert Grid(0, 1, 1000, 10**18).cells == 1999


def test_an_instant_is_one_cell() -> None:
    grid = Grid(100, 1, 1, 40)
    assert (grid.cells, grid.width, grid.first, grid.last, grid.cell_sql()) == (1, 1, 60, 100, "0")


@given(st.lists(st.text("abc", max_size=2), min_size=1, max_size=40), st.data())
def test_runs_are_merged_in_order_each_cell_once(cells: list[str], data: st.DataObject) -> None:
    width = data.draw(st.integers(1, len(cells)))
    joined = fold((np.array(cells, object),), width, _joined)[0]
    assert joined.tolist() == ["".join(cells[n : n + width]) for n in range(len(cells) - width + 1)]


def _joined(left: State, right: State) -> State:
    return (left[0] + right[0],)
