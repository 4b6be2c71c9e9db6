"""OTLP's log records as entries: the mapping that Loki documents, from protobuf and from JSON."""

from __future__ import annotations

import gzip
import json
import time
from typing import Any

import orjson
import pytest
from google.protobuf import json_format
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

from atalaia.api.otlp import read_logs
from atalaia.api.otlp_values import label_name, show_double
from atalaia.store.batch import BatchError

from .bodies import field

NOW = 1_700_000_000_000_000_000
PROTOBUF, JSON = "application/x-protobuf", "application/json"
TEMPLATE = '{"resourceLogs": [{"scopeLogs": [{"logRecords": [{%s}]}]}]}'


def value(found: Any) -> AnyValue:
    if isinstance(found, bool):
        return AnyValue(bool_value=found)
    for kind, name in ((str, "string_value"), (int, "int_value"), (float, "double_value"), (bytes, "bytes_value")):
        if isinstance(found, kind):
            return AnyValue(**{name: found})
    made = AnyValue()
    if isinstance(found, list):
        made.array_value.values.extend(value(one) for one in found)
        made.array_value.SetInParent()
    elif found is not None:
        made.kvlist_value.values.extend(pairs(found))
        made.kvlist_value.SetInParent()
    return made


def pairs(found: dict[str, Any]) -> list[KeyValue]:
    return [KeyValue(key=key, value=value(one)) for key, one in found.items()]


def request(
    records: list[dict[str, Any]], resource: dict[str, Any] | None = None, scope: dict[str, Any] | None = None
) -> ExportLogsServiceRequest:
    """One resource with one scope; `attributes` and `body` are plain."""
    made = ExportLogsServiceRequest()
    logs = made.resource_logs.add()
    if resource is not None:
        logs.resource.attributes.extend(pairs(resource))
    scoped = logs.scope_logs.add()
    if scope:
        attributes = scope.pop("attributes", {})
        scoped.scope.attributes.extend(pairs(attributes))
        for name, one in scope.items():
            setattr(scoped.scope, name, one)
    for record in records:
        fields = dict(record)
        attributes, body = fields.pop("attributes", {}), fields.pop("body", None)
        added = scoped.log_records.add(**fields)
        added.attributes.extend(pairs(attributes))
        if body is not None:
            added.body.CopyFrom(value(body))
    return made


def otlp_json(made: ExportLogsServiceRequest) -> bytes:
    """As OTLP/HTTP writes it: ids in hexadecimal, not base64."""
    shown = json_format.MessageToDict(made, use_integers_for_enums=True)
    for logs in shown.get("resourceLogs", ()):
        for scoped, original in zip(logs.get("scopeLogs", ()), made.resource_logs[0].scope_logs, strict=True):
            for record, given_ in zip(scoped.get("logRecords", ()), original.log_records, strict=True):
                record |= {"traceId": given_.trace_id.hex(), "spanId": given_.span_id.hex()}
    return json.dumps(shown).encode()


def rows(made: ExportLogsServiceRequest) -> list[tuple[Any, ...]]:
    """ts, labels, line, metadata: the same from both encodings."""
    found = read_logs(made.SerializeToString(), PROTOBUF, "").to_pylist()
    assert read_logs(gzip.compress(otlp_json(made)), JSON, "gzip").to_pylist() == found
    return [(row["ts"], orjson.loads(row["labels"]), row["line"], dict(row["metadata"])) for row in found]


def one(record: dict[str, Any], **others: Any) -> tuple[Any, ...]:
    (row,) = rows(request([{"time_unix_nano": NOW, **record}], **others))
    return row


