"""Text to tree: `parse` is the door to the language."""

from functools import cache
from typing import TYPE_CHECKING, Any, cast

from . import tree as t
from .errors import LogQLError

if TYPE_CHECKING:
    from lark import Lark

MAX_LENGTH = 131_072
"""Loki's limit for the length of a query, in bytes."""

MAX_DEPTH = 150
"""How deep operations may nest, so that whoever walks the tree may do so recursively."""


def parse(text: str) -> t.Query:
    """Read a LogQL query, as described at https://grafana.com/docs/loki/latest/query/.

    Raise LogQLError, with line and column, if the text is not a valid query.
    """
    try:
        size = len(text.encode())
    except UnicodeEncodeError as error:
        line, column = _position(text, error.start)
        raise LogQLError("the query is not valid UTF-8", line, column) from None
    if size > MAX_LENGTH:
        raise LogQLError(f"the query is {size:,} bytes long; {MAX_LENGTH:,} are allowed", 1, 1)
    query = _read(text)
    if _too_deep(query):
        raise LogQLError(f"the query nests operations more than {MAX_DEPTH} deep", 1, 1)
    return query


@cache
def _lark() -> "Lark":
    # Lark and the builder load here, once, so that importing this module costs nothing.
    from lark import Lark

    from ._build_metric import Builder

    return Lark.open(
        "logql.lark",
        rel_to=__file__,
        start="query",
        parser="lalr",
        lexer="contextual",
        maybe_placeholders=True,
        transformer=Builder(),
    )


def _read(text: str) -> t.Query:
    lark = _lark()
    from lark.exceptions import UnexpectedInput

    from ._syntax_errors import explain

    try:
        return cast("t.Query", lark.parse(text))
    except UnexpectedInput as error:
        raise explain(error, text) from None


def _position(text: str, index: int) -> tuple[int, int]:
    return text.count("\n", 0, index) + 1, index - text.rfind("\n", 0, index)


def _too_deep(query: t.Query) -> bool:
    waiting: list[tuple[Any, int]] = [(query, 1)]
    while waiting:
        node, depth = waiting.pop()
        if depth > MAX_DEPTH:
            return True
        match node:
            case t.Binary() | t.And() | t.Or():
                waiting += ((node.left, depth + 1), (node.right, depth + 1))
            case t.VectorAggregation(inner=inner) | t.LabelReplace(inner=inner):
                waiting.append((inner, depth + 1))
            case t.RangeAggregation(query=inner, unwrap_filters=filters):
                waiting.append((inner, depth))
                waiting += ((stage.condition, depth) for stage in filters)
            case t.LogQuery(stages=stages):
                waiting += ((stage.condition, depth) for stage in stages if isinstance(stage, t.LabelFilter))
    return False
