"""Grammar rules to tree: selectors, stages and conditions."""

from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar, cast

from lark import Token, Transformer, v_args

from . import checks
from . import literals as lit
from . import operators as ops
from . import tree as t
from .errors import LogQLError

_Value = TypeVar("_Value")
Amount = str | t.Number | t.Duration | t.Bytes | t.IpMatch


@dataclass(frozen=True, slots=True)
class UnwrapAt:
    """An unwrap where the grammar sees a stage; only a range aggregation may keep it."""

    token: Token
    unwrap: t.Unwrap


def fail(token: Token, problem: str) -> NoReturn:
    """Raise LogQLError at the token."""
    raise LogQLError(problem, token.line or 1, token.column or 1)


def refuse(token: Token, problem: str | None) -> None:
    """Raise LogQLError at the token if there is a problem."""
    if problem is not None:
        fail(token, problem)


def number(token: Token) -> float:
    """Read an unsigned number."""
    try:
        return lit.parse_number(str(token))
    except ValueError as error:
        fail(token, str(error))


def duration(token: Token) -> int:
    """Read a duration as nanoseconds."""
    try:
        return lit.parse_duration(str(token))
    except ValueError as error:
        fail(token, str(error))


def text(token: Token) -> str:
    """Read a string literal."""
    try:
        return lit.unquote(str(token))
    except ValueError as error:
        fail(token, str(error))


