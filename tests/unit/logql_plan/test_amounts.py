"""Numbers, durations and sizes in SQL beside the functions of one value."""

from __future__ import annotations

import math

from hypothesis import given, settings
from hypothesis import strategies as st

from atalaia.logql import amounts, values
from atalaia.logql.sqltext import literal
from atalaia.logql.unwrap import read
from atalaia.query.engine import Engine

DIGITS = st.sampled_from(
    ["0", "1", "1.5", "999999999.999999999", "0.000000001", "1000", "3.", ".5", "007", "-2", "+1", "1e3", "12345678901"]
)
UNITS = st.sampled_from(
    ["", "ns", "us", "µs", "μs", "ms", "s", "m", "h", "d", "B", "kB", "KiB", " mb", "MIB", "g", "x", " "]
)
TEXTS = st.builds("{}{}".format, DIGITS, UNITS) | st.sampled_from(
    ["", "1h2m", "NaN", "inf", "1,5kB", "abc", "1s ", "\n1s"]
)
WANTED = st.sampled_from([0, 1, 5, 1000, 1500, 10**9, 1_500_000_000, 3600 * 10**9, 999999999999999999, 10**18, -1])
OPERATORS = st.sampled_from(["==", "!=", ">", ">=", "<", "<="])


@given(st.lists(TEXTS, min_size=1, max_size=20), WANTED, OPERATORS, st.sampled_from(list(values.READERS)))
@settings(max_examples=60, deadline=None)
def test_beside_python(engine: Engine, texts: list[str], wanted: int, op: str, kind: str) -> None:
    rows = ", ".join(f"({literal(text)})" for text in texts)
    columns = f"t, {amounts.code('t', kind, op, float(wanted))}, {amounts.read('t', kind)}"
    with engine.cursor() as connection:
        found = connection.execute(f"SELECT {columns} FROM (VALUES {rows}) AS v(t)").fetchall()
    for text, code, value in found:
        assert code == values.compare(text, kind, op, float(wanted)), (text, kind, op, wanted)
        expected = read(text, kind)
        same = expected == value or (expected is not None and math.isnan(expected) and math.isnan(value))
        assert same, (text, kind, expected, value)
