"""OTLP's log messages, for ptars and for protobuf. The schema: opentelemetry-proto, collector/logs/v1 and logs/v1.

ptars cannot read what holds itself, so an attribute's lists and maps stay bytes there (the same on the wire); the few
that there are become messages of their own.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import Message
from ptars import HandlerPool

from atalaia.wire.bounds import MOST_ENTRIES, MOST_PAIRS, Shape

_FIELD = descriptor_pb2.FieldDescriptorProto
_KINDS = {
    "string": _FIELD.TYPE_STRING, "bool": _FIELD.TYPE_BOOL, "int64": _FIELD.TYPE_INT64, "double": _FIELD.TYPE_DOUBLE,
    "bytes": _FIELD.TYPE_BYTES, "fixed64": _FIELD.TYPE_FIXED64, "fixed32": _FIELD.TYPE_FIXED32,
    "uint32": _FIELD.TYPE_UINT32, "int32": _FIELD.TYPE_INT32,
}  # fmt: skip
_ONE_OF = "AnyValue"  # the message whose fields exclude each other
_MESSAGES = {
    "ExportLogsServiceRequest": (("resource_logs", 1, "[ResourceLogs]"),),
    "ResourceLogs": (("resource", 1, "Resource"), ("scope_logs", 2, "[ScopeLogs]")),
    "Resource": (("attributes", 1, "[KeyValue]"),),
    "ScopeLogs": (("scope", 1, "Scope"), ("log_records", 2, "[LogRecord]")),
    "Scope": (
        ("name", 1, "string"),
        ("version", 2, "string"),
        ("attributes", 3, "[KeyValue]"),
        ("dropped_attributes_count", 4, "uint32"),
    ),
    "LogRecord": (
        ("time_unix_nano", 1, "fixed64"),
        ("severity_number", 2, "int32"),
        ("severity_text", 3, "string"),
        ("body", 5, "AnyValue"),
        ("attributes", 6, "[KeyValue]"),
        ("dropped_attributes_count", 7, "uint32"),
        ("flags", 8, "fixed32"),
        ("trace_id", 9, "bytes"),
        ("span_id", 10, "bytes"),
        ("observed_time_unix_nano", 11, "fixed64"),
        ("event_name", 12, "string"),
    ),
    "KeyValue": (("key", 1, "string"), ("value", 2, "AnyValue")),
    "AnyValue": (
        ("string_value", 1, "string"),
        ("bool_value", 2, "bool"),
        ("int_value", 3, "int64"),
        ("double_value", 4, "double"),
        ("array_value", 5, "bytes"),
        ("kvlist_value", 6, "bytes"),
        ("bytes_value", 7, "bytes"),
    ),
}
_NESTED = {
    "ArrayValue": (("values", 1, "[AnyValue]"),),
    "KeyValueList": (("values", 1, "[KeyValue]"),),
    "KeyValue": _MESSAGES["KeyValue"],
    "AnyValue": tuple(
        (name, number, {5: "ArrayValue", 6: "KeyValueList"}.get(number, kind))
        for name, number, kind in _MESSAGES["AnyValue"]
    ),
}
_ANSWERS = {
    "ExportLogsServiceResponse": (("partial_success", 1, "Partial"),),
    "Partial": (("rejected_log_records", 1, "int64"), ("error_message", 2, "string")),
    "Status": (("code", 1, "int32"), ("message", 2, "string")),
}
_ATTRIBUTES = Shape("attributes", MOST_PAIRS)
COUNTED = {
    1: Shape(
        "resources",
        MOST_ENTRIES,
        {
            1: Shape("resources' messages", MOST_ENTRIES, {1: _ATTRIBUTES}),
            2: Shape(
                "scopes",
                MOST_ENTRIES,
                {
                    1: Shape("scopes' messages", MOST_ENTRIES, {3: _ATTRIBUTES}),
                    2: Shape("entries", MOST_ENTRIES, {6: _ATTRIBUTES}),
                },
            ),
        },
    )
}
"""What of an ExportLogsServiceRequest is counted before it is read."""


def _file(package: str, messages: dict[str, tuple[tuple[str, int, str], ...]]) -> descriptor_pb2.FileDescriptorProto:
    file = descriptor_pb2.FileDescriptorProto(name=f"{package}.proto", package=package, syntax="proto3")
    for name, fields in messages.items():
        message = file.message_type.add(name=name)
        if name == _ONE_OF:
            message.oneof_decl.add(name="value")
        for field, number, kind in fields:
            added = message.field.add(name=field, number=number, label=_FIELD.LABEL_OPTIONAL)
            if kind.startswith("["):
                added.label = _FIELD.LABEL_REPEATED
            if kind in _KINDS:
                added.type = _KINDS[kind]
            else:
                added.type, added.type_name = _FIELD.TYPE_MESSAGE, f".{package}.{kind.strip('[]')}"
            if name == _ONE_OF:
                added.oneof_index = 0
    return file


@cache
def handler() -> Any:
    """ptars' reader of an ExportLogsServiceRequest."""
    pool = descriptor_pool.DescriptorPool()
    pool.Add(_file("otlp", _MESSAGES))
    descriptor = pool.FindMessageTypeByName("otlp.ExportLogsServiceRequest")
    return HandlerPool([descriptor.file]).get_for_message(descriptor)


@cache
def _classes() -> dict[str, type[Message]]:
    pool = descriptor_pool.DescriptorPool()
    pool.Add(_file("nested", _NESTED))
    pool.Add(_file("answers", _ANSWERS))
    names = [f"nested.{name}" for name in _NESTED] + [f"answers.{name}" for name in _ANSWERS]
    return {n.partition(".")[2]: message_factory.GetMessageClass(pool.FindMessageTypeByName(n)) for n in names}


def message(name: str, **fields: Any) -> Any:
    """A new `ArrayValue`, `KeyValueList`, `AnyValue`, `KeyValue`, `ExportLogsServiceResponse` or `Status`."""
    return _classes()[name](**fields)
