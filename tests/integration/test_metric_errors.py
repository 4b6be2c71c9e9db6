"""Entries with an error in metric queries: they fail it, or are counted where it names the error."""

from __future__ import annotations

import pytest
from api_support import NOW, Tenant, served, tenant

__all__ = ["served", "tenant"]

DETAILS = "Value looks like object, but can't find closing '}' symbol"
WHOLE = f'{{"__error__": "JSONParserErr", "__error_details__": "{DETAILS}", "__preserve_error__": "true", "app": "a"}}'
# The second says the same in a way that SQL cannot, so that Python answers.
PIPELINES = ["json", 'json | label_format extra="x" | drop extra']


@pytest.fixture
def mixed(tenant: Tenant) -> Tenant:
    lines = ['{"k":"v","n":"5"}', "nope", '{"k":"w","n":"x"}', "never"]
    tenant.push({"app": "a"}, [(NOW - n, line) for n, line in enumerate(lines)])
    return tenant


@pytest.mark.parametrize("pipeline", PIPELINES)
@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("sum by (__error__) (count_over_time(Q [1m]))", {'{"__error__": "JSONParserErr"}': 2, "{}": 2}),
        ('sum(count_over_time(Q | __error__!="" [1m]))', {"{}": 2}),
        ('sum(count_over_time(Q | __error__="JSONParserErr" [1m])) by (app)', {'{"app": "a"}': 2}),
        ('sum by (k) (count_over_time(Q | __error__="" [1m]))', {'{"k": "v"}': 1, '{"k": "w"}': 1}),
        ('count_over_time(Q | __error__=~"JSON.*" [1m])', {WHOLE: 2}),
        ('count_over_time(Q | drop __error__, __error_details__ | k="" [1m])', {'{"app": "a"}': 2}),
    ],
)
def test_errors_that_are_named_are_counted(mixed: Tenant, query: str, found: dict[str, float], pipeline: str) -> None:
    assert mixed.vector(query.replace("Q", f'{{app="a"}} | {pipeline}')) == found


@pytest.mark.parametrize("pipeline", PIPELINES)
@pytest.mark.parametrize(
    ("query", "error"),
    [
        ("sum by (app) (count_over_time(Q [1m]))", "JSONParserErr"),
        ('sum(count_over_time(Q | k!="v" [1m]))', "JSONParserErr"),
        ('sum(count_over_time(Q | n > 1 | __error__!="" [1m]))', "LabelFilterErr"),
        ('sum(sum_over_time(Q | unwrap n | __error__!="" [1m]))', "SampleExtractionErr"),
    ],
)
def test_other_errors_fail_the_query(mixed: Tenant, query: str, error: str, pipeline: str) -> None:
    text = mixed.refused("query", query=query.replace("Q", f'{{app="a"}} | {pipeline}'), time=NOW)
    assert f"pipeline error: '{error}'" in text


def test_an_empty_label_of_an_expression_is_a_series_label(mixed: Tenant) -> None:
    for stage in ("logfmt k, z", 'logfmt k, z | label_format extra="x" | drop extra'):
        found = mixed.vector(f'count_over_time({{app="a"}} |= "nope" | {stage} [1m])')
        assert found == {'{"app": "a", "k": "", "z": ""}': 1}
