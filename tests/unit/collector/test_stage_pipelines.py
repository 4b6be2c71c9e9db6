"""Pipelines as people have them, with what becomes of a few lines."""

from __future__ import annotations

import json
from textwrap import dedent

import pytest
from tests.unit.collector.stage_support import READ, built

from atalaia.collector import pipeline
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
    for made in (tuple(stages), narrowed(built(dedent(text))[0])):
        taken = pipeline.run(Job("j", (), stages=made), "".join(f"{line}\n" for line in lines).encode(), READ, LABELS)
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
