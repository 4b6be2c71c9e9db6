"""What Lark says about a query that does not parse, in words a person reads."""

import re

from lark.exceptions import UnexpectedCharacters, UnexpectedInput, UnexpectedToken

from .errors import LogQLError

_WORD = re.compile(r"[A-Za-z_]\w*|[0-9.][\w.]*|(?:[|!=<>]=|[|=!]~|[|!]>)|.", re.DOTALL)
_FUNCTION = re.compile(r"[A-Za-z_]\w*(?=\s*\()")

# Terminals that mean the same to a reader share a phrase; the order is the order of the sentence.
_PHRASES = {
    "$END": "the end of the query",
    "LBRACE": 'a selector "{…}"',
    "RANGE_OP": "an aggregation like rate(…) or sum(…)",
    "VECTOR_OP": "an aggregation like rate(…) or sum(…)",
    "LABEL_REPLACE": "an aggregation like rate(…) or sum(…)",
    "VECTOR": "an aggregation like rate(…) or sum(…)",
    "JSON": "a stage like json or line_format",
    "NAME": "a label name",
    "STRING": "a string",
    "IP": "ip(…)",
    "NUMBER": "a number",
    "DURATION": "a duration",
    "BYTES": "a size",
    "RANGE": "a range like [5m]",
    "PIPE_EXACT": "a line filter",
    "VBAR": 'a stage after "|"',
    "OFFSET": "offset",
    "CONVERSION": "bytes(…) or duration(…)",
    "FLAG": "--strict or --keep-empty",
    "BY": "by or without",
    "BOOL": "bool",
    "ON": "on or ignoring",
    "GROUP_LEFT": "group_left or group_right",
    "AND": "and",
    "OR": "or",
    "EQ": '"="',
    "RE": '"=~"',
    "COMMA": '","',
    "LPAR": '"("',
    "RPAR": '")"',
    "RBRACE": '"}"',
}
_ALONE = frozenset({"NAME", "NUMBER", "STRING", "DURATION"})
_COMPARISONS = frozenset({"GT", "LT", "GTE", "LTE"})
_ARITHMETIC = frozenset({"MUL", "DIV", "MOD", "POW"})


def explain(error: UnexpectedInput, text: str) -> LogQLError:
    """Turn Lark's error into a LogQLError: where, what was found, what was expected."""
    # What the parser itself accepts here; Lark's own lists hold words of other states merged with this one.
    terminals = error.interactive_parser.accepts()  # type: ignore[no-untyped-call]
    expected = _in_words(terminals)
    if isinstance(error, UnexpectedToken):
        if error.token.type == "$END":
            return _at_the_end(text, expected)
        return _found(text, error.token.start_pos or 0, error.line, error.column, terminals)
    assert isinstance(error, UnexpectedCharacters)
    return _found(text, error.pos_in_stream or 0, error.line, error.column, terminals)


def _at_the_end(text: str, expected: tuple[str, ...]) -> LogQLError:
    line = text.count("\n") + 1
    column = len(text) - text.rfind("\n")
    return LogQLError("unexpected end of the query", line, column, expected)


def _found(text: str, start: int, line: int, column: int, terminals: set[str]) -> LogQLError:
    expected = _in_words(terminals)
    rest = text[start:]
    word = _WORD.match(rest)
    shown = word.group() if word else rest[:1]
    if shown in ('"', "`"):
        if "a string" in expected or rest.count(shown) < 2:
            return LogQLError(f"this string is not closed by another {shown}", line, column)
        return LogQLError("unexpected string", line, column, expected)
    if shown == "'":
        return LogQLError("unexpected '; strings stand in double quotes or backticks", line, column)
    if shown == "[" and "]" not in rest:
        return LogQLError('this range is not closed by "]"', line, column)
    if shown == "@":
        return LogQLError("unexpected @; LogQL has no @ modifier", line, column, expected)
    function = _FUNCTION.match(rest)
    if function and "an aggregation like rate(…) or sum(…)" in expected:
        return LogQLError(f"unknown function {function.group()!r}", line, column, expected)
    quoted = f'"{shown}"' if shown.isprintable() else repr(shown)
    return LogQLError(f"unexpected {quoted}", line, column, expected, _in_lokis_words(shown, terminals))


def _in_lokis_words(shown: str, terminals: set[str]) -> str:
    only = next(iter(terminals)) if len(terminals) == 1 else ""
    expecting = f", expecting {'IDENTIFIER' if only == 'NAME' else only}" if only in _ALONE else ""
    return f"syntax error: unexpected {shown}{expecting}"


def _in_words(terminals: set[str]) -> tuple[str, ...]:
    words = [phrase for terminal, phrase in _PHRASES.items() if terminal in terminals]
    if terminals >= _ARITHMETIC:
        # After a complete value, `and`, `or` and the comparisons are operators like any other.
        words = [word for word in words if word not in ("and", "or")] + ["an operator"]
    elif terminals >= _COMPARISONS:
        words = [word for word in words if word not in ('"="', '"=~"')] + ["a comparison like = or >"]
    elif {"EQ", "NEQ", "RE", "NRE"} <= terminals:
        words = [word for word in words if word not in ('"="', '"=~"')] + ['"="', '"!="', '"=~"', '"!~"']
    return tuple(dict.fromkeys(words))
