"""Keeps a server's log files within a limit: the oldest go first, those not yet collected last."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

KINDS = (".json", ".log")
# Undelivered files are kept until the total is this many times the limit: a full disk would stop the server
# itself.
PATIENCE = 4


@dataclass(frozen=True, slots=True)
class Pruned:
    """`removed` had been delivered (or were empty); `lost` had not, but the disk would have filled."""

    removed: tuple[Path, ...] = ()
    lost: tuple[Path, ...] = ()


def prune(log: Path, limit: int, delivered: Callable[[Path], bool]) -> Pruned:
    """Remove finished log files, oldest first, until their total is at most `limit` bytes.

    The newest file of each kind is being written to and is never touched; empty finished files always go.
    """
    finished: list[tuple[str, Path, int]] = []
    for kind in KINDS:
        # Names hold the UTC time, so they sort by age.
        finished += [(path.stem, path, path.stat().st_size) for path in sorted(log.glob(f"postgresql-*{kind}"))[:-1]]
    total = sum(size for _, _, size in finished)
    removed: list[Path] = []
    lost: list[Path] = []
    for _, path, size in sorted(finished):
        if size and total <= limit:
            continue
        if not size or delivered(path):
            removed.append(path)
        elif total > PATIENCE * limit:
            lost.append(path)
        else:
            continue
        path.unlink(missing_ok=True)
        total -= size
    return Pruned(tuple(removed), tuple(lost))


def trim_stderr(stderr: Path, limit: int, delivered: Callable[[Path], bool]) -> bool:
    """Empty a stderr.log larger than `limit` bytes; whether that was done. Only for a server that does not
    run.

    One that was not yet delivered is spared until it is four times as large.
    """
    try:
        size = stderr.stat().st_size
    except FileNotFoundError:
        return False
    if size <= limit or not (delivered(stderr) or size > PATIENCE * limit):
        return False
    with stderr.open("r+b") as file:
        file.truncate(0)
    return True
