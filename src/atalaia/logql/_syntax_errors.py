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
# What Loki's message calls these, where nothing else is expected.
_ALONE = {"NAME": "IDENTIFIER", "NUMBER": "NUMBER", "STRING": "STRING", "DURATION": "DURATION"}
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
    return _unexpected("$end (the end of the query)", line, column, expected)


def _unexpected(what: str, line: int, column: int, expected: tuple[str, ...]) -> LogQLError:
    return LogQLError(f"syntax error: unexpected {what}", line, column, expected)


def _found(text: str, start: int, line: int, column: int, terminals: set[str]) -> LogQLError:
    expected = _in_words(terminals)
    rest = text[start:]
    word = _WORD.match(rest)
    shown = word.group() if word else rest[:1]
    if shown in ('"', "`"):
        if "STRING" in terminals or rest.count(shown) < 2:
            return LogQLError(f"literal not terminated: this string is not closed by another {shown}", line, column)
        return _unexpected("STRING", line, column, expected)
    if shown == "'":
        return _unexpected("'; strings stand in double quotes or backticks", line, column, ())
    if shown == "[" and "]" not in rest:
        return LogQLError("missing closing ']' in duration: this range is not closed", line, column)
    if shown == "@":
        return _unexpected("@ (LogQL has no @ modifier)", line, column, expected)
    function = _FUNCTION.match(rest)
    if function and "RANGE_OP" in terminals:
        return _unexpected(f"IDENTIFIER {function.group()!r}, an unknown function", line, column, expected)
    return _unexpected(shown if shown.isprintable() else repr(shown), line, column, expected)


def _in_words(terminals: set[str]) -> tuple[str, ...]:
    if len(terminals) == 1 and (name := next(iter(terminals))) in _ALONE:
        return (f"{_ALONE[name]} ({_PHRASES[name]})",)
    words = [phrase for terminal, phrase in _PHRASES.items() if terminal in terminals]
    if terminals >= _ARITHMETIC:
        # After a complete value, `and`, `or` and the comparisons are operators like any other.
        words = [word for word in words if word not in ("and", "or")] + ["an operator"]
    elif terminals >= _COMPARISONS:
        words = [word for word in words if word not in ('"="', '"=~"')] + ["a comparison like = or >"]
    elif {"EQ", "NEQ", "RE", "NRE"} <= terminals:
        words = [word for word in words if word not in ('"="', '"=~"')] + ['"="', '"!="', '"=~"', '"!~"']
    return tuple(dict.fromkeys(words))
