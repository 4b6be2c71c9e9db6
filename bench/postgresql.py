"""The reference log: PostgreSQL-like lines, 564 MB in 4 million.

Same shape and proportions as the log that the design's figures and the targets were measured on. A shorter log is the
beginning of a longer one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from bench.columns import BLOCK, Draws, blocks, decimal, join, moments, number, padded

NEEDLE = 9_245_039  # an id that exactly two statements name
NEEDLE_BLOCKS = (0, 4)  # where they are, as in the log that the targets were measured on
_FIRST = 1_723_160_000_000  # ms since 1970
_USERS = ("app", "report", "billing", "postgres")
_HUNDREDTHS = (45, 60, 75, 88, 95, 98, 99)  # of the lines, summed up, each kind of message but the last


def log_lines(lines: int) -> Iterator[pa.Array]:
    """The first `lines` lines of the log, block by block."""
    now = _FIRST
    for block, count in blocks(lines):
        draws = Draws(5, block)
        ms = now + np.cumsum(draws.between(0, 8, BLOCK))
        yield _block(draws, block, ms)[:count]
        now = int(ms[-1])


def _block(draws: Draws, block: int, ms: np.ndarray) -> pa.Array:
    user = draws.words(_USERS, BLOCK)
    kind = np.searchsorted(_HUNDREDTHS, draws.between(0, 99, BLOCK), side="right")
    rows = [np.flatnonzero(kind == number) for number in range(len(_KINDS))]
    made = [make(_Rows(draws, block, ms[at], user.take(pa.array(at)))) for make, at in zip(_KINDS, rows, strict=True)]
    message = pa.concat_arrays(made).take(pa.array(np.argsort(np.concatenate(rows))))
    return join(moments(ms), " UTC [", number(draws.between(100, 4000, BLOCK)), "] ", user, "@prod ", message, "\n")


@dataclass(frozen=True, slots=True)
class _Rows:
    """The rows of a block that have one kind of message; a method makes a kind."""

    draws: Draws
    block: int
    ms: np.ndarray
    user: pa.Array

    def _some(self, low: int, high: int) -> pa.Array:
        return number(self.draws.between(low, high, len(self.ms)))

    def _seconds(self) -> pa.Array:
        return decimal(self.draws.between(0, 269_999, len(self.ms)), 3)

    def statement(self) -> pa.Array:
        ids = self.draws.between(1, 10_000_000, len(self.ms))
        ids[ids == NEEDLE] += 1
        if self.block in NEEDLE_BLOCKS:
            ids[0] = NEEDLE
        return join(
            "LOG:  duration: ", decimal(self.draws.durations(30_000, len(self.ms)), 3),
            " ms  statement: SELECT * FROM t_", self._some(0, 199), " WHERE id = ", number(ids),
            " AND created_at > '2024-0", self._some(1, 9), "-1", self._some(0, 9), "'",
        )  # fmt: skip

    def received(self) -> pa.Array:
        return join(
            "LOG:  connection received: host=10.0.", self._some(0, 3), ".", self._some(1, 254),
            " port=", self._some(30_000, 65_000),
        )  # fmt: skip

    def authorized(self) -> pa.Array:
        return join(
            "LOG:  connection authorized: user=", self.user, " database=prod application_name=worker-",
            self._some(1, 40),
        )  # fmt: skip

    def disconnection(self) -> pa.Array:
        session = join(padded(self.draws.between(0, 59, len(self.ms)), 2), ".", padded(self.ms % 1000, 3))
        return join(
            "LOG:  disconnection: session time: 0:00:", session, " user=", self.user,
            " database=prod host=10.0.0.", self._some(1, 254), " port=", self._some(30_000, 65_000),
        )  # fmt: skip

    def checkpoint(self) -> pa.Array:
        return join(
            "LOG:  checkpoint complete: wrote ", self._some(1, 16_000), " buffers (",
            decimal(self.draws.between(0, 999, len(self.ms)), 1), "%); 0 WAL file(s) added, 0 removed, ",
            self._some(0, 33), " recycled; write=", self._seconds(), " s, sync=0.0", self._some(10, 99),
            " s, total=", self._seconds(), " s",
        )  # fmt: skip

    def duplicate(self) -> pa.Array:
        return join('ERROR:  duplicate key value violates unique constraint "t_', self._some(0, 199), '_pkey"')

    def packet(self) -> pa.Array:
        return pa.repeat("LOG:  invalid length of startup packet", len(self.ms))

    def refused(self) -> pa.Array:
        return join('FATAL:  password authentication failed for user "', self.user, '"')


_KINDS = (
    _Rows.statement, _Rows.received, _Rows.authorized, _Rows.disconnection,
    _Rows.checkpoint, _Rows.duplicate, _Rows.packet, _Rows.refused,
)  # fmt: skip
