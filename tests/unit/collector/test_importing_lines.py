"""What `atalaia import` recognises in a line: kind, time, level, container; each expectation written by hand."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pytest

from atalaia.collector.importing.kinds import level_of
from atalaia.collector.importing.recognise import NAMES, Recogniser, Seen
from atalaia.collector.importing.records import Block, Clock, build, open_from
from atalaia.collector.importing.times import offset_of, timezone_of, to_utc
from atalaia.environment.errors import InputError

S = 10**9
LATEST = datetime(2024, 9, 1, tzinfo=UTC)


def utc(text: str) -> int:
    """ns of "2024-08-09 01:06:43[.fraction]"."""
    whole, _, fraction = text.partition(".")
    moment = datetime.strptime(f"{whole} +0000", "%Y-%m-%d %H:%M:%S %z")
    return int(moment.timestamp()) * S + int(fraction.ljust(9, "0") or "0")


def seen(lines: list[str], **options: object) -> Seen:
    recogniser = Recogniser(LATEST, **options)  # type: ignore[arg-type]  # as each test names them
    array = pa.array(lines, pa.utf8())
    recogniser.begin(array)
    return recogniser(array)


def built(lines: list[str], clock: Clock | None = None) -> Block:
    return build(seen(lines), clock or Clock(), {"job": "import"})


def labels(block: Block, name: str) -> list[str | None]:
    value = block.entries.labels.get(name)
    return value.to_pylist() if isinstance(value, pa.Array) else [value] * len(block.entries)


LINES = [
    (
        "2024-08-09 01:06:43.242 UTC [1] LOG:  starting PostgreSQL 16.3",
        "postgresql",
        "2024-08-09 01:06:43.242",
        None,
    ),
    ("2024-08-09 01:06:43 -03 [17] app@shop ERROR:  no", "postgresql", "2024-08-09 04:06:43", None),
    (
        "2024-08-09 01:06:43 UTC:10.0.0.1(5432):app@shop:[88]:FATAL:  no",
        "postgresql with a prefix",
        "2024-08-09 01:06:43",
        None,
    ),
    (
        "2024-08-09 03:06:43.5 CEST [88]: [3-1] user=app,db=shop,app=x,client=::1 WARNING:  w",
        "postgresql with a prefix",
        "2024-08-09 01:06:43.5",
        None,
    ),
    (
        "2024-08-09 01:06:43.242 UTC [12] LOG C-0x55: shop/app@10.0.0.1:999 login attempt",
        "pgbouncer",
        "2024-08-09 01:06:43.242",
        "info",
    ),
    ("2024-08-09 01:06:43.223494 I | proto: x", "go (capnslog)", "2024-08-09 01:06:43.223494", "info"),
    (
        "level=warn ts=2024-08-09T01:06:43.45397488Z caller=a.go:1 msg=x",
        "logfmt",
        "2024-08-09 01:06:43.45397488",
        "warning",
    ),
    ('time="2024-08-09T01:06:43+02:00" level=error msg="no"', "logfmt", "2024-08-08 23:06:43", "error"),
    (
        "2024-08-09 02:11:43.174403447Z caller=checkpoint.go:617 msg=x",
        "logfmt behind a time",
        "2024-08-09 02:11:43.174403447",
        None,
    ),
    (
        '10.0.0.1 - bob [09/Aug/2024:01:06:43 -0300] "GET / HTTP/1.1" 200 12',
        "access log",
        "2024-08-09 04:06:43",
        None,
    ),
    ("2024/08/09 01:06:43 [error] 31#31: *1 open() failed", "nginx", "2024-08-09 01:06:43", "error"),
    ("2024/08/09 01:06:43 listening on :80", "time", "2024-08-09 01:06:43", None),
    (
        "[Fri Aug  9 01:06:43.123456 2024] [core:warn] [pid 1] AH00111: x",
        "apache",
        "2024-08-09 01:06:43.123456",
        "warning",
    ),
    ("<165>1 2024-08-09T01:06:43.003Z host app 1 ID47 - hi", "syslog (RFC 5424)", "2024-08-09 01:06:43.003", "info"),
    ("<34>Aug  9 01:06:43 host su: failed", "syslog", "2024-08-09 01:06:43", "fatal"),
    ("Dec 31 23:59:59 host cron[1]: x", "syslog", "2023-12-31 23:59:59", None),
    (
        "2024-08-09T01:06:43.123456+02:00 host sshd[4]: Accepted",
        "syslog (ISO time)",
        "2024-08-08 23:06:43.123456",
        None,
    ),
    ("1:M 09 Aug 2024 01:06:43.123 # WARNING overcommit", "redis", "2024-08-09 01:06:43.123", "warning"),
    ("2024-08-09 01:06:43,123 - app - ERROR - no", "time and level", "2024-08-09 01:06:43.123", "error"),
    ("2024-08-09 01:06:43.123  WARN 1 --- [main] o.s.B : x", "time and level", "2024-08-09 01:06:43.123", "warning"),
    ("2024-08-09 01:06:43 install shared-mime-info:amd64 error", "time", "2024-08-09 01:06:43", None),
    ("2024-08-09 01:06:43 app: warning: disk", "time and [level]", "2024-08-09 01:06:43", "warning"),
    ("2024-08-09T01:06:43.242751Z 0 [Note] mysqld ready", "time and [level]", "2024-08-09 01:06:43.242751", "info"),
    ("INFO  [2024-08-09 01:06:43] x", "level and time", "2024-08-09 01:06:43", "info"),
    (
        '{"level":"error","msg":"x","time":"2024-08-09T01:06:43.5Z"}',
        "json",
        "2024-08-09 01:06:43.5",
        "error",
    ),
    ('{"level":30,"time":1723165603242,"msg":"pino"}', "json", "2024-08-09 01:06:43.242", "info"),
    ('{"ts":1723165603.25,"level":"debug"}', "json", "2024-08-09 01:06:43.25", "debug"),
    ('{"msg":"no time"}', "plain", None, None),
    ('{"broken', "plain", None, None),
    ("WARNING: disk is slow", "level", None, "warning"),
    ("hello", "plain", None, None),
    ("2024-13-09 01:06:43 [x] y", "time", None, None),
]


@pytest.mark.parametrize(("line", "kind", "time", "level"), LINES, ids=[line[0][:40] for line in LINES])
def test_a_line_is_recognised(line: str, kind: str, time: str | None, level: str | None) -> None:
    found = seen([line])
    assert NAMES[found.kind[0]] == kind
    assert found.level.to_pylist() == [level]
    assert bool(found.time.known[0]) == (time is not None)
    if time is not None:
        assert found.time.ns[0] - found.time.offset[0] * S == utc(time)


def test_lines_of_all_kinds_together_are_recognised_as_each_alone() -> None:
    found = seen([line[0] for line in LINES])
    assert [NAMES[kind] for kind in found.kind] == [line[1] for line in LINES]
    assert found.level.to_pylist() == [line[3] for line in LINES]


def test_what_a_prefix_of_postgresql_tells() -> None:
    found = seen([line[0] for line in LINES[:4]])
    assert found.fields["pid"].to_pylist() == ["1", "17", "88", "88"]
    assert found.fields["user"].to_pylist() == ["", "app", "app", "app"]
    assert found.fields["database"].to_pylist() == ["", "shop", "shop", "shop"]
    assert found.fields["prefix"].to_pylist()[2:] == [
        "10.0.0.1(5432):app@shop:[88]",
        "[88]: [3-1] user=app,db=shop,app=x,client=::1",
    ]
    assert found.text.to_pylist()[2:] == ["FATAL:  no", "WARNING:  w"]


def test_postgresql_in_other_languages() -> None:
    block = built(
        [
            "2024-08-09 01:06:43 UTC [1] app@shop FEHLER:  doppelt",
            "2024-08-09 01:06:43 UTC [1] app@shop ANWEISUNG:  insert",
            "2024-08-09 01:06:44.5 -03 [2] СООБЩЕНИЕ:  x",
        ]
    )
    assert block.entries.lines.to_pylist() == [
        "FEHLER:  doppelt\nANWEISUNG:  insert",
        "СООБЩЕНИЕ:  x",
    ]
    assert labels(block, "severity") == ["ERROR", "LOG"]
    assert block.entries.ts.tolist() == [utc("2024-08-09 01:06:43"), utc("2024-08-09 04:06:44.5")]


def test_a_capture_with_colours_times_and_wrapped_lines() -> None:
    block = built(
        [
            "\x1b[36mdb-1   | \x1b[0m2024-08-09T01:06:43.000000001Z 2024-08-09 01:06:42.9 UTC [1] LOG:  a",
            "\x1b[33mapp-1  | \x1b[0m2024-08-09T01:06:44.000000000Z java.lang.Foo started",
            "db-1   | 2024-08-09T01:06:45.000000000Z \tcontinued",
            "app-1  | 2024-08-09T01:06:46.000000000Z WARN: b",
            "wrapped by somebody",
            "app-1  | 2024-08-09T01:06:47.000000000Z ",
        ]
    )
    assert block.entries.lines.to_pylist() == [
        "LOG:  a\n\tcontinued",
        "java.lang.Foo started",
        "WARN: b\nwrapped by somebody",
    ]
    assert labels(block, "container") == ["db-1", "app-1", "app-1"]
    assert labels(block, "severity") == ["LOG", None, None]
    assert labels(block, "level") == [None, None, "warning"]
    assert block.entries.ts.tolist() == [
        utc("2024-08-09 01:06:42.9"),
        utc("2024-08-09 01:06:44"),
        utc("2024-08-09 01:06:46"),
    ]
    assert block.entries.first_lines.tolist() == [0, 1, 3]
    assert block.entries.last_lines.tolist() == [2, 1, 5]


def test_a_capture_without_times_takes_those_of_its_lines() -> None:
    block = built(
        ["db  | early", "db  | 2024-08-09 01:06:43 UTC [1] LOG:  a", "db  | late", "web | 2024/08/09 01:06:44 x"]
    )
    first, second = utc("2024-08-09 01:06:43"), utc("2024-08-09 01:06:44")
    assert block.entries.ts.tolist() == [first, first, first, second]


def test_times_without_a_zone_follow_the_time_in_front() -> None:
    # A container whose own clock shows the time of São Paulo, beside docker's times in UTC.
    block = built(["app  | 2024-08-09T01:06:43.500000000Z 2024-08-08 22:06:43.400 INFO x"])
    assert block.entries.ts.tolist() == [utc("2024-08-09 01:06:43.4")]


def test_a_told_timezone_counts_for_plain_files() -> None:
    clock = Clock(timezone_of("America/Sao_Paulo"))
    assert built(["2024-08-08 22:06:43,5 INFO x"], clock).entries.ts.tolist() == [utc("2024-08-09 01:06:43.5")]
    assert not clock.assumed


def test_a_psql_table_is_no_capture() -> None:
    block = built(["id  | name", "2024-08-09 01:06:43.2 UTC [1] LOG:  x", "2024-08-09 01:06:44.2 UTC [1] LOG:  y"])
    assert "container" not in block.entries.labels


def test_a_trace_is_one_entry() -> None:
    lines = [
        "2024-08-09 01:06:43,123 ERROR [main] Job failed",
        "java.lang.IllegalStateException: no",
        "\tat a.B.c(B.java:1)",
        "Caused by: java.io.IOException: x",
        "\t... 3 more",
        "2024-08-09 01:06:44,000 INFO [main] next",
    ]
    block = built(lines)
    assert block.entries.lines.to_pylist() == ["\n".join(lines[:5]), lines[5]]
    assert labels(block, "level") == ["error", "info"]


def test_the_last_entry_waits_for_its_lines() -> None:
    lines = ["aa | 2024-08-09 01:06:43 UTC [1] LOG:  x", "bb | hi", "bb | \tyes", "aa | \tmore", "bb | new"]
    block = built(lines)
    # Line 3 belongs to line 0, so that nothing in between can be let go without it.
    assert open_from(block) == 0
    assert open_from(built([*lines, "aa | 2024-08-09 01:06:44 UTC [1] LOG:  y"])) == 4


def test_a_recognised_service_that_is_not_the_containers() -> None:
    block = built(
        [
            "postgres_b  | 2024-08-09 02:11:43.1Z caller=checkpoint.go:617 msg=x",
            "postgres_b  | 2024-08-09 02:11:43.2 UTC [1] LOG:  x",
            "app_1       | 2024-08-09 02:11:43.2 UTC [1] LOG:  x",
            "promtail    | level=info ts=2024-08-09T02:11:43Z caller=server.go:1 msg=x",
        ]
    )
    assert block.strange.tolist() == ["loki", None, None, None]
    assert block.entries.metadata["recognised"].to_pylist() == ["loki", None, None, None]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("word", "level"),
    [("W", "warning"), ("CRITICAL", "fatal"), ("11", "error"), ("Trace", "debug"), ("x9", None), (None, None)],
)
def test_levels(word: str | None, level: str | None) -> None:
    assert level_of(word) == level


def test_zones() -> None:
    assert [offset_of(text) for text in ("Z", "-03", "+05:30", "CEST", "XYZ", "")] == [
        0,
        -10800,
        19800,
        7200,
        None,
        None,
    ]
    # Before and behind the end of summer time in Lisbon.
    given = np.array([utc("2024-10-27 00:30:00"), utc("2024-10-27 03:30:00")])
    expected = [utc("2024-10-26 23:30:00"), utc("2024-10-27 03:30:00")]
    assert to_utc(given, timezone_of("Europe/Lisbon")).tolist() == expected
    assert to_utc(given, timezone_of("-02:00")).tolist() == [value + 7200 * S for value in given]
    with pytest.raises(InputError, match="is not known"):
        timezone_of("Nowhere/Land")
