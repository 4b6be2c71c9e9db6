"""Syslog messages, parsed as columns: RFC 5424, and what is sent as RFC 3164.

Names of severities and facilities: syslog(3) and, where that has none, RFC 5424 6.2.1, as Promtail's labels have them.
"""

from __future__ import annotations

import calendar
import functools
import re
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from atalaia.logql.template.gotime import Layout

SEVERITIES = ("emergency", "alert", "critical", "error", "warning", "notice", "informational", "debug")
FACILITIES = (
    *("kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp"),
    *("NTP subsystem", "log audit", "log alert", "clock daemon"),
    *(f"local{number}" for number in range(8)),
)
_HEADER = (
    r"(?s)^<(?P<pri>[0-9]{1,3})>[1-9][0-9]{0,2} (?P<ts>[^ ]+) (?P<hostname>[^ ]+) (?P<app_name>[^ ]+) "
    r"(?P<proc_id>[^ ]+) (?P<msg_id>[^ ]+) "
    r'(?P<sd>-|(?:\[[^\] ="]+(?: +[^ =\]"]+="(?:[^"\\]|\\.)*")* *\])+)(?: (?P<message>.*))?$'
)
# Before the time there may be a sequence number, and a mark that the clock is not set, as Cisco's devices send it.
_OLD = (
    r"(?s)^<(?P<pri>[0-9]{1,3})>(?:[0-9]+: )?[*.]?(?P<ts>[A-Z][a-z]{2} [ 0-9]?[0-9] (?:[0-9]{4} )?"
    r"[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]+)?|[0-9]{4}-[0-9]{2}-[0-9]{2}T[^ ]*[^ :])?:? ?(?P<rest>.*)$"
)
_TAG = r"(?P<app_name>[^ \[\]:]{1,64})(?:\[(?P<proc_id>[^\] ]*)\])?:(?: |$)(?P<message>.*)$"
_HOST = r"(?s)^(?:(?P<hostname>[^ :\[\]]+|[0-9A-Fa-f]*:[0-9A-Fa-f:.]*:[0-9A-Fa-f:.%a-z]*) +)?" + _TAG
_UNTAGGED = r"(?s)^(?P<hostname>[^ ]+) (?P<message>.*)$"
_PARAMETER = re.compile(r' +([^ =\]"]+)="((?:[^"\\]|\\.)*)"', re.DOTALL)
_ELEMENT = re.compile(r'\[([^\] ="]+)((?: +[^ =\]"]+="(?:[^"\\]|\\.)*")*) *\]', re.DOTALL)
_ESCAPE = re.compile(r'\\(["\\\]])')
_MOMENT = Layout("2006-01-02T15:04:05.999999999Z07:00")
_OLD_TIME = re.compile(r"([A-Z][a-z]{2}) +(\d+) (?:(\d{4}) )?(\d\d):(\d\d):(\d\d)(?:\.(\d{1,9})\d*)?")
_AHEAD = 86_400 * 10**9  # ns that a sender's clock may be ahead
_MONTHS = {name: number for number, name in enumerate(calendar.month_abbr) if name}
NAMES = ("severity", "facility", "hostname", "app_name", "proc_id", "msg_id")


@dataclass(frozen=True, slots=True)
class Messages:
    """N messages: `good` bool[N] tells which could be parsed, the other columns hold something for those alone.

    `ts` int64[N] ns, null for none; `message` utf8[N]; `fields`: utf8[N] by NAMES; `sd`: the structured data's text.
    """

    good: np.ndarray
    ts: pa.Array
    message: pa.Array
    fields: dict[str, pa.Array]
    sd: pa.Array


def rfc5424(texts: pa.Array, _now: int) -> Messages:
    """Messages of RFC 5424, with `-` as null and without a message's byte order mark."""
    found = pc.extract_regex(texts, _HEADER)
    good = pc.is_valid(found)
    pri = found.field("pri")
    fields, good = _priority(pri, good)
    for name in ("hostname", "app_name", "proc_id", "msg_id"):
        value = found.field(name)
        fields[name] = pc.if_else(pc.and_(good, pc.not_equal(value, "-")), value, None)
    stamps = pc.if_else(pc.and_(good, pc.not_equal(found.field("ts"), "-")), found.field("ts"), None)
    message = found.field("message")
    if pc.any(pc.starts_with(message, "\ufeff")).as_py():
        message = pc.replace_substring_regex(message, "^\ufeff", "")
    return Messages(good.to_numpy(zero_copy_only=False), _MOMENT.parse(stamps), message, fields, found.field("sd"))


