"""Label filters as SQL.

A text comparison is a plain boolean. A number, duration or size that cannot be read is Loki's LabelFilterErr: the entry
passes and is marked, and more such comparisons let a marked entry pass. Without the label an entry never passes them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from . import amounts, values
from .extract import ERROR
from .sqltext import literal
from .tree import And, Comparison, Condition, IpMatch, Or

FILTER_ERROR = "LabelFilterErr"


class Inexpressible(Exception):
    """SQL cannot say this; rows.py can."""


class Labels(Protocol):
    """Whoever knows the SQL of a label's value, NULL where an entry has no such label."""

    def label(self, name: str) -> str:
        """The SQL."""
        ...


@dataclass(frozen=True, slots=True)
class Test:
    """`passes`: whether an entry without an error passes; `marked`: whether one with an error does.

    `fault`: whether the test marks an entry that had no error; None when it never does.
    """

    passes: str
    marked: str
    fault: str | None


def conjunction(tree: Condition) -> list[Condition]:
    """What must hold, one after the other."""
    return [*conjunction(tree.left), *conjunction(tree.right)] if isinstance(tree, And) else [tree]


def _alternatives(tree: Condition) -> list[Condition]:
    return [*_alternatives(tree.left), *_alternatives(tree.right)] if isinstance(tree, Or) else [tree]


def names_in(tree: Condition) -> list[str]:
    """The labels that a condition compares."""
    return [*names_in(tree.left), *names_in(tree.right)] if isinstance(tree, (And, Or)) else [tree.name]


def test(tree: Condition, labels: Labels) -> Test:
    """SQL of one condition. Raises Inexpressible."""
    kinds = _kinds(tree)
    if kinds == {str}:
        sql = _boolean(tree, labels)
        return Test(sql, sql, None)
    code = _code(tree, labels)
    # DuckDB would make the code of `IN (1, 2)` twice.
    return Test(f"({code} % 3 <> 0)", _boolean(tree, labels), f"({code} >= 2)" if kinds - {str, IpMatch} else None)


def _kinds(tree: Condition) -> set[type]:
    """What labels are compared with."""
    if isinstance(tree, (And, Or)):
        return _kinds(tree.left) | _kinds(tree.right)
    return {type(tree.value)}


def _boolean(tree: Condition, labels: Labels, error: str | None = None) -> str:
    """Whether an entry passes that has an error already: any comparison of addresses, others but of text with a label.

    `error` is the SQL of that error, unless it is the one that the labels know.
    """
    if isinstance(tree, (And, Or)):
        left, right = _boolean(tree.left, labels, error), _boolean(tree.right, labels, error)
        return f"({left} {'AND' if isinstance(tree, And) else 'OR'} {right})"
    if isinstance(tree.value, IpMatch):
        return "true"
    if not isinstance(tree.value, str):
        return "false" if tree.name == ERROR else f"({labels.label(tree.name)} IS NOT NULL)"
    return text_test(tree.op, tree.value, error if error and tree.name == ERROR else labels.label(tree.name))


def text_test(op: str, value: str, label: str) -> str:
    """SQL of whether a label's text, "" for none, is or matches a value."""
    text = f"COALESCE({label}, '')"
    if op in ("=", "!="):
        return f"({text} {'=' if op == '=' else '<>'} {literal(value)})"
    test = f"regexp_full_match({text}, {literal(value)}, 's')"
    return f"(NOT {test})" if op == "!~" else test


# An entry without an error, tested, is one of: 0 fails, 1 passes, 2 passes and is marked, 3 fails and is marked.
# The result of `left and right` by (left, right, whether right lets a marked entry pass), and that of `or`.
_STATES = [(left, right, marked) for left in range(4) for right in range(4) for marked in (False, True)]
_AND = "".join(str([3 if right >= 2 else 0, right, 2 if marked else 3, 3][left]) for left, right, marked in _STATES)
_OR = "".join(str([right, 1, 2, 2 if marked else 3][left]) for left, right, marked in _STATES)


def _code(tree: Condition, labels: Labels) -> str:
    """SQL of that number. Each part stands in it once, so that it does not grow with the depth of the tree."""
    parts = _alternatives(tree)
    if len(parts) > 1 and all(isinstance(part, Comparison) for part in parts):
        # A single comparison never fails and marks.
        return f"COALESCE({', '.join(f'NULLIF({_code(part, labels)}, 0)' for part in parts)}, 0)"
    if isinstance(tree, (And, Or)):
        left, right = _code(tree.left, labels), _code(tree.right, labels)
        marked = _boolean(tree.right, labels, literal(FILTER_ERROR))
        table = _AND if isinstance(tree, And) else _OR
        return f"substr('{table}', {left} * 8 + {right} * 2 + {marked}::INTEGER + 1, 1)::INTEGER"
    label = "NULL::VARCHAR" if tree.name == ERROR else labels.label(tree.name)
    if isinstance(tree.value, IpMatch):
        found = f"holds_address({label}, {literal(tree.value.pattern)})"
        return f"COALESCE({found if tree.op == '=' else f'NOT {found}'}, false)::INTEGER"
    if isinstance(tree.value, str):
        return f"{text_test(tree.op, tree.value, label)}::INTEGER"
    kind, wanted = values.kind_of(tree.value)
    return amounts.code(label, kind, tree.op, wanted)
