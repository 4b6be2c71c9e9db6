"""Tree to text: the canonical single line of a query, which parses back to an equal tree.

The spelling follows Loki's: parentheses around every binary operation, the range after the pipeline,
double-quoted strings. Pieces smaller than a stage are in `_print_stages`.
"""

from . import tree as t
from ._print_stages import after, selector, stage
from .literals import format_duration, format_number, quote


def print_query(query: t.Query) -> str:
    """Write the query as one line of canonical LogQL.

    Raise ValueError for the one tree that LogQL cannot say: a drop or keep that ends in a bare name, followed
    by a line filter with `!=` or `!~`. Written out, the name and the filter would read as a matcher.
    """
    return log_query(query) if isinstance(query, t.LogQuery) else metric(query)


def log_query(query: t.LogQuery) -> str:
    """Write selector and stages."""
    stages = query.stages
    written = (stage(item, after(stages, i)) for i, item in enumerate(stages))
    return " ".join((selector(query.selector), *written))


def metric(query: t.Metric) -> str:
    """Write a metric query; a binary operation with its parentheses."""
    match query:
        case t.RangeAggregation():
            return f"{range_start(query)}{range_body(query)}){grouping(query.grouping)}"
        case t.VectorAggregation(inner=inner):
            return f"{vector_start(query)}{metric(inner)})"
        case t.Binary(left=left, right=right):
            rest = metric(right)
            return f"({metric(left)} {operator(query, rest)} {rest})"
        case t.LabelReplace(inner=inner):
            return f"label_replace({metric(inner)},{','.join(label_replace_texts(query))})"
        case t.VectorFn(value=value):
            return f"vector({format_number(value)})"
        case t.Scalar(value=value):
            return format_number(value)


def range_start(query: t.RangeAggregation) -> str:
    """Write the operation with its parameter up to where the log query begins."""
    parameter = "" if query.parameter is None else f"{format_number(query.parameter)},"
    return f"{query.op}({parameter}"


def range_body(query: t.RangeAggregation) -> str:
    """Write the log query, what is unwrapped, and the range."""
    parts = [log_query(query.query), *unwrapped(query)]
    plain = len(parts) == 1 and not query.query.stages
    return f"{' '.join(parts)}{'' if plain else ' '}{window(query)}"


def unwrapped(query: t.RangeAggregation) -> list[str]:
    """Write the unwrap stage and the label filters after it."""
    if query.unwrap is None:
        return []
    label, conversion = query.unwrap.label, query.unwrap.conversion
    value = label if conversion is None else f"{conversion}({label})"
    return [f"| unwrap {value}", *map(stage, query.unwrap_filters)]


def window(query: t.RangeAggregation) -> str:
    """Write range and offset."""
    offset = f" offset {format_duration(query.offset_ns)}" if query.offset_ns else ""
    return f"[{format_duration(query.range_ns)}]{offset}"


def vector_start(query: t.VectorAggregation) -> str:
    """Write the operation, its grouping and its parameter up to where the inner query begins."""
    space = " " if query.grouping else ""
    parameter = "" if query.parameter is None else f"{query.parameter},"
    return f"{query.op}{grouping(query.grouping)}{space}({parameter}"


def grouping(value: t.Grouping | None) -> str:
    """Write ` by (…)` or ` without (…)`, or nothing."""
    if value is None:
        return ""
    return f" {'without' if value.without else 'by'} ({', '.join(value.labels)})"


def operator(query: t.Binary, right: str) -> str:
    """Write the operator with its modifiers; `right` is the text that will follow."""
    parts: list[str] = [query.op]
    if query.return_bool:
        parts.append("bool")
    if query.matching is not None:
        parts.append(f"{'on' if query.matching.on else 'ignoring'} ({', '.join(query.matching.labels)})")
        if query.matching.group is not None:
            parts.append(f"group_{query.matching.group}")
            # A parenthesis right after group_left is read as its labels, so it needs an empty list there.
            if query.matching.include or right.startswith("("):
                parts.append(f"({', '.join(query.matching.include)})")
    return " ".join(parts)


def label_replace_texts(query: t.LabelReplace) -> list[str]:
    """Write the four strings of label_replace."""
    return [quote(value) for value in (query.dst, query.replacement, query.src, query.regex)]
