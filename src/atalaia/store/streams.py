"""The registry of streams: every (tenant, label set) has one number for the life of the store.

A million streams must be no burden: labels are held as columns of codes, one column a label name, and a stream's own
label set is read from its text when somebody asks for it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

_ABSENT = -1
TENANT = "__tenant_id__"
"""The label that tells tenants apart where several are read at once, as in Loki."""
ORIGINAL = "original___tenant_id__"
"""What a stream's own label of that name is called then."""


@dataclass(frozen=True, slots=True)
class Stream:
    """One stream; `text` is the canonical spelling of `labels`, which is not to be changed."""

    id: int
    tenant: str
    text: str
    labels: Mapping[str, str]

    def seen(self, *, tenanted: bool) -> Mapping[str, str]:
        """Its labels; where several tenants are read at once (`tenanted`), with the label TENANT."""
        return _tenanted(self.tenant, self.text) if tenanted else self.labels


class _Column:
    """A text for each stream number, or none. One thread writes, any may read what was there before."""

    def __init__(self) -> None:
        self.values: list[str] = []
        self._numbers: dict[str, int] = {}
        self._codes = np.full(64, _ABSENT, np.int32)

    def put(self, stream: int, value: str) -> None:
        if stream >= len(self._codes):
            larger = np.full(max(stream + 1, 2 * len(self._codes)), _ABSENT, np.int32)
            larger[: len(self._codes)] = self._codes
            self._codes = larger
        code = self._numbers.get(value)
        if code is None:
            code = self._numbers[value] = len(self.values)
            self.values.append(value)
        self._codes[stream] = code

    def remove(self, stream: int) -> None:
        self._codes[stream] = _ABSENT

    def codes(self, count: int) -> np.ndarray:
        """Positions in `values` of the streams 0 to count - 1."""
        found = self._codes[:count]
        return found if len(found) == count else np.pad(found, (0, count - len(found)), constant_values=_ABSENT)


class Streams:
    """Streams by number and by label set. Filled by one thread, read by any."""

    def __init__(self, last: int = 0) -> None:
        """`last`: the highest number that was ever used."""
        self._numbers: dict[str, dict[str, int]] = {}
        self._texts: list[str | None] = [None] * (last + 1)  # by number; None for a number that no stream has
        self._tenants = _Column()
        self._labels: dict[str, _Column] = {}
        self._count = 0

    def __getitem__(self, number: int) -> Stream:
        text = self._texts[number]
        if text is None:
            raise KeyError(number)
        tenant = self._tenants.values[self._tenants.codes(number + 1)[number]]
        return Stream(number, tenant, text, _labels(text))

    def __len__(self) -> int:
        return self._count

    def restore(self, number: int, tenant: str, text: str) -> None:
        """Put back a stream that the catalogue has."""
        for name, value in orjson.loads(text).items():
            self._labels.setdefault(name, _Column()).put(number, value)
        self._tenants.put(number, tenant)
        self._numbers.setdefault(tenant, {})[text] = number
        self._count += 1
        # Last: a reader takes the length of this list for what is there.
        self._texts += [None] * (number + 1 - len(self._texts))
        self._texts[number] = text

    def forget(self, number: int) -> None:
        """Remove a stream that has no entries; when it comes again, it is a new one."""
        stream = self[number]
        self._texts[number] = None
        del self._numbers[stream.tenant][stream.text]
        self._count -= 1
        for column in (self._tenants, *(self._labels[name] for name in stream.labels)):
            column.remove(number)

    def number(self, tenant: str, text: str) -> int:
        """The number of a stream, a new one when it was never seen."""
        number = self._numbers.get(tenant, {}).get(text)
        if number is None:
            number = len(self._texts)
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
        return [self[found] for found in range(number + 1, len(self._texts)) if self._texts[found] is not None]

    def unused(self, used: Iterable[np.ndarray]) -> list[int]:
        """The numbers that none of `used` has."""
        found = np.zeros(len(self._texts), bool)
        for numbers in used:
            found[numbers] = True
        return [number for number, text in enumerate(self._texts) if text is not None and not found[number]]

    def of(self, tenant: str) -> list[Stream]:
        """All streams of a tenant, oldest first."""
        return [self[number] for number in self.select(tenant).ids.tolist()]

    def select(self, tenant: str, tests: Sequence[tuple[str, Callable[[str], bool]]] = ()) -> Selection:
        """The streams of a tenant whose labels pass all `tests` of (name, test of its value); "" for no such label."""
        return Selection(self, self._chosen({tenant}, tests))

    def across(self, tenants: Iterable[str], tests: Sequence[tuple[str, Callable[[str], bool]]] = ()) -> Selection:
        """The same of several tenants, whose streams have the label TENANT; a test of it chooses among the tenants."""
        chosen = {tenant for tenant in tenants if all(test(tenant) for name, test in tests if name == TENANT)}
        others = [(TENANT if name == ORIGINAL else name, test) for name, test in tests if name != TENANT]
        return Selection(self, self._chosen(chosen, others), tenanted=True)

    def _chosen(self, tenants: Collection[str], tests: Sequence[tuple[str, Callable[[str], bool]]]) -> np.ndarray:
        count = len(self._texts)
        chosen = _passes(self._tenants, count, lambda found: found in tenants)
        for name, test in tests:
            column = self._labels.get(name)
            if column is not None:
                chosen &= _passes(column, count, test)
            elif not test(""):
                chosen[:] = False
        return np.flatnonzero(chosen).astype(np.int32)

    def count(self, numbers: np.ndarray, name: str) -> int:
        """How many of some streams have a label."""
        column = self._labels.get(name)
        return int((column.codes(len(self._texts))[numbers] != _ABSENT).sum()) if column else 0

    def names_of(self, numbers: np.ndarray) -> list[str]:
        """The labels that any of some streams has, sorted."""
        count = len(self._texts)
        columns = list(self._labels.items())  # the writer may add one meanwhile
        return sorted(name for name, column in columns if (column.codes(count)[numbers] != _ABSENT).any())

    def distinct(self, numbers: np.ndarray, name: str) -> list[str]:
        """The values that some streams have for a label, sorted."""
        column = self._labels.get(name)
        if column is None:
            return []
        used = np.unique(column.codes(len(self._texts))[numbers])
        return sorted(column.values[code] for code in used.tolist() if code != _ABSENT)

    def values_of(self, numbers: np.ndarray, name: str) -> pa.Array:
        """A label of some streams (utf8), null where they have none."""
        return self._values(self._labels.get(name), numbers)

    def tenants_of(self, numbers: np.ndarray) -> pa.Array:
        """The tenants of some streams (utf8)."""
        return self._values(self._tenants, numbers)

    def _values(self, column: _Column | None, numbers: np.ndarray) -> pa.Array:
        if column is None:
            return pa.nulls(len(numbers), pa.utf8())
        codes = column.codes(len(self._texts))[numbers]
        used, inverse = np.unique(codes, return_inverse=True)
        texts = pa.array([column.values[code] if code != _ABSENT else None for code in used.tolist()], pa.utf8())
        return texts.take(pa.array(inverse))


