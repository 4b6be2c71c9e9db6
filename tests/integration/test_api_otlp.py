"""POST /otlp/v1/logs: statuses and answers in the encoding of the request."""

from __future__ import annotations

import json
import time
from typing import Any

import pyarrow as pa
import pytest
from api_support import NOW, S, Tenant, served, tenant
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest, ExportLogsServiceResponse

__all__ = ["served", "tenant"]
PATH = "/otlp/v1/logs"
PROTOBUF, JSON = "application/x-protobuf", "application/json"


def request(*records: tuple[int, str], **attributes: str) -> ExportLogsServiceRequest:
    made = ExportLogsServiceRequest()
    logs = made.resource_logs.add()
    for key, value in {"service.name": "shop", **attributes}.items():
        logs.resource.attributes.add(key=key).value.string_value = value
    scope = logs.scope_logs.add()
    for ts, line in records:
        scope.log_records.add(time_unix_nano=ts).body.string_value = line
    return made


def send(tenant: Tenant, content: bytes, kind: str = PROTOBUF, encoding: str = "") -> Any:
    headers = {"Content-Type": kind, **({"Content-Encoding": encoding} if encoding else {})}
    return tenant.call(PATH, "POST", content=content, headers=headers)


def test_an_answer_is_in_the_encoding_of_the_request(tenant: Tenant) -> None:
    answer = send(tenant, request((NOW, "x")).SerializeToString())
    assert (answer.status_code, answer.headers["content-type"], answer.content) == (200, PROTOBUF, b"")
    body = {
        "resourceLogs": [{"scopeLogs": [{"logRecords": [{"timeUnixNano": str(NOW), "body": {"stringValue": "y"}}]}]}]
    }
    answer = send(tenant, json.dumps(body).encode(), "application/json; charset=utf-8")
    assert (answer.status_code, answer.headers["content-type"], answer.json()) == (200, JSON, {})
    assert tenant.lines('{service_name="shop"}') == ["x"]
    assert tenant.lines('{service_name="unknown_service"}') == ["y"]


@pytest.mark.parametrize("codec", ["gzip", "zstd", "lz4"])
def test_encodings(tenant: Tenant, codec: str) -> None:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, codec) as packer:
        packer.write(request((NOW, codec)).SerializeToString())
    assert send(tenant, sink.getvalue().to_pybytes(), PROTOBUF, codec).status_code == 200
    assert tenant.lines('{service_name="shop"}') == [codec]


def test_what_is_refused_of_a_push_is_told(tenant: Tenant) -> None:
    late = time.time_ns() + 100 * 86400 * S
    made = request((NOW, "kept"), (late, "future"), (2**63 + 5, "never"))
    answer = send(tenant, made.SerializeToString())
    assert answer.status_code == 200
    partial = ExportLogsServiceResponse.FromString(answer.content).partial_success
    assert partial.rejected_log_records == 2
    assert "is not between 1970 and" in partial.error_message
    body = {"resourceLogs": [{"scopeLogs": [{"logRecords": [{"timeUnixNano": str(late)}]}]}]}
    partial_json = send(tenant, json.dumps(body).encode(), JSON).json()["partialSuccess"]
    assert partial_json["rejectedLogRecords"] == "1"
    assert tenant.lines('{service_name="shop"}', end=NOW + S) == ["kept"]


def status(content: bytes) -> tuple[int, str]:
    """google.rpc.Status by hand: 1 is the code, 2 the message."""
    assert content[0] == 0x08
    assert content[2] == 0x12
    length, at = content[3], 4
    if length > 127:
        length, at = (length & 127) | content[4] << 7, 5
    assert len(content) == at + length
    return content[1], content[at:].decode()


def test_errors_are_a_status_in_the_encoding_of_the_request(tenant: Tenant) -> None:
    answer = send(tenant, b"\xff\xff")
    assert (answer.status_code, answer.headers["content-type"]) == (400, PROTOBUF)
    code, message = status(answer.content)
    assert code == 3
    assert "not an ExportLogsServiceRequest" in message
    answer = send(tenant, b"{", JSON)
    assert (answer.status_code, answer.json()["code"]) == (400, 3)
    assert "not an ExportLogsServiceRequest in JSON" in answer.json()["message"]
    assert send(tenant, b"x", "text/plain").status_code == 400
    assert send(tenant, b"x", PROTOBUF, "br").status_code == 400
    assert send(tenant, b"x", PROTOBUF, "gzip").status_code == 400
    assert send(Tenant(tenant.http, "bad name"), b"").status_code == 400
    assert send(tenant, b"\x0a\x80\x80\xc0\x01" + b"\x12\x00" * 1_600_000 + b"x" * 0).status_code in (400, 413)
    assert tenant.call(PATH).status_code == 405


def test_too_many_entries_are_a_413(tenant: Tenant) -> None:
    made = request((NOW, "x"))
    made.resource_logs[0].scope_logs[0].log_records.extend(
        [made.resource_logs[0].scope_logs[0].log_records[0]] * 1_000_000
    )
    answer = send(tenant, made.SerializeToString())
    assert answer.status_code == 413
    assert "more than 1000000 entries: send smaller batches" in status(answer.content)[1]
