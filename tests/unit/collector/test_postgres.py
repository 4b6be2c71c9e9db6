from __future__ import annotations

import json
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atalaia.collector.formats.jsonlog import jsonlog
from atalaia.collector.formats.stderr import stderr

NOW = 10**18
RECORD = {
    "timestamp": "2026-03-01 12:00:00.250 UTC",
    "pid": 77,
    "session_id": "69a.4d",
    "line_num": 3,
    "session_start": "2026-03-01 11:59:00 UTC",
    "txid": 0,
    "error_severity": "LOG",
    "message": "hello",
    "backend_type": "client backend",
    "query_id": 0,
}
AT = 1772366400 * 10**9 + 250_000_000


def block_of(*records: dict[str, Any] | str) -> bytes:
    lines = [r if isinstance(r, str) else json.dumps(r, ensure_ascii=False) for r in records]
    return "".join(line + "\n" for line in lines).encode()


def rows(parser: Any, block: bytes, labels: dict[str, str] | None = None) -> list[dict[str, Any]]:
    batch = parser(block, NOW, labels or {"job": "postgres"}).record_batch()
    pa.Table.from_batches([batch]).validate(full=True)
    return [{**r, "labels": json.loads(r["labels"]), "metadata": dict(r["metadata"] or [])} for r in batch.to_pylist()]


def test_a_record_is_what_a_person_reads() -> None:
    (row,) = rows(jsonlog, block_of(RECORD))
    assert row == {
        "ts": AT,
        "labels": {"job": "postgres", "severity": "LOG"},
        "line": "LOG:  hello",
        "metadata": {
            "pid": "77",
            "session": "69a.4d",
            "session_line": "3",
            "session_start": "2026-03-01 11:59:00 UTC",
            "backend_type": "client backend",
        },
    }


def test_every_key() -> None:
    record = RECORD | {
        "user": "ann",
        "dbname": "shop",
        "remote_host": "::1",
        "remote_port": 5555,
        "ps": "SELECT",
        "vxid": "3/7",
        "txid": 745,
        "error_severity": "ERROR",
        "state_code": "42P01",
        "message": 'relation "ção" does not exist\nsecond line',
        "detail": "d",
        "hint": "h",
        "internal_query": "iq",
        "internal_position": 1,
        "context": "c",
        "statement": "SELECT 1\n\tFROM x",
        "cursor_position": 15,
        "func_name": "f",
        "file_name": "g.c",
        "file_line_num": 9,
        "application_name": "psql",
        "leader_pid": 76,
        "query_id": -9223372036854775808,
        "a_key_of_postgresql_19": {"nested": [1]},
    }
    (row,) = rows(jsonlog, block_of(record))
    assert row["line"] == (
        'ERROR:  relation "ção" does not exist\nsecond line at character 15\nDETAIL:  d\nHINT:  h\nQUERY:  iq'
        "\nCONTEXT:  c\nLOCATION:  f, g.c:9\nSTATEMENT:  SELECT 1\n\tFROM x"
    )
    assert row["labels"]["severity"] == "ERROR"
    assert row["metadata"] == {
        "pid": "77",
        "user": "ann",
        "database": "shop",
        "application": "psql",
        "remote_host": "::1",
        "remote_port": "5555",
        "sqlstate": "42P01",
        "session": "69a.4d",
        "session_line": "3",
        "session_start": "2026-03-01 11:59:00 UTC",
        "backend_type": "client backend",
        "command_tag": "SELECT",
        "virtual_transaction": "3/7",
        "transaction": "745",
        "query_id": "-9223372036854775808",
        "leader_pid": "76",
        "cursor_position": "15",
    }


def test_empty_and_absent_values_are_no_metadata() -> None:
    (row,) = rows(jsonlog, block_of({"message": "only", "user": "", "pid": None}))
    assert row == {"ts": NOW, "labels": {"job": "postgres"}, "line": "LOG:  only", "metadata": {}}


