"""The reference log: PostgreSQL-like lines, the same bytes every time.

Same shape and proportions as the set that the design's figures were measured on; made with NumPy's generator, so that
4 million lines take seconds.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

_USERS = np.array(["app", "report", "billing", "postgres"])
_BLOCK = 100_000
_FIRST = 1_723_160_000_000  # ms since 1970


def write(path: Path, lines: int, seed: int = 7) -> None:
    """Write `lines` lines to `path`."""
    rng = np.random.default_rng(seed)
    now = _FIRST
    with path.open("wb") as file:
        left = lines
        while left:
            count = min(left, _BLOCK)
            steps = rng.integers(0, 9, count)
            ms = now + np.cumsum(steps)
            now = int(ms[-1])
            file.write(_block(rng, ms))
            left -= count


def _block(rng: np.random.Generator, ms: np.ndarray) -> bytes:
    count = len(ms)
    user = _text(_USERS[rng.integers(0, 4, count)])
    pid = _number(rng.integers(100, 4001, count))
    moment = pc.strftime(pa.array(ms, pa.timestamp("ms")), "%Y-%m-%d %H:%M:%S")
    head = _join(moment, " UTC [", pid, "] ", user, "@prod ")

    def whole(low: int, high: int) -> pa.Array:
        return _number(rng.integers(low, high + 1, count))

    def decimal(values: np.ndarray, digits: int) -> pa.Array:
        return _text(np.char.mod(f"%.{digits}f", values))

    table = _join("t_", whole(0, 199))
    kinds = [
        _join(
            "LOG:  duration: ", decimal(rng.exponential(30, count), 3), " ms  statement: SELECT * FROM ", table,
            " WHERE id = ", whole(1, 10**7), " AND created_at > '2024-0", whole(1, 9), "-1", whole(0, 9), "'",
        ),
        _join("LOG:  connection received: host=10.0.", whole(0, 3), ".", whole(1, 254), " port=", whole(30000, 65000)),
        _join("LOG:  connection authorized: user=", user, " database=prod application_name=worker-", whole(1, 40)),
        _join(
            "LOG:  disconnection: session time: 0:00:", whole(10, 59), ".", whole(100, 999), " user=", user,
            " database=prod host=10.0.0.", whole(1, 254), " port=", whole(30000, 65000),
        ),
        _join(
            "LOG:  checkpoint complete: wrote ", whole(1, 16000), " buffers (", decimal(rng.random(count) * 100, 1),
            "%); 0 WAL file(s) added, 0 removed, ", whole(0, 33), " recycled; write=",
            decimal(rng.random(count) * 270, 3), " s, sync=0.0", whole(10, 99), " s, total=",
            decimal(rng.random(count) * 270, 3), " s",
        ),
        _join('ERROR:  duplicate key value violates unique constraint "', table, '_pkey"'),
        _join("LOG:  invalid length of startup packet", pa.array([""] * count)),
        _join('FATAL:  password authentication failed for user "', user, '"'),
    ]  # fmt: skip
    which = np.searchsorted([0.45, 0.6, 0.75, 0.88, 0.95, 0.98, 0.99], rng.random(count), side="right")
    message = pc.choose(pa.array(which), *kinds)
    return b"\n".join(_join(head, message).to_numpy(zero_copy_only=False).astype(object).astype("S").tolist()) + b"\n"


def _number(values: np.ndarray) -> pa.Array:
    return pa.array(values).cast(pa.utf8())


def _text(values: np.ndarray) -> pa.Array:
    return pa.array(values.tolist(), pa.utf8())


def _join(*parts: pa.Array | str) -> pa.Array:
    return pc.binary_join_element_wise(*parts, "")


if __name__ == "__main__":
    write(Path(sys.argv[2]), int(sys.argv[1]))
