"""The messages of a tail, in the form of today's path and in that of the old one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import orjson

from atalaia.api import answers
from atalaia.logql.entry import Entry
from atalaia.logql.literals import quote
from atalaia.query.tail import Dropped


def frame(entries: Sequence[Entry], dropped: Sequence[Dropped], categorised: bool) -> str:
    """A message of /loki/api/v1/tail."""
    found: dict[str, object] = {"streams": orjson.Fragment(b"".join(answers.stream_list(entries, categorised)))}
    if dropped:
        found["dropped_entries"] = [{"timestamp": str(one.ts), "labels": dict(one.labels)} for one in dropped]
    if categorised:
        found["encodingFlags"] = ["categorize-labels"]
    return orjson.dumps(found).decode()


def old_frame(entries: Sequence[Entry], dropped: Sequence[Dropped], _: bool) -> str:
    """A message of /api/prom/tail: labels in LogQL's spelling, times in RFC 3339."""
    by_stream: dict[str, list[dict[str, str]]] = {}
    for entry in entries:
        by_stream.setdefault(_spelled(entry.all()), []).append({"ts": rfc3339(entry.ts), "line": entry.line})
    found = {
        "streams": [{"labels": labels, "entries": some} for labels, some in by_stream.items()],
        "dropped_entries": [{"Timestamp": rfc3339(one.ts), "Labels": _spelled(one.labels)} for one in dropped] or None,
    }
    return orjson.dumps(found).decode()


def _spelled(labels: Mapping[str, str]) -> str:
    return "{" + ", ".join(f"{name}={quote(labels[name])}" for name in sorted(labels)) + "}"


def rfc3339(ns: int) -> str:
    """A moment in UTC with as many digits as it needs, as Go's RFC3339Nano."""
    seconds, rest = divmod(ns, 10**9)
    fraction = f".{rest:09d}".rstrip("0") if rest else ""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}{fraction}Z"