def test_a_record_with_everything() -> None:
    record = {
        "time_unix_nano": NOW + 1,
        "observed_time_unix_nano": NOW + 2,
        "severity_number": 17,
        "severity_text": "ERROR",
        "body": "it broke\n",
        "attributes": {"http.status": 500, "user id": "é", "2nd": True, "_x": 1.5, "__y": b"\1\2"},
        "dropped_attributes_count": 3,
        "flags": 1,
        "trace_id": bytes(range(16)),
        "span_id": bytes(range(8)),
        "event_name": "crash",
    }
    resource = {
        "service.name": "shop",
        "k8s.pod.name": "shop-1",
        "host.name": "h",
        "os": {"type": "linux", "v": {"n": 6}},
    }
    scope = {"name": "lib", "version": "1.2", "dropped_attributes_count": 1, "attributes": {"scope.kind": "x"}}
    assert rows(request([record], resource, scope)) == [
        (
            NOW + 1,
            {"k8s_pod_name": "shop-1", "service_name": "shop"},
            "it broke\n",
            {
                "http_status": "500", "user_id": "é", "key_2nd": "true", "key_x": "1.5", "__y": "AQI=",
                "observed_timestamp": str(NOW + 2), "severity_number": "17", "severity_text": "ERROR",
                "dropped_attributes_count": "3", "flags": "1", "event_name": "crash",
                "trace_id": "000102030405060708090a0b0c0d0e0f", "span_id": "0001020304050607",
                "host_name": "h", "os_type": "linux", "os_v_n": "6",
                "scope_kind": "x", "scope_name": "lib", "scope_version": "1.2", "scope_dropped_attributes_count": "1",
            },
        )
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("resource", "labels"),
    [
        (None, {"service_name": "unknown_service"}),
        ({}, {"service_name": "unknown_service"}),
        ({"service.name": ""}, {"service_name": "unknown_service"}),
        ({"container.name": "c"}, {"container_name": "c", "service_name": "c"}),
        (
            {"k8s.job.name": "j", "container.name": "c"},
            {"container_name": "c", "k8s_job_name": "j", "service_name": "j"},
        ),
        ({"service.name": "s", "container.name": "c"}, {"container_name": "c", "service_name": "s"}),
        ({"service.name": 5, "service.namespace": ["a"]}, {"service_name": "5", "service_namespace": '["a"]'}),
        ({"cloud.region": {"a": "b"}}, {"cloud_region_a": "b", "service_name": "unknown_service"}),
        ({"job": "j"}, {"service_name": "unknown_service"}),
    ],
)
def test_labels(resource: dict[str, Any] | None, labels: dict[str, str]) -> None:
    assert one({}, resource=resource)[1] == labels


@pytest.mark.parametrize(
    ("body", "line"),
    [
        (None, ""), ("", ""), ("x", "x"), (False, "false"), (0, "0"), (-(2**63), "-9223372036854775808"), (1.0, "1"),
        (b"\xff", "/w=="), ([], "[]"), ([1, "a", None, [True]], '[1,"a",null,[true]]'), ({}, "{}"),
        ({"b": {"c": [1.5]}, "a": b"\1"}, '{"a":"AQ==","b":{"c":[1.5]}}'), ("{}<>&", "{}<>&"),
    ],
)  # fmt: skip
def test_bodies(body: Any, line: str) -> None:
    assert one({"body": body})[2] == line


def test_times() -> None:
    before = time.time_ns()
    records = [{"time_unix_nano": 5}, {"observed_time_unix_nano": 6}, {}, {"time_unix_nano": 2**63}]
    table = read_logs(request(records).SerializeToString(), PROTOBUF, "")
    first, second, third, fourth = table.column("ts").to_pylist()
    assert (first, second, fourth) == (5, 6, -1)
    assert before <= third <= time.time_ns()
    assert table.column("metadata").to_pylist() == [[], [], [], []]


def test_the_first_of_equal_names_stays_and_nothing_is_named_by_nothing() -> None:
    record = {"attributes": {"a.b": "1", "a_b": "2", "": "3", "scope_name": "mine"}}
    assert one(record, scope={"name": "lib"})[3] == {"a_b": "1", "scope_name": "mine"}


def test_maps_become_names_and_lists_texts() -> None:
    attributes = {"m": {"a.b": {"c": 1, "d": {}}, "e": [1, {"f": 2}]}, "l": ["x", {"y": 1}], "z": None}
    assert one({"attributes": attributes})[3] == {
        "m_a_b_c": "1", "m_e": '[1,{"f":2}]', "l": '["x",{"y":1}]', "z": "",
    }  # fmt: skip


def test_ids_of_zeros_and_of_other_lengths() -> None:
    records = [{"trace_id": bytes(16)}, {"trace_id": b"\1" * 16}, {}]
    assert [row[3] for row in rows(request([{"time_unix_nano": 1, **r} for r in records]))] == [
        {}, {"trace_id": "01" * 16}, {},
    ]  # fmt: skip
    records += [{"trace_id": b"\1"}]
    assert rows(request([{"time_unix_nano": 1, **r} for r in records]))[-1][3] == {"trace_id": "01"}


def test_several_resources_and_scopes_keep_their_own() -> None:
    made = request([{"time_unix_nano": 1}], {"service.name": "a", "x": "1"}, {"name": "s1"})
    made.resource_logs[0].scope_logs.add().log_records.add(time_unix_nano=2)
    made.resource_logs.add()
    made.resource_logs[0].scope_logs.add()
    other = request([{"time_unix_nano": 3}, {"time_unix_nano": 4}], {"service.name": "b"}, {"name": "s2"})
    made.resource_logs.extend(other.resource_logs)
    found = read_logs(made.SerializeToString(), PROTOBUF, "").to_pylist()
    assert [(row["ts"], row["labels"][17], dict(row["metadata"])) for row in found] == [
        (1, "a", {"x": "1", "scope_name": "s1"}),
        (2, "a", {"x": "1"}),
        (3, "b", {"scope_name": "s2"}),
        (4, "b", {"scope_name": "s2"}),
    ]


