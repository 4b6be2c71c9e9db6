"""Every kind of line filter of LogQL through index, fresh segments and memory, against the same filters in Python."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.integration.logs_support import entries, opened, wait_for

from atalaia.logql.linefilters import line_test
from atalaia.logql.tree import LineFilter, LineMatch, LogQuery, Matcher, Selector
from atalaia.query.engine import Engine
from atalaia.query.execute import Executor
from atalaia.store import band, compact
from atalaia.store.options import Options

_NUMBERS = ["x1", "42", "1234567", "a1b2c3", "10.0.0.7", "10.0.77.1", "fe80::1"]
_WORDS = ["ERROR", *_NUMBERS, " ", "id = ", "é", "<", "_", "\0", "\x11"]
_LINE = st.lists(st.sampled_from(_WORDS), max_size=6).map("".join)
_REGEX = st.sampled_from([r"id = \d+", "ERROR|x1", r"^\w", "12345[67] ?", "(?i)error", r"[^ ]$", r"10\.0\.0\.7", ""])
_PATTERN = st.sampled_from(["<_>id = <_>", "ERROR<_>", "<_> 1234567<_>", "<_>x1", "<_>10.0.<_>", "id = <_> <_>"])
_ADDRESS = st.sampled_from(["10.0.0.0/8", "10.0.0.1-10.0.0.9", "10.0.77.1", "fe80::/16"])


def _stage(ops: list[str], values: st.SearchStrategy[str], ip: bool = False) -> st.SearchStrategy[LineFilter]:
    matches = st.lists(values.map(lambda value: LineMatch(value, ip)), min_size=1, max_size=2)
    return st.builds(LineFilter, st.sampled_from(ops), matches.map(tuple))


_STAGE = st.one_of(
    _stage(["|=", "!="], _LINE),
    _stage(["|~", "!~"], _REGEX),
    _stage(["|>", "!>"], _PATTERN),
    _stage(["|=", "!="], _ADDRESS, ip=True),
)


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    found = Engine()
    yield found
    found.close()


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(_LINE, min_size=1, max_size=12), min_size=3, max_size=3),
    st.lists(st.lists(_STAGE, min_size=1, max_size=3), min_size=1, max_size=6),
)
def test_line_filters_equal_python(
    tmp_path_factory: pytest.TempPathFactory,
    engine: Engine,
    pushes: list[list[str]],
    filters: list[list[LineFilter]],
) -> None:
    directory = tmp_path_factory.mktemp("filters")
    with pytest.MonkeyPatch.context() as patched:
        # Bands and row groups of a few lines, so that a small segment has many.
        patched.setattr(compact, "BAND_BYTES", 80)
        patched.setattr(band, "_LEAST", 10)
        patched.setattr(band, "_MOST", 30)
        with opened(directory, Options(idle_seconds=0.02)) as store:
            assert store.append(entries(pushes[0]), "fake").result(20).rows
            store.flush()
            wait_for(lambda: store.settled and all(found.level == 1 for found in store._shelf.segments))
        with opened(directory) as store:
            assert store.append(entries(pushes[1]), "fake").result(20).rows
            store.flush()
            assert store.append(entries(pushes[2]), "fake").result(20).rows
            executor = Executor(store, engine)
            for stages in filters:
                query = LogQuery(Selector((Matcher("job", "=", "test"),)), tuple(stages))
                found = executor.logs(query, ("fake",), 0, 2**62, 1000, False)
                tests = [line_test(stage) for stage in stages]
                wanted = [line for lines in pushes for line in lines if all(test(line) for test in tests)]
                assert sorted(entry.line for entry in found) == sorted(wanted)
