"""OTLP's values as texts, and its attributes as metadata, the way Loki writes them."""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Iterator
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc
from google.protobuf.message import DecodeError

from atalaia.api.otlp_schema import message
from atalaia.api.times import show_float
from atalaia.store.batch import BatchError

MOST_NESTED = 1 << 20  # bytes of one list or map; a line and an entry's metadata may not be longer
_NOT_OF_A_NAME = re.compile(r"[^A-Za-z0-9_]")


def label_name(key: str) -> str:
    """An attribute's key as a label: what no label name has becomes `_`; as Prometheus does, `key_` before a digit."""
    name = _NOT_OF_A_NAME.sub("_", key)
    if name[:1].isdigit():
        return f"key_{name}"
    return f"key{name}" if name.startswith("_") and not name.startswith("__") else name


def texts(values: pa.StructArray) -> pa.Array:
    """AnyValues as texts, null where there is none. Lists and maps are JSON, bytes base64."""
    kinds = dict(zip((field.name for field in values.type), values.flatten(), strict=True))
    found = kinds.pop("string_value")
    for name, column in kinds.items():
        if column.null_count == len(column):
            continue
        if name in ("bool_value", "int_value"):
            shown = column.cast(pa.utf8())
        else:
            show = _SHOW[name]
            shown = pa.array([None if one is None else show(one) for one in column.to_pylist()], pa.utf8())
        found = pc.coalesce(found, shown)
    return found


def show_double(value: float) -> str:
    """A double as JSON writes it in Go: with an exponent below 1e-6 and from 1e21 on."""
    if value and math.isfinite(value) and not 1e-6 <= abs(value) < 1e21:
        return repr(value).replace("e-0", "e-")
    return show_float(value)


def pairs_of(raw: bytes, name: str) -> Iterator[tuple[str, str]]:
    """The metadata of an attribute that is a map: its entries, their names behind the attribute's."""
    yield from _pairs(_read("KeyValueList", raw), name)


def _pairs(found: Any, prefix: str) -> Iterator[tuple[str, str]]:
    for pair in found.values:
        name = label_name(f"{prefix}_{pair.key}" if prefix else pair.key)
        kind = pair.value.WhichOneof("value")
        if kind == "kvlist_value":
            yield from _pairs(pair.value.kvlist_value, name)
        else:
            yield name, _text(pair.value, kind)


def _text(value: Any, kind: str | None) -> str:
    if kind is None:
        return ""
    one = getattr(value, kind)
    if kind == "bool_value":
        return "true" if one else "false"
    if kind == "array_value":
        return _json([_raw(element) for element in one.values])
    return _SHOW[kind](one) if kind in ("double_value", "bytes_value") else str(one)


def _read(name: str, raw: bytes) -> Any:
    if len(raw) > MOST_NESTED:
        raise BatchError(f"a list or map has {len(raw)} bytes; the limit is {MOST_NESTED}", "send smaller values")
    found = message(name)
    try:
        found.ParseFromString(raw)
    except DecodeError as error:
        raise BatchError(f"a list or map cannot be read: {error}", "see OpenTelemetry's logs protocol") from error
    return found


def _raw(value: Any) -> object:
    kind = value.WhichOneof("value")
    if kind is None:
        return None
    one = getattr(value, kind)
    if kind == "kvlist_value":
        return {pair.key: _raw(pair.value) for pair in one.values}
    if kind == "array_value":
        return [_raw(element) for element in one.values]
    return base64.b64encode(one).decode() if kind == "bytes_value" else one


def _json(value: object) -> str:
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()


_SHOW: dict[str, Any] = {
    "double_value": show_double,
    "bytes_value": lambda raw: base64.b64encode(raw).decode(),
    "array_value": lambda raw: _json([_raw(element) for element in _read("ArrayValue", raw).values]),
    "kvlist_value": lambda raw: _json({p.key: _raw(p.value) for p in _read("KeyValueList", raw).values}),
}
