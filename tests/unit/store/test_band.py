"""Row groups of a band: none too large, none too small, none lost."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from atalaia.store.band import _LEAST, _MOST, _cuts

_SIZE = st.sampled_from([0, 1, 150, 100_000, _LEAST - 1, _LEAST, 1 << 20, _MOST + 1])
_RUN = st.lists(_SIZE, min_size=1, max_size=60)


@given(st.lists(_RUN, min_size=1, max_size=6))
def test_row_groups_keep_their_bounds(runs: list[list[int]]) -> None:
    sizes = np.array([size for run in runs for size in run], np.int64)
    keys = np.repeat(np.arange(len(runs)), [len(run) for run in runs])
    cuts = _cuts(keys, np.cumsum(sizes)).tolist()
    assert cuts[0] == 0
    assert cuts[-1] == len(sizes)
    assert all(end > start for start, end in itertools.pairwise(cuts))
    for start, end in itertools.pairwise(cuts):
        size = int(sizes[start:end].sum())
        assert size <= _MOST or end - start == 1 or sizes[start:end].max() > _MOST
        # Smaller ones are the last, and those before a line that is too large for any group.
        assert size >= _LEAST or end == len(sizes) or sizes[end] > _MOST - _LEAST


def test_a_long_run_is_cut_evenly() -> None:
    sizes = np.full(30_000, 150)
    keys = np.repeat([0, 1], [3_000, 27_000])
    cuts = _cuts(keys, np.cumsum(sizes))
    groups = np.diff(cuts) * 150
    assert len(groups) == 3
    assert groups.max() - groups.min() <= 300
