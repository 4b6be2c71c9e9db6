"""The reading half of the API: answers, parameters, directions, tenants."""

from __future__ import annotations

from typing import Any

import pytest
from api_support import HOUR, NOW, S, Served, Tenant, assert_quiet, served, tenant

from atalaia.api.app import NOT_BUILT

__all__ = ["served", "tenant"]
CATEGORISED = {"X-Loki-Response-Encoding-Flags": "categorize-labels"}


def test_ready_and_buildinfo(tenant: Tenant) -> None:
    assert tenant.call("/ready").text == "ready\n"
    assert tenant.call("/loki/api/v1/status/buildinfo").json()["version"].startswith("3.")


def test_a_log_query(tenant: Tenant) -> None:
    tenant.push({"app": "a", "env": "x"}, [(NOW, "one"), (NOW + 1, "two", {"pid": "7"})])
    tenant.push({"app": "a", "env": "y"}, [(NOW + 2, "three")])
    assert tenant.streams('{app="a"}') == [
        {"stream": {"app": "a", "env": "x", "pid": "7"}, "values": [[str(NOW + 1), "two"]]},
        {"stream": {"app": "a", "env": "x"}, "values": [[str(NOW), "one"]]},
        {"stream": {"app": "a", "env": "y"}, "values": [[str(NOW + 2), "three"]]},
    ]
    assert tenant.lines('{app="a"} |= "t" |~ "^t" != "three"') == ["two"]
    assert tenant.lines('{app="a"} | pid="7"') == ["two"]
    assert tenant.lines('{app="a", env=~"y|z"}') == ["three"]


def test_categorised_labels(tenant: Tenant) -> None:
    tenant.push({"app": "a"}, [(NOW, '{"k":1.50,"app":"p"}', {"pid": "7", "app": "m"}), (NOW - 1, "no", {})])
    parameters: dict[str, Any] = {"query": '{app="a"} | json', "start": NOW - HOUR, "end": NOW + 1}
    found = tenant.get("query_range", CATEGORISED, **parameters)
    assert found["encodingFlags"] == ["categorize-labels"]
    ((ts, line, labels), (_, _, broken)) = found["result"][0]["values"]
    assert found["result"][0]["stream"] == {"app": "a"}
    assert (ts, line) == (str(NOW), '{"k":1.50,"app":"p"}')
    assert labels == {"structuredMetadata": {"pid": "7"}, "parsed": {"k": "1.50", "app_extracted": "p"}}
    assert broken["parsed"]["__error__"] == "JSONParserErr"
    plain = tenant.streams('{app="a"} | json')
    assert plain[1]["stream"] == {"app": "a", "pid": "7", "k": "1.50", "app_extracted": "p"}
    assert plain[1]["values"] == [[str(NOW), line]]


def test_start_is_included_and_end_is_not(tenant: Tenant) -> None:
    tenant.push({"app": "a"}, [(NOW + n, str(n)) for n in range(5)])
    assert tenant.lines('{app="a"}', start=NOW + 1, end=NOW + 3, direction="forward") == ["1", "2"]
    assert tenant.lines('{app="a"}', start=NOW + 1, end=NOW + 1) == []


