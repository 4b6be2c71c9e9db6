"""The one table, and the same as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True)
class Row:
    """One figure. `target`, `raw` (rg on the raw file) and `against` (the other server) are in the same `unit`."""

    what: str
    value: float | None
    unit: str
    target: float | None = None
    raw: float | None = None
    against: float | None = None
    note: str = ""


def render(rows: Sequence[Row], searcher: str, against: str) -> str:
    """The table as text; `against` names the other server, if there is one."""
    kept = [0, 1, 2, *([3] if any(row.raw is not None for row in rows) else []), *([4] if against else []), 5]
    head = ["", "here", "target", f"{searcher} -c", against, ""]
    cells = [head, *(_cells(row) for row in rows)]
    widths = [max(len(line[at]) for line in cells) for at in range(6)]
    return "\n".join(
        "  ".join(line[at].ljust(widths[at]) if at in (0, 5) else line[at].rjust(widths[at]) for at in kept).rstrip()
        for line in cells
    )


def as_json(rows: Sequence[Row]) -> str:
    """The rows as a JSON list of objects with the fields of Row."""
    return json.dumps([asdict(row) for row in rows], indent=1)


def _cells(row: Row) -> list[str]:
    figures = [_figure(value, row.unit) for value in (row.value, row.target, row.raw, row.against)]
    return [row.what, *figures, row.note]


def _figure(value: float | None, unit: str) -> str:
    if value is None:
        return ""
    digits = 0 if abs(value) >= 100 else 1
    return f"{value:,.{digits}f} {unit}"
