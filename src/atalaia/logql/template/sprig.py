"""Functions of sprig that Loki's templates have not, and Promtail's have. Source: https://masterminds.github.io/sprig/.

Left out, and so refused where a template is read: keys and certificates, passwords, DNS, versions, URLs, durations.
"""

from __future__ import annotations

import base64
import hashlib
import os
import posixpath
import random
import re
import secrets
import string
import textwrap
import uuid
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import orjson

from . import arithmetic
from .fmt import written
from .functions import FUNCTIONS as LOKI
from .functions import matches, regex
from .parse import TemplateError

VOLATILE = frozenset(
    {"now", "ago", "uuidv4", "randAlphaNum", "randAlpha", "randAscii", "randNumeric", "randInt", "shuffle", "date"}
)
"""Functions that may give something else each time."""
_MOST = 1 << 16  # items of a list that a function makes


def _texts(values: Any) -> list[str]:
    return [_shown(value) for value in values if value is not None] if isinstance(values, list) else [_shown(values)]


def _shown(value: Any) -> str:
    return "" if value is None else written(value)


def _listed(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise TemplateError(f"{written(value)[:100]} is no list")
    return value


def _mapped(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise TemplateError(f"{written(value)[:100]} is no dictionary")
    return value


def _abbreviated(width: int, text: str) -> str:
    return text if width < 4 or len(text) <= width else text[: width - 3] + "..."


def _words(text: str) -> list[str]:
    """The words of a name: at blanks, signs, and where small letters, or letters and digits, end."""
    return re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+|[^\W\d_a-zA-Z]+", text)


def _split(separator: str, text: str, most: int = -1) -> dict[str, str]:
    parts = text.split(separator, most - 1 if most > 0 else -1) if separator else list(text)
    return {f"_{number}": part for number, part in enumerate(parts)}


def _range(first: int, stop: int, step: int) -> list[int]:
    found = range(first, stop, step) if step else range(0)
    if len(found) > _MOST:
        raise TemplateError(f"it would make more than {_MOST} numbers")
    return list(found)


def _sequence(*bounds: Any) -> str:
    numbers = [arithmetic.whole(bound) for bound in bounds]
    if not 1 <= len(numbers) <= 3:
        return ""
    first, step, last = {1: (1, 0, numbers[0]), 2: (numbers[0], 0, numbers[-1])}.get(len(numbers), tuple(numbers))
    step = step or (1 if last >= first else -1)
    return " ".join(map(str, _range(first, last + (1 if step > 0 else -1), step)))


def _unique(values: list[Any]) -> list[Any]:
    return [value for number, value in enumerate(_listed(values)) if value not in values[:number]]


def _dictionary(*parts: Any) -> dict[str, Any]:
    values = (*parts, "") if len(parts) % 2 else parts
    return {_shown(values[at]): values[at + 1] for at in range(0, len(values), 2)}


def _changed(into: dict[str, Any], change: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
    change(_mapped(into))
    return into


def _dug(*path: Any) -> Any:
    *keys, other, value = path
    for key in keys:
        if not isinstance(value, dict) or key not in value:
            return other
        value = value[key]
    return value


def _failed(message: str) -> Any:
    raise TemplateError(message)


def _kind(value: Any) -> str:
    kinds = {str: "string", bool: "bool", int: "int", float: "float64", list: "slice", type(None): "invalid"}
    return kinds.get(type(value), "map" if isinstance(value, dict) else "struct")


def _found(pattern: str, text: str, most: int) -> list[str]:
    return [match[0] for match in matches(pattern, text)][: most if most >= 0 else None]


def _parted(pattern: str, text: str, most: int) -> list[str]:
    parts: list[str] = []
    at = 0
    for match in matches(pattern, text):
        if 0 < most <= len(parts) + 1 or (match.end() == match.start() and match.start() in (0, len(text))):
            continue
        parts.append(text[at : match.start()])
        at = match.end()
    return [] if most == 0 else [*parts, text[at:]]


def _random(letters: str) -> Callable[[int], str]:
    return lambda count: "".join(secrets.choice(letters) for _ in range(min(max(count, 0), _MOST)))


def _json(value: Any, indented: bool = False, raw: bool = False) -> str:
    options = orjson.OPT_SORT_KEYS | (orjson.OPT_INDENT_2 if indented else 0)
    try:
        text = orjson.dumps(value, option=options).decode()
    except TypeError:
        return ""
    return text if raw else re.sub("[<>&\u2028\u2029]", lambda m: f"\\u{ord(m[0]):04x}", text)


def _hash(name: str) -> Callable[[str], str]:
    return lambda text: hashlib.new(name, text.encode()).hexdigest()


def _clean(path: str) -> str:
    return posixpath.normpath(path).replace("//", "/", 1) if path else "."


_TEXT: Mapping[str, Callable[..., Any]] = {
    "abbrev": _abbreviated, "untitle": lambda text: re.sub(r"\b\w", lambda m: m[0].lower(), text),
    "nospace": lambda text: re.sub(r"\s", "", text), "swapcase": str.swapcase,
    "initials": lambda text: "".join(word[0] for word in text.split()),
    "snakecase": lambda text: "_".join(word.lower() for word in _words(text)),
    "kebabcase": lambda text: "-".join(word.lower() for word in _words(text)),
    "camelcase": lambda text: "".join(word[:1].upper() + word[1:].lower() for word in _words(text)),
    "wrap": lambda width, text: "\n".join(textwrap.wrap(text, max(width, 1), break_long_words=False)),
    "wrapWith": lambda width, mark, text: mark.join(textwrap.wrap(text, max(width, 1))),
    "quote": lambda *values: " ".join(f'"{_json(_shown(v), raw=True)[1:-1]}"' for v in values if v is not None),
    "squote": lambda *values: " ".join(f"'{_shown(v)}'" for v in values if v is not None),
    "cat": lambda *values: " ".join(_shown(v) for v in values if v is not None),
    "plural": lambda one, many, count: one if count == 1 else many,
    "trimall": LOKI["trimAll"], "toString": _shown, "toStrings": _texts,
    "sha1sum": _hash("sha1"), "sha256sum": _hash("sha256"), "sha512sum": _hash("sha512"),
    "adler32sum": lambda text: str(zlib.adler32(text.encode())),
    "b32enc": lambda text: base64.b32encode(text.encode()).decode(),
    "b32dec": lambda text: base64.b32decode(text).decode(errors="replace"),
    "regexMatch": lambda pattern, text: regex(pattern).search(text) is not None,
    "regexFind": lambda pattern, text: next(iter(_found(pattern, text, 1)), ""), "regexFindAll": _found,
    "regexSplit": _parted, "regexQuoteMeta": lambda text: re.sub(r"([\\.+*?()|\[\]{}^$])", r"\\\1", text),
    "base": lambda path: posixpath.basename(path.rstrip("/")) or ("/" if path else "."),
    "dir": lambda path: _clean(posixpath.dirname(path)), "clean": _clean,
    "ext": lambda path: m[0] if (m := re.search(r"\.[^./]*$", path)) else "", "isAbs": lambda path: path[:1] == "/",
}  # fmt: skip
_NUMBERS: Mapping[str, Callable[..., Any]] = {
    "int64": arithmetic.whole, "atoi": arithmetic.whole, "add1": lambda value: arithmetic.whole(value) + 1,
    "toDecimal": lambda text: int(_shown(text), 8) if re.fullmatch("[0-7]+", _shown(text)) else 0,
    "biggest": LOKI["max"], "seq": _sequence, "until": lambda count: _range(0, count, 1 if count >= 0 else -1),
    "untilStep": _range, "randInt": lambda low, high: random.randrange(low, high),  # noqa: S311 - no secret
}  # fmt: skip
_LISTS: Mapping[str, Callable[..., Any]] = {
    "list": lambda *values: [*values], "tuple": lambda *values: [*values],
    "splitList": lambda separator, text: text.split(separator) if separator else list(text),
    "split": _split, "splitn": lambda separator, most, text: _split(separator, text, most),
    "join": lambda separator, values: separator.join(_texts(values)),
    "sortAlpha": lambda values: sorted(_texts(values)),
    "first": lambda values: _listed(values)[0] if values else None, "rest": lambda values: _listed(values)[1:],
    "last": lambda values: _listed(values)[-1] if values else None, "initial": lambda values: _listed(values)[:-1],
    "reverse": lambda values: _listed(values)[::-1], "uniq": _unique,
    "without": lambda values, *others: [value for value in _listed(values) if value not in others],
    "has": lambda value, values: value in (values or []), "compact": lambda values: [v for v in _listed(values) if v],
    "append": lambda values, value: [*_listed(values), value], "push": lambda values, value: [*_listed(values), value],
    "prepend": lambda values, value: [value, *_listed(values)],
    "concat": lambda *lists: [value for values in lists for value in _listed(values)],
    "dict": _dictionary, "get": lambda values, key: _mapped(values).get(key, ""),
    "set": lambda values, key, value: _changed(values, lambda into: into.update({key: value})),
    "unset": lambda values, key: _changed(values, lambda into: into.pop(key, None)),
    "hasKey": lambda values, key: key in _mapped(values),
    "keys": lambda *maps: [key for values in maps for key in _mapped(values)],
    "values": lambda values: list(_mapped(values).values()),
    "pick": lambda values, *keys: {key: value for key, value in _mapped(values).items() if key in keys},
    "omit": lambda values, *keys: {key: value for key, value in _mapped(values).items() if key not in keys},
    "pluck": lambda key, *maps: [values[key] for values in maps if key in _mapped(values)], "dig": _dug,
}  # fmt: skip
_OTHERS: Mapping[str, Callable[..., Any]] = {
    "empty": lambda value: not value, "coalesce": lambda *values: next((v for v in values if v), None),
    "all": lambda *values: all(values), "any": lambda *values: any(values), "fail": _failed,
    "ternary": lambda yes, no, test: yes if test else no, "toJson": _json,
    "toPrettyJson": lambda value: _json(value, indented=True), "toRawJson": lambda value: _json(value, raw=True),
    "kindOf": _kind, "kindIs": lambda kind, value: _kind(value) == kind,
    "typeOf": lambda value: LOKI["printf"]("%T", value),
    "typeIs": lambda kind, value: LOKI["printf"]("%T", value) == kind, "deepEqual": lambda left, right: left == right,
    "env": lambda name: os.environ.get(name, ""),
    "expandenv": lambda text: re.sub(r"\$(?:(\w+)|\{(\w+)\})", lambda m: os.environ.get(m[1] or m[2], ""), text),
    "htmlDate": lambda moment: LOKI["date"]("2006-01-02", moment), "uuidv4": lambda: str(uuid.uuid4()),
    "randAlphaNum": _random(string.ascii_letters + string.digits), "randAlpha": _random(string.ascii_letters),
    "randNumeric": _random(string.digits), "randAscii": _random("".join(map(chr, range(32, 127)))),
    "shuffle": lambda text: "".join(random.sample(text, len(text))),
}  # fmt: skip
_SHARED = (
    "and or not len index slice print printf println html js urlquery eq ne lt le gt ge lower upper title trunc "
    "substr contains hasPrefix hasSuffix indent nindent replace repeat trim trimAll trimPrefix trimSuffix b64enc "
    "b64dec fromJson default regexReplaceAll regexReplaceAllLiteral ToLower ToUpper Replace Trim TrimLeft "
    "TrimRight TrimPrefix TrimSuffix TrimSpace date now toDate unixEpoch int float64 add sub mul div mod addf "
    "subf mulf divf max min maxf minf ceil floor round "
)
_OWN: Mapping[str, Callable[..., Any]] = {
    "Hash": lambda salt, text: hashlib.sha3_256(f"{salt}{text}".encode()).hexdigest(),
    "Sha2Hash": lambda salt, text: hashlib.sha256(f"{salt}{text}".encode()).hexdigest(),
}
# Those whose names may begin with `must`: then a fault ends the template, as it does here anyway.
_MUST = (*_LISTS, "toJson", "fromJson", "regexMatch", "regexFind", "regexFindAll", "regexSplit", "regexReplaceAll",
         "regexReplaceAllLiteral", "toDate")  # fmt: skip
_PLAIN: Mapping[str, Callable[..., Any]] = {
    **{name: LOKI[name] for name in _SHARED.split()}, **_TEXT, **_NUMBERS, **_LISTS, **_OTHERS, **_OWN,
}  # fmt: skip
FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    **_PLAIN,
    **{f"must{name[0].upper()}{name[1:]}": _PLAIN[name] for name in _MUST},
}
"""The functions of Promtail's templates."""
