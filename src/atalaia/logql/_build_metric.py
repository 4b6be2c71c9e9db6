"""Grammar rules to tree: metric queries."""

from dataclasses import dataclass
from typing import Any, Literal, cast

from lark import Token, v_args

from . import checks
from . import operators as ops
from . import tree as t
from ._build_stages import StageRules, UnwrapAt, duration, fail, number, refuse, text

_COMPARISONS = frozenset({"==", "!=", ">", ">=", "<", "<="})
_SETS = frozenset({"and", "or", "unless"})
_WITH_PARAMETER = frozenset({"topk", "bottomk", "approx_topk"})


@dataclass(frozen=True, slots=True)
class _Range:
    """What stands between the parentheses of a range aggregation."""

    query: t.LogQuery
    unwrap: UnwrapAt | None
    filters: tuple[t.LabelFilter, ...]
    range_ns: int
    offset_ns: int


@dataclass(frozen=True, slots=True)
class _Group:
    token: Token
    grouping: t.Grouping


@dataclass(frozen=True, slots=True)
class _Modifier:
    bool_token: Token | None
    matching: t.Matching | None


@v_args(inline=True)
class Builder(StageRules):
    """Turns what Lark parsed into the tree, rule by rule, and refuses what the grammar cannot."""

    def scalar(self, sign: Token | None, value: Token) -> t.Scalar:
        return t.Scalar(-number(value) if sign == "-" else number(value))

    def vector_fn(self, _word: Token, value: Token) -> t.VectorFn:
        return t.VectorFn(number(value))

    def names(self, *names: Token) -> tuple[str, ...]:
        return tuple(map(str, names))

    def label_replace(
        self, _word: Token, inner: t.Metric, dst: Token, replacement: Token, src: Token, regex: Token
    ) -> t.LabelReplace:
        pattern = text(regex)
        refuse(regex, checks.regex_problem(f"^(?:{pattern})$"))
        return t.LabelReplace(inner, text(dst), text(replacement), text(src), pattern)

    # ---- range aggregations

    def offset(self, _word: Token, value: Token) -> int:
        return duration(value)

    def range_query(self, selector: t.Selector, *parts: Any) -> _Range:
        range_ns = offset_ns = 0
        before: list[t.Stage] = []
        unwrap: UnwrapAt | None = None
        filters: list[t.LabelFilter] = []
        for part in parts:
            if isinstance(part, Token):
                range_ns = _range(part)
            elif isinstance(part, int):
                offset_ns = part
            elif isinstance(part, UnwrapAt):
                if unwrap is not None:
                    fail(part.token, "only one unwrap is allowed")
                unwrap = part
            elif unwrap is not None and part is not None:
                if not isinstance(part, t.LabelFilter):
                    fail(unwrap.token, "after unwrap only label filters may follow")
                filters.append(part)
            elif part is not None:
                before.append(part)
        return _Range(t.LogQuery(selector, tuple(before)), unwrap, tuple(filters), range_ns, offset_ns)

    def range_in_parentheses(self, inner: _Range) -> _Range:
        return inner

    def range_aggregation(
        self, word: Token, parameter: Token | None, inner: _Range, group: _Group | None
    ) -> t.RangeAggregation:
        op = word.lower()
        if op == "quantile_over_time":
            if parameter is None:
                fail(word, f"parameter required for operation {op}, as in {op}(0.95, …)")
        elif parameter is not None:
            fail(parameter, f"parameter {parameter} not supported for operation {op}")
        refuse(word, checks.unwrap_problem(op, inner.unwrap is not None))
        if group is not None and op not in checks.GROUPED:
            fail(
                group.token,
                f"grouping not allowed for {op} aggregation; write sum {group.token} (…) (…)",
            )
        return t.RangeAggregation(
            op=cast("ops.RangeOp", op),
            query=inner.query,
            range_ns=inner.range_ns,
            unwrap=inner.unwrap.unwrap if inner.unwrap else None,
            unwrap_filters=inner.filters,
            offset_ns=inner.offset_ns,
            parameter=None if parameter is None else number(parameter),
            grouping=group.grouping if group else None,
        )

    # ---- vector aggregations

    def grouping(self, word: Token, names: tuple[str, ...] | None) -> _Group:
        return _Group(word, t.Grouping(word.lower() == "without", names or ()))

    def vector_aggregation(
        self,
        word: Token,
        before: _Group | None,
        parameter: Token | None,
        inner: t.Metric,
        after: _Group | None,
    ) -> t.VectorAggregation:
        op = word.lower()
        if before is not None and after is not None:
            fail(after.token, f"{op} has a grouping already, in front of the parenthesis")
        group = before or after
        if group is not None and op.startswith("sort"):
            if group.grouping.labels:
                fail(group.token, "sort and sort_desc don't allow grouping")
            group = None  # Loki accepts empty parentheses here, and they mean nothing
        if group is not None and op == "approx_topk":
            fail(group.token, "grouping not allowed for approx_topk aggregation")
        return t.VectorAggregation(
            op=cast("ops.VectorOp", op),
            inner=inner,
            grouping=group.grouping if group else None,
            parameter=_count(op, word, parameter),
        )

    # ---- binary operations

    def modifier(self, word: Token, matching: t.Matching | None) -> _Modifier:
        return _Modifier(word, matching)

    def matching_only(self, matching: t.Matching) -> _Modifier:
        return _Modifier(None, matching)

    def matching(
        self,
        word: Token,
        names: tuple[str, ...] | None,
        group: tuple[Literal["left", "right"], tuple[str, ...]] | None,
    ) -> t.Matching:
        side, include = group or (None, ())
        return t.Matching(word.lower() == "on", names or (), side, include)

    def group(self, word: Token, names: tuple[str, ...] | None) -> tuple[Literal["left", "right"], tuple[str, ...]]:
        return "left" if word.lower() == "group_left" else "right", names or ()

    def binary(self, left: t.Metric, word: Token, modifier: _Modifier | None, right: t.Metric) -> t.Binary:
        op = word.lower()
        for leg, side in (("left", left), ("right", right)):
            if op in _SETS and _is_scalar(side):
                where = f"{leg} leg of logical/set binary operation ({op})"
                fail(word, f"unexpected literal for {where}: it works on series, not on numbers")
        if modifier and modifier.bool_token and op not in _COMPARISONS:
            fail(modifier.bool_token, f"bool is only allowed after a comparison, not after {op}")
        return t.Binary(
            op=cast("ops.BinaryOp", op),
            left=left,
            right=right,
            matching=modifier.matching if modifier else None,
            return_bool=bool(modifier and modifier.bool_token),
        )


def _range(token: Token) -> int:
    body = token[1:-1].strip()
    if ":" in body:
        fail(token, "LogQL has no subqueries; a range is one duration like [5m]")
    ns = duration(token.update(value=body))
    if ns <= 0:
        fail(token, "the range must be longer than nothing")
    return ns


def _count(op: str, word: Token, parameter: Token | None) -> int | None:
    if op not in _WITH_PARAMETER:
        if parameter is not None:
            fail(parameter, f"unsupported parameter for operation {op}({parameter}, …")
        return None
    if parameter is None:
        fail(word, f"parameter required for operation {op}, as in {op}(10, …)")
    if not (parameter.isascii() and parameter.isdigit()) or len(parameter) > 18 or int(parameter) == 0:
        fail(parameter, f"invalid parameter {op}({parameter}, …: it must be a whole number greater than 0")
    return int(parameter)


def _is_scalar(metric: t.Metric) -> bool:
    waiting = [metric]
    while waiting:  # not recursive: a query is checked for its depth only when it is complete
        node = waiting.pop()
        if isinstance(node, t.Binary):
            waiting += (node.left, node.right)
        elif not isinstance(node, t.Scalar):
            return False
    return True
