"""The log queries inside any query."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass

from .tree import LogQuery


def log_queries(tree: object) -> Iterator[LogQuery]:
    """In the order of the text."""
    if isinstance(tree, LogQuery):
        yield tree
    elif is_dataclass(tree):
        for field in fields(tree):
            yield from log_queries(getattr(tree, field.name))
