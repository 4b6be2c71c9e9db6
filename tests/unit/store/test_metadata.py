"""Metadata split into columns and joined again is what it was."""

from __future__ import annotations

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from atalaia.store.batch import METADATA
from atalaia.store.metadata import frequent_keys, join, split

_KEYS = st.sampled_from(["pid", "user", "odd key", "é", ""])
_ENTRY = st.none() | st.dictionaries(_KEYS, st.text(max_size=3), max_size=4)


@given(st.lists(_ENTRY, max_size=12), st.lists(_KEYS, unique=True), st.integers(0, 3))
def test_joined_is_what_was_split(found: list[dict[str, str] | None], keys: list[str], skipped: int) -> None:
    column = pa.array([None if entry is None else list(entry.items()) for entry in found], METADATA).slice(skipped)
    rest, own = split(column, tuple(keys))
    for key, texts in own.items():
        assert texts.to_pylist() == [(entry or {}).get(key) for entry in found[skipped:]]
    assert not any(key in keys for pairs in rest.to_pylist() for key, _ in pairs or [])
    again = [None if pairs is None else dict(pairs) for pairs in join(rest, own).to_pylist()]
    # What has no pairs is null.
    assert again == [entry or None for entry in found[skipped:]]


def test_keys_of_one_entry_in_sixteen_are_frequent() -> None:
    entries = [[("often", "1")] + ([("seldom", "1")] if n == 0 else []) + [("odd key", "1")] for n in range(17)]
    assert frequent_keys(pa.array(entries, METADATA)) == ("often",)
    assert frequent_keys(pa.array(entries[:16], METADATA)) == ("often", "seldom")
    assert frequent_keys(pa.array([None, None], METADATA)) == ()
    assert frequent_keys(pa.array([], METADATA)) == ()
