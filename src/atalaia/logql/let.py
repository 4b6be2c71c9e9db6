"""SQL expressions that name a value, so that it is made once however often it is looked at."""

from __future__ import annotations


def let(name: str, value: str, result: str) -> str:
    """SQL of `result`, in which `name` stands for `value`. DuckDB makes equal parts of a WHERE or a CASE anew.

    `result` should have no long regular expression: DuckDB would compile it for each 2,048 rows.
    """
    return f"list_transform([{value}], lambda {name}: {result})[1]"
