"""Pipelines as people have them, with what becomes of a few lines."""

from __future__ import annotations

import json
from dataclasses import replace
from textwrap import dedent

import pytest
from tests.unit.collector.stage_support import READ, built, made

from atalaia.collector import pipeline
from atalaia.collector.entries import Entries, column
from atalaia.collector.meters import Meters
from atalaia.collector.plan import Job
from atalaia.collector.stages.narrow import narrowed

NGINX = r"""
- regex:
    expression: '^(?P<remote>\S+) \S+ (?P<user>\S+) \[(?P<time>[^\]]+)\] "(?P<method>\S+) [^"]*" (?P<status>\d+)'
- timestamp: {source: time, format: "02/Jan/2006:15:04:05 -0700"}
- template: {source: class, template: '{{ trunc 1 .status }}xx'}
- labels: {method: , status: class}
- structured_metadata: {user: }
- replace: {expression: '^(\d+\.\d+\.\d+\.\d+)', replace: '{{ .Value | Sha2Hash "salt" | trunc 6 }}'}
"""
GO_JSON = r"""
- json:
    expressions: {level: , ts: time, msg: , caller: source.file, user: 'users[?admin].name | [0]'}
    drop_malformed: true
- timestamp: {source: ts, format: RFC3339Nano, fallback_formats: [Unix]}
- template: {source: level, template: '{{ .Value | default "info" | ToLower }}'}
- labels: {level: , user: }
- output: {source: msg}
"""
LOGFMT = r"""
- logfmt: {mapping: {level: , ts: , component: caller}}
- timestamp: {source: ts, format: RFC3339, action_on_failure: skip}
- regex: {source: component, expression: '^(?P<component>[^:]+):'}
- labels: {level: , component: }
- tenant: {source: component}
- labeldrop: [filename]
"""
POSTGRES = r"""
- regex: {expression: '^(?P<time>\S+ \S+ \S+) \[(?P<pid>\d+)\] (?P<level>[A-Z]+): +(?P<message>.*)$'}
- timestamp: {source: time, format: "2006-01-02 15:04:05.000 MST", location: America/Sao_Paulo}
- labels: {level: }
- static_labels: {service: postgres, unused: }
- structured_metadata: {pid: }
- output: {source: message}
"""
PACKED = r"""
- decolorize:
- regex: {expression: '^(?P<app>\w+): '}
- labels: {app: }
- pack: {labels: [app, filename], ingest_timestamp: false}
- labelallow: [job, app]
"""
WINDOWS = r"""
- json: {expressions: {message: , level: levelText}}
- eventlogmessage: {overwrite_existing: false}
- labels: {level: , user: Account_Name}
"""
LABELS = {"job": "j", "filename": "/f"}


def ns(seconds: int, rest: int = 0) -> int:
    return seconds * 10**9 + rest


@pytest.mark.parametrize(
    ("text", "lines", "expected"),
    [
        (
            NGINX,
            [
                '10.0.0.1 - ann [09/Aug/2024:03:06:43 +0200] "GET /x HTTP/1.1" 404 12',
                "not of nginx",
                '::1 - - [09/Aug/2024:01:06:44 +0000] "POST / HTTP/1.1" 200 5',
            ],
            [
                (ns(1723165603), {"method": "GET", "status": "4xx"}, {"user": "ann"},
                 '0e5660 - ann [09/Aug/2024:03:06:43 +0200] "GET /x HTTP/1.1" 404 12'),
                (ns(1723165603, 1), {}, {}, "not of nginx"),
                (ns(1723165604), {"method": "POST", "status": "2xx"}, {"user": "-"},
                 '::1 - - [09/Aug/2024:01:06:44 +0000] "POST / HTTP/1.1" 200 5'),
            ],
        ),
        (
            GO_JSON,
            [
                '{"time":"2024-08-09T01:06:43.5Z","level":"WARN","msg":"a \\"b\\"",'
                '"users":[{"name":"x"},{"name":"y","admin":true}]}',
                "panic: no json",
                '{"time":1723165604,"msg":{"b":1,"a":"<"}}',
            ],
            [
                (ns(1723165603, 5 * 10**8), {"level": "warn", "user": "y"}, {}, 'a "b"'),
                (ns(1723165604), {"level": "info"}, {}, '{"a":"\\u003c","b":1}'),
            ],
        ),
        (
            LOGFMT,
            [
                'ts=2024-08-09T01:06:43Z caller=main.go:5 level=info msg="started \\"x\\""',
                "level=error nothing",
            ],
            [
                (ns(1723165603), {"level": "info", "component": "main.go", "__tenant_id__": "main.go"}, {}, None),
                (READ, {"level": "error"}, {}, "level=error nothing"),
            ],
        ),
        (
            POSTGRES,
            ["2024-08-08 22:06:43.242 -03 [1] LOG:  ready", "2024-08-09 01:06:43.243 UTC [77] ERROR:  x", "\tDETAIL"],
            [
                (ns(1723165603, 242 * 10**6), {"level": "LOG", "service": "postgres"}, {"pid": "1"}, "ready"),
                (ns(1723165603, 243 * 10**6), {"level": "ERROR", "service": "postgres"}, {"pid": "77"}, "x"),
                (ns(1723165603, 243 * 10**6 + 1), {"service": "postgres"}, {}, "\tDETAIL"),
            ],
        ),
        (
            PACKED,
            ["\x1b[1mweb: hi\x1b[0m", "none"],
            [
                (READ, {}, {}, '{"app":"web","filename":"/f","_entry":"web: hi"}'),
                (READ, {}, {}, '{"filename":"/f","_entry":"none"}'),
            ],
        ),
        (
            WINDOWS,
            ['{"levelText":"Info","message":"Account Name: ann\\r\\nlevel: x\\r\\nLogon ID:0x1"}'],
            [(READ, {"level": "Info", "user": "ann"}, {}, None)],
        ),
    ],
    ids=["nginx", "go", "logfmt", "postgres", "packed", "windows"],
)  # fmt: skip
def test_what_becomes_of_lines(text: str, lines: list[str], expected: list) -> None:
    stages, problems = built(dedent(text))
    assert not problems
    results = []
    for used in (tuple(stages), narrowed(built(dedent(text))[0])):
        taken = pipeline.run(Job("j", (), stages=used), "".join(f"{line}\n" for line in lines).encode(), READ, LABELS)
        pipeline.settle(taken, Meters())
        batch = taken.entries.record_batch()
        results.append(batch.to_pylist())
        base = {"job": "j"} if text in (LOGFMT, PACKED) else LABELS
        for row, (ts, labels, metadata, line) in zip(batch.to_pylist(), expected, strict=True):
            assert row["ts"] == ts
            assert json.loads(row["labels"]) == {**base, **labels}
            assert dict(row["metadata"] or []) == metadata
            assert line is None or row["line"] == line
    assert results[0] == results[1]


