"""Tree to text: selectors, stages and conditions."""

from . import tree as t
from .literals import format_bytes, format_duration, format_number, quote

_STAGES_BEFORE_LINE_FILTERS = frozenset({"json", "logfmt", "unpack", "decolorize"})


def selector(value: t.Selector) -> str:
    """Write `{…}`."""
    return f"{{{', '.join(map(_matcher, value.matchers))}}}"


def after(stages: tuple[t.Stage, ...], index: int) -> t.Stage | None:
    """Return the stage behind the one at `index`."""
    return stages[index + 1] if index + 1 < len(stages) else None


def stage(value: t.Stage, following: t.Stage | None = None) -> str:
    """Write one stage. Raise ValueError if it cannot stand before the following one, see `print_query`."""
    match value:
        case t.LineFilter(op=op, alternatives=alternatives):
            return f"{op} {' or '.join(map(_line_match, alternatives))}"
        case t.LabelFilter(condition=condition):
            return f"| {_first_in_stage(condition)}"
        case t.Json(expressions=expressions):
            return _words("| json", ", ".join(map(_extraction, expressions)))
        case t.Logfmt(expressions=expressions, strict=strict, keep_empty=keep_empty):
            flags = ("--strict" if strict else "", "--keep-empty" if keep_empty else "")
            return _words("| logfmt", *flags, ", ".join(map(_extraction, expressions)))
        case t.Regexp(pattern=pattern):
            return f"| regexp {quote(pattern)}"
        case t.Pattern(pattern=pattern):
            return f"| pattern {quote(pattern)}"
        case t.Unpack():
            return "| unpack"
        case t.Decolorize():
            return "| decolorize"
        case t.LineFormat(template=template):
            return f"| line_format {quote(template)}"
        case t.LabelFormat(assignments=assignments):
            return f"| label_format {', '.join(map(_assignment, assignments))}"
        case t.Drop(items=items):
            return f"| drop {_items(items, following)}"
        case t.Keep(items=items):
            return f"| keep {_items(items, following)}"


def _words(*words: str) -> str:
    return " ".join(filter(None, words))


def _matcher(value: t.Matcher) -> str:
    return f"{value.name}{value.op}{quote(value.value)}"


def _line_match(value: t.LineMatch) -> str:
    return f"ip({quote(value.value)})" if value.ip else quote(value.value)


def _extraction(expression: tuple[str, str]) -> str:
    label, path = expression
    return label if label == path else f"{label}={quote(path)}"


def _assignment(value: t.Rename | t.Template) -> str:
    if isinstance(value, t.Rename):
        return f"{value.name}={value.source}"
    return f"{value.name}={quote(value.template)}"


def _items(items: tuple[str | t.Matcher, ...], following: t.Stage | None) -> str:
    if isinstance(items[-1], str) and isinstance(following, t.LineFilter) and following.op in ("!=", "!~"):
        raise ValueError(f"LogQL cannot say this: {items[-1]!r} and the line filter after it would read as a matcher")
    return ", ".join(item if isinstance(item, str) else _matcher(item) for item in items)


def _first_in_stage(condition: t.Condition) -> str:
    first = condition
    while not isinstance(first, t.Comparison):
        first = first.left
    written = _condition(condition)
    # `| json != "x"` is the stage json and a line filter, so a label of that name needs parentheses.
    ambiguous = first.name.lower() in _STAGES_BEFORE_LINE_FILTERS and first.op in ("!=", "!~")
    return f"({written})" if ambiguous and not written.startswith("(") else written


def _condition(condition: t.Condition) -> str:
    match condition:
        case t.Or(left=left, right=right):
            return f"{_condition(left)} or {_inside(right, t.Or)}"
        case t.And(left=left, right=right):
            return f"{_inside(left, t.Or)} and {_inside(right, t.Or, t.And)}"
        case t.Comparison(name=name, op=op, value=value):
            if isinstance(value, str):
                return f"{name}{op}{quote(value)}"
            return f"{name} {op} {_amount(value)}"


def _inside(condition: t.Condition, *in_parentheses: type) -> str:
    written = _condition(condition)
    return f"({written})" if isinstance(condition, in_parentheses) else written


def _amount(value: t.Number | t.Duration | t.Bytes | t.IpMatch) -> str:
    match value:
        case t.Number(value=number):
            return format_number(number)
        case t.Duration(ns=ns):
            return format_duration(ns)
        case t.Bytes(count=count):
            return format_bytes(count)
        case t.IpMatch(pattern=pattern):
            return f"ip({quote(pattern)})"
