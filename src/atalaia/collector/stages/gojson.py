"""How Go writes what stands in JSON: numbers as Promtail makes text of them, and objects with HTML's signs escaped.

Source: Go's strconv.FormatFloat and encoding/json; json-iterator, which Promtail uses, writes the same.
"""

from __future__ import annotations

import json
import re
from decimal import Decimal
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from atalaia.collector.stages.values import buffers, sliced, true

EXACT = 1 << 53  # whole numbers up to here are exact in a float64, as which Go reads all numbers
_ESCAPED = re.compile('["\\\\<>&\x00-\x1f\u2028\u2029]')
_SHORT = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}
_CONTROL = "[\x00-\x08\x0b\x0c\x0e-\x1f\u2028\u2029]"


class Malformed(ValueError):
    """A text is not a JSON object."""


def number(value: float) -> str:
    """A number in all its digits, the shortest that read back to the same float64: 1, 0.5, 100000000000000000000."""
    if isinstance(value, int) and -EXACT <= value <= EXACT:
        return str(value)
    shown = repr(float(value))
    return (format(Decimal(shown), "f") if "e" in shown else shown).removesuffix(".0")


def text_of(value: Any) -> str | None:
    """A value of JSON as Promtail turns it into text; None for null."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return number(value)
    return written(value)


def written(value: Any) -> str:
    """A value as compact JSON with sorted keys."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{quoted(key)}:{written(value[key])}" for key in sorted(value)) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(written, value)) + "]"
    if value is None:
        return "null"
    if isinstance(value, str):
        return quoted(value)
    if isinstance(value, bool) or not value or 1e-6 <= abs(value) < 1e21:
        return text_of(value) or ""
    digits, _, exponent = f"{Decimal(repr(float(value))):e}".partition("e")
    digits = digits.rstrip("0").rstrip(".") if "." in digits else digits
    return f"{digits}e{exponent[0]}{exponent[1:].rjust(2, '0') if exponent[0] == '+' else exponent[1:]}"


def quoted(text: str) -> str:
    """A string of JSON."""
    return '"' + _ESCAPED.sub(lambda m: _SHORT.get(m[0]) or f"\\u{ord(m[0]):04x}", text) + '"'


def quoted_column(values: pa.Array) -> pa.Array:
    """`quoted` of a whole column (utf8)."""
    offsets, data = buffers(values)
    present = np.bincount(data[offsets[0] : offsets[-1]], minlength=256) > 0
    found = values
    for character, escape in {"\\": "\\\\", **_SHORT, "<": "\\u003c", ">": "\\u003e", "&": "\\u0026"}.items():
        if present[ord(character)]:
            found = pc.replace_substring(found, character, escape)
    if present[:9].any() or present[11:13].any() or present[14:32].any() or present[0xE2]:
        rare = pc.match_substring_regex(values, _CONTROL)
        texts = [quoted(text)[1:-1] for text in values.filter(rare).to_pylist()]
        found = pc.replace_with_mask(found, pc.fill_null(rare, False), pa.array(texts, pa.utf8()))
    return pc.binary_join_element_wise('"', found, '"', "")


def loads(text: str) -> dict[str, Any]:
    """A JSON object as Promtail reads it: of equal keys the last one, half a character becomes U+FFFD, null is {}.

    Raises Malformed.
    """
    bare = text.strip(" \t\r\n")
    if not bare.startswith("{"):
        if bare == "null":
            return {}
        raise Malformed
    try:
        found = orjson.loads(text)
    except ValueError:
        if "\\u" not in text:
            raise Malformed from None
        found = _with_halves(text)
    assert isinstance(found, dict)
    return found


def _with_halves(text: str) -> Any:
    """JSON in which surrogates stand alone, which orjson does not read."""

    def refuse(name: str) -> None:
        raise Malformed(name)

    try:
        return _whole(json.loads(text, parse_constant=refuse))
    except (ValueError, RecursionError):
        raise Malformed from None


def _whole(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    if isinstance(value, dict):
        return {_whole(key): _whole(one) for key, one in value.items()}
    return [_whole(one) for one in value] if isinstance(value, list) else value


def texts(values: pa.Array) -> pa.Array:
    """Written values of JSON (utf8, null for none) as Promtail's texts; null for `null` too."""
    offsets, data = buffers(values)
    filled = offsets[1:] > offsets[:-1]
    first = np.zeros(len(values), np.uint8)
    first[filled] = data[offsets[:-1][filled]]
    string = first == ord('"')
    other = np.isin(first, np.frombuffer(b"-0123456789{[", np.uint8))
    odd = string & true(pc.match_substring(values, "\\"))
    if other.any():
        odd |= other & ~true(pc.match_substring_regex(values, r"^-?\d{1,15}$"))
    plain = string & ~odd  # bare of their quotes
    found = sliced(data, offsets[:-1] + plain, offsets[1:] - plain)
    null = true(pc.is_null(values)) | (first == ord("n"))
    if null.any():
        found = pc.if_else(pa.array(null), None, found)
    if odd.any():
        mask = pa.array(odd)
        found = pc.replace_with_mask(found, mask, pa.array(_read(values.filter(mask).to_pylist()), pa.utf8()))
    return found


def _read(written_values: list[str]) -> list[str | None]:
    try:
        return [text_of(value) for value in orjson.loads(f"[{','.join(written_values)}]")]
    except (ValueError, RecursionError):  # a number beyond float64, for one
        return [_read_one(value) for value in written_values]


def _read_one(written_value: str) -> str | None:
    try:
        return text_of(_whole(json.loads(written_value, strict=False)))
    except RecursionError:
        return written_value  # it nests deeper than Python follows: as it was written, keys not sorted
