"""OTLP's JSON as the columns that the protobuf form gives: ids in hexadecimal, 64-bit numbers as texts."""

from __future__ import annotations

import base64
import math
from collections.abc import Callable
from typing import Any

import orjson
import pyarrow as pa

from atalaia.api.otlp_schema import handler, message
from atalaia.store.batch import BatchError
from atalaia.wire.bounds import check_json

_DEEPEST = 64  # lists and maps in each other
_Reader = Callable[[Any], object]


def read_json(body: bytes) -> pa.RecordBatch:
    """An ExportLogsServiceRequest in JSON. Raises BatchError when it is not one, TooLarge when it has too much."""
    check_json(body)
    try:
        rows = [_request(orjson.loads(body))]
        schema = handler().list_to_record_batch([]).schema
        return pa.RecordBatch.from_pylist(rows, schema=schema)
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, pa.ArrowException) as error:
        raise BatchError(
            f"not an ExportLogsServiceRequest in JSON: {error}", "see OpenTelemetry's documentation of OTLP/HTTP"
        ) from error


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{str(value)[:100]!r} is not a string")
    return value


def _whole(low: int, high: int) -> _Reader:
    def read(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, (int, str, float)):
            raise TypeError(f"{str(value)[:100]!r} is not a number")
        found = int(value[:40]) if isinstance(value, str) else int(value)
        if found != (int(value) if isinstance(value, str) else value) or not low <= found < high:
            raise ValueError(f"{str(value)[:100]} is not a whole number from {low} to {high - 1}")
        return found

    return read


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise TypeError(f"{str(value)[:100]!r} is not a number")
    return {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}.get(str(value)) or float(value)


def _severity(value: Any) -> object:
    if isinstance(value, str) and value.startswith("SEVERITY_NUMBER_"):
        name = value.removeprefix("SEVERITY_NUMBER_")
        bases = {"TRACE": 1, "DEBUG": 5, "INFO": 9, "WARN": 13, "ERROR": 17, "FATAL": 21}
        numbers = {f"{n}{i or ''}": base + max(i - 1, 0) for n, base in bases.items() for i in (0, 2, 3, 4)}
        return {"UNSPECIFIED": 0, **numbers}[name]
    return _INT32(value)


def _several(one: _Reader) -> _Reader:
    def read(values: Any) -> object:
        if not isinstance(values, list):
            raise TypeError(f"{str(values)[:100]!r} is not a list")
        return [one(value) for value in values]

    return read


def _object(fields: dict[str, tuple[str, _Reader, object]]) -> _Reader:
    """An object's fields by their names in JSON: the column, how it is read, and what stands for none."""
    nothing = {column: default for column, _, default in fields.values()}

    def read(value: Any) -> object:
        if not isinstance(value, dict):
            raise TypeError(f"{str(value)[:100]!r} is not an object")
        found = dict(nothing)
        for name, given in value.items():
            # Fields that are not known are passed over, as the protocol says.
            if given is not None and (field := fields.get(name)):
                found[field[0]] = field[1](given)
        return found

    return read


def _bytes(value: Any) -> bytes:
    return base64.b64decode(_text(value), validate=True)


def _any(value: Any) -> object:
    """An AnyValue; lists and maps are messages in bytes, as in the protobuf form."""
    found = _nested(value, 0)
    row: dict[str, object] = {}
    kind = found.WhichOneof("value")
    if kind is not None:
        one = getattr(found, kind)
        row[kind] = one.SerializeToString() if kind in ("array_value", "kvlist_value") else one
    return row


def _nested(value: Any, depth: int) -> Any:
    if depth > _DEEPEST:
        raise ValueError(f"lists and maps are more than {_DEEPEST} deep in each other")
    if not isinstance(value, dict):
        raise TypeError(f'{str(value)[:100]!r} is not a value such as {{"stringValue": "…"}}')
    for name, one in value.items():
        if one is None:
            continue
        if name in _SCALARS:
            column, read = _SCALARS[name]
            return message("AnyValue", **{column: read(one)})
        elements = one.get("values") or [] if name in ("arrayValue", "kvlistValue") else []
        if name == "arrayValue":
            several = message("ArrayValue", values=[_nested(element, depth + 1) for element in elements])
            return message("AnyValue", array_value=several)
        if name == "kvlistValue":
            pairs = [
                message("KeyValue", key=_text(pair.get("key", "")), value=_nested(pair.get("value") or {}, depth + 1))
                for pair in elements
            ]
            return message("AnyValue", kvlist_value=message("KeyValueList", values=pairs))
    return message("AnyValue")


def _boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"{str(value)[:100]!r} is neither true nor false")
    return value


_INT32 = _whole(-(2**31), 2**31)
_UINT32, _UINT64, _INT64 = _whole(0, 2**32), _whole(0, 2**64), _whole(-(2**63), 2**63)
_SCALARS: dict[str, tuple[str, _Reader]] = {
    "stringValue": ("string_value", _text),
    "boolValue": ("bool_value", _boolean),
    "intValue": ("int_value", _INT64),
    "doubleValue": ("double_value", _number),
    "bytesValue": ("bytes_value", _bytes),
}


def _hexadecimal(value: Any) -> bytes:
    return bytes.fromhex(_text(value))


_ATTRIBUTES = _several(_object({"key": ("key", _text, ""), "value": ("value", _any, None)}))
_RECORD = _object(
    {
        "timeUnixNano": ("time_unix_nano", _UINT64, 0),
        "observedTimeUnixNano": ("observed_time_unix_nano", _UINT64, 0),
        "severityNumber": ("severity_number", _severity, 0),
        "severityText": ("severity_text", _text, ""),
        "body": ("body", _any, None),
        "attributes": ("attributes", _ATTRIBUTES, ()),
        "droppedAttributesCount": ("dropped_attributes_count", _UINT32, 0),
        "flags": ("flags", _UINT32, 0),
        "traceId": ("trace_id", _hexadecimal, b""),
        "spanId": ("span_id", _hexadecimal, b""),
        "eventName": ("event_name", _text, ""),
    }
)
_SCOPE = _object(
    {
        "name": ("name", _text, ""),
        "version": ("version", _text, ""),
        "attributes": ("attributes", _ATTRIBUTES, ()),
        "droppedAttributesCount": ("dropped_attributes_count", _UINT32, 0),
    }
)
_SCOPES = _several(_object({"scope": ("scope", _SCOPE, None), "logRecords": ("log_records", _several(_RECORD), ())}))
_RESOURCE = _object({"attributes": ("attributes", _ATTRIBUTES, ())})
_request = _object(
    {
        "resourceLogs": (
            "resource_logs",
            _several(_object({"resource": ("resource", _RESOURCE, None), "scopeLogs": ("scope_logs", _SCOPES, ())})),
            (),
        )
    }
)
