"""How bad a line is: by its labels, else by its first words; and the colour of that on a terminal."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping

LABELS = ("severity", "level", "detected_level")
_NAMES = {
    "fatal": ("fatal", "panic", "critical", "crit", "emerg", "emergency", "alert"),
    "error": ("error", "err", "severe"),
    "warning": ("warning", "warn"),
    "info": ("info", "information", "informational", "notice", "log", "statement"),
    "debug": ("debug", "debug1", "debug2", "debug3", "debug4", "debug5", "trace"),
}
_KNOWN = {name: severity for severity, names in _NAMES.items() for name in names}
SEVERITIES = (*_NAMES, "other")
"""From the worst down; "other" where nothing tells."""
_WORDS = re.compile(r"\b(?:FATAL|PANIC|CRITICAL|ERROR|WARNING|WARN|INFO|NOTICE|LOG|DEBUG|TRACE)\b|level=(\w+)", re.I)
_LOOKED_AT = 300  # characters of a line
_CODES = {"fatal": "1;31", "error": "31", "warning": "33", "debug": "2"}


def severity_of_labels(labels: Mapping[str, str]) -> str:
    """One of SEVERITIES."""
    for name in LABELS:
        if found := _KNOWN.get(labels.get(name, "").lower()):
            return found
    return "other"


def severity_of(labels: Mapping[str, str], line: str) -> str:
    """One of SEVERITIES, of a line's labels (with its metadata), else of a word in its beginning."""
    found = severity_of_labels(labels)
    if found == "other" and (word := _WORDS.search(line[:_LOOKED_AT])):
        return _KNOWN.get((word[1] or word[0]).lower(), "other")
    return found


def colourful() -> bool:
    """Whether standard output takes colours."""
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    return sys.stdout.isatty() and os.environ.get("TERM") != "dumb"


def coloured(text: str, code: str | None) -> str:
    """Text with the escape sequence of a colour around it; as it is without one."""
    return f"\x1b[{code}m{text}\x1b[0m" if code else text


def code_of(severity: str) -> str | None:
    """The escape code of a severity's colour."""
    return _CODES.get(severity)
