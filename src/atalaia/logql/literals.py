"""How LogQL writes texts, durations, sizes and numbers; each is read and written here.

Readers raise ValueError with a message for a person; writers give text that reads back to the same value.
"""

import math
import re
from decimal import Decimal

_SIMPLE_ESCAPES = {"a": 7, "b": 8, "f": 12, "n": 10, "r": 13, "t": 9, "v": 11, "\\": 92, '"': 34}
_ESCAPE = re.compile(r"\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([0-7]{3})|(.))", re.ASCII)
_WRITTEN = {7: "\\a", 8: "\\b", 12: "\\f", 10: "\\n", 13: "\\r", 9: "\\t", 11: "\\v", 92: "\\\\", 34: '\\"'}

_NS = {
    "y": 365 * 86_400_000_000_000,
    "w": 7 * 86_400_000_000_000,
    "d": 86_400_000_000_000,
    "h": 3_600_000_000_000,
    "m": 60_000_000_000,
    "s": 1_000_000_000,
    "ms": 1_000_000,
    "us": 1_000,
    "ns": 1,
}
_SPELLINGS = _NS | {"µs": 1_000, "μs": 1_000}
_DURATION_PART = re.compile(r"([0-9]+\.?[0-9]*|\.[0-9]+)(ns|us|µs|μs|ms|[smhdwy])")
_MAX_DURATION = 2**63 - 1

_DECIMAL_SIZES = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "p": 10**15}
_BINARY_SIZES = {"k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40, "p": 2**50}
_SIZE = re.compile(r"([0-9]+\.?[0-9]*|\.[0-9]+)([kKMGTP]?)(i?)B?")

_FLOAT = re.compile(r"(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
# Go writes hexadecimal floats always with a binary exponent; 0x1A alone is an integer and no LogQL number.
_HEX_FLOAT = re.compile(r"0[xX](?:[0-9a-fA-F]+\.?[0-9a-fA-F]*|\.[0-9a-fA-F]+)[pP][+-]?[0-9]+")


def unquote(literal: str) -> str:
    """Read a string literal: raw between backticks, or between double quotes with Go's escapes.

    Raise ValueError for an escape Go does not know and for bytes that are not UTF-8: lines and labels
    are UTF-8, so such a text could match nothing.
    """
    body = literal[1:-1]
    if literal[0] == "`" or "\\" not in body:
        return body
    out = bytearray()
    end = 0
    for escape in _ESCAPE.finditer(body):
        out += body[end : escape.start()].encode()
        out += _unescape(escape)
        end = escape.end()
    out += body[end:].encode()
    try:
        return out.decode()
    except UnicodeDecodeError:
        raise ValueError("the escapes in this string do not make valid UTF-8") from None


def _unescape(escape: re.Match[str]) -> bytes:
    hexadecimal, short, long, octal, letter = escape.groups()
    if letter is not None:
        if letter not in _SIMPLE_ESCAPES:
            raise ValueError(f"unknown escape \\{letter}; write \\\\ or put the string in backticks")
        return bytes((_SIMPLE_ESCAPES[letter],))
    if short is not None or long is not None:
        code = int(short or long, 16)
        if code > 0x10FFFF or 0xD800 <= code <= 0xDFFF:
            raise ValueError(f"{escape.group()} is no Unicode character")
        return chr(code).encode()
    byte = int(hexadecimal, 16) if hexadecimal is not None else int(octal, 8)
    if byte > 255:
        raise ValueError(f"{escape.group()} is more than a byte")
    return bytes((byte,))


def quote(text: str) -> str:
    """Write a double-quoted string with Go's escapes."""
    if text.isprintable() and '"' not in text and "\\" not in text:
        return f'"{text}"'
    return '"' + "".join(map(_escape, text)) + '"'


def _escape(character: str) -> str:
    code = ord(character)
    if code in _WRITTEN:
        return _WRITTEN[code]
    if character.isprintable():
        return character
    if code < 0x80:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def parse_duration(text: str) -> int:
    """Read `1h30m`, `1.5s`, `2d`, `-5m` as nanoseconds. Raise ValueError if it is no duration or too long.

    It takes Go's units, and Prometheus's d, w and y, in any order and mixture.
    """
    negative = text.startswith("-")
    rest = text[1:] if negative else text
    total = 0
    end = 0
    while end < len(rest):
        part = _DURATION_PART.match(rest, end)
        if part is None:
            raise ValueError(f"{text!r} is not a duration; write for example 5m, 1h30m or 500ms")
        whole, _, fraction = part.group(1).partition(".")
        unit = _SPELLINGS[part.group(2)]
        if len(whole) > 20:
            raise ValueError(f"{text!r} is too long a duration")
        total += int(whole or "0") * unit
        if fraction := fraction[:20]:
            total += int(fraction) * unit // 10 ** len(fraction)
        end = part.end()
    if not rest:
        raise ValueError("empty duration; write for example 5m, 1h30m or 500ms")
    if total > _MAX_DURATION:
        raise ValueError(f"{text!r} is too long a duration")
    return -total if negative else total


def format_duration(ns: int) -> str:
    """Write a duration as Prometheus does (`1h30m`, `1d`; weeks and years only when nothing is left over)."""
    if ns < 0:
        return "-" + format_duration(-ns)
    for unit in ("y", "w"):
        if ns and ns % _NS[unit] == 0:
            return f"{ns // _NS[unit]}{unit}"
    parts = []
    rest = ns
    for unit in ("d", "h", "m", "s", "ms", "us", "ns"):
        count, rest = divmod(rest, _NS[unit])
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"


def parse_bytes(text: str) -> int:
    """Read `20MB`, `1.5KiB`, `512B` as bytes: plain prefixes count in thousands, those with `i` in 1024s.

    Raise ValueError for more than an unsigned 64-bit integer holds.
    """
    size = _SIZE.fullmatch(text)
    assert size is not None, "the grammar lets only sizes through"
    digits, prefix, binary = size.groups()
    if len(digits) > 40:
        raise ValueError(f"{text!r} is too large a size")
    unit = (_BINARY_SIZES if binary else _DECIMAL_SIZES)[prefix.lower()]
    count = int(Decimal(digits) * unit)
    if count >= 2**64:
        raise ValueError(f"{text!r} is too large a size")
    return count


def format_bytes(count: int) -> str:
    """Write a size exactly, with the unit that makes it shortest."""
    candidates = [f"{count}B"]
    for infix, units in (("", _DECIMAL_SIZES), ("i", _BINARY_SIZES)):
        candidates += [
            f"{count // unit}{prefix.upper()}{infix}B" for prefix, unit in units.items() if count and count % unit == 0
        ]
    return min(candidates, key=len)


def parse_number(text: str) -> float:
    """Read an unsigned decimal or a hexadecimal float (`0x1p3`) as Go's ParseFloat does.

    Raise ValueError for anything else and for what a float cannot hold.
    """
    value = math.inf
    if _FLOAT.fullmatch(text):
        value = float(text)
    elif _HEX_FLOAT.fullmatch(text):
        try:
            value = float.fromhex(text)
        except OverflowError:
            value = math.inf
    else:
        raise ValueError(f"unable to parse literal as a float: {text!r}")
    if math.isinf(value):
        raise ValueError(f"{text!r} is too large a number")
    return value


def format_number(value: float) -> str:
    """Write a number in the shortest way that reads back to it; whole numbers have no point."""
    text = repr(float(value))
    return text.removesuffix(".0")