def test_nothing_is_nothing() -> None:
    assert [len(read_logs(*empty, "")) for empty in ((b"", PROTOBUF), (b"{}", JSON))] == [0, 0]


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text(st.characters(codec="utf-8"), max_size=5)
    | st.binary(max_size=4) | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab.1_é", max_size=3), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip


@settings(deadline=None)
@given(
    st.lists(st.fixed_dictionaries({"body": PLAIN, "attributes": st.dictionaries(st.text("ab.", max_size=2), PLAIN)}))
)
def test_both_encodings_say_the_same_of_any_values(records: list[dict[str, Any]]) -> None:
    found = rows(request([{"time_unix_nano": 1, **record} for record in records]))
    assert len(found) == len(records)
    for row, record in zip(found, records, strict=True):
        if isinstance(record["body"], str):
            assert row[2] == record["body"]
        for key, plain in record["attributes"].items():
            if (
                isinstance(plain, str)
                and key
                and [label_name(k) for k in record["attributes"]].count(label_name(key)) == 1
            ):
                assert row[3].get(label_name(key)) is not None


@pytest.mark.parametrize(
    ("number", "text"),
    [(0.0, "0"), (-0.0, "-0"), (1e20, "100000000000000000000"), (1e21, "1e+21"), (1e-6, "0.000001"), (1e-7, "1e-7"),
     (-1.5e-7, "-1.5e-7"), (1e100, "1e+100"), (0.1, "0.1"), (float("nan"), "NaN"), (float("-inf"), "-Inf")],
)  # fmt: skip
def test_doubles(number: float, text: str) -> None:
    assert show_double(number) == text


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("", "not an ExportLogsServiceRequest in JSON"),
        ("[]", "is not an object"),
        ('{"resourceLogs": {}}', "is not a list"),
        ('{"resourceLogs": [1]}', "is not an object"),
        (TEMPLATE % '"timeUnixNano": "x"', "x"),
        (TEMPLATE % '"timeUnixNano": -1', "whole number from 0"),
        (TEMPLATE % '"timeUnixNano": 1.5', "whole number"),
        (TEMPLATE % '"timeUnixNano": true', "is not a number"),
        (TEMPLATE % '"traceId": "xy"', "hexadecimal"),
        (TEMPLATE % '"body": "x"', "is not a value such as"),
        (TEMPLATE % '"body": {"intValue": "9999999999999999999"}', "whole number"),
        (TEMPLATE % '"body": {"boolValue": "true"}', "neither true nor false"),
        (TEMPLATE % '"body": {"arrayValue": 5}', "JSON"),
        (TEMPLATE % ('"body": ' + '{"arrayValue":{"values":[' * 80 + "{}" + "]}}" * 80), "deep"),
        (TEMPLATE % '"severityNumber": "SEVERITY_NUMBER_BAD"', "BAD"),
        (TEMPLATE % '"severityText": 5', "is not a string"),
        (TEMPLATE % '"attributes": [{"key": 5}]', "is not a string"),
    ],
)  # fmt: skip
def test_bad_json_is_refused(body: str, message: str) -> None:
    with pytest.raises(BatchError, match=message):
        read_logs(body.encode(), JSON, "")


def test_bad_protobuf_is_refused() -> None:
    nested = b""
    for _ in range(150):
        nested = field(5, field(1, nested))
    deep = field(1, field(2, field(2, field(5, nested))))
    long = request([{"body": ["x" * 1_100_000]}])
    for body, message in (
        (b"\xff", "not an ExportLogsServiceRequest"),
        (deep, "a list or map cannot be read"),
        (long.SerializeToString(), "a list or map has 11[0-9]* bytes; the limit is 1048576"),
        (b"\x0a\x05\x12\x03\x12\x01\xff", "not an ExportLogsServiceRequest"),
    ):
        with pytest.raises(BatchError, match=message):
            read_logs(body, PROTOBUF, "")
    with pytest.raises(BatchError, match="Content-Type 'text/plain' is not known"):
        read_logs(b"", "text/plain", "")


def test_severities_by_name_and_fields_nobody_knows() -> None:
    body = TEMPLATE % '"severityNumber": "SEVERITY_NUMBER_ERROR2", "somethingNew": {"a": 1}, "timeUnixNano": "5"'
    (row,) = read_logs(body.encode(), JSON, "").to_pylist()
    assert (row["ts"], row["metadata"]) == (5, [("severity_number", "18")])
