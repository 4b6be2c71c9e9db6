"""Go's fmt: how values are written, and printf."""

from __future__ import annotations

import json
import math
import re
from decimal import Decimal
from typing import Any

from .gotimes import Moment

_VERB = re.compile(r"%([+\-# 0]*)([0-9]+|\*)?(?:\.([0-9]+|\*)?)?(.)?", re.DOTALL)
_MOST = 1 << 20


def written(value: Any) -> str:
    """A value as %v writes it."""
    if isinstance(value, str):
        return value
    if value is None:
        return "<no value>"
    return _plain(value)


def _plain(value: Any) -> str:
    if value is None:
        return "<nil>"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return general(value)
    if isinstance(value, dict):
        return f"map[{' '.join(f'{key}:{_plain(value[key])}' for key in sorted(value))}]"
    if isinstance(value, (list, tuple)):
        return f"[{' '.join(map(_plain, value))}]"
    return str(value)


def general(value: float, most: int = 6) -> str:
    """The shortest decimal that reads back, with an exponent below -4 and from `most` on."""
    if math.isnan(value) or math.isinf(value):
        return "NaN" if math.isnan(value) else "+Inf" if value > 0 else "-Inf"
    _, digits, exponent = Decimal(repr(value)).as_tuple()
    assert isinstance(exponent, int)
    size = len(digits) + exponent - 1 if value else 0
    if -4 <= size < most:
        return format(Decimal(repr(value)), "f").removesuffix(".0")
    shown = "".join(map(str, digits)).rstrip("0") or "0"
    sign = "-" if value < 0 else ""
    return f"{sign}{shown[0]}{'.' + shown[1:] if shown[1:] else ''}e{'-' if size < 0 else '+'}{abs(size):02d}"


def printf(text: str, *values: Any) -> str:
    """fmt.Sprintf, faults in the text included: `%!d(string=x)`, `%!s(MISSING)`, `%!(EXTRA int=1)`."""
    if not isinstance(text, str):
        raise TypeError(f"{_type(text)} is no string")
    left, room = list(values), _MOST
    out: list[str] = []
    at = 0
    for verb in _VERB.finditer(text):
        out.append(text[at : verb.start()])
        at = verb.end()
        letter = verb[4]
        if letter is None:
            out.append("%!(NOVERB)")
            continue
        if letter == "%":
            out.append("%")
            continue
        flags, width, precision = verb[1], _size(verb[2], left), _size(verb[3], left)
        if "." in verb[0][:-1] and precision is None:
            precision = 0
        if width is not None and width < 0:
            flags, width = flags + "-", -width
        if not left:
            out.append(f"%!{letter}(MISSING)")
            continue
        found = _formatted(letter, left.pop(0), flags, precision)
        out.append(_padded(found, flags, width or 0, letter))
        room -= len(out[-1])
        if room < 0:
            raise ValueError(f"it would make more than {_MOST} characters")
    out.append(text[at:])
    if left:
        out.append(f"%!(EXTRA {', '.join(f'{_type(value)}={_plain(value)}' for value in left)})")
    return "".join(out)


def _size(text: str | None, left: list[Any]) -> int | None:
    if text != "*":
        return min(int(text[:9]), _MOST) if text else None
    value = left.pop(0) if left else None
    return min(value, _MOST) if isinstance(value, int) else None


def _padded(text: str, flags: str, width: int, letter: str) -> str:
    if "-" in flags:
        return text.ljust(width)
    if "0" in flags and letter not in "sqv":
        sign = text[0] if text[:1] in ("+", "-", " ") else ""
        return sign + text[len(sign) :].rjust(width - len(sign), "0")
    return text.rjust(width)


def _formatted(letter: str, value: Any, flags: str, precision: int | None) -> str:
    if letter == "v":
        if isinstance(value, str) and "#" in flags:
            return json.dumps(value, ensure_ascii=False)
        return _signed(value, _plain(value), flags)
    if letter == "T":
        return _type(value)
    if isinstance(value, (list, tuple)) and letter != "t":
        return f"[{' '.join(_formatted(letter, item, flags, precision) for item in value)}]"
    if letter == "t" and isinstance(value, bool):
        return _plain(value)
    if isinstance(value, (str, Moment)) and letter in "sqxX":
        return _text(letter, str(value), precision)
    if isinstance(value, int) and not isinstance(value, bool) and letter in "dxXobcqUO":
        return _signed(value, _whole(letter, value, flags), flags)
    if isinstance(value, float) and letter in "feEgGF":
        return _signed(value, _real(letter, value, precision), flags)
    return f"%!{letter}({_type(value)}={_plain(value)})" if value is not None else f"%!{letter}(<nil>)"


def _signed(value: Any, text: str, flags: str) -> str:
    if isinstance(value, (int, float)) and not isinstance(value, bool) and text[:1] not in ("+", "-"):
        return ("+" if "+" in flags else " " if " " in flags else "") + text
    return text


def _text(letter: str, value: str, precision: int | None) -> str:
    cut = value if precision is None else value[:precision]
    if letter == "q":
        return json.dumps(cut, ensure_ascii=False)
    return cut if letter == "s" else format_hex(cut.encode(), letter)


def format_hex(data: bytes, letter: str) -> str:
    """Bytes in hexadecimal, in the case of the letter."""
    return data.hex() if letter == "x" else data.hex().upper()


def _whole(letter: str, value: int, flags: str) -> str:
    if letter in "cq":
        character = chr(value) if 0 <= value < 0x110000 else "\ufffd"
        return f"'{character}'" if letter == "q" else character
    if letter == "U":
        return f"U+{value:04X}"
    sign, size = "-" if value < 0 else "", abs(value)
    prefix = {"x": "0x", "X": "0X", "o": "0", "b": "0b"}.get(letter, "") if "#" in flags else "0o" * (letter == "O")
    return f"{sign}{prefix}{size:{letter.lower() if letter == 'O' else letter}}"


def _real(letter: str, value: float, precision: int | None) -> str:
    if math.isnan(value) or math.isinf(value):
        return general(value)
    if letter in "gG":
        found = general(value) if precision is None else _significant(value, precision or 1)
        return found.upper() if letter == "G" else found
    return format(value, f".{6 if precision is None else min(precision, 1000)}{letter}")


def _significant(value: float, precision: int) -> str:
    return general(float(format(value, f".{min(precision, 1000)}g")), max(precision, 1))


def _type(value: Any) -> str:
    if isinstance(value, Moment):
        return "time.Time"
    names = {str: "string", bool: "bool", int: "int", float: "float64", list: "[]interface {}"}
    return names.get(type(value), "map[string]interface {}" if isinstance(value, dict) else "<nil>")
