from __future__ import annotations

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from atalaia.store.streams import Streams

TEXTS = [f'{{"a":"{n}"}}' for n in range(6)]


@given(st.lists(st.lists(st.integers(0, 5), max_size=8), max_size=4))
def test_each_row_has_its_stream_and_no_other_stream_is_made(batches: list[list[int]]) -> None:
    streams = Streams()
    for codes in batches:
        labels = pa.DictionaryArray.from_arrays(pa.array(codes, pa.int32()), pa.array(TEXTS))
        found = streams.numbers("t", labels)
        assert found.type == pa.int32()
        assert [streams[number].text for number in found.to_pylist()] == [TEXTS[code] for code in codes]
    assert {stream.text for stream in streams.of("t")} == {TEXTS[code] for codes in batches for code in codes}
