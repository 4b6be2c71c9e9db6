"""Queries ask for all of a log and nothing is counted twice; the table tells what differs."""

from __future__ import annotations

import json

import pytest
from bench.ask import Outcome, row
from bench.logs import Span
from bench.queries import QUERIES, Query
from bench.table import Row, as_json, render
from bench.tools import Scale

from atalaia.logql.parse import parse

MINUTE = 60 * 10**9
THERE = Scale(563_836_564, "rg", 0.060, 0.062, 0.951)  # where the targets were measured
QUERY = Query("q", "reference", "instant", "", "ERROR", 40)


@pytest.mark.parametrize("query", QUERIES, ids=lambda q: q.name)
def test_a_query_is_logql(query: Query) -> None:
    parse(str(query.parameters(Span(1, 10 * MINUTE))["query"]))


@pytest.mark.parametrize("first", [MINUTE - 1, MINUTE, MINUTE + 1])
@pytest.mark.parametrize("last", [9 * MINUTE - 1, 9 * MINUTE, 9 * MINUTE + 1])
def test_windows_cover_all_entries(first: int, last: int) -> None:
    begin, end = Span(first, last).aligned(60)
    assert begin < first
    assert last < end
    assert begin % MINUTE == end % MINUTE == 0
    asked = Query("q", "reference", "range", "", None).parameters(Span(first, last))
    assert asked["start"] == begin + MINUTE  # the first window is (begin, begin + 1 min]
    assert asked["end"] == end


def test_the_minutes_of_the_reference_log() -> None:
    # The log that the targets were measured on: 23:33:20.005 to 04:00:01.364.
    asked = Query("q", "reference", "range", "", None).parameters(
        Span(1_723_160_000_005 * 10**6, 1_723_176_001_364 * 10**6)
    )
    assert (int(asked["end"]) - int(asked["start"])) // MINUTE + 1 == 268


def test_targets_are_what_they_were_on_a_machine_like_that_one() -> None:
    assert THERE.queries == THERE.ingestion == THERE.speed == 1


def test_targets_grow_with_the_time_that_rg_takes() -> None:
    slow = Scale(THERE.size * 10, "rg", 1.2, 1.24, 19.02)
    assert slow.queries == pytest.approx(20)
    assert slow.speed == pytest.approx(0.5)
    assert row(QUERY, Outcome(0.1, 3), None, slow, 1.24, 3).target == pytest.approx(800)


def test_without_rg_and_zstd_wc_is_the_scale() -> None:
    scale = Scale(THERE.size, "grep", 0.120, 5.0, None)
    assert scale.queries == scale.ingestion == 2
    assert any("no rg" in found.note for found in scale.rows)


def test_a_wrong_count_is_told() -> None:
    assert row(QUERY, Outcome(0.01, 3), None, THERE, 0.06, 3).note == "3"
    assert "differs! 4 lines" in row(QUERY, Outcome(0.01, 3), None, THERE, 0.06, 4).note
    assert "there: 2" in row(QUERY, Outcome(0.01, 3), Outcome(0.01, 2), THERE, 0.06, 3).note


def test_a_refusal_is_shown_in_place_of_a_figure() -> None:
    found = row(QUERY, Outcome(refusal="refused (400): no"), Outcome(0.5, 3), THERE, 0.06, 3)
    assert found.value is None
    assert found.note == "refused (400): no"
    assert found.against == 500


def test_the_table_has_a_column_for_another_server_only_when_there_is_one() -> None:
    rows = [Row("query: q", 1234.5, "ms", 40, 62.25, 500, "3"), Row("bytes", None, "")]
    assert render(rows, "rg", "").splitlines() == [
        "              here   target    rg -c",
        "query: q  1,234 ms  40.0 ms  62.2 ms  3",
        "bytes",
    ]
    assert render(rows, "grep", "other:3100").splitlines()[0].split() == ["here", "target", "grep", "-c", "other:3100"]
    assert "500 ms" in render(rows, "rg", "other:3100")


def test_json_has_the_same_figures() -> None:
    assert json.loads(as_json([Row("q", 1.5, "ms", note="3")])) == [
        {"what": "q", "value": 1.5, "unit": "ms", "target": None, "raw": None, "against": None, "note": "3"}
    ]