def _passes(column: _Column, count: int, test: Callable[[str], bool]) -> np.ndarray:
    codes = column.codes(count)
    if len(column.values) < count:
        every = np.array([*map(test, column.values[:]), test("")], bool)
        return np.asarray(every[codes])
    used = np.unique(codes)
    verdicts = np.array([test(column.values[code]) if code != _ABSENT else test("") for code in used.tolist()], bool)
    return np.asarray(verdicts[np.searchsorted(used, codes)])


class Selection(Mapping[int, Mapping[str, str]]):
    """The label sets of some streams, by number; `ids` ascending (int32). `tenanted`: with the label TENANT."""

    def __init__(self, streams: Streams, ids: np.ndarray, *, tenanted: bool = False) -> None:
        self._streams = streams
        self.ids = ids
        self.tenanted = tenanted

    def __getitem__(self, number: int) -> Mapping[str, str]:
        if number not in self:
            raise KeyError(number)
        return self._streams[number].seen(tenanted=self.tenanted)

    def having(self, name: str) -> int:
        """How many of them have a label."""
        if self.tenanted and name == TENANT:
            return len(self.ids)
        return self._streams.count(self.ids, self._stored(name))

    def _stored(self, name: str) -> str:
        """What a label is called in the store."""
        return TENANT if self.tenanted and name == ORIGINAL else name

    def names_of(self, numbers: np.ndarray) -> list[str]:
        """The labels that any of some streams has, sorted."""
        found = self._streams.names_of(numbers)
        if not self.tenanted or not len(numbers):
            return found
        return sorted({*found, TENANT, *([ORIGINAL] if TENANT in found else [])})

    def distinct(self, numbers: np.ndarray, name: str) -> list[str]:
        """The values that some streams have for a label, sorted."""
        if self.tenanted and name == TENANT:
            return sorted(pc.unique(self._streams.tenants_of(numbers)).to_pylist())
        return self._streams.distinct(numbers, self._stored(name))

    def values_of(self, numbers: np.ndarray, name: str) -> pa.Array:
        """A label of some streams (utf8), null where they have none."""
        if self.tenanted and name == TENANT:
            return self._streams.tenants_of(numbers)
        return self._streams.values_of(numbers, self._stored(name))

    def __iter__(self) -> Iterator[int]:
        return iter(self.ids.tolist())

    def __len__(self) -> int:
        return len(self.ids)

    def __contains__(self, number: object) -> bool:
        at = np.searchsorted(self.ids, number)  # type: ignore[call-overload]  # whatever is asked for
        return bool(at < len(self.ids) and self.ids[at] == number)


@lru_cache(maxsize=1 << 12)
def _tenanted(tenant: str, text: str) -> Mapping[str, str]:
    """The labels of a stream where several tenants are read at once."""
    labels = _labels(text)
    own = {ORIGINAL: labels[TENANT]} if TENANT in labels else {}
    return {**labels, **own, TENANT: tenant}


@lru_cache(maxsize=1 << 16)
def _labels(text: str) -> Mapping[str, str]:
    found: Mapping[str, str] = orjson.loads(text)
    return found
