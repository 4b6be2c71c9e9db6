"""Range aggregations: what SQL keeps of the samples of a cell, how cells are merged, and a window's result.

The relation of samples has the columns ts, seq and v; v is NULL for what is no sample. Two states may also be of one
cell and of different entries, so merging takes them in any order.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .tree import RangeAggregation
from .window import Merge, State

Result = Callable[[State, float], np.ndarray]


@dataclass(frozen=True, slots=True)
class Kept:
    """An aggregation by partial states. `columns`: SQL of a state's parts and what they are of no samples.

    The first part is the count of samples. `result` makes values of the states of windows, and their length in seconds.
    """

    columns: tuple[tuple[str, float], ...]
    merge: Merge
    result: Result


def kept(tree: RangeAggregation) -> Kept | None:
    """How an aggregation is computed from partial states; None when it needs the samples themselves."""
    if tree.op == "rate":
        return _SUM_RATE if tree.unwrap else _COUNT_RATE
    return _KEPT.get(tree.op)


def _added(left: State, right: State) -> State:
    return tuple(a + b for a, b in zip(left, right, strict=True))


def _smaller(left: State, right: State) -> State:
    return left[0] + right[0], np.fmin(left[1], right[1])  # NaN only where all are


def _larger(left: State, right: State) -> State:
    return left[0] + right[0], np.fmax(left[1], right[1])


def _spread(left: State, right: State) -> State:
    """Counts, means and sums of squared distances (Chan, Golub, LeVeque 1979)."""
    (n, mean, squares), (m, other, more) = left, right
    total = n + m
    weight = m / np.maximum(total, 1)
    apart = other - mean
    # Infinite samples have no spread: their distances are not numbers.
    return total, mean + apart * weight, squares + more + apart * m * (apart - apart * weight)


def _chosen(latest: bool) -> Merge:
    def merge(left: State, right: State) -> State:
        (n, ts, seq, _), (m, other, later, _) = left, right
        before = (other < ts) | ((other == ts) & (later < seq))
        take = (m > 0) & ((n == 0) | (before != latest))
        return n + m, *(np.where(take, b, a) for a, b in zip(left[1:], right[1:], strict=True))

    return merge


_COUNT = ("count(v)", 0)
# Kahan's sum does not know infinities.
_TOTAL = ("CASE WHEN isnan(fsum(v)) THEN sum(v) ELSE fsum(v) END", 0.0)


def _edge(name: str, latest: bool) -> Kept:
    columns = (
        (f"{name}(ts, (ts, seq)) FILTER (v IS NOT NULL)", 0),
        (f"{name}(seq, (ts, seq)) FILTER (v IS NOT NULL)", 0),
    )
    return Kept((_COUNT, *columns, (f"{name}(v, (ts, seq))", 0.0)), _chosen(latest), lambda s, _: s[3])


_COUNT_RATE = Kept((_COUNT,), _added, lambda s, seconds: s[0] / seconds)
_SUM_RATE = Kept((_COUNT, _TOTAL), _added, lambda s, seconds: s[1] / seconds)
_SPREAD = (_COUNT, ("avg(v)", 0.0), ("var_pop(v) * count(v)", 0.0))
_KEPT: dict[str, Kept] = {
    "count_over_time": Kept((_COUNT,), _added, lambda s, _: s[0]),
    "absent_over_time": Kept((_COUNT,), _added, lambda s, _: s[0]),
    "bytes_over_time": Kept((_COUNT, _TOTAL), _added, lambda s, _: s[1]),
    "bytes_rate": _SUM_RATE,
    "sum_over_time": Kept((_COUNT, _TOTAL), _added, lambda s, _: s[1]),
    "avg_over_time": Kept((_COUNT, _TOTAL), _added, lambda s, _: s[1] / s[0]),
    "min_over_time": Kept((_COUNT, ("min(v)", np.nan)), _smaller, lambda s, _: s[1]),
    # DuckDB takes NaN for the largest of all.
    "max_over_time": Kept((_COUNT, ("max(v) FILTER (NOT isnan(v))", np.nan)), _larger, lambda s, _: s[1]),
    "first_over_time": _edge("arg_min", latest=False),
    "last_over_time": _edge("arg_max", latest=True),
    "stdvar_over_time": Kept(_SPREAD, _spread, lambda s, _: s[2] / s[0]),
    "stddev_over_time": Kept(_SPREAD, _spread, lambda s, _: np.sqrt(s[2] / s[0])),
}


def of_samples(tree: RangeAggregation) -> Callable[[np.ndarray, np.ndarray, int], float]:
    """A window's result by the times and the values of its samples, in order, and its end (ns)."""
    if tree.op == "rate_counter":
        return lambda ts, values, end: counter_rate(ts, values, end - tree.range_ns, end)
    q = tree.parameter or 0.0
    return lambda _, values, __: quantile(values, q)


def quantile(values: np.ndarray, q: float) -> float:
    """The q-quantile of values, NaN smallest of all, between neighbours linearly."""
    if not 0 <= q <= 1:
        return float("inf") if q > 1 else float("-inf")
    rank = q * (len(values) - 1)
    low = int(rank)
    high = min(low + 1, len(values) - 1)
    unknown = int(np.isnan(values).sum())
    around = [at - unknown for at in (low, high)]
    if around[0] < 0:
        return float("nan")
    ordered = np.partition(values, around)  # NaN comes last
    weight = rank - low
    return float(ordered[around[0]]) * (1 - weight) + float(ordered[around[1]]) * weight


def counter_rate(ts: np.ndarray, values: np.ndarray, start: int, end: int) -> float:
    """The increase a second of a counter that may begin anew, over (start, end] ns, as Prometheus extrapolates it."""
    if len(values) < 2:
        return 0.0
    increase = values[-1] - values[0] + values[:-1][values[1:] < values[:-1]].sum()
    sampled = (ts[-1] - ts[0]) / 1e9
    if sampled == 0:
        return float("nan")
    between = sampled / (len(values) - 1)
    before, after = (ts[0] - start) / 1e9, (end - ts[-1]) / 1e9
    # Samples that begin late, or end early, are taken to begin, or end, half an interval before, or after.
    before = before if before < between * 1.1 else between / 2
    after = after if after < between * 1.1 else between / 2
    if increase > 0 and values[0] >= 0:
        before = min(before, sampled * values[0] / increase)  # a counter is not extrapolated below zero
    return float(increase * (sampled + before + after) / sampled / ((end - start) / 1e9))
