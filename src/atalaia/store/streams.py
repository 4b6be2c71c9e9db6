"""The registry of streams: every (tenant, label set) has one number for the life of the store."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import orjson
import pyarrow as pa


@dataclass(frozen=True, slots=True)
class Stream:
    """One stream; `text` is the canonical spelling of `labels`."""

    id: int
    tenant: str
    text: str
    labels: Mapping[str, str]


class Streams:
    """Streams by number and by label set. Filled by one thread, read by any."""

    def __init__(self, last: int = 0) -> None:
        """`last`: the highest number that was ever used."""
        self._by_key: dict[tuple[str, str], int] = {}
        self._all: dict[int, Stream] = {}
        self._next = last + 1

    def __getitem__(self, number: int) -> Stream:
        return self._all[number]

    def __len__(self) -> int:
        return len(self._all)

    def restore(self, number: int, tenant: str, text: str) -> None:
        """Put back a stream that the catalogue has."""
        self._all[number] = Stream(number, tenant, text, orjson.loads(text))
        self._by_key[tenant, text] = number
        self._next = max(self._next, number + 1)

    def forget(self, number: int) -> None:
        """Remove a stream that has no entries; when it comes again, it is a new one."""
        stream = self._all.pop(number)
        del self._by_key[stream.tenant, stream.text]

    def number(self, tenant: str, text: str) -> int:
        """The number of a stream, a new one when it was never seen."""
        key = (tenant, text)
        number = self._by_key.get(key)
        if number is None:
            number = self._next
            self.restore(number, tenant, text)
        return number

    def numbers(self, tenant: str, labels: pa.DictionaryArray) -> pa.Array:
        """The stream number of each row (int32)."""
        texts = labels.dictionary.to_pylist()
        indices = labels.indices.to_numpy()
        known = np.zeros(len(texts), np.int32)
        # Only what a row uses: a refused entry's label set may still stand in the dictionary.
        used = np.zeros(len(texts), bool)
        used[indices] = True
        for code in np.flatnonzero(used):
            known[code] = self.number(tenant, texts[code])
        return pa.array(known[indices])

    def since(self, number: int) -> list[Stream]:
        """The streams with higher numbers, in their order."""
        return [self._all[found] for found in range(number + 1, self._next) if found in self._all]

    def unused(self, used: Iterable[np.ndarray]) -> list[int]:
        """The numbers that none of `used` has."""
        found = np.zeros(self._next, bool)
        for numbers in used:
            found[numbers] = True
        return [number for number in self._all if not found[number]]

    def of(self, tenant: str) -> list[Stream]:
        """All streams of a tenant, oldest first."""
        return [stream for stream in list(self._all.values()) if stream.tenant == tenant]
