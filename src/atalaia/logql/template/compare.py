"""eq, ne, lt, le, gt, ge: values of one kind only."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any

from .gotimes import Moment
from .parse import TemplateError


def _kind(value: Any) -> type:
    return bool if isinstance(value, bool) else str if isinstance(value, str) else type(value)


def _alike(left: Any, right: Any) -> None:
    if _kind(left) is not _kind(right) and left is not None and right is not None:
        raise TemplateError("incompatible types for comparison")


def _equal(left: Any, *others: Any) -> bool:
    if not others:
        raise TemplateError("missing argument for comparison")
    for other in others:
        _alike(left, other)
        if left == other:
            return True
    return False


def _ordered(compare: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    def compared(left: Any, right: Any) -> bool:
        _alike(left, right)
        if isinstance(left, Moment) and isinstance(right, Moment):
            return compare(left.ns, right.ns)
        if not isinstance(left, (str, int, float)) or isinstance(left, bool):
            raise TemplateError("invalid type for comparison")
        return compare(left, right)

    return compared


ORDER: Mapping[str, Callable[..., bool]] = {
    "eq": _equal,
    "ne": lambda left, right: not _equal(left, right),
    "lt": _ordered(operator.lt),
    "le": _ordered(operator.le),
    "gt": _ordered(operator.gt),
    "ge": _ordered(operator.ge),
}