EACH = [
    "regex: {expression: '(?P<a>x)(?P<b>y)?'}",
    "regex: {expression: '(?P<a>x)', source: s}",
    "json: {expressions: {a: b, c: '[d][0]'}}",
    "json: {expressions: {a: b.c}, source: s, drop_malformed: true}",
    "logfmt: {mapping: {a: , c: b}}",
    "logfmt: {mapping: {a: }, source: s}",
    "replace: {expression: '(x)(y)', replace: '{{ .Value }}{{ .a }}'}",
    "replace: {expression: '(?P<a>x)', source: s}",
    "template: {source: a, template: '{{ .Value }}{{ .s }}'}",
    "template: {source: a, template: '{{ ToUpper .s }}'}",
    "template: {source: a, template: 'constant'}",
    "timestamp: {source: s, format: RFC3339, fallback_formats: [Unix]}",
    "timestamp: {source: s, format: 'Jan _2 15:04:05', location: Europe/Berlin, action_on_failure: skip}",
    "labels: {a: s, job: }",
    "static_labels: {a: b}",
    "labeldrop: [job]",
    "labelallow: [job]",
    "structured_metadata: {a: s}",
    "tenant: {source: s}",
    "output: {source: s}",
    "pack: {labels: [job, s], ingest_timestamp: false}",
    "decolorize:",
    "eventlogmessage: {source: s}",
]
ROWS = [
    ("xy", "1"),
    ('{"b":{"c":"<"}}', '{"b":{"c":[1]}}'),
    ('a=1 b="x\\"y"', None),
    ("\x1b[1mé", "2024-08-09T01:06:43Z"),
    ("", ""),
    ("x", "Aug  9 01:06:43"),
]


@pytest.mark.parametrize("text", EACH)
@pytest.mark.parametrize("rows", [ROWS, [], [("x", None)] * 2], ids=["rows", "none", "without"])
def test_a_part_of_a_batch_is_treated_as_the_same_rows_alone(text: str, rows: list) -> None:
    def result(entries: Entries) -> tuple[list, dict]:
        (found,), problems = built(f"- {text}")
        assert not problems
        done = found(entries)
        assert all(len(column(value, len(done))) == len(done) for value in done.extracted.values())
        batch = done.record_batch().to_pylist()
        return [(row["labels"], row["line"], row["metadata"], row["ts"] - READ) for row in batch], {
            name: column(value, len(done)).to_pylist() for name, value in done.extracted.items()
        }

    lines, values = [line for line, _ in rows], [value for _, value in rows]
    alone = made(lines, {"job": "j"}, s=values)
    whole = made(["before", *lines, "x"], {"job": "j"}, s=["s", *values, None])
    part = replace(
        whole,
        lines=whole.lines.slice(1, len(rows)),
        ts=alone.ts,
        extracted={"job": "j", "s": whole.extracted["s"].slice(1, len(rows))},  # type: ignore[union-attr]
    )
    assert result(part) == result(alone)
