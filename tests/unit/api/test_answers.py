"""The result types."""

from __future__ import annotations

from typing import Any

import numpy as np
import orjson
from hypothesis import given
from hypothesis import strategies as st

from atalaia.api import answers
from atalaia.api.times import show_float
from atalaia.logql.entry import Entry
from atalaia.logql.matrix import Matrix

A, B = {"app": "a"}, {"app": "b"}


def read(answer: answers.Answer) -> Any:
    return orjson.loads(b"{" + b"".join(answer.pieces) + b"}")


def test_streams_come_in_the_order_of_their_first_entry() -> None:
    rows = [
        Entry(9, "x", B, {}),
        Entry(9, "y", A, {"pid": "1"}),
        Entry(8, "z", B, {}),
        Entry(8, "w", A, {"pid": "1"}),
    ]
    rows[3].parse({"k": "v", "__error__": "JSONParserErr"})
    plain = read(answers.streams(rows, False))
    assert plain["result"] == [
        {"stream": B, "values": [["9", "x"], ["8", "z"]]},
        {"stream": {"app": "a", "pid": "1"}, "values": [["9", "y"]]},
        {"stream": {"app": "a", "pid": "1", "k": "v", "__error__": "JSONParserErr"}, "values": [["8", "w"]]},
    ]
    assert "encodingFlags" not in plain
    categorised = read(answers.streams(rows, True))
    assert list(categorised) == ["resultType", "encodingFlags", "result"], "Grafana reads it in this order"
    assert categorised["encodingFlags"] == ["categorize-labels"]
    assert categorised["result"] == [
        {"stream": B, "values": [["9", "x", {}], ["8", "z", {}]]},
        {
            "stream": A,
            "values": [
                ["9", "y", {"structuredMetadata": {"pid": "1"}}],
                ["8", "w", {"structuredMetadata": {"pid": "1"}, "parsed": {"k": "v", "__error__": "JSONParserErr"}}],
            ],
        },
    ]


def test_a_matrix_leaves_out_moments_without_a_sample() -> None:
    values = np.array([[1.5, np.nan, np.nan], [np.nan, np.nan, np.nan]])
    present = np.array([[True, False, True], [False, False, False]])
    found = read(answers.matrix(Matrix(((("a", "1"),), (("a", "2"),)), values, present), 10**9, 500_000_000))
    assert found["result"] == [{"metric": {"a": "1"}, "values": [[1, "1.5"], [2, "NaN"]]}]
    assert found["resultType"] == "matrix"


def test_a_vector_has_one_sample_a_series() -> None:
    values, present = np.array([[2.0], [np.nan]]), np.array([[True], [False]])
    found = read(answers.vector(Matrix(((("a", "1"),), ()), values, present), 1_500_000_000))
    assert found["result"] == [{"metric": {"a": "1"}, "value": [1.5, "2"]}]
    assert found["resultType"] == "vector"


def test_a_number_is_a_scalar_at_one_moment_and_a_series_over_time() -> None:
    number = Matrix.constant(2.5, 2, scalar=True)
    assert read(answers.vector(number, 10**9)) == {"resultType": "scalar", "result": [1, "2.5"]}
    assert read(answers.matrix(number, 10**9, 10**9))["result"] == [{"metric": {}, "values": [[1, "2.5"], [2, "2.5"]]}]


def test_answers_of_several_pieces_are_whole() -> None:
    rows = [Entry(n, f"line {n}", A, {}) for n in range(2500)]
    (found,) = read(answers.streams(rows, False))["result"]
    assert found["values"] == [[str(n), f"line {n}"] for n in range(2500)]
    values = np.arange(7 * 11_000, dtype=float).reshape(7, 11_000)
    labels = tuple((("n", str(n)),) for n in range(7))
    matrix = Matrix(labels, values, values % 3 != 0)
    expected = [
        {
            "metric": {"n": str(n)},
            "values": [[t, str(n * 11_000 + t)] for t in range(11_000) if (n * 11_000 + t) % 3],
        }
        for n in range(7)
    ]
    assert read(answers.matrix(matrix, 0, 10**9))["result"] == expected
    many = Matrix(tuple((("n", str(n)),) for n in range(2500)), np.ones((2500, 1)), np.ones((2500, 1), bool))
    assert read(answers.vector(many, 0))["result"] == [
        {"metric": {"n": str(n)}, "value": [0, "1"]} for n in range(2500)
    ]


@given(st.lists(st.floats(), min_size=1, max_size=20))
def test_samples_of_a_matrix_are_written_as_go_writes_them(values: list[float]) -> None:
    found = answers.matrix(Matrix(((),), np.array([values]), np.ones((1, len(values)), bool)), 0, 10**9)
    assert [text for _, text in read(found)["result"][0]["values"]] == [show_float(value) for value in values]