def rfc3164(texts: pa.Array, now: int) -> Messages:
    """Messages of RFC 3164: time without a year or of RFC 3339 or none, host or none, tag or none.

    A time without a zone is local time; one without a year is the last such time that is not more than a day after
    `now` (ns).
    """
    found = pc.extract_regex(texts, _OLD)
    fields, good = _priority(found.field("pri"), pc.is_valid(found))
    timed = pc.and_(good, pc.not_equal(found.field("ts"), ""))
    stamps = pc.if_else(timed, found.field("ts"), None)
    rest = found.field("rest")
    # Without a time there is no host either (RFC 3164 4.3.3).
    tagged = pc.extract_regex(pc.if_else(timed, rest, None), _HOST)
    local = pc.extract_regex(pc.if_else(timed, None, rest), r"(?s)^" + _TAG)
    bare = pc.extract_regex(pc.if_else(pc.and_(timed, pc.is_null(tagged)), rest, None), _UNTAGGED)

    def of(name: str, *sources: pa.Array) -> pa.Array:
        parts = [pc.if_else(pc.is_valid(one), one.field(name), None) for one in sources]
        return pc.if_else(pc.equal(one := pc.coalesce(*parts), ""), None, one)

    fields["hostname"] = of("hostname", tagged, bare)
    fields["app_name"] = of("app_name", tagged, local)
    fields["proc_id"] = of("proc_id", tagged, local)
    fields["msg_id"] = pa.nulls(len(texts), pa.utf8())
    message = pc.coalesce(of("message", tagged, local, bare), pc.if_else(_any(tagged, local), "", rest))
    distinct = stamps.dictionary_encode()
    moments = pa.array([_old_time(text, now) for text in distinct.dictionary.to_pylist()], pa.int64())
    mask = good.to_numpy(zero_copy_only=False)
    return Messages(mask, moments.take(distinct.indices), message, fields, pa.array(["-"] * len(texts), pa.utf8()))


def either(texts: pa.Array, now: int) -> Messages:
    """RFC 5424 where a message is one, RFC 3164 elsewhere."""
    new = rfc5424(texts, now)
    if new.good.all():
        return new
    old = rfc3164(texts, now)
    is_new = pa.array(new.good)

    def chosen(a: pa.Array, b: pa.Array) -> pa.Array:
        return pc.if_else(is_new, a, b)

    fields = {name: chosen(new.fields[name], old.fields[name]) for name in NAMES}
    good = new.good | old.good
    return Messages(good, chosen(new.ts, old.ts), chosen(new.message, old.message), fields, chosen(new.sd, old.sd))


FORMATS: dict[str, Callable[[pa.Array, int], Messages]] = {"rfc5424": rfc5424, "rfc3164": rfc3164, "auto": either}


def _any(*structs: pa.Array) -> pa.Array:
    return functools.reduce(pc.or_, [pc.is_valid(one) for one in structs])


def _priority(pri: pa.Array, good: pa.Array) -> tuple[dict[str, pa.Array], pa.Array]:
    """Severity and facility by name, and which messages are still good: a priority is at most 191."""
    number = pc.cast(pc.if_else(good, pri, "0"), pa.int16())
    good = pc.and_(good, pc.less_equal(number, 191))
    number = pc.min_element_wise(number, pa.scalar(191, pa.int16()))
    severity = pa.array(SEVERITIES).take(pc.bit_wise_and(number, pa.scalar(7, pa.int16())))
    facility = pa.array(FACILITIES).take(pc.shift_right(number, pa.scalar(3, pa.int16())))
    return {"severity": severity, "facility": facility}, good


def _old_time(text: str | None, now: int) -> int | None:
    """ns of `Oct  5 12:00:00`, with a year or fractions too, or of RFC 3339; None for what is none."""
    if text is None:
        return None
    match = _OLD_TIME.fullmatch(text)
    if match is None:
        moment: int | None = _MOMENT.parse(pa.array([text]))[0].as_py()
        return moment
    month = _MONTHS.get(match[1], 0)
    clock = (int(match[4]), int(match[5]), int(match[6]))
    this = time.localtime(now / 1e9).tm_year
    years = [int(match[3])] if match[3] else [this, this - 1, this + 1]
    fraction = int((match[7] or "").ljust(9, "0"))
    found = []
    for year in years:
        day = int(match[2])
        if month and 1 <= day <= calendar.monthrange(year, month)[1] and clock < (24, 60, 61):
            found.append(int(time.mktime((year, month, day, *clock, 0, 0, -1))) * 10**9 + fraction)
    return max((moment for moment in found if moment <= now + _AHEAD), default=min(found, default=None))


def parameters(sd: str) -> dict[str, str]:
    """The parameters of structured data, by `ID_NAME`; the `@` of an ID becomes `_`, as Promtail does it."""
    found = {}
    for element in _ELEMENT.finditer(sd):
        for name, value in _PARAMETER.findall(element[2]):
            key = re.sub(r"[^A-Za-z0-9_]", "_", f"{element[1]}_{name}")
            found[key] = _ESCAPE.sub(r"\1", value)
    return found
