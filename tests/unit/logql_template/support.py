"""Templates over one entry."""

from __future__ import annotations

from atalaia.logql.entry import Entry
from atalaia.logql.formatting import compiled
from atalaia.logql.template.data import LabelMap

TS = 1_700_000_000_123_456_789  # 2023-11-14 22:13:20 UTC
LABELS = {"level": "error", "n": "5", "path": "/a b/é", "empty": "", "js": '{"a":{"b":[1,2.5,"x"]},"t":true,"z":null}'}


def made(template: str, line: str = "the line") -> str:
    """What a template makes of `LABELS`."""
    return compiled(template)(Entry(TS, line, LABELS, {}), LabelMap(LABELS))
