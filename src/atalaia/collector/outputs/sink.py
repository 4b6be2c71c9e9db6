"""What an output's sink is: it takes batches in order, and says what became of them."""

from __future__ import annotations

import bisect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np
import pyarrow as pa

from atalaia.store.batch import Source


@dataclass(frozen=True, slots=True)
class Answer:
    """What a sink said: taken; or not, because its sources stand elsewhere (`conflict`); `refused` is a message.

    `changed`: there is another kind of server now, and nothing of the batch was taken for sure.
    """

    conflict: Mapping[str, int] | None = None
    refused: str | None = None
    changed: bool = False


class Unreachable(Exception):
    """The sink cannot take the batch now; the same batch is to be sent again, after `retry_after` seconds if given."""

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


@dataclass(frozen=True, slots=True)
class Origin:
    """A batch's rows of one source, in order: the lines of its block that each was made of, from `first` to `last`.

    `offset_of`: the byte of the source at which a line begins.
    """

    first: np.ndarray
    last: np.ndarray
    offset_of: Callable[[int], int]

    def __len__(self) -> int:
        return len(self.last)

    def behind(self, offset: int) -> np.ndarray:
        """bool[N]: the rows that end behind `offset`, a byte at which a line begins."""
        most = int(self.last.max(initial=-1)) + 1
        line = bisect.bisect_left(range(most + 1), offset, key=self.offset_of)
        return np.asarray(self.last >= line)


@dataclass(frozen=True, slots=True)
class Rows:
    """Where the rows of a batch come from: an origin a source, in order.

    `tenants` utf8[N]: null is the output's own; None: all are.
    """

    origins: tuple[Origin, ...]
    tenants: pa.Array | None = None


Delivery: TypeAlias = Callable[[], Answer]


class Sink(Protocol):
    """Takes one batch at a time, in order."""

    @property
    def plans(self) -> bool:
        """Whether a batch must be the same again after a restart: same lines, same times."""

    @property
    def linger(self) -> float:
        """Seconds for which few lines may wait for more."""

    def prepare(self, batch: pa.Table, sources: Sequence[Source], rows: Rows) -> Delivery:
        """Encode, which needs no sink yet; what is returned delivers, and returns once that is acknowledged.

        It raises Unreachable, and may be called again then.
        """

    def positions(self, ids: Sequence[str]) -> dict[str, int]:
        """Up to where the sink has each source, for those that it knows. Raises Unreachable."""

    def close(self) -> None:
        """Close connections."""
