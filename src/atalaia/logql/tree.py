"""The syntax tree of a LogQL query: immutable values, comparable and hashable, free of positions.

`parse.parse` makes it, `printer.print_query` turns it back into text. Times are nanoseconds.
"""

from dataclasses import dataclass
from typing import Literal, TypeAlias

from .operators import BinaryOp, CompareOp, Conversion, LineOp, MatchOp, RangeOp, VectorOp


@dataclass(frozen=True, slots=True)
class Matcher:
    """`name="value"`; the regular expressions of `=~` and `!~` match the whole value."""

    name: str
    op: MatchOp
    value: str


@dataclass(frozen=True, slots=True)
class Selector:
    """`{…}`: a stream is selected when every matcher agrees."""

    matchers: tuple[Matcher, ...]


@dataclass(frozen=True, slots=True)
class LineMatch:
    """One alternative of a line filter: text, regular expression or pattern, or with `ip` an address."""

    value: str
    ip: bool = False


@dataclass(frozen=True, slots=True)
class LineFilter:
    """`|= "a" or "b"`: for a negated operator, a line passes when no alternative matches."""

    op: LineOp
    alternatives: tuple[LineMatch, ...]


@dataclass(frozen=True, slots=True)
class Json:
    """`| json`, or only some values: pairs of label and path (`json a="x.y[0]"`; a bare `a` is `a="a"`)."""

    expressions: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Logfmt:
    """`| logfmt`, or only some keys: pairs of label and key."""

    expressions: tuple[tuple[str, str], ...] = ()
    strict: bool = False
    keep_empty: bool = False


@dataclass(frozen=True, slots=True)
class Regexp:
    """`| regexp "(?P<name>…)"`: unanchored, every named group becomes a label."""

    pattern: str


@dataclass(frozen=True, slots=True)
class Pattern:
    """`| pattern "<name> - <_>"`: captures and the literal text between them."""

    pattern: str


@dataclass(frozen=True, slots=True)
class Unpack:
    """`| unpack`: what Promtail's pack stage packed."""


@dataclass(frozen=True, slots=True)
class Decolorize:
    """`| decolorize`: remove ANSI colours from the line."""


@dataclass(frozen=True, slots=True)
class Number:
    """A plain number in a label filter."""

    value: float


@dataclass(frozen=True, slots=True)
class Duration:
    """A duration in a label filter; the label's value is read as a Go duration."""

    ns: int


@dataclass(frozen=True, slots=True)
class Bytes:
    """A size in a label filter, in bytes."""

    count: int


@dataclass(frozen=True, slots=True)
class IpMatch:
    """`ip("…")`: an address, a range `first-last` or a CIDR block."""

    pattern: str


@dataclass(frozen=True, slots=True)
class Comparison:
    """A label compared with a value. Texts take = != =~ !~, addresses = and !=, the others == != > >= < <=.

    The parser turns `=` before a number, a duration or a size into `==`, which means the same there.
    """

    name: str
    op: CompareOp
    value: "str | Number | Duration | Bytes | IpMatch"


@dataclass(frozen=True, slots=True)
class And:
    """Both conditions hold (written `and`, a comma or a space)."""

    left: "Condition"
    right: "Condition"


@dataclass(frozen=True, slots=True)
class Or:
    """At least one condition holds."""

    left: "Condition"
    right: "Condition"


Condition: TypeAlias = Comparison | And | Or


@dataclass(frozen=True, slots=True)
class LabelFilter:
    """`| status >= 500 and method="GET"`."""

    condition: Condition


@dataclass(frozen=True, slots=True)
class LineFormat:
    """`| line_format "{{…}}"`; the template's own syntax is not checked by the parser."""

    template: str


@dataclass(frozen=True, slots=True)
class Rename:
    """`name=source` in label_format: `source` is renamed to `name`."""

    name: str
    source: str


@dataclass(frozen=True, slots=True)
class Template:
    """`name="{{…}}"` in label_format."""

    name: str
    template: str


@dataclass(frozen=True, slots=True)
class LabelFormat:
    """`| label_format a=b, c="{{…}}"`; no label is assigned twice."""

    assignments: tuple[Rename | Template, ...]


@dataclass(frozen=True, slots=True)
class Drop:
    """`| drop a, b="x"`: remove labels, a matcher only where it matches."""

    items: tuple[str | Matcher, ...]


@dataclass(frozen=True, slots=True)
class Keep:
    """`| keep a, b="x"`: remove every other label."""

    items: tuple[str | Matcher, ...]


Parsing: TypeAlias = Json | Logfmt | Regexp | Pattern | Unpack
Formatting: TypeAlias = Decolorize | LineFormat | LabelFormat | Drop | Keep
Stage: TypeAlias = LineFilter | LabelFilter | Parsing | Formatting


@dataclass(frozen=True, slots=True)
class LogQuery:
    """Streams and what happens to their lines, in this order."""

    selector: Selector
    stages: tuple[Stage, ...] = ()


@dataclass(frozen=True, slots=True)
class Unwrap:
    """`| unwrap label`, `| unwrap bytes(label)`: the label's value becomes the sample."""

    label: str
    conversion: Conversion | None = None


@dataclass(frozen=True, slots=True)
class Grouping:
    """`by (labels)` or `without (labels)`; `by ()` is a grouping with no labels, not a missing one."""

    without: bool
    labels: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RangeAggregation:
    """`op(parameter, query | unwrap … | unwrap_filters [range] offset …) grouping`."""

    op: RangeOp
    query: LogQuery
    range_ns: int
    unwrap: Unwrap | None = None
    unwrap_filters: tuple[LabelFilter, ...] = ()
    offset_ns: int = 0
    parameter: float | None = None
    grouping: Grouping | None = None


@dataclass(frozen=True, slots=True)
class VectorAggregation:
    """`op grouping (parameter, inner)`; the parameter is that of topk, bottomk and approx_topk."""

    op: VectorOp
    inner: "Metric"
    grouping: Grouping | None = None
    parameter: int | None = None


@dataclass(frozen=True, slots=True)
class Matching:
    """`on|ignoring (labels) group_left|group_right (include)`: which series of both sides belong together.

    `group` names the side that may have many series for one of the other: "left", "right" or None.
    """

    on: bool
    labels: tuple[str, ...]
    group: Literal["left", "right"] | None = None
    include: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Binary:
    """`left op right`; `return_bool` is the modifier `bool` of comparisons."""

    op: BinaryOp
    left: "Metric"
    right: "Metric"
    matching: Matching | None = None
    return_bool: bool = False


@dataclass(frozen=True, slots=True)
class LabelReplace:
    """`label_replace(inner, dst, replacement, src, regex)`; the regular expression is anchored."""

    inner: "Metric"
    dst: str
    replacement: str
    src: str
    regex: str


@dataclass(frozen=True, slots=True)
class VectorFn:
    """`vector(value)`: one series without labels."""

    value: float


@dataclass(frozen=True, slots=True)
class Scalar:
    """A number, its sign included: `-2 ^ 2` is `(-2) ^ 2`, as in Loki."""

    value: float


Metric: TypeAlias = RangeAggregation | VectorAggregation | Binary | LabelReplace | VectorFn | Scalar
Query: TypeAlias = LogQuery | Metric
