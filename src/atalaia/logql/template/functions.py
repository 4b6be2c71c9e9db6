"""The functions that templates may call: Go's own, and those that Loki adds."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import Any
from urllib.parse import quote_plus, unquote_plus

import re2

from .. import values
from ..checks import compile_quietly
from ..relabel import expand
from . import arithmetic, gotimes
from .compare import ORDER
from .data import LabelMap
from .fmt import printf, written
from .gotimes import Moment
from .parse import TemplateError

_MOST = 1 << 20  # characters that a function may make


def _bounded(size: int) -> None:
    if size > _MOST:
        raise TemplateError(f"it would make more than {_MOST} characters")


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TemplateError(f"wrong type for value; expected string; got {written(value)[:100]}")
    return value


@lru_cache(maxsize=256)
def regex(pattern: str) -> Any:
    """A compiled RE2 expression. Raises TemplateError."""
    try:
        return compile_quietly(pattern)
    except re2.error as error:
        raise TemplateError(f"error parsing regexp: {pattern[:200]!r}") from error


def _texts(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of strings only."""
    return lambda *arguments: function(*map(_text, arguments))


def _trunc(count: int, text: str) -> str:
    if count < 0:
        return text[count:]
    return _text(text)[:count]


def _substr(start: int, end: int, text: str) -> str:
    size = len(_text(text))
    first, last = (0, end) if start < 0 else (start, size if end < 0 or end > size else end)
    if not 0 <= first <= last <= size:
        raise TemplateError(f"slice bounds out of range [{first}:{last}] of {size} characters")
    return text[first:last]


def _repeat(count: int, text: str) -> str:
    _bounded(count * len(text))
    if count < 0:
        raise TemplateError("strings: negative Repeat count")
    return _text(text) * count


def _aligned(count: int, text: str, left: bool) -> str:
    _bounded(count)
    if len(_text(text)) > count >= 0:
        return text[:count] if left else text[len(text) - count :]
    return text.ljust(count) if left else text.rjust(count)


def _indent(spaces: int, text: str) -> str:
    _bounded(spaces * (text.count("\n") + 1))
    return " " * spaces + text.replace("\n", "\n" + " " * spaces)


def _replace(text: str, old: str, new: str, count: int = -1) -> str:
    _bounded(len(text) + (text.count(old) + 1) * len(new))
    return text.replace(old, new, count)


def _title(text: str) -> str:
    return re.sub(r"(?<![\w])[^\W\d_]", lambda first: first[0].upper(), text)


def _decoded(text: str) -> str:
    text = re.sub(r"[\r\n]", "", text)
    try:
        return base64.b64decode(text, validate=True).decode(errors="replace")
    except (binascii.Error, ValueError):
        strange = re.search(r"[^A-Za-z0-9+/]", text)
        return f"illegal base64 data at input byte {len(text[: strange.start() if strange else None].encode())}"


def _unescaped(text: str) -> str:
    if re.search(r"%(?![0-9a-fA-F]{2})", text):
        raise TemplateError(f"invalid URL escape in {text[:100]!r}")
    return unquote_plus(text)


def _json(text: str) -> Any:
    try:
        return json.loads(_text(text), parse_int=float)
    except (ValueError, RecursionError):
        return None


def _replaced(pattern: str, text: str, make: Callable[[Any], str]) -> str:
    out, at = [], 0
    for match in matches(pattern, text):
        out += [text[at : match.start()], make(match)]
        at = match.end()
    return "".join([*out, text[at:]])


def matches(pattern: str, text: str) -> Iterator[Any]:
    """All matches, but empty ones that touch the one before."""
    end = -1
    for match in regex(pattern).finditer(text):
        if match.end() > end:
            yield match
            end = match.end()


def _amount(kind: str) -> Callable[[str], float]:
    def read(text: str) -> float:
        found = values.READERS[kind](text)
        if found is None:
            raise TemplateError(values.complaint(text, kind))
        return found / 1e9 if kind == "duration" else float(found)

    return read


