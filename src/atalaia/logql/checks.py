"""What makes a query invalid although its grammar is right; every check returns the problem or None.

The rules are those of Loki's parser, so that a query refused there is refused here with the place named.
"""

import ipaddress
import re
from functools import cache
from typing import Any

from .tree import Matcher

_CAPTURE = re.compile(r"<([A-Za-z_][A-Za-z0-9_]*)>")
_GROUP_NAME = re.compile(r"\\.|\[(?:\\.|[^\]\\])*\]|\(\?P?<([^>]*)>", re.DOTALL)
_LABEL = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_JSON_FIELD = r"[A-Za-z_][A-Za-z0-9_]*"
_JSON_INDEX = r'\[\s*(?:[0-9]+|"[^"\]]*")\s*\]'
_JSON_PATH = re.compile(rf"(?:{_JSON_FIELD}|{_JSON_INDEX})(?:\s*\.\s*{_JSON_FIELD}|\s*{_JSON_INDEX})*")

UNWRAPPED_ONLY = frozenset(
    {
        "rate_counter", "sum_over_time", "avg_over_time", "min_over_time", "max_over_time", "first_over_time",
        "last_over_time", "stdvar_over_time", "stddev_over_time", "quantile_over_time",
    }
)  # fmt: skip
NEVER_UNWRAPPED = frozenset({"count_over_time", "bytes_rate", "bytes_over_time"})
GROUPED = UNWRAPPED_ONLY - {"rate_counter", "sum_over_time"}


@cache
def _options() -> Any:
    import re2

    options = re2.Options()
    options.log_errors = False  # otherwise RE2 writes to standard error
    return options


def compile_quietly(pattern: str) -> Any:
    """A compiled expression; raises re2.error for what is none, and writes nothing to standard error."""
    import re2

    return re2.compile(pattern, _options())


def regex_problem(pattern: str) -> str | None:
    """Say why RE2 refuses the pattern."""
    import re2

    try:
        compile_quietly(pattern)
    except re2.error as error:
        reason = error.args[0] if error.args else ""
        text = reason.decode(errors="replace") if isinstance(reason, bytes) else str(reason)
        return f"invalid regular expression: {text}"
    return None


def anchored(pattern: str) -> str:
    """Make the pattern match whole values, newlines included, as Prometheus and Loki do for labels."""
    return f"^(?s:{pattern})$"


def label_regex_problem(pattern: str) -> str | None:
    """Say why RE2 refuses the pattern of a label matcher; anchoring may make it one step too large."""
    return regex_problem(pattern) or regex_problem(anchored(pattern))


def matches_empty(matcher: Matcher) -> bool:
    """Tell whether a stream without the label would be selected."""
    if matcher.op in ("=", "!="):
        return (matcher.value == "") == (matcher.op == "=")
    found = compile_quietly(anchored(matcher.value)).search("") is not None
    return found == (matcher.op == "=~")


def selector_problem(matchers: tuple[Matcher, ...]) -> str | None:
    """Refuse a selector that would read every stream."""
    if all(map(matches_empty, matchers)):
        return (
            "queries require at least one regexp or equality matcher that does not have an empty-compatible value: "
            'others would read all streams; app=~".+" is such a matcher, app=~".*" is not'
        )
    return None


def ip_problem(pattern: str) -> str | None:
    """Refuse what is neither an address nor a range `first-last` nor a CIDR block."""
    try:
        if "/" in pattern:
            _, _, bits = pattern.partition("/")
            if not (bits.isascii() and bits.isdigit()):
                raise ValueError
            ipaddress.ip_network(pattern, strict=False)
        elif "-" in pattern:
            first, _, last = pattern.partition("-")
            low, high = ipaddress.ip_address(first), ipaddress.ip_address(last)
            if low.version != high.version or int(low) > int(high):
                raise ValueError
        else:
            ipaddress.ip_address(pattern)
    except ValueError:
        return (
            f"ip: invalid pattern {pattern!r}; write an address, a range like 10.0.0.1-10.0.0.9 "
            "or a block like 10.0.0.0/8"
        )
    return None


def regexp_stage_problem(pattern: str) -> str | None:
    """Refuse a regexp stage that captures nothing or captures a name twice."""
    if problem := regex_problem(pattern):
        return problem
    # RE2's C++ library accepts a name twice where Go's does not, so the names are read from the text.
    names = [group.group(1) for group in _GROUP_NAME.finditer(pattern) if group.group(1) is not None]
    for name in names:
        if not _LABEL.fullmatch(name):
            return f"invalid extracted label name {name!r}"
        if names.count(name) > 1:
            return f"duplicate extracted label name {name!r}"
    if not compile_quietly(pattern).groupindex:
        return "at least one named capture must be supplied, as in (?P<name>…)"
    return None


def pattern_stage_problem(pattern: str) -> str | None:
    """Refuse a pattern stage without named captures, with neighbouring captures or with a name twice."""
    names = [name for name in _CAPTURE.findall(pattern) if name != "_"]
    if not names:
        return "at least one capture is required, a named capture like <name>"
    for name in names:
        if names.count(name) > 1:
            return f"duplicate capture name {name!r}"
    return _neighbours(pattern)


def pattern_filter_problem(pattern: str) -> str | None:
    """Refuse named or neighbouring captures in the pattern of `|>` and `!>`."""
    for name in _CAPTURE.findall(pattern):
        if name != "_":
            return f"named captures are not allowed in a line filter; write <_> for <{name}>"
    return _neighbours(pattern)


def _neighbours(pattern: str) -> str | None:
    end = -1
    before = ""
    for capture in _CAPTURE.finditer(pattern):
        if capture.start() == end:
            return f"found consecutive capture '{before}{capture.group()}': nothing says where one ends"
        end, before = capture.end(), capture.group()
    return None


def json_path_problem(path: str) -> str | None:
    """Refuse what is not a path like `request.headers["User-Agent"][0]`."""
    if _JSON_PATH.fullmatch(path.strip()):
        return None
    return f'invalid JSON path {path!r}; write for example a.b[0] or a["b c"]'


def comparison_problem(op: str, kind: str) -> str | None:
    """Refuse operators that do not go with the value: kind is "text", "ip" or what else is compared."""
    if kind == "text":
        allowed = op in ("=", "!=", "=~", "!~")
        return None if allowed else f"a string is compared with =, !=, =~ or !~, not with {op}"
    if kind == "ip":
        return None if op in ("=", "!=") else f"ip: invalid operation {op}; ip() is compared with = or !="
    if op in ("=~", "!~"):
        return f"{op} needs a string with a regular expression, not a {kind}"
    return None


def unwrap_problem(op: str, unwrapped: bool) -> str | None:
    """Refuse a range aggregation that needs an unwrapped value and has none, or the reverse."""
    if unwrapped and op in NEVER_UNWRAPPED:
        return f"invalid aggregation {op} with unwrap: it counts lines or bytes, not values"
    if not unwrapped and op in UNWRAPPED_ONLY:
        return f"invalid aggregation {op} without unwrap: add `| unwrap label` before the range"
    return None
