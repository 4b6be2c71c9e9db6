"""Label filters over one entry; conditions.py says the same in SQL."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import cast

from . import values
from .addresses import holds_address
from .conditions import FILTER_ERROR
from .extract import DETAILS, ERROR
from .operators import MatchOp
from .select import matcher_test
from .tree import And, Comparison, Condition, IpMatch, Matcher, Or

Fault = dict[str, str]


def judge(tree: Condition, get: Callable[[str, str | None], str | None], fault: Fault) -> tuple[bool, Fault]:
    """Whether an entry passes, and its error afterwards. `get` gives a label's value, or the default."""
    if isinstance(tree, (And, Or)):
        left, fault = judge(tree.left, get, fault)
        if left and isinstance(tree, Or):
            return True, fault
        right, fault = judge(tree.right, get, fault)
        return (left and right) if isinstance(tree, And) else right, fault
    if isinstance(tree.value, str):
        value = fault.get(tree.name, "") if tree.name in (ERROR, DETAILS) else get(tree.name, "")
        return _text_test(tree)(value or ""), fault
    if isinstance(tree.value, IpMatch):
        value = get(tree.name, None)
        found = value is not None and holds_address(value, tree.value.pattern) == (tree.op == "=")
        return ERROR in fault or found, fault
    value = None if tree.name in (ERROR, DETAILS) else get(tree.name, None)
    if value is None:
        return False, fault
    return (True, fault) if ERROR in fault else _compare(tree, value)


@lru_cache(maxsize=256)
def _text_test(tree: Comparison) -> Callable[[str], bool]:
    assert isinstance(tree.value, str)
    return matcher_test(Matcher(tree.name, cast("MatchOp", tree.op), tree.value))


def _compare(tree: Comparison, text: str) -> tuple[bool, Fault]:
    kind, wanted = values.kind_of(tree.value)
    code = values.compare(text, kind, tree.op, wanted)
    if code == values.UNREADABLE:
        return True, {ERROR: FILTER_ERROR, DETAILS: values.complaint(text, kind)}
    return code == values.PASSES, {}
