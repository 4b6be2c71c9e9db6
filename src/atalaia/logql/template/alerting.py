"""The functions of Prometheus' alert templates, which rules may use beside all others.

Source: https://prometheus.io/docs/prometheus/latest/configuration/template_reference/.
"""

from __future__ import annotations

import ipaddress
import math
import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote_plus

from ..values import number
from .data import LabelMap
from .fmt import printf
from .functions import FUNCTIONS as OTHERS
from .gotimes import Moment
from .parse import TemplateError

Sample = dict[str, Any]
"""A series at a moment: `Labels`, a LabelMap, and `Value`, a float."""
_LARGE, _SMALL = ("", "k", "M", "G", "T", "P", "E", "Z", "Y"), ("", "m", "u", "n", "p", "f", "a", "z", "y")
_BINARY = ("", "ki", "Mi", "Gi", "Ti", "Pi", "Ei", "Zi", "Yi")
_PART = re.compile(r"([0-9]+)(ms|[ywdhms])")
_SECONDS = {"y": 31_536_000, "w": 604_800, "d": 86_400, "h": 3600, "m": 60, "s": 1, "ms": 0.001}


def sample(labels: Mapping[str, str], value: float) -> Sample:
    """A series as templates see it."""
    return {"Labels": LabelMap(labels), "Value": value}


def _number(value: Any) -> float:
    found = number(value) if isinstance(value, str) else value
    if isinstance(found, bool) or not isinstance(found, (int, float)):
        raise TemplateError(f"can't convert {value!r} to a number")
    return float(found)


def _scaled(value: float, prefixes: tuple[str, ...], factor: float, up: bool) -> tuple[float, str]:
    """The value over the power of the factor that leaves it readable, and that power's name."""
    for prefix in prefixes[:-1]:
        if (abs(value) < factor) if up else (abs(value) >= 1):
            return value, prefix
        value = value / factor if up else value * factor
    return value, prefixes[-1]


def _plain(value: float) -> bool:
    return value == 0 or not math.isfinite(value)


def _humanized(given: Any) -> str:
    value = _number(given)
    if _plain(value):
        return printf("%.4g", value)
    large = abs(value) >= 1
    shown, prefix = _scaled(value, _LARGE if large else _SMALL, 1000.0, large)
    return printf("%.4g%s", shown, prefix)


def _humanized_binary(given: Any) -> str:
    value = _number(given)
    if abs(value) <= 1 or not math.isfinite(value):
        return printf("%.4g", value)
    return printf("%.4g%s", *_scaled(value, _BINARY, 1024.0, True))


def _humanized_duration(given: Any) -> str:
    value = _number(given)
    if not math.isfinite(value):
        return printf("%.4g", value)
    if 0 < abs(value) < 1:
        return printf("%.4g%ss", *_scaled(value, _SMALL, 1000.0, False))
    sign, value = ("-", -value) if value < 0 else ("", value)
    whole = int(value)
    days, hours, minutes = whole // 86_400, whole // 3600 % 24, whole // 60 % 60
    parts = [(days, "d"), (hours, "h"), (minutes, "m"), (whole % 60, "s")]
    while len(parts) > 1 and not parts[0][0]:
        del parts[0]
    if len(parts) == 1:
        return printf("%s%.4gs", sign, value)
    return sign + " ".join(f"{count}{unit}" for count, unit in parts)


def _moment(given: Any) -> Moment | None:
    """Seconds since 1970 as a moment; None for what is none."""
    value = _number(given)
    if not math.isfinite(value):
        return None
    if abs(value) > 2**63 / 1e9:
        raise TemplateError(f"{value} s is a time too far away")
    return Moment(round(value * 1000) * 1_000_000)


def _humanized_timestamp(given: Any) -> str:
    moment = _moment(given)
    return printf("%.4g", _number(given)) if moment is None else str(moment)


def _to_time(given: Any) -> Moment:
    if (moment := _moment(given)) is None:
        raise TemplateError(f"{given} is no time")
    return moment


def _to_duration(given: Any) -> str:
    """Seconds as Go's time.Duration writes them: 1h0m30s."""
    value = _number(given)
    if not abs(value) < 2**63 / 1e9:
        raise TemplateError(f"{given} is no duration")
    ns = round(abs(value) * 1e9)
    sign = "-" if value < 0 else ""
    if 0 < ns < 10**9:
        for size, unit in ((10**6, "ms"), (10**3, "µs"), (1, "ns")):
            if ns >= size:
                return f"{sign}{ns / size:.9f}".rstrip("0").rstrip(".") + unit
    minutes, rest = divmod(ns, 60 * 10**9)
    seconds = f"{rest // 10**9}.{rest % 10**9:09d}".rstrip("0").rstrip(".") + "s"
    hours, minutes = divmod(minutes, 60)
    return sign + (f"{hours}h" if hours else "") + (f"{minutes}m" if hours or minutes else "") + seconds


def _parse_duration(text: str) -> float:
    parts = _PART.findall(text)
    if "".join(count + unit for count, unit in parts) != text or not parts:
        raise TemplateError(f"{text!r} is not a duration")
    return float(sum(int(count) * _SECONDS[unit] for count, unit in parts))


def _host_port(text: str) -> tuple[str, str | None]:
    found = re.fullmatch(r"(?:\[([^\[\]]*)\]|([^:\[\]]*)):([^:\[\]]*)", text)
    return (found[1] or found[2] or "", found[3]) if found else (text, None)


def _without_domain(text: str) -> str:
    host, port = _host_port(text)
    try:
        ipaddress.ip_address(host)
    except ValueError:
        short = host.split(".")[0]
        return short if not port else f"{short}:{port}"
    return text


def _first(samples: list[Sample]) -> Sample:
    if not samples:
        raise TemplateError("first() called on vector with no elements")
    return samples[0]


def _link(expression: str, tab: int) -> str:
    return f"/graph?g0.expr={quote_plus(expression)}&g0.tab={tab}"


FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    **OTHERS,
    "humanize": _humanized, "humanize1024": _humanized_binary, "humanizeDuration": _humanized_duration,
    "humanizePercentage": lambda value: printf("%.4g%%", _number(value) * 100),
    "humanizeTimestamp": _humanized_timestamp, "toTime": _to_time, "toDuration": _to_duration,
    "parseDuration": _parse_duration, "title": OTHERS["title"], "toUpper": OTHERS["upper"], "toLower": OTHERS["lower"],
    "match": lambda pattern, text: OTHERS["count"](pattern, text) > 0,
    "reReplaceAll": lambda pattern, new, text: OTHERS["regexReplaceAll"](pattern, text, new),
    "stripPort": lambda text: _host_port(text)[0], "stripDomain": _without_domain, "safeHtml": lambda text: text,
    "urlQueryEscape": quote_plus, "graphLink": lambda text: _link(text, 0), "tableLink": lambda text: _link(text, 1),
    "first": _first, "label": lambda name, one: one["Labels"].get(name, ""), "value": lambda one: one["Value"],
    "strvalue": lambda one: one["Labels"].get("__value__", ""),
    "sortByLabel": lambda name, samples: sorted(samples, key=lambda one: one["Labels"].get(name, "")),
    "args": lambda *given: {f"arg{number}": one for number, one in enumerate(given)},
}  # fmt: skip
