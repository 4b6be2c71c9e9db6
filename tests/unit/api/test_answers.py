"""The result types."""

from __future__ import annotations

import numpy as np

from atalaia.api import answers
from atalaia.api.execute import Row
from atalaia.logql.matrix import Matrix
from atalaia.logql.rows import Seen

A, B = {"app": "a"}, {"app": "b"}


def test_streams_come_in_the_order_of_their_first_entry() -> None:
    rows = [
        Row(9, 4, "x", Seen(B, {}, {})),
        Row(9, 3, "y", Seen(A, {"pid": "1"}, {})),
        Row(8, 2, "z", Seen(B, {}, {})),
        Row(8, 1, "w", Seen(A, {"pid": "1"}, {"k": "v"})),
    ]
    plain = answers.streams(rows, False)
    assert plain["result"] == [
        {"stream": B, "values": [["9", "x"], ["8", "z"]]},
        {"stream": {"app": "a", "pid": "1"}, "values": [["9", "y"]]},
        {"stream": {"app": "a", "pid": "1", "k": "v"}, "values": [["8", "w"]]},
    ]
    assert "encodingFlags" not in plain
    categorised = answers.streams(rows, True)
    assert categorised["encodingFlags"] == ["categorize-labels"]
    assert categorised["result"] == [
        {"stream": B, "values": [["9", "x", {}], ["8", "z", {}]]},
        {
            "stream": A,
            "values": [
                ["9", "y", {"structuredMetadata": {"pid": "1"}}],
                ["8", "w", {"structuredMetadata": {"pid": "1"}, "parsed": {"k": "v"}}],
            ],
        },
    ]


def test_a_matrix_leaves_out_moments_without_a_sample() -> None:
    values = np.array([[1.5, np.nan, np.nan], [np.nan, np.nan, np.nan]])
    present = np.array([[True, False, True], [False, False, False]])
    found = answers.matrix(Matrix(((("a", "1"),), (("a", "2"),)), values, present), 10**9, 500_000_000)
    assert found["result"] == [{"metric": {"a": "1"}, "values": [[1, "1.5"], [2, "NaN"]]}]
    assert found["resultType"] == "matrix"


def test_a_vector_has_one_sample_a_series() -> None:
    values, present = np.array([[2.0], [np.nan]]), np.array([[True], [False]])
    found = answers.vector(Matrix(((("a", "1"),), ()), values, present), 1_500_000_000)
    assert found["result"] == [{"metric": {"a": "1"}, "value": [1.5, "2"]}]
    assert found["resultType"] == "vector"
