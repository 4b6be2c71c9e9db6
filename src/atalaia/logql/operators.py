"""The words and signs of LogQL's operations, as types."""

from typing import Literal, TypeAlias

MatchOp: TypeAlias = Literal["=", "!=", "=~", "!~"]
LineOp: TypeAlias = Literal["|=", "!=", "|~", "!~", "|>", "!>"]
CompareOp: TypeAlias = Literal["=", "!=", "=~", "!~", "==", ">", ">=", "<", "<="]
Conversion: TypeAlias = Literal["bytes", "duration", "duration_seconds"]
RangeOp: TypeAlias = Literal[
    "rate", "rate_counter", "count_over_time", "bytes_rate", "bytes_over_time", "absent_over_time",
    "sum_over_time", "avg_over_time", "min_over_time", "max_over_time", "first_over_time",
    "last_over_time", "stdvar_over_time", "stddev_over_time", "quantile_over_time",
]  # fmt: skip
VectorOp: TypeAlias = Literal[
    "sum", "avg", "count", "max", "min", "stddev", "stdvar", "topk", "bottomk", "approx_topk",
    "sort", "sort_desc",
]  # fmt: skip
BinaryOp: TypeAlias = Literal[
    "+", "-", "*", "/", "%", "^", "==", "!=", ">", ">=", "<", "<=", "and", "or", "unless"
]  # fmt: skip