@v_args(inline=True)
class StageRules(Transformer[Token, Any]):
    """The rules of logql.lark that make up a log query; Lark calls them while it parses."""

    def log_query(self, selector: t.Selector, *stages: t.Stage | UnwrapAt) -> t.LogQuery:
        for stage in stages:
            if isinstance(stage, UnwrapAt):
                fail(stage.token, "unwrap is only allowed inside a range aggregation, before its range")
        return t.LogQuery(selector, cast("tuple[t.Stage, ...]", stages))

    def selector(self, brace: Token, *matchers: t.Matcher | None) -> t.Selector:
        kept = tuple(matcher for matcher in matchers if matcher is not None)
        refuse(brace, checks.selector_problem(kept))
        return t.Selector(kept)

    def matcher(self, name: Token, op: Token, value: Token) -> t.Matcher:
        wanted = text(value)
        if op in ("=~", "!~"):
            refuse(value, checks.label_regex_problem(wanted))
        return t.Matcher(str(name), cast("ops.MatchOp", str(op)), wanted)

    # ---- line filters

    def line_filter(self, op: Token, *alternatives: Token | tuple[Token, t.LineMatch]) -> t.LineFilter:
        matches = []
        for alternative in alternatives:
            if isinstance(alternative, Token):  # the word `or`
                continue
            token, match = alternative
            if match.ip and op not in ("|=", "!="):
                fail(token, f"ip: invalid operation {op}; ip() goes with |= and !=")
            if op in ("|~", "!~"):
                refuse(token, checks.regex_problem(match.value))
            elif op in ("|>", "!>"):
                refuse(token, checks.pattern_filter_problem(match.value))
            matches.append(match)
        return t.LineFilter(cast("ops.LineOp", str(op)), tuple(matches))

    def line_text(self, value: Token) -> tuple[Token, t.LineMatch]:
        return value, t.LineMatch(text(value))

    def line_ip(self, _word: Token, value: Token) -> tuple[Token, t.LineMatch]:
        pattern = text(value)
        refuse(value, checks.ip_problem(pattern))
        return value, t.LineMatch(pattern, ip=True)

    # ---- parsers

    def extraction(self, name: Token, value: Token | None) -> tuple[Token, str, str]:
        return value or name, str(name), str(name) if value is None else text(value)

    def json(self, _word: Token, *extractions: tuple[Token, str, str] | None) -> t.Json:
        expressions = []
        for extraction in extractions:
            if extraction is not None:
                token, label, path = extraction
                refuse(token, checks.json_path_problem(path))
                expressions.append((label, path))
        return t.Json(tuple(expressions))

    def logfmt(self, _word: Token, *rest: Token | tuple[Token, str, str] | None) -> t.Logfmt:
        flags = [item for item in rest if isinstance(item, Token)]
        expressions = tuple(item[1:] for item in rest if isinstance(item, tuple))
        return t.Logfmt(expressions, strict="--strict" in flags, keep_empty="--keep-empty" in flags)

    def regexp(self, _word: Token, value: Token) -> t.Regexp:
        pattern = text(value)
        refuse(value, checks.regexp_stage_problem(pattern))
        return t.Regexp(pattern)

    def pattern(self, _word: Token, value: Token) -> t.Pattern:
        pattern = text(value)
        refuse(value, checks.pattern_stage_problem(pattern))
        return t.Pattern(pattern)

    def unpack(self, _word: Token) -> t.Unpack:
        return t.Unpack()

    # ---- formatting

    def decolorize(self, _word: Token) -> t.Decolorize:
        return t.Decolorize()

    def line_format(self, _word: Token, value: Token) -> t.LineFormat:
        return t.LineFormat(text(value))

    def label_format(self, _word: Token, *assignments: tuple[Token, t.Rename | t.Template]) -> t.LabelFormat:
        seen: set[str] = set()
        for token, assignment in assignments:
            if assignment.name == "__error__":
                fail(token, "__error__ cannot be formatted")
            if assignment.name in seen:
                twice = f"multiple label name {assignment.name!r} not allowed in a single format operation"
                fail(token, f"{twice}: it is assigned twice")
            seen.add(assignment.name)
        return t.LabelFormat(tuple(assignment for _, assignment in assignments))

    def rename(self, name: Token, source: Token) -> tuple[Token, t.Rename]:
        return name, t.Rename(str(name), str(source))

    def template(self, name: Token, value: Token) -> tuple[Token, t.Template]:
        return name, t.Template(str(name), text(value))

    def drop(self, _word: Token, *items: str | t.Matcher) -> t.Drop:
        return t.Drop(items)

    def keep(self, _word: Token, *items: str | t.Matcher) -> t.Keep:
        return t.Keep(items)

    def item(self, name: Token, op: Token | None, value: Token | None) -> str | t.Matcher:
        return str(name) if op is None or value is None else self.matcher(name, op, value)

    def unwrap(self, word: Token, label: Token) -> UnwrapAt:
        return UnwrapAt(word, t.Unwrap(str(label)))

    def unwrap_converted(self, word: Token, conversion: Token, label: Token) -> UnwrapAt:
        return UnwrapAt(word, t.Unwrap(str(label), cast("ops.Conversion", conversion.lower())))

    # ---- conditions

    def label_filter(self, condition: t.Condition) -> t.LabelFilter:
        return t.LabelFilter(condition)

    def both(self, left: t.Condition, _word: Token, right: t.Condition) -> t.And:
        return t.And(left, right)

    def all_after(self, left: t.Condition, right: t.Condition) -> t.And:
        return t.And(left, right)

    def either(self, left: t.Condition, _word: Token, right: t.Condition) -> t.Or:
        return t.Or(left, right)

    def comparison(self, name: Token, op: Token, operand: tuple[Token, str, Amount]) -> t.Comparison:
        token, kind, value = operand
        refuse(token, checks.comparison_problem(op, kind))
        if op in ("=~", "!~"):
            refuse(token, checks.label_regex_problem(cast("str", value)))
        operator = "==" if op == "=" and kind not in ("text", "ip") else str(op)
        return t.Comparison(str(name), cast("ops.CompareOp", operator), value)

    def text(self, value: Token) -> tuple[Token, str, Amount]:
        return value, "text", text(value)

    def number(self, sign: Token | None, value: Token) -> tuple[Token, str, Amount]:
        if value[-1].isalpha() and not value.lower().startswith("0x"):
            fail(value, f'"{value}" is no number, no duration (ns us ms s m h d w y), no size (B kB MiB …)')
        return value, "number", t.Number(-number(value) if sign == "-" else number(value))

    def duration(self, value: Token) -> tuple[Token, str, Amount]:
        return value, "duration", t.Duration(duration(value))

    def bytes(self, value: Token) -> tuple[Token, str, Amount]:
        try:
            return value, "size", t.Bytes(lit.parse_bytes(str(value)))
        except ValueError as error:
            fail(value, str(error))

    def ip(self, _word: Token, value: Token) -> tuple[Token, str, Amount]:
        pattern = text(value)
        refuse(value, checks.ip_problem(pattern))
        return value, "ip", t.IpMatch(pattern)
