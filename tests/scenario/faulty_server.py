"""The store's server as a process of its own, with small segments made all the time, and with faults on demand.

    python faulty_server.py DIRECTORY PORT '{"die": "before COMMIT 3"}'

`die` names the moment at which the process kills itself: before, during (when half of it is written) or after the n-th
call of a kind on a kind of file. `clock` is a file with the seconds by which all clocks that can be set are wrong.
Other members are those of Options; `retention_age` is in ns.
"""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from atalaia.api.server import Address, serve
from atalaia.query.engine import QueryLimits
from atalaia.runtime.logs import configure
from atalaia.store.options import Options
from atalaia.store.retention import Retention

DEFAULTS = {"flush_bytes": 24 << 10, "idle_seconds": 0.02, "disk_floor": 0}
POINTS = (
    "during write wal", "before fdatasync wal", "after fdatasync wal", "before fsync wal", "before unlink wal",
    "after unlink wal", "during write partial", "before fsync partial", "before replace parquet",
    "after replace parquet", "before replace index", "after replace index", "after fsync segments", "before COMMIT",
    "after COMMIT", "before unlink parquet", "after unlink parquet", "before unlink index",
)  # fmt: skip


class Death:
    """Counts the calls of one kind, and ends the process at one of them."""

    def __init__(self, when: str, call: str, place: str, number: int) -> None:
        self._when, self._point, self._left = when, (call, place), number

    def due(self, when: str, call: str, place: str) -> bool:
        if (when, (call, place)) != (self._when, self._point):
            return False
        self._left -= 1
        return self._left == 0

    @staticmethod
    def now() -> None:
        os.kill(os.getpid(), signal.SIGKILL)


def place_of(file: object) -> str:
    """What kind of file a path or a descriptor is: its suffix, or a folder's name."""
    path = Path(os.readlink(f"/proc/self/fd/{file}") if isinstance(file, int) else os.fspath(file))  # type: ignore[call-overload]
    return path.suffix.removeprefix(".") or path.name


def arm(death: Death) -> None:
    """Put death in the way of all calls that change what is on disk."""

    def deadly(name: str, place: Callable[..., str]) -> None:
        call = getattr(os, name)

        def called(*arguments: Any, **options: Any) -> Any:
            where = place(*arguments)
            if death.due("before", name, where):
                death.now()
            if name == "write" and death.due("during", name, where):
                call(arguments[0], arguments[1][: len(arguments[1]) // 2])
                death.now()
            result = call(*arguments, **options)
            if death.due("after", name, where):
                death.now()
            return result

        setattr(os, name, called)

    deadly("replace", lambda source, target: place_of(target))
    for name in ("unlink", "fsync", "fdatasync"):
        deadly(name, lambda file: place_of(file))
    deadly("write", lambda descriptor, data: place_of(descriptor))

    class Connection(sqlite3.Connection):
        def execute(self, statement: str, *arguments: Any) -> sqlite3.Cursor:
            if death.due("before", statement, ""):
                death.now()
            result = super().execute(statement, *arguments)
            if death.due("after", statement, ""):
                death.now()
            return result

    connect = sqlite3.connect
    sqlite3.connect = lambda *arguments, **options: connect(*arguments, factory=Connection, **options)


def disturb_clock(file: Path) -> None:
    """Make the clocks that can be set as wrong as `file` says."""
    for name, unit in (("time", 1.0), ("time_ns", 10**9)):
        right = getattr(time, name)
        setattr(time, name, lambda right=right, unit=unit: right() + int(file.read_text()) * unit)


def main(directory: str, port: str, faults: str) -> None:
    settings = DEFAULTS | json.loads(faults)
    if point := settings.pop("die", None):
        when, *call, number = point.split()
        arm(Death(when, call[0], call[1] if len(call) > 1 else "", int(number)))
    if clock := settings.pop("clock", None):
        disturb_clock(Path(clock))
    options = Options(retention=Retention(settings.pop("retention_age", None)), **settings)
    configure("store", None)
    serve(Path(directory), Address("127.0.0.1", int(port)), options, QueryLimits())


if __name__ == "__main__":
    main(*sys.argv[1:])
