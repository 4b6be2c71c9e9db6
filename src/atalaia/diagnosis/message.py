"""A stored PostgreSQL line taken apart: severity, message, and the parts that follow it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

SEVERITIES = ("DEBUG", "INFO", "NOTICE", "LOG", "WARNING", "ERROR", "FATAL", "PANIC")
# A line taken from stderr may still carry its log_line_prefix, which begins with the time.
_HEAD = re.compile(r"(?:\d{4}-\d\d-\d\d [^\n]{0,200}? )?(DEBUG[1-5]?|INFO|NOTICE|LOG|WARNING|ERROR|FATAL|PANIC):  ")
_PART = re.compile(r"\n(?:\d{4}-\d\d-\d\d [^\n]{0,200}? )?(DETAIL|HINT|QUERY|CONTEXT|LOCATION|STATEMENT|BACKTRACE):  ")
# Longer messages exist (a statement in a message); what tells their kind stands at the beginning.
_LIMIT = 16_384
_DIGIT_TOKEN = re.compile(r"[^\s\"]*\d[^\s\"]*")
_QUOTED = re.compile(r'"[^"\n]*"')
VARIABLE = "…"


@dataclass(frozen=True, slots=True)
class Message:
    """`severity` as written (DEBUG1 to DEBUG5 are DEBUG), the bare message, and DETAIL, HINT, STATEMENT and
    so on.
    """

    severity: str
    text: str
    parts: Mapping[str, str] = field(default_factory=dict)


def parse(line: str, severity: str = "") -> Message:
    """The parts of `line`; `severity` is used when the line does not tell its own. Never raises."""
    # Lone surrogates cannot be handed to RE2; they have no meaning in a log either.
    clean = line[:_LIMIT].encode("utf-8", "replace").decode("utf-8")
    head = _HEAD.match(clean)
    if head:
        severity = "DEBUG" if head[1].startswith("DEBUG") else head[1]
        clean = clean[head.end() :]
    pieces = _PART.split(clean)
    parts = dict(zip(pieces[1::2], pieces[2::2], strict=True))
    return Message(severity, pieces[0].rstrip(), parts)


def template(text: str) -> str:
    """`text` with what varies taken out: quoted names, and every token that holds a digit."""
    return _DIGIT_TOKEN.sub(VARIABLE, _QUOTED.sub(f'"{VARIABLE}"', text.split("\n", 1)[0]))[:300]