def _epoch(unit: int) -> Callable[[Moment], str]:
    return lambda moment: str(moment.ns // unit)


def _date(layout: str, moment: Any) -> str:
    if isinstance(moment, int):
        moment = Moment(moment * 10**9)
    return (moment if isinstance(moment, Moment) else gotimes.now()).format(_text(layout))


def _length(value: Any) -> int:
    if isinstance(value, str):
        return len(value.encode())
    return len(value)


def _index(value: Any, *keys: Any) -> Any:
    for key in keys:
        if isinstance(value, dict):
            value = value.get(key, "" if isinstance(value, LabelMap) else None)
        elif isinstance(value, str):
            value = value.encode()[_position(key)]
        else:
            value = value[_position(key)]
    return value


def _position(key: Any) -> int:
    if not isinstance(key, int) or key < 0:
        raise TemplateError(f"index out of range: {written(key)}")
    return key


def _slice(value: Any, *bounds: int) -> Any:
    size = _length(value)
    low, high = (*map(_position, bounds), *(0, size)[len(bounds) :])[:2]
    if not low <= high <= size:
        raise TemplateError(f"index out of range: {low}:{high}")
    return value.encode()[low:high].decode(errors="replace") if isinstance(value, str) else value[low:high]


def _joined(*parts: Any) -> str:
    """fmt.Sprint: a blank between two that are no strings."""
    out = ""
    for number, part in enumerate(parts):
        _bounded(len(out))
        blank = number and not isinstance(part, str) and not isinstance(parts[number - 1], str)
        out += (" " if blank else "") + ("<nil>" if part is None else written(part))
    return out


_JS = {n: f"\\u{n:04X}" for n in (*range(32), *map(ord, "<>&="))} | {ord(c): f"\\{c}" for c in "\\'\""}
_HTML = {39: "&#39;", 34: "&#34;", 38: "&amp;", 60: "&lt;", 62: "&gt;", 0: "\ufffd"}

FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    # Go's own; `and` and `or` do not look at all of their arguments, and are run elsewhere.
    "and": lambda *_: None, "or": lambda *_: None, "not": lambda value: not value,
    "len": _length, "index": _index, "slice": _slice, "print": _joined, "printf": printf,
    "println": lambda *v: " ".join("<nil>" if part is None else written(part) for part in v) + "\n",
    "html": lambda *v: _joined(*v).translate(_HTML), "js": lambda *v: _joined(*v).translate(_JS),
    "urlquery": lambda *v: quote_plus(_joined(*v)), **ORDER,
    # texts
    "lower": _texts(str.lower), "upper": _texts(str.upper), "title": _texts(_title), "trunc": _trunc, "substr": _substr,
    "contains": _texts(lambda part, text: part in text), "hasPrefix": _texts(lambda part, text: text.startswith(part)),
    "hasSuffix": _texts(lambda part, text: text.endswith(part)), "indent": _indent,
    "nindent": lambda spaces, text: "\n" + _indent(spaces, text), "replace": _texts(lambda o, n, t: _replace(t, o, n)),
    "repeat": _repeat, "trim": _texts(str.strip), "trimAll": _texts(lambda cut, text: text.strip(cut) if cut else text),
    "trimPrefix": _texts(lambda part, text: text.removeprefix(part)),
    "trimSuffix": _texts(lambda part, text: text.removesuffix(part)),
    "alignLeft": lambda count, text: _aligned(count, text, True),
    "alignRight": lambda count, text: _aligned(count, text, False),
    "b64enc": _texts(lambda text: base64.b64encode(text.encode()).decode()), "b64dec": _texts(_decoded),
    "urlencode": _texts(quote_plus), "urldecode": _texts(_unescaped), "fromJson": _json,
    "default": lambda other, *value: value[0] if value and value[0] else other,
    "count": _texts(lambda pattern, text: sum(1 for _ in matches(pattern, text))),
    "regexReplaceAll": _texts(lambda p, text, new: _replaced(p, text, lambda m: expand(new, m, regex(p).groupindex))),
    "regexReplaceAllLiteral": _texts(lambda p, text, new: _replaced(p, text, lambda _: new)),
    "bytes": _texts(_amount("size")), "duration": _texts(_amount("duration")),
    "duration_seconds": _texts(_amount("duration")),
    # the older spellings, with the text first
    "ToLower": _texts(str.lower), "ToUpper": _texts(str.upper), "Replace": _replace,
    "Trim": _texts(lambda text, cut: text.strip(cut) if cut else text),
    "TrimLeft": _texts(lambda text, cut: text.lstrip(cut) if cut else text),
    "TrimRight": _texts(lambda text, cut: text.rstrip(cut) if cut else text),
    "TrimPrefix": _texts(str.removeprefix), "TrimSuffix": _texts(str.removesuffix), "TrimSpace": _texts(str.strip),
    # times
    "date": _date, "now": gotimes.now, "toDate": _texts(gotimes.read),
    "toDateInZone": _texts(lambda layout, zone, text: gotimes.read(layout, text, zone)),
    "unixEpoch": _epoch(10**9), "unixEpochMillis": _epoch(10**6), "unixEpochNanos": _epoch(1),
    "unixToTime": _texts(gotimes.of_number), **arithmetic.FUNCTIONS,
}  # fmt: skip
