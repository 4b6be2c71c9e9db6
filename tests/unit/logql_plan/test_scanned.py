"""Labels that SQL scans for, beside the functions of one line, in lines made to mislead a scan."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atalaia.logql.extract import JSON_BEGINNINGS, json_labels, json_value, logfmt_labels
from atalaia.query.engine import Engine

from .sqlcheck import Entry, compiled, log_query, select

NAMES = ["a", "b", "a_b", "_a", "a_", "a_b_a", "b_a_b_a", "_1", "a__b", "k9"]
PIECES = st.sampled_from(
    [
        "a",
        "b",
        "a_b",
        "a.b",
        "a-b-a",
        "_a",
        "a_",
        "1",
        "k9",
        "é",
        "\xa0",
        "\u2003",
        "=",
        "=",
        "=",
        '"',
        '"',
        "\\",
        " ",
        " ",
        " ",
        "\n",
        "\t",
        "\x00",
        "\x01",
        "\x7f",
        "x",
        'a="',
        "b=",
        ' a="x" ',
        'a="\\"" ',
        'b="\\n"',
        "a=1",
        "b=2 ",
    ]
)
LOGFMT = st.lists(PIECES, max_size=12).map("".join)
FOUND = settings(max_examples=25, deadline=None)


@given(
    st.lists(LOGFMT, min_size=1, max_size=8), st.sampled_from(["", "--strict", "--keep-empty", "--strict --keep-empty"])
)
@FOUND
def test_logfmt(engine: Engine, lines: list[str], flags: str) -> None:
    rows = select(engine, log_query(f'{{app="z"}} | logfmt {flags}'), [Entry(line) for line in lines], NAMES)
    for line, (_, *values, error) in zip(lines, rows, strict=True):
        expected = logfmt_labels(line, "strict" in flags, "empty" in flags)
        assert dict(zip(NAMES, values, strict=True)) == {name: expected.get(name) for name in NAMES}, line
        assert error == expected.get("__error__")


KEYS = st.sampled_from(
    [
        "a",
        "a",
        "b",
        "b",
        "a_b",
        "a.b",
        "a-b-a",
        "_a",
        "a_",
        "1",
        "k9",
        "é",
        "b\xa0",
        " a",
        "a ",
        "",
        " ",
        "a\\b",
        'a"',
        "a\x7fb",
        "a\tb",
        "x",
        "y",
    ]
)
SCALARS = st.sampled_from(
    [
        "1",
        "1.50",
        "-0",
        "1e5",
        "true",
        "false",
        "null",
        "[]",
        "{}",
        '"x"',
        '""',
        '"\\n"',
        '"\\u00e9"',
        '"\\ud83d\\ude00"',
        '"\\\\"',
        '"\\""',
        '"\\",\\"a\\":\\"b"',
        '"a\\":1"',
        '",]"',
        '"{"',
        '"}"',
        '":"',
        '"null"',
        "12345678901234567890",
        '"\xa0"',
        '[{"a":1}]',
        '"\\ud800"',
        "NaN",
        "01",
        '"',
        "1,",
        "[1,]",
    ]
)
BLANK = st.sampled_from(["", "", "", " ", "\n", "\t "])


def _object(pairs: list[tuple[str, str]], blank: str) -> str:
    return (
        "{"
        + f",{blank}".join(f"{json.dumps(k, ensure_ascii=len(k) > 2)}{blank}:{blank}{v}" for k, v in pairs)
        + blank
        + "}"
    )


def _objects(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.builds(_object, st.lists(st.tuples(KEYS, inner), max_size=5), BLANK)


JSON = _objects(st.recursive(SCALARS, lambda inner: _objects(inner) | inner, max_leaves=12)) | SCALARS


@given(st.lists(JSON, min_size=1, max_size=8))
@FOUND
def test_json(engine: Engine, lines: list[str]) -> None:
    rows = select(engine, log_query('{app="z"} | json'), [Entry(line) for line in lines], NAMES)
    for line, (_, *values, error) in zip(lines, rows, strict=True):
        expected = json_labels(line)
        assert dict(zip(NAMES, values, strict=True)) == {name: expected.get(name) for name in NAMES}, line
        assert error == expected.get("__error__")


PATHS = {"p": "a", "q": "a.b", "r": '["a_b"]', "s": "a.b.a", "t": 'b["a.b"]', "u": "b[0]", "v": '["a\u00a0b"].a'}


@given(st.lists(JSON, min_size=1, max_size=8))
@FOUND
def test_json_at_paths(engine: Engine, lines: list[str]) -> None:
    stage = ", ".join(f"{name}=`{path}`" for name, path in PATHS.items())
    rows = select(engine, log_query(f'{{app="z"}} | json {stage}'), [Entry(line) for line in lines], list(PATHS))
    for line, (_, *values, error) in zip(lines, rows, strict=True):
        found: dict[str, Any] = {name: json_value(line, path) for name, path in PATHS.items()}
        missing = "" if line.startswith(JSON_BEGINNINGS) else None  # a value that is broken is empty, and an error
        expected = {name: missing if value is None else value for name, value in found.items()}
        assert dict(zip(PATHS, values, strict=True)) == expected, line
        assert (error is None) == (not line or None not in found.values()), line


USUAL = [
    ("logfmt", 'ts=2024-08-05T00:00:08.397Z caller=worker.go:171 msg="a b=1" took=3.2ms', "took", "3.2ms"),
    ("logfmt", 'msg="say \\"hi\\" a=b" err= level=error took=3s', "level", "error"),
    ("logfmt", 'msg="took=1" took="2 s" other', "took", "2 s"),
    ("logfmt --strict", 'msg="took=1" x-y=2 other', "x_y", "2"),
    ("logfmt --keep-empty", 'msg="took=1" took other', "took", ""),
    ('logfmt it="x.y"', "x.y=1 y=2", "it", "1"),
    ("json", '{"ts": "x", "@timestamp": 1, "a": {"b": [1, {"c": 2}]}, "took": 3.20, "usuário": null}', "took", "3.20"),
    ("json", '{"http":{"status":500,"path":"/a?b={}"},"msg":"a \\"b\\"\\n","x":[1,2,[3]]}', "http_status", "500"),
    ("json", '{"http":{"status":500,"path":"/a?b={}"},"msg":"a \\"b\\"\\n"}', "msg", 'a "b"\n'),
    ("json", '{"http":{"path":"/"},"http-status":"no"}', "http_status", "no"),
    ("json", '{"http":{"path":"/"},"http-status":"no"}', "http_method", None),
    ("json", "not JSON", "not", None),
    ('json took="http.took"', '{"http":{"path":"/","took":7}}', "took", "7"),
    ('json took="took"', '{"http":{"path":"/","took":7}}', "took", ""),
]


@pytest.mark.parametrize(("stage", "line", "name", "value"), USUAL)
def test_usual_lines_need_no_function(engine: Engine, stage: str, line: str, name: str, value: str | None) -> None:
    pipeline, table = compiled(log_query(f'{{app="z"}} | {stage}'), [Entry(line)])
    sql = f'SELECT {pipeline.label(name)}, {pipeline.error or "NULL"} FROM (SELECT *, NULL AS "key.{name}" FROM rows)'
    for function in ("line_json(line", "line_json_at(line", "line_logfmt(line"):
        sql = sql.replace(function, function.replace("line)", "error(line))").replace("(line", "(error(line)"))
    with engine.cursor() as connection:
        connection.register("rows", table)
        error = "JSONParserErr" if line == "not JSON" else None
        assert connection.execute(sql).fetchall() == [(value, error)]