def test_limits_and_directions(tenant: Tenant) -> None:
    tenant.push({"app": "a"}, [(NOW + n // 3, str(n)) for n in range(9)])
    everything = [str(n) for n in range(9)]
    for limit in (1, 2, 4, 9, 100):
        assert tenant.lines('{app="a"}', limit=limit, direction="forward") == everything[:limit]
        assert tenant.lines('{app="a"}', limit=limit, direction="BACKWARD") == everything[::-1][:limit]
    assert tenant.lines('{app="a"}', limit=2) == ["8", "7"]
    many = [(NOW, str(n)) for n in range(150)]
    tenant.push({"app": "many"}, many)
    parameters: dict[str, Any] = {"query": '{app="many"}', "start": NOW, "end": NOW + 1}
    assert len(tenant.get("query_range", **parameters)["result"][0]["values"]) == 100


@pytest.mark.parametrize(
    ("start", "end"),
    [
        (str(NOW), str(NOW + S)),
        ("1700000000", "1700000001"),
        ("1700000000.0", "1.700000001e9"),
        ("2023-11-14T22:13:20Z", "2023-11-14T23:13:21+01:00"),
        ("2023-11-14T22:13:20.000000000Z", "2023-11-14T22:13:20.000000001Z"),
    ],
)
def test_times_in_all_spellings(tenant: Tenant, start: str, end: str) -> None:
    tenant.push({"app": "a"}, [(NOW - 1, "before"), (NOW, "there"), (NOW + S, "after")])
    assert tenant.lines('{app="a"}', start=start, end=end) == ["there"]
    assert tenant.vector('count_over_time({app="a"}[1ns])', start) == {'{"app": "a"}': 1}  # type: ignore[arg-type]


def test_the_last_hour_is_the_default(tenant: Tenant) -> None:
    import time

    now = time.time_ns()
    tenant.push({"app": "a"}, [(now - 2 * HOUR, "old"), (now - 60 * S, "new")])
    found = tenant.get("query_range", query='{app="a"}')["result"]
    assert [value[1] for value in found[0]["values"]] == ["new"]
    found = tenant.get("query_range", query='{app="a"}', since="3h")["result"]
    assert [value[1] for value in found[0]["values"]] == ["new", "old"]


def test_parameters_of_a_form(tenant: Tenant) -> None:
    tenant.push({"app": "a"}, [(NOW, "é & x")])
    form = {"query": '{app="a"} |= "é & x"', "start": str(NOW), "end": str(NOW + 1)}
    answer = tenant.call("/loki/api/v1/query_range", "POST", data=form)
    assert answer.json()["data"]["result"][0]["values"] == [[str(NOW), "é & x"]]
    assert tenant.call("/loki/api/v1/query_range?query=%7B", "POST", data=form).status_code == 200


def test_a_matrix_and_a_vector(tenant: Tenant) -> None:
    tenant.push({"app": "a", "env": "x"}, [(NOW + n * S, "12345") for n in range(10)])
    tenant.push({"app": "a", "env": "y"}, [(NOW + 5 * S, "é")])
    found = tenant.get(
        "query_range", query='sum by (env) (count_over_time({app="a"}[4s]))', start=NOW, end=NOW + 12 * S, step=4
    )
    assert found["resultType"] == "matrix"
    assert sorted(found["result"], key=lambda s: s["metric"]["env"]) == [
        {
            "metric": {"env": "x"},
            "values": [[1700000000, "1"], [1700000004, "4"], [1700000008, "4"], [1700000012, "1"]],
        },
        {"metric": {"env": "y"}, "values": [[1700000008, "1"]]},
    ]
    at = NOW + 9 * S
    assert tenant.vector('rate({app="a", env="x"}[4s])', at) == {'{"app": "a", "env": "x"}': 1}
    assert tenant.vector('bytes_over_time({app="a"}[1h])', at) == {
        '{"app": "a", "env": "x"}': 50,
        '{"app": "a", "env": "y"}': 2,
    }
    assert tenant.vector('sum(bytes_rate({app="a"}[10s]))', at) == {"{}": 5.2}
    assert tenant.vector('count_over_time({app="a", env="y"}[1s] offset 4s)', at) == {'{"app": "a", "env": "y"}': 1}
    assert tenant.vector('count_over_time({app="none"}[1s])', at) == {}
    assert list(tenant.vector('topk(1, count_over_time({app="a"}[1h]))', at)) == ['{"app": "a", "env": "x"}']
    counts = {"avg": 5.5, "min": 1, "max": 10, "count": 2, "stddev": 4.5, "stdvar": 20.25, "sum": 11}
    for op, value in counts.items():
        assert tenant.vector(f'{op}(count_over_time({{app="a"}}[1h]))', at) == {"{}": value}
    rising = tenant.get("query", query='sort(count_over_time({app="a"}[1h]))', time=at)["result"]
    assert [float(s["value"][1]) for s in rising] == [1, 10]


def test_series_of_metadata_and_parsed_labels(tenant: Tenant) -> None:
    lines = [(NOW, '{"k":"1","app":"p"}', {"pid": "7"}), (NOW, '{"k":"1"}', {"pid": "7"}), (NOW, '{"k":""}')]
    tenant.push({"app": "a"}, lines)
    assert tenant.vector('count_over_time({app="a"}[1m])') == {'{"app": "a", "pid": "7"}': 2, '{"app": "a"}': 1}
    assert tenant.vector('count_over_time({app="a"} | json | k="1" [1m])') == {
        '{"app": "a", "app_extracted": "p", "k": "1", "pid": "7"}': 1,
        '{"app": "a", "k": "1", "pid": "7"}': 1,
    }
    assert tenant.vector('sum by (k, pid) (count_over_time({app="a"} | json [1m]))') == {
        '{"k": "1", "pid": "7"}': 2,
        '{"k": ""}': 1,  # an empty label is another one than none
    }
    assert tenant.vector('sum by (z) (count_over_time({app="a"} | json z="k" [1m]))') == {
        '{"z": "1"}': 2,
        '{"z": ""}': 1,
    }
    assert tenant.vector('sum by (none) (count_over_time({app="a"} | json [1m]))') == {"{}": 3}


def test_a_metric_of_an_entry_with_an_error_fails(tenant: Tenant) -> None:
    tenant.push({"app": "a"}, [(NOW, "n=1 json=no"), (NOW, "n=x")])
    for query, kind in [
        ('count_over_time({app="a"} | json [1m])', "JSONParserErr"),
        ('sum by (app) (count_over_time({app="a"} | json [1m]))', "JSONParserErr"),
        ('sum(count_over_time({app="a"} | logfmt | n > 0 [1m]))', "LabelFilterErr"),
        ('count_over_time({app="a"} | logfmt | n > 5 [1m])', "LabelFilterErr"),
    ]:
        message = tenant.refused("query", query=query, time=NOW)
        assert f"pipeline error: '{kind}' for series {{" in message
        assert '| __error__=""' in message
    message = tenant.refused("query", query='sum(count_over_time({app="a"} | logfmt | n > 1s [1m]))', time=NOW)
    assert 'missing unit in duration \\"1\\"' in message or 'invalid duration \\"x\\"' in message
    assert tenant.vector('sum(count_over_time({app="a"} | json [1m]))') == {"{}": 2}  # no label is asked for
    assert tenant.vector('sum(count_over_time({app="a"} | logfmt | n > 0 | __error__="" [1m]))') == {"{}": 1}
    assert tenant.lines('{app="a"} | logfmt | n > 5') == ["n=x"]
    assert tenant.streams('{app="a"} | logfmt | n > 5')[0]["stream"]["__error__"] == "LabelFilterErr"


def test_labels_values_and_series_have_a_time(tenant: Tenant) -> None:
    tenant.push({"app": "a", "env": "x"}, [(NOW, "1")])
    tenant.push({"app": "b", "host": "h"}, [(NOW - 10 * S, "1"), (NOW - 8 * S, "2")])
    whole = {"start": NOW - HOUR, "end": NOW + HOUR}
    assert tenant.get("labels", **whole) == tenant.get("label", **whole) == ["app", "env", "host"]
    assert tenant.get("labels", start=NOW - S, end=NOW) == ["app", "env"]
    assert tenant.get("labels", query='{app="b"}', **whole) == ["app", "host"]
    assert tenant.get("label/app/values", **whole) == ["a", "b"]
    assert tenant.get("label/app/values", start=NOW - 9 * S, end=NOW - S) == ["b"]
    assert tenant.get("label/app/values", query='{env="x"}', **whole) == ["a"]
    assert tenant.get("label/none/values", **whole) == []
    assert tenant.get("labels") == []  # of the last hour
    a, b = {"app": "a", "env": "x"}, {"app": "b", "host": "h"}
    assert tenant.get("series", **whole) == [a, b]
    assert tenant.get("series", **whole, **{"match[]": ['{app="b"}', '{app="none"}']}) == [b]
    assert tenant.get("series", **whole, **{"match[]": ['{app="b"}', '{app="a"}']}) == [a, b]
    assert tenant.get("series", start=NOW + 1, end=NOW + 2) == []
    answer = tenant.call("/loki/api/v1/series", "POST", data={"match[]": '{app="a"}', "start": NOW, "end": NOW + 1})
    assert answer.json()["data"] == [a]


def test_tenants_do_not_see_each_other(tenant: Tenant) -> None:
    other = Tenant(tenant.http, f"{tenant.name}.(other)!")
    tenant.push({"app": "a"}, [(NOW, "mine")])
    other.push({"app": "a"}, [(NOW, "theirs")])
    assert (tenant.lines('{app="a"}'), other.lines('{app="a"}')) == (["mine"], ["theirs"])
    assert other.vector('count_over_time({app="a"}[1m])') == {'{"app": "a"}': 1}
    nobody = Tenant(tenant.http, "nobody")
    assert nobody.get("series", start=0, end=NOW + HOUR) == []
    for name in ("", "a/b", "x" * 151, "a b"):
        assert "is not a tenant's name" in Tenant(tenant.http, name).refused("labels")


@pytest.mark.parametrize(
    ("path", "parameters", "message"),
    [
        ("query_range", {}, "the parameter 'query' is missing"),
        ("query_range", {"query": ""}, "the parameter 'query' is missing"),
        ("query_range", {"query": "{"}, "parse error at line 1, col 2: syntax error: unexpected $end"),
        ("query_range", {"query": '{a="b"} |~ "("'}, "missing )"),
        ("query_range", {"query": '{a=~".*"}'}, "at least one regexp or equality matcher"),
        ("query_range", {"query": '{a="b"}', "start": "x"}, "start='x' is not a time"),
        ("query_range", {"query": '{a="b"}', "end": "1e999999999"}, "end='1e999999999' is not a time"),
        ("query_range", {"query": '{a="b"}', "start": "2", "end": "1"}, "end timestamp must not be before start time"),
        ("query_range", {"query": '{a="b"}', "limit": "0"}, "limit must be a positive value"),
        ("query_range", {"query": '{a="b"}', "limit": "1000001"}, "limit='1000001'"),
        ("query_range", {"query": '{a="b"}', "direction": "up"}, "neither forward nor backward"),
        ("query_range", {"query": 'rate({a="b"}[1m])', "step": "0"}, "step='0' must be above zero"),
        ("query_range", {"query": 'rate({a="b"}[1m])', "step": "1ms"}, "exceeded maximum resolution of 11,000 points"),
        ("query", {"query": '{a="b"}'}, "log queries are not supported as an instant query type"),
        ("query", {"query": 'rate({a="b"}[1m])', "time": "x"}, "time='x' is not a time"),
        ("query", {"query": "1 +"}, "unexpected $end"),
        ("query_range", {"query": '{a="b"} | line_format "{{nope}}"'}, 'function "nope" not defined'),
        ("query", {"query": 'bytes_rate({a="b"} | line_format "{{" [1m])'}, "invalid template"),
        ("query_range", {"query": '{a="b"}', "since": "x"}, "since='x' is not a duration"),
        ("series", {"match[]": "{"}, "line 1"),
        ("series", {"match[]": 'rate({a="b"}[1m])'}, "is not a stream selector"),
        ("labels", {"query": '{a="b"} |= "x"'}, "is not a stream selector"),
        ("label/x/values", {"start": "x"}, "is not a time"),
    ],
)
def test_what_is_refused_is_named(tenant: Tenant, path: str, parameters: dict[str, str], message: str) -> None:
    assert message in tenant.refused(path, **parameters)


def test_what_loki_has_and_this_version_has_not(served: Served, tenant: Tenant) -> None:
    for path in NOT_BUILT:
        shown = path.replace("{path:path}", "a/b").replace("{name}", "x")
        answer = tenant.call(shown)
        assert (answer.status_code, answer.text) == (400, f"{shown} is not built yet; docs/logql.md lists what is\n")
    assert tenant.call("/nothing").status_code == 404
    assert tenant.call("/loki/api/v1/push").status_code == 405
    assert_quiet(served)


def test_long_queries_are_refused_quickly(tenant: Tenant) -> None:
    for query, message in [
        ('{a="b"}' + '|= "x"' * 15_000, "15000 stages"),
        ('{a="b"} |= "x"' + ' or "x"' * 15_000, "15001 alternatives"),
        ('{a="b"} | x="1"' + " or x=1" * 200, "nests operations"),
        ("sum(" * 500 + 'rate({a="b"}[1m])' + ")" * 500, "nests operations"),
        ('{a="' + "x" * 200_000 + '"}', "131,072 are allowed"),
    ]:
        answer = tenant.call("/loki/api/v1/query_range", "POST", data={"query": query})
        assert (answer.status_code, message in answer.text) == (400, True), answer.text[:200]
    assert tenant.call("/loki/api/v1/query_range", "POST", content=b"q=" + b"x" * (1 << 20)).status_code == 413


def test_numbers_are_scalars_and_series_over_time(tenant: Tenant) -> None:
    found = tenant.get("query", query="2 ^ 3 / 16", time=NOW)
    assert (found["resultType"], found["result"]) == ("scalar", [NOW // S, "0.5"])
    found = tenant.get("query_range", query="1 > bool 2", start=NOW, end=NOW + S, step=1)
    assert (found["resultType"], found["result"]) == (
        "matrix",
        [{"metric": {}, "values": [[NOW // S, "0"], [NOW // S + 1, "0"]]}],
    )


def test_values_of_labels_are_samples(tenant: Tenant) -> None:
    lines = [f'took={n}ms user="{"ann" if n % 2 else "bob"}"' for n in range(1, 6)]
    tenant.push({"app": "a"}, [(NOW - n, line) for n, line in enumerate(lines)])
    pipeline = '{app="a"} | regexp "took=(?P<took>[0-9a-z]+)" | logfmt user | unwrap duration(took)'
    assert tenant.vector(f"max_over_time({pipeline} [1m]) by (user)") == {
        '{"user": "ann"}': 0.005,
        '{"user": "bob"}': 0.004,
    }
    assert tenant.vector(f"sum(sum_over_time({pipeline} [1m])) * 1000") == {"{}": pytest.approx(15)}
    assert tenant.vector(f"quantile_over_time(0.5, {pipeline} [1m]) by ()") == {"{}": 0.003}
    assert tenant.vector(f"last_over_time({pipeline} [1m])") == {
        '{"app": "a", "user": "ann"}': 0.001,
        '{"app": "a", "user": "bob"}': 0.002,
    }
    message = tenant.refused("query", query='sum_over_time({app="a"} | logfmt | unwrap took [1m])', time=NOW)
    assert "pipeline error: 'SampleExtractionErr'" in message
    assert tenant.vector('absent_over_time({app="a", x="y"} [1m])') == {'{"app": "a", "x": "y"}': 1}


def test_lines_and_labels_are_formatted(tenant: Tenant) -> None:
    tenant.push({"app": "a"}, [(NOW - n, f"took={n}ms") for n in range(300)])
    query = '{app="a"} | logfmt | line_format "{{.took}} in {{.app | upper}}" |= "9ms" | drop took'
    assert tenant.lines(query, limit=3) == ["9ms in A", "19ms in A", "29ms in A"]
    assert tenant.lines(query, limit=2, direction="forward") == ["299ms in A", "289ms in A"]
    assert len(tenant.lines(query)) == 30
    found = tenant.streams(
        '{app="a"} |= "took=0ms" | logfmt | label_format took="{{.took | trimSuffix `ms`}}", service=app',
        headers={"X-Loki-Response-Encoding-Flags": "categorize-labels"},
    )
    assert found == [{"stream": {}, "values": [[str(NOW), "took=0ms", {"parsed": {"service": "a", "took": "0"}}]]}]
