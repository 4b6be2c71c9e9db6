import pytest

from atalaia.logql.errors import LogQLError
from atalaia.logql.parse import parse

POSITIONS = [
    ('{a="b", }', "line 1, col 9: syntax error: unexpected }, expecting IDENTIFIER (a label name)"),
    (
        '{a="b" }}',
        'line 1, col 9: syntax error: unexpected }, expecting the end of the query, a line filter or a stage after "|"',
    ),
    (
        '{a="b"',
        'line 1, col 7: syntax error: unexpected $end (the end of the query), expecting "," or "}"',
    ),
    (
        '{a="b"}\n  |= "x"\n  | 5',
        'line 3, col 5: syntax error: unexpected 5, expecting a stage like json or line_format, a label name or "("',
    ),
    (
        'sum(\n  rate({a="b"})\n)',
        'line 2, col 15: syntax error: unexpected ), expecting a range like [5m], a line filter or a stage after "|"',
    ),
    ('{a="b"} | x > "y"', "line 1, col 15: a string is compared with =, !=, =~ or !~, not with >"),
    ('{a="b"}\n|~ "("', "line 2, col 4: invalid regular expression: missing ): ("),
    (
        'rate({a="b"}[5x])',
        "line 1, col 13: '5x' is not a duration; write for example 5m, 1h30m or 500ms",
    ),
    (
        'rate({a="b"}[5m]) by (x)',
        "line 1, col 19: grouping not allowed for rate aggregation; write sum by (…) (…)",
    ),
    (
        '# c\nrat({a="b"}[5m])',
        "line 2, col 1: syntax error: unexpected IDENTIFIER 'rat', an unknown function, expecting a selector",
    ),
    (
        'topk(0, rate({a="b"}[5m]))',
        "line 1, col 6: invalid parameter topk(0, …: it must be a whole number greater than 0",
    ),
    ("1 +\n  bool 2", "line 2, col 3: bool is only allowed after a comparison, not after +"),
    (
        '{a="b"} | unwrap x',
        "line 1, col 11: unwrap is only allowed inside a range aggregation, before its range",
    ),
    ('{a="b"} | json |= "é" | x=~`[`', "line 1, col 28: invalid regular expression: missing ]: ["),
    ("", "line 1, col 1: syntax error: unexpected $end (the end of the query), expecting a selector"),
    ("{a=`x\ny`, b}", 'line 2, col 6: syntax error: unexpected }, expecting "=", "!=", "=~" or "!~"'),
]


@pytest.mark.parametrize(("query", "sentence"), POSITIONS)
def test_message_names_the_place(query, sentence):
    with pytest.raises(LogQLError) as caught:
        parse(query)
    assert str(caught.value).startswith(f"parse error at {sentence}")


def test_error_keeps_its_parts():
    with pytest.raises(LogQLError) as caught:
        parse('{a="b"')
    error = caught.value
    assert (error.message, error.line, error.column) == ("syntax error: unexpected $end (the end of the query)", 1, 7)
    assert error.expected == ('","', '"}"')
