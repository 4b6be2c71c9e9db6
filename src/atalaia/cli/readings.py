"""What a query is, does and reads, as `query --explain` shows it."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping
from typing import Any

from atalaia.cli.common import console, table

_REASONS = ("time", "streams", "templates", "tokens")


def print_readings(explained: Mapping[str, Any]) -> None:
    """The query's tree, its SQL, and a row a segment or memory table that was read.

    A row has its row groups, those that were read, their entries, and why the others were not.
    """
    print(explained["query"])
    for statement in dict.fromkeys(explained["statements"]):
        print(f"\n{statement}")
    readings = explained["readings"]
    rows = [_row(reading["name"], reading) for reading in readings]
    total: Counter[str] = Counter()
    passed_over: Counter[str] = Counter()
    for reading in readings:
        total.update({name: reading[name] for name in ("rows", "groups", "read")})
        passed_over.update(reading["passed_over"])
    rows.append(_row("total", {**total, "passed_over": passed_over}))
    first, *others = (reason.upper() for reason in _REASONS)
    print()
    console().print(table(["SEGMENT", "ROW GROUPS", "READ", "ENTRIES", f"PASSED OVER: {first}", *others], rows))
    if explained["failed"]:
        print(f"no answer: {explained['failed']}", file=sys.stderr)
    else:
        print(f"{explained['passed']:,} entries passed, in {explained['seconds'] * 1e3:,.1f} ms")


def _row(name: str, reading: Mapping[str, Any]) -> list[str]:
    # What has no index is read as a whole.
    groups, read = (f"{reading.get(key, 0):,}" if reading.get("groups") else "-" for key in ("groups", "read"))
    passed = [f"{reading['passed_over'].get(reason, 0):,}" for reason in _REASONS]
    return [name, groups, read, f"{reading.get('rows', 0):,}", *passed]