@pytest.mark.parametrize(
    "torn",
    [
        '{"timestamp":"2026-03-01 12:00:0',
        "a plain line",
        "",
        "[1,2]",
        '"text"',
        "null",
        "{} null",
        '{"message": "x"}null',
        '{} null {"message": "x"}',
        '{"pid": "no number"}',
        '{"pid": 1.5}',
        '{"pid": 99999999999999999999}',
        '{"message": {"a": 1}}',
        '{"message": 5}',
        '{"message": "x"} {"message": "y"}',
        '{"message": "x", "message": "y", "pid": []}',
        "\0\0\0",
        '{"message": "\\ud800"}',
        "  ",
        "{",
        "}",
    ],
)
def test_torn_lines_stay_beside_good_ones(torn: str) -> None:
    good = [RECORD | {"message": str(i)} for i in range(3)]
    found = rows(jsonlog, block_of(good[0], torn, torn, good[1], good[2], torn))
    assert [r["line"] for r in found] == ["LOG:  0", torn, torn, "LOG:  1", "LOG:  2", torn]
    assert [r["labels"].get("severity") for r in found] == ["LOG", None, None, "LOG", "LOG", None]
    assert [r["ts"] for r in found] == [AT, NOW, NOW, AT, AT, NOW]
    assert [r["line"] for r in rows(jsonlog, block_of(torn))] == [torn]


def test_two_records_in_one_torn_line_and_unreadable_times() -> None:
    found = rows(
        jsonlog, block_of(RECORD | {"timestamp": "yesterday"}, RECORD | {"timestamp": "2026-03-01 12:00:00.250 CET"})
    )
    assert [r["ts"] for r in found] == [NOW, AT - 3600 * 10**9]


LINE = st.one_of(
    st.fixed_dictionaries(
        {}, optional={"message": st.text(max_size=5), "pid": st.integers(-5, 5), "error_severity": st.just("LOG")}
    ).map(json.dumps),
    st.text(st.characters(codec="utf-8", exclude_characters="\n"), max_size=8),
    st.sampled_from(
        ["null", "{} null {}", '{"message":', '{"pid":1}x', "{}", " ", "\r", '{"message":"a\\u0000b"}', "\ufeff{}"]
    ),
)


@settings(max_examples=50)
@given(st.lists(LINE, min_size=1, max_size=8))
def test_each_line_is_one_entry_whatever_stands_in_it(lines: list[str]) -> None:
    found = rows(jsonlog, block_of(*lines))
    alone = [rows(jsonlog, block_of(line))[0] for line in lines]
    assert found == alone


PREFIX = "2026-03-01 12:00:00.250 UTC [77] "


def test_stderr_records_are_joined_with_what_belongs_to_them() -> None:
    text = (
        f"{PREFIX}ann@shop ERROR:  bad\n"
        f"{PREFIX}ann@shop DETAIL:  why\n"
        "\tcontinued\n"
        f"{PREFIX}ann@shop STATEMENT:  SELECT 1\n"
        f"{PREFIX}LOG:  fine: LOG:  twice\n"
        "postgres: could not find a thing\n"
        "\tindented\n"
        f"{PREFIX}@ FATAL:  é\n"
    )
    found = rows(stderr, text.encode())
    assert [r["line"] for r in found] == [
        "ERROR:  bad\nDETAIL:  why\ncontinued\nSTATEMENT:  SELECT 1",
        "LOG:  fine: LOG:  twice",
        "postgres: could not find a thing\n\tindented",
        "FATAL:  é",
    ]
    assert [r["labels"].get("severity") for r in found] == ["ERROR", "LOG", None, "FATAL"]
    assert [r["ts"] for r in found] == [AT, AT, AT, AT]
    assert [r["metadata"] for r in found] == [
        {"pid": "77", "user": "ann", "database": "shop"},
        {"pid": "77"},
        {},
        {"pid": "77"},
    ]


@pytest.mark.parametrize("first", ["\tcontinued", f"{PREFIX}DETAIL:  why"])
def test_a_block_may_begin_in_the_middle_of_a_record(first: str) -> None:
    found = rows(stderr, f"{first}\n{PREFIX}LOG:  next\n".encode())
    assert [r["line"] for r in found] == [first.replace(PREFIX, ""), "LOG:  next"]


@given(
    st.lists(
        st.sampled_from([f"{PREFIX}LOG:  a", f"{PREFIX}HINT:  b", "\tc", "plain", "", f"{PREFIX}u@d ERROR:  é", "\0"]),
        min_size=1,
        max_size=8,
    )
)
def test_no_line_of_stderr_is_lost(lines: list[str]) -> None:
    found = rows(stderr, "".join(f"{line}\n" for line in lines).encode())
    bare = [line.replace(PREFIX, "").replace("u@d ", "") for line in lines]
    pieces = sorted(piece.lstrip("\t") for r in found for piece in r["line"].split("\n"))
    assert pieces == sorted(line.lstrip("\t") for line in bare)
    assert len(found) <= len([line for i, line in enumerate(lines) if i == 0 or not line.startswith("\t")])
