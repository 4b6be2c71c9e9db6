"""Which numbers were met: as a set would tell."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from atalaia.store.rebuild import Taken


@given(st.lists(st.lists(st.integers(0, 40), max_size=15), max_size=6))
def test_taken_equals_a_set(added: list[list[int]]) -> None:
    taken, known = Taken(), set[int]()
    asked = np.arange(-1, 43)
    for numbers in added:
        assert taken.has(asked).tolist() == [number in known for number in asked.tolist()]
        taken.add(np.array(numbers, np.int64))
        known.update(numbers)
    assert taken.has(asked).tolist() == [number in known for number in asked.tolist()]
