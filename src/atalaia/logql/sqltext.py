"""Pieces of SQL text."""

from __future__ import annotations


def literal(text: str) -> str:
    """A string as a SQL literal; NUL, which SQL text cannot hold, by way of chr(0)."""
    quoted = "'" + text.replace("'", "''") + "'"
    return f"({quoted})".replace("\0", "' || chr(0) || '") if "\0" in text else quoted


def let(name: str, value: str, result: str) -> str:
    """SQL of `result`, in which `name` stands for `value`. DuckDB makes equal parts of a WHERE or a CASE anew.

    `result` should have no long regular expression: DuckDB would compile it for each 2,048 rows.
    """
    return f"list_transform([{value}], lambda {name}: {result})[1]"
