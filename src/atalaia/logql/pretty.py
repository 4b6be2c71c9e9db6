"""Tree to text over several lines, in the layout of Loki's /loki/api/v1/format_query."""

from . import tree as t
from ._print_stages import after, selector, stage
from .printer import (
    grouping,
    label_replace_texts,
    log_query,
    operator,
    print_query,
    range_body,
    range_start,
    unwrapped,
    vector_start,
    window,
)


def pretty(query: t.Query, width: int = 80) -> str:
    """Write the query over several lines where one line would be longer than `width`.

    A part that fits stays on its line; a part that does not is split once and its own parts are tried again,
    two spaces deeper. The result parses to an equal tree. Raise ValueError as `print_query` does.
    """
    return "\n".join(_query(query, width))


def _query(query: t.Query, width: int) -> list[str]:
    line = print_query(query)
    if len(line) <= width:
        return [line]
    match query:
        case t.LogQuery():
            return _log_query(query, width)
        case t.RangeAggregation():
            return _range(query, width)
        case t.VectorAggregation(inner=inner):
            head, _, parameter = vector_start(query).rpartition("(")
            first = [f"  {parameter}"] if parameter else []
            return [f"{head}(", *first, *_indented(_query(inner, width)), ")"]
        case t.LabelReplace(inner=inner):
            lines = _indented(_query(inner, width))
            texts = [f"  {text}" for text in label_replace_texts(query)]
            lines[-1] += ","
            return ["label_replace(", *lines, *(f"{text}," for text in texts[:-1]), texts[-1], ")"]
        case t.Binary(left=left, right=right):
            after_operator = _operand(right, width)
            return [
                *_indented(_operand(left, width)),
                operator(query, after_operator[0]),
                *_indented(after_operator),
            ]
        case _:  # a number is never split
            return [line]


def _operand(query: t.Metric, width: int) -> list[str]:
    lines = _query(query, width)
    # A binary operation on one line has its parentheses already.
    return ["(", *lines, ")"] if isinstance(query, t.Binary) and len(lines) > 1 else lines


def _range(query: t.RangeAggregation, width: int) -> list[str]:
    head, _, parameter = range_start(query).rpartition("(")
    body = [range_body(query)]
    if len(body[0]) > width:
        body = [*_log_query(query.query, width), *(f"  {line}" for line in unwrapped(query))]
        body[-1] += f" {window(query)}"
    first = [f"  {parameter}"] if parameter else []
    return [f"{head}(", *first, *_indented(body), f"){grouping(query.grouping)}"]


def _log_query(query: t.LogQuery, width: int) -> list[str]:
    line = log_query(query)
    if len(line) <= width:
        return [line]
    stages = [stage(item, after(query.stages, i)) for i, item in enumerate(query.stages)]
    return [selector(query.selector), *_indented(stages)]


def _indented(lines: list[str]) -> list[str]:
    return [f"  {line}" for line in lines]
