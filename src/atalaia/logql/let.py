"""SQL expressions that name a value, so that it is made once however often it is looked at."""

from __future__ import annotations


def let(name: str, value: str, result: str) -> str:
    """SQL of `result`, in which `name` stands for `value`. DuckDB makes equal parts of a WHERE or a CASE anew."""
    return f"list_transform([{value}], lambda {name}: {result})[1]"
